//! The matrix of cases: keyrings, two algorithm suites, two header versions, and what the items are like.

use std::fmt;

use crate::value::{ALL, KEYS, Kind};

/// One cell of the matrix; all its items are sealed with one job file.
#[derive(Clone, Copy)]
pub struct Case {
    /// What wraps the keys.
    pub keyring: Keyring,
    /// The suite with an ECDSA signature, else the one without.
    pub ecdsa: bool,
    /// Header version 2, which attributes in the encryption context bring about.
    pub version_2: bool,
    /// What the items are like.
    pub shape: &'static Shape,
}

/// What wraps the keys of a case.
#[derive(Clone, Copy, PartialEq)]
pub enum Keyring {
    /// An AES key of so many bits.
    RawAes(usize),
    /// An RSA key, with this padding.
    RawRsa(&'static str),
    /// A KMS key.
    AwsKms,
    /// A multi-Region key of KMS.
    AwsKmsMrk,
    /// An RSA key of KMS, with this padding.
    AwsKmsRsa(&'static str),
    /// A KMS key, an AES key and an RSA key.
    Multi,
    /// A branch key of a key store that this program has made.
    HierarchyOf(&'static str),
    /// The branch key that the item's partition key chooses.
    HierarchyPerItem,
}

impl Keyring {
    /// Those that need no KMS first.
    const ALL: [Self; 16] = [
        Self::RawAes(256),
        Self::RawAes(192),
        Self::RawAes(128),
        Self::RawRsa("pkcs1"),
        Self::RawRsa("oaep-sha1"),
        Self::RawRsa("oaep-sha256"),
        Self::RawRsa("oaep-sha384"),
        Self::RawRsa("oaep-sha512"),
        Self::AwsKms,
        Self::AwsKmsMrk,
        Self::AwsKmsRsa("oaep-sha1"),
        Self::AwsKmsRsa("oaep-sha256"),
        Self::Multi,
        Self::HierarchyOf("official"),
        Self::HierarchyOf("reseal"),
        Self::HierarchyPerItem,
    ];

    /// Whether contexts go to KMS, which limits them to some 8 KB.
    pub const fn has_kms(self) -> bool {
        !matches!(self, Self::RawAes(_) | Self::RawRsa(_))
    }

    /// How many items one case has, when those with the most have so many.
    pub fn items(self, most: usize) -> usize {
        if matches!(self, Self::RawAes(256) | Self::AwsKms) { most } else { most.div_ceil(4) }
    }

    /// Whether items of the shape are sealed with it. What items are like is no keyring's affair: two see them all, or
    /// all that fit, the others see that they work.
    fn has(self, shape: &Shape) -> bool {
        match self {
            Self::RawAes(256) => true,
            Self::AwsKms => shape.keyrings != Keyrings::RawAes,
            _ => shape.keyrings == Keyrings::Every,
        }
    }
}

impl fmt::Display for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RawAes(256) => f.write_str("raw-aes"),
            Self::RawAes(bits) => write!(f, "raw-aes-{bits}"),
            Self::RawRsa(padding) => write!(f, "raw-rsa-{padding}"),
            Self::AwsKms => f.write_str("aws-kms"),
            Self::AwsKmsMrk => f.write_str("aws-kms-mrk"),
            Self::AwsKmsRsa(padding) => write!(f, "aws-kms-rsa-{padding}"),
            Self::Multi => f.write_str("multi"),
            Self::HierarchyOf(maker) => write!(f, "hierarchy-of-{maker}"),
            Self::HierarchyPerItem => f.write_str("hierarchy-per-item"),
        }
    }
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
    /// Which keyrings seal such items.
    pub keyrings: Keyrings,
    /// Whether the items go through a table, which has its own spelling of numbers and no order in sets.
    pub stored: bool,
}

/// Which keyrings seal items of a shape.
#[derive(PartialEq)]
pub enum Keyrings {
    /// One AES key alone.
    RawAes,
    /// A KMS key as well, whose encryption contexts are limited to some 8 KB.
    AwsKms,
    /// All that there are.
    Every,
}

const SHAPES: &[Shape] = &[
    Shape { name: "keys-only", keys: &[Kind::String], encrypted: 0, signed: 0, ..PLAIN },
    Shape { name: "one", keys: &[Kind::String, Kind::Number], encrypted: 1, keyrings: Keyrings::Every, ..PLAIN },
    Shape {
        name: "types",
        keys: KEY_PAIR,
        encrypted: 10,
        signed: 10,
        unsigned_names: 3,
        keyrings: Keyrings::AwsKms,
        ..PLAIN
    },
    Shape { name: "numbers", kinds: &[Kind::Number, Kind::NumberSet], keys: &[Kind::Number], ..PLAIN },
    Shape { name: "names", keys: KEY_PAIR, unsigned_names: 4, unsigned_prefix: Some("é:"), name_length: 255, ..PLAIN },
    Shape { name: "sets", kinds: SETS, unsigned_prefix: Some("_"), ..PLAIN },
    Shape { name: "empty", kinds: &[Kind::Empty], keys: &[Kind::Binary], ..PLAIN },
    Shape { name: "nested", kinds: &[Kind::List, Kind::Map, Kind::Deep], keys: &[Kind::Binary, Kind::String], ..PLAIN },
    Shape { name: "fifty", encrypted: 50, signed: 8, unsigned_prefix: Some(":"), keyrings: Keyrings::AwsKms, ..PLAIN },
    Shape { name: "beacons", beacons: true, keyrings: Keyrings::AwsKms, ..PLAIN },
    Shape { name: "stored", keys: KEY_PAIR, unsigned_names: 2, stored: true, ..PLAIN },
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
    keyrings: Keyrings::RawAes,
    stored: false,
};
const KEY_PAIR: &[Kind] = &[KEYS[0], KEYS[2]];
const SETS: &[Kind] = &[Kind::StringSet, Kind::NumberSet, Kind::BinarySet];

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suite = if self.ecdsa { "ecdsa" } else { "hmac" };
        let version = if self.version_2 { "v2" } else { "v1" };
        write!(f, "{}.{suite}.{version}.{}", self.keyring, self.shape.name)
    }
}

/// Every case, those that need no KMS first.
pub fn all() -> impl Iterator<Item = Case> {
    Keyring::ALL.into_iter().flat_map(|keyring| {
        let shapes = SHAPES.iter().filter(move |shape| keyring.has(shape));
        shapes.flat_map(move |shape| {
            let suites = [(true, false), (true, true), (false, false), (false, true)];
            // AWS's RSA keyring over KMS refuses the suite with ECDSA.
            let suites =
                suites.into_iter().filter(move |(ecdsa, _)| !(*ecdsa && matches!(keyring, Keyring::AwsKmsRsa(_))));
            suites.map(move |(ecdsa, version_2)| Case { keyring, ecdsa, version_2, shape })
        })
    })
}
