//! The ciphertext blob: what a wrapped text looks like outside the stand-in.
//!
//! `version 1 | key id 16 | material id 32 | nonce 12 | reserved 75 | AES-256-GCM ciphertext | tag 16`. The version is 2
//! for a multi-Region key, whose blobs every Region opens. Everything
//! before the ciphertext, and the encryption context after it, are additional data. The reserved zeros bring the blob
//! to the size that KMS's own have in practice (152 bytes more than the plaintext), so that items sealed here have the
//! size that they will have there.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use rand::CryptoRng;

use super::key::{KeyId, Material, MaterialId};
use crate::crypto::EncryptionContext;

const SINGLE_REGION: u8 = 1;
const MULTI_REGION: u8 = 2;
const NONCE_BYTES: usize = 12;
const RESERVED_BYTES: usize = 75;

/// A blob taken apart; nothing about it is authenticated yet.
#[derive(Debug)]
pub(super) struct Blob<'a> {
    /// The key that says it made the blob.
    pub(super) key: KeyId,
    /// The material of that key.
    pub(super) material: MaterialId,
    nonce: [u8; NONCE_BYTES],
    head: &'a [u8],
    sealed: &'a [u8],
}

impl<'a> Blob<'a> {
    /// Takes a blob apart. `None` when it is not one of ours.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (key, rest) = rest.split_first_chunk()?;
        let (material, rest) = rest.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (_reserved, sealed) = rest.split_first_chunk::<RESERVED_BYTES>()?;
        let head = bytes.get(..bytes.len() - sealed.len())?;
        let multi_region = match *version {
            SINGLE_REGION => false,
            MULTI_REGION => true,
            _ => return None,
        };
        let key = KeyId { multi_region, bytes: *key };
        Some(Self { key, material: MaterialId(*material), nonce: *nonce, head, sealed })
    }

    /// The plaintext. `None` when blob, material and context do not belong together.
    pub(super) fn open(&self, material: &Material, context: &EncryptionContext) -> Option<Vec<u8>> {
        let aad = additional_data(self.head, context)?;
        let payload = Payload { msg: self.sealed, aad: &aad };
        cipher(material).decrypt(&Nonce::from(self.nonce), payload).ok()
    }
}

/// Wraps a plaintext with a material of a key. `None` when the context cannot be serialised.
pub(super) fn seal(
    key: KeyId,
    material: &Material,
    plaintext: &[u8],
    context: &EncryptionContext,
    rng: &mut impl CryptoRng,
) -> Option<Vec<u8>> {
    let mut nonce = [0; NONCE_BYTES];
    rng.fill_bytes(&mut nonce);
    let mut blob = vec![if key.multi_region { MULTI_REGION } else { SINGLE_REGION }];
    blob.extend_from_slice(&key.bytes);
    blob.extend_from_slice(&material.id.0);
    blob.extend_from_slice(&nonce);
    blob.extend_from_slice(&[0; RESERVED_BYTES]);
    let aad = additional_data(&blob, context)?;
    let payload = Payload { msg: plaintext, aad: &aad };
    let sealed = cipher(material).encrypt(&Nonce::from(nonce), payload).expect("the text is far below AES-GCM's limit");
    blob.extend_from_slice(&sealed);
    Some(blob)
}

fn cipher(material: &Material) -> Aes256Gcm {
    Aes256Gcm::new(material.secret.expose().into())
}

fn additional_data(head: &[u8], context: &EncryptionContext) -> Option<Vec<u8>> {
    let mut aad = head.to_vec();
    aad.extend_from_slice(&context.serialize()?);
    Some(aad)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::local::kms::key::Materials;

    fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn opens_only_whole_and_in_its_context() {
        let mut rng = StdRng::seed_from_u64(7);
        let (key, materials) = (KeyId::random(false, &mut rng), Materials::random(&mut rng));
        let made = context(&[("a", "1"), ("b", "2")]);
        let blob = seal(key, &materials.current, b"plaintext of 32 bytes, more or less", &made, &mut rng).unwrap();
        let open = |bytes: &[u8], context: &EncryptionContext| {
            let blob = Blob::parse(bytes)?;
            blob.open(materials.get(blob.material)?, context)
        };
        assert_eq!(open(&blob, &made).unwrap(), b"plaintext of 32 bytes, more or less");
        assert_eq!(open(&blob, &context(&[("b", "2"), ("a", "1")])).unwrap().len(), 35, "pairs have no order");
        for other in [&[][..], &[("a", "1")], &[("a", "1"), ("b", "3")], &[("a", "1"), ("B", "2")]] {
            assert_eq!(open(&blob, &context(other)), None, "{other:?}");
        }
        for index in 0..blob.len() {
            let mut changed = blob.clone();
            changed[index] ^= 1;
            // A changed key id is the caller's to notice, and the ciphertext does not open under it either.
            assert_eq!(open(&changed, &made), None, "byte {index}");
            assert_eq!(open(&blob[..index], &made), None, "cut at {index}");
        }
    }

    #[test]
    fn a_data_key_grows_as_in_kms() {
        let mut rng = StdRng::seed_from_u64(7);
        let (key, materials) = (KeyId::random(true, &mut rng), Materials::random(&mut rng));
        assert_eq!(seal(key, &materials.current, &[0; 32], &context(&[]), &mut rng).unwrap().len(), 184);
    }
}
