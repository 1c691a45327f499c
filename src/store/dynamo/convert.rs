//! Items and keys, between the SDK's types and ours.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::item::{Item, Key, KeyError, KeyNames, Number, NumberError, Value};

/// Containers in containers: DynamoDB stores 32; what claims more is not DynamoDB.
const DEPTH_MAX: usize = 32;

/// What the service returned is not an item that DynamoDB can hold. Never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConvertError {
    /// A number that is none.
    #[error("the service returned {source} in the attribute \"{attribute}\"")]
    Number {
        /// The top-level attribute.
        attribute: String,
        /// What is wrong.
        source: NumberError,
    },
    /// A type of value that this version does not know, or one nested too deeply.
    #[error("the service returned a value of an unknown kind in the attribute \"{attribute}\"")]
    Kind {
        /// The top-level attribute.
        attribute: String,
    },
    /// Not the table's key.
    #[error("the service returned something that is not the table's key: {0}")]
    Key(#[from] KeyError),
}

/// Takes over an item of the SDK.
pub(super) fn item_from(attributes: HashMap<String, AttributeValue>) -> Result<Item, ConvertError> {
    attributes
        .into_iter()
        .map(|(name, value)| match value_from(value, 0) {
            Ok(value) => Ok((name, value)),
            Err(Problem::Number(source)) => Err(ConvertError::Number { attribute: name, source }),
            Err(Problem::Kind) => Err(ConvertError::Kind { attribute: name }),
        })
        .collect()
}

/// Takes over a key of the SDK: the last one of a page.
pub(super) fn key_from(attributes: HashMap<String, AttributeValue>, names: &KeyNames) -> Result<Key, ConvertError> {
    Ok(names.key_of(&item_from(attributes)?)?)
}

/// An item for the SDK: what the applications of a test world write.
#[cfg(feature = "local")]
pub(crate) fn item_to(item: &Item) -> HashMap<String, AttributeValue> {
    item.iter().map(|(name, value)| (name.to_owned(), value_to(value))).collect()
}

/// A key for the SDK.
pub(crate) fn key_to(key: &Key) -> HashMap<String, AttributeValue> {
    key.iter().map(|(name, value)| (name.to_owned(), value_to(value))).collect()
}

enum Problem {
    Number(NumberError),
    Kind,
}

impl From<NumberError> for Problem {
    fn from(source: NumberError) -> Self {
        Self::Number(source)
    }
}

fn value_from(value: AttributeValue, depth: usize) -> Result<Value, Problem> {
    if depth > DEPTH_MAX {
        return Err(Problem::Kind);
    }
    Ok(match value {
        AttributeValue::S(text) => Value::String(text),
        AttributeValue::N(text) => Value::Number(Number::parse(&text)?),
        AttributeValue::B(blob) => Value::Binary(blob.into_inner()),
        AttributeValue::Bool(flag) => Value::Bool(flag),
        AttributeValue::Null(true) => Value::Null,
        AttributeValue::Ss(members) => Value::StringSet(members),
        AttributeValue::Ns(members) => {
            Value::NumberSet(members.iter().map(|text| Number::parse(text)).collect::<Result<_, _>>()?)
        }
        AttributeValue::Bs(members) => Value::BinarySet(members.into_iter().map(Blob::into_inner).collect()),
        AttributeValue::L(members) => {
            Value::List(members.into_iter().map(|member| value_from(member, depth + 1)).collect::<Result<_, _>>()?)
        }
        AttributeValue::M(members) => Value::Map(
            members
                .into_iter()
                .map(|(name, member)| Ok((name, value_from(member, depth + 1)?)))
                .collect::<Result<_, Problem>>()?,
        ),
        _ => return Err(Problem::Kind),
    })
}

/// A value for the SDK. It copies: a rewrite is kept until its answer is known.
pub(super) fn value_to(value: &Value) -> AttributeValue {
    let number = |number: &Number| number.as_str().to_owned();
    let blob = |bytes: &Vec<u8>| Blob::new(bytes.clone());
    match value {
        Value::String(text) => AttributeValue::S(text.clone()),
        Value::Number(value) => AttributeValue::N(number(value)),
        Value::Binary(bytes) => AttributeValue::B(blob(bytes)),
        Value::Bool(flag) => AttributeValue::Bool(*flag),
        Value::Null => AttributeValue::Null(true),
        Value::StringSet(members) => AttributeValue::Ss(members.clone()),
        Value::NumberSet(members) => AttributeValue::Ns(members.iter().map(number).collect()),
        Value::BinarySet(members) => AttributeValue::Bs(members.iter().map(blob).collect()),
        Value::List(members) => AttributeValue::L(members.iter().map(value_to).collect()),
        Value::Map(members) => {
            AttributeValue::M(members.iter().map(|(name, value)| (name.clone(), value_to(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: AttributeValue) -> Result<Item, ConvertError> {
        item_from(HashMap::from([("a".to_owned(), value)]))
    }

    #[test]
    fn every_type_there_and_back() {
        let number = |text: &str| Number::parse(text).unwrap();
        let values = [
            Value::from("é😀"),
            Value::from(""),
            Value::Number(number("1.50")),
            Value::Binary(vec![0, 255]),
            Value::Bool(false),
            Value::Null,
            Value::StringSet(vec!["b".into(), "a".into()]),
            Value::NumberSet(vec![number("2"), number("1E3")]),
            Value::BinarySet(vec![vec![1], vec![]]),
            Value::List(vec![Value::Null, Value::Map([("x".to_owned(), Value::Bool(true))].into())]),
        ];
        for value in values {
            let item = read(value_to(&value)).unwrap();
            assert_eq!(item.get("a"), Some(&value));
        }
    }

    #[test]
    fn what_no_table_holds_is_an_error() {
        let deep = (0..100).fold(AttributeValue::Null(true), |inner, _| AttributeValue::L(vec![inner]));
        let cases = [
            (AttributeValue::N("12x4".into()), "the service returned not a decimal number in the attribute \"a\""),
            (
                AttributeValue::L(vec![AttributeValue::Ns(vec!["1".into(), "1E999".into()])]),
                "the service returned a number outside 1E-130 to 9.99E+125 in magnitude in the attribute \"a\"",
            ),
            (AttributeValue::Null(false), "the service returned a value of an unknown kind in the attribute \"a\""),
            (deep, "the service returned a value of an unknown kind in the attribute \"a\""),
        ];
        for (value, expected) in cases {
            assert_eq!(read(value).unwrap_err().to_string(), expected);
        }
    }
}
