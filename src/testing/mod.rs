//! Doubles of the outside world for tests: a table and a journal in memory, small enough to be read as the definition of
//! what the traits promise.

mod memory_journal;
mod memory_table;

pub use memory_journal::MemoryJournal;
pub use memory_table::{Counts, MemoryTable};
