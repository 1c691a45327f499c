//! Opening a sealed item: everything is verified before anything is decrypted, and nothing is released unless
//! everything was (AWS Database Encryption SDK specification, `structured-encryption/decrypt-structure.md`).

use std::collections::BTreeMap;

use subtle::ConstantTimeEq as _;

use super::context;
use super::inspect::Sealed;
use super::keys::{ItemKeys, RecipientKeys};
use super::path::Paths;
use super::record::{Foot, Record, tag};
use super::value::{self, TYPE_ID_BYTES, ValueError};
use super::{FOOT, HEAD};
use crate::crypto::{POINT_BYTES, SIGNATURE_BYTES, Secret, aead, verify};
use crate::format::Action;
use crate::item::{Item, Value};

/// Why an item does not open. Nothing of it was released.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The header has no such encrypted data key, or that has no wrapped data key in it.
    #[error("the header has no usable encrypted data key {0}")]
    NoSuchKey(usize),
    /// The data key does not unwrap.
    #[error(
        "the data key does not unwrap under this key and the item's encryption context: check the logical table name and the key attributes, or the item was changed"
    )]
    DataKey,
    /// The header is not the one that was written with the data key.
    #[error("the header was changed: its commitment does not verify")]
    Commitment,
    /// The footer has the wrong length or is no binary attribute.
    #[error("\"aws_dbe_foot\" does not have the length that the header demands")]
    Foot,
    /// No tag of the footer verifies.
    #[error("a signed attribute, the header or the footer was changed: no tag of the footer verifies")]
    Tag,
    /// The signature does not verify.
    #[error("the item's ECDSA signature does not verify")]
    Signature,
    /// An attribute does not decrypt.
    #[error("the attribute \"{name}\" does not decrypt")]
    Decrypt {
        /// The attribute.
        name: String,
    },
    /// An attribute is missing, or its bytes are no value of the format.
    #[error("the attribute \"{name}\" holds {problem}")]
    Value {
        /// The attribute.
        name: String,
        /// What it holds.
        problem: ValueError,
    },
    /// The item is not the one that was inspected.
    #[error("the attribute \"{name}\" is not as it was inspected")]
    NotInspected {
        /// The attribute.
        name: String,
    },
}

/// Verifies and decrypts an item with the intermediate key that the keyring unwrapped from one of its encrypted data
/// keys, whose index is `edk`. The item must be the one that was inspected.
///
/// Returns the item in clear: without header and footer, beacons and unsigned attributes kept as they are. Values that
/// were encrypted come back in canonical form: numbers without superfluous zeros, sets sorted.
///
/// # Errors
/// [`OpenError`] saying what does not verify. Nothing is released then.
pub fn open(item: &Item, sealed: &Sealed, edk: usize, key: &Secret) -> Result<Item, OpenError> {
    let (_, keys) = unlock(item, sealed, edk, key)?;
    decrypt(item, sealed, &keys)
}

/// Verifies an item as [`open`] does, and decrypts nothing of it. Gives back its data key.
///
/// # Errors
/// [`OpenError`] saying what does not verify.
pub fn authenticate(item: &Item, sealed: &Sealed, edk: usize, key: &Secret) -> Result<Secret, OpenError> {
    unlock(item, sealed, edk, key).map(|(data_key, _)| data_key)
}

fn unlock(item: &Item, sealed: &Sealed, edk: usize, key: &Secret) -> Result<(Secret, ItemKeys), OpenError> {
    let recipient = RecipientKeys::new(key);
    let wrapped = sealed.head.edks.get(edk).and_then(|found| found.data_key()).ok_or(OpenError::NoSuchKey(edk))?;
    let data_key = recipient.unwrap(wrapped, &sealed.aad).ok_or(OpenError::DataKey)?;
    let keys = ItemKeys::new(&data_key, &sealed.head.message_id);
    let (head, commitment) = sealed.head.parts();
    if !bool::from(keys.commitment(head).ct_eq(commitment)) {
        return Err(OpenError::Commitment);
    }
    verify_foot(item, sealed, &recipient)?;
    Ok((data_key, keys))
}

fn verify_foot(item: &Item, sealed: &Sealed, recipient: &RecipientKeys) -> Result<(), OpenError> {
    let head = &sealed.head;
    let Some(Value::Binary(foot)) = item.get(FOOT) else {
        return Err(OpenError::Foot);
    };
    let signature_bytes = if head.suite.signs() { SIGNATURE_BYTES } else { 0 };
    let foot = Foot::parse(foot, head.edks.len(), signature_bytes).ok_or(OpenError::Foot)?;
    let record = record(item, sealed)?;
    if !foot.has(&tag(&recipient.mac, &record)) {
        return Err(OpenError::Tag);
    }
    if head.suite.signs() {
        let point = context::public_key::<POINT_BYTES>(&sealed.context).ok_or(OpenError::Signature)?;
        if !verify(&point, &record, foot.signature) {
            return Err(OpenError::Signature);
        }
    }
    Ok(())
}

fn record(item: &Item, sealed: &Sealed) -> Result<[u8; super::record::TAG_BYTES], OpenError> {
    record_under(sealed.head.bytes(), &sealed.aad, item, sealed)
}

/// The record of an item's attributes as they are stored, under this header and context.
pub(super) fn record_under(
    head: &[u8],
    aad: &[u8],
    item: &Item,
    sealed: &Sealed,
) -> Result<[u8; super::record::TAG_BYTES], OpenError> {
    let mut record = Record::new(head, aad);
    let mut paths = Paths::new(&sealed.logical_table);
    for (name, action) in &sealed.fields {
        match (item.get(name), action) {
            (Some(Value::Binary(stored)), Action::EncryptAndSign) => record.encrypted(paths.of(name), stored),
            (Some(_), Action::EncryptAndSign) | (None, _) => {
                return Err(OpenError::NotInspected { name: name.clone() });
            }
            (Some(value), _) => record
                .clear_value(paths.of(name), value)
                .map_err(|problem| OpenError::Value { name: name.clone(), problem })?,
        }
    }
    Ok(record.finish())
}

fn decrypt(item: &Item, sealed: &Sealed, keys: &ItemKeys) -> Result<Item, OpenError> {
    let mut paths = Paths::new(&sealed.logical_table);
    let encrypted = sealed.fields.iter().filter(|(_, action)| *action == Action::EncryptAndSign);
    let mut opened = BTreeMap::new();
    for (position, (name, _)) in encrypted.enumerate() {
        let Some(Value::Binary(stored)) = item.get(name) else {
            return Err(OpenError::NotInspected { name: name.clone() });
        };
        let (id, text) = stored
            .split_first_chunk::<TYPE_ID_BYTES>()
            .ok_or_else(|| OpenError::NotInspected { name: name.clone() })?;
        let mut text = text.to_vec();
        // A legend has fewer than 65,536 entries.
        let field = keys.field(position as u32);
        aead::open(&field.key, &field.nonce, paths.of(name), &mut text)
            .map_err(|_| OpenError::Decrypt { name: name.clone() })?;
        let value = value::read(*id, text).map_err(|problem| OpenError::Value { name: name.clone(), problem })?;
        opened.insert(name.clone(), value);
    }
    let clear = item.iter().filter(|(name, _)| *name != HEAD && *name != FOOT);
    let attributes = clear.map(|(name, value)| match opened.remove_entry(name) {
        Some(decrypted) => decrypted,
        None => (name.to_owned(), value.clone()),
    });
    Ok(attributes.collect())
}
