//! Bytes in, bytes out: the primitives that the formats are made of. Nothing here knows of items or of AWS.

pub(crate) mod aead;
mod context;
mod kdf;
mod rsa;
mod secret;
mod signature;
mod suite;
mod wrapped;

pub use context::EncryptionContext;
pub(crate) use kdf::Kdf;
pub use rsa::{RsaKey, RsaKeyError, RsaPadding};
pub use secret::{KEY_BYTES, Secret};
pub(crate) use signature::{EphemeralKey, POINT_BYTES, SIGNATURE_BYTES, verify};
pub use suite::Suite;
pub use wrapped::{Matching, Recipient, Wanted, WrappedKey, WrappedRef, same_key_in_any_region};
