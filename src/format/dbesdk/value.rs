//! Attribute values as bytes, both ways (AWS Database Encryption SDK specification,
//! `dynamodb-encryption-client/ddb-attribute-serialization.md`).

use std::collections::{BTreeMap, BTreeSet};

use super::reader::Reader;
use crate::item::{Number, Value};

/// Bytes of a type id.
pub const TYPE_ID_BYTES: usize = 2;

/// The type in front of a serialised value.
pub type TypeId = [u8; TYPE_ID_BYTES];

const NULL: TypeId = [0x00, 0x00];
const STRING: TypeId = [0x00, 0x01];
const NUMBER: TypeId = [0x00, 0x02];
const BOOL: TypeId = [0x00, 0x04];
const BINARY: TypeId = [0xff, 0xff];
const STRING_SET: TypeId = [0x01, 0x01];
const NUMBER_SET: TypeId = [0x01, 0x02];
const BINARY_SET: TypeId = [0x01, 0xff];
const MAP: TypeId = [0x02, 0x00];
const LIST: TypeId = [0x03, 0x00];

/// Containers around a value that the official clients serialise at most.
const NESTING_MAX: usize = 31;
/// Bytes of a map's key at most.
const MAP_KEY_BYTES_MAX: usize = 65_535;

/// Why a value cannot be serialised, or bytes are no serialised value. Never a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Deeper than the official clients can seal or open.
    #[error("a value inside more than 31 lists and maps, which the format cannot hold; flatten it")]
    Depth,
    /// A set has two equal members, numbers compared by value.
    #[error("a set with two equal members")]
    Duplicate,
    /// A map's key is empty, or longer than 65,535 bytes.
    #[error("a map with an empty key, or one longer than 65535 bytes")]
    MapKey,
    /// A part is longer than 32 bits can say.
    #[error("a value longer than 4 GiB")]
    Length,
    /// The bytes end too early, go on after the value, or are not of the type that stands before them.
    #[error("bytes that are no serialised value")]
    Malformed,
}

/// The type id of a value.
pub(super) const fn type_id(value: &Value) -> TypeId {
    match value {
        Value::Null => NULL,
        Value::String(_) => STRING,
        Value::Number(_) => NUMBER,
        Value::Bool(_) => BOOL,
        Value::Binary(_) => BINARY,
        Value::StringSet(_) => STRING_SET,
        Value::NumberSet(_) => NUMBER_SET,
        Value::BinarySet(_) => BINARY_SET,
        Value::Map(_) => MAP,
        Value::List(_) => LIST,
    }
}

/// Whether a type id is one of the ten.
pub(super) fn is_type_id(id: TypeId) -> bool {
    [NULL, STRING, NUMBER, BOOL, BINARY, STRING_SET, NUMBER_SET, BINARY_SET, MAP, LIST].contains(&id)
}

/// Appends type id and serialised value, numbers and sets in canonical form.
///
/// # Errors
/// [`ValueError`] when the format cannot hold the value; `out` then ends in a part of it.
pub fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), ValueError> {
    out.extend_from_slice(&type_id(value));
    body(value, 0, out)
}

fn body(value: &Value, nesting: usize, out: &mut Vec<u8>) -> Result<(), ValueError> {
    if nesting > NESTING_MAX {
        return Err(ValueError::Depth);
    }
    match value {
        Value::Null => Ok(()),
        Value::Bool(flag) => {
            out.push(u8::from(*flag));
            Ok(())
        }
        Value::String(text) => {
            out.extend_from_slice(text.as_bytes());
            Ok(())
        }
        Value::Number(number) => {
            out.extend_from_slice(number.canonical().as_bytes());
            Ok(())
        }
        Value::Binary(bytes) => {
            out.extend_from_slice(bytes);
            Ok(())
        }
        Value::StringSet(members) => set(members.iter().map(String::as_str).collect(), by_utf16, out),
        Value::NumberSet(members) => {
            let canonical: Vec<String> = members.iter().map(Number::canonical).collect();
            set(canonical.iter().map(String::as_str).collect(), by_utf16, out)
        }
        Value::BinarySet(members) => set(members.iter().map(Vec::as_slice).collect(), Ord::cmp, out),
        Value::List(members) => {
            count(members.len(), out)?;
            members.iter().try_for_each(|member| nested(member, nesting, out))
        }
        Value::Map(members) => {
            count(members.len(), out)?;
            let mut entries: Vec<(&String, &Value)> = members.iter().collect();
            entries.sort_by(|(a, _), (b, _)| by_utf16(a, b));
            entries.into_iter().try_for_each(|(key, member)| {
                if key.is_empty() || key.len() > MAP_KEY_BYTES_MAX {
                    return Err(ValueError::MapKey);
                }
                out.extend_from_slice(&STRING);
                prefixed(key.as_bytes(), out)?;
                nested(member, nesting, out)
            })
        }
    }
}

/// A member of a list or map: type id, 32-bit length, bytes.
fn nested(member: &Value, nesting: usize, out: &mut Vec<u8>) -> Result<(), ValueError> {
    out.extend_from_slice(&type_id(member));
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    body(member, nesting + 1, out)?;
    let length = u32::try_from(out.len() - at - 4).map_err(|_| ValueError::Length)?;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn set<T: AsRef<[u8]> + ?Sized>(
    mut members: Vec<&T>,
    order: impl Fn(&T, &T) -> std::cmp::Ordering,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    members.sort_unstable_by(|a, b| order(a, b));
    if members.array_windows().any(|[a, b]| order(a, b).is_eq()) {
        return Err(ValueError::Duplicate);
    }
    count(members.len(), out)?;
    members.into_iter().try_for_each(|member| prefixed(member.as_ref(), out))
}

fn count(members: usize, out: &mut Vec<u8>) -> Result<(), ValueError> {
    out.extend_from_slice(&u32::try_from(members).map_err(|_| ValueError::Length)?.to_be_bytes());
    Ok(())
}

fn prefixed(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    count(bytes.len(), out)?;
    out.extend_from_slice(bytes);
    Ok(())
}

/// The order of Java's and .NET's strings: by UTF-16 code units, so that U+10000 and above sort before U+E000.
fn by_utf16(a: &str, b: &str) -> std::cmp::Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

/// Reads a serialised value to its last byte. Takes the bytes over, because text and binary are the bytes themselves.
///
/// # Errors
/// [`ValueError`] when they are none.
pub fn read(id: TypeId, bytes: Vec<u8>) -> Result<Value, ValueError> {
    match id {
        STRING => String::from_utf8(bytes).map(Value::String).map_err(|_| ValueError::Malformed),
        BINARY => Ok(Value::Binary(bytes)),
        _ => read_nested(id, &bytes, 0),
    }
}

fn read_nested(id: TypeId, bytes: &[u8], nesting: usize) -> Result<Value, ValueError> {
    if nesting > NESTING_MAX {
        return Err(ValueError::Depth);
    }
    match id {
        NULL if bytes.is_empty() => Ok(Value::Null),
        BOOL => match bytes {
            [0] => Ok(Value::Bool(false)),
            [1] => Ok(Value::Bool(true)),
            _ => Err(ValueError::Malformed),
        },
        STRING => text(bytes).map(Value::String),
        NUMBER => number(bytes).map(Value::Number),
        BINARY => Ok(Value::Binary(bytes.to_vec())),
        STRING_SET => read_set(bytes, text, Clone::clone).map(Value::StringSet),
        NUMBER_SET => read_set(bytes, number, Number::canonical).map(Value::NumberSet),
        BINARY_SET => read_set(bytes, |bytes| Ok(bytes.to_vec()), Clone::clone).map(Value::BinarySet),
        LIST => read_list(bytes, nesting),
        MAP => read_map(bytes, nesting),
        _ => Err(ValueError::Malformed),
    }
}

fn text(bytes: &[u8]) -> Result<String, ValueError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| ValueError::Malformed)
}

fn number(bytes: &[u8]) -> Result<Number, ValueError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ValueError::Malformed)?;
    Number::parse(text).map_err(|_| ValueError::Malformed)
}

fn read_set<T, K: Ord>(
    bytes: &[u8],
    member: impl Fn(&[u8]) -> Result<T, ValueError>,
    identity: impl Fn(&T) -> K,
) -> Result<Vec<T>, ValueError> {
    let mut reader = Reader::new(bytes);
    let count = reader.u32().ok_or(ValueError::Malformed)?;
    // The count is a claim: room grows with what is really there.
    let mut members = Vec::new();
    let mut seen = BTreeSet::new();
    for _ in 0..count {
        let value = member(reader.prefixed_32().ok_or(ValueError::Malformed)?)?;
        if !seen.insert(identity(&value)) {
            return Err(ValueError::Duplicate);
        }
        members.push(value);
    }
    ended(&reader, members)
}

fn read_list(bytes: &[u8], nesting: usize) -> Result<Value, ValueError> {
    let mut reader = Reader::new(bytes);
    let count = reader.u32().ok_or(ValueError::Malformed)?;
    let mut members = Vec::new();
    for _ in 0..count {
        members.push(read_member(&mut reader, nesting)?);
    }
    ended(&reader, Value::List(members))
}

fn read_map(bytes: &[u8], nesting: usize) -> Result<Value, ValueError> {
    let mut reader = Reader::new(bytes);
    let count = reader.u32().ok_or(ValueError::Malformed)?;
    let mut members = BTreeMap::new();
    for _ in 0..count {
        if reader.array() != Some(STRING) {
            return Err(ValueError::Malformed);
        }
        let key = text(reader.prefixed_32().ok_or(ValueError::Malformed)?)?;
        if key.is_empty() || key.len() > MAP_KEY_BYTES_MAX {
            return Err(ValueError::MapKey);
        }
        if members.insert(key, read_member(&mut reader, nesting)?).is_some() {
            return Err(ValueError::Duplicate);
        }
    }
    ended(&reader, Value::Map(members))
}

fn read_member(reader: &mut Reader<'_>, nesting: usize) -> Result<Value, ValueError> {
    let id = reader.array().ok_or(ValueError::Malformed)?;
    let bytes = reader.prefixed_32().ok_or(ValueError::Malformed)?;
    read_nested(id, bytes, nesting + 1)
}

fn ended<T>(reader: &Reader<'_>, value: T) -> Result<T, ValueError> {
    if reader.rest().is_empty() { Ok(value) } else { Err(ValueError::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number_value(text: &str) -> Value {
        Value::Number(Number::parse(text).unwrap())
    }

    fn serialised(value: &Value) -> Result<Vec<u8>, ValueError> {
        let mut out = Vec::new();
        write(value, &mut out).map(|()| out)
    }

    fn lists(depth: usize, inner: Value) -> Value {
        (0..depth).fold(inner, |value, _| Value::List(vec![value]))
    }

    #[test]
    fn bytes_of_each_type() {
        let strings = |texts: &[&str]| Value::StringSet(texts.iter().map(|t| (*t).to_owned()).collect());
        let map = |entries: Vec<(&str, Value)>| {
            Value::Map(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
        };
        let cases: Vec<(Value, &[u8])> = vec![
            (Value::Null, b"\x00\x00"),
            (Value::Bool(true), b"\x00\x04\x01"),
            (Value::from("é"), "\0\u{1}é".as_bytes()),
            (number_value("00120.500"), b"\x00\x02120.5"),
            (Value::Binary(vec![1, 0]), b"\xff\xff\x01\x00"),
            (strings(&["b", "a"]), b"\x01\x01\0\0\0\x02\0\0\0\x01a\0\0\0\x01b"),
            // U+FF5E before U+1F600 in UTF-8, after it in UTF-16.
            (
                strings(&["\u{ff5e}", "\u{1f600}"]),
                b"\x01\x01\0\0\0\x02\0\0\0\x04\xf0\x9f\x98\x80\0\0\0\x03\xef\xbd\x9e",
            ),
            (
                Value::NumberSet(vec![Number::parse("2.0").unwrap(), Number::parse("10").unwrap()]),
                b"\x01\x02\0\0\0\x02\0\0\0\x0210\0\0\0\x012",
            ),
            (Value::BinarySet(vec![vec![2], vec![1, 9]]), b"\x01\xff\0\0\0\x02\0\0\0\x02\x01\x09\0\0\0\x01\x02"),
            (Value::StringSet(vec![]), b"\x01\x01\0\0\0\0"),
            (Value::List(vec![Value::Null, Value::from("x")]), b"\x03\x00\0\0\0\x02\0\0\0\0\0\0\x00\x01\0\0\0\x01x"),
            (
                map(vec![("\u{ff5e}", Value::Null), ("\u{1f600}", Value::Bool(false))]),
                b"\x02\x00\0\0\0\x02\x00\x01\0\0\0\x04\xf0\x9f\x98\x80\x00\x04\0\0\0\x01\x00\x00\x01\0\0\0\x03\xef\xbd\x9e\x00\x00\0\0\0\0",
            ),
        ];
        for (value, expected) in cases {
            let bytes = serialised(&value).unwrap();
            assert_eq!(bytes, expected, "{value:?}");
            let back = read([bytes[0], bytes[1]], bytes[2..].to_vec()).unwrap();
            assert!(back.same(&value), "{value:?}");
        }
    }

    #[test]
    fn values_that_the_format_cannot_hold() {
        let map = |key: String| Value::Map([(key, Value::Null)].into_iter().collect());
        let cases = [
            (lists(31, Value::Null), None),
            (lists(32, Value::Null), Some(ValueError::Depth)),
            (lists(31, Value::List(vec![])), None),
            (Value::StringSet(vec!["a".into(), "a".into()]), Some(ValueError::Duplicate)),
            (
                Value::NumberSet(vec![Number::parse("1").unwrap(), Number::parse("1.0").unwrap()]),
                Some(ValueError::Duplicate),
            ),
            (map(String::new()), Some(ValueError::MapKey)),
            (map("k".repeat(65_535)), None),
            (map("k".repeat(65_536)), Some(ValueError::MapKey)),
        ];
        for (value, expected) in cases {
            assert_eq!(serialised(&value).err(), expected, "{value:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_value() {
        let cases: [(TypeId, &[u8], ValueError); 16] = [
            ([9, 9], b"", ValueError::Malformed),
            (NULL, b"\0", ValueError::Malformed),
            (BOOL, b"", ValueError::Malformed),
            (BOOL, b"\x02", ValueError::Malformed),
            (BOOL, b"\0\0", ValueError::Malformed),
            (STRING, b"\xff", ValueError::Malformed),
            (NUMBER, b"", ValueError::Malformed),
            (NUMBER, b"one", ValueError::Malformed),
            (STRING_SET, b"\0\0\0", ValueError::Malformed),
            (STRING_SET, b"\xff\xff\xff\xff", ValueError::Malformed),
            (STRING_SET, b"\0\0\0\x02\0\0\0\x01a\0\0\0\x01a", ValueError::Duplicate),
            (NUMBER_SET, b"\0\0\0\x02\0\0\0\x011\0\0\0\x031.0", ValueError::Duplicate),
            (LIST, b"\0\0\0\0x", ValueError::Malformed),
            (LIST, b"\0\0\0\x01\0\0\0\0\0\x01", ValueError::Malformed),
            (MAP, b"\0\0\0\x01\0\x02\0\0\0\x011\0\0\0\0\0\0", ValueError::Malformed),
            (MAP, b"\0\0\0\x02\0\x01\0\0\0\x01a\0\0\0\0\0\0\0\x01\0\0\0\x01a\0\0\0\0\0\0", ValueError::Duplicate),
        ];
        for (id, bytes, expected) in cases {
            assert_eq!(read(id, bytes.to_vec()), Err(expected), "{id:?} {bytes:?}");
        }
        let mut deep = Vec::new();
        for _ in 0..40 {
            let mut outer = b"\0\0\0\x01\x03\x00".to_vec();
            prefixed(&deep, &mut outer).unwrap();
            deep = outer;
        }
        assert_eq!(read(LIST, deep), Err(ValueError::Depth));
    }
}
