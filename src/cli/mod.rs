//! The command line.
pub mod job;
