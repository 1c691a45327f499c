//! Nothing that was changed opens: twenty sealed items of different shape, and of each every single-byte change and every
//! truncation of header, footer and each encrypted or signed value.
//!
//! The items have one recipient. With several, a reader checks only its own tag, and cannot notice that another's was
//! damaged: that is how the format is. Nor is an unsigned attribute's change noticed.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod sealing;

use std::collections::BTreeMap;

use proptest::prelude::*;
use reseal::crypto::Suite;
use reseal::format::dbesdk::{FOOT, HEAD, Head};
use reseal::format::{Action, Schema, Unsigned};
use reseal::item::{Item, KeyNames, Number, Value};

use sealing::{keyring, open, seal};

const SIGN: Action = Action::SignOnly;
const ENCRYPT: Action = Action::EncryptAndSign;
const INCLUDE: Action = Action::SignAndIncludeInEncryptionContext;

fn number(text: &str) -> Number {
    Number::parse(text).unwrap()
}

fn every_type() -> Vec<Value> {
    let map = BTreeMap::from([("é".to_owned(), Value::Bool(false)), ("😀".to_owned(), Value::from("x"))]);
    vec![
        Value::from("grüße"),
        Value::Number(number("-12.5")),
        Value::Binary(vec![0, 255, 7]),
        Value::Bool(true),
        Value::Null,
        Value::StringSet(vec!["b".into(), "a".into()]),
        Value::NumberSet(vec![number("3"), number("1.5")]),
        Value::BinarySet(vec![vec![1], vec![2, 3]]),
        Value::List(vec![Value::from("in"), Value::Map(map.clone())]),
        Value::Map(map),
    ]
}

/// Five shapes of item: attributes with their actions, keys aside.
fn shapes() -> Vec<Vec<(String, Value, Action)>> {
    let named = |prefix: &str, action: Action| -> Vec<(String, Value, Action)> {
        every_type().into_iter().enumerate().map(|(i, value)| (format!("{prefix}{i}"), value, action)).collect()
    };
    vec![
        vec![],
        named("enc", ENCRYPT),
        named("sig", SIGN),
        vec![("empty".into(), Value::from(""), ENCRYPT), ("😀".into(), Value::from("astral"), SIGN)],
        vec![
            ("blob".into(), Value::Binary((0..=255).collect()), ENCRYPT),
            ("ｎａｍｅ".into(), Value::from("z"), ENCRYPT),
        ],
    ]
}

/// The item of one shape, with what readers must know to open it.
fn shaped(shape: usize, version: u8, sort: bool) -> (Schema, Item) {
    let (key_action, signed) = if version == 2 { (INCLUDE, INCLUDE) } else { (SIGN, SIGN) };
    let mut attributes = shapes().swap_remove(shape);
    for (_, _, action) in attributes.iter_mut().filter(|(_, _, action)| *action == SIGN) {
        *action = signed;
    }
    attributes.push(("id".into(), Value::from("customer-1"), key_action));
    if sort {
        attributes.push(("at".into(), Value::Number(number("20240101")), key_action));
    }
    let schema = Schema {
        logical_table: "customers".into(),
        keys: KeyNames { partition: "id".into(), sort: sort.then(|| "at".into()) },
        actions: attributes.iter().map(|(name, _, action)| (name.clone(), *action)).collect(),
        unsigned: Unsigned { names: ["visits".to_owned()].into(), prefix: None },
    };
    let mut item: Item = attributes.into_iter().map(|(name, value, _)| (name, value)).collect();
    item.insert("visits", Value::Number(number("3")));
    item.insert("aws_dbe_b_name", Value::from("a7"));
    (schema, item)
}

/// Every value that differs from the given one in one byte, one member, or by having less.
fn changes(value: &Value) -> Vec<Value> {
    match value {
        Value::Binary(bytes) => changed_bytes(bytes).into_iter().map(Value::Binary).collect(),
        Value::String(text) => changed_text(text).into_iter().map(Value::String).collect(),
        Value::Number(number) => changed_text(number.as_str())
            .iter()
            .filter_map(|text| Number::parse(text).ok())
            .map(Value::Number)
            .collect(),
        Value::Bool(flag) => vec![Value::Bool(!flag), Value::Null],
        Value::Null => vec![Value::Bool(true), Value::from("")],
        Value::StringSet(members) => {
            each_member(members, |text| changed_text(text)).into_iter().map(Value::StringSet).collect()
        }
        Value::BinarySet(members) => {
            each_member(members, |bytes| changed_bytes(bytes)).into_iter().map(Value::BinarySet).collect()
        }
        Value::NumberSet(members) => each_member(members, |member| {
            changed_text(member.as_str()).iter().filter_map(|text| Number::parse(text).ok()).collect()
        })
        .into_iter()
        .map(Value::NumberSet)
        .collect(),
        Value::List(members) => each_member(members, changes).into_iter().map(Value::List).collect(),
        Value::Map(members) => {
            let entries: Vec<(String, Value)> = members.clone().into_iter().collect();
            let changed = each_member(&entries, |(name, value)| {
                let values = changes(value).into_iter().map(|value| (name.clone(), value));
                let names = changed_text(name).into_iter().map(|name| (name, value.clone()));
                values.chain(names).collect()
            });
            changed.into_iter().map(|entries| Value::Map(entries.into_iter().collect())).collect()
        }
    }
}

/// At each position one flipped bit and one random other byte; and each truncation.
fn changed_bytes(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = (0..bytes.len()).map(|length| bytes[..length].to_vec()).collect();
    for at in 0..bytes.len() {
        for mask in [1 << rand::random_range(0..8), rand::random_range(1..=255)] {
            let mut changed = bytes.to_vec();
            changed[at] ^= mask;
            out.push(changed);
        }
    }
    out.push([bytes, &[0]].concat());
    out
}

fn changed_text(text: &str) -> Vec<String> {
    changed_bytes(text.as_bytes()).into_iter().filter_map(|bytes| String::from_utf8(bytes).ok()).collect()
}

fn each_member<T: Clone>(members: &[T], change: impl Fn(&T) -> Vec<T>) -> Vec<Vec<T>> {
    let mut out = Vec::new();
    for at in 0..members.len() {
        let mut shorter = members.to_vec();
        shorter.remove(at);
        out.push(shorter);
        for changed in change(&members[at]) {
            let mut members = members.to_vec();
            members[at] = changed;
            out.push(members);
        }
    }
    out
}

/// Tries every change of the five items of one version and suite.
fn nothing_changed_opens(version: u8, suite: Suite) {
    let keyring = keyring();
    for shape in 0..shapes().len() {
        let (schema, item) = shaped(shape, version, shape % 2 == 1);
        let sealed = seal(&keyring, &schema, suite, &item).unwrap();
        assert!(open(&keyring, &schema, &sealed).unwrap().same(&item), "untouched, it opens");
        let mut tried = 0;
        for (name, value) in sealed.iter() {
            if !(name == HEAD || name == FOOT || schema.in_scope(name)) {
                continue;
            }
            for changed in changes(value).into_iter().filter(|changed| !changed.same(value)) {
                let mut hostile = sealed.clone();
                hostile.insert(name, changed);
                let opened = open(&keyring, &schema, &hostile);
                assert!(opened.is_err(), "version {version}, {suite}, shape {shape}: opens with \"{name}\" changed");
                tried += 1;
            }
            let mut without = sealed.clone();
            without.remove(name);
            let opened = open(&keyring, &schema, &without);
            assert!(opened.is_err(), "version {version}, {suite}, shape {shape}: opens without \"{name}\"");
        }
        assert!(tried > 700, "shape {shape}: {tried} changes");
    }
}

#[test]
fn version_1_without_signature() {
    nothing_changed_opens(1, Suite::HmacSha384);
}

#[test]
fn version_1_with_signature() {
    nothing_changed_opens(1, Suite::EcdsaP384);
}

#[test]
fn version_2_without_signature() {
    nothing_changed_opens(2, Suite::HmacSha384);
}

#[test]
fn version_2_with_signature() {
    nothing_changed_opens(2, Suite::EcdsaP384);
}

/// Attributes cannot change places, nor come from another item or another sealing of the same one.
#[test]
fn nothing_moved_opens() {
    let keyring = keyring();
    for suite in Suite::ALL {
        let (schema, item) = shaped(1, 1, false);
        let (one, two) =
            (seal(&keyring, &schema, suite, &item).unwrap(), seal(&keyring, &schema, suite, &item).unwrap());
        for name in one.names().filter(|name| *name != "id" && *name != "visits" && *name != "aws_dbe_b_name") {
            let mut mixed = one.clone();
            mixed.insert(name, two.get(name).unwrap().clone());
            assert!(open(&keyring, &schema, &mixed).is_err(), "\"{name}\" of another sealing");
        }
        let mut swapped = one.clone();
        swapped.insert("enc0", one.get("enc1").unwrap().clone());
        swapped.insert("enc1", one.get("enc0").unwrap().clone());
        assert!(open(&keyring, &schema, &swapped).is_err());
        let mut renamed = one.clone();
        let value = renamed.remove("enc0").unwrap();
        renamed.insert("encx", value);
        assert!(open(&keyring, &schema, &renamed).is_err());
    }
}

proptest! {
    /// Whatever the bytes, parsing ends and does not panic.
    #[test]
    fn parsing_any_bytes(
        start in prop::collection::vec(any::<u8>(), 0..8),
        rest in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(b'e'), any::<u8>()], 0..400),
    ) {
        drop(Head::parse(&[&start[..], &rest].concat()));
        drop(Head::parse(&[&[1, 0][..], &[7; 32], &rest[..]].concat()));
        drop(Head::parse(&[&[2, 1][..], &[7; 32], &[0, 1, b'c', 0, 0], &rest[..]].concat()));
    }

    /// Whatever stands in header, footer and attributes, opening ends in an error.
    #[test]
    fn opening_any_bytes(foot in prop::collection::vec(any::<u8>(), 0..300), cut in any::<prop::sample::Index>(), patch in any::<[u8; 4]>()) {
        let keyring = keyring();
        let (schema, item) = shaped(3, 1, false);
        let mut sealed = seal(&keyring, &schema, Suite::HmacSha384, &item).unwrap();
        let Some(Value::Binary(mut head)) = sealed.remove(HEAD) else { panic!("sealed") };
        let at = cut.index(head.len() - 3);
        prop_assume!(head[at..at + 4] != patch);
        head[at..at + 4].copy_from_slice(&patch);
        sealed.insert(HEAD, Value::Binary(head));
        prop_assert!(open(&keyring, &schema, &sealed).is_err());
        sealed.insert(FOOT, Value::Binary(foot));
        prop_assert!(open(&keyring, &schema, &sealed).is_err());
    }
}
