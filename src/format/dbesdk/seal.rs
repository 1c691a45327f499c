//! Sealing an item, in the two steps between which the keyring makes its keys (AWS Database Encryption SDK
//! specification, `structured-encryption/encrypt-structure.md` and `dynamodb-encryption-client/encrypt-item.md`).

use std::collections::BTreeMap;
use std::fmt;

use super::context::{self, ContextError, RESERVED_CONTEXT};
use super::head::{Draft, MESSAGE_ID_BYTES, TooLong, legend_byte};
use super::inspect::{key_action, version};
use super::keys::{ItemKeys, RecipientKeys};
use super::path::{self, Paths};
use super::record::{Record, TAG_BYTES, tag};
use super::value::{self, TYPE_ID_BYTES, ValueError};
use super::{FOOT, HEAD};
use crate::crypto::{EncryptionContext, EphemeralKey, SIGNATURE_BYTES, Secret, Suite, WrappedKey, aead};
use crate::format::{Action, Schema};
use crate::item::{Item, KeyError, Value};

/// Recipients of one item at most.
const RECIPIENTS_MAX: usize = 255;

/// Why an item cannot be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The item has a header or footer.
    #[error("the item has an attribute \"{name}\": it is sealed already, or damaged")]
    Reserved {
        /// Which of the two.
        name: &'static str,
    },
    /// A key attribute is missing or of a type that no key has.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// An attribute must be signed, and nobody said how.
    #[error("the attribute \"{name}\" has no action; name it in the job, or declare it unsigned")]
    UnknownAttribute {
        /// The attribute.
        name: String,
    },
    /// An attribute is to be left alone, but a reader would take it for a signed one.
    #[error("the attribute \"{name}\" is DO_NOTHING but not declared unsigned; readers would refuse the item")]
    DoNothing {
        /// The attribute.
        name: String,
    },
    /// An attribute is to be signed, but a reader would not take it for a signed one.
    #[error("the attribute \"{name}\" is {} but declared unsigned, or its name is reserved; readers would refuse the item", action.name())]
    NotInScope {
        /// The attribute.
        name: String,
        /// Its action.
        action: Action,
    },
    /// An attribute's name begins as only names in an encryption context may.
    #[error("the attribute \"{name}\" begins with \"aws-crypto-\"; such names can only be unsigned")]
    ReservedName {
        /// The attribute.
        name: String,
    },
    /// A key attribute has an action that no key may have.
    #[error("the key attribute \"{name}\" must be {}", wanted.name())]
    KeyAction {
        /// The attribute.
        name: String,
        /// The action it must have.
        wanted: Action,
    },
    /// The encryption context cannot be built.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A value that the format cannot hold.
    #[error("the attribute \"{name}\" holds {problem}")]
    Value {
        /// The attribute.
        name: String,
        /// What it holds.
        problem: ValueError,
    },
    /// A part of the header is longer than its 16-bit length can say.
    #[error("the header's {0} would be longer than 65535 bytes")]
    Long(&'static str),
    /// No recipient, or more than fit.
    #[error("{0} recipients; an item has 1 to 255")]
    Recipients(usize),
    /// An attribute is encrypted and should not be, or the other way round; wrapping its item's key anew changes neither.
    #[error(
        "the attribute \"{name}\" is {} in the item and {} in the job: only depth = \"reencrypt\" changes what is encrypted",
        found.name(), wanted.name()
    )]
    Kept {
        /// The attribute.
        name: String,
        /// Its action in the item.
        found: Action,
        /// Its action in the schema.
        wanted: Action,
    },
    /// The item is not the one that was inspected.
    #[error("the item is not as it was inspected")]
    NotInspected,
    /// No key pair or signature could be made.
    #[error("the item could not be signed: the cryptographic library failed")]
    Signature,
}

impl From<TooLong> for SealError {
    fn from(TooLong(part): TooLong) -> Self {
        Self::Long(part)
    }
}

/// An item that was checked and serialised, and waits for its keys.
pub struct Prepared {
    /// The encryption context that every recipient's key must be bound to.
    pub context: EncryptionContext,
    version: u8,
    suite: Suite,
    aad: Vec<u8>,
    logical_table: String,
    /// The signed attributes, in the order of their canonical paths.
    fields: Vec<Field>,
    signer: Option<Signer>,
}

struct Field {
    name: String,
    action: Action,
    /// Type id and serialised value.
    serialised: Vec<u8>,
}

/// Sizes only: the values are in clear.
impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("version", &self.version)
            .field("suite", &self.suite)
            .field("context", &self.context)
            .field("fields", &self.fields.len())
            .finish_non_exhaustive()
    }
}

/// Checks and serialises an item, and builds the encryption context for its keys; with a signature, a key pair is made
/// whose public key is part of that context.
///
/// # Errors
/// [`SealError`] naming the attribute that cannot be sealed.
pub fn prepare(schema: &Schema, suite: Suite, item: &Item) -> Result<Prepared, SealError> {
    if let Some(name) = [HEAD, FOOT].into_iter().find(|name| item.contains(name)) {
        return Err(SealError::Reserved { name });
    }
    let version = version(schema);
    check_keys(schema, version, item)?;
    let mut fields = Vec::with_capacity(item.len());
    for (name, value) in item.iter() {
        if let Some(action) = signed_action(schema, name)? {
            fields.push(Field { name: name.to_owned(), action, serialised: serialise(name, action, value)? });
        }
    }
    fields.sort_unstable_by(|a, b| path::order(&a.name, &b.name));
    let mut context = context_of(schema, version, item)?;
    let signer = Signer::for_suite(suite, &mut context)?;
    let aad = context.serialize().ok_or(ContextError::TooLong)?;
    Ok(Prepared { context, version, suite, aad, logical_table: schema.logical_table.clone(), fields, signer })
}

/// The encryption context of an item that is sealed under this schema, but for the key that verifies its signature.
pub(super) fn context_of(schema: &Schema, version: u8, item: &Item) -> Result<EncryptionContext, ContextError> {
    let value_of = |name: &str| item.get(name);
    if version == 1 {
        context::version_1(schema, value_of)
    } else {
        let included = schema.actions.iter().filter(|(_, action)| **action == key_action(version));
        context::version_2(schema, included.map(|(name, _)| name.as_str()).collect(), value_of)
    }
}

/// The key pair of one signature, and the public key as header and context have it.
pub(super) struct Signer {
    key: EphemeralKey,
    public_key: String,
}

impl Signer {
    /// A fresh key pair where the suite signs, its public key added to the context.
    pub(super) fn for_suite(suite: Suite, context: &mut EncryptionContext) -> Result<Option<Self>, SealError> {
        if !suite.signs() {
            return Ok(None);
        }
        let key = EphemeralKey::generate().map_err(|_| SealError::Signature)?;
        let public_key = context::public_key_text(&key.point());
        context.insert(context::PUBLIC_KEY, public_key.clone());
        Ok(Some(Self { key, public_key }))
    }
}

/// A header, and what makes its footer.
pub(super) struct Envelope {
    /// The header as it is stored.
    pub(super) head: Vec<u8>,
    pub(super) keys: ItemKeys,
    recipients: Vec<RecipientKeys>,
}

impl Envelope {
    /// Wraps the data key for every recipient under the context, and writes the header with its commitment.
    pub(super) fn new(
        (version, suite): (u8, Suite),
        (data_key, message_id): (&Secret, &[u8; MESSAGE_ID_BYTES]),
        legend: impl Iterator<Item = Action>,
        (aad, signer): (&[u8], Option<&Signer>),
        recipients: &[WrappedKey],
    ) -> Result<Self, SealError> {
        if !(1..=RECIPIENTS_MAX).contains(&recipients.len()) {
            return Err(SealError::Recipients(recipients.len()));
        }
        let keys = ItemKeys::new(data_key, message_id);
        let recipient_keys: Vec<RecipientKeys> = recipients.iter().map(|one| RecipientKeys::new(&one.key)).collect();
        let wrapped: Vec<_> =
            recipients.iter().zip(&recipient_keys).map(|(one, keys)| (one, keys.wrap(data_key, aad))).collect();
        let legend: Vec<u8> = legend.filter_map(legend_byte).collect();
        let public_key = signer.map(|signer| signer.public_key.as_str());
        let mut head = Draft { version, suite, message_id, legend: &legend, public_key, keys: &wrapped }.write()?;
        let commitment = keys.commitment(&head);
        head.extend_from_slice(&commitment);
        Ok(Self { head, keys, recipients: recipient_keys })
    }

    /// The footer that authenticates a record: the tag of each recipient, and the signature.
    pub(super) fn foot(&self, record: &[u8; TAG_BYTES], signer: Option<&Signer>) -> Result<Vec<u8>, SealError> {
        let mut foot = Vec::with_capacity(self.recipients.len() * TAG_BYTES + SIGNATURE_BYTES);
        for recipient in &self.recipients {
            foot.extend_from_slice(&tag(&recipient.mac, record));
        }
        if let Some(signer) = signer {
            foot.extend_from_slice(&signer.key.sign(record).map_err(|_| SealError::Signature)?);
        }
        Ok(foot)
    }
}

pub(super) fn check_keys(schema: &Schema, version: u8, item: &Item) -> Result<(), SealError> {
    for name in schema.keys.iter() {
        match item.get(name) {
            None => return Err(KeyError::Missing { name: name.to_owned() }.into()),
            Some(Value::String(_) | Value::Number(_) | Value::Binary(_)) => {}
            Some(other) => return Err(KeyError::Type { name: name.to_owned(), found: other.type_name() }.into()),
        }
        let wanted = key_action(version);
        if schema.action(name) != Some(wanted) || !schema.in_scope(name) {
            return Err(SealError::KeyAction { name: name.to_owned(), wanted });
        }
    }
    Ok(())
}

/// The action of an attribute, `None` if it stays outside the signature.
pub(super) fn signed_action(schema: &Schema, name: &str) -> Result<Option<Action>, SealError> {
    let named = || name.to_owned();
    match (schema.in_scope(name), schema.action(name)) {
        (false, None | Some(Action::DoNothing)) => Ok(None),
        (false, Some(action)) => Err(SealError::NotInScope { name: named(), action }),
        (true, _) if name.starts_with(RESERVED_CONTEXT) => Err(SealError::ReservedName { name: named() }),
        (true, None) => Err(SealError::UnknownAttribute { name: named() }),
        (true, Some(Action::DoNothing)) => Err(SealError::DoNothing { name: named() }),
        (true, Some(action)) => Ok(Some(action)),
    }
}

fn serialise(name: &str, action: Action, value: &Value) -> Result<Vec<u8>, SealError> {
    // Room for the tag, so that encrypting in place never moves the bytes.
    let tag = if action == Action::EncryptAndSign { aead::TAG_BYTES } else { 0 };
    let mut out = Vec::with_capacity(value.size() + TYPE_ID_BYTES + tag);
    value::write(value, &mut out).map_err(|problem| SealError::Value { name: name.to_owned(), problem })?;
    Ok(out)
}

/// Seals a prepared item under a fresh data key, for every recipient. `item` is the one that was prepared;
/// `message_id` is random and never used twice; each recipient's key is fresh and was wrapped under the prepared
/// context.
///
/// Returns the whole sealed item: unsigned attributes and beacons as they were, header and footer added.
///
/// # Errors
/// [`SealError`] when there are too few or too many recipients, a part grows too long, or signing fails.
pub fn seal(
    item: &Item,
    prepared: Prepared,
    data_key: &Secret,
    message_id: [u8; MESSAGE_ID_BYTES],
    recipients: &[WrappedKey],
) -> Result<Item, SealError> {
    let Prepared { version, suite, aad, logical_table, mut fields, signer, .. } = prepared;
    let legend = fields.iter().map(|field| field.action);
    let (keys, signed) = ((data_key, &message_id), (aad.as_slice(), signer.as_ref()));
    let envelope = Envelope::new((version, suite), keys, legend, signed, recipients)?;
    let mut record = Record::new(&envelope.head, &aad);
    encrypt(&mut fields, &envelope.keys, &logical_table, &mut record);
    let foot = envelope.foot(&record.finish(), signer.as_ref())?;
    Ok(assemble(item, fields, envelope.head, foot))
}

/// Encrypts in place what is to be encrypted, and adds every field to the record.
fn encrypt(fields: &mut [Field], keys: &ItemKeys, logical_table: &str, record: &mut Record) {
    let mut paths = Paths::new(logical_table);
    let mut position = 0;
    for field in fields {
        let path = paths.of(&field.name);
        if field.action == Action::EncryptAndSign {
            let once = keys.field(position);
            position += 1;
            aead::seal_tail(&once.key, &once.nonce, path, &mut field.serialised, TYPE_ID_BYTES);
            record.encrypted(path, &field.serialised);
        } else {
            record.clear(path, &field.serialised);
        }
    }
}

fn assemble(item: &Item, fields: Vec<Field>, head: Vec<u8>, foot: Vec<u8>) -> Item {
    let mut encrypted: BTreeMap<String, Value> = fields
        .into_iter()
        .filter(|field| field.action == Action::EncryptAndSign)
        .map(|field| (field.name, Value::Binary(field.serialised)))
        .collect();
    let mut sealed: Item = item
        .iter()
        .map(|(name, value)| match encrypted.remove_entry(name) {
            Some(entry) => entry,
            None => (name.to_owned(), value.clone()),
        })
        .collect();
    sealed.insert(HEAD, Value::Binary(head));
    sealed.insert(FOOT, Value::Binary(foot));
    sealed
}
