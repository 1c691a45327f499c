//! What a sample of items says about a table: attributes, forms, and how much items would grow.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Policy, Refusal, Verdict};
use crate::crypto::{KEY_BYTES, Secret, Wanted, WrappedKey};
use crate::format::Action;
use crate::item::{Item, write_units};

/// Bytes of what KMS wraps a 32-byte key in; the longest of the keyrings' forms.
const WRAPPED_BYTES: usize = 184;

/// What the items that were looked at have in common and in what they differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Census {
    /// Items looked at.
    pub items: u64,
    /// Items at target already.
    pub current: u64,
    /// Plaintext items to be sealed.
    pub plaintext: u64,
    /// Items sealed in another form, to be opened first.
    pub sealed: u64,
    /// Items that could not be done, by the kind of reason, with one reason in words.
    pub refused: BTreeMap<&'static str, Refused>,
    /// By attribute.
    pub attributes: BTreeMap<String, Attribute>,
    /// How sealing changes the plaintext items.
    pub growth: Growth,
}

/// Items that could not be done, for one kind of reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Refused {
    /// How many.
    pub items: u64,
    /// The reason and the remedy, of the first of them.
    pub detail: String,
}

/// What the values of one attribute look like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Attribute {
    /// Items that have it.
    pub items: u64,
    /// How many values are of each type.
    pub types: BTreeMap<&'static str, u64>,
    /// Bytes of all its values.
    pub bytes: u64,
    /// Bytes of the largest value.
    pub bytes_max: u64,
    /// The job's action; `None` when the job does not name it.
    pub action: Option<Action>,
    /// Whether the signature would cover it.
    pub signed: bool,
}

/// Sizes before and after sealing, of the items that could be sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Growth {
    /// Items sealed for trial.
    pub items: u64,
    /// Bytes of all of them before.
    pub bytes_before: u64,
    /// Bytes of all of them after.
    pub bytes_after: u64,
    /// Bytes of the largest after.
    pub bytes_after_max: u64,
    /// Write capacity units to write all of them.
    pub write_units: u64,
}

impl Census {
    /// Counts one item. Plaintext items are sealed for trial under keys that are thrown away.
    pub fn add(&mut self, policy: &Policy, item: &Item) {
        self.items += 1;
        for (name, value) in item.iter() {
            let attribute = self.attributes.entry(name.to_owned()).or_insert_with(|| Attribute {
                action: policy.schema.action(name),
                signed: policy.schema.in_scope(name),
                ..Attribute::default()
            });
            let bytes = value.size() as u64;
            attribute.items += 1;
            attribute.bytes += bytes;
            attribute.bytes_max = attribute.bytes_max.max(bytes);
            *attribute.types.entry(value.type_name()).or_default() += 1;
        }
        match policy.classify(item) {
            Ok(Verdict::Current(_)) => self.current += 1,
            Ok(Verdict::Sealed(_)) => self.sealed += 1,
            Ok(Verdict::Plain) => match self.growth.add(policy, item) {
                Ok(()) => self.plaintext += 1,
                Err(refusal) => self.refuse(refusal),
            },
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        let Refusal { kind, detail } = refusal;
        self.refused.entry(kind.name()).or_insert(Refused { items: 0, detail }).items += 1;
    }
}

impl Growth {
    fn add(&mut self, policy: &Policy, item: &Item) -> Result<(), Refusal> {
        let work = policy.prepare(item)?;
        if work.context().is_none() {
            return Ok(());
        }
        let zeros = || Secret::new([0; KEY_BYTES]);
        let trial = |wanted: &Wanted| WrappedKey {
            provider_id: wanted.recipient.provider.clone(),
            provider_info: wanted.recipient.key.clone().into_bytes(),
            ciphertext: vec![0; WRAPPED_BYTES],
            key: zeros(),
        };
        let wrapped: Vec<_> = policy.recipients().iter().map(trial).collect();
        let verified = policy.finish(item, item, work, (&zeros(), [0; 32]), &wrapped)?;
        let (before, after) = (item.size(), verified.rewrite.applied_to(item).size());
        self.items += 1;
        self.bytes_before += before as u64;
        self.bytes_after += after as u64;
        self.bytes_after_max = self.bytes_after_max.max(after as u64);
        self.write_units += u64::from(write_units(before.max(after)));
        Ok(())
    }
}
