//! The matrix of cases: two keyrings, two algorithm suites, two header versions, and what the items are like.

use std::fmt;

use crate::value::{ALL, KEYS, Kind};

/// One cell of the matrix; all its items are sealed with one job file.
#[derive(Clone, Copy)]
pub struct Case {
    /// `raw-aes`, else `aws-kms`.
    pub raw_aes: bool,
    /// The suite with an ECDSA signature, else the one without.
    pub ecdsa: bool,
    /// Header version 2, which attributes in the encryption context bring about.
    pub version_2: bool,
    /// What the items are like.
    pub shape: &'static Shape,
}

/// What the items of a case are like.
pub struct Shape {
    /// Last part of the case's name.
    pub name: &'static str,
    /// Types of the partition key, and of the sort key if there is one.
    pub keys: &'static [Kind],
    /// The most encrypted attributes of an item.
    pub encrypted: usize,
    /// The most signed attributes of an item besides its keys.
    pub signed: usize,
    /// What encrypted and signed attributes hold.
    pub kinds: &'static [Kind],
    /// Attributes declared unsigned by name.
    pub unsigned_names: usize,
    /// Attributes unsigned by how their names begin.
    pub unsigned_prefix: Option<&'static str>,
    /// The longest attribute name, in characters.
    pub name_length: usize,
    /// Whether the items carry beacons, which belong to the format but to no signature.
    pub beacons: bool,
    /// Whether the shape is also sealed with KMS, whose encryption contexts are limited to some 8 KB.
    pub with_kms: bool,
}

const SHAPES: &[Shape] = &[
    Shape { name: "keys-only", keys: &[Kind::String], encrypted: 0, signed: 0, ..PLAIN },
    Shape { name: "one", keys: &[Kind::String, Kind::Number], encrypted: 1, with_kms: true, ..PLAIN },
    Shape { name: "types", keys: KEY_PAIR, encrypted: 10, signed: 10, unsigned_names: 3, with_kms: true, ..PLAIN },
    Shape { name: "numbers", kinds: &[Kind::Number, Kind::NumberSet], keys: &[Kind::Number], ..PLAIN },
    Shape { name: "names", keys: KEY_PAIR, unsigned_names: 4, unsigned_prefix: Some("é:"), name_length: 255, ..PLAIN },
    Shape { name: "sets", kinds: SETS, unsigned_prefix: Some("_"), ..PLAIN },
    Shape { name: "empty", kinds: &[Kind::Empty], keys: &[Kind::Binary], ..PLAIN },
    Shape { name: "nested", kinds: &[Kind::List, Kind::Map, Kind::Deep], keys: &[Kind::Binary, Kind::String], ..PLAIN },
    Shape { name: "fifty", encrypted: 50, signed: 8, unsigned_prefix: Some(":"), with_kms: true, ..PLAIN },
    Shape { name: "beacons", beacons: true, with_kms: true, ..PLAIN },
    Shape { name: "large", kinds: &[Kind::Large], encrypted: 2, signed: 1, ..PLAIN },
];
const PLAIN: Shape = Shape {
    name: "",
    keys: &[Kind::String],
    encrypted: 6,
    signed: 3,
    kinds: ALL,
    unsigned_names: 0,
    unsigned_prefix: None,
    name_length: 20,
    beacons: false,
    with_kms: false,
};
const KEY_PAIR: &[Kind] = &[KEYS[0], KEYS[2]];
const SETS: &[Kind] = &[Kind::StringSet, Kind::NumberSet, Kind::BinarySet];

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keyring = if self.raw_aes { "raw-aes" } else { "aws-kms" };
        let suite = if self.ecdsa { "ecdsa" } else { "hmac" };
        let version = if self.version_2 { "v2" } else { "v1" };
        write!(f, "{keyring}.{suite}.{version}.{}", self.shape.name)
    }
}

/// Every case, those that need no KMS first.
pub fn all() -> impl Iterator<Item = Case> {
    [true, false].into_iter().flat_map(|raw_aes| {
        let shapes = SHAPES.iter().filter(move |shape| raw_aes || shape.with_kms);
        shapes.flat_map(move |shape| {
            [(true, false), (true, true), (false, false), (false, true)].map(|(ecdsa, version_2)| Case {
                raw_aes,
                ecdsa,
                version_2,
                shape,
            })
        })
    })
}
