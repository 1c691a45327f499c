//! DynamoDB's own arithmetic: bytes of a value, capacity units of an item.

use super::{Item, Number, Value};

/// The largest item that DynamoDB stores, in bytes, names included (developer guide, "Quotas").
pub const ITEM_BYTES_MAX: usize = 400 * 1024;

/// Bytes that DynamoDB adds to a list or a map, and to each of its members.
const DOCUMENT_BYTES: usize = 3;
const MEMBER_BYTES: usize = 1;

impl Value {
    /// The bytes that DynamoDB counts for the value, its name left out (developer guide, "DynamoDB item sizes and
    /// formats").
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::String(text) => text.len(),
            Self::Number(number) => number.size(),
            Self::Binary(bytes) => bytes.len(),
            Self::Bool(_) | Self::Null => 1,
            Self::StringSet(members) => members.iter().map(String::len).sum(),
            Self::NumberSet(members) => members.iter().map(Number::size).sum(),
            Self::BinarySet(members) => members.iter().map(Vec::len).sum(),
            Self::List(members) => {
                DOCUMENT_BYTES + members.iter().map(|value| MEMBER_BYTES + value.size()).sum::<usize>()
            }
            Self::Map(members) => {
                DOCUMENT_BYTES
                    + members.iter().map(|(name, value)| MEMBER_BYTES + name.len() + value.size()).sum::<usize>()
            }
        }
    }
}

impl Item {
    /// The bytes that DynamoDB counts for the item, names included. At most [`ITEM_BYTES_MAX`] can be stored.
    #[must_use]
    pub fn size(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.size()).sum()
    }
}

/// Write capacity units of a write whose larger image, before or after, has this many bytes: 1 KB each.
#[must_use]
pub const fn write_units(bytes: usize) -> u32 {
    units(bytes, 1024)
}

/// Read capacity units of a strongly consistent read of this many bytes: 4 KB each.
#[must_use]
pub const fn read_units(bytes: usize) -> u32 {
    units(bytes, 4096)
}

const fn units(bytes: usize, per_unit: usize) -> u32 {
    let units = bytes.div_ceil(per_unit);
    if units == 0 { 1 } else { units as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_by_type() {
        let number = |text: &str| Number::parse(text).unwrap();
        let map = |entries: Vec<(&str, Value)>| {
            Value::Map(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
        };
        let cases = [
            (Value::from(""), 0),
            (Value::from("é😀"), 6),
            (Value::Binary(vec![0; 7]), 7),
            (Value::Bool(false), 1),
            (Value::Null, 1),
            (Value::StringSet(vec!["ab".into(), "c".into()]), 3),
            (Value::NumberSet(vec![number("1"), number("-1")]), 5),
            (Value::BinarySet(vec![vec![1], vec![2, 3]]), 3),
            (Value::List(vec![]), 3),
            (Value::List(vec![Value::Null, Value::from("ab")]), 8),
            (map(vec![]), 3),
            (map(vec![("ab", Value::Null), ("c", Value::List(vec![]))]), 3 + (1 + 2 + 1) + (1 + 1 + 3)),
        ];
        for (value, expected) in cases {
            assert_eq!(value.size(), expected, "{value:?}");
        }
        let item: Item = [("pk".to_owned(), Value::from("abc")), ("n".to_owned(), Value::Null)].into_iter().collect();
        assert_eq!(item.size(), 2 + 3 + 1 + 1);
    }

    #[test]
    fn units_round_up_and_are_never_zero() {
        for (bytes, write, read) in [(0, 1, 1), (1, 1, 1), (1024, 1, 1), (1025, 2, 1), (4096, 4, 1), (4097, 5, 2)] {
            assert_eq!((write_units(bytes), read_units(bytes)), (write, read), "{bytes}");
        }
    }
}
