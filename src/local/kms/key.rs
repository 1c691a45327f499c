//! A key: its identity, its state and its material.

use std::fmt;
use std::time::Duration;

use rand::CryptoRng;
use serde_json::{Value, json};

use super::ACCOUNT;
use super::algorithm::{Algorithm, algorithm_names};
use super::exception::{Exception, KmsError};
use super::rsa::RsaKey;
use crate::crypto::{KEY_BYTES, Secret};

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// The identity of a key: 16 bytes, and how they are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyId {
    /// A multi-Region key, which has the same identity in every Region; `mrk-` in its spelling.
    pub(super) multi_region: bool,
    pub(super) bytes: [u8; 16],
}

impl KeyId {
    /// A random UUID, version 4, or as many random bytes.
    pub(super) fn random(multi_region: bool, rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        if !multi_region {
            let uuid = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
            bytes = uuid.to_be_bytes();
        }
        Self { multi_region, bytes }
    }

    /// Reads KMS's spellings: a UUID in lower case with dashes, or `mrk-` and 32 digits in lower case.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (multi_region, rest) = text.strip_prefix("mrk-").map_or((false, text), |rest| (true, rest));
        let digits: String = rest.chars().filter(|c| *c != '-').collect();
        let id = Self { multi_region, bytes: u128::from_str_radix(&digits, 16).ok()?.to_be_bytes() };
        (id.to_string() == text).then_some(id)
    }

    /// The key's ARN in a Region.
    pub(super) fn arn(self, region: &str) -> String {
        format!("arn:aws:kms:{region}:{ACCOUNT}:key/{self}")
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.multi_region {
            f.write_str("mrk-")?;
        }
        for (index, byte) in self.bytes.iter().enumerate() {
            if !self.multi_region && matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The identity of one key material of a key: rotation adds materials, and each blob names its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MaterialId(pub(super) [u8; 32]);

impl fmt::Display for MaterialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One key material of a symmetric key.
#[derive(Debug, Clone)]
pub(super) struct Material {
    pub(super) id: MaterialId,
    pub(super) secret: Secret,
    /// When a rotation made it, since the Unix epoch; `None` for the key's first.
    pub(super) rotated: Option<Duration>,
}

impl Material {
    fn random(rotated: Option<Duration>, rng: &mut impl CryptoRng) -> Self {
        let mut id = [0; 32];
        rng.fill_bytes(&mut id);
        let mut secret = [0; KEY_BYTES];
        rng.fill_bytes(&mut secret);
        Self { id: MaterialId(id), secret: Secret::new(secret), rotated }
    }
}

/// What a symmetric key has had in the course of its rotations.
#[derive(Debug, Clone)]
pub(super) struct Materials {
    /// The material that new blobs are made with.
    pub(super) current: Material,
    /// Materials that only open old blobs, oldest first.
    pub(super) former: Vec<Material>,
}

impl Materials {
    pub(super) fn random(rng: &mut impl CryptoRng) -> Self {
        Self { current: Material::random(None, rng), former: Vec::new() }
    }

    /// The material of an id, current or not.
    pub(super) fn get(&self, id: MaterialId) -> Option<&Material> {
        self.oldest_first().find(|material| material.id == id)
    }

    pub(super) fn oldest_first(&self) -> impl Iterator<Item = &Material> {
        self.former.iter().chain(std::iter::once(&self.current))
    }

    /// Makes a new material the current one.
    pub(super) fn rotate(&mut self, now: Duration, rng: &mut impl CryptoRng) {
        self.former.push(std::mem::replace(&mut self.current, Material::random(Some(now), rng)));
    }
}

/// What a key wraps with.
#[derive(Debug, Clone)]
pub(super) enum Matter {
    Symmetric(Materials),
    Rsa(RsaKey),
}

impl Matter {
    /// The key spec by KMS's name.
    pub(super) const fn spec(&self) -> &'static str {
        match self {
            Self::Symmetric(_) => "SYMMETRIC_DEFAULT",
            Self::Rsa(key) => key.size().spec(),
        }
    }

    pub(super) const fn algorithms(&self) -> &'static [Algorithm] {
        match self {
            Self::Symmetric(_) => &[Algorithm::Symmetric],
            Self::Rsa(_) => &[Algorithm::OaepSha1, Algorithm::OaepSha256],
        }
    }
}

/// Whether a key can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyState {
    Enabled,
    Disabled,
    /// Deleted once the moment, since the Unix epoch, has come.
    PendingDeletion {
        until: Duration,
    },
}

/// An encryption key in one Region.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) id: KeyId,
    pub(super) region: String,
    /// A multi-Region key whose primary is in another Region.
    pub(super) replica: bool,
    pub(super) description: String,
    /// Since the Unix epoch.
    pub(super) created: Duration,
    pub(super) state: KeyState,
    pub(super) matter: Matter,
}

impl Key {
    /// A new, enabled key; of several Regions, the primary.
    pub(super) fn new(id: KeyId, region: &str, description: &str, matter: Matter, now: Duration) -> Self {
        Self {
            id,
            region: region.to_owned(),
            replica: false,
            description: description.to_owned(),
            created: now,
            state: KeyState::Enabled,
            matter,
        }
    }

    pub(super) fn arn(&self) -> String {
        self.id.arn(&self.region)
    }

    /// Refuses when the key's state forbids cryptography (KMS Developer Guide, "Key states of AWS KMS keys").
    pub(super) fn usable(&self) -> Result<(), KmsError> {
        match self.state {
            KeyState::Enabled => Ok(()),
            KeyState::Disabled => Err(Exception::Disabled.because(format!("{} is disabled.", self.arn()))),
            KeyState::PendingDeletion { .. } => Err(self.pending_deletion()),
        }
    }

    /// Refuses when the key's state forbids administration.
    pub(super) fn stays(&self) -> Result<(), KmsError> {
        match self.state {
            KeyState::PendingDeletion { .. } => Err(self.pending_deletion()),
            KeyState::Enabled | KeyState::Disabled => Ok(()),
        }
    }

    fn pending_deletion(&self) -> KmsError {
        Exception::KmsInvalidState.because(format!("{} is pending deletion.", self.arn()))
    }

    /// The materials of a symmetric key; refuses for others.
    pub(super) fn materials(&self) -> Result<&Materials, KmsError> {
        match &self.matter {
            Matter::Symmetric(materials) => Ok(materials),
            Matter::Rsa(_) => Err(Exception::UnsupportedOperation.because(format!(
                "{} is of spec {}, which is never rotated.",
                self.arn(),
                self.matter.spec()
            ))),
        }
    }

    /// Leaves pending deletion; the key is disabled then, as in KMS.
    pub(super) fn cancel_deletion(&mut self) -> Result<(), KmsError> {
        let KeyState::PendingDeletion { .. } = self.state else {
            return Err(Exception::KmsInvalidState.because(format!("{} is not pending deletion.", self.arn())));
        };
        self.state = KeyState::Disabled;
        Ok(())
    }

    /// KMS's `KeyMetadata`, but for what it says of other Regions.
    pub(super) fn metadata(&self) -> Value {
        let (state, enabled) = match self.state {
            KeyState::Enabled => ("Enabled", true),
            KeyState::Disabled => ("Disabled", false),
            KeyState::PendingDeletion { .. } => ("PendingDeletion", false),
        };
        let mut metadata = json!({
            "AWSAccountId": ACCOUNT,
            "KeyId": self.id.to_string(),
            "Arn": self.arn(),
            "CreationDate": self.created.as_secs_f64(),
            "Enabled": enabled,
            "Description": self.description,
            "KeyUsage": "ENCRYPT_DECRYPT",
            "KeyState": state,
            "Origin": "AWS_KMS",
            "KeyManager": "CUSTOMER",
            "CustomerMasterKeySpec": self.matter.spec(),
            "KeySpec": self.matter.spec(),
            "EncryptionAlgorithms": algorithm_names(self.matter.algorithms()),
            "MultiRegion": self.id.multi_region,
        });
        if let Matter::Symmetric(materials) = &self.matter {
            metadata["CurrentKeyMaterialId"] = materials.current.id.to_string().into();
        }
        if let KeyState::PendingDeletion { until } = self.state {
            metadata["DeletionDate"] = until.as_secs_f64().into();
        }
        metadata
    }
}

/// The moment some days after another.
pub(super) const fn days_after(now: Duration, days: u64) -> Duration {
    now.saturating_add(Duration::from_secs(days.saturating_mul(DAY_SECONDS)))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn key_ids_are_uuids_of_version_4() {
        let id = KeyId::random(false, &mut StdRng::seed_from_u64(1)).to_string();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4', "{id}");
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{id}");
    }

    #[test]
    fn only_the_canonical_spelling_is_a_key_id() {
        fn check(text: &str, expect: bool) {
            assert_eq!(KeyId::parse(text).is_some(), expect, "{text}");
        }
        check("01234567-89ab-4cde-8f01-23456789abcd", true);
        check("01234567-89AB-4cde-8f01-23456789abcd", false);
        check("0123456789ab4cde8f0123456789abcd", false);
        check("01234567-89ab-4cde-8f01-23456789abc", false);
        check("mrk-0123456789abcdef0123456789abcdef", true);
        check("mrk-0123456789abcdef0123456789abcde", false);
        check("mrk-0123456789ABCDEF0123456789abcdef", false);
        check("mrk-01234567-89ab-4cde-8f01-23456789abcd", false);
        check("0123456789abcdef0123456789abcdef", false);
        check("+1234567-89ab-4cde-8f01-23456789abcd", false);
        check("", false);
        check("é", false);
    }
}
