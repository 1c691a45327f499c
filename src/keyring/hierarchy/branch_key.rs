//! Keys wrapped under a branch key (AWS Material Providers Library specification, `aws-kms-hierarchical-keyring.md`,
//! "Branch Key Wrapping and Unwrapping"). Pure: bytes and keys alone.
//!
//! A wrapped key is `salt 16 | nonce 12 | version 16 | encrypted key 32 | tag 16`: AES-256-GCM under a key that is derived
//! from the branch key and the salt (NIST SP 800-108, counter mode with HMAC-SHA-256, one block), with provider id, branch
//! key id, version and encryption context as additional data.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use uuid::Uuid;
use zeroize::Zeroize as _;

use super::super::keystore::BranchKey;
use crate::crypto::{EncryptionContext, KEY_BYTES, Secret, aead};

/// The key provider id of every key that a branch key wrapped.
pub(super) const PROVIDER_ID: &str = "aws-kms-hierarchy";
/// Bytes of a wrapped key.
pub(super) const WRAPPED_BYTES: usize = SALT_BYTES + aead::NONCE_BYTES + VERSION_BYTES + KEY_BYTES + aead::TAG_BYTES;

const SALT_BYTES: usize = 16;
const VERSION_BYTES: usize = 16;

/// A wrapped key in its parts.
struct Parts<'a> {
    salt: &'a [u8; SALT_BYTES],
    nonce: &'a aead::Nonce,
    version: &'a [u8; VERSION_BYTES],
    sealed: &'a [u8],
}

fn parts(wrapped: &[u8]) -> Option<Parts<'_>> {
    if wrapped.len() != WRAPPED_BYTES {
        return None;
    }
    let (salt, rest) = wrapped.split_first_chunk()?;
    let (nonce, rest) = rest.split_first_chunk()?;
    let (version, sealed) = rest.split_first_chunk()?;
    Some(Parts { salt, nonce, version, sealed })
}

/// The version of the branch key that wrapped this; `None` where the bytes are no wrapped key.
pub(super) fn version_of(wrapped: &[u8]) -> Option<Uuid> {
    parts(wrapped).map(|parts| Uuid::from_bytes(*parts.version))
}

/// Wraps a key. `None` where the context is too long to be serialised.
pub(super) fn wrap(by: &BranchKey, key: &Secret, context: &EncryptionContext) -> Option<Vec<u8>> {
    let (salt, nonce): ([u8; SALT_BYTES], aead::Nonce) = (rand::random(), rand::random());
    let aad = aad(by, context)?;
    // At full length from the start: growing would leave a copy of the key behind.
    let mut wrapped = Vec::with_capacity(WRAPPED_BYTES);
    for part in [&salt[..], &nonce, by.version.as_bytes()] {
        wrapped.extend_from_slice(part);
    }
    let start = wrapped.len();
    wrapped.extend_from_slice(key.expose());
    aead::seal_tail(wrapping_key(&by.key, &salt).expose(), &nonce, &aad, &mut wrapped, start);
    Some(wrapped)
}

/// Unwraps a key. `None` where another branch key, version or context wrapped it, or the bytes are damaged.
pub(super) fn unwrap(by: &BranchKey, wrapped: &[u8], context: &EncryptionContext) -> Option<Secret> {
    let Parts { salt, nonce, version, sealed } = parts(wrapped)?;
    if version != by.version.as_bytes() {
        return None;
    }
    let mut text = sealed.to_vec();
    aead::open(wrapping_key(&by.key, salt).expose(), nonce, &aad(by, context)?, &mut text).ok()?;
    let key = text.as_slice().try_into().ok().map(Secret::new);
    text.zeroize();
    key
}

fn aad(by: &BranchKey, context: &EncryptionContext) -> Option<Vec<u8>> {
    let context = context.serialize()?;
    Some([PROVIDER_ID.as_bytes(), by.id.as_bytes(), by.version.as_bytes(), &context].concat())
}

/// The first and only block of the derivation: its number, the label, a zero byte, the salt as context, the length in
/// bits.
fn wrapping_key(branch_key: &Secret, salt: &[u8; SALT_BYTES]) -> Secret {
    const BLOCK: [u8; 4] = 1_u32.to_be_bytes();
    const BITS: [u8; 4] = (8 * KEY_BYTES as u32).to_be_bytes();
    let mut mac = Hmac::<Sha256>::new_from_slice(branch_key.expose()).expect("HMAC takes a key of any length");
    for part in [&BLOCK[..], PROVIDER_ID.as_bytes(), &[0], salt, &BITS] {
        mac.update(part);
    }
    let mut derived: [u8; KEY_BYTES] = mac.finalize().into_bytes().into();
    let key = Secret::new(derived);
    derived.zeroize();
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch_key(id: &str, version: u128, key: u8) -> BranchKey {
        let (version, key) = (Uuid::from_u128(version), Secret::new([key; KEY_BYTES]));
        BranchKey { id: id.to_owned(), version, created: String::new(), key }
    }

    fn context(tenant: &str) -> EncryptionContext {
        [("tenant".to_owned(), tenant.to_owned())].into_iter().collect()
    }

    #[test]
    fn there_and_back_and_nothing_else_unwraps() {
        let (by, key) = (branch_key("a", 7, 1), Secret::new([9; KEY_BYTES]));
        let wrapped = wrap(&by, &key, &context("t")).unwrap();
        assert_eq!((wrapped.len(), version_of(&wrapped)), (92, Some(Uuid::from_u128(7))));
        assert!(unwrap(&by, &wrapped, &context("t")).unwrap() == key);
        assert_ne!(wrap(&by, &key, &context("t")).unwrap(), wrapped, "salt and nonce are fresh");
        for other in [branch_key("b", 7, 1), branch_key("a", 8, 1), branch_key("a", 7, 2)] {
            assert!(unwrap(&other, &wrapped, &context("t")).is_none());
        }
        assert!(unwrap(&by, &wrapped, &context("u")).is_none());
        for at in 0..wrapped.len() {
            let mut damaged = wrapped.clone();
            damaged[at] ^= 1;
            assert!(unwrap(&by, &damaged, &context("t")).is_none(), "byte {at}");
        }
        for length in [0, 91, 93] {
            let mut other = wrapped.clone();
            other.resize(length, 0);
            assert!(unwrap(&by, &other, &context("t")).is_none() && version_of(&other).is_none(), "{length} bytes");
        }
    }

    #[test]
    fn a_context_that_cannot_be_serialised() {
        let (by, key) = (branch_key("a", 7, 1), Secret::new([9; KEY_BYTES]));
        assert!(wrap(&by, &key, &context(&"x".repeat(65_536))).is_none());
    }
}
