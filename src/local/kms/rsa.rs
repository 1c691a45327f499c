//! RSA keys: the private half stays here, the public half goes to whoever asks.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPrivateDecryptingKey,
    OaepPublicEncryptingKey, PrivateDecryptingKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::algorithm::Algorithm;

/// How many bits the modulus has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RsaSize {
    Bits2048,
    Bits3072,
    Bits4096,
}

impl RsaSize {
    const ALL: [Self; 3] = [Self::Bits2048, Self::Bits3072, Self::Bits4096];

    /// The key spec by KMS's name.
    pub(super) const fn spec(self) -> &'static str {
        match self {
            Self::Bits2048 => "RSA_2048",
            Self::Bits3072 => "RSA_3072",
            Self::Bits4096 => "RSA_4096",
        }
    }

    /// The size of a key spec.
    pub(super) fn of_spec(spec: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.spec() == spec)
    }

    const fn bits(self) -> usize {
        match self {
            Self::Bits2048 => 2048,
            Self::Bits3072 => 3072,
            Self::Bits4096 => 4096,
        }
    }
}

/// An RSA key pair for encryption.
#[derive(Debug, Clone)]
pub(super) struct RsaKey {
    private: PrivateDecryptingKey,
    size: RsaSize,
}

impl RsaKey {
    /// A new pair, from the library's own generator: it takes no other.
    pub(super) fn generate(size: RsaSize) -> Result<Self, Unspecified> {
        let private = PrivateDecryptingKey::generate(match size {
            RsaSize::Bits2048 => KeySize::Rsa2048,
            RsaSize::Bits3072 => KeySize::Rsa3072,
            RsaSize::Bits4096 => KeySize::Rsa4096,
        })?;
        Ok(Self { private, size })
    }

    /// The pair in a PKCS#8 document (DER). `None` when it is none, or of a size that KMS does not have.
    pub(super) fn from_pkcs8(document: &[u8]) -> Option<Self> {
        let private = PrivateDecryptingKey::from_pkcs8(document).ok()?;
        let size = RsaSize::ALL.into_iter().find(|size| size.bits() == private.key_size_bits())?;
        Some(Self { private, size })
    }

    /// The pair in a PEM text of a PKCS#8 document, under the same conditions.
    pub(super) fn from_pem(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once("-----BEGIN PRIVATE KEY-----")?;
        let (body, _) = rest.split_once("-----END PRIVATE KEY-----")?;
        let digits: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
        Self::from_pkcs8(&Zeroizing::new(STANDARD.decode(&*digits).ok()?))
    }

    /// The pair as PKCS#8 (DER); wiped when dropped.
    pub(super) fn pkcs8(&self) -> Result<Pkcs8V1Der<'static>, Unspecified> {
        self.private.as_der()
    }

    /// The public key as X.509 `SubjectPublicKeyInfo` (DER).
    pub(super) fn public_key(&self) -> Result<PublicKeyX509Der<'static>, Unspecified> {
        self.private.public_key().as_der()
    }

    pub(super) const fn size(&self) -> RsaSize {
        self.size
    }

    /// The longest plaintext that an algorithm takes, in bytes. `None` for one that RSA keys do not have.
    pub(super) fn most_plaintext(&self, algorithm: Algorithm) -> Option<usize> {
        let public = OaepPublicEncryptingKey::new(self.private.public_key()).ok()?;
        Some(public.max_plaintext_size(oaep(algorithm)?))
    }

    /// The ciphertext, as long as the modulus. `None` when the plaintext is too long.
    pub(super) fn encrypt(&self, algorithm: Algorithm, plaintext: &[u8]) -> Option<Vec<u8>> {
        let public = OaepPublicEncryptingKey::new(self.private.public_key()).ok()?;
        let mut ciphertext = vec![0; public.ciphertext_size()];
        public.encrypt(oaep(algorithm)?, plaintext, &mut ciphertext, None).ok()?;
        Some(ciphertext)
    }

    /// The plaintext. `None` when key, algorithm and ciphertext do not belong together.
    pub(super) fn decrypt(&self, algorithm: Algorithm, ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let private = OaepPrivateDecryptingKey::new(self.private.clone()).ok()?;
        let mut plaintext = Zeroizing::new(vec![0; private.min_output_size()]);
        let length = private.decrypt(oaep(algorithm)?, ciphertext, &mut plaintext, None).ok()?.len();
        plaintext.truncate(length);
        Some(plaintext)
    }
}

const fn oaep(algorithm: Algorithm) -> Option<&'static OaepAlgorithm> {
    match algorithm {
        Algorithm::OaepSha1 => Some(&OAEP_SHA1_MGF1SHA1),
        Algorithm::OaepSha256 => Some(&OAEP_SHA256_MGF1SHA256),
        Algorithm::Symmetric | Algorithm::Sm2 => None,
    }
}
