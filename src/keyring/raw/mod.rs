//! Keys that this process holds, and that readers know by a namespace and a name.

mod aes;
mod rsa;

use super::{Recipient, Wanted};
use crate::crypto::RsaKeyError;

pub use aes::RawAes;
pub use rsa::RawRsa;

/// The prefix of namespaces that belong to KMS keyrings.
const RESERVED_NAMESPACE: &str = "aws-kms";

/// Why there is no such keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RawKeyError {
    /// The namespace of AWS KMS.
    #[error("the namespace of a raw keyring must not be \"aws-kms\"; choose another")]
    ReservedNamespace,
    /// Namespace or name is longer than a header can hold.
    #[error("namespace and name of a raw keyring have at most 65,000 bytes each")]
    LongName,
    /// No AES key has this length.
    #[error("an AES key has 16, 24 or 32 bytes, not {0}")]
    AesLength(usize),
    /// Not an RSA key that will do.
    #[error(transparent)]
    Rsa(#[from] RsaKeyError),
}

/// How readers know the key.
fn wanted(namespace: &str, name: &str) -> Result<Wanted, RawKeyError> {
    const NAME_BYTES_MAX: usize = 65_000;
    if namespace == RESERVED_NAMESPACE {
        return Err(RawKeyError::ReservedNamespace);
    }
    if namespace.len().max(name.len()) > NAME_BYTES_MAX {
        return Err(RawKeyError::LongName);
    }
    Ok(Wanted::exactly(Recipient { provider: namespace.to_owned(), key: name.to_owned() }))
}
