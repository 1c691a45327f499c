//! Primary keys: which attributes they are, and what identifies one item.

use std::fmt;

use super::{Item, Value, json};

/// The names of a table's key attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyNames {
    /// The partition key's attribute.
    pub partition: String,
    /// The sort key's attribute, if the table has one.
    pub sort: Option<String>,
}

/// An item does not carry its key as the table needs it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A key attribute is absent.
    #[error("the key attribute \"{name}\" is missing")]
    Missing {
        /// The attribute.
        name: String,
    },
    /// A key attribute is neither string, number nor binary.
    #[error("the key attribute \"{name}\" is of type {found}; a key is S, N or B")]
    Type {
        /// The attribute.
        name: String,
        /// The type found.
        found: &'static str,
    },
}

impl KeyNames {
    /// The key attributes, partition key first.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.partition.as_str()).chain(self.sort.as_deref())
    }

    /// Whether the attribute is part of the key.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.iter().any(|key| key == name)
    }

    /// The key of an item, numbers in canonical spelling so that equal keys are equal values.
    ///
    /// # Errors
    /// [`KeyError`] when a key attribute is missing or of a type that no key has.
    pub fn key_of(&self, item: &Item) -> Result<Key, KeyError> {
        let part = |name: &str| -> Result<(String, Value), KeyError> {
            let value = match item.get(name) {
                None => return Err(KeyError::Missing { name: name.to_owned() }),
                Some(Value::Number(number)) => Value::Number(number.to_canonical()),
                Some(value @ (Value::String(_) | Value::Binary(_))) => value.clone(),
                Some(other) => return Err(KeyError::Type { name: name.to_owned(), found: other.type_name() }),
            };
            Ok((name.to_owned(), value))
        };
        Ok(Key { partition: part(&self.partition)?, sort: self.sort.as_deref().map(part).transpose()? })
    }
}

/// The primary key of one item, with the names of its attributes.
///
/// Keys are the one kind of table data that reseal prints and stores: failures and cursors need them.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Name and value of the partition key.
    pub partition: (String, Value),
    /// Name and value of the sort key, if the table has one.
    pub sort: Option<(String, Value)>,
}

impl Key {
    /// Names and values, partition key first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        std::iter::once(&self.partition).chain(self.sort.as_ref()).map(|(name, value)| (name.as_str(), value))
    }

    /// The key as an item that has nothing else.
    #[must_use]
    pub fn to_item(&self) -> Item {
        self.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect()
    }
}

/// DynamoDB JSON on one line, as `--keys` files, the ledger and messages show a key. Equal keys have equal texts.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", json::to_json(&self.to_item()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        for (_, value) in self.iter() {
            match value {
                Value::String(text) => text.hash(state),
                Value::Number(number) => number.hash(state),
                Value::Binary(bytes) => bytes.hash(state),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::Number;

    #[test]
    fn equal_keys_are_equal_whatever_the_spelling_of_their_numbers() {
        let names = KeyNames { partition: "id".into(), sort: Some("at".into()) };
        let item = |number: &str| -> Item {
            [
                ("id".to_owned(), Value::from("a")),
                ("at".to_owned(), Value::Number(Number::parse(number).unwrap())),
                ("x".to_owned(), Value::Null),
            ]
            .into_iter()
            .collect()
        };
        let key = names.key_of(&item("1.50e1")).unwrap();
        assert_eq!(key, names.key_of(&item("15")).unwrap());
        assert_eq!(key.to_string(), r#"{"at":{"N":"15"},"id":{"S":"a"}}"#);
    }

    #[test]
    fn keys_that_no_table_has() {
        let names = KeyNames { partition: "id".into(), sort: None };
        assert_eq!(names.key_of(&Item::new()).unwrap_err().to_string(), "the key attribute \"id\" is missing");
        let item: Item = [("id".to_owned(), Value::Bool(true))].into_iter().collect();
        assert_eq!(
            names.key_of(&item).unwrap_err().to_string(),
            "the key attribute \"id\" is of type BOOL; a key is S, N or B"
        );
    }
}
