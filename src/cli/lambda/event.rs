//! What a function is invoked with, and what it answers: the event of a DynamoDB stream, and the records that have to come
//! again (Lambda developer guide, "Using AWS Lambda with Amazon DynamoDB").
//!
//! The event is read record by record, so that one that cannot be read keeps no other from its work; attribute values are
//! DynamoDB JSON and go through no other type than [`Item`]'s.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::Value as Json;

use crate::item::{Item, Key, KeyError, KeyNames, json};
use crate::store::Record;

/// What the mapping is told.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Response {
    /// None: all are done. Otherwise all from the lowest of them on come again.
    pub(super) batch_item_failures: Vec<Failed>,
}

/// A record that has to come again.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failed {
    /// Its sequence number.
    pub(super) item_identifier: String,
}

/// The records of an event.
///
/// # Errors
/// [`NotAnEvent`] when it has none.
pub(super) fn records(event: &Json) -> Result<&[Json], NotAnEvent> {
    event.get("Records").and_then(Json::as_array).map(Vec::as_slice).ok_or(NotAnEvent)
}

/// The function was invoked with something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event has no Records; invoke the function by an event source mapping of the table's stream only")]
pub(super) struct NotAnEvent;

/// The place of a record in its shard: without it, nothing can be told of the record.
pub(super) fn sequence(record: &Json) -> Option<&str> {
    change(record, "SequenceNumber")?.as_str().filter(|sequence| !sequence.is_empty())
}

/// What is wrong with a record. Never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// Of a table that the job is not for.
    #[error("it is not of a stream of {table} (eventSourceARN); map the function to that table's stream only")]
    Source {
        /// The job's table.
        table: String,
    },
    /// A kind of change that does not exist.
    #[error("its eventName is neither INSERT, MODIFY nor REMOVE")]
    Kind,
    /// It has no key, or none that the table has.
    #[error("dynamodb.Keys: {0}")]
    Key(#[from] KeyError),
    /// A key or an image that is no item.
    #[error("dynamodb.{part}: {source}")]
    Item {
        /// `Keys`, `NewImage` or `OldImage`.
        part: &'static str,
        /// What is wrong.
        source: json::JsonError,
    },
    /// An image with another key than the record.
    #[error("dynamodb.{part} is the image of another item")]
    Image {
        /// `NewImage` or `OldImage`.
        part: &'static str,
    },
}

/// Reads a record of a stream of the table with this ARN.
///
/// # Errors
/// [`Malformed`] when it is none.
pub(super) fn read(record: &Json, sequence: &str, table: &str, names: &KeyNames) -> Result<Record, Malformed> {
    let stream = record.get("eventSourceARN").and_then(Json::as_str).and_then(|arn| arn.strip_prefix(table));
    if stream.is_none_or(|stream| !stream.starts_with("/stream/")) {
        return Err(Malformed::Source { table: table.to_owned() });
    }
    let removed = match record.get("eventName").and_then(Json::as_str) {
        Some("REMOVE") => true,
        Some("INSERT" | "MODIFY") => false,
        _ => return Err(Malformed::Kind),
    };
    let key = names.key_of(&part(record, "Keys")?.unwrap_or_default())?;
    let image = |name| image(part(record, name)?, name, &key, names);
    let (old, new) = (image("OldImage")?, image("NewImage")?);
    let created = change(record, "ApproximateCreationDateTime").and_then(Json::as_f64);
    let created = created.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let created = created.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
    Ok(Record { key, old, new, removed, sequence: sequence.to_owned(), created })
}

fn change<'a>(record: &'a Json, name: &str) -> Option<&'a Json> {
    record.get("dynamodb")?.get(name)
}

fn part(record: &Json, part: &'static str) -> Result<Option<Item>, Malformed> {
    let item = change(record, part).map(json::from_json).transpose();
    item.map_err(|source| Malformed::Item { part, source })
}

/// An image of the item with this key.
fn image(image: Option<Item>, part: &'static str, key: &Key, names: &KeyNames) -> Result<Option<Item>, Malformed> {
    match &image {
        Some(item) if names.key_of(item).as_ref() != Ok(key) => Err(Malformed::Image { part }),
        _ => Ok(image),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TABLE: &str = "arn:aws:dynamodb:eu-west-1:111122223333:table/customers";

    fn names() -> KeyNames {
        KeyNames { partition: "tenant".to_owned(), sort: Some("id".to_owned()) }
    }

    /// As the developer guide shows one.
    fn event() -> Json {
        let image = json!({
            "tenant": { "S": "t1" },
            "id": { "N": "101" },
            "amount": { "N": "12345678901234567890123456789012345678" },
            "exact": { "N": "0.10000000000000000000000000000000000001" },
            "card": { "B": "AP8Q" },
            "tags": { "SS": ["b", "a"] },
            "deep": { "M": { "list": { "L": [{ "NULL": true }, { "BS": ["AA==", "AQ=="] }, { "NS": ["1.50", "2"] }] } } },
        });
        json!({ "Records": [{
            "eventID": "c4ca4238a0b923820dcc509a6f75849b",
            "eventName": "MODIFY",
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": "eu-west-1",
            "eventSourceARN": format!("{TABLE}/stream/2026-01-01T00:00:00.000"),
            "dynamodb": {
                "ApproximateCreationDateTime": 1_750_000_000,
                "Keys": { "tenant": { "S": "t1" }, "id": { "N": "1.01e2" } },
                "NewImage": image,
                "OldImage": { "tenant": { "S": "t1" }, "id": { "N": "101" } },
                "SequenceNumber": "4421584500000000017450439091",
                "SizeBytes": 26,
                "StreamViewType": "NEW_AND_OLD_IMAGES",
            },
        }]})
    }

    fn read_first(event: &Json) -> Result<Record, Malformed> {
        let record = &records(event).unwrap()[0];
        read(record, sequence(record).unwrap(), TABLE, &names())
    }

    #[test]
    fn a_record_is_read_without_loss() {
        // As it comes: as text.
        let event: Json = serde_json::from_str(&event().to_string()).unwrap();
        let record = read_first(&event).unwrap();
        assert_eq!(json::to_json(record.new.as_ref().unwrap()), event["Records"][0]["dynamodb"]["NewImage"]);
        assert_eq!(record.key.to_string(), r#"{"id":{"N":"101"},"tenant":{"S":"t1"}}"#);
        assert_eq!((record.sequence.as_str(), record.removed), ("4421584500000000017450439091", false));
        assert_eq!(record.created, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_750_000_000)));
        assert_eq!(record.old.unwrap().names().count(), 2);
    }

    #[test]
    fn what_is_wrong_is_named_and_no_value() {
        let cases: [(&str, Json, &str); 9] = [
            ("/eventName", json!("UPSERT"), "its eventName is neither INSERT, MODIFY nor REMOVE"),
            ("/eventSourceARN", json!(format!("{TABLE}2/stream/1")), "it is not of a stream of arn:aws:dynamodb:"),
            ("/eventSourceARN", Json::Null, "it is not of a stream of arn:aws:dynamodb:"),
            (
                "/dynamodb/Keys",
                json!({ "tenant": { "S": "t1" } }),
                "dynamodb.Keys: the key attribute \"id\" is missing",
            ),
            ("/dynamodb/Keys/id", json!({ "N": "secret" }), "dynamodb.Keys: id: not a decimal number"),
            ("/dynamodb/Keys/id", json!({ "N": "102" }), "dynamodb.OldImage is the image of another item"),
            ("/dynamodb/NewImage", json!("secret"), "dynamodb.NewImage: item: expected an object of attribute names"),
            ("/dynamodb/NewImage/card", json!({ "B": "secret!" }), "dynamodb.NewImage: card: not Base64"),
            ("/dynamodb/NewImage/amount", json!({ "N": 5 }), "dynamodb.NewImage: amount: the type \"N\" is unknown"),
        ];
        for (place, value, expected) in cases {
            let mut event = event();
            *event["Records"][0].pointer_mut(place).unwrap() = value;
            let problem = read_first(&event).unwrap_err().to_string();
            assert!(problem.contains(expected) && !problem.contains("secret"), "{place}: {problem}");
        }
        assert_eq!(records(&json!({ "detail": {} })), Err(NotAnEvent));
        assert_eq!(sequence(&json!({ "dynamodb": { "SequenceNumber": "" } })), None);
    }
}
