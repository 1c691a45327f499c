//! A sample of a table's items, and the few of them that stand for the others when a service is asked for leave.

use std::collections::BTreeMap;

use super::exit::Exit;
use super::failure::Failure;
use super::resolve::Plan;
use crate::crypto::{EncryptionContext, Recipient};
use crate::format::dbesdk::{self, EncryptedDataKey, FOOT, HEAD, Inspection, Sealed};
use crate::item::{Item, Key};
use crate::keyring::Keyring;
use crate::migration::{Census, Form, Need, Policy};
use crate::store::{Scan, StoreClass, Table};

/// Segments that are looked into, spread over the table.
const SEGMENTS: u32 = 4;
/// Items of a page that serve as examples: of more than one, because a policy may deny a key for some items only.
const EXAMPLES: usize = 2;
/// Items of a form about which a keyring is asked.
const CURRENT_MAX: usize = 8;
/// Forms about which a keyring is asked: each may be another branch key.
const FORMS_ASKED_MAX: usize = 20;

/// What was seen of a table.
#[derive(Default)]
pub(super) struct Sample {
    /// What its items have in common and in what they differ.
    pub(super) census: Census,
    /// The encryption contexts under which the keys of some items would be wrapped, were they sealed for the target.
    pub(super) contexts: Vec<EncryptionContext>,
    /// Wrapped keys of some items, with the context that each is bound to, by whom they are for.
    pub(super) wrapped: BTreeMap<Recipient, Vec<(Vec<u8>, EncryptionContext)>>,
    /// Some items of each form that is at target by its bytes.
    pub(super) current: BTreeMap<Form, Vec<Sealed>>,
    /// The keys of some items, and their sizes in bytes.
    pub(super) items: Vec<(Key, usize)>,
}

impl Sample {
    /// Looks at the first items of a few segments.
    ///
    /// # Errors
    /// [`Failure`] when the table cannot be read.
    pub(super) async fn read(plan: &Plan, table: &dyn Table, items_per_segment: u32) -> Result<Self, Failure> {
        let mut sample = Self::default();
        let total_segments = plan.settings.segments;
        let looked_into = SEGMENTS.min(total_segments);
        sample.census.whole = looked_into == total_segments;
        for i in 0..looked_into {
            let segment = i * (total_segments / looked_into);
            let scan = Scan { segment, total_segments, after: None, limit: Some(items_per_segment) };
            let page = table.scan(&scan).await.map_err(|error| match error.class {
                StoreClass::Denied => Failure::plain(Exit::Refused, error),
                _ => error.into(),
            })?;
            sample.census.whole &= page.next.is_none();
            for item in &page.items {
                sample.census.add(&plan.policy, item);
            }
            let apart = page.items.len().div_ceil(EXAMPLES).max(1);
            sample.take_examples(&plan.policy, page.items.iter().step_by(apart));
            sample.take_wrapped_keys(&plan.policy, &page.items);
        }
        Ok(sample)
    }

    fn take_examples<'a>(&mut self, policy: &Policy, items: impl Iterator<Item = &'a Item>) {
        for item in items {
            self.items.extend(policy.key_of(item).ok().map(|key| (key, item.size())));
            // What is not encrypted is in a sealed item as it is in plaintext, and a context holds nothing else.
            let mut plain = item.clone();
            plain.remove(HEAD);
            plain.remove(FOOT);
            self.contexts.extend(policy.prepare(&plain).ok().and_then(|work| work.context().cloned()));
        }
    }

    fn take_wrapped_keys(&mut self, policy: &Policy, items: &[Item]) {
        let mut taken: BTreeMap<Recipient, usize> = BTreeMap::new();
        for item in items {
            let Ok(Inspection::Sealed(sealed)) = dbesdk::inspect(&policy.schema, item) else { continue };
            if let Some(form) = Form::of(policy, item).filter(|form| form.need == Need::Nothing) {
                let examples = self.current.entry(form).or_default();
                if examples.len() < CURRENT_MAX {
                    examples.push(Sealed::clone(&sealed));
                }
            }
            for edk in &sealed.head.edks {
                let (recipient, Some(wrapped)) = (edk.recipient(), edk.wrapped()) else { continue };
                let taken = taken.entry(recipient.clone()).or_default();
                if *taken < EXAMPLES {
                    *taken += 1;
                    let example = (wrapped.ciphertext.to_vec(), sealed.context.clone());
                    self.wrapped.entry(recipient).or_default().push(example);
                }
            }
        }
    }

    /// Asks the target's keyring about what is at target by its bytes, where it knows more than these: an older version of
    /// a branch key, or older material of a KMS key. Says how many items are not at target after all, by the examples of
    /// their form; what the keyring does not say stays as it is.
    pub(super) async fn look_deeper(&mut self, target: &dyn Keyring) -> u64 {
        if !target.looks_deeper() {
            return 0;
        }
        let mut stale = 0;
        for (form, examples) in self.current.iter().take(FORMS_ASKED_MAX) {
            let (mut asked, mut old) = (0_u64, 0_u64);
            for sealed in examples {
                let found: Vec<_> = sealed.head.edks.iter().filter_map(EncryptedDataKey::wrapped).collect();
                if let Ok(current) = target.is_current(&found, &sealed.context).await {
                    asked += 1;
                    old += u64::from(!current);
                }
            }
            if old > 0 {
                let items = self.census.forms.get(form).copied().unwrap_or(0);
                let items = (items * old / asked).max(1);
                self.census.not_current(form, items);
                stale += items;
            }
        }
        stale
    }
}
