//! The table: strongly consistent reads and conditional writes, nothing else.

use async_trait::async_trait;

use crate::item::{Item, Key};
use crate::migration::Rewrite;

/// Which page of which segment to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The segment, from 0.
    pub segment: u32,
    /// How many segments the scan is divided into.
    pub total_segments: u32,
    /// The last key of the page before, or `None` for the first.
    pub after: Option<Key>,
    /// At most this many items are looked at; `None` for as many as a page holds (1 MB).
    pub limit: Option<u32>,
}

/// Capacity units that a call consumed, as the service reported them; `None` where it reported nothing.
pub type Units = Option<f64>;

/// One page of a scan.
#[derive(Debug, Clone)]
pub struct Page {
    /// The items; a page without any is normal.
    pub items: Vec<Item>,
    /// Where the next page begins; `None` at the end of the segment.
    pub next: Option<Key>,
    /// Read capacity units.
    pub units: Units,
}

/// How a rewrite is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// Conditional statements in batches; single updates where a statement does not fit.
    Batch,
    /// One `UpdateItem` each.
    Single,
}

/// What became of one rewrite.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Applied.
    Written,
    /// The condition did not hold. The item as it is now, if the service returned it.
    ConditionFailed(Option<Box<Item>>),
    /// Not applied, or nobody knows whether it was: see the class.
    Failed(StoreError),
}

/// What became of a batch of rewrites.
#[derive(Debug)]
pub struct Update {
    /// One answer per rewrite, in their order.
    pub answers: Vec<Answer>,
    /// Write capacity units of the requests that reported them.
    pub units: Units,
    /// Write capacity units, by our own arithmetic, of what the service charges for and did not report: failed
    /// conditions, and writes of which nobody knows whether they were applied. What was consumed is the sum of both.
    pub unreported: f64,
    /// Requests made.
    pub requests: u32,
}

/// What a failed call means for the run. Nothing here was retried before it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreClass {
    /// Not applied because of capacity; the table, index or quota that was short, as far as the service says.
    Throttled {
        /// `TableWriteProvisionedThroughputExceeded arn:...` and the like; empty when the service gave no reason.
        reason: String,
    },
    /// Not applied because of a transaction or a replicated write in flight on the same item; again soon.
    Conflict,
    /// No answer, or a server error: a write may have been applied.
    Unknown,
    /// The credentials are missing or expired; hold.
    Credentials,
    /// This item cannot be written (validation, size, item collection); others can.
    Item,
    /// The caller may not do this.
    Denied,
    /// Anything else that will not become better by itself: table gone, endpoint wrong.
    Fatal,
}

/// A call to the table failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {problem}")]
pub struct StoreError {
    /// The operation of the API.
    pub operation: &'static str,
    /// What it means for the run.
    pub class: StoreClass,
    /// The service's code and message, and the remedy. Never a value.
    pub problem: String,
}

/// A DynamoDB table. Every read is strongly consistent and every write is conditional; implementations do not retry.
#[async_trait]
pub trait Table: Send + Sync {
    /// One page of a parallel scan, strongly consistent.
    ///
    /// # Errors
    /// [`StoreError`] when the page could not be read.
    async fn scan(&self, scan: &Scan) -> Result<Page, StoreError>;

    /// One item, strongly consistent, and the read units consumed.
    ///
    /// # Errors
    /// [`StoreError`] when it could not be read.
    async fn get(&self, key: &Key) -> Result<(Option<Item>, Units), StoreError>;

    /// Sends rewrites of distinct keys (25 at most), each on its own condition, and asks for the current item where one
    /// fails.
    async fn update(&self, rewrites: &[Rewrite], via: Via) -> Update;
}
