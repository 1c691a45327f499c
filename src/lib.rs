//! reseal encrypts, re-encrypts and decrypts DynamoDB tables in place, while they are in use.
//!
//! Items come out in the format of the AWS Database Encryption SDK for DynamoDB: AWS's clients read what reseal writes,
//! and the other way round. It is not server-side encryption, not a KMS, and not a client library for applications: the
//! library serves the `reseal` command, and its interface changes with it.
//!
//! ```text
//!  scan a page ─► classify ─► unwrap ─► open ─► generate ─► seal, open again, compare ─► conditional batch ─► commit
//!     store       migration   keyring  format   keyring     format, migration            store                journal
//!  └──────────────────────────────────── pipeline: one task per page ─────────────────────────────────────────────┘
//! ```
//!
//! From the bottom up, each module on top of those before it: [`item`] and [`crypto`], bytes and values; [`mod@format`],
//! how a protected item looks; [`migration`], what an item needs and what is remembered of it; [`keyring`], [`store`]
//! and [`aws`], the outside world; [`pipeline`], the engine; [`cli`], all that a human sees. The first four are pure: no
//! clock, no file, no network. `docs/ARCHITECTURE.md` has the floor plan, `docs/SEMANTICS.md` what is promised.

pub mod aws;
pub mod cli;
pub mod crypto;
pub mod format;
pub mod item;
pub mod keyring;
#[cfg(feature = "local")]
pub mod local;
pub mod migration;
pub mod pipeline;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
