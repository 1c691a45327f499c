//! The outside world as the engine sees it: a table to read and to change, a journal that remembers.

mod dynamo;
mod facts;
mod journal;
mod lock;
mod shards;
mod sqlite;
mod table;

pub use dynamo::{DynamoShards, DynamoTable, describe, enable_stream};
#[cfg(feature = "local")]
pub(crate) use dynamo::{item_to, key_to};
pub use facts::{
    Capacity, IndexFacts, IndexKind, KeyAttribute, Known, Projection, Replica, Replication, StreamFacts, TableFacts,
    TtlFacts,
};
pub use journal::{Checkpoint, Commit, Cursor, Journal, JournalError, Pass};
pub use lock::{LockError, TableLock, state_home};
pub use shards::{Listing, Record, Records, Shards, ShardsError, Start};
pub use sqlite::{LedgerEntry, OpenError, PassRecord, SqliteJournal};
pub use table::{Answer, Page, Scan, StoreClass, StoreError, Table, Units, Update, Via};
