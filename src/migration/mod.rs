//! Decisions and progress, pure: what an item needs, what was done, where to go on.

mod census;
mod exposure;
mod failure;
mod lineage;
mod plan;
mod policy;
mod rewrite;
mod tally;

pub use census::{Attribute, Census, Growth, Refused};
pub use exposure::{Exposed, Exposure};
pub use failure::{Failure, FailureKind};
pub use lineage::{From, Gap, Lineage, LineageChange, LineageRows, Listed, Place, ShardRow, Way};
pub use plan::{Fingerprint, Mismatch};
pub use policy::{Policy, Refusal, Target, Verdict, Verified};
pub use rewrite::{Expected, Rewrite};
pub use tally::Tally;
