//! Everything that is derived from the data key and from the intermediate keys (AWS Database Encryption SDK
//! specification, `structured-encryption/header.md` "Commitment Calculation", `encrypt-structure.md` "Calculate Cipher
//! Keys", and AWS Material Providers Library specification, `algorithm-suites.md` "Intermediate Key Wrapping").

use aes::Aes256;
use aes::cipher::{Array, BlockCipherEncrypt as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha512;
use zeroize::Zeroizing;

use super::head::MESSAGE_ID_BYTES;
use crate::crypto::{KEY_BYTES, Kdf, Secret, aead};

/// Bytes of the data key as an intermediate key wraps it, in front of every encrypted data key.
pub(super) const WRAPPED_DATA_KEY_BYTES: usize = KEY_BYTES + aead::TAG_BYTES;
/// Bytes of the commitment at the end of a header.
pub(super) const COMMITMENT_BYTES: usize = 32;

/// What follows from the data key and the message id.
pub(super) struct ItemKeys {
    commit: Secret,
    fields: Aes256,
}

impl ItemKeys {
    pub(super) fn new(data_key: &Secret, message_id: &[u8; MESSAGE_ID_BYTES]) -> Self {
        let kdf = Kdf::new(data_key);
        let root = kdf.expand(&[b"AWS_DBE_DERIVE_KEY", message_id]);
        Self { commit: kdf.expand(&[b"AWS_DBE_COMMIT_KEY", message_id]), fields: Aes256::new(root.expose().into()) }
    }

    /// The commitment over a header without its commitment: HMAC with SHA-512, cut to 32 bytes. (The specification's
    /// prose names SHA-384; the official clients write and demand this.)
    pub(super) fn commitment(&self, head: &[u8]) -> [u8; COMMITMENT_BYTES] {
        let mut mac = Hmac::<Sha512>::new_from_slice(self.commit.expose()).expect("HMAC takes keys of any length");
        mac.update(head);
        *mac.finalize().into_bytes().first_chunk().expect("SHA-512 has 64 bytes")
    }

    /// Key and nonce of the encrypted attribute with this position among the encrypted ones: 44 bytes of an AES-CTR key
    /// stream whose counter gives each attribute three blocks of its own.
    pub(super) fn field(&self, position: u32) -> FieldKey {
        let block = |i: u32| {
            let mut block = *b"AwsDbeField\x2c\0\0\0\0";
            block[12..].copy_from_slice(&position.wrapping_mul(3).wrapping_add(i).to_be_bytes());
            Array::from(block)
        };
        let mut blocks = [block(0), block(1), block(2)];
        self.fields.encrypt_blocks(&mut blocks);
        let stream = Zeroizing::new(blocks.map(<[u8; 16]>::from));
        let mut field = FieldKey { key: Zeroizing::new([0; KEY_BYTES]), nonce: [0; aead::NONCE_BYTES] };
        field.key[..16].copy_from_slice(&stream[0]);
        field.key[16..].copy_from_slice(&stream[1]);
        field.nonce.copy_from_slice(&stream[2][..aead::NONCE_BYTES]);
        field
    }
}

/// Key and nonce of one encrypted attribute; they serve once.
pub(super) struct FieldKey {
    pub(super) key: Zeroizing<[u8; KEY_BYTES]>,
    pub(super) nonce: aead::Nonce,
}

/// What follows from the intermediate key of one recipient.
pub(super) struct RecipientKeys {
    wrapping: Secret,
    pub(super) mac: Secret,
}

impl RecipientKeys {
    pub(super) fn new(intermediate_key: &Secret) -> Self {
        let kdf = Kdf::new(intermediate_key);
        Self {
            wrapping: kdf.expand(&[b"AWS_MPL_INTERMEDIATE_KEYWRAP_ENC"]),
            mac: kdf.expand(&[b"AWS_MPL_INTERMEDIATE_KEYWRAP_MAC"]),
        }
    }

    /// Wraps the data key. The nonce is constant: an intermediate key must be fresh and serve for one item only.
    pub(super) fn wrap(&self, data_key: &Secret, aad: &[u8]) -> [u8; WRAPPED_DATA_KEY_BYTES] {
        let mut out = Zeroizing::new(Vec::with_capacity(WRAPPED_DATA_KEY_BYTES));
        out.extend_from_slice(data_key.expose());
        aead::seal_tail(self.wrapping.expose(), &[0; aead::NONCE_BYTES], aad, &mut out, 0);
        *out.first_chunk().expect("32 bytes of key and 16 of tag")
    }

    /// Unwraps the data key; `None` when key, context or bytes are not those that it was wrapped with.
    pub(super) fn unwrap(&self, wrapped: &[u8; WRAPPED_DATA_KEY_BYTES], aad: &[u8]) -> Option<Secret> {
        let mut text = Zeroizing::new(wrapped.to_vec());
        aead::open(self.wrapping.expose(), &[0; aead::NONCE_BYTES], aad, &mut text).ok()?;
        text.first_chunk().copied().map(Secret::new)
    }
}
