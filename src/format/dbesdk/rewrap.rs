//! Wrapping an item's data key anew: other recipients, another suite or header version, the same data key, message id
//! and encrypted attributes. Only header and footer change.
//!
//! What may be kept and what must be fresh: the data key and the message id give each encrypted attribute its key and
//! nonce, so with them every ciphertext stays as it is, and none may change. An intermediate key wraps the data key with
//! a constant nonce, so it must never serve under two contexts: each recipient gets a fresh one. The private key of the
//! old signature is gone, so a suite with signature has a fresh key pair, and with it another context.

use std::fmt;

use super::context::ContextError;
use super::inspect::{Sealed, version};
use super::open::record_under;
use super::seal::{Envelope, SealError, Signer, check_keys, context_of, signed_action};
use super::{FOOT, HEAD};
use crate::crypto::{EncryptionContext, Secret, Suite, WrappedKey};
use crate::format::{Action, Schema};
use crate::item::{Item, Value};

/// A sealed item that was authenticated, and waits for the keys of its new recipients.
pub struct Rewrap {
    /// The encryption context that every recipient's key must be bound to.
    pub context: EncryptionContext,
    aad: Vec<u8>,
    version: u8,
    suite: Suite,
    legend: Vec<Action>,
    signer: Option<Signer>,
    sealed: Box<Sealed>,
    data_key: Secret,
}

/// Sizes only: the context holds key attributes.
impl fmt::Debug for Rewrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rewrap")
            .field("version", &self.version)
            .field("suite", &self.suite)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

impl Rewrap {
    /// Whether `new`, sealed and authenticated, has the data key, message id and attributes of `old`, the item that was
    /// prepared: then it opens to the same values.
    #[must_use]
    pub fn keeps(&self, old: &Item, new: &Item, sealed: &Sealed, data_key: &Secret) -> bool {
        self.data_key == *data_key
            && self.sealed.head.message_id == sealed.head.message_id
            && self.sealed.fields.iter().map(|(name, _)| name).eq(sealed.fields.iter().map(|(name, _)| name))
            && kept(old).eq(kept(new))
    }
}

/// All attributes but header and footer.
fn kept(item: &Item) -> impl Iterator<Item = (&str, &Value)> {
    item.iter().filter(|(name, _)| ![HEAD, FOOT].contains(name))
}

/// Builds the new context of a sealed item. `data_key` is what [`super::authenticate`] gave back for this item: what was
/// not authenticated would be given a valid footer.
///
/// # Errors
/// [`SealError`] naming the attribute that this schema does not seal as the item has it: what is encrypted cannot change
/// without sealing the item anew.
pub fn prepare_rewrap(
    schema: &Schema,
    suite: Suite,
    item: &Item,
    sealed: Box<Sealed>,
    data_key: Secret,
) -> Result<Rewrap, SealError> {
    let version = version(schema);
    check_keys(schema, version, item)?;
    let mut legend = Vec::with_capacity(sealed.fields.len());
    for (name, found) in &sealed.fields {
        let unsigned = || SealError::Kept { name: name.clone(), found: *found, wanted: Action::DoNothing };
        let wanted = signed_action(schema, name)?.ok_or_else(unsigned)?;
        if (*found == Action::EncryptAndSign) != (wanted == Action::EncryptAndSign) {
            return Err(SealError::Kept { name: name.clone(), found: *found, wanted });
        }
        legend.push(wanted);
    }
    let mut context = context_of(schema, version, item)?;
    let signer = Signer::for_suite(suite, &mut context)?;
    let aad = context.serialize().ok_or(ContextError::TooLong)?;
    Ok(Rewrap { context, aad, version, suite, legend, signer, sealed, data_key })
}

/// Gives an item a new header and footer. `item` is the one that was prepared; each recipient's key is fresh and was
/// wrapped under the prepared context.
///
/// # Errors
/// [`SealError`] when there are too few or too many recipients, a part grows too long, or signing fails.
pub fn rewrap(item: &Item, prepared: &Rewrap, recipients: &[WrappedKey]) -> Result<Item, SealError> {
    let Rewrap { aad, version, suite, legend, signer, sealed, data_key, .. } = prepared;
    let envelope = Envelope::new(
        (*version, *suite),
        (data_key, &sealed.head.message_id),
        legend.iter().copied(),
        (aad, signer.as_ref()),
        recipients,
    )?;
    let record = record_under(&envelope.head, aad, item, sealed).map_err(|_| SealError::NotInspected)?;
    let foot = envelope.foot(&record, signer.as_ref())?;
    let mut new = item.clone();
    new.insert(HEAD, Value::Binary(envelope.head));
    new.insert(FOOT, Value::Binary(foot));
    Ok(new)
}
