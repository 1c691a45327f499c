//! The items of the benchmark, and what is done with them: 1 KB each, ten attributes, six of them encrypted.

use std::collections::BTreeSet;

use reseal::crypto::{Recipient, Suite};
use reseal::format::{Action, Schema, Unsigned};
use reseal::item::{Item, KeyNames, Number, Value};
use reseal::keyring::{RawAes, Wanted};
use reseal::migration::{Depth, Policy, Target};

/// Items of one page: with 1 KB each, what DynamoDB puts into 1 MB.
pub(crate) const PAGE: usize = 1000;

/// The attribute with the key.
pub(crate) const KEY: &str = "pk";
/// Attributes that are signed, with their bytes; `created` is a number.
const SIGNED: [(&str, usize); 3] = [("created", 10), ("region", 12), ("status", 6)];
/// Attributes that are encrypted, with their bytes.
pub(crate) const ENCRYPTED: [(&str, usize); 6] =
    [("address", 140), ("email", 40), ("name", 30), ("notes", 300), ("phone", 20), ("profile", 350)];

pub(crate) const SUITE: Suite = Suite::HmacSha384;

/// Every attribute but the key, by name.
pub(crate) fn others() -> BTreeSet<&'static str> {
    SIGNED.iter().chain(&ENCRYPTED).map(|(name, _)| *name).collect()
}

/// One of the items; they differ in every value.
pub(crate) fn item(i: usize) -> Item {
    let text = |bytes: usize| -> String { (0..bytes).map(|j| char::from(b'a' + ((i + 7 * j) % 26) as u8)).collect() };
    let number = Number::parse(&format!("{}", 1_700_000_000 + i)).expect("ten digits are a number");
    let texts = SIGNED.iter().chain(&ENCRYPTED).map(|(name, bytes)| ((*name).to_owned(), Value::String(text(*bytes))));
    let mut item: Item = texts.collect();
    item.insert(KEY, Value::String(format!("customer-{i:08}")));
    item.insert("created", Value::Number(number));
    item
}

pub(crate) fn names() -> KeyNames {
    KeyNames { partition: KEY.to_owned(), sort: None }
}

/// From anything to items without a signature, sealed by [`keyring`].
pub(crate) fn policy() -> Policy {
    let signed = SIGNED.iter().map(|(name, _)| (*name, Action::SignOnly));
    let encrypted = ENCRYPTED.iter().map(|(name, _)| (*name, Action::EncryptAndSign));
    let actions = signed.chain(encrypted).chain([(KEY, Action::SignOnly)]);
    let schema = Schema {
        logical_table: "customers".to_owned(),
        keys: names(),
        actions: actions.map(|(name, action)| (name.to_owned(), action)).collect(),
        unsigned: Unsigned::default(),
    };
    let recipient = Recipient { provider: "acme".to_owned(), key: "k1".to_owned() };
    let target = Target::Dbesdk { suite: SUITE, recipients: vec![Wanted::exactly(recipient)] };
    Policy { schema, accept_plaintext: true, accept_dbesdk: true, target, depth: Depth::Reencrypt }
}

/// What sealed items before, that are to be sealed by [`keyring`] now.
pub(crate) fn old_keyring() -> RawAes {
    RawAes::new("acme", "k0", &[0x3c; 32]).expect("32 bytes are a key")
}

pub(crate) fn keyring() -> RawAes {
    RawAes::new("acme", "k1", &[0x5a; 32]).expect("32 bytes are a key")
}
