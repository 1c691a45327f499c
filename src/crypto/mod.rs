//! Bytes in, bytes out: the primitives that the formats are made of. Nothing here knows of items or of AWS.

mod context;
mod secret;
mod suite;
mod wrapped;

pub use context::EncryptionContext;
pub use secret::{KEY_BYTES, Secret};
pub use suite::Suite;
pub use wrapped::{Recipient, WrappedKey, WrappedRef};
