//! Doubles of the outside world for tests: a table, its stream and a journal in memory, small enough to be read as the definition of
//! what the traits promise, and wrappers that make services fail and processes die at chosen moments.

mod faults;
mod memory_journal;
mod memory_shards;
mod memory_table;
pub mod simulation;
mod tripwire;

pub use faults::{Call, FaultyKeyring, FaultyTable, KeyCall, KeyFault, TableFault};
pub use memory_journal::MemoryJournal;
pub use memory_shards::{MemoryShards, View};
pub use memory_table::{Counts, MemoryTable};
pub use tripwire::{Tripwire, Wired};
