//! reseal encrypts, re-encrypts and decrypts DynamoDB tables in place, while they are in use.

pub mod aws;
pub mod cli;
pub mod crypto;
pub mod format;
pub mod item;
pub mod keyring;
#[cfg(feature = "local")]
pub mod local;
pub mod migration;
pub mod pipeline;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
