//! reseal encrypts, re-encrypts and decrypts DynamoDB tables in place, while they are in use.

pub mod cli;
pub mod crypto;
pub mod format;
pub mod item;
pub mod keyring;
pub mod migration;
pub mod pipeline;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
