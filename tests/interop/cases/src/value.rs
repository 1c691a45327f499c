//! DynamoDB JSON values, of all ten types.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value as Json, json};

use crate::random::Random;
use crate::{number, text};

/// What an attribute's value may be.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    String,
    Number,
    Binary,
    Bool,
    Null,
    StringSet,
    NumberSet,
    BinarySet,
    List,
    Map,
    /// An empty string, binary, list or map.
    Empty,
    /// Containers in containers, as deep as the official library seals them.
    Deep,
    /// A string or binary of some ten thousand bytes.
    Large,
}

/// The ten types.
pub const ALL: &[Kind] = &[
    Kind::String,
    Kind::Number,
    Kind::Binary,
    Kind::Bool,
    Kind::Null,
    Kind::StringSet,
    Kind::NumberSet,
    Kind::BinarySet,
    Kind::List,
    Kind::Map,
];
/// What a key attribute may be.
pub const KEYS: &[Kind] = &[Kind::String, Kind::Number, Kind::Binary];
/// Containers around the innermost value: the official library refuses one more.
const DEPTH: usize = 31;
/// Containers in a value that is not meant to be deep.
const USUAL_DEPTH: usize = 3;

/// A value of a kind. Never an empty set: DynamoDB has none.
pub fn any(kind: Kind, random: &mut Random) -> Json {
    nested(kind, random, USUAL_DEPTH)
}

/// A key's value: short and not empty.
pub fn key(kind: Kind, random: &mut Random) -> Json {
    match kind {
        Kind::Binary => json!({ "B": binary(random, 1, 40) }),
        Kind::Number => any(kind, random),
        _ => json!({ "S": string(random, 1, 30) }),
    }
}

fn nested(kind: Kind, random: &mut Random, depth: usize) -> Json {
    match kind {
        Kind::String => json!({ "S": string(random, 0, 60) }),
        Kind::Number => json!({ "N": number::any(random) }),
        Kind::Binary => json!({ "B": binary(random, 0, 80) }),
        Kind::Bool => json!({ "BOOL": random.chance(1, 2) }),
        Kind::Null => json!({ "NULL": true }),
        Kind::StringSet => json!({ "SS": distinct(random, |r| string(r, 0, 12), Clone::clone) }),
        Kind::NumberSet => {
            json!({ "NS": distinct(random, number::any, |n| number::canonical(n).unwrap_or_default()) })
        }
        Kind::BinarySet => json!({ "BS": distinct(random, |r| binary(r, 0, 12), Clone::clone) }),
        Kind::List => json!({ "L": (0..random.below(5)).map(|_| member(random, depth)).collect::<Vec<_>>() }),
        Kind::Map => {
            let names: BTreeSet<String> = (0..random.below(6)).map(|_| string(random, 1, 12)).collect();
            json!({ "M": names.into_iter().map(|name| (name, member(random, depth))).collect::<Map<_, _>>() })
        }
        Kind::Empty => random.pick(&[json!({"S": ""}), json!({"B": ""}), json!({"L": []}), json!({"M": {}})]).clone(),
        Kind::Deep => deep(random),
        Kind::Large if random.chance(1, 2) => json!({ "S": string(random, 10_000, 20_000) }),
        Kind::Large => json!({ "B": binary(random, 10_000, 40_000) }),
    }
}

fn member(random: &mut Random, depth: usize) -> Json {
    let kind = *random.pick(ALL);
    if depth == 0 && matches!(kind, Kind::List | Kind::Map) {
        return json!({ "BOOL": true });
    }
    nested(kind, random, depth.saturating_sub(1))
}

fn deep(random: &mut Random) -> Json {
    let scalar = *random.pick(KEYS);
    (0..random.between(1, DEPTH)).fold(any(scalar, random), |inner, _| {
        if random.chance(1, 2) { json!({ "L": [inner] }) } else { json!({ "M": { string(random, 1, 5): inner } }) }
    })
}

fn string(random: &mut Random, low: usize, high: usize) -> String {
    let count = random.between(low, high);
    text::any(random, count)
}

fn binary(random: &mut Random, low: usize, high: usize) -> String {
    let count = random.between(low, high);
    BASE64.encode(random.bytes(count))
}

/// One to six members in no order, of which no two are the same under `identity`.
fn distinct(
    random: &mut Random,
    make: impl Fn(&mut Random) -> String,
    identity: impl Fn(&String) -> String,
) -> Vec<String> {
    let mut seen = BTreeSet::new();
    (0..random.between(1, 6)).map(|_| make(random)).filter(|m| seen.insert(identity(m))).collect()
}
