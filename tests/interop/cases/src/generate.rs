//! Makes the job file, the key and the items of a case.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value as Json, json};
use toml::{Table, Value as Toml};

use crate::case::{Case, Keyring};
use crate::job::Action;
use crate::random::Random;
use crate::value::{self, Kind};
use crate::{Failure, text};

/// Attributes in the encryption context besides the keys, in cases of version 2.
const IN_CONTEXT: usize = 4;
/// The longest name of a key attribute, in characters. The official library takes 255 UTF-16 code units, and a
/// character has up to two.
const KEY_NAME_LENGTH: usize = 127;

/// AES keys: that of the case and another one.
const KEY_FILES: [&str; 2] = ["k1.key", "k2.key"];
/// RSA keys, likewise.
const RSA_KEYS: [&str; 2] = ["rsa2048-for-tests-only.private.pem", "rsa3072-for-tests-only.private.pem"];
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures");

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
}

/// Writes `job.toml`, `other-table.toml`, `other-key.toml`, two key files and `items.jsonl` into a directory.
/// `key_arns` are the KMS key of the case and another one.
///
/// # Errors
/// When a file cannot be written, or a KMS case is given fewer than two keys.
pub fn write(case: Case, seed: u64, count: usize, key_arns: &[String], directory: &Path) -> Result<(), Failure> {
    let mut random = Random::new(seed, &case.to_string());
    let schema = Schema::new(case, &mut random);
    let directory = std::path::absolute(directory)?;
    std::fs::create_dir_all(&directory)?;
    let keyrings = [0, 1].map(|which| keyring(case.keyring, which, key_arns, &directory));
    let [own, other] = keyrings;
    let keyrings = [own?, other?];
    let bytes = if let Keyring::RawAes(bits) = case.keyring { bits / 8 } else { 32 };
    for file in KEY_FILES {
        let key = random.bytes(bytes);
        // Shorter ones are told from each other in Base64 only.
        let content = if bytes == 32 { key } else { format!("{}\n", BASE64.encode(key)).into_bytes() };
        std::fs::write(directory.join(file), content)?;
    }
    let logical_name = format!("reseal-{}", text::any(&mut random, 5));
    let jobs = [
        ("job.toml", logical_name.clone(), &keyrings[0]),
        ("other-table.toml", format!("{logical_name}2"), &keyrings[0]),
        ("other-key.toml", logical_name, &keyrings[1]),
    ];
    for (file, logical_name, keyring) in jobs {
        std::fs::write(directory.join(file), toml::to_string(&schema.job(case, logical_name, keyring))?)?;
    }
    let mut lines = String::new();
    for index in 0..count {
        writeln!(lines, "{}", json!({ "Item": schema.item(case, &mut random, index == 0) }))?;
    }
    std::fs::write(directory.join("items.jsonl"), lines)?;
    Ok(())
}

/// The keyring of a case, or another one of its kind.
fn keyring(kind: Keyring, which: usize, key_arns: &[String], directory: &Path) -> Result<Table, Failure> {
    let raw = |kind: &str, file: &Path| {
        let mut keyring = Table::from_iter([("type", kind), ("namespace", "acme"), ("name", "ключ 1")].map(entry));
        keyring.insert("key_file".to_owned(), file.to_string_lossy().into_owned().into());
        keyring
    };
    let kms = |kind: &str| {
        let arn = key_arns.get(which).ok_or("a KMS case needs two --key-arn")?;
        Ok::<_, Failure>(Table::from_iter([("type", kind), ("key_arn", arn)].map(entry)))
    };
    let padded = |mut keyring: Table, padding: &str| {
        keyring.insert("padding".to_owned(), padding.into());
        keyring
    };
    let aes = || raw("raw-aes", &directory.join(KEY_FILES[which]));
    let rsa = |padding| padded(raw("raw-rsa", &Path::new(FIXTURES).join(RSA_KEYS[which])), padding);
    Ok(match kind {
        Keyring::RawAes(_) => aes(),
        Keyring::RawRsa(padding) => rsa(padding),
        Keyring::AwsKms => kms("aws-kms")?,
        Keyring::AwsKmsMrk => kms("aws-kms-mrk")?,
        Keyring::AwsKmsRsa(padding) => padded(kms("aws-kms-rsa")?, padding),
        Keyring::Multi => {
            let mut rsa = rsa("oaep-sha256");
            rsa.insert("name".to_owned(), "ключ 2".into());
            let mut keyring = Table::from_iter([entry(("type", "multi"))]);
            keyring.insert("generator".to_owned(), kms("aws-kms")?.into());
            keyring.insert("children".to_owned(), vec![aes(), rsa].into());
            keyring
        }
    })
}

fn entry((name, value): (&str, &str)) -> (String, Toml) {
    (name.to_owned(), value.into())
}

impl Schema {
    fn new(case: Case, random: &mut Random) -> Self {
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

    fn job(&self, case: Case, logical_name: String, keyring: &Table) -> Table {
        let mut table = Table::from_iter(
            [("name", "interop-table"), ("schema", "frozen"), ("readers", "accept-both"), ("writers", "whole-item")]
                .map(entry),
        );
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
        let suite = if case.ecdsa { "ECDSA_P384_SYMSIG" } else { "SYMSIG" };
        let suite = format!("ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_{suite}_HMAC_SHA384");
        let mut target = Table::from_iter([("format", "dbesdk"), ("suite", &suite)].map(entry));
        target.insert("keyring".to_owned(), keyring.clone().into());
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
        for name in &self.context {
            item.insert(name.clone(), in_context(case, random));
        }
        let optional = [&self.encrypted, &self.signed, &self.unsigned_names, &self.unsigned_by_prefix];
        for (names, kinds) in optional.into_iter().zip([shape.kinds, shape.kinds, value::ALL, value::ALL]) {
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
    let scalars = &value::ALL[..5];
    let kinds = if !case.keyring.has_kms() && case.shape.name_length < 100 { case.shape.kinds } else { scalars };
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
