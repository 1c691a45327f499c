//! What KMS leaves to policies and quotas: denials, a request rate, and the count of requests.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::exception::{Exception, KmsError};
use super::key::KeyId;
use crate::crypto::EncryptionContext;

/// Which requests get `AccessDeniedException`. What is left out does not matter.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct Denial {
    /// Requests for this key: key id, ARN, or an alias of the moment.
    pub key_id: Option<String>,
    /// Requests that take this permission: the operation's name, such as `Decrypt`; for `ReEncrypt` these are
    /// `ReEncryptFrom`, with the key and the context of the source, and `ReEncryptTo`, with the destination's.
    pub operation: Option<String>,
    /// Requests whose encryption context holds all these pairs.
    pub encryption_context: BTreeMap<String, String>,
}

/// The rules that are in force.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    /// Each with the key that its text was found to mean.
    denials: Vec<(Option<KeyId>, Denial)>,
    rate: Option<Bucket>,
    /// How long each answer is held back.
    delay: Duration,
    requests: BTreeMap<String, u64>,
}

/// A token bucket that holds one second's worth.
#[derive(Debug, Clone)]
struct Bucket {
    per_second: f64,
    available: f64,
    /// Since the Unix epoch.
    filled: Duration,
}

impl Rules {
    pub(super) fn deny(&mut self, key: Option<KeyId>, denial: Denial) {
        self.denials.push((key, denial));
    }

    pub(super) fn allow_all(&mut self) {
        self.denials.clear();
    }

    /// Whether a denial forbids the request.
    pub(super) fn forbid(&self, key: Option<KeyId>, permission: &str, context: &EncryptionContext) -> bool {
        self.denials.iter().any(|(denied, rule)| {
            (denied.is_none() || *denied == key)
                && rule.operation.as_deref().is_none_or(|denied| denied == permission)
                && rule.encryption_context.iter().all(|(name, value)| context.get(name) == Some(value))
        })
    }

    /// Sets the most requests per second, from a full bucket; `None` lifts the limit.
    pub(super) fn limit(&mut self, per_second: Option<f64>, now: Duration) {
        self.rate = per_second.map(|per_second| Bucket { per_second, available: per_second.max(1.0), filled: now });
    }

    /// Takes one request from the rate.
    pub(super) fn throttle(&mut self, now: Duration) -> Result<(), KmsError> {
        let Some(bucket) = &mut self.rate else { return Ok(()) };
        // A clock that went back fills nothing.
        let since = now.saturating_sub(bucket.filled).as_secs_f64();
        bucket.available = (bucket.available + since * bucket.per_second).min(bucket.per_second.max(1.0));
        bucket.filled = now;
        if bucket.available < 1.0 {
            return Err(Exception::Throttling.because("You have exceeded the rate at which you may call KMS."));
        }
        bucket.available -= 1.0;
        Ok(())
    }

    pub(super) const fn hold_back(&mut self, delay: Duration) {
        self.delay = delay;
    }

    pub(super) const fn delay(&self) -> Duration {
        self.delay
    }

    pub(super) fn count(&mut self, operation: &str) {
        *self.requests.entry(operation.to_owned()).or_default() += 1;
    }

    pub(super) const fn requests(&self) -> &BTreeMap<String, u64> {
        &self.requests
    }

    pub(super) fn forget_requests(&mut self) {
        self.requests.clear();
    }
}
