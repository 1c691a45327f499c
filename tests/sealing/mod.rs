//! Sealing and opening with one offline keyring, in one call each.

use std::error::Error;

use futures::FutureExt as _;
use reseal::crypto::{Secret, Suite};
use reseal::format::Schema;
use reseal::format::dbesdk::{self, Inspection, Sealed};
use reseal::item::Item;
use reseal::keyring::{Keyring, RawAes};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// The keyring under test. It works offline: its answers are there at once.
pub(crate) fn keyring() -> RawAes {
    RawAes::new("acme", "k1", &[0x5a; 32]).expect("32 bytes are a key")
}

pub(crate) fn seal(keyring: &RawAes, schema: &Schema, suite: Suite, item: &Item) -> Outcome<Item> {
    seal_for(&[keyring], schema, suite, item)
}

/// Seals for the recipients of several keyrings.
pub(crate) fn seal_for(keyrings: &[&RawAes], schema: &Schema, suite: Suite, item: &Item) -> Outcome<Item> {
    let prepared = dbesdk::prepare(schema, suite, item)?;
    let mut recipients = Vec::new();
    for keyring in keyrings {
        recipients.extend(keyring.generate(&prepared.context).now_or_never().ok_or("the keyring waits")??);
    }
    Ok(dbesdk::seal(item, prepared, &Secret::random(), rand::random(), &recipients)?)
}

pub(crate) fn inspect(schema: &Schema, item: &Item) -> Outcome<Sealed> {
    match dbesdk::inspect(schema, item)? {
        Inspection::Sealed(sealed) => Ok(*sealed),
        Inspection::Plaintext => Err("not sealed".into()),
    }
}

pub(crate) fn open(keyring: &RawAes, schema: &Schema, item: &Item) -> Outcome<Item> {
    let sealed = inspect(schema, item)?;
    let (index, wrapped) = sealed
        .head
        .edks
        .iter()
        .enumerate()
        .find_map(|(index, edk)| edk.wrapped().filter(|found| keyring.accepts(*found)).map(|found| (index, found)))
        .ok_or("sealed for others")?;
    let key = keyring.unwrap(wrapped, &sealed.context).now_or_never().ok_or("the keyring waits")??;
    Ok(dbesdk::open(item, &sealed, index, &key)?)
}
