//! The journal: what survives a crash.

use async_trait::async_trait;

use crate::item::Key;
use crate::migration::{Failure, LineageChange, LineageRows, Tally};

/// The journal could not be read or written: the run stops.
#[derive(Debug, thiserror::Error)]
#[error("journal {path}: {problem}")]
pub struct JournalError {
    /// The file.
    pub path: String,
    /// What happened, and the remedy.
    pub problem: String,
}

/// A lane's position: the key after which the next page begins, or the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// Nothing is done yet.
    Start,
    /// All up to and including this key is done.
    After(Key),
    /// The lane is done.
    End,
}

/// One page's outcome, made durable as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The segment.
    pub segment: u32,
    /// Where the lane stands after the page.
    pub cursor: Cursor,
    /// What became of the page's items.
    pub tally: Tally,
    /// Items that could not be done: in the ledger before the cursor passes them.
    pub failures: Vec<Failure>,
    /// Items seen done: their open ledger entries close.
    pub done: Vec<Key>,
}

/// One step of the tail, made durable as a whole or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// How far the shards were read.
    pub lineage: LineageChange,
    /// Items that could not be done: in the ledger before the shard's position passes their records.
    pub failures: Vec<Failure>,
    /// Items seen done: their open ledger entries close.
    pub done: Vec<Key>,
}

/// How a pass over the table stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// From 1.
    pub number: u32,
    /// One cursor per segment.
    pub cursors: Vec<Cursor>,
    /// The sum over all commits of this pass.
    pub tally: Tally,
    /// Whether every lane is done and [`Journal::end_pass`] was called.
    pub ended: bool,
}

/// Where a run remembers its progress. Every method returns after its effect is durable.
#[async_trait]
pub trait Journal: Send + Sync {
    /// The latest pass, or `None` when there was none.
    ///
    /// # Errors
    /// [`JournalError`] when the file cannot be read.
    async fn pass(&self) -> Result<Option<Pass>, JournalError>;

    /// Begins the next pass over so many segments. One that has not ended is given up.
    ///
    /// # Errors
    /// [`JournalError`] when it is not durable.
    async fn begin_pass(&self, segments: u32) -> Result<Pass, JournalError>;

    /// Records a page's outcome in the present pass.
    ///
    /// # Errors
    /// [`JournalError`] when it is not durable.
    async fn commit(&self, commit: Commit) -> Result<(), JournalError>;

    /// Records failures, and closes the entries of items seen done, outside of any lane.
    ///
    /// # Errors
    /// [`JournalError`] when it is not durable.
    async fn record(&self, failures: &[Failure], done: &[Key]) -> Result<(), JournalError>;

    /// How far the stream was read, or `None` when it never was.
    ///
    /// # Errors
    /// [`JournalError`] when the file cannot be read.
    async fn lineage(&self) -> Result<Option<LineageRows>, JournalError>;

    /// Records a step of the tail, which no pass need have begun for.
    ///
    /// # Errors
    /// [`JournalError`] when it is not durable.
    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<(), JournalError>;

    /// Ends the present pass.
    ///
    /// # Errors
    /// [`JournalError`] when it is not durable.
    async fn end_pass(&self) -> Result<(), JournalError>;

    /// The open entries of the failure ledger, by key.
    ///
    /// # Errors
    /// [`JournalError`] when the file cannot be read.
    async fn open_failures(&self) -> Result<Vec<Failure>, JournalError>;
}
