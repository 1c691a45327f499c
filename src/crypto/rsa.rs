//! RSA encryption of short texts (RFC 8017, section 7), with keys in PEM.

use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512, OaepAlgorithm,
    OaepPrivateDecryptingKey, OaepPublicEncryptingKey, Pkcs1PrivateDecryptingKey, Pkcs1PublicEncryptingKey,
    PrivateDecryptingKey, PublicEncryptingKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use super::aead::Rejected;

/// Labels of the PEM blocks that are read (RFC 7468, sections 10 and 13).
const PRIVATE_KEY: &str = "PRIVATE KEY";
const PUBLIC_KEY: &str = "PUBLIC KEY";

/// How a text is padded before it is encrypted. MGF1 has the hash of OAEP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RsaPadding {
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

impl RsaPadding {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pkcs1, Self::OaepSha1, Self::OaepSha256, Self::OaepSha384, Self::OaepSha512];

    /// The name in job files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pkcs1 => "pkcs1",
            Self::OaepSha1 => "oaep-sha1",
            Self::OaepSha256 => "oaep-sha256",
            Self::OaepSha384 => "oaep-sha384",
            Self::OaepSha512 => "oaep-sha512",
        }
    }

    /// The hash of OAEP.
    const fn oaep(self) -> Option<&'static OaepAlgorithm> {
        match self {
            Self::Pkcs1 => None,
            Self::OaepSha1 => Some(&OAEP_SHA1_MGF1SHA1),
            Self::OaepSha256 => Some(&OAEP_SHA256_MGF1SHA256),
            Self::OaepSha384 => Some(&OAEP_SHA384_MGF1SHA384),
            Self::OaepSha512 => Some(&OAEP_SHA512_MGF1SHA512),
        }
    }
}

/// Why there is no such RSA key. Never says what the text holds, but for the label of a PEM block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RsaKeyError {
    /// No PEM block.
    #[error("it is not PEM; an RSA key begins with -----BEGIN PUBLIC KEY----- or -----BEGIN PRIVATE KEY-----")]
    NotPem,
    /// A PEM block of another kind.
    #[error("it is {found}; {remedy}")]
    Kind {
        /// What it is.
        found: &'static str,
        /// How to make of it what is needed.
        remedy: &'static str,
    },
    /// A PEM block of a right kind that holds no RSA key.
    #[error("its PEM block holds no RSA key: it is damaged, or the key is one for another algorithm; name an RSA key")]
    NotRsa,
    /// Too small to be safe, and with some paddings to hold a wrapped key.
    #[error("the RSA key has fewer than 2048 bits; make one of 3072, and wrap with that")]
    TooSmall,
    /// Larger than the library takes.
    #[error("the RSA key has more than 8192 bits; make one of 3072 or 4096, and wrap with that")]
    TooLarge,
}

impl From<KeyRejected> for RsaKeyError {
    fn from(rejected: KeyRejected) -> Self {
        match rejected.description_() {
            "TooSmall" => Self::TooSmall,
            "TooLarge" => Self::TooLarge,
            _ => Self::NotRsa,
        }
    }
}

/// An RSA key for one padding: one that encrypts, or one that decrypts as well.
pub struct RsaKey {
    public: PublicKey,
    private: Option<PrivateKey>,
}

enum PublicKey {
    Pkcs1(Pkcs1PublicEncryptingKey),
    Oaep(OaepPublicEncryptingKey, &'static OaepAlgorithm),
}

enum PrivateKey {
    Pkcs1(Pkcs1PrivateDecryptingKey),
    Oaep(OaepPrivateDecryptingKey, &'static OaepAlgorithm),
}

impl RsaKey {
    /// Reads the first block of a PEM text: a public key (`SubjectPublicKeyInfo`) or a private one (PKCS #8, not
    /// encrypted), which holds the public one as well.
    ///
    /// # Errors
    /// [`RsaKeyError`] saying what the text is instead.
    pub fn from_pem(pem: &[u8], padding: RsaPadding) -> Result<Self, RsaKeyError> {
        let (label, body) = block(pem).ok_or(RsaKeyError::NotPem)?;
        match label {
            PUBLIC_KEY => Self::from_public_der(&decoded(body)?, padding),
            PRIVATE_KEY => {
                let private = PrivateDecryptingKey::from_pkcs8(&decoded(body)?)?;
                let public = public(private.public_key(), padding)?;
                let private = match padding.oaep() {
                    None => Pkcs1PrivateDecryptingKey::new(private).map(PrivateKey::Pkcs1),
                    Some(oaep) => OaepPrivateDecryptingKey::new(private).map(|key| PrivateKey::Oaep(key, oaep)),
                };
                Ok(Self { public, private: Some(private.map_err(|_| RsaKeyError::NotRsa)?) })
            }
            label => Err(other_kind(label)),
        }
    }

    /// A public key in DER (`SubjectPublicKeyInfo`), as KMS gives it.
    ///
    /// # Errors
    /// [`RsaKeyError`] when it is no RSA key, or of a size that will not do.
    pub fn from_public_der(der: &[u8], padding: RsaPadding) -> Result<Self, RsaKeyError> {
        Ok(Self { public: public(PublicEncryptingKey::from_der(der)?, padding)?, private: None })
    }

    /// Whether it can decrypt.
    #[must_use]
    pub const fn decrypts(&self) -> bool {
        self.private.is_some()
    }

    /// Encrypts a text. `Rejected` when it is longer than the key can hold; 80 bytes are not, whatever the padding.
    pub(crate) fn encrypt(&self, text: &[u8]) -> Result<Vec<u8>, Rejected> {
        let size = match &self.public {
            PublicKey::Pkcs1(key) => key.ciphertext_size(),
            PublicKey::Oaep(key, _) => key.ciphertext_size(),
        };
        let mut out = vec![0; size];
        let written = match &self.public {
            PublicKey::Pkcs1(key) => key.encrypt(text, &mut out),
            PublicKey::Oaep(key, oaep) => key.encrypt(oaep, text, &mut out, None),
        };
        let written = written.map_err(|_| Rejected)?.len();
        out.truncate(written);
        Ok(out)
    }

    /// Decrypts what was encrypted for the key. `Rejected` does not say why, for that would tell of the padding; it also
    /// is what a key that only encrypts answers.
    pub(crate) fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Rejected> {
        let private = self.private.as_ref().ok_or(Rejected)?;
        let size = match private {
            PrivateKey::Pkcs1(key) => key.min_output_size(),
            PrivateKey::Oaep(key, _) => key.min_output_size(),
        };
        let mut text = Zeroizing::new(vec![0; size]);
        let written = match private {
            PrivateKey::Pkcs1(key) => key.decrypt(ciphertext, &mut text),
            PrivateKey::Oaep(key, oaep) => key.decrypt(oaep, ciphertext, &mut text, None),
        };
        let written = written.map_err(|_| Rejected)?.len();
        text.truncate(written);
        Ok(text)
    }
}

/// Whether it decrypts, and nothing of the key.
impl std::fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RsaKey").field("decrypts", &self.decrypts()).finish_non_exhaustive()
    }
}

fn public(key: PublicEncryptingKey, padding: RsaPadding) -> Result<PublicKey, RsaKeyError> {
    let key = match padding.oaep() {
        None => Pkcs1PublicEncryptingKey::new(key).map(PublicKey::Pkcs1),
        Some(oaep) => OaepPublicEncryptingKey::new(key).map(|key| PublicKey::Oaep(key, oaep)),
    };
    key.map_err(|_| RsaKeyError::NotRsa)
}

/// Label and Base64 of the first block of a PEM text.
fn block(pem: &[u8]) -> Option<(&str, &str)> {
    let (_, rest) = std::str::from_utf8(pem).ok()?.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, rest) = rest.split_once("-----END ")?;
    rest.strip_prefix(label)?.strip_prefix("-----")?;
    Some((label, body))
}

fn decoded(body: &str) -> Result<Zeroizing<Vec<u8>>, RsaKeyError> {
    let mut text = Zeroizing::new(Vec::with_capacity(body.len()));
    text.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    BASE64.decode(text.as_slice()).map(Zeroizing::new).map_err(|_| RsaKeyError::NotRsa)
}

fn other_kind(label: &str) -> RsaKeyError {
    let (found, remedy) = match label {
        "RSA PRIVATE KEY" => {
            ("an RSA key in PKCS #1 form", "`openssl pkcs8 -topk8 -nocrypt -in FILE` prints it as PKCS #8")
        }
        "RSA PUBLIC KEY" => (
            "a public RSA key in PKCS #1 form",
            "`openssl rsa -RSAPublicKey_in -in FILE -pubout` prints the form needed",
        ),
        "ENCRYPTED PRIVATE KEY" => {
            ("an encrypted private key", "`openssl pkcs8 -in FILE` prints it without a password")
        }
        "CERTIFICATE" => ("a certificate", "`openssl x509 -in FILE -noout -pubkey` prints its public key"),
        "EC PRIVATE KEY" | "EC PARAMETERS" => ("a key of an elliptic curve", "name an RSA key"),
        "OPENSSH PRIVATE KEY" => (
            "a private key of OpenSSH",
            "`ssh-keygen -p -N '' -m PKCS8 -f COPY` turns a copy of an RSA one into PKCS #8",
        ),
        _ => ("a PEM block of another kind", "name a file with PUBLIC KEY or PRIVATE KEY in its first line"),
    };
    RsaKeyError::Kind { found, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE: &[u8] = include_bytes!("../../tests/fixtures/rsa2048-for-tests-only.private.pem");
    const PUBLIC: &[u8] = include_bytes!("../../tests/fixtures/rsa2048-for-tests-only.public.pem");
    const OTHER: &[u8] = include_bytes!("../../tests/fixtures/rsa3072-for-tests-only.private.pem");
    const SMALL: &[u8] = include_bytes!("../../tests/fixtures/rsa1024-for-tests-only.public.pem");
    const CURVE: &[u8] = include_bytes!("../../tests/fixtures/p256-for-tests-only.public.pem");

    #[test]
    fn there_and_back_with_each_padding_and_no_other() {
        // What the KMS RSA keyring wraps is the longest.
        let text = [7; 80];
        for padding in RsaPadding::ALL {
            let public = RsaKey::from_pem(PUBLIC, padding).unwrap();
            let ciphertext = public.encrypt(&text).unwrap();
            assert_eq!(ciphertext.len(), 256);
            assert!(!public.decrypts() && public.decrypt(&ciphertext).is_err());
            for opening in RsaPadding::ALL {
                let opened = RsaKey::from_pem(PRIVATE, opening).unwrap().decrypt(&ciphertext);
                assert_eq!(opened.is_ok_and(|opened| *opened == text), opening == padding, "{padding:?} {opening:?}");
            }
            let private = RsaKey::from_pem(PRIVATE, padding).unwrap();
            assert!(private.decrypts());
            assert_eq!(*private.decrypt(&private.encrypt(&text).unwrap()).unwrap(), text);
            assert_eq!(private.decrypt(&ciphertext[1..]).err(), Some(Rejected));
            assert_eq!(RsaKey::from_pem(OTHER, padding).unwrap().decrypt(&ciphertext).err(), Some(Rejected));
            assert_eq!(private.encrypt(&[0; 256]).err(), Some(Rejected));
        }
    }

    #[test]
    fn what_is_no_such_key() {
        let read = |pem: &[u8]| RsaKey::from_pem(pem, RsaPadding::OaepSha256).err();
        assert_eq!(read(SMALL), Some(RsaKeyError::TooSmall));
        assert_eq!(read(CURVE), Some(RsaKeyError::NotRsa));
        assert_eq!(read(b"0123"), Some(RsaKeyError::NotPem));
        assert_eq!(read(&[0xff; 32]), Some(RsaKeyError::NotPem));
        let text = std::str::from_utf8(PRIVATE).unwrap();
        assert_eq!(read(text.replace("MII", "MI").as_bytes()), Some(RsaKeyError::NotRsa));
        assert_eq!(read(text.split_once("-----END").unwrap().0.as_bytes()), Some(RsaKeyError::NotPem));
        assert_eq!(read(text.replace("PRIVATE", "PUBLIC").as_bytes()), Some(RsaKeyError::NotRsa));
        for (label, said) in [
            ("RSA PRIVATE KEY", "it is an RSA key in PKCS #1 form; `openssl pkcs8 -topk8 -nocrypt"),
            ("CERTIFICATE", "it is a certificate; `openssl x509"),
            ("ENCRYPTED PRIVATE KEY", "it is an encrypted private key; "),
            ("SOMETHING", "it is a PEM block of another kind; "),
        ] {
            let refused = read(text.replace("PRIVATE KEY", label).as_bytes()).unwrap().to_string();
            assert!(refused.starts_with(said), "{refused}");
        }
        // Text around the block, and line ends of another system.
        assert!(
            RsaKey::from_pem(format!("key:\n{text}\n").replace('\n', "\r\n").as_bytes(), RsaPadding::Pkcs1).is_ok()
        );
    }
}
