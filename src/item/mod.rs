//! The data model of a DynamoDB item: names, values, keys, sizes, JSON.
//!
//! Values keep exactly what DynamoDB gave: the text of a number, the order of a set. Two values that DynamoDB would
//! call equal need not be `==`; [`Value::same`] answers that question.
//!
//! `Debug` never prints a value: an item may hold what a job is about to encrypt.

pub mod json;
mod key;
mod number;
mod size;

use std::collections::BTreeMap;
use std::fmt;

pub use key::{Key, KeyError, KeyNames};
pub use number::{Number, NumberError};
pub use size::{ITEM_BYTES_MAX, read_units, write_units};

/// One attribute value: the ten types of DynamoDB (API reference, `AttributeValue`).
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// `S`: a UTF-8 string.
    String(String),
    /// `N`: a decimal number, in the text that DynamoDB gave.
    Number(Number),
    /// `B`: bytes.
    Binary(Vec<u8>),
    /// `BOOL`.
    Bool(bool),
    /// `NULL`: DynamoDB knows no other than `true`.
    Null,
    /// `SS`: distinct strings, in the order given.
    StringSet(Vec<String>),
    /// `NS`: distinct numbers, in the order given.
    NumberSet(Vec<Number>),
    /// `BS`: distinct byte strings, in the order given.
    BinarySet(Vec<Vec<u8>>),
    /// `L`: a list.
    List(Vec<Self>),
    /// `M`: a map.
    Map(BTreeMap<String, Self>),
}

impl Value {
    /// The name of the type in the API: `S`, `N`, `B`, `BOOL`, `NULL`, `SS`, `NS`, `BS`, `L` or `M`.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) => "S",
            Self::Number(_) => "N",
            Self::Binary(_) => "B",
            Self::Bool(_) => "BOOL",
            Self::Null => "NULL",
            Self::StringSet(_) => "SS",
            Self::NumberSet(_) => "NS",
            Self::BinarySet(_) => "BS",
            Self::List(_) => "L",
            Self::Map(_) => "M",
        }
    }

    /// Whether DynamoDB's `=` calls the two equal: numbers by value, sets in any order, the rest member by member.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.same(b),
            (Self::StringSet(a), Self::StringSet(b)) => same_members(a, b),
            (Self::BinarySet(a), Self::BinarySet(b)) => same_members(a, b),
            (Self::NumberSet(a), Self::NumberSet(b)) => {
                let canonical = |set: &[Number]| set.iter().map(Number::canonical).collect::<Vec<_>>();
                same_members(&canonical(a), &canonical(b))
            }
            (Self::List(a), Self::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b)),
            (Self::Map(a), Self::Map(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|((ka, a), (kb, b))| ka == kb && a.same(b))
            }
            (a, b) => a == b,
        }
    }
}

fn same_members<T: Ord>(a: &[T], b: &[T]) -> bool {
    let sorted = |set: &[T]| -> Vec<usize> {
        let mut order: Vec<usize> = (0..set.len()).collect();
        order.sort_by(|&i, &j| set[i].cmp(&set[j]));
        order
    };
    a.len() == b.len() && sorted(a).into_iter().zip(sorted(b)).all(|(i, j)| a[i] == b[j])
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({} bytes)", self.type_name(), self.size())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes)
    }
}

/// A whole item: attribute values by name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Item(BTreeMap<String, Value>);

impl Item {
    /// An item without attributes.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// The value of an attribute.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Whether the attribute exists.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Sets an attribute and gives back the value it had.
    pub fn insert(&mut self, name: impl Into<String>, value: Value) -> Option<Value> {
        self.0.insert(name.into(), value)
    }

    /// Removes an attribute and gives back the value it had.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    /// The attributes, ordered by the bytes of their names.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The attribute names, ordered by their bytes.
    #[must_use]
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The number of attributes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no attribute at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both have the same attributes with values that DynamoDB calls equal ([`Value::same`]).
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().zip(other.iter()).all(|((na, a), (nb, b))| na == nb && a.same(b))
    }
}

impl FromIterator<(String, Value)> for Item {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(attributes: I) -> Self {
        Self(attributes.into_iter().collect())
    }
}

impl IntoIterator for Item {
    type Item = (String, Value);
    type IntoIter = std::collections::btree_map::IntoIter<String, Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Value {
        Value::Number(Number::parse(text).unwrap())
    }

    #[test]
    fn same_is_what_dynamodb_calls_equal() {
        let set = |texts: &[&str]| Value::NumberSet(texts.iter().map(|t| Number::parse(t).unwrap()).collect());
        let list = |values: Vec<Value>| Value::List(values);
        let cases = [
            (number("1"), number("1.0"), true),
            (number("1"), number("1.01"), false),
            (number("1"), Value::from("1"), false),
            (set(&["1", "20"]), set(&["2e1", "1.00"]), true),
            (set(&["1", "2"]), set(&["1", "3"]), false),
            (list(vec![number("1"), Value::Null]), list(vec![number("1.0"), Value::Null]), true),
            (list(vec![number("1"), Value::Null]), list(vec![Value::Null, number("1")]), false),
            (Value::StringSet(vec!["b".into(), "a".into()]), Value::StringSet(vec!["a".into(), "b".into()]), true),
        ];
        for (a, b, expected) in cases {
            assert_eq!(a.same(&b), expected, "{a:?} {b:?}");
            assert_eq!(b.same(&a), expected, "{b:?} {a:?}");
        }
    }

    #[test]
    fn debug_prints_types_and_sizes_only() {
        let item: Item = [("card".to_owned(), Value::from("4111-1111"))].into_iter().collect();
        assert_eq!(format!("{item:?}"), r#"{"card": S(9 bytes)}"#);
    }
}
