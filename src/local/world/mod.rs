//! A table with customers and the applications that use it, for the demo and for tests that run the real program: made
//! from a seed, and remembered by an oracle.

mod customers;
mod oracle;
mod reader;
mod writers;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::DisplayErrorContext;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
    PutRequest, ScalarAttributeType, TimeToLiveSpecification, WriteRequest,
};

pub use customers::{Bulk, customer};
pub use oracle::{Differences, Oracle};
pub use reader::{open, open_all};
pub use writers::{Writers, Written};

use crate::item::{Item, Key, KeyError, KeyNames};
use crate::store::item_to;

/// The table's name. Stand-ins make shard ids of it, which have to be long enough for SDKs.
pub const TABLE: &str = "reseal-demo-customers";

/// The attributes of a customer and their crypto actions, as a job file has them.
const ACTIONS: &str = r#"tenant = "SIGN_ONLY"
id = "SIGN_ONLY"
region = "SIGN_ONLY"
plan = "SIGN_ONLY"
version = "SIGN_ONLY"
name = "ENCRYPT_AND_SIGN"
email = "ENCRYPT_AND_SIGN"
card = "ENCRYPT_AND_SIGN"
balance = "ENCRYPT_AND_SIGN"
active = "ENCRYPT_AND_SIGN"
referrer = "ENCRYPT_AND_SIGN"
notes = "ENCRYPT_AND_SIGN"
tags = "ENCRYPT_AND_SIGN"
scores = "ENCRYPT_AND_SIGN"
devices = "ENCRYPT_AND_SIGN"
address = "ENCRYPT_AND_SIGN"
photo = "ENCRYPT_AND_SIGN"
visits = "DO_NOTHING"
expires-at = "DO_NOTHING"
"#;

/// The attributes of a customer that stay outside the signature.
const UNSIGNED: &str = r#"["visits", "expires-at"]"#;

/// A world could not be made, or one of its applications or readers failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {problem}")]
pub struct WorldError {
    doing: &'static str,
    problem: String,
}

impl WorldError {
    /// A failure of the service while doing something.
    pub(super) fn sdk(doing: &'static str) -> impl Fn(&(dyn std::error::Error + 'static)) -> Self {
        move |error| Self { doing, problem: DisplayErrorContext(error).to_string() }
    }

    fn build(error: impl std::fmt::Display) -> Self {
        Self { doing: "building a request", problem: error.to_string() }
    }

    fn while_reading(error: impl std::fmt::Display) -> Self {
        Self { doing: "reading the table", problem: error.to_string() }
    }
}

/// The key attributes of the table.
#[must_use]
pub fn key_names() -> KeyNames {
    KeyNames { partition: "tenant".to_owned(), sort: Some("id".to_owned()) }
}

/// The key of a customer.
///
/// # Errors
/// [`KeyError`] when the item is none.
pub fn key_of(item: &Item) -> Result<Key, KeyError> {
    key_names().key_of(item)
}

/// The beginning of a job file for the table; `source`, `target` and `budget` are left to the caller.
#[must_use]
pub fn job_head() -> String {
    format!(
        r#"version = 1

[table]
name = "{TABLE}"
partition_key = "tenant"
sort_key = "id"
schema = "frozen"
readers = "accept-both"
writers = "whole-item"

[attributes]
{ACTIONS}
[unsigned]
names = {UNSIGNED}
"#
    )
}

/// Creates the table, with an index by region and a TTL attribute, and fills it with the customers of these numbers.
///
/// # Errors
/// [`WorldError`] when the service refuses.
pub async fn create(
    client: &Client,
    seed: u64,
    customers: impl IntoIterator<Item = u64>,
    oracle: &Oracle,
) -> Result<(), WorldError> {
    create_table(client).await?;
    // The two large items travel alone: 25 of them would not fit in a request.
    let (large, usual): (Vec<u64>, Vec<u64>) = customers.into_iter().partition(|n| Bulk::of(*n) != Bulk::Usual);
    for chunk in usual.chunks(25).chain(large.chunks(1)) {
        let mut requests = Vec::with_capacity(chunk.len());
        for &number in chunk {
            let item = customer(seed, number, 0);
            let put = PutRequest::builder().set_item(Some(item_to(&item))).build().map_err(WorldError::build)?;
            requests.push(WriteRequest::builder().put_request(put).build());
            oracle.put(key_of(&item).map_err(WorldError::build)?, item);
        }
        let answer = client.batch_write_item().request_items(TABLE, requests).send().await;
        let answer = answer.map_err(|error| WorldError::sdk("BatchWriteItem")(&error))?;
        if answer.unprocessed_items().is_some_and(|left| !left.is_empty()) {
            return Err(WorldError { doing: "BatchWriteItem", problem: "items were left unprocessed".to_owned() });
        }
    }
    Ok(())
}

async fn create_table(client: &Client) -> Result<(), WorldError> {
    let attribute =
        |name: &str| AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build();
    let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
    let index = GlobalSecondaryIndex::builder()
        .index_name("by-region")
        .key_schema(key("region", KeyType::Hash).map_err(WorldError::build)?)
        .key_schema(key("id", KeyType::Range).map_err(WorldError::build)?)
        .projection(Projection::builder().projection_type(ProjectionType::All).build())
        .build()
        .map_err(WorldError::build)?;
    let request = client
        .create_table()
        .table_name(TABLE)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("tenant").map_err(WorldError::build)?)
        .attribute_definitions(attribute("id").map_err(WorldError::build)?)
        .attribute_definitions(attribute("region").map_err(WorldError::build)?)
        .key_schema(key("tenant", KeyType::Hash).map_err(WorldError::build)?)
        .key_schema(key("id", KeyType::Range).map_err(WorldError::build)?)
        .global_secondary_indexes(index);
    request.send().await.map_err(|error| WorldError::sdk("CreateTable")(&error))?;
    let ttl = TimeToLiveSpecification::builder().attribute_name("expires-at").enabled(true).build();
    let ttl = ttl.map_err(WorldError::build)?;
    let request = client.update_time_to_live().table_name(TABLE).time_to_live_specification(ttl);
    request.send().await.map_err(|error| WorldError::sdk("UpdateTimeToLive")(&error))?;
    Ok(())
}
