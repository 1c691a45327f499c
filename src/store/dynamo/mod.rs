//! A DynamoDB table, and its stream, through the AWS SDK.

mod convert;
mod describe;
mod expression;
mod statement;
mod streams;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementError, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure,
};
use futures::future::{join, join_all};

use super::table::{Answer, Page, Scan, StoreClass, StoreError, Table, Units, Update, Via};
use crate::aws::{AwsConfig, Fault, Meaning};
use crate::item::{Item, Key, KeyNames, Value, write_units};
use crate::migration::{Expected, Rewrite};
use convert::ConvertError;
#[cfg(feature = "local")]
pub(crate) use convert::item_to;
pub(crate) use convert::key_to;
pub use describe::describe;
use statement::Statement;
pub use streams::{DynamoShards, enable_stream};

/// The most statements of one request (API reference, `BatchExecuteStatement`).
const STATEMENTS_MAX: usize = 25;
/// The most bytes of statements in one request. The largest request is not documented for this operation; its relative
/// `BatchWriteItem` takes 16 MB, `ExecuteTransaction` 4 MB, and values grow by a third on the way.
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

const BATCH: &str = "BatchExecuteStatement";
const SINGLE: &str = "UpdateItem";

/// A table of DynamoDB, or of a stand-in that speaks its protocol.
#[derive(Debug, Clone)]
pub struct DynamoTable {
    client: Client,
    name: String,
    keys: KeyNames,
    /// Whether writes leave this process at all.
    writes: bool,
}

/// What became of one request.
#[derive(Default)]
struct Sent {
    /// The rewrite's place in the call, and its answer; `None` when a statement was refused and `UpdateItem` may still
    /// do it.
    answers: Vec<(usize, Option<Answer>)>,
    units: Units,
    unreported: f64,
    requests: u32,
}

impl DynamoTable {
    /// The table of this name, or ARN, with these key attributes. Sends nothing.
    #[must_use]
    pub fn new(config: &AwsConfig, name: impl Into<String>, keys: KeyNames) -> Self {
        Self { client: Client::new(config.sdk()), name: name.into(), keys, writes: true }
    }

    /// The same for reading alone: whatever it is asked to write, it refuses and sends nothing.
    #[must_use]
    pub fn read_only(config: &AwsConfig, name: impl Into<String>, keys: KeyNames) -> Self {
        Self { writes: false, ..Self::new(config, name, keys) }
    }

    /// Sends statements as one request.
    async fn send_batch(&self, rewrites: &[Rewrite], statements: Vec<(usize, Statement<'_>)>) -> Sent {
        // One attempt, one body: nothing is retried in the SDK.
        let body = Mutex::new(Some(statement::body(statements.iter().map(|(_, statement)| statement))));
        let places: Vec<usize> = statements.into_iter().map(|(at, _)| at).collect();
        let request = self.client.batch_execute_statement().set_statements(Some(Vec::new())).customize();
        let request = request.mutate_request(move |request| {
            if let Some(body) = body.lock().unwrap_or_else(PoisonError::into_inner).take() {
                request.headers_mut().insert("content-length", body.len().to_string());
                *request.body_mut() = body.into();
            }
        });
        let result = request.send().await;
        let (answers, units) = match result {
            Ok(output) => {
                let units = output.consumed_capacity.as_ref().map(|tables| {
                    tables.iter().filter_map(aws_sdk_dynamodb::types::ConsumedCapacity::capacity_units).sum()
                });
                let mut responses = output.responses.unwrap_or_default().into_iter();
                let answer = |at: usize| match responses.next() {
                    Some(response) => response.error.map_or(Some(Answer::Written), |e| refused(&rewrites[at], e)),
                    None => Some(unanswered()),
                };
                let answers: Vec<_> = places.iter().copied().map(answer).collect();
                (answers, units)
            }
            Err(error) => {
                let fault = Fault::of(&error);
                // One statement may have spoilt the request for all: each gets its own.
                let answer = |at: usize| {
                    (fault.meaning() != Meaning::Item)
                        .then(|| Answer::Failed(failure(BATCH, fault.clone(), Some(&rewrites[at]))))
                };
                (places.iter().copied().map(answer).collect(), None)
            }
        };
        let answers: Vec<_> = places.into_iter().zip(answers).collect();
        let charged = answers.iter().filter(|(_, answer)| answer.as_ref().is_some_and(is_charged));
        let unreported = match units {
            Some(_) => 0.0,
            None => charged.map(|(at, _)| f64::from(write_units(rewrites[*at].bytes))).sum(),
        };
        Sent { answers, units, unreported, requests: 1 }
    }

    /// Sends one rewrite as `UpdateItem`.
    async fn send_single(&self, at: usize, rewrite: &Rewrite) -> Sent {
        let expressions = match expression::expressions(rewrite) {
            Ok(expressions) => expressions,
            Err(unfit) => {
                let problem = unfit.to_string();
                let error = StoreError { operation: SINGLE, class: StoreClass::Item, problem };
                return Sent { answers: vec![(at, Some(Answer::Failed(error)))], ..Sent::default() };
            }
        };
        let result = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(key_to(&rewrite.key)))
            .set_update_expression(expressions.update)
            .condition_expression(expressions.condition)
            .set_expression_attribute_names(Some(expressions.names))
            .set_expression_attribute_values(Some(expressions.values).filter(|values| !values.is_empty()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        let (answer, units) = match result {
            Ok(output) => (Answer::Written, output.consumed_capacity.and_then(|capacity| capacity.capacity_units)),
            Err(error) => (refused_single(rewrite, error), None),
        };
        let charged = units.is_none() && is_charged(&answer);
        let unreported = if charged { f64::from(write_units(rewrite.bytes)) } else { 0.0 };
        Sent { answers: vec![(at, Some(answer))], units, unreported, requests: 1 }
    }
}

#[async_trait]
impl Table for DynamoTable {
    async fn scan(&self, scan: &Scan) -> Result<Page, StoreError> {
        let request = self
            .client
            .scan()
            .table_name(&self.name)
            .consistent_read(true)
            .segment(scan.segment as i32)
            .total_segments(scan.total_segments as i32)
            .set_exclusive_start_key(scan.after.as_ref().map(key_to))
            .set_limit(scan.limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let output = request.send().await.map_err(|error| {
            let mut error = call_error("Scan", &error);
            if error.class == StoreClass::Item {
                // There is no item in the request that could be at fault.
                error.class = StoreClass::Fatal;
            }
            error
        })?;
        let items = output.items.unwrap_or_default().into_iter().map(convert::item_from);
        let items = items.collect::<Result<_, _>>().map_err(|error| unreadable("Scan", &error))?;
        let next = output.last_evaluated_key.filter(|key| !key.is_empty());
        let next = next.map(|key| convert::key_from(key, &self.keys)).transpose();
        let next = next.map_err(|error| unreadable("Scan", &error))?;
        Ok(Page { items, next, units: output.consumed_capacity.and_then(|capacity| capacity.capacity_units) })
    }

    async fn get(&self, key: &Key) -> Result<(Option<Item>, Units), StoreError> {
        let request = self
            .client
            .get_item()
            .table_name(&self.name)
            .consistent_read(true)
            .set_key(Some(key_to(key)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let output = request.send().await.map_err(|error| call_error("GetItem", &error))?;
        let item = current(output.item).map_err(|error| unreadable("GetItem", &error))?;
        Ok((item, output.consumed_capacity.and_then(|capacity| capacity.capacity_units)))
    }

    async fn update(&self, rewrites: &[Rewrite], via: Via) -> Update {
        debug_assert!(distinct(rewrites), "the service rejects a batch that has one key twice");
        if !self.writes {
            let problem = "this command does not write".to_owned();
            let answer =
                || Answer::Failed(StoreError { operation: SINGLE, class: StoreClass::Fatal, problem: problem.clone() });
            return Update {
                answers: rewrites.iter().map(|_| answer()).collect(),
                units: None,
                unreported: 0.0,
                requests: 0,
            };
        }
        let (mut singles, mut batched) = (Vec::new(), Vec::new());
        for (at, rewrite) in rewrites.iter().enumerate() {
            let batch = via == Via::Batch;
            match batch.then(|| statement::statement(&self.name, rewrite)).flatten() {
                Some(statement) => batched.push((at, statement)),
                None => singles.push(at),
            }
        }
        let together = join_all(cut(batched).into_iter().map(|batch| self.send_batch(rewrites, batch)));
        let single = |at: usize| self.send_single(at, &rewrites[at]);
        let (mut sent, alone) = join(together, join_all(singles.into_iter().map(single))).await;
        let unserved = sent.iter().flat_map(|sent| &sent.answers).filter(|(_, answer)| answer.is_none());
        let unserved: Vec<usize> = unserved.map(|(at, _)| *at).collect();
        sent.extend(alone);
        sent.extend(join_all(unserved.into_iter().map(single)).await);
        gather(rewrites.len(), sent)
    }
}

/// Cuts statements into requests, by count and by bytes.
fn cut(statements: Vec<(usize, Statement<'_>)>) -> Vec<Vec<(usize, Statement<'_>)>> {
    let (mut batches, mut bytes) = (Vec::<Vec<_>>::new(), 0);
    for (at, statement) in statements {
        bytes += statement.bytes;
        match batches.last_mut() {
            Some(batch) if batch.len() < STATEMENTS_MAX && bytes <= REQUEST_BYTES_MAX => batch.push((at, statement)),
            _ => {
                bytes = statement.bytes;
                batches.push(vec![(at, statement)]);
            }
        }
    }
    batches
}

/// One answer per rewrite, in their order, and the sums.
fn gather(count: usize, sent: Vec<Sent>) -> Update {
    let mut answers: Vec<Option<Answer>> = (0..count).map(|_| None).collect();
    let mut update = Update { answers: Vec::new(), units: None, unreported: 0.0, requests: 0 };
    for sent in sent {
        for (at, answer) in sent.answers {
            answers[at] = answer.or_else(|| answers[at].take());
        }
        update.units = match (update.units, sent.units) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        update.unreported += sent.unreported;
        update.requests += sent.requests;
    }
    update.answers = answers.into_iter().map(|answer| answer.unwrap_or_else(unanswered)).collect();
    update
}

/// Whether the service charges for the rewrite: a failed condition is charged, and what nobody knows may have been.
fn is_charged(answer: &Answer) -> bool {
    match answer {
        Answer::Written | Answer::ConditionFailed(_) => true,
        Answer::Failed(error) => error.class == StoreClass::Unknown,
    }
}

/// The answer to a statement that was not carried out; `None` when `UpdateItem` may do better.
fn refused(rewrite: &Rewrite, error: BatchStatementError) -> Option<Answer> {
    let code = error.code.as_ref().map_or("", |code| code.as_str());
    if matches!(code, "ConditionalCheckFailed" | "ConditionalCheckFailedException") {
        return Some(condition_failed(BATCH, error.item));
    }
    let fault = Fault::of_statement(code, error.message.as_deref());
    let refused_as_such = matches!(fault.code(), "ValidationError" | "ValidationException");
    (!refused_as_such).then(|| Answer::Failed(failure(BATCH, fault, Some(rewrite))))
}

/// The answer to an `UpdateItem` that was not, or perhaps not, carried out.
fn refused_single(rewrite: &Rewrite, error: SdkError<UpdateItemError, HttpResponse>) -> Answer {
    match error {
        SdkError::ServiceError(answer) if answer.err().is_conditional_check_failed_exception() => {
            match answer.into_err() {
                UpdateItemError::ConditionalCheckFailedException(failed) => condition_failed(SINGLE, failed.item),
                // The guard has looked already.
                _ => condition_failed(SINGLE, None),
            }
        }
        error => Answer::Failed(failure(SINGLE, Fault::of(&error), Some(rewrite))),
    }
}

fn condition_failed(operation: &'static str, item: Option<HashMap<String, AttributeValue>>) -> Answer {
    match current(item) {
        Ok(item) => Answer::ConditionFailed(item.map(Box::new)),
        Err(error) => Answer::Failed(unreadable(operation, &error)),
    }
}

/// An item as the service returned it; one without attributes stands for none.
fn current(item: Option<HashMap<String, AttributeValue>>) -> Result<Option<Item>, ConvertError> {
    item.filter(|item| !item.is_empty()).map(convert::item_from).transpose()
}

fn unanswered() -> Answer {
    let problem = "the service gave no answer to this statement".to_owned();
    Answer::Failed(StoreError { operation: BATCH, class: StoreClass::Unknown, problem })
}

fn unreadable(operation: &'static str, error: &impl std::fmt::Display) -> StoreError {
    StoreError { operation, class: StoreClass::Fatal, problem: error.to_string() }
}

fn call_error<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    failure(operation, Fault::of(error), None)
}

/// What a fault means for a run over a table.
fn class(fault: &Fault) -> StoreClass {
    match fault.meaning() {
        Meaning::Throttled => StoreClass::Throttled { reason: fault.throttling_reasons().join(", ") },
        Meaning::Conflict => StoreClass::Conflict,
        Meaning::Unavailable => StoreClass::Unknown,
        Meaning::Credentials => StoreClass::Credentials,
        Meaning::Item => StoreClass::Item,
        Meaning::Denied => StoreClass::Denied,
        Meaning::Fatal => StoreClass::Fatal,
    }
}

/// The fault in words, with the remedy; without the service's words if they repeat a value of the rewrite.
fn failure(operation: &'static str, fault: Fault, rewrite: Option<&Rewrite>) -> StoreError {
    let class = class(&fault);
    let repeats = rewrite.is_some_and(|rewrite| values_of(rewrite).any(|value| is_told(value, fault.message())));
    let fault = if repeats { fault.without_message() } else { fault };
    let problem = match (&class, operation) {
        (StoreClass::Denied, BATCH) => {
            format!("{fault}; allow dynamodb:PartiQLUpdate, or write with --writer update-item")
        }
        (StoreClass::Denied, _) => format!("{fault}; allow dynamodb:{operation} on the table"),
        (StoreClass::Fatal, _) => format!("{fault}; check the table's name, the Region and the endpoint"),
        _ => fault.to_string(),
    };
    StoreError { operation, class, problem }
}

/// Every value that a rewrite sends, its key aside.
fn values_of(rewrite: &Rewrite) -> impl Iterator<Item = &Value> {
    let conditions = rewrite.condition.iter().filter_map(|(_, expected)| match expected {
        Expected::Equals(value) => Some(value),
        Expected::Absent | Expected::Exists => None,
    });
    rewrite.set.iter().map(|(_, value)| value).chain(conditions)
}

/// Whether the message has a text or number of the value in it, as a word of its own.
fn is_told(value: &Value, message: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let told = |text: &str| {
        let places = message.match_indices(text).filter(|_| !text.is_empty());
        let (before, after) = (|at: usize| message[..at].chars().next_back(), |at: usize| message[at..].chars().next());
        places
            .map(|(at, _)| (before(at), after(at + text.len())))
            .any(|(before, after)| !inside(before) && !inside(after))
    };
    match value {
        Value::String(text) => told(text),
        Value::Number(number) => told(number.as_str()),
        Value::StringSet(members) => members.iter().any(|text| told(text)),
        Value::NumberSet(members) => members.iter().any(|number| told(number.as_str())),
        Value::List(members) => members.iter().any(|value| is_told(value, message)),
        Value::Map(members) => members.values().any(|value| is_told(value, message)),
        Value::Binary(_) | Value::BinarySet(_) | Value::Bool(_) | Value::Null => false,
    }
}

fn distinct(rewrites: &[Rewrite]) -> bool {
    let keys: std::collections::HashSet<&Key> = rewrites.iter().map(|rewrite| &rewrite.key).collect();
    keys.len() == rewrites.len()
}
