//! Decisions and progress, pure: what an item needs, what was done, where to go on.

mod census;
mod exposure;
mod failure;
mod habits;
mod lineage;
mod plan;
mod policy;
mod repair;
mod rewrite;
mod tally;

pub use census::{Attribute, Census, Form, Growth, Need, Refused, SealedForm, Share};
pub use exposure::{Exposed, Exposure};
pub use failure::{Failure, FailureKind, StreamPlace};
pub use habits::{FEW, Habits};
pub use lineage::{From, Gap, Lineage, LineageChange, LineageRows, Listed, Place, RETENTION, ShardRow, Way};
pub use plan::{Fingerprint, Mismatch};
pub use policy::{Depth, Policy, Refusal, Target, Verdict, Verified, Work};
pub use repair::{Before, Change, End, OnMixed, Trail, guarded, same_signature};
pub use rewrite::{Expected, Rewrite};
pub use tally::Tally;
