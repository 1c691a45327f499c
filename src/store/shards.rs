//! The table's stream: shards that are listed, iterators into them, and records in the order of each item's changes.

use std::time::SystemTime;

use async_trait::async_trait;

use super::StoreError;
use crate::item::{Item, Key};
use crate::migration::Listed;

/// A page of the listing of a stream's shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The shards; not in any order, and a child may be listed before its parent.
    pub shards: Vec<Listed>,
    /// The shard after which the next page begins; `None` at the end.
    pub next: Option<String>,
    /// Whether the stream is enabled, or being enabled: a closed shard may still get a child.
    pub enabled: bool,
    /// The service's time of the answer, if it said.
    pub at: Option<SystemTime>,
}

/// Where an iterator begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that is kept.
    TrimHorizon,
    /// After the record with this sequence number.
    After(String),
}

/// What a record says of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The item.
    pub key: Key,
    /// The item before the change, where the stream's view has it and there was one.
    pub old: Option<Item>,
    /// The item after the change, where the stream's view has it and there is one.
    pub new: Option<Item>,
    /// Whether the item was removed.
    pub removed: bool,
    /// Its place in the shard.
    pub sequence: String,
    /// When it came about, in whole seconds of the service's time.
    pub created: Option<SystemTime>,
}

/// What a call for records brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Records {
    /// The records, in order; none is normal.
    pub records: Vec<Record>,
    /// The iterator to go on with; `None` when the shard is closed and read to its end.
    pub next: Option<String>,
    /// The service's time of the answer, if it said.
    pub at: Option<SystemTime>,
}

/// Why a call to the stream failed, where that is not the same as for a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShardsError {
    /// The iterator is older than 15 minutes: a new one is needed, after the last record seen.
    #[error("{0}")]
    Expired(StoreError),
    /// Records were trimmed before they were read: a gap.
    #[error("{0}")]
    Trimmed(StoreError),
    /// The shard or the stream is not there any more.
    #[error("{0}")]
    Gone(StoreError),
    /// As for a table.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A DynamoDB stream. Implementations do not retry.
#[async_trait]
pub trait Shards: Send + Sync {
    /// The stream's ARN: a stream that is enabled anew has another one.
    fn arn(&self) -> &str;

    /// One page of the shards, after this one.
    ///
    /// # Errors
    /// [`ShardsError`] when they could not be listed.
    async fn list(&self, after: Option<&str>) -> Result<Listing, ShardsError>;

    /// The children of a closed shard, where the service can tell (`ShardFilter`, `CHILD_SHARDS`); `None` where not.
    ///
    /// # Errors
    /// [`ShardsError`] when they could not be listed.
    async fn children(&self, parent: &str) -> Result<Option<Listing>, ShardsError>;

    /// An iterator into a shard.
    ///
    /// # Errors
    /// [`ShardsError`] when there is none.
    async fn iterator(&self, shard: &str, start: &Start) -> Result<String, ShardsError>;

    /// The next records: at most 1000, or 1 MB.
    ///
    /// # Errors
    /// [`ShardsError`] when they could not be read.
    async fn records(&self, iterator: &str) -> Result<Records, ShardsError>;
}
