//! A small KMS for development and tests, served on loopback.
//!
//! It speaks KMS's protocol (awsJson1.1) without checking signatures, keeps encryption contexts and key states as
//! strictly as KMS does, and refuses with KMS's exception names. **It protects nothing**: key material lies in memory,
//! and in clear in a file when there is one. Never give it a key or a secret that matters.
//!
//! Operations:
//! * keys, symmetric and RSA for encryption: `CreateKey`, `DescribeKey`, `GetPublicKey`, `ListKeys`, `EnableKey`,
//!   `DisableKey`, `ScheduleKeyDeletion`, `CancelKeyDeletion`;
//! * multi-Region keys: `ReplicateKey`; each Region has a port of its own and sees its own keys only;
//! * rotation: `RotateKeyOnDemand`, `ListKeyRotations`, `GetKeyRotationStatus`;
//! * names: `CreateAlias`, `UpdateAlias`, `DeleteAlias`, `ListAliases`;
//! * cryptography, with dry runs: `GenerateDataKey`, `GenerateDataKeyWithoutPlaintext`, `Encrypt`, `Decrypt`,
//!   `ReEncrypt`.
//!
//! What KMS does in the background (replicas, rotations) is done when the answer comes. A parameter that is not
//! understood is refused by name rather than ignored.
//!
//! # Rules for tests
//! What KMS leaves to policies and quotas is set for one Region through [`LocalKms`], or over HTTP on its port:
//!
//! | request | body | effect |
//! |---|---|---|
//! | `POST /_reseal/deny` | `{"KeyId": "...", "Operation": "Decrypt", "EncryptionContext": {"tenant": "t1"}}` | such requests get `AccessDeniedException`; every member may be left out |
//! | `DELETE /_reseal/deny` | | no request is denied any more |
//! | `POST /_reseal/rate` | `{"RequestsPerSecond": 50}` or `null` in its place | cryptographic requests above the rate get `ThrottlingException` |
//! | `POST /_reseal/delay` | `{"Milliseconds": 5}` | every answer comes so much later; 0 lifts it |
//! | `GET /_reseal/requests` | | requests received, by operation, refused ones too |
//! | `DELETE /_reseal/requests` | | counts from nought again |
//!
//! Rules and counts live as long as the process; keys live in the file when there is one.

mod algorithm;
mod aliases;
mod blob;
mod cryptography;
mod exception;
mod file;
mod key;
mod operation;
mod region;
mod request;
mod rsa;
mod rules;
mod server;
mod store;

pub use exception::{Exception, KmsError};
pub use file::KeyFileError;
pub use rules::Denial;
pub use server::LocalKms;
pub use store::Store;
pub(super) use store::is_region_name;

/// The account that every key of the stand-in belongs to.
pub const ACCOUNT: &str = "000000000000";
