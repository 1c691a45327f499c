//! DynamoDB JSON to and from the SDK's attribute values. Written without looking at the product's own reader: a
//! mistake in one of the two shows as a difference.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value as Json, json};

use crate::Failure;

/// An item as the SDK has it.
pub type Item = HashMap<String, AttributeValue>;

/// Reads the object of an item's attributes.
///
/// # Errors
/// When it is not DynamoDB JSON; the sentence names the attribute.
pub fn item_from(json: &Json) -> Result<Item, Failure> {
    members(json)?
        .iter()
        .map(|(name, value)| {
            let value = value_from(value).map_err(|e| format!("attribute {name:?}: {e}"))?;
            Ok((name.clone(), value))
        })
        .collect()
}

/// The object of an item's attributes.
#[must_use]
pub fn item_to(item: &Item) -> Json {
    Json::Object(item.iter().map(|(name, value)| (name.clone(), value_to(value))).collect())
}

fn value_from(json: &Json) -> Result<AttributeValue, Failure> {
    let object = members(json)?;
    let (Some((kind, content)), 1) = (object.iter().next(), object.len()) else {
        return Err("not an object with one member".into());
    };
    Ok(match kind.as_str() {
        "S" => AttributeValue::S(text(content)?),
        "N" => AttributeValue::N(text(content)?),
        "B" => AttributeValue::B(blob(content)?),
        "BOOL" => AttributeValue::Bool(content.as_bool().ok_or("not a boolean")?),
        "NULL" => AttributeValue::Null(content.as_bool().ok_or("not a boolean")?),
        "SS" => AttributeValue::Ss(list(content, text)?),
        "NS" => AttributeValue::Ns(list(content, text)?),
        "BS" => AttributeValue::Bs(list(content, blob)?),
        "L" => AttributeValue::L(list(content, value_from)?),
        "M" => AttributeValue::M(item_from(content)?),
        other => return Err(format!("unknown type {other:?}").into()),
    })
}

fn value_to(value: &AttributeValue) -> Json {
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(text) => json!({ "N": text }),
        AttributeValue::B(blob) => json!({ "B": BASE64.encode(blob) }),
        AttributeValue::Bool(flag) => json!({ "BOOL": flag }),
        AttributeValue::Null(flag) => json!({ "NULL": flag }),
        AttributeValue::Ss(texts) => json!({ "SS": texts }),
        AttributeValue::Ns(texts) => json!({ "NS": texts }),
        AttributeValue::Bs(blobs) => json!({ "BS": blobs.iter().map(|b| BASE64.encode(b)).collect::<Vec<_>>() }),
        AttributeValue::L(values) => json!({ "L": values.iter().map(value_to).collect::<Vec<_>>() }),
        AttributeValue::M(members) => json!({ "M": item_to(members) }),
        other => unreachable!("the SDK has ten types of values, not {other:?}"),
    }
}

fn members(json: &Json) -> Result<&Map<String, Json>, Failure> {
    Ok(json.as_object().ok_or("not an object")?)
}

fn text(json: &Json) -> Result<String, Failure> {
    Ok(json.as_str().ok_or("not a string")?.to_owned())
}

fn blob(json: &Json) -> Result<Blob, Failure> {
    Ok(Blob::new(BASE64.decode(text(json)?)?))
}

fn list<T>(json: &Json, read: impl Fn(&Json) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    json.as_array().ok_or("not a list")?.iter().map(read).collect()
}
