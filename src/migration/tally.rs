//! Counts of what became of the items that were read.

use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

/// What became of the items that were read: `scanned` is the sum of the other item counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Items read from the table.
    pub scanned: u64,
    /// At target when they were read.
    pub current: u64,
    /// Written by us.
    pub rewritten: u64,
    /// Brought to the target, or deleted, by somebody else while we worked.
    pub superseded: u64,
    /// Left alone on purpose: beyond `--max-items`.
    pub skipped: u64,
    /// In the failure ledger.
    pub failed: u64,
    /// Conditions that failed and led to another look at the item.
    pub conflicts: u64,
}

impl Tally {
    /// Whether every item that was read is accounted for.
    #[must_use]
    pub const fn balances(&self) -> bool {
        self.scanned == self.current + self.rewritten + self.superseded + self.skipped + self.failed
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            scanned: self.scanned + other.scanned,
            current: self.current + other.current,
            rewritten: self.rewritten + other.rewritten,
            superseded: self.superseded + other.superseded,
            skipped: self.skipped + other.skipped,
            failed: self.failed + other.failed,
            conflicts: self.conflicts + other.conflicts,
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
