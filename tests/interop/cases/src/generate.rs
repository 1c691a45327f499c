//! Makes the job files and the items of a case.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value as Json, json};
use toml::{Table, Value as Toml};

use crate::case::Case;
use crate::job::Action;
use crate::keyrings::{self, Entry};
use crate::random::Random;
use crate::value::{self, Kind};
use crate::{Failure, text};

/// Attributes in the encryption context besides the keys, in cases of version 2.
const IN_CONTEXT: usize = 4;
/// The longest name of a key attribute, in characters. The official library takes 255 UTF-16 code units, and a
/// character has up to two.
const KEY_NAME_LENGTH: usize = 127;
/// What a table gives back as it got it.
const STORED: &[Kind] = &[Kind::String, Kind::Binary, Kind::Bool, Kind::Null, Kind::Empty];

/// The attributes of a case's table.
struct Schema {
    /// Partition key, and sort key if there is one.
    keys: Vec<String>,
    /// In the encryption context: each is in every item.
    context: Vec<String>,
    encrypted: Vec<String>,
    signed: Vec<String>,
    unsigned_names: Vec<String>,
    unsigned_by_prefix: Vec<String>,
    /// What the partition key holds, if that matters.
    tenants: Vec<String>,
}

/// Writes the job files of the keyring ([`Entry::write`]), `other-table.toml` and `items.jsonl` into a directory.
///
/// # Errors
/// When a file cannot be written.
pub fn write(case: Case, seed: u64, count: usize, keyring: &Entry, directory: &Path) -> Result<(), Failure> {
    let mut random = Random::new(seed, &case.to_string());
    let schema = Schema::new(case, keyring.tenants(), &mut random);
    std::fs::create_dir_all(directory)?;
    let logical_name = format!("reseal-{}", text::any(&mut random, 5));
    let other_table = schema.job(case, format!("{logical_name}2"));
    keyring.write(&schema.job(case, logical_name), directory)?;
    keyrings::write(&other_table, &keyring.key, directory, "other-table")?;
    let mut lines = String::new();
    for index in 0..case.keyring.items(count) {
        writeln!(lines, "{}", json!({ "Item": schema.item(case, &mut random, index == 0) }))?;
    }
    std::fs::write(directory.join("items.jsonl"), lines)?;
    Ok(())
}

/// The name of a suite in job files.
pub fn suite(ecdsa: bool) -> String {
    let signs = if ecdsa { "ECDSA_P384_SYMSIG" } else { "SYMSIG" };
    format!("ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_{signs}_HMAC_SHA384")
}

fn entry((name, value): (&str, &str)) -> (String, Toml) {
    (name.to_owned(), value.into())
}

impl Schema {
    fn new(case: Case, tenants: Vec<String>, random: &mut Random) -> Self {
        let shape = case.shape;
        let mut taken = Vec::new();
        let mut of_length = |count: usize, prefix: &str, longest: usize| -> Vec<String> {
            (0..count).map(|_| distinct_name(random, prefix, longest, case, &mut taken)).collect()
        };
        let keys = of_length(shape.keys.len(), "", shape.name_length.min(KEY_NAME_LENGTH));
        let mut names = |count, prefix| of_length(count, prefix, shape.name_length);
        Self {
            keys,
            context: names(if case.version_2 { IN_CONTEXT } else { 0 }, ""),
            encrypted: names(shape.encrypted, ""),
            signed: names(shape.signed, ""),
            unsigned_names: names(shape.unsigned_names, ""),
            unsigned_by_prefix: shape.unsigned_prefix.map(|prefix| names(3, prefix)).unwrap_or_default(),
            tenants,
        }
    }

    fn actions(&self, case: Case) -> BTreeMap<&String, Action> {
        let key = if case.version_2 { Action::SignAndInclude } else { Action::SignOnly };
        let unsigned = self.unsigned_names.iter().chain(&self.unsigned_by_prefix);
        (self.keys.iter().map(|name| (name, key)))
            .chain(self.context.iter().map(|name| (name, Action::SignAndInclude)))
            .chain(self.encrypted.iter().map(|name| (name, Action::Encrypt)))
            .chain(self.signed.iter().map(|name| (name, Action::SignOnly)))
            .chain(unsigned.map(|name| (name, Action::DoNothing)))
            .collect()
    }

    fn job(&self, case: Case, logical_name: String) -> Table {
        let mut table =
            Table::from_iter([("schema", "frozen"), ("readers", "accept-both"), ("writers", "whole-item")].map(entry));
        table.insert("name".to_owned(), format!("interop.{case}").into());
        table.insert("logical_name".to_owned(), logical_name.into());
        for (field, name) in ["partition_key", "sort_key"].iter().zip(&self.keys) {
            table.insert((*field).to_owned(), name.clone().into());
        }
        let mut unsigned = Table::new();
        if !self.unsigned_names.is_empty() {
            unsigned.insert("names".to_owned(), self.unsigned_names.clone().into());
        }
        if let Some(prefix) = case.shape.unsigned_prefix {
            unsigned.insert("prefix".to_owned(), prefix.into());
        }
        let target = Table::from_iter([("format", "dbesdk"), ("suite", &suite(case.ecdsa))].map(entry));
        let attributes: Table =
            self.actions(case).into_iter().map(|(name, action)| (name.clone(), action.as_str().into())).collect();
        let sections = [("table", table), ("attributes", attributes), ("unsigned", unsigned), ("target", target)];
        let mut job = Table::from_iter([("version".to_owned(), Toml::from(1))]);
        job.extend(sections.map(|(name, section)| (name.to_owned(), section.into())));
        job
    }

    /// An item with some of the attributes, or with all of them.
    fn item(&self, case: Case, random: &mut Random, all: bool) -> Json {
        let shape = case.shape;
        let mut item = Map::new();
        for (name, kind) in self.keys.iter().zip(shape.keys) {
            item.insert(name.clone(), value::key(*kind, random));
        }
        if !self.tenants.is_empty() {
            item.insert(self.keys[0].clone(), json!({ "S": random.pick(&self.tenants) }));
        }
        for name in &self.context {
            item.insert(name.clone(), in_context(case, random));
        }
        let optional = [&self.encrypted, &self.signed, &self.unsigned_names, &self.unsigned_by_prefix];
        let [signed, unsigned] = if shape.stored { [STORED; 2] } else { [shape.kinds, value::ALL] };
        for (names, kinds) in optional.into_iter().zip([shape.kinds, signed, unsigned, unsigned]) {
            let quarters = if all { 4 } else { random.below(5) };
            for name in names {
                if random.chance(quarters, 4) {
                    item.insert(name.clone(), value::any(*random.pick(kinds), random));
                }
            }
        }
        if shape.beacons {
            item.insert("aws_dbe_v_1".to_owned(), json!({ "S": " " }));
            item.insert("aws_dbe_b_name".to_owned(), json!({ "S": format!("{:03x}", random.below(4096)) }));
            item.insert("aws_dbe_b_set".to_owned(), json!({ "SS": ["07", "5a"] }));
        }
        Json::Object(item)
    }
}

/// A value for the encryption context. KMS limits the whole context, so it gets scalars, which are short.
fn in_context(case: Case, random: &mut Random) -> Json {
    let scalars = if case.shape.stored { &STORED[..4] } else { &value::ALL[..5] };
    let whole = !case.keyring.has_kms() && !case.shape.stored && case.shape.name_length < 100;
    let kinds = if whole { case.shape.kinds } else { scalars };
    match *random.pick(kinds) {
        // 16 bits hold the length of a context value.
        Kind::Large | Kind::Deep => value::any(Kind::Map, random),
        kind => value::any(kind, random),
    }
}

/// A name that is not taken, is not reserved and begins with the unsigned prefix only if it is meant to.
fn distinct_name(random: &mut Random, prefix: &str, longest: usize, case: Case, taken: &mut Vec<String>) -> String {
    let longest = longest - prefix.chars().count();
    loop {
        let count = if random.chance(1, 4) { longest } else { random.between(1, longest) };
        let name = format!("{prefix}{}", text::any(random, count));
        let meant = case.shape.unsigned_prefix.is_none_or(|p| name.starts_with(p) == (p == prefix));
        let reserved = name.starts_with("aws_dbe_") || name.starts_with("aws-crypto-");
        if meant && !reserved && !taken.contains(&name) {
            taken.push(name.clone());
            return name;
        }
    }
}
