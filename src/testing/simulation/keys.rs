//! A key service in memory that refuses, stays silent, and remembers what it wrapped for whom.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep};

use super::table::{Kind, Witness};
use super::world::{Rng, Weather};
use crate::crypto::{EncryptionContext, KEY_BYTES};
use crate::keyring::{
    Keyring, KeyringCall, KeyringClass, KeyringError, Recipient, Secret, Wanted, WrappedKey, WrappedRef,
};

const PROVIDER: &str = "simulated-kms";

/// The key service: every key that it ever made, and the context under which it wrapped it.
#[derive(Clone)]
pub(super) struct SimKms(Arc<Mutex<State>>);

struct State {
    rng: Rng,
    weather: Weather,
    calm: bool,
    wrapped: Vec<Wrapped>,
    faults: BTreeMap<&'static str, u64>,
    calls: u64,
    began: Instant,
}

struct Wrapped {
    by: String,
    key: [u8; KEY_BYTES],
    context: EncryptionContext,
}

/// A KMS key of the service, as a client that may use it.
pub(super) struct SimKeyring {
    service: SimKms,
    recipients: [Wanted; 1],
    witness: Arc<dyn Witness>,
}

impl SimKms {
    pub(super) fn new(weather: &Weather, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: Rng::seed_from_u64(seed ^ 0x005E_C2E7),
            weather: weather.clone(),
            calm: false,
            wrapped: Vec::new(),
            faults: BTreeMap::new(),
            calls: 0,
            began: Instant::now(),
        })))
    }

    pub(super) fn key(&self, name: &str, witness: Arc<dyn Witness>) -> SimKeyring {
        let recipients = [Wanted::exactly(recipient(name))];
        SimKeyring { service: self.clone(), recipients, witness }
    }

    /// From now on nothing fails, refusals on principle aside.
    pub(super) fn calm(&self) {
        self.state().calm = true;
    }

    /// From now on no key is denied to anybody.
    pub(super) fn allow(&self) {
        self.state().weather.keys_denied = 0;
    }

    pub(super) fn calls(&self) -> u64 {
        self.state().calls
    }

    pub(super) fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.state().faults.clone()
    }

    /// All key material that was ever given out.
    pub(super) fn material(&self) -> Vec<[u8; KEY_BYTES]> {
        self.state().wrapped.iter().map(|wrapped| wrapped.key).collect()
    }

    /// Whether a policy of the keys keeps everybody from what was sealed under this context.
    pub(super) fn denies(&self, context: &EncryptionContext) -> bool {
        denied(context, self.state().weather.keys_denied)
    }

    /// A fresh key, without any request: for applications.
    pub(super) fn make(&self, name: &str, context: &EncryptionContext) -> WrappedKey {
        let mut state = self.state();
        let key: [u8; KEY_BYTES] = state.rng.random();
        let mut ciphertext = (state.wrapped.len() as u64).to_be_bytes().to_vec();
        if state.weather.keys_damaged {
            ciphertext.push(0);
        }
        state.wrapped.push(Wrapped { by: name.to_owned(), key, context: context.clone() });
        WrappedKey {
            provider_id: PROVIDER.to_owned(),
            provider_info: name.as_bytes().to_vec(),
            ciphertext,
            key: Secret::new(key),
        }
    }

    /// What was wrapped, if it was for this context.
    pub(super) fn look_up(&self, found: WrappedRef<'_>, context: &EncryptionContext) -> Option<Secret> {
        let number = u64::from_be_bytes(found.ciphertext.try_into().ok()?);
        let state = self.state();
        let wrapped = state.wrapped.get(usize::try_from(number).ok()?)?;
        let right = wrapped.by.as_bytes() == found.provider_info && wrapped.context == *context;
        right.then(|| Secret::new(wrapped.key))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn chance(&mut self, what: &'static str, thousandths: u32) -> bool {
        let wrong = !self.calm && thousandths > 0 && self.rng.random_ratio(thousandths, 1000);
        if wrong {
            *self.faults.entry(what).or_default() += 1;
        }
        wrong
    }

    fn refused(&mut self, context: &EncryptionContext) -> Option<(KeyringClass, &'static str)> {
        self.calls += 1;
        let now = self.began.elapsed().as_millis() as u64;
        let within = |window: Option<(u64, u64)>| window.is_some_and(|(from, to)| (from..to).contains(&now));
        let windows = [
            (self.weather.expired, KeyringClass::Credentials, "credentials expired at the key service"),
            (self.weather.key_disabled, KeyringClass::Key, "key disabled"),
        ];
        for (window, class, what) in windows {
            if !self.calm && within(window) {
                *self.faults.entry(what).or_default() += 1;
                return Some((class, what));
            }
        }
        if denied(context, self.weather.keys_denied) {
            *self.faults.entry("key denied for an item").or_default() += 1;
            return Some((KeyringClass::Item, "access denied"));
        }
        if self.chance("key request throttled", self.weather.keys_throttled) {
            return Some((KeyringClass::Throttled, "throttled"));
        }
        self.chance("key request not answered", self.weather.keys_silent)
            .then_some((KeyringClass::Transient, "no answer"))
    }
}

/// Whether a policy of the key denies it for this context: always, or never.
fn denied(context: &EncryptionContext, thousandths: u32) -> bool {
    let mut hasher = DefaultHasher::new();
    for (name, value) in context.iter().filter(|(name, _)| !name.contains("public-key")) {
        (name, value).hash(&mut hasher);
    }
    hasher.finish() % 1000 < u64::from(thousandths)
}

pub(super) fn recipient(name: &str) -> Recipient {
    Recipient { provider: PROVIDER.to_owned(), key: name.to_owned() }
}

impl SimKeyring {
    fn error(&self, (class, problem): (KeyringClass, &'static str)) -> KeyringError {
        KeyringError { class, key: self.recipients[0].recipient.key.clone(), problem: problem.to_owned() }
    }

    async fn request(&self, context: &EncryptionContext) -> Result<(), KeyringError> {
        self.witness.consumed(Kind::Keys, Instant::now(), 1.0);
        let ms = {
            let mut state = self.service.state();
            let longest = state.weather.delay_ms;
            state.rng.random_range(0..=longest)
        };
        sleep(Duration::from_millis(ms)).await;
        let refused = self.service.state().refused(context);
        refused.map_or(Ok(()), |refused| Err(self.error(refused)))
    }
}

impl std::fmt::Debug for SimKeyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SimKeyring").field(&self.recipients[0].recipient.key).finish()
    }
}

#[async_trait]
impl Keyring for SimKeyring {
    fn recipients(&self) -> &[Wanted] {
        &self.recipients
    }

    fn accepts(&self, found: WrappedRef<'_>) -> bool {
        found.provider_id == PROVIDER && found.provider_info == self.recipients[0].recipient.key.as_bytes()
    }

    fn requests(&self, _: KeyringCall) -> u32 {
        1
    }

    async fn generate(&self, context: &EncryptionContext) -> Result<Vec<WrappedKey>, KeyringError> {
        self.request(context).await?;
        Ok(vec![self.service.make(&self.recipients[0].recipient.key, context)])
    }

    async fn unwrap(&self, found: WrappedRef<'_>, context: &EncryptionContext) -> Result<Secret, KeyringError> {
        self.request(context).await?;
        let key = self.service.look_up(found, context);
        key.ok_or_else(|| self.error((KeyringClass::Item, "not wrapped by this key under this context")))
    }
}
