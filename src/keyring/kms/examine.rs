//! Whether a KMS key can be used for items, found out before anything is read or written.

use aws_sdk_kms::types::{KeyManagerType, KeyMetadata, KeySpec, KeyState, KeyUsageType};

use super::KeyringError;
use crate::crypto::RsaKeyError;

/// Why a KMS key will not do, found before anything is read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// Requests would go to another Region than the key's.
    #[error(
        "the key {key} is in {region}, but the keyring's region is {configured}; remove `region` from the keyring, or \
         name the key of that Region"
    )]
    Region {
        /// The key.
        key: String,
        /// The key's Region.
        region: String,
        /// Where requests would go.
        configured: String,
    },
    /// Disabled, pending deletion or import, or with its key store disconnected.
    #[error("the key {key} is {state}; {remedy}")]
    State {
        /// The key.
        key: String,
        /// The state, in KMS's words.
        state: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A key that belongs to an AWS service, not to the caller.
    #[error("the key {key} is managed by AWS for one of its services; create a customer managed key")]
    AwsManaged {
        /// The key.
        key: String,
    },
    /// A key for signatures, MACs or key agreement.
    #[error("the key {key} is for {usage}; create one with the usage ENCRYPT_DECRYPT")]
    Usage {
        /// The key.
        key: String,
        /// The usage, in KMS's words.
        usage: String,
    },
    /// A key of another kind than the keyring is for.
    #[error("the key {key} is of the kind {spec}; {remedy}")]
    Spec {
        /// The key.
        key: String,
        /// The kind, in KMS's words.
        spec: String,
        /// What to do.
        remedy: &'static str,
    },
    /// KMS does not say which key material the key has.
    #[error("KMS does not say which key material {key} has; leave `refresh_key_material` out")]
    Material {
        /// The key.
        key: String,
    },
    /// No public key to wrap with.
    #[error("the public key of {key}: {problem}")]
    PublicKey {
        /// The key.
        key: String,
        /// Why, and what to do.
        problem: RsaKeyError,
    },
    /// The public key that was named is not the KMS key's.
    #[error(
        "the public key in the file is not that of {key}: nobody could open what it wraps; write the one that `aws kms \
         get-public-key` gives, or leave public_key_file out"
    )]
    AnotherPublicKey {
        /// The key.
        key: String,
    },
    /// KMS could not be asked.
    #[error(transparent)]
    Service(#[from] KeyringError),
}

/// What a keyring needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A key of the kind `SYMMETRIC_DEFAULT`.
    Symmetric,
    /// An RSA key.
    Rsa,
}

impl Kind {
    fn has(self, spec: &KeySpec) -> bool {
        match self {
            Self::Symmetric => *spec == KeySpec::SymmetricDefault,
            Self::Rsa => matches!(spec, KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096),
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::Symmetric => "create one of the kind SYMMETRIC_DEFAULT",
            Self::Rsa => "create one of the kind RSA_3072",
        }
    }
}

/// Whether the key can be used for items, as KMS describes it.
pub(super) fn usable(key: &str, metadata: &KeyMetadata, kind: Kind) -> Result<(), KeyRefused> {
    let key = key.to_owned();
    if metadata.key_manager.as_ref().is_some_and(|manager| *manager != KeyManagerType::Customer) {
        return Err(KeyRefused::AwsManaged { key });
    }
    if let Some(usage) = metadata.key_usage.as_ref().filter(|usage| **usage != KeyUsageType::EncryptDecrypt) {
        return Err(KeyRefused::Usage { key, usage: usage.as_str().to_owned() });
    }
    if let Some(spec) = metadata.key_spec.as_ref().filter(|spec| !kind.has(spec)) {
        return Err(KeyRefused::Spec { key, spec: spec.as_str().to_owned(), remedy: kind.remedy() });
    }
    match &metadata.key_state {
        // While a multi-Region key is updated, it can be used.
        Some(KeyState::Enabled | KeyState::Updating) => Ok(()),
        None if metadata.enabled => Ok(()),
        state => {
            let remedy = match state {
                None | Some(KeyState::Disabled) => "enable it",
                Some(KeyState::PendingDeletion | KeyState::PendingReplicaDeletion) => {
                    "cancel its deletion and enable it"
                }
                Some(KeyState::PendingImport) => "import its key material",
                Some(KeyState::Unavailable) => "connect its key store",
                Some(_) => "wait until it is Enabled",
            };
            let state = state.as_ref().map_or("Disabled", KeyState::as_str).to_owned();
            Err(KeyRefused::State { key, state, remedy })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change<'a> = &'a dyn Fn(&mut KeyMetadata);

    #[test]
    fn keys_that_will_not_do() {
        let of = |kind, change: &dyn Fn(&mut KeyMetadata)| {
            let mut metadata = KeyMetadata::builder()
                .key_id("1234abcd")
                .key_manager(KeyManagerType::Customer)
                .key_usage(KeyUsageType::EncryptDecrypt)
                .key_spec(KeySpec::SymmetricDefault)
                .key_state(KeyState::Enabled)
                .build()
                .unwrap();
            change(&mut metadata);
            usable("K", &metadata, kind).map_err(|refused| refused.to_string())
        };
        assert_eq!(of(Kind::Symmetric, &|_| ()), Ok(()));
        let cases: [(Change<'_>, &str); 7] = [
            (&|m| m.key_state = Some(KeyState::Disabled), "the key K is Disabled; enable it"),
            (
                &|m| m.key_state = Some(KeyState::PendingDeletion),
                "the key K is PendingDeletion; cancel its deletion and enable it",
            ),
            (&|m| m.key_state = Some(KeyState::PendingImport), "the key K is PendingImport; import its key material"),
            (&|m| m.key_state = None, "the key K is Disabled; enable it"),
            (
                &|m| m.key_manager = Some(KeyManagerType::Aws),
                "the key K is managed by AWS for one of its services; create a customer managed key",
            ),
            (
                &|m| m.key_usage = Some(KeyUsageType::SignVerify),
                "the key K is for SIGN_VERIFY; create one with the usage ENCRYPT_DECRYPT",
            ),
            (
                &|m| m.key_spec = Some(KeySpec::Rsa2048),
                "the key K is of the kind RSA_2048; create one of the kind SYMMETRIC_DEFAULT",
            ),
        ];
        for (change, expected) in cases {
            assert_eq!(of(Kind::Symmetric, change), Err(expected.to_owned()));
        }
        assert_eq!(of(Kind::Rsa, &|m| m.key_spec = Some(KeySpec::Rsa3072)), Ok(()));
        let symmetric = "the key K is of the kind SYMMETRIC_DEFAULT; create one of the kind RSA_3072";
        assert_eq!(of(Kind::Rsa, &|_| ()), Err(symmetric.to_owned()));
    }
}
