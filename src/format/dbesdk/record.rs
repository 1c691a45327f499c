//! The canonical record of a sealed item, and the footer `aws_dbe_foot` that authenticates it (AWS Database Encryption
//! SDK specification, `structured-encryption/footer.md`).

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha384};
use subtle::ConstantTimeEq as _;

use super::value::{self, TYPE_ID_BYTES, ValueError};
use crate::crypto::Secret;
use crate::item::Value;

/// Bytes of a recipient's tag.
pub(super) const TAG_BYTES: usize = 48;

/// The hash of the canonical record, taken while the record passes by.
pub(super) struct Record {
    hash: Sha384,
    scratch: Vec<u8>,
}

impl Record {
    /// Begins with the whole header and the serialised encryption context.
    pub(super) fn new(head: &[u8], aad: &[u8]) -> Self {
        let mut hash = Sha384::new();
        hash.update(head);
        hash.update((aad.len() as u64).to_be_bytes());
        hash.update(aad);
        Self { hash, scratch: Vec::new() }
    }

    /// Adds an encrypted attribute: type id, ciphertext and tag as stored.
    pub(super) fn encrypted(&mut self, path: &[u8], stored: &[u8]) {
        self.hash.update(path);
        self.hash.update((stored.len().saturating_sub(TYPE_ID_BYTES) as u64).to_be_bytes());
        self.hash.update(b"ENCRYPTED");
        self.hash.update(stored);
    }

    /// Adds an attribute in clear, given as type id and serialised value.
    pub(super) fn clear(&mut self, path: &[u8], serialised: &[u8]) {
        let (id, body) = serialised.split_at(serialised.len().min(TYPE_ID_BYTES));
        self.clear_parts(path, id, body);
    }

    /// Adds an attribute in clear, and serialises it unless its bytes can be had as they are.
    pub(super) fn clear_value(&mut self, path: &[u8], value: &Value) -> Result<(), ValueError> {
        match value {
            Value::String(text) => self.clear_parts(path, &value::type_id(value), text.as_bytes()),
            Value::Binary(bytes) => self.clear_parts(path, &value::type_id(value), bytes),
            _ => {
                let mut scratch = std::mem::take(&mut self.scratch);
                scratch.clear();
                value::write(value, &mut scratch)?;
                self.clear(path, &scratch);
                self.scratch = scratch;
            }
        }
        Ok(())
    }

    fn clear_parts(&mut self, path: &[u8], id: &[u8], body: &[u8]) {
        self.hash.update(path);
        self.hash.update((body.len() as u64).to_be_bytes());
        self.hash.update(b"PLAINTEXT");
        self.hash.update(id);
        self.hash.update(body);
    }

    /// The hash of the whole record. It is what tags authenticate, and the message that a signature signs.
    pub(super) fn finish(self) -> [u8; TAG_BYTES] {
        self.hash.finalize().into()
    }
}

/// The tag of one recipient.
pub(super) fn tag(key: &Secret, record: &[u8; TAG_BYTES]) -> [u8; TAG_BYTES] {
    let mut mac = Hmac::<Sha384>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
    mac.update(record);
    mac.finalize().into_bytes().into()
}

/// A footer, taken apart.
pub(super) struct Foot<'a> {
    tags: &'a [[u8; TAG_BYTES]],
    /// The signature; empty without one.
    pub(super) signature: &'a [u8],
}

impl<'a> Foot<'a> {
    /// `None` unless there are exactly as many tags and bytes of signature as the header demands.
    pub(super) fn parse(bytes: &'a [u8], recipients: usize, signature_bytes: usize) -> Option<Self> {
        let (tags, signature) = bytes.split_at_checked(recipients.checked_mul(TAG_BYTES)?)?;
        let (tags, _) = tags.as_chunks();
        (signature.len() == signature_bytes).then_some(Self { tags, signature })
    }

    /// Whether the tag is among the footer's: which recipient's it is does not matter. Compares all, in constant time.
    pub(super) fn has(&self, tag: &[u8; TAG_BYTES]) -> bool {
        self.tags.iter().fold(subtle::Choice::from(0), |found, one| found | one.ct_eq(tag)).into()
    }
}
