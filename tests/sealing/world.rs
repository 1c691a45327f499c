//! Items of any shape, for property tests.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use proptest::prelude::*;
use reseal::format::{Action, Schema, Unsigned};
use reseal::item::{Item, KeyNames, Number, Value};

fn number() -> impl Strategy<Value = Number> {
    let digits = "[0-9]{1,30}";
    let text = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (any::<bool>(), digits, "[0-9]{0,8}").prop_map(|(negative, whole, fraction)| {
            format!("{}{whole}.{fraction}", if negative { "-" } else { "" })
        }),
        ("[1-9]", -120..120_i32).prop_map(|(digit, power)| format!("{digit}E{power}")),
    ];
    text.prop_map(|text| Number::parse(&text).unwrap())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["\\PC{0,20}", "[a-z]{0,8}", "[\u{fff0}-\u{10010}]{0,3}"]
}

fn distinct<T, K: Ord>(members: Vec<T>, identity: impl Fn(&T) -> K) -> Vec<T> {
    let mut seen = BTreeSet::new();
    members.into_iter().filter(|member| seen.insert(identity(member))).collect()
}

pub(crate) fn value() -> impl Strategy<Value = Value> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let leaf = prop_oneof![
        text().prop_map(Value::String),
        number().prop_map(Value::Number),
        bytes().prop_map(Value::Binary),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Null),
        prop::collection::vec(text(), 1..5).prop_map(|set| Value::StringSet(distinct(set, Clone::clone))),
        prop::collection::vec(number(), 1..5).prop_map(|set| Value::NumberSet(distinct(set, Number::canonical))),
        prop::collection::vec(bytes(), 1..5).prop_map(|set| Value::BinarySet(distinct(set, Clone::clone))),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
            prop::collection::btree_map("\\PC{1,6}", inner, 0..6).prop_map(Value::Map),
        ]
    })
}

pub(crate) fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,3}", "\\PC{1,255}", "[\u{fff0}-\u{10010}é]{1,4}"].prop_filter("reserved", |name| {
        !name.starts_with("aws_dbe_") && !name.starts_with("aws-crypto-") && !["pk", "sk"].contains(&name.as_str())
    })
}

pub(crate) fn key() -> impl Strategy<Value = Value> {
    prop_oneof![
        "\\PC{1,20}".prop_map(Value::String),
        number().prop_map(Value::Number),
        prop::collection::vec(any::<u8>(), 1..20).prop_map(Value::Binary),
    ]
}

/// An item of so many attributes, keys aside, with a schema that fits it.
pub(crate) fn world(attributes: Range<usize>) -> impl Strategy<Value = (Schema, Item)> {
    let actions = prop_oneof![
        3 => Just(Action::EncryptAndSign),
        2 => Just(Action::SignOnly),
        1 => Just(Action::SignAndIncludeInEncryptionContext),
        1 => Just(Action::DoNothing),
    ];
    let attributes = prop::collection::btree_map(name(), (value(), actions), attributes);
    (attributes, key(), prop::option::of(key()), "\\PC{1,12}").prop_map(|(attributes, partition, sort, table)| {
        let includes = attributes.values().any(|(_, action)| *action == Action::SignAndIncludeInEncryptionContext);
        let key_action = if includes { Action::SignAndIncludeInEncryptionContext } else { Action::SignOnly };
        let keys = KeyNames { partition: "pk".into(), sort: sort.is_some().then(|| "sk".into()) };
        let mut actions: BTreeMap<String, Action> =
            attributes.iter().map(|(name, (_, action))| (name.clone(), *action)).collect();
        actions.extend(keys.iter().map(|name| (name.to_owned(), key_action)));
        let unsigned = actions.iter().filter(|(_, action)| **action == Action::DoNothing);
        let names = unsigned.map(|(name, _)| name.clone()).collect();
        let mut item: Item = attributes.into_iter().map(|(name, (value, _))| (name, value)).collect();
        item.insert("pk", partition);
        if let Some(sort) = sort {
            item.insert("sk", sort);
        }
        (Schema { logical_table: table, keys, actions, unsigned: Unsigned { names, prefix: None } }, item)
    })
}
