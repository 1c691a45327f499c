//! Plausible changes of sealed items: parts that change places, that come from another item, or that say something else
//! in the same shape. Whatever is in the signature's scope, an item that opens is one that was sealed, as a whole; what
//! is outside never matters.
//!
//! `tests/hostile.rs` changes bytes; here the structure stays whole.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[allow(dead_code, unreachable_pub, reason = "the module of another crate")]
#[path = "fuzz/src/targets/head.rs"]
mod head;
mod sealing;
#[path = "sealing/world.rs"]
mod world;

use std::cell::Cell;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use reseal::crypto::Suite;
use reseal::format::dbesdk::{FOOT, HEAD, Head, MESSAGE_ID_BYTES};
use reseal::format::{Action, Schema};
use reseal::item::{Item, Number, Value};
use reseal::keyring::RawAes;

use head::rendered;
use sealing::{keyring, open, seal, seal_for};
use world::{key, name, value, world};

/// One change of a sealed item. An [`Index`] chooses among whatever attributes, keys or entries there are.
#[derive(Debug, Clone)]
enum Mutation {
    /// Two attributes, header and footer among them, change values.
    Swap(Index, Index),
    /// An attribute gets another name.
    Rename(Index, String),
    /// An attribute gets another value, mostly of another type.
    Set(Index, Value),
    /// An attribute's bytes are called another type.
    Retype(Index),
    Remove(Index),
    Add(String, Value),
    /// An attribute of another sealed item.
    Take(Index, Index),
    /// Header, footer, or both of another sealed item.
    Splice {
        from: Index,
        head: bool,
        foot: bool,
    },
    /// Another sealed item as a whole, but for the attributes outside the signature: that one is genuine.
    Replace(Index),
    /// A change in the header, which stays a header.
    Head(HeadMutation),
    /// A change outside the signature's scope.
    Outside(Index, Option<Value>),
}

#[derive(Debug, Clone)]
enum HeadMutation {
    Version,
    Suite,
    MessageId([u8; MESSAGE_ID_BYTES]),
    LegendSet(Index, Action),
    LegendSwap(Index, Index),
    LegendInsert(Index, Action),
    LegendRemove(Index),
    ContextAdd(String, String),
    EdkRepeat(Index),
    EdkSwap(Index, Index),
    EdkDrop(Index),
    /// All encrypted data keys of another sealed item.
    EdksTake(Index),
    Commitment([u8; 32]),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<Index>;
    let anywhere = || prop_oneof![3 => name(), 1 => "aws_dbe_[a-z]{1,4}", 1 => Just(String::new())];
    prop_oneof![
        2 => (index(), index()).prop_map(|(a, b)| Mutation::Swap(a, b)),
        1 => (index(), anywhere()).prop_map(|(at, name)| Mutation::Rename(at, name)),
        2 => (index(), value()).prop_map(|(at, value)| Mutation::Set(at, value)),
        3 => index().prop_map(Mutation::Retype),
        1 => index().prop_map(Mutation::Remove),
        1 => (anywhere(), value()).prop_map(|(name, value)| Mutation::Add(name, value)),
        3 => (index(), index()).prop_map(|(at, from)| Mutation::Take(at, from)),
        2 => (index(), any::<bool>(), any::<bool>()).prop_map(|(from, head, foot)| Mutation::Splice { from, head, foot }),
        3 => index().prop_map(Mutation::Replace),
        4 => head_mutation().prop_map(Mutation::Head),
        3 => (index(), prop::option::of(value())).prop_map(|(at, value)| Mutation::Outside(at, value)),
    ]
}

fn head_mutation() -> impl Strategy<Value = HeadMutation> {
    let index = any::<Index>;
    let action = || {
        prop::sample::select(vec![Action::EncryptAndSign, Action::SignOnly, Action::SignAndIncludeInEncryptionContext])
    };
    prop_oneof![
        Just(HeadMutation::Version),
        Just(HeadMutation::Suite),
        any::<[u8; MESSAGE_ID_BYTES]>().prop_map(HeadMutation::MessageId),
        (index(), action()).prop_map(|(at, action)| HeadMutation::LegendSet(at, action)),
        (index(), index()).prop_map(|(a, b)| HeadMutation::LegendSwap(a, b)),
        (index(), action()).prop_map(|(at, action)| HeadMutation::LegendInsert(at, action)),
        index().prop_map(HeadMutation::LegendRemove),
        ("[a-z]{0,3}|aws-crypto-[a-z]{1,3}", "[a-z]{0,3}")
            .prop_map(|(key, value)| HeadMutation::ContextAdd(key, value)),
        index().prop_map(HeadMutation::EdkRepeat),
        (index(), index()).prop_map(|(a, b)| HeadMutation::EdkSwap(a, b)),
        index().prop_map(HeadMutation::EdkDrop),
        index().prop_map(HeadMutation::EdksTake),
        any::<[u8; 32]>().prop_map(HeadMutation::Commitment),
    ]
}

/// An item as it was sealed, and as it was before.
struct Genuine {
    sealed: Item,
    plain: Item,
}

/// The same item sealed twice, another item of the table, and the first one sealed for a second recipient as well.
fn genuine(schema: &Schema, suite: Suite, plain: &Item, other: &Item) -> Vec<Genuine> {
    let ours = keyring();
    let theirs = RawAes::new("acme", "k2", &[0x7b; 32]).unwrap();
    let one = |plain: &Item| Genuine { sealed: seal(&ours, schema, suite, plain).unwrap(), plain: plain.clone() };
    let two = seal_for(&[&ours, &theirs], schema, suite, plain).unwrap();
    vec![one(plain), one(plain), one(other), Genuine { sealed: two, plain: plain.clone() }]
}

/// The values of the attributes that the signature covers, header and footer included.
fn authenticated(schema: &Schema, item: &Item) -> Item {
    let covered = |name: &&str| schema.in_scope(name) || [HEAD, FOOT].contains(name);
    item.names().filter(covered).map(|name| (name.to_owned(), item.get(name).unwrap().clone())).collect()
}

fn outside(schema: &Schema, item: &Item) -> Item {
    let free = |name: &&str| !schema.in_scope(name) && ![HEAD, FOOT].contains(name);
    item.names().filter(free).map(|name| (name.to_owned(), item.get(name).unwrap().clone())).collect()
}

/// A name of the item, header and footer among them.
fn named(item: &Item, at: Index) -> Option<String> {
    let names: Vec<&str> = item.names().collect();
    (!names.is_empty()).then(|| names[at.index(names.len())].to_owned())
}

impl Mutation {
    fn apply(&self, schema: &Schema, genuine: &[Genuine], item: &mut Item) {
        let from = |at: &Index| &genuine[at.index(genuine.len())].sealed;
        let there = |item: &Item, at: &Index| named(item, *at);
        match self {
            Self::Swap(a, b) => {
                let (Some(a), Some(b)) = (there(item, a), there(item, b)) else { return };
                let (of_a, of_b) = (item.get(&a).unwrap().clone(), item.get(&b).unwrap().clone());
                item.insert(a, of_b);
                item.insert(b, of_a);
            }
            Self::Rename(at, name) => {
                let Some(old) = there(item, at) else { return };
                let value = item.remove(&old).unwrap();
                item.insert(name, value);
            }
            Self::Set(at, value) => drop(there(item, at).map(|name| item.insert(name, value.clone()))),
            Self::Retype(at) => {
                let retyped = there(item, at).and_then(|name| Some((of_another_type(item.get(&name)?)?, name)));
                drop(retyped.map(|(value, name)| item.insert(name, value)));
            }
            Self::Remove(at) => drop(there(item, at).map(|name| item.remove(&name))),
            Self::Add(name, value) => drop(item.insert(name, value.clone())),
            Self::Take(at, other) => take(item, from(other), &there(from(other), at).unwrap()),
            Self::Splice { from: other, head, foot } => {
                for (name, _) in [(HEAD, head), (FOOT, foot)].into_iter().filter(|(_, wanted)| **wanted) {
                    take(item, from(other), name);
                }
            }
            Self::Replace(other) => {
                *item = authenticated(schema, from(other)).into_iter().chain(outside(schema, item)).collect();
            }
            Self::Head(change) => change.apply(item, from),
            Self::Outside(at, value) => {
                let names: Vec<&str> =
                    schema.unsigned.names.iter().map(String::as_str).chain(["aws_dbe_b_x", "aws_dbe_v_1"]).collect();
                let name = names[at.index(names.len())];
                match value {
                    Some(value) => drop(item.insert(name, value.clone())),
                    None => drop(item.remove(name)),
                }
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
        Value::StringSet(texts) => Some(Value::BinarySet(texts.iter().map(|text| text.clone().into_bytes()).collect())),
        Value::NumberSet(numbers) => Some(Value::StringSet(numbers.iter().map(Number::canonical).collect())),
        _ => None,
    }
}

/// Gives the item another one's attribute.
fn take(item: &mut Item, from: &Item, name: &str) {
    match from.get(name) {
        Some(value) => drop(item.insert(name, value.clone())),
        None => drop(item.remove(name)),
    }
}

fn head_of(item: &Item) -> Option<(Head, Vec<u8>)> {
    let Some(Value::Binary(bytes)) = item.get(HEAD) else { return None };
    Some((Head::parse(bytes).ok()?, bytes.clone()))
}

impl HeadMutation {
    fn apply<'a>(&self, item: &mut Item, from: impl Fn(&Index) -> &'a Item) {
        let Some((mut head, bytes)) = head_of(item) else { return };
        let mut commitment = *bytes.last_chunk::<32>().unwrap();
        let (legend, keys) = (head.legend.len(), head.edks.len());
        match self {
            Self::Version => head.version = 3 - head.version,
            Self::Suite => head.suite = Suite::ALL.into_iter().find(|suite| *suite != head.suite).unwrap(),
            Self::MessageId(id) => head.message_id = *id,
            Self::LegendSet(at, action) if legend > 0 => head.legend[at.index(legend)] = *action,
            Self::LegendSwap(a, b) if legend > 0 => head.legend.swap(a.index(legend), b.index(legend)),
            Self::LegendInsert(at, action) => head.legend.insert(at.index(legend + 1), *action),
            Self::LegendRemove(at) if legend > 0 => drop(head.legend.remove(at.index(legend))),
            Self::LegendSet(..) | Self::LegendSwap(..) | Self::LegendRemove(_) => {}
            Self::ContextAdd(key, value) => drop(head.context.insert(key, value)),
            Self::EdkRepeat(at) => head.edks.push(head.edks[at.index(keys)].clone()),
            Self::EdkSwap(a, b) => head.edks.swap(a.index(keys), b.index(keys)),
            Self::EdkDrop(at) => drop(head.edks.remove(at.index(keys))),
            Self::EdksTake(other) => head.edks = head_of(from(other)).unwrap().0.edks,
            Self::Commitment(bytes) => commitment = *bytes,
        }
        item.insert(HEAD, Value::Binary(rendered(&head, &commitment)));
    }
}

/// A table's schema with two of its items, a suite, and series of changes, each of the first item.
fn cases() -> impl Strategy<Value = (Schema, Item, Item, Suite, Vec<Vec<Mutation>>)> {
    let other = (prop::collection::vec(value(), 9), key(), key());
    let suite = prop::sample::select(&Suite::ALL[..]);
    // Sealing takes most of the time, and one item serves many changes.
    let mutations = prop_oneof![
        3 => prop::collection::vec(mutation(), 1),
        1 => prop::collection::vec(mutation(), 2..5),
    ];
    (world(1..9), other, suite, prop::collection::vec(mutations, 1..100)).prop_map(
        |((schema, item), (values, partition, sort), suite, mutations)| {
            let others = item.names().map(str::to_owned).zip(values);
            let mut other: Item = item.clone().into_iter().chain(others).collect();
            for (name, value) in schema.keys.iter().zip([partition, sort]) {
                other.insert(name, value);
            }
            (schema, item, other, suite, mutations)
        },
    )
}

/// Changes the first item, and demands that it opens exactly if it is one of the genuine ones. Says whether it did.
fn check(schema: &Schema, genuine: &[Genuine], mutations: &[Mutation]) -> Result<bool, TestCaseError> {
    let mut item = genuine[0].sealed.clone();
    for mutation in mutations {
        mutation.apply(schema, genuine, &mut item);
    }
    let whole = authenticated(schema, &item);
    let source = genuine.iter().find(|one| authenticated(schema, &one.sealed).same(&whole));
    let opened = open(&keyring(), schema, &item);
    let Some(source) = source else {
        prop_assert!(opened.is_err(), "it opens, and was not sealed like this: {mutations:?}");
        return Ok(false);
    };
    let opened = opened.map_err(|error| TestCaseError::fail(format!("it was sealed, but: {error}")))?;
    prop_assert!(authenticated(schema, &opened).same(&authenticated(schema, &source.plain)));
    prop_assert!(outside(schema, &opened) == outside(schema, &item));
    Ok(true)
}

#[test]
fn what_opens_was_sealed_as_a_whole() {
    let (opened, refused) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(ProptestConfig { cases: 80, ..ProptestConfig::default() });
    let outcome = runner.run(&cases(), |(schema, plain, other, suite, mutations)| {
        let genuine = genuine(&schema, suite, &plain, &other);
        for mutations in &mutations {
            let counter = if check(&schema, &genuine, mutations)? { &opened } else { &refused };
            counter.set(counter.get() + 1);
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(opened.get() >= 100 && refused.get() >= 500, "{} opened, {} refused", opened.get(), refused.get());
}
