//! A key: its identity, its state and its material.

use std::fmt;
use std::time::Duration;

use rand::CryptoRng;
use serde_json::{Value, json};

use super::ACCOUNT;
use super::exception::{Exception, KmsError};
use crate::crypto::{KEY_BYTES, Secret};

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// The identity of a key: the 16 bytes of its UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyId(pub(super) [u8; 16]);

impl KeyId {
    /// A random UUID, version 4.
    pub(super) fn random(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        let uuid = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
        Self(uuid.to_be_bytes())
    }

    /// Reads a UUID in KMS's spelling: lower case, with dashes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let id = Self(u128::from_str_radix(&digits, 16).ok()?.to_be_bytes());
        (id.to_string() == text).then_some(id)
    }

    /// The key's ARN in a Region.
    pub(super) fn arn(self, region: &str) -> String {
        format!("arn:aws:kms:{region}:{ACCOUNT}:key/{self}")
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
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

/// One key material.
#[derive(Debug, Clone)]
pub(super) struct Material {
    pub(super) id: MaterialId,
    pub(super) secret: Secret,
}

impl Material {
    fn random(rng: &mut impl CryptoRng) -> Self {
        let mut id = [0; 32];
        rng.fill_bytes(&mut id);
        let mut secret = [0; KEY_BYTES];
        rng.fill_bytes(&mut secret);
        Self { id: MaterialId(id), secret: Secret::new(secret) }
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

/// A symmetric encryption key.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) id: KeyId,
    pub(super) description: String,
    /// Since the Unix epoch.
    pub(super) created: Duration,
    pub(super) state: KeyState,
    /// The material that new blobs are made with.
    pub(super) current: Material,
    /// Materials that only open old blobs.
    pub(super) former: Vec<Material>,
}

impl Key {
    pub(super) fn random(description: &str, now: Duration, rng: &mut impl CryptoRng) -> Self {
        Self {
            id: KeyId::random(rng),
            description: description.to_owned(),
            created: now,
            state: KeyState::Enabled,
            current: Material::random(rng),
            former: Vec::new(),
        }
    }

    /// The material of an id, current or not.
    pub(super) fn material(&self, id: MaterialId) -> Option<&Material> {
        std::iter::once(&self.current).chain(&self.former).find(|material| material.id == id)
    }

    /// Refuses when the key's state forbids cryptography (KMS Developer Guide, "Key states of AWS KMS keys").
    pub(super) fn usable(&self, region: &str) -> Result<(), KmsError> {
        let arn = self.id.arn(region);
        match self.state {
            KeyState::Enabled => Ok(()),
            KeyState::Disabled => Err(Exception::Disabled.because(format!("{arn} is disabled."))),
            KeyState::PendingDeletion { .. } => {
                Err(Exception::KmsInvalidState.because(format!("{arn} is pending deletion.")))
            }
        }
    }

    /// Moves to another state from any but pending deletion.
    pub(super) fn change(&mut self, state: KeyState, region: &str) -> Result<(), KmsError> {
        if let KeyState::PendingDeletion { .. } = self.state {
            return Err(Exception::KmsInvalidState.because(format!("{} is pending deletion.", self.id.arn(region))));
        }
        self.state = state;
        Ok(())
    }

    /// Leaves pending deletion; the key is disabled then, as in KMS.
    pub(super) fn cancel_deletion(&mut self, region: &str) -> Result<(), KmsError> {
        let KeyState::PendingDeletion { .. } = self.state else {
            return Err(Exception::KmsInvalidState.because(format!("{} is not pending deletion.", self.id.arn(region))));
        };
        self.state = KeyState::Disabled;
        Ok(())
    }

    /// KMS's `KeyMetadata`.
    pub(super) fn metadata(&self, region: &str) -> Value {
        let (state, enabled) = match self.state {
            KeyState::Enabled => ("Enabled", true),
            KeyState::Disabled => ("Disabled", false),
            KeyState::PendingDeletion { .. } => ("PendingDeletion", false),
        };
        let mut metadata = json!({
            "AWSAccountId": ACCOUNT,
            "KeyId": self.id.to_string(),
            "Arn": self.id.arn(region),
            "CreationDate": self.created.as_secs_f64(),
            "Enabled": enabled,
            "Description": self.description,
            "KeyUsage": "ENCRYPT_DECRYPT",
            "KeyState": state,
            "Origin": "AWS_KMS",
            "KeyManager": "CUSTOMER",
            "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
            "KeySpec": "SYMMETRIC_DEFAULT",
            "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
            "MultiRegion": false,
            "CurrentKeyMaterialId": self.current.id.to_string(),
        });
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
        let id = KeyId::random(&mut StdRng::seed_from_u64(1)).to_string();
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
        check("+1234567-89ab-4cde-8f01-23456789abcd", false);
        check("", false);
        check("é", false);
    }
}
