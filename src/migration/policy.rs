//! What an item needs to reach the target, and the rewrite that takes it there. Decided from the item's own bytes.

use std::collections::BTreeSet;

use super::{Expected, FailureKind, Rewrite};
use crate::crypto::{EncryptionContext, Secret, Suite, Wanted, WrappedKey};
use crate::format::Schema;
use crate::format::dbesdk::{self, InspectError, Inspection, OpenError, Prepared, Rewrap, SealError, Sealed};
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

/// How deep a sealed item is changed on its way to the target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Depth {
    /// Everything is fresh: data key, message id, every ciphertext. Who once had the old data key cannot read the item.
    #[default]
    Reencrypt,
    /// The data key stays and is wrapped anew: only header and footer change. Who once had the data key still can read
    /// what the item holds.
    Rewrap,
}

impl Depth {
    /// Its name in the job file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reencrypt => "reencrypt",
            Self::Rewrap => "rewrap",
        }
    }
}

/// What is still to be made of an item, once it is open.
#[derive(Debug)]
pub enum Work {
    /// It is written in plaintext.
    Unseal,
    /// It is sealed under a fresh data key.
    Seal(Box<Prepared>),
    /// Its data key is wrapped anew.
    Rewrap(Box<Rewrap>),
}

impl Work {
    /// The encryption context that fresh keys must be bound to; `None` where none are needed.
    #[must_use]
    pub fn context(&self) -> Option<&EncryptionContext> {
        match self {
            Self::Unseal => None,
            Self::Seal(prepared) => Some(&prepared.context),
            Self::Rewrap(rewrap) => Some(&rewrap.context),
        }
    }
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
    /// How sealed items get there; plaintext ones are always sealed under a fresh data key.
    pub depth: Depth,
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
        self.stale(sealed).map(Verdict::Sealed)
    }

    /// Demands that the job accepts a sealed item in another form than the target's.
    ///
    /// # Errors
    /// [`Refusal`] when it does not.
    pub fn stale(&self, sealed: Box<Sealed>) -> Result<Box<Sealed>, Refusal> {
        if self.accept_dbesdk { Ok(sealed) } else { Err(unexpected(&describe(&sealed), "dbesdk")) }
    }

    /// Opens a sealed item with the key of one of its encrypted data keys.
    ///
    /// # Errors
    /// [`Refusal`] when it does not open.
    pub fn open(&self, item: &Item, sealed: &Sealed, edk: usize, key: &Secret) -> Result<Item, Refusal> {
        dbesdk::open(item, sealed, edk, key).map_err(|error| Refusal::new(FailureKind::Broken, error))
    }

    /// Prepares what is to be made of a plaintext item.
    ///
    /// # Errors
    /// [`Refusal`] when the item cannot be sealed as the job says.
    pub fn prepare(&self, plain: &Item) -> Result<Work, Refusal> {
        match &self.target {
            Target::Plaintext => Ok(Work::Unseal),
            Target::Dbesdk { suite, .. } => {
                let prepared = dbesdk::prepare(&self.schema, *suite, plain).map_err(seal_refusal)?;
                Ok(Work::Seal(Box::new(prepared)))
            }
        }
    }

    /// Opens a sealed item as far as the job's depth needs it, and prepares what is to be made of it. Gives back its
    /// plaintext too, unless the data key stays and nothing was decrypted.
    ///
    /// # Errors
    /// [`Refusal`] when it does not open, or cannot be sealed as the job says.
    pub fn reopen(
        &self,
        item: &Item,
        sealed: Box<Sealed>,
        edk: usize,
        key: &Secret,
    ) -> Result<(Option<Item>, Work), Refusal> {
        if let (Target::Dbesdk { suite, .. }, Depth::Rewrap) = (&self.target, self.depth) {
            let data_key = dbesdk::authenticate(item, &sealed, edk, key);
            let data_key = data_key.map_err(|error| Refusal::new(FailureKind::Broken, error))?;
            let rewrap = dbesdk::prepare_rewrap(&self.schema, *suite, item, sealed, data_key).map_err(seal_refusal)?;
            return Ok((None, Work::Rewrap(Box::new(rewrap))));
        }
        let plain = self.open(item, &sealed, edk, key)?;
        let work = self.prepare(&plain)?;
        Ok((Some(plain), work))
    }

    /// Makes the rewrite, after opening the result again from its bytes (rule V): what was sealed must open to the
    /// plaintext, and what was wrapped anew must verify and have the data key and the ciphertexts that were authenticated.
    /// `old` is the item as read, `plain` its plaintext; `fresh`, a data key and message id, serve a sealing.
    ///
    /// # Errors
    /// [`Refusal`] when the item cannot be sealed, would be too large, or does not open again.
    pub fn finish(
        &self,
        old: &Item,
        plain: &Item,
        work: Work,
        fresh: (&Secret, [u8; 32]),
        wrapped: &[WrappedKey],
    ) -> Result<Verified, Refusal> {
        let (new, sealed) = match work {
            Work::Unseal => (plain.clone(), None),
            Work::Seal(mut prepared) => {
                let context = std::mem::take(&mut prepared.context);
                let new = dbesdk::seal(plain, *prepared, fresh.0, fresh.1, wrapped).map_err(seal_refusal)?;
                let opens = |sealed: &Sealed, edk, key: &Secret| Ok(dbesdk::open(&new, sealed, edk, key)?.same(plain));
                let sealed = self.verify(&new, &context, wrapped, opens)?;
                (new, Some(sealed))
            }
            Work::Rewrap(rewrap) => {
                let new = dbesdk::rewrap(old, &rewrap, wrapped).map_err(seal_refusal)?;
                let opens = |sealed: &Sealed, edk, key: &Secret| {
                    Ok(rewrap.keeps(old, &new, sealed, &dbesdk::authenticate(&new, sealed, edk, key)?))
                };
                let sealed = self.verify(&new, &rewrap.context, wrapped, opens)?;
                (new, Some(sealed))
            }
        };
        Ok(Verified { rewrite: self.rewrite(old, new)?, sealed })
    }

    /// Opens the sealed item for each recipient, from its bytes alone.
    fn verify(
        &self,
        new: &Item,
        context: &EncryptionContext,
        wrapped: &[WrappedKey],
        opens: impl Fn(&Sealed, usize, &Secret) -> Result<bool, OpenError>,
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
            match opens(&sealed, edk, &wrapped.key) {
                Ok(true) => {}
                Ok(false) => return Err(defect("the sealed item opens to something else")),
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

    /// Who the target's items are for; nobody where they are in plaintext.
    pub(super) fn recipients(&self) -> &[Wanted] {
        match &self.target {
            Target::Plaintext => &[],
            Target::Dbesdk { recipients, .. } => recipients,
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
