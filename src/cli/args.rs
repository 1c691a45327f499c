//! The command line, as clap sees it. Nothing outside `cli` sees these types.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

#[cfg(feature = "local")]
use super::local::LocalArgs;

/// Encrypts, re-encrypts and decrypts DynamoDB tables in place, while they are in use.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed; the message names the cause and the remedy
  2  the command line or the job file is wrong
  3  refused before anything was written
  4  completed with failed items
  5  stopped by a signal or a limit; the same command goes on from there
  6  work is left: the last pass found some, or the stream has lost records

AWS credentials, profile, Region and endpoints come from where the AWS CLI takes them.
RESEAL_LOG=debug prints diagnostics on standard error.";

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what a run would do to the table, and what stands against it; writes nothing
    Plan(PlanArgs),
    /// Bring every item of the table to the job's target; without --execute the same as plan
    Run(RunArgs),
    /// Follow the table's stream and bring what applications write to the target, until stopped; without --execute the
    /// same as plan
    Tail(TailArgs),
    /// Open every item of the table and count what is at target; writes nothing
    Verify(VerifyArgs),
    /// Look at, open or seal single items: DynamoDB JSON lines from standard input to standard output
    #[command(subcommand)]
    Item(ItemCommand),
    /// Make and change the branch keys of hierarchical keyrings; without --execute show what would be done
    #[command(subcommand, name = "keystore")]
    KeyStore(KeyStoreCommand),
    /// Serve DynamoDB, DynamoDB Streams and KMS stand-ins on loopback until interrupted
    #[cfg(feature = "local")]
    Local(LocalArgs),
    /// Encrypt a table on embedded stand-ins while applications write to it, and check every item
    #[cfg(feature = "local")]
    Demo(DemoArgs),
}

/// Arguments of `plan`.
#[derive(Debug, ClapArgs)]
pub(super) struct PlanArgs {
    /// The job file
    #[arg(long, value_name = "FILE")]
    pub(super) job: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Arguments of `run`.
#[derive(Debug, ClapArgs)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) work: WorkArgs,
    /// Look only at the items with these keys: DynamoDB JSON lines
    #[arg(long, value_name = "FILE", conflicts_with = "tail")]
    pub(super) keys: Option<PathBuf>,
    /// Passes over the table at most; each but the last is followed by another if it rewrote anything, or, with --tail,
    /// if the stream has lost records meanwhile
    #[arg(long, value_name = "N", default_value = "5")]
    pub(super) max_passes: NonZeroU32,
    /// Follow the table's stream as well, from before the first page until all of it is done: then everything is at
    /// target that was written before the last page was read, after one pass
    #[arg(long)]
    pub(super) tail: bool,
    /// Enable a stream of new and old images if the table has none
    #[arg(long, requires = "tail")]
    pub(super) create_stream: bool,
    /// Go on following the stream when everything is done, until stopped
    #[arg(long, requires = "tail")]
    pub(super) keep_tailing: bool,
}

/// Arguments of `tail`.
#[derive(Debug, ClapArgs)]
pub(super) struct TailArgs {
    #[command(flatten)]
    pub(super) work: WorkArgs,
    /// Where to begin if this job never followed the stream; later it goes on from its checkpoint [default: now]
    #[arg(long, value_enum)]
    pub(super) from: Option<Origin>,
    /// End when everything is done that was written before the command began
    #[arg(long)]
    pub(super) until_drained: bool,
    /// Enable a stream of new and old images if the table has none
    #[arg(long)]
    pub(super) create_stream: bool,
}

/// Where a stream is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Origin {
    /// What is written from now on
    Now,
    /// The oldest record that the stream keeps: up to 24 hours
    TrimHorizon,
}

/// Arguments of the commands that write.
#[derive(Debug, ClapArgs)]
pub(super) struct WorkArgs {
    /// The job file
    #[arg(long, value_name = "FILE")]
    pub(super) job: PathBuf,
    /// Write to the table; without it nothing that can write is even made
    #[arg(long)]
    pub(super) execute: bool,
    /// Rewrite at most this many items, then stop
    #[arg(long, value_name = "N")]
    pub(super) max_items: Option<NonZeroU64>,
    /// Where checkpoints and the failure ledger are kept [default: the user's state directory]
    #[arg(long, value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
    /// How changes are sent
    #[arg(long, value_enum, default_value_t = Writer::Batch)]
    pub(super) writer: Writer,
    /// Needed when the job's target is plaintext
    #[arg(long)]
    pub(super) i_understand_this_removes_encryption: bool,
    /// Print events and the result as JSON lines
    #[arg(long)]
    pub(super) json: bool,
}

/// Arguments of `demo`.
#[cfg(feature = "local")]
#[derive(Debug, ClapArgs)]
pub(super) struct DemoArgs {
    /// Customers in the table
    #[arg(long, value_name = "N", default_value = "10000", value_parser = clap::value_parser!(u64).range(10..=1_000_000))]
    pub(super) items: u64,
    /// What the customers and the applications are made from
    #[arg(long, value_name = "N", default_value = "1")]
    pub(super) seed: u64,
    /// Keep tables and keys in this folder, for `reseal local --data`, with the job and some sealed items
    #[arg(long, value_name = "DIR")]
    pub(super) keep: Option<PathBuf>,
}

/// Arguments of `verify`.
#[derive(Debug, ClapArgs)]
pub(super) struct VerifyArgs {
    /// The job file
    #[arg(long, value_name = "FILE")]
    pub(super) job: PathBuf,
    /// Print events and the result as JSON lines
    #[arg(long)]
    pub(super) json: bool,
}

/// How changes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Writer {
    /// Conditional statements in batches; single updates where a statement does not fit
    Batch,
    /// One conditional UpdateItem for each item
    UpdateItem,
}

/// What to do with single items. A line is {"Item": {...}}; order is kept, and a line that cannot be done becomes
/// {"Error": "..."} in its place (exit code 4).
#[derive(Debug, Clone, Subcommand)]
pub(super) enum ItemCommand {
    /// Say what can be said of each item without any key
    Inspect(ItemArgs),
    /// Decrypt each item with the job's source and target keyrings
    Open(ItemArgs),
    /// Encrypt each item for the job's target
    Seal(ItemArgs),
}

/// Arguments of the `item` commands.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct ItemArgs {
    /// The job file
    #[arg(long, value_name = "FILE")]
    pub(super) job: PathBuf,
}

/// What to do with a key store.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum KeyStoreCommand {
    /// Make the table
    Create(CreateKeyStoreArgs),
    /// Make a branch key with its first version, and a beacon key
    NewBranchKey(NewBranchKeyArgs),
    /// Make a new version of a branch key, under which items are sealed from then on
    Rotate(RotateArgs),
    /// Move branch keys to another KMS key, all rows of each at once; touches no item of any table
    Rewrap(RewrapArgs),
    /// List branch keys, versions and the KMS keys behind them; never a key
    Describe(DescribeArgs),
}

/// Which key store.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct KeyStoreArgs {
    /// The key store's table
    #[arg(long, value_name = "NAME")]
    pub(super) table: String,
    /// The key store's logical name, as its readers have it [default: the table's name]
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Arguments of `keystore create`.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct CreateKeyStoreArgs {
    #[command(flatten)]
    pub(super) store: KeyStoreArgs,
    /// Make it
    #[arg(long)]
    pub(super) execute: bool,
}

/// Arguments of `keystore new-branch-key`.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct NewBranchKeyArgs {
    #[command(flatten)]
    pub(super) store: KeyStoreArgs,
    /// The KMS key that wraps it
    #[arg(long, value_name = "ARN")]
    pub(super) kms_key_arn: String,
    /// Its id, which takes a --context as well, as with AWS's libraries [default: a random UUID]
    #[arg(long, value_name = "ID", requires = "context")]
    pub(super) branch_key_id: Option<String>,
    /// A pair that KMS authenticates with every row of it, and logs; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) context: Vec<String>,
    /// Make it
    #[arg(long)]
    pub(super) execute: bool,
}

/// Arguments of `keystore rotate`.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct RotateArgs {
    #[command(flatten)]
    pub(super) store: KeyStoreArgs,
    /// The KMS key that wraps the branch key
    #[arg(long, value_name = "ARN")]
    pub(super) kms_key_arn: String,
    /// The branch key
    #[arg(long, value_name = "ID")]
    pub(super) branch_key_id: String,
    /// Do it
    #[arg(long)]
    pub(super) execute: bool,
}

/// Arguments of `keystore rewrap`.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct RewrapArgs {
    #[command(flatten)]
    pub(super) store: KeyStoreArgs,
    /// The KMS key that shall wrap the branch keys
    #[arg(long, value_name = "ARN")]
    pub(super) to_kms_key_arn: String,
    /// How the key store's readers are configured. It has to be "discovery": those that are configured with one KMS key
    /// refuse rows under another, and with that every item
    #[arg(long, value_enum)]
    pub(super) key_store_readers: Option<ReadersArg>,
    /// An account whose KMS keys rows may be under now; may be given several times besides the account of the new key.
    /// Rows under a key of anybody else are left alone: who could write the table may have put his own branch key there
    #[arg(long, value_name = "ID")]
    pub(super) account: Vec<String>,
    /// This branch key only [default: all]
    #[arg(long, value_name = "ID")]
    pub(super) branch_key_id: Option<String>,
    /// Do it
    #[arg(long)]
    pub(super) execute: bool,
}

/// How readers of a key store are configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ReadersArg {
    /// They take rows under one KMS key only
    Strict,
    /// They take whichever KMS key a row names
    Discovery,
}

/// Arguments of `keystore describe`.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct DescribeArgs {
    #[command(flatten)]
    pub(super) store: KeyStoreArgs,
    /// This branch key only
    #[arg(long, value_name = "ID")]
    pub(super) branch_key_id: Option<String>,
}
