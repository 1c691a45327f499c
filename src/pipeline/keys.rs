//! Requests to keyrings: under the budget, retried where that can help, the same way for every keyring.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::BoxFuture;

use super::engine::{Engine, RunError};
use super::retry::Tries;
use crate::crypto::{EncryptionContext, Secret, WrappedKey};
use crate::format::dbesdk::Sealed;
use crate::keyring::{Keyring, KeyringCall, KeyringClass, KeyringError};
use crate::migration::{FailureKind, Refusal};

/// A key request failed: for this item, or for the run.
#[derive(Debug)]
pub(super) enum KeyFault {
    Item(Refusal),
    Run(RunError),
}

impl Engine {
    /// A fresh key for each recipient of the target.
    pub(super) async fn generate(
        &self,
        keyring: &dyn Keyring,
        context: &EncryptionContext,
    ) -> Result<Vec<WrappedKey>, KeyFault> {
        self.ask(keyring, KeyringCall::Generate, || keyring.generate(context)).await.map_err(fault)
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

    async fn unwrap_by(
        &self,
        keyrings: impl Iterator<Item = &Arc<dyn Keyring>> + Send,
        sealed: &Sealed,
    ) -> Result<(usize, Secret), KeyFault> {
        let mut refused: Option<KeyringError> = None;
        for keyring in keyrings {
            for (index, edk) in sealed.head.edks.iter().enumerate() {
                let Some(wrapped) = edk.wrapped().filter(|wrapped| keyring.accepts(*wrapped)) else { continue };
                match self.ask(keyring.as_ref(), KeyringCall::Unwrap, || keyring.unwrap(wrapped, &sealed.context)).await
                {
                    Ok(key) => return Ok((index, key)),
                    Err(error) if error.class == KeyringClass::Item => refused = Some(error),
                    Err(error) => return Err(fault(error)),
                }
            }
        }
        Err(KeyFault::Item(refused.map_or_else(|| no_keyring(sealed), |error| Refusal::new(FailureKind::Key, error))))
    }

    /// Makes one request under the budget, again and again while that can help.
    async fn ask<'a, T>(
        &self,
        keyring: &dyn Keyring,
        call: KeyringCall,
        request: impl Fn() -> BoxFuture<'a, Result<T, KeyringError>> + Send,
    ) -> Result<T, KeyringError> {
        let requests = keyring.requests(call);
        let mut tries = Tries::default();
        loop {
            if requests > 0 {
                let taken = self.kms.acquire(f64::from(requests)).await;
                self.kms_count.fetch_add(u64::from(requests), Ordering::Relaxed);
                self.kms.settle(taken, None);
            }
            match request().await {
                Ok(answer) => {
                    if requests > 0 {
                        self.kms.satisfied();
                    }
                    return Ok(answer);
                }
                Err(error) => match error.class {
                    KeyringClass::Throttled => self.slow_down(&self.kms, &mut tries, &error.to_string()),
                    KeyringClass::Transient if self.silent(&mut tries).await => {}
                    KeyringClass::Credentials => self.hold(&mut tries, &error.to_string()).await,
                    KeyringClass::Item | KeyringClass::Denied | KeyringClass::Key | KeyringClass::Transient => {
                        return Err(error);
                    }
                },
            }
        }
    }
}

fn fault(error: KeyringError) -> KeyFault {
    match error.class {
        KeyringClass::Item => KeyFault::Item(Refusal::new(FailureKind::Key, error)),
        _ => KeyFault::Run(error.into()),
    }
}

fn no_keyring(sealed: &Sealed) -> Refusal {
    let found = sealed.head.recipients_in_words();
    let detail = format!("sealed for {found}; add a keyring that opens it to source.keyrings");
    Refusal::new(FailureKind::Key, detail)
}
