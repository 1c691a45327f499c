//! AWS's own item encryptor (crate `aws-db-esdk`), driven by the same job file and the same line format as
//! `reseal item seal|open`, so that one script can put either program in the other's place.

pub mod dynamodb_json;
pub mod encryptor;
pub mod job;
pub mod keyring;
pub mod keystore;
pub mod table;

/// Any failure of these test programs: a sentence for whoever runs them.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
