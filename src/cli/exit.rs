//! Exit codes: what a script learns from a run.

use std::process::ExitCode;

/// How a command ended. The numbers are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: everything asked for is done, and was seen to be done.
    Done = 0,
    /// 1: something that the run cannot do without failed; the message names it.
    Fatal = 1,
    /// 2: the command line or the job file is wrong; nothing was begun.
    Usage = 2,
    /// 3: refused before anything was written: the table, a key, or what the job states does not allow the run.
    Refused = 3,
    /// 4: completed, but some items could not be done; they are in the ledger, or are lines with an error.
    FailedItems = 4,
    /// 5: stopped by a signal or a limit; the same command goes on from there.
    Interrupted = 5,
    /// 6: the last pass that was allowed still found work: everything written before it began is at target.
    WorkLeft = 6,
}

impl Exit {
    /// The same, unless it is that everything is done: work is left.
    pub(super) const fn or_work_left(self) -> Self {
        match self {
            Self::Done => Self::WorkLeft,
            other => other,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
