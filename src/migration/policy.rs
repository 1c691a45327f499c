//! What an item needs to reach the target, and the rewrite that takes it there. Decided from the item's own bytes.

use std::collections::BTreeSet;

use super::{Expected, FailureKind, Rewrite};
use crate::crypto::{EncryptionContext, Recipient, Secret, Suite, Wanted, WrappedKey};
use crate::format::Schema;
use crate::format::dbesdk::{self, InspectError, Inspection, Prepared, SealError, Sealed};
use crate::item::{ITEM_BYTES_MAX, Item, Key};

/// The form that every item shall have in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// No protection: the way back.
    Plaintext,
    /// Items of the Database Encryption SDK.
    Dbesdk {
        /// The algorithm suite.
        suite: Suite,
        /// Who can open the items, in any order.
        recipients: Vec<Wanted>,
    },
}

/// What a job wants of every item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How items are protected; sealed items of the table were and will be sealed under it.
    pub schema: Schema,
    /// Whether plaintext items are accepted as a source.
    pub accept_plaintext: bool,
    /// Whether items of the Database Encryption SDK in another form than the target's are accepted as a source.
    pub accept_dbesdk: bool,
    /// The form wanted.
    pub target: Target,
}

/// What an item needs.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing: it is at target. What its head says, if it is sealed.
    Current(Option<Box<Sealed>>),
    /// It is in plaintext and wants sealing.
    Plain,
    /// It is sealed in another form and wants opening first.
    Sealed(Box<Sealed>),
}

/// Why an item cannot be done, in terms of the failure ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// The kind of reason.
    pub kind: FailureKind,
    /// The reason and the remedy; never a value.
    pub detail: String,
}

impl Refusal {
    /// A refusal of some kind, for a reason that says what to do about it.
    #[must_use]
    pub fn new(kind: FailureKind, detail: impl ToString) -> Self {
        Self { kind, detail: detail.to_string() }
    }
}

/// A rewrite that was opened again from its bytes, and what the service needs to confirm it (rule V).
#[derive(Debug)]
pub struct Verified {
    /// The change to send.
    pub rewrite: Rewrite,
    /// The item as it will be, parsed from its bytes. `None` when the target is plaintext.
    pub sealed: Option<Box<Sealed>>,
}

impl Policy {
    /// What the item needs (rule F), decided without any key.
    ///
    /// # Errors
    /// [`Refusal`] when the item is damaged, mixed, or of a form that the job does not accept.
    pub fn classify(&self, item: &Item) -> Result<Verdict, Refusal> {
        let sealed = match dbesdk::inspect(&self.schema, item).map_err(inspect_refusal)? {
            Inspection::Sealed(sealed) => sealed,
            Inspection::Plaintext => {
                return match (&self.target, self.accept_plaintext) {
                    (Target::Plaintext, _) => Ok(Verdict::Current(None)),
                    (Target::Dbesdk { .. }, true) => Ok(Verdict::Plain),
                    (Target::Dbesdk { .. }, false) => Err(unexpected("plaintext", "plaintext")),
                };
            }
        };
        if let Target::Dbesdk { suite, recipients } = &self.target
            && dbesdk::matches(&self.schema, *suite, recipients, &sealed)
        {
            return Ok(Verdict::Current(Some(sealed)));
        }
        if self.accept_dbesdk { Ok(Verdict::Sealed(sealed)) } else { Err(unexpected(&describe(&sealed), "dbesdk")) }
    }

    /// Opens a sealed item with the key of one of its encrypted data keys.
    ///
    /// # Errors
    /// [`Refusal`] when it does not open.
    pub fn open(&self, item: &Item, sealed: &Sealed, edk: usize, key: &Secret) -> Result<Item, Refusal> {
        dbesdk::open(item, sealed, edk, key).map_err(|error| Refusal::new(FailureKind::Broken, error))
    }

    /// Prepares the sealing of a plaintext item: `None` when the target is plaintext and nothing is to be sealed.
    ///
    /// # Errors
    /// [`Refusal`] when the item cannot be sealed as the job says.
    pub fn prepare(&self, plain: &Item) -> Result<Option<Prepared>, Refusal> {
        match &self.target {
            Target::Plaintext => Ok(None),
            Target::Dbesdk { suite, .. } => {
                dbesdk::prepare(&self.schema, *suite, plain).map(Some).map_err(seal_refusal)
            }
        }
    }

    /// Makes the rewrite that seals an item, after opening the result again from its bytes and comparing it with the
    /// plaintext (rule V). `old` is the item as read, `plain` its plaintext.
    ///
    /// # Errors
    /// [`Refusal`] when the item cannot be sealed, would be too large, or does not open again.
    pub fn seal(
        &self,
        old: &Item,
        plain: &Item,
        mut prepared: Prepared,
        fresh: (&Secret, [u8; 32]),
        wrapped: &[WrappedKey],
    ) -> Result<Verified, Refusal> {
        let context = std::mem::take(&mut prepared.context);
        let new = dbesdk::seal(plain, prepared, fresh.0, fresh.1, wrapped).map_err(seal_refusal)?;
        let sealed = self.verify(plain, &new, &context, wrapped)?;
        Ok(Verified { rewrite: self.rewrite(old, new)?, sealed: Some(sealed) })
    }

    /// Makes the rewrite that leaves the item in plaintext.
    ///
    /// # Errors
    /// [`Refusal`] when the item would be too large.
    pub fn unseal(&self, old: &Item, plain: &Item) -> Result<Verified, Refusal> {
        Ok(Verified { rewrite: self.rewrite(old, plain.clone())?, sealed: None })
    }

    /// Opens the sealed item from its bytes alone.
    fn verify(
        &self,
        plain: &Item,
        new: &Item,
        context: &EncryptionContext,
        wrapped: &[WrappedKey],
    ) -> Result<Box<Sealed>, Refusal> {
        let defect = |what: &str| {
            Refusal::new(FailureKind::CannotSeal, format!("not written, because {what}; please report it"))
        };
        let Ok(Inspection::Sealed(sealed)) = dbesdk::inspect(&self.schema, new) else {
            return Err(defect("the sealed item does not parse"));
        };
        if sealed.context != *context {
            return Err(defect("the sealed item gives another encryption context than its key was requested under"));
        }
        for (edk, wrapped) in wrapped.iter().enumerate() {
            match dbesdk::open(new, &sealed, edk, &wrapped.key) {
                Ok(opened) if opened.same(plain) => {}
                Ok(_) => return Err(defect("the sealed item opens to something else")),
                Err(error) => return Err(defect(&format!("the sealed item does not open ({error})"))),
            }
        }
        Ok(sealed)
    }

    /// The conditional change that turns `old` into `new` (rules W and T).
    fn rewrite(&self, old: &Item, new: Item) -> Result<Rewrite, Refusal> {
        let key = self.schema.keys.key_of(old).map_err(|error| Refusal::new(FailureKind::CannotSeal, error))?;
        let bytes = new.size();
        if bytes > ITEM_BYTES_MAX {
            let detail = format!(
                "the item would grow from {} to {bytes} bytes and DynamoDB stores at most {ITEM_BYTES_MAX}; make it \
                 smaller, or encrypt fewer of its attributes",
                old.size()
            );
            return Err(Refusal::new(FailureKind::TooLarge, detail));
        }
        let remove: Vec<_> = old.names().filter(|name| !new.contains(name)).map(str::to_owned).collect();
        let set: Vec<_> = new.into_iter().filter(|(name, value)| old.get(name) != Some(value)).collect();
        let condition = self
            .token(old, set.iter().map(|(name, _)| name.as_str()).chain(remove.iter().map(String::as_str)))
            .into_iter()
            .map(|name| {
                let expected = old.get(name).map_or(Expected::Absent, |value| Expected::Equals(value.clone()));
                (name.to_owned(), expected)
            })
            .collect();
        Ok(Rewrite { key, set, remove, condition, bytes: bytes.max(old.size()) })
    }

    /// The attributes whose state the rewrite depends on: those that it touches; head and foot; every configured
    /// attribute that is absent; and, where the old form has no signature that covers them, every attribute in scope.
    /// The key is left out: it cannot change.
    fn token<'a>(&'a self, old: &'a Item, touched: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
        let mut names: BTreeSet<&str> = touched.chain([dbesdk::HEAD, dbesdk::FOOT]).collect();
        names.extend(self.schema.actions.keys().map(String::as_str).filter(|name| !old.contains(name)));
        if !old.contains(dbesdk::HEAD) {
            names.extend(old.names().filter(|name| self.schema.in_scope(name)));
        }
        names.retain(|name| !self.schema.keys.contains(name));
        names
    }

    /// Who the target's items are for: the first recipient, where there are several.
    pub(super) fn recipient(&self) -> Recipient {
        let nobody = || Recipient { provider: String::new(), key: String::new() };
        match &self.target {
            Target::Plaintext => nobody(),
            Target::Dbesdk { recipients, .. } => {
                recipients.first().map_or_else(nobody, |wanted| wanted.recipient.clone())
            }
        }
    }

    /// The key of an item.
    ///
    /// # Errors
    /// [`Refusal`] when the item does not carry it.
    pub fn key_of(&self, item: &Item) -> Result<Key, Refusal> {
        self.schema.keys.key_of(item).map_err(|error| Refusal::new(FailureKind::Broken, error))
    }
}

fn unexpected(found: &str, format: &str) -> Refusal {
    let detail = format!("the item is {found}, which the job does not accept; add \"{format}\" to source.formats");
    Refusal::new(FailureKind::UnexpectedForm, detail)
}

/// The form of a sealed item in words, for messages.
fn describe(sealed: &Sealed) -> String {
    format!("sealed for {} with suite {}", sealed.head.recipients_in_words(), sealed.head.suite)
}

fn inspect_refusal(error: InspectError) -> Refusal {
    let kind = match &error {
        InspectError::Mixed { .. } => FailureKind::Mixed,
        _ => FailureKind::Broken,
    };
    Refusal::new(kind, error)
}

fn seal_refusal(error: SealError) -> Refusal {
    let kind = match &error {
        SealError::UnknownAttribute { .. } => FailureKind::UnknownAttribute,
        _ => FailureKind::CannotSeal,
    };
    Refusal::new(kind, error)
}
