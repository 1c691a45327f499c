//! HKDF with SHA-512, as every algorithm suite of the Database Encryption SDK uses it.

use std::sync::LazyLock;

use hkdf::{Hkdf, HkdfExtract};
use sha2::Sha512;
use zeroize::Zeroize as _;

use super::{KEY_BYTES, Secret};

/// HKDF-SHA-512 without salt, after the extract step: each further key costs one expand step (RFC 5869).
pub(crate) struct Kdf(Hkdf<Sha512>);

impl Kdf {
    /// Extracts from 32 bytes of key material.
    pub(crate) fn new(key: &Secret) -> Self {
        // "No salt" keys the extraction with 64 zero bytes: the same for every item, so that its set-up is shared.
        static UNSALTED: LazyLock<HkdfExtract<Sha512>> = LazyLock::new(|| HkdfExtract::new(None));
        let mut extract = UNSALTED.clone();
        extract.input_ikm(key.expose());
        let (mut pseudorandom, hkdf) = extract.finalize();
        pseudorandom.as_mut_slice().zeroize();
        Self(hkdf)
    }

    /// The 32-byte key that belongs to the concatenation of the parts.
    pub(crate) fn expand(&self, info: &[&[u8]]) -> Secret {
        let mut key = Secret::new([0; KEY_BYTES]);
        self.0.expand_multi_info(info, key.expose_mut()).expect("32 bytes are less than 255 blocks of SHA-512");
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed from the definition of RFC 5869, with plain HMAC.
    #[test]
    fn as_rfc_5869_defines_it() {
        use hmac::{Hmac, KeyInit as _, Mac as _};
        let mac = |key: &[u8], message: &[u8]| {
            let mut mac = Hmac::<Sha512>::new_from_slice(key).unwrap();
            mac.update(message);
            mac.finalize().into_bytes()
        };
        let key = Secret::new([7; KEY_BYTES]);
        let pseudorandom = mac(&[0; 64], key.expose());
        let expected = mac(&pseudorandom, b"label and more\x01");
        let kdf = Kdf::new(&key);
        assert_eq!(kdf.expand(&[b"label", b" and more"]).expose()[..], expected[..KEY_BYTES]);
        assert_ne!(kdf.expand(&[b"label"]), kdf.expand(&[b"other"]));
    }
}
