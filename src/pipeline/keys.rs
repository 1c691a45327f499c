//! Requests to keyrings: under the budget, retried where that can help, the same way for every keyring.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::BoxFuture;

use super::engine::{Engine, RunError};
use super::retry::Tries;
use crate::crypto::{EncryptionContext, Secret, WrappedKey};
use crate::format::dbesdk::{EncryptedDataKey, Sealed};
use crate::keyring::{Keyring, KeyringCall, KeyringClass, KeyringError};
use crate::migration::{FailureKind, Refusal};

/// A key request failed: for this item, for this item or for the run, or for the run.
#[derive(Debug)]
pub(super) enum KeyFault {
    Item(Refusal),
    /// The caller may not use the key for this item. Whether that holds of others shows when all that were asked for
    /// together are answered: [`Engine::refusal`].
    Denied(Asked, KeyringError),
    Run(RunError),
}

/// A keyring, known by its address, and what was asked of it.
type Asked = (usize, KeyringCall);

/// What became of requests to keyrings, as far as it says what a denial means.
#[derive(Debug, Default)]
pub(super) struct Grants(HashMap<Asked, Answers>);

/// What became of requests of one kind.
#[derive(Debug, Default)]
struct Answers {
    granted: bool,
    /// Denials in a row.
    denied: u32,
}

impl Answers {
    /// Whether one more denial in a row concerns its item alone.
    fn denied_again(&mut self) -> bool {
        self.denied += 1;
        self.denied < if self.granted { DENIALS_AFTER_GRANTS } else { DENIALS_AT_FIRST }
    }
}

/// So many requests of one kind, denied before any was granted, stop the run: the policy does not mean single items.
pub(crate) const DENIALS_AT_FIRST: u32 = 10;
/// The same after some were granted: the policy was changed.
const DENIALS_AFTER_GRANTS: u32 = 1000;
/// Encrypted data keys of one item at most for which one keyring is asked: whoever can write an item can name our key in
/// it 255 times.
const EDKS_ASKED_MAX: usize = 8;

impl Engine {
    /// A fresh key for each recipient of the target.
    pub(super) async fn generate(
        &self,
        keyring: &dyn Keyring,
        context: &EncryptionContext,
    ) -> Result<Vec<WrappedKey>, KeyFault> {
        self.ask(keyring, KeyringCall::Generate, || keyring.generate(context)).await
    }

    /// The intermediate key of a sealed item, and which of its encrypted data keys it came from; by whichever keyring
    /// of the job can.
    pub(super) async fn unwrap(&self, sealed: &Sealed) -> Result<(usize, Secret), KeyFault> {
        self.unwrap_by(self.ports.target.iter().chain(&self.ports.sources), sealed).await
    }

    /// The same, by the target's keyring alone: as a reader of the target will.
    pub(super) async fn unwrap_by_target(&self, sealed: &Sealed) -> Result<(usize, Secret), KeyFault> {
        self.unwrap_by(self.ports.target.iter(), sealed).await
    }

    /// The intermediate key from one encrypted data key, by the target's keyring.
    pub(super) async fn unwrap_one_by_target(&self, sealed: &Sealed, edk: usize) -> Result<Secret, KeyFault> {
        let wrapped = sealed.head.edks.get(edk).and_then(EncryptedDataKey::wrapped);
        match (&self.ports.target, wrapped) {
            (Some(keyring), Some(wrapped)) if keyring.accepts(wrapped) => {
                self.ask(keyring.as_ref(), KeyringCall::Unwrap, || keyring.unwrap(wrapped, &sealed.context)).await
            }
            _ => Err(KeyFault::Item(no_keyring(sealed))),
        }
    }

    /// Whether only the target's keyring knows of an item that is at target by its bytes whether it is.
    pub(super) fn looks_deeper(&self) -> bool {
        self.deeper().is_some()
    }

    /// Whether an item that is at target by its bytes is so by what only the target's keyring knows.
    pub(super) async fn is_current(&self, sealed: &Sealed) -> Result<bool, KeyFault> {
        let Some(keyring) = self.deeper() else { return Ok(true) };
        let found: Vec<_> = sealed.head.edks.iter().filter_map(EncryptedDataKey::wrapped).collect();
        self.ask(keyring.as_ref(), KeyringCall::IsCurrent, || keyring.is_current(&found, &sealed.context)).await
    }

    fn deeper(&self) -> Option<&Arc<dyn Keyring>> {
        self.ports.target.as_ref().filter(|target| target.looks_deeper())
    }

    async fn unwrap_by(
        &self,
        keyrings: impl Iterator<Item = &Arc<dyn Keyring>> + Send,
        sealed: &Sealed,
    ) -> Result<(usize, Secret), KeyFault> {
        let mut refused: Option<KeyFault> = None;
        for keyring in keyrings {
            let found = sealed.head.edks.iter().enumerate();
            let found = found.filter_map(|(index, edk)| Some((index, edk.wrapped()?)));
            for (index, wrapped) in found.filter(|(_, wrapped)| keyring.accepts(*wrapped)).take(EDKS_ASKED_MAX) {
                match self.ask(keyring.as_ref(), KeyringCall::Unwrap, || keyring.unwrap(wrapped, &sealed.context)).await
                {
                    Ok(key) => return Ok((index, key)),
                    Err(fault @ KeyFault::Run(_)) => return Err(fault),
                    Err(fault) => refused = Some(fault),
                }
            }
        }
        Err(refused.unwrap_or_else(|| KeyFault::Item(no_keyring(sealed))))
    }

    /// Makes one request under the budget, again and again while that can help.
    async fn ask<'a, T>(
        &self,
        keyring: &dyn Keyring,
        call: KeyringCall,
        request: impl Fn() -> BoxFuture<'a, Result<T, KeyringError>> + Send,
    ) -> Result<T, KeyFault> {
        let requests = keyring.requests(call);
        let asked = (std::ptr::from_ref(keyring).addr(), call);
        let mut tries = Tries::default();
        loop {
            if requests > 0 {
                let taken = self.kms.acquire(f64::from(requests)).await;
                self.kms_count.fetch_add(u64::from(requests), Ordering::Relaxed);
                self.kms.settle(taken, None);
            }
            let error = match request().await {
                Ok(answer) => {
                    if requests > 0 {
                        self.kms.satisfied();
                    }
                    self.grants().0.insert(asked, Answers { granted: true, denied: 0 });
                    return Ok(answer);
                }
                Err(error) => error,
            };
            match error.class {
                KeyringClass::Throttled => self.slow_down(&self.kms, &mut tries, &error.to_string()),
                KeyringClass::Transient if self.silent(&mut tries).await => {}
                KeyringClass::Credentials => self.hold(&mut tries, &error.to_string()).await,
                KeyringClass::Item => return Err(KeyFault::Item(Refusal::new(FailureKind::Key, error))),
                KeyringClass::Denied => return Err(KeyFault::Denied(asked, error)),
                KeyringClass::Key | KeyringClass::Transient => return Err(KeyFault::Run(error.into())),
            }
        }
    }

    /// What a fault means for its item, when all requests that were made together are answered: a service that grants none
    /// of their kind, or none any more, denies the run.
    ///
    /// # Errors
    /// [`RunError`] when the run cannot go on.
    pub(super) fn refusal(&self, fault: KeyFault) -> Result<Refusal, RunError> {
        match fault {
            KeyFault::Item(refusal) => Ok(refusal),
            KeyFault::Run(error) => Err(error),
            KeyFault::Denied(asked, error) => {
                let alone = self.grants().0.entry(asked).or_default().denied_again();
                if alone { Ok(Refusal::new(FailureKind::Key, error)) } else { Err(error.into()) }
            }
        }
    }
}

fn no_keyring(sealed: &Sealed) -> Refusal {
    let found = sealed.head.recipients_in_words();
    let detail = format!("sealed for {found}; add a keyring that opens it to source.keyrings");
    Refusal::new(FailureKind::Key, detail)
}
