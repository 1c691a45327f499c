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

    /// The sum, unless a count would pass what 64 bits hold: a damaged journal may say so.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self {
            scanned: self.scanned.checked_add(other.scanned)?,
            current: self.current.checked_add(other.current)?,
            rewritten: self.rewritten.checked_add(other.rewritten)?,
            superseded: self.superseded.checked_add(other.superseded)?,
            skipped: self.skipped.checked_add(other.skipped)?,
            failed: self.failed.checked_add(other.failed)?,
            conflicts: self.conflicts.checked_add(other.conflicts)?,
        })
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.checked_add(other).expect("nobody reads 2^64 items")
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
