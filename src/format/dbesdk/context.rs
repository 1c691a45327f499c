//! The encryption context that binds a data key to an item (AWS Database Encryption SDK specification,
//! `dynamodb-encryption-client/encrypt-item.md`, "Base Context Value Version 1" and "Version 2").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::value::{self, ValueError};
use crate::crypto::EncryptionContext;
use crate::format::Schema;
use crate::item::{KeyError, Number, Value};

/// The pair that holds the public key which verifies the item's signature: a compressed point in Base64.
pub(super) const PUBLIC_KEY: &str = "aws-crypto-public-key";
/// How the keys begin that only the format may use; attributes in a signature's scope must not.
pub(super) const RESERVED_CONTEXT: &str = "aws-crypto-";
const TABLE: &str = "aws-crypto-table-name";
const PARTITION: &str = "aws-crypto-partition-name";
const SORT: &str = "aws-crypto-sort-name";
const ATTRIBUTE: &str = "aws-crypto-attr.";
const LEGEND: &str = "aws-crypto-legend";

/// Bytes of a context's key or value at most.
const TEXT_BYTES_MAX: usize = 65_535;

/// Why an item has no encryption context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// A key attribute is missing or of a type that no key has.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// An attribute of the context is not in the item.
    #[error("the attribute \"{name}\" is part of the encryption context, but the item lacks it")]
    Missing {
        /// The attribute.
        name: String,
    },
    /// An attribute's value is no value of the format.
    #[error("the attribute \"{name}\" is part of the encryption context, but holds {problem}")]
    Value {
        /// The attribute.
        name: String,
        /// What it holds.
        problem: ValueError,
    },
    /// An attribute's value is longer than a context can hold.
    #[error(
        "the attribute \"{name}\" is too long for the encryption context, which holds 65535 bytes of text or 49147 of binary; sign it without including it in the context"
    )]
    Long {
        /// The attribute.
        name: String,
    },
    /// The header stores another value for a pair that follows from the item.
    #[error("the header stores another value for the context's \"{key}\" than the item has")]
    Conflict {
        /// The context's key.
        key: String,
    },
    /// The whole is longer than its 16-bit lengths can say.
    #[error("the encryption context is too long; include fewer attributes in it")]
    TooLong,
}

/// The context of version 1: names of table and keys, and the keys' values.
pub(super) fn version_1<'a>(
    schema: &'a Schema,
    value_of: impl Fn(&str) -> Option<&'a Value>,
) -> Result<EncryptionContext, ContextError> {
    let mut context = names(schema);
    for name in schema.keys.iter() {
        let value = value_of(name).ok_or_else(|| ContextError::Missing { name: name.to_owned() })?;
        add(&mut context, name, binary(name, value)?)?;
    }
    Ok(context)
}

/// The context of version 2: names of table and keys, the attributes included in it, and their types.
pub(super) fn version_2<'a>(
    schema: &'a Schema,
    mut included: Vec<&'a str>,
    value_of: impl Fn(&str) -> Option<&'a Value>,
) -> Result<EncryptionContext, ContextError> {
    let mut context = names(schema);
    // The types stand in the order of the context's keys.
    included.sort_unstable();
    let mut legend = String::with_capacity(included.len());
    for name in included {
        let value = value_of(name).ok_or_else(|| ContextError::Missing { name: name.to_owned() })?;
        let (letter, text) = match value {
            Value::String(text) => ('S', text.clone()),
            Value::Number(number) => ('N', number.canonical()),
            Value::Bool(flag) => ('L', flag.to_string()),
            Value::Null => ('L', "null".to_owned()),
            _ => ('B', binary(name, value)?),
        };
        legend.push(letter);
        add(&mut context, name, text)?;
    }
    if legend.len() > TEXT_BYTES_MAX {
        return Err(ContextError::TooLong);
    }
    context.insert(LEGEND, legend);
    Ok(context)
}

/// Adds the pairs that a header stores. They must not contradict those that follow from the item.
pub(super) fn merge(
    mut context: EncryptionContext,
    stored: &EncryptionContext,
) -> Result<EncryptionContext, ContextError> {
    for (key, value) in stored.iter() {
        if context.insert(key, value).is_some_and(|old| old != value) {
            return Err(ContextError::Conflict { key: key.to_owned() });
        }
    }
    Ok(context)
}

fn names(schema: &Schema) -> EncryptionContext {
    let mut context = EncryptionContext::default();
    context.insert(TABLE, &*schema.logical_table);
    context.insert(PARTITION, &*schema.keys.partition);
    if let Some(sort) = &schema.keys.sort {
        context.insert(SORT, &**sort);
    }
    context
}

fn add(context: &mut EncryptionContext, name: &str, text: String) -> Result<(), ContextError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ContextError::Long { name: name.to_owned() });
    }
    context.insert(format!("{ATTRIBUTE}{name}"), text);
    Ok(())
}

fn binary(name: &str, value: &Value) -> Result<String, ContextError> {
    let mut bytes = Vec::with_capacity(64);
    value::write(value, &mut bytes).map_err(|problem| ContextError::Value { name: name.to_owned(), problem })?;
    Ok(BASE64.encode(bytes))
}

/// The value of an attribute that a context holds: of a key, or of one that is included in it. `None` if it holds none of
/// this name, or the context was made otherwise.
#[must_use]
pub fn attribute(context: &EncryptionContext, name: &str) -> Option<Value> {
    let key = format!("{ATTRIBUTE}{name}");
    let text = context.get(&key)?;
    let letter = match context.get(LEGEND) {
        Some(legend) => {
            let attributes = context.iter().filter(|(key, _)| key.starts_with(ATTRIBUTE));
            let place = attributes.map(|(key, _)| key).position(|other| other == key)?;
            *legend.as_bytes().get(place)?
        }
        None => b'B',
    };
    match (letter, text) {
        (b'S', text) => Some(Value::String(text.to_owned())),
        (b'N', text) => Some(Value::Number(Number::parse(text).ok()?)),
        (b'L', "null") => Some(Value::Null),
        (b'L', text) => Some(Value::Bool(text.parse().ok()?)),
        (b'B', text) => {
            let mut bytes = BASE64.decode(text).ok()?;
            let id = *bytes.first_chunk()?;
            value::read(id, bytes.split_off(value::TYPE_ID_BYTES)).ok()
        }
        _ => None,
    }
}

/// A public key as the context holds it.
pub(super) fn public_key_text(point: &[u8]) -> String {
    BASE64.encode(point)
}

/// The public key that a context holds.
pub(super) fn public_key<const N: usize>(context: &EncryptionContext) -> Option<[u8; N]> {
    BASE64.decode(context.get(PUBLIC_KEY)?).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Unsigned;
    use crate::item::{Item, KeyNames};

    fn schema() -> Schema {
        Schema {
            logical_table: "t".into(),
            keys: KeyNames { partition: "pk".into(), sort: Some("sk".into()) },
            actions: [].into(),
            unsigned: Unsigned::default(),
        }
    }

    fn item() -> Item {
        let number = Value::Number(Number::parse("01.50").unwrap());
        [
            ("pk".to_owned(), Value::from("p")),
            ("sk".to_owned(), number),
            ("flag".to_owned(), Value::Bool(true)),
            ("none".to_owned(), Value::Null),
            ("bytes".to_owned(), Value::Binary(vec![1])),
            ("long".to_owned(), Value::Binary(vec![1; 49_148])),
        ]
        .into_iter()
        .collect()
    }

    fn pairs(context: &EncryptionContext) -> Vec<(&str, &str)> {
        context.iter().collect()
    }

    #[test]
    fn version_1_holds_the_keys_in_base64() {
        let (schema, item) = (schema(), item());
        let context = version_1(&schema, |name| item.get(name)).unwrap();
        assert_eq!(
            pairs(&context),
            [
                ("aws-crypto-attr.pk", "AAFw"),
                ("aws-crypto-attr.sk", "AAIxLjU="),
                ("aws-crypto-partition-name", "pk"),
                ("aws-crypto-sort-name", "sk"),
                ("aws-crypto-table-name", "t"),
            ]
        );
    }

    #[test]
    fn version_2_holds_text_as_it_is_and_the_types() {
        let (schema, item) = (schema(), item());
        let context = version_2(&schema, vec!["sk", "pk", "none", "flag", "bytes"], |name| item.get(name)).unwrap();
        assert_eq!(
            pairs(&context),
            [
                ("aws-crypto-attr.bytes", "//8B"),
                ("aws-crypto-attr.flag", "true"),
                ("aws-crypto-attr.none", "null"),
                ("aws-crypto-attr.pk", "p"),
                ("aws-crypto-attr.sk", "1.5"),
                ("aws-crypto-legend", "BLLSN"),
                ("aws-crypto-partition-name", "pk"),
                ("aws-crypto-sort-name", "sk"),
                ("aws-crypto-table-name", "t"),
            ]
        );
    }

    #[test]
    fn attributes_are_read_back_from_either_version() {
        let (schema, item) = (schema(), item());
        let get = |name: &str| item.get(name);
        let first = version_1(&schema, get).unwrap();
        let second = version_2(&schema, vec!["sk", "pk", "none", "flag", "bytes"], get).unwrap();
        for name in ["pk", "sk", "flag", "none", "bytes"] {
            let is_key = ["pk", "sk"].contains(&name);
            let found = attribute(&first, name);
            assert!(
                found.is_some() == is_key && found.is_none_or(|value| value.same(item.get(name).unwrap())),
                "{name}"
            );
            assert!(attribute(&second, name).is_some_and(|value| value.same(item.get(name).unwrap())), "{name}");
        }
        assert!(attribute(&second, "absent").is_none());
        for text in ["", "AAFw=", "AA==", "AAH/", "!"] {
            let context = [("aws-crypto-attr.pk".to_owned(), text.to_owned())].into_iter().collect();
            assert!(attribute(&context, "pk").is_none(), "{text}");
        }
        let legend = |legend: &str| {
            let pairs = [("aws-crypto-attr.pk", "p"), ("aws-crypto-legend", legend)];
            attribute(&pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect(), "pk")
        };
        assert!(legend("S").is_some());
        for wrong in ["", "N", "L", "B", "X"] {
            assert!(legend(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_in_a_context() {
        let (schema, item) = (schema(), item());
        let get = |name: &str| item.get(name);
        assert_eq!(version_2(&schema, vec!["absent"], get), Err(ContextError::Missing { name: "absent".into() }));
        assert_eq!(version_2(&schema, vec!["long"], get), Err(ContextError::Long { name: "long".into() }));
        let context = version_1(&schema, get).unwrap();
        let stored = |key: &str| [(key.to_owned(), "other".to_owned())].into_iter().collect();
        assert_eq!(
            merge(context.clone(), &stored("aws-crypto-table-name")),
            Err(ContextError::Conflict { key: "aws-crypto-table-name".into() })
        );
        assert_eq!(merge(context, &stored("tenant")).unwrap().get("tenant"), Some("other"));
    }
}
