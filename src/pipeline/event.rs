//! What the engine tells: the terminal, `--json`, reports and tests are folds over the same events.

use serde::Serialize;

use crate::migration::{Exposed, Tally};

/// Something happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Event {
    /// A pass over the table begins, or goes on where it was interrupted.
    PassBegan {
        /// From 1.
        pass: u32,
        /// How many segments it is divided into.
        segments: u32,
        /// Whether it goes on from checkpoints.
        resumed: bool,
    },
    /// The ground was proved: the service honours conditions on this way of writing (rule P).
    GroundProved {
        /// `batch` or `update-item`.
        writer: &'static str,
    },
    /// The batch writer is not available; single updates from here on.
    FellBack {
        /// Why.
        reason: String,
    },
    /// A page is done and durable.
    PageDone {
        /// The segment; `None` for `--keys` and for the stream.
        segment: Option<u32>,
        /// The stream's shard, if it is a batch of records.
        shard: Option<String>,
        /// What became of its items.
        tally: Tally,
        /// Read capacity units that the run consumed so far.
        read_units: f64,
        /// Write capacity units that the run consumed so far.
        write_units: f64,
        /// KMS requests that the run made so far.
        kms_requests: u64,
    },
    /// An item could not be done.
    Failed {
        /// The item.
        key: String,
        /// The kind of reason, as in the ledger.
        kind: &'static str,
        /// The reason and the remedy.
        detail: String,
    },
    /// The run waits for something that only the operator can mend.
    Holding {
        /// What, and the remedy.
        reason: String,
    },
    /// The service asks for fewer requests.
    Throttled {
        /// The service's reason.
        reason: String,
    },
    /// The stream is followed, and from where is durable.
    Following {
        /// Its ARN.
        stream: String,
        /// The second of the start since 1970, as the service told it; absent where it is the oldest record kept.
        start: Option<u64>,
        /// Whether it goes on from checkpoints.
        resumed: bool,
    },
    /// How the tail stands.
    Health {
        /// Shards that are being read.
        shards: usize,
        /// The age of the oldest record that is not done, in seconds; absent while that is unknown.
        behind: Option<u64>,
        /// Seconds until the stream no longer keeps that record.
        left: Option<u64>,
    },
    /// An hour is over in which items were sealed that applications had left in plaintext.
    Exposed {
        /// The first second of the hour since 1970, in the service's time.
        hour: u64,
        /// How long they lay.
        #[serde(flatten)]
        exposed: Exposed,
    },
    /// Applications write more than the budget lets the tail do.
    FallingBehind {
        /// The budget's field.
        field: &'static str,
        /// About what it would have to be to keep up, per second.
        needed: f64,
        /// What it is.
        budget: u32,
    },
    /// Records of the stream were lost unread: the table must be scanned again (rule G).
    Gap {
        /// The shard.
        shard: String,
        /// Seconds since 1970 of the service's time: all before was read, if that is known.
        from: Option<u64>,
        /// The last second of which something may be lost, if that is known.
        to: Option<u64>,
    },
    /// The scan is done and the stream is drained; it is followed on.
    Complete,
    /// A pass is complete.
    PassEnded {
        /// From 1.
        pass: u32,
        /// The sum over the pass.
        tally: Tally,
    },
}

/// Hears what happens in a run. Called from the engine's tasks: quick, and never blocking for long.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn on(&self, event: &Event);
}
