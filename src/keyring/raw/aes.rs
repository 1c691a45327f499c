//! An AES key in memory, as the raw AES keyring of AWS's libraries uses one (AWS Material Providers Library
//! specification, `raw-aes-keyring.md`).

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::super::{Keyring, KeyringCall, KeyringClass, KeyringError, WrappedKey, WrappedRef};
use super::{RawKeyError, Recipient, Wanted, wanted};
use crate::crypto::{EncryptionContext, KEY_BYTES, Secret, aead};

/// What follows the key's name in the key provider information: the tag's length in bits, the nonce's in bytes; then
/// the nonce itself.
const LENGTHS: [u8; 8] = [0, 0, 0, 128, 0, 0, 0, 12];
/// Bytes of a wrapped key.
const WRAPPED_BYTES: usize = KEY_BYTES + aead::TAG_BYTES;

/// Wraps keys under an AES key that this process holds. Works offline.
pub struct RawAes {
    /// Namespace and name: all that a reader needs to tell whether it has the key.
    recipients: [Wanted; 1],
    key: aead::Key,
}

impl RawAes {
    /// A keyring for the AES key that readers know under this namespace and name. The caller wipes its own copy of the
    /// key.
    ///
    /// # Errors
    /// [`RawKeyError`] when the namespace is reserved, a name too long, or the key of no AES length.
    pub fn new(namespace: &str, name: &str, key: &[u8]) -> Result<Self, RawKeyError> {
        let key = aead::Key::new(key).ok_or(RawKeyError::AesLength(key.len()))?;
        Ok(Self { recipients: [wanted(namespace, name)?], key })
    }

    fn recipient(&self) -> &Recipient {
        let [wanted] = &self.recipients;
        &wanted.recipient
    }

    fn failed(&self, problem: &str) -> KeyringError {
        KeyringError { class: KeyringClass::Item, key: self.recipient().to_string(), problem: problem.to_owned() }
    }

    fn aad(&self, context: &EncryptionContext) -> Result<Vec<u8>, KeyringError> {
        context.serialize().ok_or_else(|| self.failed("the encryption context is too long; include fewer attributes"))
    }

    /// The nonce of a wrapped key that is this keyring's.
    fn nonce(&self, found: WrappedRef<'_>) -> Option<aead::Nonce> {
        let recipient = self.recipient();
        let lengths_and_nonce = found.provider_info.strip_prefix(recipient.key.as_bytes())?;
        let nonce = lengths_and_nonce.strip_prefix(&LENGTHS)?.try_into().ok()?;
        (found.provider_id == recipient.provider && found.ciphertext.len() == WRAPPED_BYTES).then_some(nonce)
    }
}

/// Namespace and name only.
impl std::fmt::Debug for RawAes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RawAes").field(self.recipient()).finish()
    }
}

#[async_trait]
impl Keyring for RawAes {
    fn recipients(&self) -> &[Wanted] {
        &self.recipients
    }

    fn accepts(&self, found: WrappedRef<'_>) -> bool {
        self.nonce(found).is_some()
    }

    fn requests(&self, _: KeyringCall) -> u32 {
        0
    }

    async fn generate(&self, context: &EncryptionContext) -> Result<Vec<WrappedKey>, KeyringError> {
        let aad = self.aad(context)?;
        let (key, nonce): (Secret, aead::Nonce) = (Secret::random(), rand::random());
        let mut ciphertext = Vec::with_capacity(WRAPPED_BYTES);
        self.key.seal(&nonce, &aad, key.expose(), &mut ciphertext);
        let Recipient { provider, key: name } = self.recipient();
        let provider_info = [name.as_bytes(), &LENGTHS, &nonce].concat();
        Ok(vec![WrappedKey { provider_id: provider.clone(), provider_info, ciphertext, key }])
    }

    async fn unwrap(&self, found: WrappedRef<'_>, context: &EncryptionContext) -> Result<Secret, KeyringError> {
        let nonce = self.nonce(found).ok_or_else(|| self.failed("the item's key was wrapped by another key"))?;
        let aad = self.aad(context)?;
        let mut text = Zeroizing::new(found.ciphertext.to_vec());
        self.key.open(&nonce, &aad, &mut text).map_err(|_| {
            self.failed(
                "the item's key does not unwrap: another key under the same name, another logical table name, or a changed item",
            )
        })?;
        let key = text.first_chunk().copied().ok_or_else(|| self.failed("the item's key is no 32-byte key"))?;
        Ok(Secret::new(key))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn context(value: &str) -> EncryptionContext {
        [("k".to_owned(), value.to_owned())].into_iter().collect()
    }

    fn generate(keyring: &RawAes) -> WrappedKey {
        keyring.generate(&context("v")).now_or_never().unwrap().unwrap().remove(0)
    }

    #[test]
    fn wraps_and_unwraps_under_one_context() {
        for size in [16, 24, 32] {
            let keyring = RawAes::new("acme", "k1", &vec![5; size]).unwrap();
            let made = generate(&keyring);
            assert_eq!((made.provider_info.len(), made.ciphertext.len()), (2 + 20, 48));
            assert!(keyring.accepts(made.wrapped()));
            let open = |context: &EncryptionContext| keyring.unwrap(made.wrapped(), context).now_or_never().unwrap();
            assert_eq!(open(&context("v")).unwrap(), made.key);
            assert_eq!(open(&context("w")).unwrap_err().class, KeyringClass::Item);
            assert_ne!(generate(&keyring).key, made.key);
        }
    }

    #[test]
    fn accepts_only_its_own() {
        let made = generate(&RawAes::new("acme", "k1", &[5; 32]).unwrap());
        let cases = [("acme", "k1", true), ("acme", "k", false), ("acme", "k1\0", false), ("other", "k1", false)];
        for (namespace, name, expected) in cases {
            let keyring = RawAes::new(namespace, name, &[5; 32]).unwrap();
            assert_eq!(keyring.accepts(made.wrapped()), expected, "{namespace} {name}");
        }
        let keyring = RawAes::new("acme", "k1", &[5; 32]).unwrap();
        let short = WrappedRef { ciphertext: &made.ciphertext[1..], ..made.wrapped() };
        assert!(!keyring.accepts(short));
    }

    #[test]
    fn no_such_keyring() {
        let cases = [
            ("aws-kms", "k".to_owned(), 32, RawKeyError::ReservedNamespace),
            ("acme", "k".repeat(65_001), 32, RawKeyError::LongName),
            ("acme", "k".to_owned(), 31, RawKeyError::AesLength(31)),
        ];
        for (namespace, name, size, expected) in cases {
            assert_eq!(RawAes::new(namespace, &name, &vec![0; size]).err(), Some(expected));
        }
    }
}
