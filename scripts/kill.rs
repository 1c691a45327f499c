//! Kills a run again and again while applications write, and shows that nothing is lost.
//!
//! The stand-ins (`reseal local`) and the run (`reseal run --execute`) are processes of their own, made from the binary
//! that is given. The run is ended with SIGKILL at moments drawn from a seed, and started again; between two kills a
//! sample of items is read and has to open. Then the writers stop, the run completes, `reseal verify` has to hold, and
//! every item is compared with what the applications left. With `--tail` the run follows the table's stream as well:
//! it is killed while it scans and follows, and while it only follows; one run has to complete it, and the stream says
//! how often who wrote. `scripts/kill.sh` builds all that is needed.
#![allow(clippy::print_stdout, reason = "what it finds is its result")]

mod processes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use clap::Parser;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use reseal::format::dbesdk;
use reseal::item::json;
use reseal::local::world::{self, Bulk, Writers, Written};
use reseal::migration::Tally;
use reseal::store::Table as _;
use serde_json::Value;
use tokio::time::Instant;

use processes::{Bench, Failure, KeyringType, Settings, StandIns};

const WRITERS: u64 = 8;
/// Each writer writes this often.
const PACE: Duration = Duration::from_millis(10);
/// Items that are read and opened between two kills.
const SAMPLE: usize = 50;
/// Items that are exported for the official client.
const EXPORTED: usize = 200;
/// Pages that a run may finish before it is killed: fewer where the table has fewer than so many items per page.
const PAGES_MAX: u64 = 8;
const ITEMS_PER_PAGE: u64 = 2500;
/// How long after the event that was waited for the kill comes: longer than a page takes to seal, write and commit.
const DELAY_MAX: Duration = Duration::from_millis(400);
/// A run that says nothing for so long hangs.
const SILENCE_MAX: Duration = Duration::from_mins(2);
const RUN: &[&str] = &["run", "--execute"];
/// Runs that may be needed to complete, once the writers have stopped.
const COMPLETING_MAX: usize = 5;

/// Few read units make small pages, and so many commits in a pass.
const BUDGET: &str = "
[budget]
read_units_per_second = 120
write_units_per_second = 4000
kms_requests_per_second = 5000
";

#[derive(Debug, Parser)]
#[command(about = "Kills runs of reseal and shows that nothing is lost")]
struct Args {
    /// The reseal binary
    #[arg(long, value_name = "FILE")]
    reseal: PathBuf,
    /// Where the stand-ins, the job and the run keep their files; sealed.jsonl and expected.jsonl are left there
    #[arg(long, value_name = "DIR")]
    work: PathBuf,
    /// Customers in the table
    #[arg(long, default_value_t = 20_000)]
    items: u64,
    /// How often the run is killed
    #[arg(long, default_value_t = 20)]
    kills: u32,
    /// What customers, writers and kills are made from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What the items are sealed with
    #[arg(long, value_enum, default_value_t = KeyringType::RawAes)]
    keyring: KeyringType,
    /// Follow the table's stream as well
    #[arg(long)]
    tail: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match test(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("FAILED: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn test(args: &Args) -> Result<(), Failure> {
    fs::create_dir_all(&args.work)?;
    let stand_ins = StandIns::start(&args.reseal, &args.work)?;
    let test = Test::prepare(args, &stand_ins).await?;
    let bench = &test.bench;
    let scanned = bench.oracle.len() as u64;
    println!("seed {}: {scanned} items, {WRITERS} writers, {} kills", args.seed, args.kills);
    let writers = Writers::start(&bench.client, &bench.oracle, args.seed, args.items, WRITERS, PACE);
    test.kill(&mut StdRng::seed_from_u64(args.seed)).await?;
    let written = writers.stop().await?;
    println!(
        "the writers have stopped after {} whole items, {} changes of an unsigned attribute, {} deletions",
        written.puts, written.changes, written.deletes
    );
    test.complete()?;
    println!("{}", test.first_pass()?);
    bench.command(&["verify"])?.demand(0)?;
    bench.compare().await?;
    if args.tail {
        test.count(scanned, written).await?;
    }
    test.export(&mut StdRng::seed_from_u64(!args.seed)).await
}

/// When a run is killed: after so many events, and a while.
#[derive(Debug, Clone, Copy)]
struct Moment {
    pages: Option<u64>,
    /// Pages of the scan do not count, only batches that the tail does afterwards.
    after_scan: bool,
    delay: Duration,
}

impl Moment {
    /// One run in eight is killed without waiting for any page: while it starts, or works on its first pages.
    fn draw(rng: &mut StdRng, items: u64, after_scan: bool) -> Self {
        let pages = (after_scan || rng.random_bool(0.875))
            .then(|| rng.random_range(1..=(items / ITEMS_PER_PAGE).clamp(1, PAGES_MAX)));
        Self { pages, after_scan, delay: DELAY_MAX.mul_f64(rng.random()) }
    }
}

enum Ended {
    /// Killed after so long; what it had told until then.
    Killed(Duration, Seen),
    /// It ended by itself, with this code.
    Exited(i32),
}

/// A table whose runs are killed.
struct Test<'a> {
    args: &'a Args,
    bench: Bench,
}

impl<'a> Test<'a> {
    async fn prepare(args: &'a Args, stand_ins: &StandIns) -> Result<Self, Failure> {
        let Args { reseal, work, seed, keyring, .. } = args;
        let settings = Settings { reseal, work, seed: *seed, keyring: *keyring, budget: BUDGET };
        // Every item has to be at target in the end, so the one that cannot be is left out.
        let numbers = (0..args.items).filter(|number| Bulk::of(*number) != Bulk::TooLarge);
        let bench = Bench::prepare(settings, stand_ins, numbers).await?;
        if args.tail {
            // After the customers were put: the scan has to find those by itself.
            bench.enable_stream().await?;
        }
        Ok(Self { args, bench })
    }

    /// Kills as many runs as asked for. With the stream, some have to die while the scan is under way, and some after.
    async fn kill(&self, rng: &mut StdRng) -> Result<(), Failure> {
        let Args { kills, items, tail, .. } = *self.args;
        let (mut killed, mut scanning, mut following) = (0, 0, 0);
        while killed < kills {
            // The last quarter waits for the scan to end, if it has not.
            let after_scan = tail && killed >= kills - kills / 4;
            match self.run_until(Moment::draw(rng, items, after_scan))? {
                Ended::Killed(after, seen) => {
                    killed += 1;
                    let passes = self.passes()?;
                    let scanned = passes.last().is_some_and(|(_, ended, _)| *ended);
                    scanning += u32::from(seen.following && seen.began && !scanned);
                    following += u32::from(seen.following && scanned);
                    let opened = self.open_sample(rng).await?;
                    println!(
                        "kill {killed:>2}: after {:>4} ms and {seen}; {}; {opened} of {SAMPLE} sampled items open, the \
                         others deleted",
                        after.as_millis(),
                        journal(&passes)
                    );
                }
                Ended::Exited(code @ (0 | 5 | 6)) => {
                    println!("the run ended by itself with {code} before it was killed");
                }
                Ended::Exited(code) => return Err(format!("the run ended with {code}").into()),
            }
        }
        if tail {
            println!("{scanning} kills with scan and tail active, {following} with the tail after the scan");
            if scanning == 0 || following == 0 {
                return Err("there have to be kills of both kinds: more kills, or fewer items".into());
            }
        }
        Ok(())
    }

    /// Starts the run and kills it at the moment, unless it ends before.
    fn run_until(&self, moment: Moment) -> Result<Ended, Failure> {
        // Followed on, the stream keeps it alive after the scan.
        let words: &[_] = if self.args.tail { &["run", "--execute", "--tail", "--keep-tailing"] } else { RUN };
        let mut process = self.bench.reseal(words).stdout(Stdio::piped()).spawn()?;
        let events = processes::lines(&mut process)?;
        let begun = Instant::now();
        let mut seen = Seen::default();
        if let Some(pages) = moment.pages {
            while seen.batches_after + if moment.after_scan { 0 } else { seen.pages } < pages {
                match events.recv_timeout(SILENCE_MAX) {
                    Ok(event) => seen.add(&event)?,
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {
                        process.kill()?;
                        return Err("the run hangs".into());
                    }
                }
            }
        }
        let deadline = Instant::now() + moment.delay;
        let ended = loop {
            match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => seen.add(&event)?,
                Err(RecvTimeoutError::Timeout) => break false,
                Err(RecvTimeoutError::Disconnected) => break true,
            }
        };
        if !ended {
            process.kill()?;
        }
        let status = process.wait()?;
        Ok(status.code().map_or_else(|| Ended::Killed(begun.elapsed(), seen), Ended::Exited))
    }

    /// The passes in the journal, read from a copy: opening the file itself would mend what the kill left.
    fn passes(&self) -> Result<Vec<Pass>, Failure> {
        let copy = tempfile::tempdir()?;
        for name in ["journal.sqlite3", "journal.sqlite3-wal"] {
            let file = self.bench.state().join(name);
            if file.exists() {
                fs::copy(&file, copy.path().join(name))?;
            }
        }
        let journal = rusqlite::Connection::open(copy.path().join("journal.sqlite3"))?;
        let made = "SELECT count(*) FROM sqlite_schema WHERE name = 'pass'";
        if journal.query_row(made, [], |row| row.get::<_, u32>(0))? == 0 {
            return Ok(Vec::new());
        }
        let mut passes = journal.prepare("SELECT number, ended IS NOT NULL, tally FROM pass ORDER BY number")?;
        let passes = passes.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?)))?;
        passes
            .map(|pass| {
                let (number, ended, tally) = pass?;
                Ok((number, ended, serde_json::from_str(&tally)?))
            })
            .collect()
    }

    /// What the first pass found already at target was written by a run that was killed before it could commit.
    fn first_pass(&self) -> Result<String, Failure> {
        let passes = self.passes()?;
        let (_, _, first) = passes.first().ok_or("no pass")?;
        let by = if self.args.tail { ", or written by the tail" } else { "" };
        Ok(format!(
            "{} passes; the first found {} items at target that it had no record of: written, and killed before the \
             commit{by}",
            passes.len(),
            first.current
        ))
    }

    /// Reads items and opens them; those that are deleted are not counted.
    async fn open_sample(&self, rng: &mut StdRng) -> Result<usize, Failure> {
        let mut opened = 0;
        for number in (0..self.args.items).sample(rng, SAMPLE) {
            let key = world::key_of(&world::customer(self.args.seed, number, 0))?;
            if let (Some(item), _) = self.bench.table.get(&key).await? {
                world::open(&self.bench.policy, self.bench.keyring.as_ref(), &item).await?;
                opened += 1;
            }
        }
        Ok(opened)
    }

    /// Runs until nothing is left to do; with the stream, one run has to be enough.
    fn complete(&self) -> Result<(), Failure> {
        if self.args.tail {
            return self.bench.command(&["run", "--execute", "--tail"])?.demand(0).map(drop);
        }
        for _ in 0..COMPLETING_MAX {
            let ran = self.bench.command(RUN)?;
            if !matches!(ran.code, 5 | 6) {
                return ran.demand(0).map(drop);
            }
        }
        Err(format!("not complete after {COMPLETING_MAX} runs").into())
    }

    /// Counts everybody's writes in the stream: at most one of ours for each of theirs and each item that was there.
    async fn count(&self, scanned: u64, written: Written) -> Result<(), Failure> {
        let changes = self.bench.changes().await?;
        let theirs = changes.theirs();
        println!(
            "stream: {theirs} writes of applications ({} over sealed items), {} of ours, {} of them over sealed items; \
             {scanned} items were there before; none lay in plaintext longer than {} s",
            changes.over_sealed,
            changes.ours + changes.ours_again,
            changes.ours_again,
            changes.lain_max().unwrap_or_default()
        );
        let right = theirs == written.puts + written.changes + written.deletes
            && changes.ours_again == 0
            && changes.ours <= theirs + scanned
            && changes.left_in_plaintext() == 0;
        if right { Ok(()) } else { Err(format!("these are not the writes that were to be: {changes:?}").into()) }
    }

    /// Leaves sealed items, and what they must open to, for the official client.
    async fn export(&self, rng: &mut StdRng) -> Result<(), Failure> {
        let bench = &self.bench;
        // The largest item always; more than are wanted, because some are deleted.
        let numbers = [1].into_iter().chain((2..self.args.items).sample(rng, 2 * EXPORTED));
        let (mut sealed, mut expected) = (Vec::new(), Vec::new());
        for number in numbers {
            let key = world::key_of(&world::customer(self.args.seed, number, 0))?;
            let (Some(plain), (Some(item), _)) = (bench.oracle.get(&key), bench.table.get(&key).await?) else {
                continue;
            };
            if !item.contains(dbesdk::HEAD) {
                return Err(format!("{key} is not sealed").into());
            }
            sealed.push(serde_json::json!({ "Item": json::to_json(&item) }).to_string());
            expected.push(serde_json::json!({ "Item": json::to_json(&plain) }).to_string());
            if sealed.len() == EXPORTED {
                break;
            }
        }
        write_lines(&self.args.work.join("sealed.jsonl"), &sealed)?;
        write_lines(&self.args.work.join("expected.jsonl"), &expected)?;
        println!("{} items exported for the official client", sealed.len());
        Ok(())
    }
}

/// A pass over the table: its number, whether it has ended, what became of its items.
type Pass = (u32, bool, Tally);

/// The latest pass in words.
fn journal(passes: &[Pass]) -> String {
    passes.last().map_or_else(
        || "nothing in the journal".to_owned(),
        |(pass, ended, tally)| {
            format!(
                "pass {pass}{}: {} scanned, {} rewritten, {} at target, {} superseded, {} failed, {} conflicts",
                if *ended { " (ended)" } else { "" },
                tally.scanned,
                tally.rewritten,
                tally.current,
                tally.superseded,
                tally.failed,
                tally.conflicts
            )
        },
    )
}

/// What a run told until it was killed.
#[derive(Debug, Default)]
struct Seen {
    following: bool,
    began: bool,
    /// The scan is done.
    scanned: bool,
    pages: u64,
    /// Batches of the stream, and those of them that came after the scan.
    batches: u64,
    batches_after: u64,
}

impl Seen {
    fn add(&mut self, event: &str) -> Result<(), Failure> {
        let event: Value = serde_json::from_str(event)?;
        match event["event"].as_str() {
            Some("following") => self.following = true,
            Some("pass-began") => self.began = true,
            Some("pass-ended" | "complete") => self.scanned = true,
            Some("page-done") if event["shard"].is_null() => self.pages += 1,
            Some("page-done") => {
                self.batches += 1;
                self.batches_after += u64::from(self.scanned);
            }
            _ => {}
        }
        Ok(())
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { following: false, began: false, .. } => f.write_str("before its pass"),
            Self { pages: 0, batches: 0, .. } => f.write_str("before its first page was done"),
            Self { following: false, pages, .. } => write!(f, "{pages} pages"),
            Self { pages, batches, .. } => write!(f, "{pages} pages, {batches} batches"),
        }
    }
}

fn write_lines(file: &Path, lines: &[String]) -> std::io::Result<()> {
    fs::write(file, lines.join("\n") + "\n")
}
