//! Keyrings: who may unwrap the keys of an item, and how.
//!
//! A keyring knows one thing: a 32-byte key, wrapped under an encryption context. It knows nothing of items or formats,
//! never retries, and keeps to no budget: the pipeline does both, the same way for every keyring.

mod hierarchy;
mod keystore;
mod kms;
mod multi;
mod raw;
mod secrets;

use async_trait::async_trait;

use crate::aws::{Fault, Meaning};
use crate::crypto::EncryptionContext;
pub use crate::crypto::{Matching, Recipient, Secret, Wanted, WrappedKey, WrappedRef};

pub use hierarchy::{BranchKeyId, Hierarchy, KeepBranchKeys};
pub use keystore::{
    Created, KeyStore, KeyStoreAdmin, KeyStoreError, KeyStoreReaders, Moved, ROWS_MAX, RowFacts, RowProblem,
};
pub use kms::{
    DiscoveryFilter, KeyArn, KeyArnError, KeyFacts, KeyRefused, KmsDiscovery, KmsInquiry, KmsKeyring, KmsRsa,
    KmsRsaPadding, Rotation, WrappedUnder,
};
pub(crate) use kms::{PROVIDER_ID as AWS_KMS, RSA_PROVIDER_ID as AWS_KMS_RSA};
pub use multi::MultiKeyring;
pub use raw::{RawAes, RawKeyError, RawRsa};
pub use secrets::{SecretError, SecretValue, read_secret};

/// What is asked of a keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyringCall {
    /// [`Keyring::generate`].
    Generate,
    /// [`Keyring::unwrap`].
    Unwrap,
    /// [`Keyring::is_current`].
    IsCurrent,
}

/// What a failed request of a keyring means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyringClass {
    /// This item cannot be done; others can.
    Item,
    /// The caller may not use the key for this: a policy may say so of some items only, or of all.
    Denied,
    /// The key cannot be used at all: the run stops.
    Key,
    /// The service asks for fewer requests; again later, at a lower rate.
    Throttled,
    /// The service did not answer or failed; again later.
    Transient,
    /// The credentials are missing or expired: the run holds until there are new ones.
    Credentials,
}

impl KeyringClass {
    /// What a fault of a service means for the use of its keys. KMS has no conflicts; were there one, it would pass.
    fn of(fault: &Fault) -> Self {
        match fault.meaning() {
            Meaning::Throttled => Self::Throttled,
            Meaning::Conflict | Meaning::Unavailable => Self::Transient,
            Meaning::Credentials => Self::Credentials,
            Meaning::Item => Self::Item,
            Meaning::Denied => Self::Denied,
            Meaning::Fatal => Self::Key,
        }
    }
}

/// A keyring could not wrap or unwrap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct KeyringError {
    /// What it means for the run.
    pub class: KeyringClass,
    /// The key concerned: an ARN, or namespace and name.
    pub key: String,
    /// What happened, and the remedy.
    pub problem: String,
}

/// Wraps and unwraps 32-byte keys under an encryption context.
#[async_trait]
pub trait Keyring: Send + Sync + std::fmt::Debug {
    /// Who [`Keyring::generate`] wraps for, in its order, and which keys of items count as these; nobody for keyrings
    /// that only unwrap.
    fn recipients(&self) -> &[Wanted];

    /// Whether this keyring could unwrap for the recipient; decided without any request.
    fn accepts(&self, found: WrappedRef<'_>) -> bool;

    /// The requests to KMS that one call makes: 0 for keyrings that work offline, or from a cache.
    fn requests(&self, call: KeyringCall) -> u32;

    /// Whether what was wrapped for this keyring's recipients may still not be what it would wrap now: then
    /// [`Keyring::is_current`] says so.
    fn looks_deeper(&self) -> bool {
        false
    }

    /// Whether wrapped keys of one item, as many and of such recipients as this keyring makes, are what it would make
    /// now: the branch key and version that are active, the present material of a KMS key (rule F).
    ///
    /// # Errors
    /// As [`Keyring::unwrap`].
    async fn is_current(&self, _found: &[WrappedRef<'_>], _context: &EncryptionContext) -> Result<bool, KeyringError> {
        Ok(true)
    }

    /// What has changed since this keyring was made, in words, so that what it counts as current then is not any more: to be
    /// asked when a run has ended.
    ///
    /// # Errors
    /// As [`Keyring::unwrap`].
    async fn moved(&self) -> Result<Option<String>, KeyringError> {
        Ok(None)
    }

    /// Makes a fresh 32-byte key for each recipient, wrapped under the context.
    ///
    /// # Errors
    /// [`KeyringError`] when the key cannot be used or the service did not answer.
    async fn generate(&self, context: &EncryptionContext) -> Result<Vec<WrappedKey>, KeyringError>;

    /// Unwraps one wrapped key that this keyring accepts.
    ///
    /// # Errors
    /// [`KeyringError`] when the key cannot be used, the bytes or the context are not those that were wrapped, or the
    /// service did not answer.
    async fn unwrap(&self, found: WrappedRef<'_>, context: &EncryptionContext) -> Result<Secret, KeyringError>;
}
