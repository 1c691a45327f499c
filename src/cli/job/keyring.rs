//! Keyring settings: which key wraps, and where it comes from. Nothing is opened or asked here but the key file.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::{Zeroize as _, Zeroizing};

use super::refusal::{Fault, Refusal};
use super::section::{At, Section};
use crate::aws::Access;
use crate::crypto::{KEY_BYTES, Secret};
use crate::keyring::{KeyArn, Recipient, Wanted};

/// The fields that a keyring of any type may have.
pub(super) const FIELDS: [&str; 9] =
    ["type", "namespace", "name", "key_file", "key_env", "key_arn", "region", "profile", "role_arn"];
const TYPES: [&str; 2] = [RAW_AES, AWS_KMS];
const RAW_AES: &str = "raw-aes";
const AWS_KMS: &str = "aws-kms";

/// A keyring as the job file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyringSettings {
    /// An AES key of 32 bytes at hand.
    RawAes {
        /// The key namespace: provider id of what it wraps.
        namespace: String,
        /// The key name: in the provider information of what it wraps.
        name: String,
        /// Where the key is.
        key: KeySource,
    },
    /// A symmetric KMS key.
    AwsKms {
        /// Its key ARN.
        key_arn: KeyArn,
        /// How it is reached: in the key's Region, with a profile and a role if the job names them.
        access: Access,
    },
}

/// Where a raw key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file of 32 bytes, or of their Base64 form.
    File(PathBuf),
    /// An environment variable with the Base64 form.
    Env(String),
}

/// A raw key that cannot be had. Never says what was found.
#[derive(Debug, thiserror::Error)]
pub enum KeySourceError {
    /// The key file cannot be read.
    #[error("key file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The environment variable is not set.
    #[error("environment variable {0}: not set, or not text")]
    Env(String),
    /// Neither 32 bytes nor the Base64 form of 32 bytes.
    #[error("{0}: not a key of 32 bytes")]
    NotAKey(String),
}

impl KeySourceError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::File { .. } => {
                "a relative key_file is looked up from the job file's folder; check path and permissions"
            }
            Self::Env(_) => "export it with the key in Base64 (44 characters)",
            Self::NotAKey(_) => {
                "a key file holds 32 bytes or their Base64, a variable the Base64 (44 characters, standard alphabet)"
            }
        }
    }
}

impl KeySource {
    /// Reads the key.
    ///
    /// # Errors
    /// [`KeySourceError`] when there is none, or it is not one of 32 bytes.
    pub fn read(&self) -> Result<Secret, KeySourceError> {
        let bytes = Zeroizing::new(match self {
            Self::File(path) => fs::read(path).map_err(|source| KeySourceError::File { path: path.clone(), source })?,
            Self::Env(name) => std::env::var(name).map_err(|_| KeySourceError::Env(name.clone()))?.into_bytes(),
        });
        let raw = match self {
            Self::File(_) => <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok(),
            Self::Env(_) => None,
        };
        let mut key = raw.or_else(|| from_base64(&bytes)).ok_or_else(|| KeySourceError::NotAKey(self.to_string()))?;
        let secret = Secret::new(key);
        key.zeroize();
        Ok(secret)
    }
}

fn from_base64(text: &[u8]) -> Option<[u8; KEY_BYTES]> {
    let bytes = Zeroizing::new(BASE64.decode(text.trim_ascii()).ok()?);
    bytes.as_slice().try_into().ok()
}

impl std::fmt::Display for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "key file {}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
        }
    }
}

impl KeyringSettings {
    /// Who the keyring wraps for: how items name its keys, and how strictly they are compared.
    #[must_use]
    pub fn recipients(&self) -> Vec<Wanted> {
        let recipient = match self {
            Self::RawAes { namespace, name, .. } => Recipient { provider: namespace.clone(), key: name.clone() },
            Self::AwsKms { key_arn, .. } => {
                Recipient { provider: AWS_KMS.to_owned(), key: key_arn.as_str().to_owned() }
            }
        };
        vec![Wanted::exactly(recipient)]
    }

    /// The KMS keys that it names, and how each is reached.
    #[must_use]
    pub fn kms_keys(&self) -> Vec<(&KeyArn, &Access)> {
        match self {
            Self::RawAes { .. } => Vec::new(),
            Self::AwsKms { key_arn, access } => vec![(key_arn, access)],
        }
    }

    /// The keys in words, for the plan's fingerprint and messages.
    #[must_use]
    pub fn in_words(&self) -> String {
        let recipients = self.recipients();
        recipients.iter().map(|wanted| wanted.recipient.to_string()).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn read(section: &Section<'_>, folder: &Path) -> Result<Self, Fault> {
        let kind = section.required_text("type")?;
        let foreign = |fields: &[&str], kind| -> Result<(), Fault> {
            for field in fields {
                if let Some(At { place, .. }) = section.text(field)? {
                    return Err(Fault { place, refusal: Refusal::ForeignField(kind) });
                }
            }
            Ok(())
        };
        match kind.value.as_str() {
            RAW_AES => {
                foreign(&["key_arn", "region", "profile", "role_arn"], RAW_AES)?;
                Self::read_raw_aes(section, folder)
            }
            AWS_KMS => {
                foreign(&["namespace", "name", "key_file", "key_env"], AWS_KMS)?;
                Self::read_aws_kms(section)
            }
            other => Err(Fault { refusal: Refusal::word(other, &TYPES), place: kind.place }),
        }
    }

    fn read_raw_aes(section: &Section<'_>, folder: &Path) -> Result<Self, Fault> {
        let namespace = section.required_text("namespace")?.parse(|namespace| {
            // The official library refuses exactly this one; ours would be taken for KMS's by every reader.
            if namespace.starts_with(AWS_KMS) { Err(Refusal::ReservedNamespace(namespace)) } else { Ok(namespace) }
        })?;
        let key = match (section.text("key_file")?, section.text("key_env")?) {
            (Some(file), None) => KeySource::File(folder.join(file.value)),
            (None, Some(name)) => KeySource::Env(name.value),
            _ => return Err(Fault { place: section.place().clone(), refusal: Refusal::KeySource }),
        };
        Ok(Self::RawAes { namespace: namespace.value, name: section.required_text("name")?.value, key })
    }

    fn read_aws_kms(section: &Section<'_>) -> Result<Self, Fault> {
        let parse = |arn: String| KeyArn::parse(&arn).map_err(Refusal::KeyArn);
        let key_arn = section.required_text("key_arn")?.parse(parse)?.value;
        if let Some(At { value: region, place }) = section.text("region")?
            && region != key_arn.region()
        {
            let of_key = key_arn.region().to_owned();
            return Err(Fault { place, refusal: Refusal::KeyRegion { region, of_key } });
        }
        let optional = |field| Ok(section.text(field)?.map(|text| text.value));
        let region = Some(key_arn.region().to_owned());
        let access = Access { region, profile: optional("profile")?, role_arn: optional("role_arn")? };
        Ok(Self::AwsKms { key_arn, access })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        let key = Secret::new(*b"0123456789abcdef0123456789abcdef");
        let base64 = BASE64.encode(key.expose());
        let line = format!("{base64}\n");
        let cases: [(&[u8], bool); 6] = [
            (key.expose(), true),
            (base64.as_bytes(), true),
            (line.as_bytes(), true),
            (b"0123456789abcdef0123456789abcde", false),
            (b"", false),
            (b"MDEyMw==", false),
        ];
        for (content, fits) in cases {
            fs::write(&path, content).unwrap();
            let read = KeySource::File(path.clone()).read();
            assert_eq!(read.is_ok_and(|found| found == key), fits, "{} bytes", content.len());
        }
        let error = KeySource::File(folder.path().join("absent")).read().unwrap_err();
        assert!(matches!(error, KeySourceError::File { .. }), "{error}");
    }
}
