//! DynamoDB JSON: `{"name": {"S": "text"}, ...}`, as the AWS CLI and table exports print it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value as Json};

use super::{Item, Number, NumberError, Value};

/// Containers inside containers that DynamoDB stores at most (developer guide, "Quotas").
const DEPTH_MAX: usize = 32;

/// Why a JSON value is not a DynamoDB item: the place in it, and what is wrong there. Never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct JsonError {
    /// Attribute names, member names and list positions, joined by `.`.
    pub path: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong at one place of a DynamoDB JSON value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not an object of attributes.
    #[error("expected an object of attribute names and values")]
    NotAnItem,
    /// Not an object with exactly one type name.
    #[error("expected an object with one member, the type: S, N, B, BOOL, NULL, SS, NS, BS, L or M")]
    NotAValue,
    /// The member is none of the ten types, or its content is of another kind.
    #[error("the type \"{0}\" is unknown or its content is of the wrong kind")]
    Type(String),
    /// `B` or a member of `BS` is not Base64.
    #[error("not Base64 (standard alphabet, padded)")]
    Base64,
    /// `N` or a member of `NS` is not a number that DynamoDB stores.
    #[error(transparent)]
    Number(#[from] NumberError),
    /// `{"NULL": false}` does not exist in DynamoDB.
    #[error("NULL is always true")]
    NullFalse,
    /// Deeper than DynamoDB stores.
    #[error("nested deeper than 32 levels")]
    Depth,
}

/// Reads an item from the object that stands for its attributes.
///
/// # Errors
/// [`JsonError`] naming the attribute and what is wrong with it.
pub fn from_json(json: &Json) -> Result<Item, JsonError> {
    let Json::Object(attributes) = json else {
        return Err(JsonError { path: "item".to_owned(), problem: Problem::NotAnItem });
    };
    attributes
        .iter()
        .map(|(name, value)| match value_from(value, 0) {
            Ok(value) => Ok((name.clone(), value)),
            Err(mut error) => {
                error.0.push(name.clone());
                error.0.reverse();
                Err(JsonError { path: error.0.join("."), problem: error.1 })
            }
        })
        .collect()
}

/// The innermost part of the path first.
type At = (Vec<String>, Problem);

fn value_from(json: &Json, depth: usize) -> Result<Value, At> {
    let here = |problem| (Vec::new(), problem);
    let inside = |step: String| {
        move |mut error: At| {
            error.0.push(step);
            error
        }
    };
    let Some((name, content)) = json.as_object().filter(|object| object.len() == 1).and_then(|o| o.iter().next())
    else {
        return Err(here(Problem::NotAValue));
    };
    if depth > DEPTH_MAX {
        return Err(here(Problem::Depth));
    }
    match (name.as_str(), content) {
        ("S", Json::String(text)) => Ok(Value::String(text.clone())),
        ("N", Json::String(text)) => number(text).map(Value::Number).map_err(here),
        ("B", Json::String(text)) => binary(text).map(Value::Binary).map_err(here),
        ("BOOL", Json::Bool(flag)) => Ok(Value::Bool(*flag)),
        ("NULL", Json::Bool(true)) => Ok(Value::Null),
        ("NULL", Json::Bool(false)) => Err(here(Problem::NullFalse)),
        ("SS", Json::Array(members)) => members_of(members, |text| Ok(text.to_owned())).map(Value::StringSet),
        ("NS", Json::Array(members)) => members_of(members, number).map(Value::NumberSet),
        ("BS", Json::Array(members)) => members_of(members, binary).map(Value::BinarySet),
        ("L", Json::Array(members)) => members
            .iter()
            .enumerate()
            .map(|(i, member)| value_from(member, depth + 1).map_err(inside(i.to_string())))
            .collect::<Result<_, _>>()
            .map(Value::List),
        ("M", Json::Object(members)) => members
            .iter()
            .map(|(name, member)| {
                let value = value_from(member, depth + 1).map_err(inside(name.clone()))?;
                Ok((name.clone(), value))
            })
            .collect::<Result<_, _>>()
            .map(Value::Map),
        (other, _) => Err(here(Problem::Type(other.to_owned()))),
    }
}

fn members_of<T>(members: &[Json], read: impl Fn(&str) -> Result<T, Problem>) -> Result<Vec<T>, At> {
    members
        .iter()
        .enumerate()
        .map(|(i, member)| {
            let text = member.as_str().ok_or_else(|| (vec![i.to_string()], Problem::NotAValue))?;
            read(text).map_err(|problem| (vec![i.to_string()], problem))
        })
        .collect()
}

fn number(text: &str) -> Result<Number, Problem> {
    Number::parse(text).map_err(Problem::Number)
}

fn binary(text: &str) -> Result<Vec<u8>, Problem> {
    BASE64.decode(text).map_err(|_| Problem::Base64)
}

/// The JSON object that stands for the item's attributes.
#[must_use]
pub fn to_json(item: &Item) -> Json {
    Json::Object(item.iter().map(|(name, value)| (name.to_owned(), value_to(value))).collect())
}

fn value_to(value: &Value) -> Json {
    let strings = |texts: Vec<String>| Json::Array(texts.into_iter().map(Json::String).collect());
    let content = match value {
        Value::String(text) => Json::String(text.clone()),
        Value::Number(number) => Json::String(number.as_str().to_owned()),
        Value::Binary(bytes) => Json::String(BASE64.encode(bytes)),
        Value::Bool(flag) => Json::Bool(*flag),
        Value::Null => Json::Bool(true),
        Value::StringSet(members) => strings(members.clone()),
        Value::NumberSet(members) => strings(members.iter().map(|n| n.as_str().to_owned()).collect()),
        Value::BinarySet(members) => strings(members.iter().map(|bytes| BASE64.encode(bytes)).collect()),
        Value::List(members) => Json::Array(members.iter().map(value_to).collect()),
        Value::Map(members) => Json::Object(members.iter().map(|(name, v)| (name.clone(), value_to(v))).collect()),
    };
    Json::Object(Map::from_iter([(value.type_name().to_owned(), content)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_types_there_and_back() {
        let text = r#"{"b":{"B":"AP8="},"bs":{"BS":["AA==","AQ=="]},"f":{"BOOL":false},
            "l":{"L":[{"N":"1.50"},{"M":{"x":{"NULL":true}}}]},"n":{"N":"12345678901234567890123456789012345678"},
            "ns":{"NS":["2","1"]},"s":{"S":"é😀"},"ss":{"SS":["b","a"]}}"#;
        let json: Json = serde_json::from_str(text).unwrap();
        assert_eq!(to_json(&from_json(&json).unwrap()), json);
    }

    #[test]
    fn problems_name_the_place_and_no_value() {
        let deep = format!("{}{}{}", r#"{"a":"#, r#"{"L":["#.repeat(40), "]}".repeat(40) + "}");
        let cases = [
            ("[]", "item: expected an object of attribute names and values"),
            (
                r#"{"a":{"S":"x","N":"1"}}"#,
                "a: expected an object with one member, the type: S, N, B, BOOL, NULL, SS, NS, BS, L or M",
            ),
            (r#"{"a":{"N":1}}"#, "a: the type \"N\" is unknown or its content is of the wrong kind"),
            (r#"{"a":{"M":{"b":{"L":[{"N":"secret"}]}}}}"#, "a.b.0: not a decimal number"),
            (r#"{"a":{"B":"???"}}"#, "a: not Base64 (standard alphabet, padded)"),
            (r#"{"a":{"NULL":false}}"#, "a: NULL is always true"),
            (
                r#"{"a":{"NS":["1",2]}}"#,
                "a.1: expected an object with one member, the type: S, N, B, BOOL, NULL, SS, NS, BS, L or M",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(from_json(&serde_json::from_str(text).unwrap()).unwrap_err().to_string(), expected);
        }
        let error = from_json(&serde_json::from_str(&deep).unwrap()).unwrap_err();
        assert_eq!(error.problem, Problem::Depth);
    }
}
