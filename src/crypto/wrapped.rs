//! A wrapped key, and who can unwrap it: what keyrings and formats hand to each other.

use std::fmt;

use super::Secret;

/// Who a wrapped key is for: the part of an encrypted data key that can be compared without any key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recipient {
    /// The key provider id: `aws-kms`, or the namespace of a raw keyring.
    pub provider: String,
    /// The key's ARN, or the name of a raw key.
    pub key: String,
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.provider, self.key)
    }
}

/// A fresh 32-byte key and the form in which one recipient can get it back.
#[derive(Debug)]
pub struct WrappedKey {
    /// Key provider id of the encrypted data key.
    pub provider_id: String,
    /// Key provider information of the encrypted data key.
    pub provider_info: Vec<u8>,
    /// What the keyring wrapped.
    pub ciphertext: Vec<u8>,
    /// The key itself.
    pub key: Secret,
}

impl WrappedKey {
    /// The wrapped form, as a reader will find it.
    #[must_use]
    pub fn wrapped(&self) -> WrappedRef<'_> {
        WrappedRef { provider_id: &self.provider_id, provider_info: &self.provider_info, ciphertext: &self.ciphertext }
    }
}

/// A wrapped key as it was found in an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrappedRef<'a> {
    /// Key provider id of the encrypted data key.
    pub provider_id: &'a str,
    /// Key provider information of the encrypted data key.
    pub provider_info: &'a [u8],
    /// What the keyring wrapped.
    pub ciphertext: &'a [u8],
}
