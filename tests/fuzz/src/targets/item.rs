//! Whole items, and footers: whatever opens is an item that was sealed here.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use reseal::crypto::{Secret, Suite, WrappedKey};
use reseal::format::dbesdk::{self, FOOT, HEAD, Inspection};
use reseal::format::{Action, Schema, Unsigned};
use reseal::item::{Item, KeyNames, Number, Value};
use reseal::migration::{Depth, Policy, Target};

/// A sealed item and what it was before.
struct Sealed {
    item: Item,
    plain: Item,
    /// A reader checks only its own tag: with several recipients it cannot notice that another's was changed.
    recipients: u8,
}

/// Items of two customers, one of them sealed twice, in every version and suite. The keys are constant, and so are the
/// items but for the signed ones.
static SEALED: LazyLock<Vec<Sealed>> = LazyLock::new(|| {
    let cases = [
        (1, Suite::HmacSha384, 1, "a"),
        (1, Suite::HmacSha384, 1, "a"),
        (1, Suite::HmacSha384, 2, "b"),
        (2, Suite::HmacSha384, 1, "a"),
        (1, Suite::EcdsaP384, 1, "a"),
        (2, Suite::EcdsaP384, 2, "b"),
    ];
    (1..)
        .zip(cases)
        .map(|(number, (version, suite, recipients, id))| seal(number, version, suite, recipients, id))
        .collect()
});

/// Every attribute name that a sealed item has, and names that it has not: in scope, unsigned, reserved, empty.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let there: BTreeSet<&str> = SEALED.iter().flat_map(|sealed| sealed.item.names()).collect();
    there.into_iter().chain(["late", ":late", "aws_dbe_late", ""]).map(str::to_owned).collect()
});

fn schema(version: u8) -> Schema {
    let signed = if version == 1 { Action::SignOnly } else { Action::SignAndIncludeInEncryptionContext };
    let actions = [
        ("card", Action::EncryptAndSign),
        ("id", signed),
        ("name", Action::EncryptAndSign),
        ("rate", signed),
        ("tags", Action::EncryptAndSign),
        ("visits", Action::DoNothing),
        ("zone", Action::SignOnly),
    ];
    Schema {
        logical_table: "customers".into(),
        keys: KeyNames { partition: "id".into(), sort: None },
        actions: actions.map(|(name, action)| (name.to_owned(), action)).into(),
        unsigned: Unsigned { names: ["visits".to_owned()].into(), prefix: Some(":".into()) },
    }
}

fn number(text: &str) -> Number {
    Number::parse(text).expect("a number")
}

fn intermediate_key(recipient: u8) -> Secret {
    Secret::new([recipient; 32])
}

fn seal(message: u8, version: u8, suite: Suite, recipients: u8, id: &str) -> Sealed {
    let plain: Item = [
        ("aws_dbe_b_name", Value::from("a7")),
        ("card", Value::from("4111")),
        ("id", Value::from(id)),
        ("name", Value::from("Zoë")),
        ("rate", Value::Number(number("1.5"))),
        ("tags", Value::NumberSet(vec![number("1"), number("20")])),
        ("visits", Value::Number(number("3"))),
        ("zone", Value::Binary(vec![0; 20])),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let wrapped: Vec<WrappedKey> = (1..=recipients)
        .map(|recipient| WrappedKey {
            provider_id: "acme".into(),
            provider_info: [b"k", &[b'0' + recipient][..], &[0, 0, 0, 128, 0, 0, 0, 12], &[1; 12]].concat(),
            ciphertext: vec![recipient; 48],
            key: intermediate_key(recipient),
        })
        .collect();
    let prepared = dbesdk::prepare(&schema(version), suite, &plain).expect("it fits the schema");
    let item = dbesdk::seal(&plain, prepared, &Secret::new([0x5a; 32]), [message; 32], &wrapped).expect("it is small");
    Sealed { item, plain, recipients }
}

/// Inspects an item and opens it with any key that sealed anything here.
fn open(item: &Item) -> Option<Item> {
    // Scope and keys are the same in both versions, and a reader asks the schema for nothing else.
    let schema = schema(1);
    let recipients = Vec::new();
    let target = Target::Dbesdk { suite: Suite::EcdsaP384, recipients };
    drop(
        Policy { schema: schema.clone(), accept_plaintext: true, accept_dbesdk: true, target, depth: Depth::Reencrypt }
            .classify(item),
    );
    let Ok(Inspection::Sealed(sealed)) = dbesdk::inspect(&schema, item) else { return None };
    drop(format!("{sealed:?}"));
    let edks = 0..sealed.head.edks.len().min(4);
    edks.flat_map(|edk| [(edk, 1), (edk, 2)])
        .find_map(|(edk, recipient)| dbesdk::open(item, &sealed, edk, &intermediate_key(recipient)).ok())
}

/// Whether the part of the item that was authenticated is that of the sealed one.
fn is(item: &Item, sealed: &Sealed, foot_too: bool) -> bool {
    let schema = schema(1);
    let authentic = |name: &&str| schema.in_scope(name) || *name == HEAD || (foot_too && *name == FOOT);
    let part = |item: &Item| -> Item {
        item.names().filter(authentic).filter_map(|name| Some((name.to_owned(), item.get(name)?.clone()))).collect()
    };
    part(item).same(&part(&sealed.item))
}

/// Opens the item, and demands that this succeeds exactly if it is one of the sealed ones, and gives what that one was,
/// together with the item's own unsigned attributes.
fn check(item: &Item) {
    let opened = open(item);
    let whole = SEALED.iter().any(|sealed| is(item, sealed, true));
    assert!(opened.is_some() || !whole, "an item that was sealed here does not open");
    let Some(opened) = opened else { return };
    let source = SEALED.iter().find(|sealed| is(item, sealed, sealed.recipients == 1));
    let source = source.expect("an item opens that was not sealed here");
    let schema = schema(1);
    for name in opened.names().chain(item.names()).filter(|name| *name != HEAD && *name != FOOT) {
        let expected = if schema.in_scope(name) { source.plain.get(name) } else { item.get(name) };
        let same = opened.get(name).zip(expected).is_some_and(|(opened, expected)| opened.same(expected));
        assert!(same, "\"{name}\" opens as what was not sealed");
    }
}

/// A sealed item with another footer. The first byte chooses the item; the rest is laid over its footer bit by bit, so
/// that zeros leave it as it is, and what is longer than the footer makes it longer. The second byte cuts from its end.
pub fn foot(bytes: &[u8]) {
    let [which, cut, mask @ ..] = bytes else { return };
    let mut item = chosen(*which).item.clone();
    let Some(Value::Binary(mut foot)) = item.remove(FOOT) else { unreachable!("it was sealed") };
    foot.truncate(foot.len().saturating_sub(usize::from(*cut)));
    foot.resize(foot.len().max(mask.len()), 0);
    foot.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    item.insert(FOOT, Value::Binary(foot));
    check(&item);
}

/// Bytes of one edit.
pub const EDIT_BYTES: usize = 6;

/// A sealed item after a number of edits. The first byte chooses the item; each edit has six bytes: what is done, two
/// attributes or another item, an offset of 16 bits, and a value.
pub fn item(bytes: &[u8]) {
    let Some((which, edits)) = bytes.split_first() else { return };
    let mut item = chosen(*which).item.clone();
    for edit in edits.as_chunks::<EDIT_BYTES>().0 {
        apply(*edit, &mut item);
    }
    check(&item);
}

fn chosen(which: u8) -> &'static Sealed {
    &SEALED[usize::from(which) % SEALED.len()]
}

fn apply([what, a, b, high, low, value]: [u8; EDIT_BYTES], item: &mut Item) {
    let name = |which: u8| NAMES[usize::from(which) % NAMES.len()].as_str();
    let offset = usize::from(u16::from_be_bytes([high, low]));
    let (a, other) = (name(a), chosen(b));
    match what % 11 {
        0 => binary(item, a, |bytes| bytes.get_mut(offset).map_or((), |byte| *byte ^= value)),
        1 => binary(item, a, |bytes| bytes.truncate(offset)),
        2 => binary(item, a, |bytes| bytes.insert(offset.min(bytes.len()), value)),
        3 => binary(item, a, |bytes| {
            let end = (offset + usize::from(value)).min(bytes.len());
            bytes.drain(offset.min(end)..end);
        }),
        4 => binary(item, a, |bytes| {
            let end = (offset + usize::from(value)).min(bytes.len());
            bytes.extend_from_within(offset.min(end)..end);
        }),
        // The attribute of another item, or that item as a whole.
        5 => put(item, a, other.item.get(a).cloned()),
        6 => *item = other.item.clone(),
        7 => {
            let (of_a, of_b) = (item.remove(a), item.remove(name(b)));
            put(item, a, of_b);
            put(item, name(b), of_a);
        }
        8 => put(item, a, other.plain.get(name(value)).cloned()),
        9 => {
            let values = [Value::Null, Value::Bool(true), Value::from("x"), Value::List(vec![]), Value::Binary(vec![])];
            put(item, a, values.get(usize::from(value)).cloned());
        }
        _ => {
            if let Some(value) = item.get(a).and_then(of_another_type) {
                item.insert(a, value);
            }
        }
    }
}

/// The same bytes as another type, where there is one.
fn of_another_type(value: &Value) -> Option<Value> {
    match value {
        Value::Binary(bytes) => String::from_utf8(bytes.clone()).ok().map(Value::String),
        Value::String(text) => Some(Value::Binary(text.clone().into_bytes())),
        Value::Number(number) => Some(Value::String(number.canonical())),
        _ => None,
    }
}

fn binary(item: &mut Item, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    if let Some(Value::Binary(mut bytes)) = item.get(name).cloned() {
        change(&mut bytes);
        item.insert(name, Value::Binary(bytes));
    }
}

/// Sets the attribute, or removes it.
fn put(item: &mut Item, name: &str, value: Option<Value>) {
    match value {
        Some(value) => drop(item.insert(name, value)),
        None => drop(item.remove(name)),
    }
}
