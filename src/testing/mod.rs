//! Doubles of the outside world for tests: a table, its stream and a journal in memory, small enough to be read as the
//! definition of what the traits promise, and wrappers that make services fail and processes die at chosen moments.

mod faults;
mod memory_journal;
mod memory_shards;
mod memory_table;
pub mod simulation;
mod tripwire;

use std::time::{Duration, SystemTime};

use crate::migration::{Expected, OnMixed, Rewrite};
use crate::pipeline::{Pool, Settings};
use crate::store::Via;

pub use faults::{Call, FaultyKeyring, FaultyTable, KeyCall, KeyFault, TableFault};
pub use memory_journal::MemoryJournal;
pub use memory_shards::{MemoryShards, View};
pub use memory_table::{Counts, MemoryTable};
pub use tripwire::{Tripwire, Wired};

/// Whether the rewrite is the probe of the ground: nothing else asks that an attribute exists (rule P).
pub(crate) fn is_probe(rewrite: &Rewrite) -> bool {
    rewrite.condition.iter().any(|(_, expected)| *expected == Expected::Exists)
}

/// How a run is set of which a test wants to see every step: small pages, no budgets, all work in the calling task.
#[must_use]
pub fn settings() -> Settings {
    Settings {
        segments: 1,
        pages_in_flight: 2,
        pages_in_memory: 4,
        writes_in_flight: 2,
        keys_in_flight: 4,
        read_units: None,
        write_units: None,
        kms_requests: None,
        page_items: Some(5),
        page_units: 1.0,
        write_copies: 1,
        attempts: 3,
        max_items: None,
        max_passes: 5,
        writer: Via::Batch,
        on_mixed: OnMixed::Quarantine,
        pool: Pool::Inline,
        drain: Duration::from_secs(30),
        entropy: rand::fill,
        wall: SystemTime::now,
    }
}
