//! AES-GCM with 12-byte nonces and 16-byte tags.

use aes::Aes192;
use aes::cipher::consts::{U12, U16};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes128Gcm, Aes256Gcm, AesGcm, KeyInit};

/// Bytes of a nonce.
pub(crate) const NONCE_BYTES: usize = 12;
/// Bytes of an authentication tag.
pub(crate) const TAG_BYTES: usize = 16;

/// A nonce.
pub(crate) type Nonce = [u8; NONCE_BYTES];

/// The bytes are not what was encrypted under this key, nonce and additional data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rejected;

/// An AES-GCM key of one of the three sizes, with its key schedule; wiped when dropped.
pub(crate) enum Key {
    Aes128(Box<Aes128Gcm>),
    Aes192(Box<AesGcm<Aes192, U12>>),
    Aes256(Box<Aes256Gcm>),
}

impl Key {
    /// `None` unless there are 16, 24 or 32 bytes.
    pub(crate) fn new(bytes: &[u8]) -> Option<Self> {
        match bytes.len() {
            16 => KeyInit::new_from_slice(bytes).ok().map(Box::new).map(Self::Aes128),
            24 => KeyInit::new_from_slice(bytes).ok().map(Box::new).map(Self::Aes192),
            32 => KeyInit::new_from_slice(bytes).ok().map(Box::new).map(Self::Aes256),
            _ => None,
        }
    }

    /// Appends the ciphertext and its tag to `out`.
    pub(crate) fn seal(&self, nonce: &Nonce, aad: &[u8], plaintext: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.reserve(plaintext.len() + TAG_BYTES);
        out.extend_from_slice(plaintext);
        let text = &mut out[start..];
        let tag = match self {
            Self::Aes128(key) => seal_in_place(&**key, nonce, aad, text),
            Self::Aes192(key) => seal_in_place(&**key, nonce, aad, text),
            Self::Aes256(key) => seal_in_place(&**key, nonce, aad, text),
        };
        out.extend_from_slice(&tag);
    }

    /// Decrypts what [`Key::seal`] appended; on failure `text` is left encrypted.
    pub(crate) fn open(&self, nonce: &Nonce, aad: &[u8], text: &mut Vec<u8>) -> Result<(), Rejected> {
        match self {
            Self::Aes128(key) => open_in_place(&**key, nonce, aad, text),
            Self::Aes192(key) => open_in_place(&**key, nonce, aad, text),
            Self::Aes256(key) => open_in_place(&**key, nonce, aad, text),
        }
    }
}

/// Encrypts the end of a buffer, from `start` on, under a key that serves once, and appends the tag.
pub(crate) fn seal_tail(key: &[u8; 32], nonce: &Nonce, aad: &[u8], buffer: &mut Vec<u8>, start: usize) {
    buffer.reserve_exact(TAG_BYTES);
    let tag = seal_in_place(&Aes256Gcm::new(key.into()), nonce, aad, buffer.get_mut(start..).unwrap_or_default());
    buffer.extend_from_slice(&tag);
}

/// Decrypts ciphertext and tag in place under a key that serves once; on failure `text` is left encrypted.
pub(crate) fn open(key: &[u8; 32], nonce: &Nonce, aad: &[u8], text: &mut Vec<u8>) -> Result<(), Rejected> {
    open_in_place(&Aes256Gcm::new(key.into()), nonce, aad, text)
}

fn seal_in_place(
    key: &impl AeadInOut<NonceSize = U12, TagSize = U16>,
    nonce: &Nonce,
    aad: &[u8],
    text: &mut [u8],
) -> [u8; TAG_BYTES] {
    key.encrypt_inout_detached(nonce.into(), aad, InOutBuf::from(text))
        .expect("a buffer in memory is shorter than the 64 GiB that AES-GCM allows")
        .into()
}

fn open_in_place(
    key: &impl AeadInOut<NonceSize = U12, TagSize = U16>,
    nonce: &Nonce,
    aad: &[u8],
    text: &mut Vec<u8>,
) -> Result<(), Rejected> {
    let (body, tag) = text.split_last_chunk_mut::<TAG_BYTES>().ok_or(Rejected)?;
    let tag = *tag;
    let length = body.len();
    key.decrypt_inout_detached(nonce.into(), aad, InOutBuf::from(body), (&tag).into()).map_err(|_| Rejected)?;
    text.truncate(length);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_in_each_size_and_nothing_else_opens() {
        for size in [16, 24, 32] {
            let key = Key::new(&vec![3; size]).unwrap();
            let mut text = b"kept".to_vec();
            key.seal(&[1; 12], b"aad", b"plaintext", &mut text);
            assert_eq!(text.len(), 4 + 9 + TAG_BYTES);
            let mut text = text.split_off(4);
            assert_eq!(key.open(&[1; 12], b"other", &mut text), Err(Rejected));
            assert_eq!(key.open(&[2; 12], b"aad", &mut text), Err(Rejected));
            key.open(&[1; 12], b"aad", &mut text).unwrap();
            assert_eq!(text, b"plaintext");
            assert_eq!(key.open(&[1; 12], b"aad", &mut text), Err(Rejected), "shorter than a tag");
        }
        assert!(Key::new(&[0; 31]).is_none());
    }

    /// Test case 14 of the GCM specification that NIST adopted: a zero key, a zero nonce, 16 zero bytes.
    #[test]
    fn a_published_vector() {
        let mut text = vec![0; 16];
        seal_tail(&[0; 32], &[0; 12], b"", &mut text, 0);
        let number = |bytes: &[u8]| u128::from_be_bytes(bytes.try_into().unwrap());
        assert_eq!(number(&text[..16]), 0xcea7_403d_4d60_6b6e_074e_c5d3_baf3_9d18);
        assert_eq!(number(&text[16..]), 0xd0d1_c8a7_9999_6bf0_265b_98b5_d48a_b919);
        open(&[0; 32], &[0; 12], b"", &mut text).unwrap();
        assert_eq!(text, [0; 16]);
    }
}
