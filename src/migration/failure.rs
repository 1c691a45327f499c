//! Items that could not be done, and why: the entries of the failure ledger.

use serde::{Deserialize, Serialize};

use crate::item::Key;

/// Why an item is in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// An application changed one attribute of a sealed item: nobody can open it.
    Mixed,
    /// The item is sealed, but its bytes do not open: head or foot missing, damaged or forged.
    Broken,
    /// The item's form is not among those that the job accepts.
    UnexpectedForm,
    /// An attribute that the job does not name.
    UnknownAttribute,
    /// An attribute that the encryption context needs is missing, or the item cannot be sealed as configured.
    CannotSeal,
    /// The rewritten item would be larger than DynamoDB stores.
    TooLarge,
    /// No keyring of the job opens it, or the key was refused for this item.
    Key,
    /// The service refused the write of this item.
    Rejected,
    /// Written to so often by others that the bounded retries were not enough.
    Contended,
    /// The service said that the condition failed and returned an item for which it holds.
    ConditionDefect,
}

impl FailureKind {
    /// The name in ledger, reports and events: kebab case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mixed => "mixed",
            Self::Broken => "broken",
            Self::UnexpectedForm => "unexpected-form",
            Self::UnknownAttribute => "unknown-attribute",
            Self::CannotSeal => "cannot-seal",
            Self::TooLarge => "too-large",
            Self::Key => "key",
            Self::Rejected => "rejected",
            Self::Contended => "contended",
            Self::ConditionDefect => "condition-defect",
        }
    }
}

/// One item that could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The item.
    pub key: Key,
    /// The kind of reason.
    pub kind: FailureKind,
    /// The reason and the remedy in words: names, sizes, ARNs; never a value.
    pub detail: String,
    /// The stream's record that told of it, where it is a raw write. An open entry keeps the first.
    pub record: Option<StreamPlace>,
}

/// Where a record stands in the table's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPlace {
    /// The shard.
    pub shard: String,
    /// The record's sequence number.
    pub sequence: String,
}
