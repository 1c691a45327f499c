//! Compares lines: what was opened with what was sealed, and a sealed item's form with its plaintext.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value as Json};

use crate::Failure;
use crate::canonical::canonical;
use crate::job::{Action, Job};

/// The attributes that the format adds.
const ADDED: [&str; 2] = ["aws_dbe_head", "aws_dbe_foot"];
/// Bytes of a recipient's tag in the foot.
pub const TAG_BYTES: usize = 48;
/// Type id in front of each encrypted value (Database Encryption SDK specification, `ddb-attribute-serialization.md`).
const TYPE_IDS: [(&str, [u8; 2]); 10] = [
    ("NULL", [0, 0]),
    ("S", [0, 1]),
    ("N", [0, 2]),
    ("BOOL", [0, 4]),
    ("B", [0xFF, 0xFF]),
    ("SS", [1, 1]),
    ("NS", [1, 2]),
    ("BS", [1, 0xFF]),
    ("M", [2, 0]),
    ("L", [3, 0]),
];

type Attributes = Map<String, Json>;

/// The item of a line.
///
/// # Errors
/// When the line is not `{"Item": {...}}`.
pub fn item(line: &str) -> Result<Attributes, Failure> {
    match serde_json::from_str::<Json>(line)? {
        Json::Object(mut object) => match object.remove("Item") {
            Some(Json::Object(item)) => Ok(item),
            _ => Err(format!("not an item: {line:.200}").into()),
        },
        _ => Err("not an object".into()),
    }
}

/// Fails unless the opened item is the original, encrypted attributes in canonical form and all others untouched save
/// beacons: those are dropped.
///
/// # Errors
/// Names the first attribute that differs.
pub fn opened(job: &Job, original: &Attributes, opened: &Attributes) -> Result<(), Failure> {
    let kept = || original.iter().filter(|(name, _)| !name.starts_with("aws_dbe_"));
    same_names(kept().map(|(name, _)| name), opened.keys())?;
    for (name, value) in kept() {
        let encrypted = job.actions.get(name) == Some(&Action::Encrypt);
        let expected = if encrypted { canonical(value) } else { value.clone() };
        if opened.get(name) != Some(&expected) {
            return Err(format!("attribute {name:?} differs: expected {expected}, got {}", opened[name]).into());
        }
    }
    Ok(())
}

/// Fails unless the sealed item has the form that the job asks for. Beacons may stay, or go: the official library's
/// item encryptor drops them, because its table client makes them anew after sealing.
///
/// # Errors
/// Names the attribute that has not.
pub fn sealed(job: &Job, original: &Attributes, sealed: &Attributes) -> Result<(), Failure> {
    let added = ADDED.map(str::to_owned);
    let is_beacon = |name: &str| name.starts_with("aws_dbe_") && !added.iter().any(|own| own == name);
    if let Some((name, _)) = sealed.iter().find(|(name, now)| is_beacon(name) && original.get(*name) != Some(now)) {
        return Err(format!("the beacon {name:?} was changed").into());
    }
    let kept = || original.iter().filter(|(name, _)| !is_beacon(name));
    same_names(kept().map(|(name, _)| name).chain(&added), sealed.keys().filter(|name| !is_beacon(name)))?;
    for (name, value) in kept() {
        let now = &sealed[name];
        let right = if job.actions.get(name) == Some(&Action::Encrypt) {
            let type_id = TYPE_IDS.iter().find(|(kind, _)| value.get(kind).is_some()).map(|(_, id)| id);
            type_id.is_some_and(|id| binary(now).is_ok_and(|bytes| bytes.len() >= 18 && bytes.starts_with(id)))
        } else {
            now == value
        };
        if !right {
            return Err(format!("attribute {name:?} has not the form that its action asks for").into());
        }
    }
    let head = binary(&sealed["aws_dbe_head"])?;
    let expected = [job.version(), u8::from(job.ecdsa)];
    if !head.starts_with(&expected) {
        return Err(format!("the head begins {:?}, not with version and flavor {expected:?}", head.get(..2)).into());
    }
    let foot = binary(&sealed["aws_dbe_foot"])?.len();
    let expected = TAG_BYTES * job.recipients + if job.ecdsa { 103 } else { 0 };
    if foot == expected { Ok(()) } else { Err(format!("a foot of {foot} bytes, not {expected}").into()) }
}

/// The bytes of a `B` value.
///
/// # Errors
/// When it is none.
pub fn binary(value: &Json) -> Result<Vec<u8>, Failure> {
    let text = value.get("B").and_then(Json::as_str).ok_or("not a binary")?;
    Ok(BASE64.decode(text)?)
}

fn same_names<'a>(
    expected: impl Iterator<Item = &'a String>,
    found: impl Iterator<Item = &'a String>,
) -> Result<(), Failure> {
    let [mut expected, mut found]: [Vec<_>; 2] = [expected.collect(), found.collect()];
    expected.sort();
    found.sort();
    if expected == found { Ok(()) } else { Err(format!("attributes {found:?}, not {expected:?}").into()) }
}
