//! The parts of reseal's job file that say how an item is sealed. Everything else in the file is ignored here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aws_db_esdk::CryptoAction;
use aws_db_esdk::material_providers::types::DbeAlgorithmSuiteId;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use crate::Failure;

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
    directory: PathBuf,
}

/// The `[table]` section.
#[derive(Deserialize)]
pub struct Table {
    name: String,
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

/// The keyrings that both programs know.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Keyring {
    /// An AES key, in a file or an environment variable.
    RawAes {
        /// Provider id of its encrypted data keys.
        namespace: String,
        /// Name in their provider info.
        name: String,
        /// A file of the bytes of an AES-256 key, or of the Base64 form of any.
        key_file: Option<PathBuf>,
        /// An environment variable with the Base64 form.
        key_env: Option<String>,
    },
    /// An RSA key in PEM: `NAME.private.pem`, with `NAME.public.pem` beside it.
    RawRsa {
        /// Provider id of its encrypted data keys.
        namespace: String,
        /// Their provider info.
        name: String,
        /// How wrapped keys are padded.
        padding: Padding,
        /// The file of the private key.
        key_file: PathBuf,
    },
    /// A symmetric KMS key.
    AwsKms(KmsKey),
    /// A symmetric KMS key, compared as multi-Region keys are.
    AwsKmsMrk(KmsKey),
    /// An RSA key of KMS.
    AwsKmsRsa {
        /// The key.
        #[serde(flatten)]
        key: KmsKey,
        /// How wrapped keys are padded.
        padding: Padding,
        /// The file of the public key, in PEM; KMS is asked if absent.
        public_key_file: Option<PathBuf>,
    },
    /// Several keyrings as one.
    Multi {
        /// The one that makes the data key; the first of the children if absent.
        generator: Option<Box<Keyring>>,
        /// The others.
        #[serde(default)]
        children: Vec<Keyring>,
    },
}

/// A KMS key, and how it is reached.
#[derive(Deserialize)]
pub struct KmsKey {
    /// Its key ARN.
    pub key_arn: String,
    /// Region of the requests; the ARN's own if absent.
    pub region: Option<String>,
    /// Profile of the AWS configuration files.
    pub profile: Option<String>,
}

/// The paddings of RSA.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
pub enum Padding {
    /// PKCS #1 v1.5.
    Pkcs1,
    /// OAEP with SHA-1.
    OaepSha1,
    /// OAEP with SHA-256.
    OaepSha256,
    /// OAEP with SHA-384.
    OaepSha384,
    /// OAEP with SHA-512.
    OaepSha512,
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

    /// The algorithm suite in the official library's type.
    #[must_use]
    pub fn suite(&self) -> DbeAlgorithmSuiteId {
        match self.target.suite {
            Suite::Ecdsa => DbeAlgorithmSuiteId::AlgAes256GcmHkdfSha512CommitKeyEcdsaP384SymsigHmacSha384,
            Suite::Hmac => DbeAlgorithmSuiteId::AlgAes256GcmHkdfSha512CommitKeySymsigHmacSha384,
        }
    }

    /// The AES key of a raw keyring.
    ///
    /// # Errors
    /// When neither or both places are named, or what lies there is not a key.
    pub fn aes_key(&self, file: Option<&Path>, variable: Option<&str>) -> Result<Vec<u8>, Failure> {
        let (place, bytes) = match (file, variable) {
            (Some(file), None) => {
                let path = self.directory.join(file);
                (path.display().to_string(), std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?)
            }
            (None, Some(name)) => {
                (name.to_owned(), std::env::var(name).map_err(|e| format!("{name}: {e}"))?.into_bytes())
            }
            _ => return Err("a raw-aes keyring has either key_file or key_env".into()),
        };
        if file.is_some() && bytes.len() == 32 {
            return Ok(bytes);
        }
        Ok(BASE64.decode(bytes.trim_ascii()).map_err(|_| format!("{place}: not a key in Base64"))?)
    }

    /// The content of a file that the job names.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn file(&self, file: &Path) -> Result<Vec<u8>, Failure> {
        let path = self.directory.join(file);
        Ok(std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?)
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
