//! An RSA key in memory, as the raw RSA keyring of AWS's libraries uses one (AWS Material Providers Library
//! specification, `raw-rsa-keyring.md`). RSA binds no encryption context; that the data key is wrapped under it does.

use async_trait::async_trait;

use super::super::{Keyring, KeyringCall, KeyringClass, KeyringError, WrappedKey, WrappedRef};
use super::{RawKeyError, Recipient, Wanted, wanted};
use crate::crypto::{EncryptionContext, RsaKey, RsaPadding, Secret};

/// Wraps keys for an RSA key that this process holds. Works offline. With a public key alone it unwraps nothing.
#[derive(Debug)]
pub struct RawRsa {
    recipients: [Wanted; 1],
    key: RsaKey,
}

impl RawRsa {
    /// A keyring for the RSA key in PEM that readers know under this namespace and name: a private one, or a public one
    /// that only wraps. The caller wipes its own copy of the key.
    ///
    /// # Errors
    /// [`RawKeyError`] when the namespace is reserved, a name too long, or there is no RSA key that will do.
    pub fn new(namespace: &str, name: &str, pem: &[u8], padding: RsaPadding) -> Result<Self, RawKeyError> {
        Ok(Self { recipients: [wanted(namespace, name)?], key: RsaKey::from_pem(pem, padding)? })
    }

    /// Whether the key is a private one.
    #[must_use]
    pub const fn unwraps(&self) -> bool {
        self.key.decrypts()
    }

    fn recipient(&self) -> &Recipient {
        let [wanted] = &self.recipients;
        &wanted.recipient
    }

    fn failed(&self, problem: &str) -> KeyringError {
        KeyringError { class: KeyringClass::Item, key: self.recipient().to_string(), problem: problem.to_owned() }
    }
}

#[async_trait]
impl Keyring for RawRsa {
    fn recipients(&self) -> &[Wanted] {
        &self.recipients
    }

    fn accepts(&self, found: WrappedRef<'_>) -> bool {
        let Recipient { provider, key } = self.recipient();
        self.unwraps() && found.provider_id == provider && found.provider_info == key.as_bytes()
    }

    fn requests(&self, _: KeyringCall) -> u32 {
        0
    }

    async fn generate(&self, _: &EncryptionContext) -> Result<Vec<WrappedKey>, KeyringError> {
        let key = Secret::random();
        let ciphertext = self.key.encrypt(key.expose()).map_err(|_| self.failed("the RSA key wraps no 32-byte key"))?;
        let Recipient { provider, key: name } = self.recipient().clone();
        Ok(vec![WrappedKey { provider_id: provider, provider_info: name.into_bytes(), ciphertext, key }])
    }

    async fn unwrap(&self, found: WrappedRef<'_>, _: &EncryptionContext) -> Result<Secret, KeyringError> {
        let text = self.key.decrypt(found.ciphertext).ok();
        // One sentence for whatever is wrong: more would tell of the padding.
        text.as_deref().and_then(|text| Secret::from_slice(text)).ok_or_else(|| {
            self.failed(
                "the item's key does not unwrap: another key under the same name, another padding, or a changed item",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const PRIVATE: &[u8] = include_bytes!("../../../tests/fixtures/rsa2048-for-tests-only.private.pem");
    const PUBLIC: &[u8] = include_bytes!("../../../tests/fixtures/rsa2048-for-tests-only.public.pem");

    fn keyring(pem: &[u8], padding: RsaPadding) -> RawRsa {
        RawRsa::new("acme", "r1", pem, padding).unwrap()
    }

    fn generate(keyring: &RawRsa) -> WrappedKey {
        keyring.generate(&EncryptionContext::default()).now_or_never().unwrap().unwrap().remove(0)
    }

    fn unwrap(keyring: &RawRsa, found: WrappedRef<'_>) -> Result<Secret, KeyringError> {
        keyring.unwrap(found, &EncryptionContext::default()).now_or_never().unwrap()
    }

    #[test]
    fn the_public_key_wraps_and_the_private_one_does_both() {
        for padding in RsaPadding::ALL {
            let (public, private) = (keyring(PUBLIC, padding), keyring(PRIVATE, padding));
            for made in [generate(&public), generate(&private)] {
                assert_eq!((made.provider_id.as_str(), made.provider_info.as_slice()), ("acme", b"r1".as_slice()));
                assert!(private.accepts(made.wrapped()) && !public.accepts(made.wrapped()));
                assert_eq!(unwrap(&private, made.wrapped()).unwrap(), made.key);
                assert_eq!(unwrap(&public, made.wrapped()).unwrap_err().class, KeyringClass::Item);
            }
            assert_ne!(generate(&public).key, generate(&public).key);
        }
    }

    #[test]
    fn whatever_does_not_unwrap_is_told_alike() {
        let private = keyring(PRIVATE, RsaPadding::Pkcs1);
        let made = generate(&private);
        let (mut damaged, short) = (made.ciphertext.clone(), private.key.encrypt(&[1; 31]).unwrap());
        damaged[200] ^= 1;
        let failures = [&damaged, &short, &vec![0; 256], &Vec::new()].map(|ciphertext| {
            let error = unwrap(&private, WrappedRef { ciphertext, ..made.wrapped() }).unwrap_err();
            assert_eq!(error.class, KeyringClass::Item);
            error.to_string()
        });
        assert!(failures.iter().all(|failure| *failure == failures[0]), "{failures:?}");
        let renamed = WrappedRef { provider_info: b"r2", ..made.wrapped() };
        assert!(!private.accepts(renamed));
    }

    #[test]
    fn no_such_keyring() {
        let refused = |namespace, pem| RawRsa::new(namespace, "r", pem, RsaPadding::Pkcs1).err();
        assert_eq!(refused("aws-kms", PUBLIC), Some(RawKeyError::ReservedNamespace));
        assert!(matches!(refused("acme", b"".as_slice()), Some(RawKeyError::Rsa(_))));
    }
}
