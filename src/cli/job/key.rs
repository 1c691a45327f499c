//! Where a raw key is, and the key itself.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use crate::aws::{Access, AwsConfig, AwsConfigError};
use crate::keyring::{SecretError, SecretValue, read_secret};

/// Where a raw key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file: of the bytes of an AES key or of their Base64 form, or in PEM.
    File(PathBuf),
    /// An environment variable: the Base64 form of an AES key, or PEM.
    Env(String),
    /// A secret of AWS Secrets Manager: the bytes of an AES key, as text their Base64 form, or PEM.
    Secret {
        /// The secret's name or ARN.
        id: String,
        /// How it is reached.
        access: Access,
    },
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
    /// The secret cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// There is no AWS configuration to read the secret with.
    #[error(transparent)]
    Config(#[from] AwsConfigError),
    /// Neither the bytes of an AES key nor their Base64 form.
    #[error("{0}: not an AES key: one has 16, 24 or 32 bytes")]
    NotAKey(String),
    /// Both the bytes of an AES key of 24 bytes and the Base64 form of one of 16.
    #[error("{0}: can be read as a key of 24 bytes, and as the Base64 form of one of 16")]
    Ambiguous(String),
}

impl KeySourceError {
    /// What to do about it, where the error does not say so itself.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::File { .. } => {
                Some("a relative key_file is looked up from the job file's folder; check path and permissions")
            }
            Self::Env(_) => Some("export it with the key in Base64, or an RSA key in PEM"),
            Self::NotAKey(_) => Some(
                "a key file or binary secret holds the bytes; a variable or text secret, and a key file as well, their \
                 Base64 (24, 32 or 44 characters, standard alphabet)",
            ),
            Self::Ambiguous(_) => {
                Some("if it is Base64, end the file with a line break; if not, write the Base64 form of the bytes")
            }
            Self::Secret(_) | Self::Config(_) => None,
        }
    }
}

/// What was found, and how it may be read.
struct Found {
    content: Zeroizing<Vec<u8>>,
    /// Whether it may be the key's bytes.
    bytes: bool,
    /// Whether it may be their Base64 form.
    text: bool,
}

impl KeySource {
    /// Reads an AES key.
    ///
    /// # Errors
    /// [`KeySourceError`] when there is none, or it is none.
    pub async fn aes(&self) -> Result<Zeroizing<Vec<u8>>, KeySourceError> {
        let Found { content, bytes, text } = self.found().await?;
        let is_key = |key: &Zeroizing<Vec<u8>>| matches!(key.len(), 16 | 24 | 32);
        let decoded = BASE64.decode(content.trim_ascii()).ok().filter(|_| text).map(Zeroizing::new).filter(is_key);
        let raw = Some(content).filter(|content| bytes && is_key(content));
        match (raw, decoded) {
            // 32 bytes are a key, whatever they look like: few have keys of 24 bytes, many one of 32 letters.
            (Some(raw), Some(_)) if raw.len() != 32 => Err(KeySourceError::Ambiguous(self.to_string())),
            (Some(key), _) | (None, Some(key)) => Ok(key),
            (None, None) => Err(KeySourceError::NotAKey(self.to_string())),
        }
    }

    /// Reads what is to be PEM.
    ///
    /// # Errors
    /// [`KeySourceError`] when there is nothing.
    pub async fn pem(&self) -> Result<Zeroizing<Vec<u8>>, KeySourceError> {
        Ok(self.found().await?.content)
    }

    async fn found(&self) -> Result<Found, KeySourceError> {
        let (content, bytes, text) = match self {
            Self::File(path) => {
                let content = fs::read(path).map_err(|source| KeySourceError::File { path: path.clone(), source })?;
                (Zeroizing::new(content), true, true)
            }
            Self::Env(name) => {
                let content = std::env::var(name).map_err(|_| KeySourceError::Env(name.clone()))?;
                (Zeroizing::new(content.into_bytes()), false, true)
            }
            Self::Secret { id, access } => match read_secret(&AwsConfig::load(access).await?, id).await? {
                SecretValue::Binary(content) => (content, true, false),
                SecretValue::Text(content) => (Zeroizing::new(content.as_bytes().to_vec()), false, true),
            },
        };
        Ok(Found { content, bytes, text })
    }
}

impl std::fmt::Display for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "key file {}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Secret { id, .. } => write!(f, "secret {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn keys_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        let read = |content: &[u8]| {
            fs::write(&path, content).unwrap();
            KeySource::File(path.clone()).aes().now_or_never().unwrap()
        };
        for length in [16, 24, 32] {
            let key: Vec<u8> = (200..).take(length).collect();
            assert_eq!(*read(&key).unwrap(), key);
            let base64 = BASE64.encode(&key);
            assert_eq!(*read(format!(" {base64}\n").as_bytes()).unwrap(), key);
            // Of 24 or 32 characters, it could be a key itself.
            match (length, read(base64.as_bytes())) {
                (16, Err(error)) => assert!(matches!(error, KeySourceError::Ambiguous(_)), "{error}"),
                (24, Ok(found)) => assert_eq!(*found, base64.as_bytes()),
                (32, Ok(found)) => assert_eq!(*found, key),
                (length, _) => panic!("{length} bytes"),
            }
        }
        for content in [b"".as_slice(), b"0123456789abcdef0123456789abcde", b"MDEyMw==", &[0; 31], &[0; 33]] {
            let error = read(content).unwrap_err();
            assert!(matches!(error, KeySourceError::NotAKey(_)), "{error}");
        }
        let error = KeySource::File(folder.path().join("absent")).aes().now_or_never().unwrap().unwrap_err();
        assert!(matches!(error, KeySourceError::File { .. }) && error.remedy().is_some(), "{error}");
    }
}
