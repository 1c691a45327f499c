//! A key service in memory that refuses, stays silent, and remembers what it wrapped for whom.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep};

use super::table::{Kind, Witness};
use super::world::{Rng, Versions, Weather};
use crate::crypto::{EncryptionContext, KEY_BYTES};
use crate::keyring::{
    Keyring, KeyringCall, KeyringClass, KeyringError, Recipient, Secret, Wanted, WrappedKey, WrappedRef,
};
use crate::pipeline::DENIALS_AT_FIRST;

const PROVIDER: &str = "simulated-kms";
/// Why a process is denied what it was granted for other items before.
pub(super) const DENIED_AFTER_GRANTS: &str = "access denied, where others were granted";

/// The key service: every key that it ever made, and the context under which it wrapped it.
#[derive(Clone)]
pub(super) struct SimKms(Arc<Mutex<State>>);

struct State {
    rng: Rng,
    weather: Weather,
    calm: bool,
    wrapped: Vec<Wrapped>,
    /// The version of the target's key that is active.
    active: u32,
    /// What the present process was granted, and what it was denied: of each key, for each kind of request.
    answers: HashMap<(String, KeyringCall), (u64, u64)>,
    faults: BTreeMap<&'static str, u64>,
    calls: u64,
    began: Instant,
}

struct Wrapped {
    by: String,
    version: u32,
    key: [u8; KEY_BYTES],
    context: EncryptionContext,
}

/// A KMS key of the service, as a client that may use it.
pub(super) struct SimKeyring {
    service: SimKms,
    recipients: [Wanted; 1],
    versions: Versions,
    /// The version that was active when the keyring was made.
    pinned: u32,
    witness: Arc<dyn Witness>,
}

impl SimKms {
    pub(super) fn new(weather: &Weather, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: Rng::seed_from_u64(seed ^ 0x005E_C2E7),
            weather: weather.clone(),
            calm: false,
            wrapped: Vec::new(),
            active: 0,
            answers: HashMap::new(),
            faults: BTreeMap::new(),
            calls: 0,
            began: Instant::now(),
        })))
    }

    pub(super) fn key(&self, wanted: Wanted, versions: Versions, witness: Arc<dyn Witness>) -> SimKeyring {
        let pinned = self.state().active;
        SimKeyring { service: self.clone(), recipients: [wanted], versions, pinned, witness }
    }

    /// Another process begins. Gives back the version that is active.
    pub(super) fn process(&self) -> u32 {
        let mut state = self.state();
        state.answers.clear();
        state.active
    }

    /// The target's key gets another version.
    pub(super) fn activate(&self) {
        self.state().active += 1;
    }

    /// The version of its key that a wrapped one is of.
    pub(super) fn version(&self, ciphertext: &[u8]) -> Option<u32> {
        // What cannot be unwrapped shows it, too.
        self.state().find(ciphertext.first_chunk::<8>()?).map(|wrapped| wrapped.version)
    }

    /// A kind of request of which the present process was denied all, and so many that it should have ended.
    pub(super) fn only_denied(&self) -> Option<String> {
        let state = self.state();
        let mut answers = state.answers.iter();
        let only = answers.find(|(_, (granted, denied))| *granted == 0 && *denied >= u64::from(DENIALS_AT_FIRST));
        only.map(|((key, call), _)| format!("{call:?} {key}"))
    }

    /// A wrapped key holds another key from now on: for mistakes only.
    pub(super) fn replace(&self, made: &mut WrappedKey, key: &Secret) {
        let (mut state, place) = (self.state(), place(&made.ciphertext));
        if let Some(wrapped) = place.and_then(|place| state.wrapped.get_mut(place)) {
            wrapped.key = *key.expose();
            made.key = key.clone();
        }
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
        let version = self.state().active;
        self.make_of(name, version, context)
    }

    fn make_of(&self, name: &str, version: u32, context: &EncryptionContext) -> WrappedKey {
        let mut state = self.state();
        let key: [u8; KEY_BYTES] = state.rng.random();
        let mut ciphertext = (state.wrapped.len() as u64).to_be_bytes().to_vec();
        if state.weather.keys_damaged {
            ciphertext.push(0);
        }
        state.wrapped.push(Wrapped { by: name.to_owned(), version, key, context: context.clone() });
        WrappedKey {
            provider_id: PROVIDER.to_owned(),
            provider_info: name.as_bytes().to_vec(),
            ciphertext,
            key: Secret::new(key),
        }
    }

    /// What was wrapped, if it was for this context.
    pub(super) fn look_up(&self, found: WrappedRef<'_>, context: &EncryptionContext) -> Option<Secret> {
        let state = self.state();
        let wrapped = state.find(found.ciphertext)?;
        let right = wrapped.by.as_bytes() == found.provider_info && wrapped.context == *context;
        right.then(|| Secret::new(wrapped.key))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the service has what it wrapped.
fn place(ciphertext: &[u8]) -> Option<usize> {
    usize::try_from(u64::from_be_bytes(ciphertext.try_into().ok()?)).ok()
}

impl State {
    /// How many requests were granted and denied to the present process.
    fn answers(&mut self, key: &str, call: KeyringCall) -> &mut (u64, u64) {
        self.answers.entry((key.to_owned(), call)).or_default()
    }

    fn find(&self, ciphertext: &[u8]) -> Option<&Wrapped> {
        self.wrapped.get(place(ciphertext)?)
    }

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
            return Some((KeyringClass::Denied, "access denied"));
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
        KeyringError { class, key: self.key().to_owned(), problem: problem.to_owned() }
    }

    async fn request(&self, call: KeyringCall, context: &EncryptionContext) -> Result<(), KeyringError> {
        self.witness.consumed(Kind::Keys, Instant::now(), 1.0);
        let ms = {
            let mut state = self.service.state();
            let longest = state.weather.delay_ms;
            state.rng.random_range(0..=longest)
        };
        sleep(Duration::from_millis(ms)).await;
        let mut state = self.service.state();
        let mut refused = state.refused(context);
        if let Some((KeyringClass::Denied, problem)) = &mut refused {
            let (granted, denied) = state.answers(self.key(), call);
            *denied += 1;
            if *granted > 0 {
                *problem = DENIED_AFTER_GRANTS;
            }
        }
        refused.map_or(Ok(()), |refused| Err(self.error(refused)))
    }

    fn key(&self) -> &str {
        &self.recipients[0].recipient.key
    }

    /// Answers with what was asked for.
    fn grant<T>(&self, call: KeyringCall, answer: T) -> T {
        self.service.state().answers(self.key(), call).0 += 1;
        answer
    }
}

impl std::fmt::Debug for SimKeyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SimKeyring").field(&self.key()).finish()
    }
}

#[async_trait]
impl Keyring for SimKeyring {
    fn recipients(&self) -> &[Wanted] {
        &self.recipients
    }

    fn accepts(&self, found: WrappedRef<'_>) -> bool {
        let key = str::from_utf8(found.provider_info).map(str::to_owned);
        key.is_ok_and(|key| self.recipients[0].is(&Recipient { provider: found.provider_id.to_owned(), key }))
    }

    fn requests(&self, _: KeyringCall) -> u32 {
        1
    }

    fn looks_deeper(&self) -> bool {
        self.versions != Versions::One
    }

    async fn is_current(&self, found: &[WrappedRef<'_>], context: &EncryptionContext) -> Result<bool, KeyringError> {
        self.request(KeyringCall::IsCurrent, context).await?;
        let version = |found: &WrappedRef<'_>| self.service.version(found.ciphertext);
        let current = found.iter().all(|found| version(found).is_some_and(|version| version >= self.pinned));
        Ok(self.grant(KeyringCall::IsCurrent, current))
    }

    async fn generate(&self, context: &EncryptionContext) -> Result<Vec<WrappedKey>, KeyringError> {
        self.request(KeyringCall::Generate, context).await?;
        let made = match self.versions {
            Versions::One | Versions::Latest => self.service.make(self.key(), context),
            Versions::Cached => self.service.make_of(self.key(), self.pinned, context),
        };
        Ok(self.grant(KeyringCall::Generate, vec![made]))
    }

    async fn unwrap(&self, found: WrappedRef<'_>, context: &EncryptionContext) -> Result<Secret, KeyringError> {
        self.request(KeyringCall::Unwrap, context).await?;
        let key = self.service.look_up(found, context).map(|key| self.grant(KeyringCall::Unwrap, key));
        key.ok_or_else(|| self.error((KeyringClass::Item, "not wrapped by this key under this context")))
    }
}
