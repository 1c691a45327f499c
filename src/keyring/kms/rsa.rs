//! An RSA key of AWS KMS (AWS Material Providers Library specification, `aws-kms-rsa-keyring.md`): wraps here, with the
//! public key, and unwraps at KMS.
//!
//! KMS binds no encryption context to what an RSA key encrypts. The context's hash is therefore wrapped with the key, and
//! compared when it is unwrapped.

use async_trait::async_trait;
use aws_sdk_kms::types::EncryptionAlgorithmSpec;
use sha2::{Digest as _, Sha384};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::examine::Kind;
use super::{KeyArn, KeyRefused, Kms, in_any_region};
use crate::aws::AwsConfig;
use crate::crypto::{EncryptionContext, KEY_BYTES, RsaKey, RsaKeyError, RsaPadding, Secret};
use crate::keyring::{Keyring, KeyringCall, KeyringClass, KeyringError, Recipient, Wanted, WrappedKey, WrappedRef};

/// The key provider id of every key that was wrapped for an RSA key of KMS.
pub(crate) const PROVIDER_ID: &str = "aws-kms-rsa";
/// Bytes of the context's SHA-384, which the key follows.
const DIGEST_BYTES: usize = 48;
/// The entry that every encryption context of the suite with ECDSA has.
const ECDSA_KEY: &str = "aws-crypto-public-key";

/// The paddings that KMS has for RSA keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KmsRsaPadding {
    /// `RSAES_OAEP_SHA_1`.
    OaepSha1,
    /// `RSAES_OAEP_SHA_256`.
    OaepSha256,
}

impl KmsRsaPadding {
    /// Both.
    pub const ALL: [Self; 2] = [Self::OaepSha1, Self::OaepSha256];

    /// The name in job files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.padding().name()
    }

    const fn padding(self) -> RsaPadding {
        match self {
            Self::OaepSha1 => RsaPadding::OaepSha1,
            Self::OaepSha256 => RsaPadding::OaepSha256,
        }
    }

    pub(super) const fn algorithm(self) -> EncryptionAlgorithmSpec {
        match self {
            Self::OaepSha1 => EncryptionAlgorithmSpec::RsaesOaepSha1,
            Self::OaepSha256 => EncryptionAlgorithmSpec::RsaesOaepSha256,
        }
    }
}

/// A keyring over one RSA key of KMS. Items are of the suite without ECDSA.
#[derive(Debug)]
pub struct KmsRsa {
    kms: Kms,
    key: KeyArn,
    padding: KmsRsaPadding,
    public: Option<RsaKey>,
    recipients: [Wanted; 1],
}

impl KmsRsa {
    /// A keyring over the key, with a client of its own, that only unwraps for now. Sends nothing.
    ///
    /// # Errors
    /// [`KeyRefused::Region`] when the configuration is for another Region than the key's.
    pub fn new(config: &AwsConfig, key: KeyArn, padding: KmsRsaPadding) -> Result<Self, KeyRefused> {
        let recipients = [in_any_region(PROVIDER_ID, &key)];
        Ok(Self { kms: Kms::of(config, &key)?, key, padding, public: None, recipients })
    }

    /// Asks KMS whether the key can be used for items: enabled, the caller's own, RSA, for encryption.
    ///
    /// # Errors
    /// [`KeyRefused`] with the reason and the remedy.
    pub async fn examine(&self) -> Result<(), KeyRefused> {
        self.kms.examine(self.key.as_str(), Kind::Rsa).await
    }

    /// Gets the public key from KMS: from now on the keyring wraps.
    ///
    /// # Errors
    /// [`KeyRefused`] when there is none to be had, or it will not do.
    pub async fn fetch_public_key(&mut self) -> Result<(), KeyRefused> {
        let der = self.kms.public_key(self.key.as_str()).await?;
        self.public = Some(self.public(RsaKey::from_public_der(&der, self.padding.padding()))?);
        Ok(())
    }

    /// Takes the public key from a PEM text: from now on the keyring wraps. Nobody says yet that it is the key's.
    ///
    /// # Errors
    /// [`KeyRefused::PublicKey`] when there is no RSA key in it that will do.
    pub fn set_public_key(&mut self, pem: &[u8]) -> Result<(), KeyRefused> {
        self.public = Some(self.public(RsaKey::from_pem(pem, self.padding.padding()))?);
        Ok(())
    }

    /// Demands that KMS unwraps what this keyring wraps: with a public key of somewhere else, items would be sealed that
    /// nobody can open.
    ///
    /// # Errors
    /// [`KeyRefused::AnotherPublicKey`] when it does not, and [`KeyRefused::Service`] when KMS does not answer.
    pub async fn prove_public_key(&self) -> Result<(), KeyRefused> {
        let context = EncryptionContext::default();
        for made in self.generate(&context).await? {
            match self.unwrap(made.wrapped(), &context).await {
                Ok(key) if key == made.key => {}
                Err(error) if error.class != KeyringClass::Item => return Err(error.into()),
                _ => return Err(KeyRefused::AnotherPublicKey { key: self.key.as_str().to_owned() }),
            }
        }
        Ok(())
    }

    fn public(&self, key: Result<RsaKey, RsaKeyError>) -> Result<RsaKey, KeyRefused> {
        key.map_err(|problem| KeyRefused::PublicKey { key: self.key.as_str().to_owned(), problem })
    }

    fn failed(&self, class: KeyringClass, problem: &str) -> KeyringError {
        KeyringError { class, key: self.key.as_str().to_owned(), problem: problem.to_owned() }
    }

    /// What is wrapped before the key: the hash of the context.
    fn digest(&self, context: &EncryptionContext) -> Result<[u8; DIGEST_BYTES], KeyringError> {
        let item = |problem| self.failed(KeyringClass::Item, problem);
        if context.get(ECDSA_KEY).is_some() {
            return Err(item(
                "an aws-kms-rsa keyring has no items of the suite with ECDSA; use another keyring for them",
            ));
        }
        let aad = context.serialize();
        let aad = aad.ok_or_else(|| item("the encryption context is too long; include fewer attributes"))?;
        Ok(Sha384::digest(aad).into())
    }
}

#[async_trait]
impl Keyring for KmsRsa {
    fn recipients(&self) -> &[Wanted] {
        &self.recipients
    }

    fn accepts(&self, found: WrappedRef<'_>) -> bool {
        let [wanted] = &self.recipients;
        wanted.accepts(found)
    }

    fn requests(&self, call: KeyringCall) -> u32 {
        u32::from(call == KeyringCall::Unwrap)
    }

    async fn generate(&self, context: &EncryptionContext) -> Result<Vec<WrappedKey>, KeyringError> {
        let no_key = || self.failed(KeyringClass::Key, "the keyring has no public key to wrap with; let it have one");
        let (public, key) = (self.public.as_ref().ok_or_else(no_key)?, Secret::random());
        let mut text = Zeroizing::new([0; DIGEST_BYTES + KEY_BYTES]);
        let (digest, secret) = text.split_at_mut(DIGEST_BYTES);
        digest.copy_from_slice(&self.digest(context)?);
        secret.copy_from_slice(key.expose());
        let ciphertext = public.encrypt(text.as_slice());
        let ciphertext =
            ciphertext.map_err(|_| self.failed(KeyringClass::Key, "the RSA key is too small; use one of 3072 bits"))?;
        let [Wanted { recipient: Recipient { provider, key: arn }, .. }] = self.recipients.clone();
        Ok(vec![WrappedKey { provider_id: provider, provider_info: arn.into_bytes(), ciphertext, key }])
    }

    async fn unwrap(&self, found: WrappedRef<'_>, context: &EncryptionContext) -> Result<Secret, KeyringError> {
        let expected = self.digest(context)?;
        let text = self.kms.decrypt_rsa(self.key.as_str(), found.ciphertext, self.padding.algorithm()).await?;
        let foreign = || {
            let problem = "the wrapped key belongs to other attributes of the encryption context";
            self.failed(KeyringClass::Item, problem)
        };
        let (digest, key) = text.split_at_checked(DIGEST_BYTES).ok_or_else(foreign)?;
        if !bool::from(digest.ct_eq(&expected)) {
            return Err(foreign());
        }
        Secret::from_slice(key).ok_or_else(foreign)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234abcd";
    const PRIVATE: &[u8] = include_bytes!("../../../tests/fixtures/rsa2048-for-tests-only.private.pem");
    const PUBLIC: &[u8] = include_bytes!("../../../tests/fixtures/rsa2048-for-tests-only.public.pem");

    fn keyring(padding: KmsRsaPadding) -> KmsRsa {
        let config = AwsConfig::stand_in("http://127.0.0.1:1", "eu-central-1").unwrap();
        KmsRsa::new(&config, KeyArn::parse(ARN).unwrap(), padding).unwrap()
    }

    fn context(key: &str) -> EncryptionContext {
        [(key.to_owned(), "v".to_owned())].into_iter().collect()
    }

    #[test]
    fn wraps_the_contexts_hash_and_the_key() {
        for padding in KmsRsaPadding::ALL {
            let mut keyring = keyring(padding);
            let none = keyring.generate(&context("k")).now_or_never().unwrap().unwrap_err();
            assert_eq!(none.class, KeyringClass::Key);
            keyring.set_public_key(PUBLIC).unwrap();
            let made = keyring.generate(&context("k")).now_or_never().unwrap().unwrap().remove(0);
            assert_eq!((made.provider_id.as_str(), made.provider_info.as_slice()), (PROVIDER_ID, ARN.as_bytes()));
            let text = RsaKey::from_pem(PRIVATE, padding.padding()).unwrap().decrypt(&made.ciphertext).unwrap();
            let digest = Sha384::digest(b"\0\x01\0\x01k\0\x01v");
            assert_eq!(*text, [digest.as_slice(), made.key.expose()].concat());
            assert!(keyring.accepts(made.wrapped()));
            let abroad = ARN.replace("eu-central-1", "us-east-1");
            assert!(keyring.accepts(WrappedRef { provider_info: abroad.as_bytes(), ..made.wrapped() }));
            assert!(!keyring.accepts(WrappedRef { provider_id: "aws-kms", ..made.wrapped() }));
            assert_eq!(keyring.requests(KeyringCall::Generate), 0);
            assert_eq!(keyring.requests(KeyringCall::Unwrap), 1);
        }
    }

    #[test]
    fn no_items_with_ecdsa() {
        let mut keyring = keyring(KmsRsaPadding::OaepSha256);
        keyring.set_public_key(PUBLIC).unwrap();
        let found = WrappedRef { provider_id: PROVIDER_ID, provider_info: ARN.as_bytes(), ciphertext: &[0; 256] };
        let signed = context(ECDSA_KEY);
        // Neither asks anybody: there is nobody.
        let wrapped = keyring.generate(&signed).now_or_never().unwrap().unwrap_err();
        let unwrapped = keyring.unwrap(found, &signed).now_or_never().unwrap().unwrap_err();
        for error in [wrapped, unwrapped] {
            assert_eq!(error.class, KeyringClass::Item);
            assert!(error.problem.contains("suite with ECDSA; use another keyring"), "{error}");
        }
    }

    #[test]
    fn public_keys_that_will_not_do() {
        let refused = keyring(KmsRsaPadding::OaepSha1).set_public_key(b"-----").unwrap_err().to_string();
        assert!(refused.starts_with(&format!("the public key of {ARN}: it is not PEM; ")), "{refused}");
    }
}
