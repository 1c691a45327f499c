//! The stream of a DynamoDB table through the AWS SDK.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{AttributeValue, StreamSpecification, StreamViewType};
use aws_sdk_dynamodbstreams::Client;
use aws_sdk_dynamodbstreams::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_dynamodbstreams::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodbstreams::error::BoxError;
use aws_sdk_dynamodbstreams::primitives::{DateTime, DateTimeFormat};
use aws_sdk_dynamodbstreams::types::{
    AttributeValue as StreamValue, OperationType, Record as StreamRecord, Shard as StreamShard, ShardFilter,
    ShardFilterType, ShardIteratorType, StreamDescription, StreamStatus,
};

use super::convert::{self, ConvertError};
use super::{call_error, class, current, unreadable};
use crate::aws::{AwsConfig, Fault};
use crate::item::{Item, Key, KeyNames};
use crate::migration::Listed;
use crate::store::{Listing, Record, Records, Shards, ShardsError, Start, StoreClass, StoreError};

const LIST: &str = "DescribeStream";
const ITERATOR: &str = "GetShardIterator";
const RECORDS: &str = "GetRecords";

/// A stream of DynamoDB, or of a stand-in that speaks its protocol.
#[derive(Debug)]
pub struct DynamoShards {
    client: Client,
    arn: String,
    keys: KeyNames,
    /// Whether the service was seen not to know `ShardFilter`.
    unfiltered: AtomicBool,
}

impl DynamoShards {
    /// The stream of this ARN, of a table with these key attributes. Sends nothing.
    #[must_use]
    pub fn new(config: &AwsConfig, arn: impl Into<String>, keys: KeyNames) -> Self {
        Self { client: Client::new(config.sdk()), arn: arn.into(), keys, unfiltered: AtomicBool::new(false) }
    }
}

/// Enables a stream of new and old images on the table of this name, or ARN. Returns before the stream is there.
///
/// # Errors
/// [`StoreError`] when the service refuses: a table that has a stream cannot get another.
pub async fn enable_stream(config: &AwsConfig, table: &str) -> Result<(), StoreError> {
    let view = StreamViewType::NewAndOldImages;
    let specification = StreamSpecification::builder().stream_enabled(true).stream_view_type(view).build();
    let specification = specification.expect("whether it is enabled is set");
    let client = aws_sdk_dynamodb::Client::new(config.sdk());
    let request = client.update_table().table_name(table).stream_specification(specification);
    request.send().await.map(drop).map_err(|error| call_error("UpdateTable", &error))
}

#[async_trait]
impl Shards for DynamoShards {
    fn arn(&self) -> &str {
        &self.arn
    }

    async fn list(&self, after: Option<&str>) -> Result<Listing, ShardsError> {
        let date = Date::default();
        let request = self.client.describe_stream().stream_arn(&self.arn);
        let request = request.set_exclusive_start_shard_id(after.map(str::to_owned));
        let output = request.customize().interceptor(date.clone()).send().await;
        let output = output.map_err(|error| failure(LIST, Fault::of(&error)))?;
        Ok(listing(output.stream_description, &date)?)
    }

    async fn children(&self, parent: &str) -> Result<Option<Listing>, ShardsError> {
        if self.unfiltered.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let date = Date::default();
        let filter = ShardFilter::builder().r#type(ShardFilterType::ChildShards).shard_id(parent).build();
        let request = self.client.describe_stream().stream_arn(&self.arn).shard_filter(filter);
        let told = match request.customize().interceptor(date.clone()).send().await {
            // A stand-in may pass over what it does not know, and list what it likes. A few children need no pages.
            Ok(output) => Some(listing(output.stream_description, &date)?).filter(|listing| {
                listing.next.is_none() && listing.shards.iter().all(|shard| shard.parent.as_deref() == Some(parent))
            }),
            Err(error) => match Fault::of(&error) {
                fault if class(&fault) == StoreClass::Item || fault.code() == "UnknownOperationException" => None,
                fault => return Err(failure(LIST, fault)),
            },
        };
        if told.is_none() {
            self.unfiltered.store(true, Ordering::Relaxed);
        }
        Ok(told)
    }

    async fn iterator(&self, shard: &str, start: &Start) -> Result<String, ShardsError> {
        let (kind, sequence) = match start {
            Start::TrimHorizon => (ShardIteratorType::TrimHorizon, None),
            Start::After(sequence) => (ShardIteratorType::AfterSequenceNumber, Some(sequence.clone())),
        };
        let request = self.client.get_shard_iterator().stream_arn(&self.arn).shard_id(shard);
        let sent = request.shard_iterator_type(kind).set_sequence_number(sequence).send().await;
        let output = sent.map_err(|error| failure(ITERATOR, Fault::of(&error)))?;
        Ok(present(output.shard_iterator, "an iterator").map_err(|error| unreadable(ITERATOR, &error))?)
    }

    async fn records(&self, iterator: &str) -> Result<Records, ShardsError> {
        let date = Date::default();
        let request = self.client.get_records().shard_iterator(iterator);
        let output = request.customize().interceptor(date.clone()).send().await;
        let output = output.map_err(|error| failure(RECORDS, Fault::of(&error)))?;
        let malformed = |error: AnswerError| unreadable(RECORDS, &error);
        let next = output.next_shard_iterator;
        if next.as_ref().map_or_else(|| output.records.is_none(), String::is_empty) {
            // Nothing at all must not pass for the end of the shard.
            return Err(malformed(AnswerError::Missing("the next iterator")).into());
        }
        let records = output.records.unwrap_or_default().into_iter().map(|told| record(told, &self.keys));
        Ok(Records { records: records.collect::<Result<_, _>>().map_err(malformed)?, next, at: date.time() })
    }
}

/// The service's time of an answer: the API has no field for it, HTTP has.
#[derive(Debug, Clone, Default)]
struct Date(Arc<OnceLock<SystemTime>>);

impl Date {
    fn time(&self) -> Option<SystemTime> {
        self.0.get().copied()
    }
}

impl Intercept for Date {
    fn name(&self) -> &'static str {
        "Date"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let header = context.response().headers().get("date");
        let date = header.and_then(|text| DateTime::from_str(text, DateTimeFormat::HttpDate).ok());
        if let Some(time) = date.and_then(|date| SystemTime::try_from(date).ok()) {
            self.0.get_or_init(|| time);
        }
        Ok(())
    }
}

/// An answer is not one that DynamoDB Streams gives. Never a value.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    /// Something that every such answer has.
    #[error("the service returned an answer without {0}; check the endpoint")]
    Missing(&'static str),
    /// A record that cannot be taken over.
    #[error("{source}, in the record with the sequence number {sequence}")]
    Record {
        /// Its place in the shard.
        sequence: String,
        /// What is wrong.
        source: RecordError,
    },
}

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
enum RecordError {
    /// A key or an image that is none.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// An `eventName` that this version does not know, or none.
    #[error("the service returned an unknown kind of change")]
    Kind,
    /// An image with another key than the record.
    #[error("the service returned the image of another item")]
    Image,
}

fn listing(description: Option<StreamDescription>, date: &Date) -> Result<Listing, StoreError> {
    let malformed = |name| unreadable(LIST, &AnswerError::Missing(name));
    let description = description.ok_or_else(|| malformed("a stream"))?;
    let shard = |shard: StreamShard| {
        let closed = shard.sequence_number_range.is_some_and(|range| filled(range.ending_sequence_number).is_some());
        let id = filled(shard.shard_id).ok_or_else(|| malformed("a shard's id"))?;
        Ok(Listed { id, parent: filled(shard.parent_shard_id), closed })
    };
    Ok(Listing {
        shards: description.shards.unwrap_or_default().into_iter().map(shard).collect::<Result<_, StoreError>>()?,
        next: filled(description.last_evaluated_shard_id),
        // What is not known to be disabled may still give a closed shard a child.
        enabled: !matches!(description.stream_status, Some(StreamStatus::Disabled | StreamStatus::Disabling)),
        at: date.time(),
    })
}

fn record(told: StreamRecord, names: &KeyNames) -> Result<Record, AnswerError> {
    let kind = told.event_name;
    let change = told.dynamodb.ok_or(AnswerError::Missing("a record's change"))?;
    let sequence = present(change.sequence_number, "a record's sequence number")?;
    let read = || {
        let removed = match kind {
            Some(OperationType::Remove) => true,
            Some(OperationType::Insert | OperationType::Modify) => false,
            _ => return Err(RecordError::Kind),
        };
        let key = convert::key_from(attributes(change.keys.unwrap_or_default()), names)?;
        let (old, new) = (image(change.old_image, &key, names)?, image(change.new_image, &key, names)?);
        Ok((key, old, new, removed))
    };
    match read() {
        Ok((key, old, new, removed)) => {
            let created = change.approximate_creation_date_time;
            let created = created.and_then(|time| SystemTime::try_from(time).ok());
            Ok(Record { key, old, new, removed, sequence, created })
        }
        Err(source) => Err(AnswerError::Record { sequence, source }),
    }
}

/// An image of the item with this key.
fn image(told: Option<HashMap<String, StreamValue>>, key: &Key, names: &KeyNames) -> Result<Option<Item>, RecordError> {
    let image = current(told.map(attributes))?;
    match &image {
        Some(item) if names.key_of(item).map_err(ConvertError::from)? != *key => Err(RecordError::Image),
        _ => Ok(image),
    }
}

/// The attributes as those of the table's SDK, which has the same types in another crate: one conversion serves both.
fn attributes(told: HashMap<String, StreamValue>) -> HashMap<String, AttributeValue> {
    told.into_iter().map(|(name, told)| (name, value(told))).collect()
}

/// The SDK reads at most 128 levels.
fn value(told: StreamValue) -> AttributeValue {
    match told {
        StreamValue::S(text) => AttributeValue::S(text),
        StreamValue::N(text) => AttributeValue::N(text),
        StreamValue::B(bytes) => AttributeValue::B(bytes),
        StreamValue::Bool(flag) => AttributeValue::Bool(flag),
        StreamValue::Null(flag) => AttributeValue::Null(flag),
        StreamValue::Ss(members) => AttributeValue::Ss(members),
        StreamValue::Ns(members) => AttributeValue::Ns(members),
        StreamValue::Bs(members) => AttributeValue::Bs(members),
        StreamValue::L(members) => AttributeValue::L(members.into_iter().map(value).collect()),
        StreamValue::M(members) => AttributeValue::M(attributes(members)),
        // No value is like this; the conversion says so.
        _ => AttributeValue::Null(false),
    }
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn present(text: Option<String>, name: &'static str) -> Result<String, AnswerError> {
    filled(text).ok_or(AnswerError::Missing(name))
}

/// The fault in words, with the remedy.
fn failure(operation: &'static str, fault: Fault) -> ShardsError {
    let class = match class(&fault) {
        // There is no item in the request that could be at fault.
        StoreClass::Item => StoreClass::Fatal,
        class => class,
    };
    let (kind, remedy): (fn(StoreError) -> ShardsError, _) = match fault.code() {
        "ExpiredIteratorException" => (ShardsError::Expired, "; ask for a new iterator".to_owned()),
        "TrimmedDataAccessException" => {
            (ShardsError::Trimmed, "; DynamoDB keeps records for 24 hours, and these were not read in time".to_owned())
        }
        "ResourceNotFoundException" => (
            ShardsError::Gone,
            "; the stream was disabled or enabled anew, or the shard's 24 hours are over".to_owned(),
        ),
        _ => match class {
            StoreClass::Denied => (
                ShardsError::Store,
                format!("; allow dynamodb:{operation} on the table's stream (table/NAME/stream/*)"),
            ),
            StoreClass::Fatal => {
                (ShardsError::Store, "; check the stream's ARN, the Region and the endpoint".to_owned())
            }
            _ => (ShardsError::Store, String::new()),
        },
    };
    kind(StoreError { operation, class, problem: format!("{fault}{remedy}") })
}
