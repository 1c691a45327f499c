//! Short ways to say values, conditions and answers.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use reseal::item::{Number, Value};
use reseal::migration::Expected;
use reseal::store::{Answer, Update};

/// A value as the SDK has it.
pub(crate) fn sdk(value: &Value) -> AttributeValue {
    let number = |number: &Number| number.as_str().to_owned();
    match value {
        Value::String(text) => AttributeValue::S(text.clone()),
        Value::Number(value) => AttributeValue::N(number(value)),
        Value::Binary(bytes) => AttributeValue::B(Blob::new(bytes.clone())),
        Value::Bool(flag) => AttributeValue::Bool(*flag),
        Value::Null => AttributeValue::Null(true),
        Value::StringSet(members) => AttributeValue::Ss(members.clone()),
        Value::NumberSet(members) => AttributeValue::Ns(members.iter().map(number).collect()),
        Value::BinarySet(members) => AttributeValue::Bs(members.iter().cloned().map(Blob::new).collect()),
        Value::List(members) => AttributeValue::L(members.iter().map(sdk).collect()),
        Value::Map(members) => AttributeValue::M(members.iter().map(|(name, v)| (name.clone(), sdk(v))).collect()),
    }
}

/// A number.
pub(crate) fn n(text: &str) -> Value {
    Value::Number(Number::parse(text).unwrap())
}

/// A string.
pub(crate) fn s(text: &str) -> Value {
    Value::from(text)
}

/// A condition that an attribute has a value.
pub(crate) fn equals(name: &str, value: Value) -> (String, Expected) {
    (name.to_owned(), Expected::Equals(value))
}

/// The answer to the only rewrite.
pub(crate) fn only(update: Update) -> Answer {
    let [answer] = <[Answer; 1]>::try_from(update.answers).unwrap();
    answer
}
