//! The parts of reseal's job file that say how an item is sealed. Everything else in the file is ignored here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aws_db_esdk::CryptoAction;
use aws_db_esdk::material_providers::types::DbeAlgorithmSuiteId;
use serde::Deserialize;

use crate::Failure;
use crate::keyring::Keyring;

/// A job file, as far as sealing and opening single items goes.
#[derive(Deserialize)]
pub struct Job {
    /// The table whose items these are.
    pub table: Table,
    /// What happens to each attribute.
    #[serde(default)]
    pub attributes: BTreeMap<String, Action>,
    /// Which attributes the signature leaves out.
    #[serde(default)]
    pub unsigned: Unsigned,
    /// Suite and keys.
    pub target: Target,
    /// Where the job file lies; a relative key file is looked up from there.
    #[serde(skip)]
    pub directory: PathBuf,
}

/// The `[table]` section.
#[derive(Deserialize)]
pub struct Table {
    /// Name or ARN.
    pub name: String,
    /// Name of the partition key's attribute.
    pub partition_key: String,
    /// Name of the sort key's attribute, if there is one.
    pub sort_key: Option<String>,
    logical_name: Option<String>,
}

/// The `[unsigned]` section.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Unsigned {
    /// Attributes outside the signature, by name.
    pub names: Vec<String>,
    /// Attributes outside the signature, by how their names begin.
    pub prefix: Option<String>,
}

/// The `[target]` section.
#[derive(Deserialize)]
pub struct Target {
    #[serde(default)]
    suite: Suite,
    /// What wraps the data keys.
    pub keyring: Keyring,
}

/// The crypto actions, in the words of the official library.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Action {
    /// Encrypted, in the signature.
    EncryptAndSign,
    /// Plain, in the signature.
    SignOnly,
    /// Plain, in the signature and in the encryption context.
    SignAndIncludeInEncryptionContext,
    /// Plain, not in the signature.
    DoNothing,
}

/// The two algorithm suites of the format.
#[derive(Deserialize, Default)]
enum Suite {
    #[default]
    #[serde(rename = "ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA_P384_SYMSIG_HMAC_SHA384")]
    Ecdsa,
    #[serde(rename = "ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_SYMSIG_HMAC_SHA384")]
    Hmac,
}

impl Job {
    /// Reads a job file.
    ///
    /// # Errors
    /// When it cannot be read, or lacks what sealing needs.
    pub fn read(file: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let mut job: Self = toml::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?;
        job.directory = file.parent().map(Path::to_owned).unwrap_or_default();
        Ok(job)
    }

    /// The table name that is bound to every item.
    #[must_use]
    pub fn logical_table_name(&self) -> &str {
        let name = self.table.name.rsplit('/').next().unwrap_or_default();
        self.table.logical_name.as_deref().unwrap_or(name)
    }

    /// Names of the key attributes, the partition key first.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.table.partition_key).chain(&self.table.sort_key)
    }

    /// The algorithm suite in the official library's type.
    #[must_use]
    pub fn suite(&self) -> DbeAlgorithmSuiteId {
        match self.target.suite {
            Suite::Ecdsa => DbeAlgorithmSuiteId::AlgAes256GcmHkdfSha512CommitKeyEcdsaP384SymsigHmacSha384,
            Suite::Hmac => DbeAlgorithmSuiteId::AlgAes256GcmHkdfSha512CommitKeySymsigHmacSha384,
        }
    }
}

impl From<Action> for CryptoAction {
    fn from(action: Action) -> Self {
        match action {
            Action::EncryptAndSign => Self::EncryptAndSign,
            Action::SignOnly => Self::SignOnly,
            Action::SignAndIncludeInEncryptionContext => Self::SignAndIncludeInEncryptionContext,
            Action::DoNothing => Self::DoNothing,
        }
    }
}
