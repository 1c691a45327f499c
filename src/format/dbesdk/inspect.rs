//! Reading how an item was sealed, without any key.

use super::context::{self, ContextError};
use super::head::{Head, HeadError};
use super::value::{self, TYPE_ID_BYTES};
use super::{FOOT, HEAD, path};
use crate::crypto::{EncryptionContext, POINT_BYTES, Recipient, Suite, Wanted, aead};
use crate::format::{Action, Schema};
use crate::item::{Item, KeyError, Value};

/// What an item is.
#[derive(Debug, Clone)]
pub enum Inspection {
    /// Neither header nor footer: not an item of this format.
    Plaintext,
    /// Sealed, and whole as far as that can be told without a key.
    Sealed(Box<Sealed>),
}

/// How an item was sealed. Nothing of it is authenticated until the item was opened.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The header.
    pub head: Head,
    /// The signed attributes with their actions, in the order of their canonical paths.
    pub fields: Vec<(String, Action)>,
    /// The encryption context that every recipient's key is bound to.
    pub context: EncryptionContext,
    /// The context as it is authenticated.
    pub(super) aad: Vec<u8>,
    /// The logical table name that the attributes are bound to.
    pub(super) logical_table: String,
}

/// An item has a header or a footer, but is not a sealed item as a reader needs it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// A header without footer.
    #[error("\"aws_dbe_head\" without \"aws_dbe_foot\": the item is damaged; restore it")]
    OnlyHead,
    /// A footer without header.
    #[error("\"aws_dbe_foot\" without \"aws_dbe_head\": the item is damaged; restore it")]
    OnlyFoot,
    /// Header or footer is not binary.
    #[error("\"{name}\" is of type {found}, not B: the item is damaged; restore it")]
    NotBinary {
        /// Which of the two.
        name: &'static str,
        /// The type found.
        found: &'static str,
    },
    /// The header does not parse.
    #[error("\"aws_dbe_head\" is damaged: {0}; restore the item")]
    Head(#[from] HeadError),
    /// The attributes are not those that were sealed.
    #[error(transparent)]
    Mixed(#[from] Mixed),
    /// A key attribute is missing or of a type that no key has.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The encryption context cannot be rebuilt.
    #[error(transparent)]
    Context(#[from] ContextError),
}

/// The attributes of a sealed item are not those that were sealed: somebody wrote into it without sealing it again, or
/// this schema is not the one that it was sealed with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mixed {
    /// More or fewer attributes in the signature's scope than were signed.
    #[error(
        "{found} attributes are in the signature's scope but {signed} were signed: {}; somebody wrote into the sealed item, or the unsigned attributes are declared differently",
        names(unknown)
    )]
    Count {
        /// Attributes in scope.
        found: usize,
        /// Entries of the legend.
        signed: usize,
        /// The attributes in scope that the schema has no action for.
        unknown: Vec<String>,
    },
    /// An attribute that the legend calls encrypted cannot be a ciphertext.
    #[error("the attribute \"{name}\" should be encrypted but cannot be: somebody wrote into the sealed item")]
    NotEncrypted {
        /// The attribute.
        name: String,
    },
    /// A key attribute has an action that no key has.
    #[error("the key attribute \"{name}\" would be {}, which no key is: somebody wrote into the sealed item", action.name())]
    KeyAction {
        /// The attribute.
        name: String,
        /// The action that the legend gives it.
        action: Action,
    },
}

fn names(unknown: &[String]) -> String {
    if unknown.is_empty() {
        "all have an action".to_owned()
    } else {
        format!("\"{}\" without an action", unknown.join("\", \""))
    }
}

/// Bytes of an encrypted attribute at least: type id and tag.
const ENCRYPTED_BYTES_MIN: usize = TYPE_ID_BYTES + aead::TAG_BYTES;

/// Reads how an item was sealed and rebuilds the encryption context under which its keys were wrapped. Which attributes
/// are in the signature's scope is the schema's to say; what was done with each, the item's own header.
///
/// # Errors
/// [`InspectError`] naming what is wrong with the item. A mixed item is never opened by leaving attributes out.
pub fn inspect(schema: &Schema, item: &Item) -> Result<Inspection, InspectError> {
    let head = match (item.get(HEAD), item.get(FOOT)) {
        (None, None) => return Ok(Inspection::Plaintext),
        (Some(_), None) => return Err(InspectError::OnlyHead),
        (None, Some(_)) => return Err(InspectError::OnlyFoot),
        (Some(head), Some(foot)) => {
            binary(FOOT, foot)?;
            Head::parse(binary(HEAD, head)?)?
        }
    };
    if head.suite.signs() && context::public_key::<POINT_BYTES>(&head.context).is_none() {
        return Err(HeadError::PublicKey.into());
    }
    let mut names: Vec<&str> = item.names().filter(|name| schema.in_scope(name)).collect();
    names.sort_unstable_by(|a, b| path::order(a, b));
    if names.len() != head.legend.len() {
        let unknown = names.iter().filter(|name| schema.action(name).is_none()).map(|name| (*name).to_owned());
        return Err(Mixed::Count { found: names.len(), signed: head.legend.len(), unknown: unknown.collect() }.into());
    }
    let fields = || names.iter().copied().zip(head.legend.iter().copied());
    check_fields(schema, item, &head, fields())?;
    let value_of = |name: &str| item.get(name);
    let from_item = if head.version == 1 {
        context::version_1(schema, value_of)?
    } else {
        let included = fields().filter(|(_, action)| *action == Action::SignAndIncludeInEncryptionContext);
        context::version_2(schema, included.map(|(name, _)| name).collect(), value_of)?
    };
    let context = context::merge(from_item, &head.context)?;
    let aad = context.serialize().ok_or(ContextError::TooLong)?;
    let fields = fields().map(|(name, action)| (name.to_owned(), action)).collect();
    let logical_table = schema.logical_table.clone();
    Ok(Inspection::Sealed(Box::new(Sealed { head, fields, context, aad, logical_table })))
}

fn check_fields<'a>(
    schema: &Schema,
    item: &Item,
    head: &Head,
    fields: impl Iterator<Item = (&'a str, Action)>,
) -> Result<(), InspectError> {
    for (name, action) in fields {
        if schema.keys.contains(name) && action != key_action(head.version) {
            return Err(Mixed::KeyAction { name: name.to_owned(), action }.into());
        }
        if action == Action::EncryptAndSign && !item.get(name).is_some_and(looks_encrypted) {
            return Err(Mixed::NotEncrypted { name: name.to_owned() }.into());
        }
    }
    // Every key of the schema must be among the signed attributes.
    schema.keys.key_of(item)?;
    match schema.keys.iter().find(|name| !schema.in_scope(name)) {
        Some(name) => Err(Mixed::KeyAction { name: name.to_owned(), action: Action::DoNothing }.into()),
        None => Ok(()),
    }
}

/// What the format does with key attributes.
pub(super) const fn key_action(version: u8) -> Action {
    if version == 1 { Action::SignOnly } else { Action::SignAndIncludeInEncryptionContext }
}

/// Whether a value may be the ciphertext of an attribute, as far as that can be told without a key: binary, long enough,
/// and beginning with a known type id.
#[must_use]
pub fn looks_encrypted(value: &Value) -> bool {
    let Value::Binary(bytes) = value else {
        return false;
    };
    bytes.len() >= ENCRYPTED_BYTES_MIN && bytes.first_chunk().is_some_and(|id| value::is_type_id(*id))
}

pub(super) fn binary<'a>(name: &'static str, value: &'a Value) -> Result<&'a [u8], InspectError> {
    match value {
        Value::Binary(bytes) => Ok(bytes),
        other => Err(InspectError::NotBinary { name, found: other.type_name() }),
    }
}

/// Whether an inspected item is what sealing it under this schema, suite and for these recipients would make it, as far
/// as that can be told without a key: version, suite, legend, and the recipients in any order (rule F).
#[must_use]
pub fn matches(schema: &Schema, suite: Suite, recipients: &[Wanted], sealed: &Sealed) -> bool {
    sealed.head.version == version(schema)
        && sealed.head.suite == suite
        && sealed.fields.iter().all(|(name, action)| schema.action(name) == Some(*action))
        && is_for(recipients, sealed)
}

/// Whether an inspected item has the attributes encrypted that this schema encrypts, and no others: then a rewrap, which
/// leaves every attribute as it is, can make it what sealing it would make it.
#[must_use]
pub fn encrypts_the_same(schema: &Schema, sealed: &Sealed) -> bool {
    let encrypts = |action: Action| action == Action::EncryptAndSign;
    sealed.fields.iter().all(|(name, found)| {
        schema.action(name).is_some_and(|wanted| wanted != Action::DoNothing && encrypts(wanted) == encrypts(*found))
    })
}

/// Whether the encrypted data keys are one for each recipient wanted, in any order.
fn is_for(recipients: &[Wanted], sealed: &Sealed) -> bool {
    let mut found: Vec<Recipient> = sealed.head.recipients().collect();
    let mut wanted: Vec<&Wanted> = recipients.iter().collect();
    // What a stricter rule accepts, a laxer one accepts as well: with the strictest first, none takes another's.
    wanted.sort_unstable_by_key(|wanted| wanted.matching);
    found.len() == wanted.len()
        && wanted.into_iter().all(|wanted| {
            let place = found.iter().position(|found| wanted.is(found));
            place.map(|place| found.swap_remove(place)).is_some()
        })
}

/// The header version that items of a schema have.
#[must_use]
pub fn version(schema: &Schema) -> u8 {
    if schema.includes_context() { 2 } else { 1 }
}
