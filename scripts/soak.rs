//! Follows a table's stream for minutes while applications write, and shows that the tail keeps up and loses nothing.
//!
//! The stand-ins (`reseal local --data`) and the tail (`reseal tail --execute`) are processes of their own, made from the
//! binary that is given. The table is empty in the beginning: whatever is in it was put by applications while the tail
//! was at work. Its memory, its CPU time and its lag are sampled; then the writers stop, and when everything is encrypted
//! the tail is told to stop. `reseal verify` has to hold, every item is compared with what the applications left, and the
//! stream says how often who wrote. `scripts/soak.sh` builds all that is needed.
#![allow(clippy::print_stdout, reason = "what it finds is its result")]

mod processes;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use clap::Parser;
use reseal::format::dbesdk;
use reseal::local::world::{Writers, Written};
use reseal::store::{Scan, Table as _};
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use processes::{Bench, Changes, Failure, KeyringType, Settings, StandIns};

const WRITERS: u32 = 8;
/// The lag, and the time in plaintext by the records' dates, stay below so many seconds.
const LAG_MAX: u64 = 5;
/// How much more memory may be resident in the last tenth of the time than in the second: a tenth.
const GROWTH_MAX: f64 = 1.1;
/// How many of the writes asked for the applications must have come to.
const RATE_MIN: f64 = 0.95;
/// How long the tail may take to start, and to encrypt what is left when the writers have stopped.
const PATIENCE: Duration = Duration::from_mins(1);
/// Parts of a second of CPU time in `/proc` (`getconf CLK_TCK`; Linux has it so on all common processors).
const TICKS: f64 = 100.0;

const BUDGET: &str = "
[budget]
read_units_per_second = 1000
write_units_per_second = 1000
kms_requests_per_second = 1000
";

#[derive(Debug, Parser)]
#[command(about = "Follows a stream for minutes and shows that nothing is lost, and that nothing grows")]
struct Args {
    /// The reseal binary
    #[arg(long, value_name = "FILE")]
    reseal: PathBuf,
    /// Where the stand-ins, the job and the tail keep their files
    #[arg(long, value_name = "DIR")]
    work: PathBuf,
    /// How long the applications write
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(20..))]
    seconds: u64,
    /// What they write in all
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    writes_per_second: u32,
    /// Customers that they write to
    #[arg(long, default_value_t = 2000)]
    customers: u64,
    /// What customers and writers are made from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match soak(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("FAILED: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn soak(args: &Args) -> Result<(), Failure> {
    let Args { reseal, work, seconds, writes_per_second, customers, seed } = args;
    fs::create_dir_all(work)?;
    let stand_ins = StandIns::start(reseal, work)?;
    let settings = Settings { reseal, work, seed: *seed, keyring: KeyringType::AwsKms, budget: BUDGET };
    let bench = Bench::prepare(settings, &stand_ins, []).await?;
    bench.enable_stream().await?;
    let mut tail = Tail::start(&bench)?;
    println!("seed {seed}: {WRITERS} writers, {writes_per_second} writes per second in all, for {seconds} s");
    let pace = Duration::from_secs(1) * WRITERS / *writes_per_second;
    let writers = Writers::start(&bench.client, &bench.oracle, *seed, *customers, WRITERS.into(), pace);
    tail.watch(Duration::from_secs(*seconds)).await?;
    let written = writers.stop().await?;
    let sealed_after = until_sealed(&bench).await?;
    let result = tail.stop()?;
    bench.command(&["verify"])?.demand(0)?;
    bench.compare().await?;
    let found = Found {
        changes: bench.changes().await?,
        written,
        sealed_after,
        samples: std::mem::take(&mut tail.samples),
        result,
    };
    found.tell(*seconds)?;
    found.judge(f64::from(*writes_per_second) * *seconds as f64)
}

/// `reseal tail`, killed when dropped.
struct Tail {
    process: Child,
    events: Receiver<String>,
    samples: Vec<Sample>,
}

/// How the tail was at a moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Resident memory.
    kilobytes: u64,
    /// CPU time until then.
    cpu_seconds: f64,
    /// The age of the oldest record that is not done, in seconds, if the tail has told it since the sample before.
    behind: Option<u64>,
    /// The machine's load average over a minute.
    load: f64,
}

impl Tail {
    /// Starts it, and waits until it follows the stream.
    fn start(bench: &Bench) -> Result<Self, Failure> {
        let mut process = bench.reseal(&["tail", "--execute"]).stdout(Stdio::piped()).spawn()?;
        let events = processes::lines(&mut process)?;
        let tail = Self { process, events, samples: Vec::new() };
        loop {
            match tail.events.recv_timeout(PATIENCE) {
                Ok(line) if serde_json::from_str::<Value>(&line)?["event"] == "following" => return Ok(tail),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Err("the tail does not start".into()),
                Err(RecvTimeoutError::Disconnected) => return Err("the tail ended before it began".into()),
            }
        }
    }

    /// Takes a sample each second.
    async fn watch(&mut self, time: Duration) -> Result<(), Failure> {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let deadline = Instant::now() + time;
        while ticks.tick().await < deadline {
            let sample = self.sample()?;
            self.samples.push(sample);
        }
        Ok(())
    }

    fn sample(&self) -> Result<Sample, Failure> {
        let mut behind = None;
        loop {
            match self.events.try_recv() {
                Ok(line) => behind = behind.max(serde_json::from_str::<Value>(&line)?["behind"].as_u64()),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err("the tail ended by itself".into()),
            }
        }
        let of_process = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", self.process.id()));
        let status = of_process("status")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let stat = of_process("stat")?;
        // The name of the program, in parentheses, may hold anything. After it come the 3rd field and those that follow.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
        let cpu = ticks(14).zip(ticks(15)).map(|(user, system)| (user + system) as f64 / TICKS);
        let load = fs::read_to_string("/proc/loadavg")?;
        Ok(Sample {
            kilobytes: resident.ok_or("no VmRSS in /proc")?.parse()?,
            cpu_seconds: cpu.ok_or("no CPU time in /proc")?,
            behind,
            load: load.split(' ').next().unwrap_or_default().parse()?,
        })
    }

    /// Has it end by SIGTERM, and gives back what it said in the end.
    fn stop(&mut self) -> Result<Value, Failure> {
        self.samples.push(self.sample()?);
        let told = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status()?;
        if !told.success() {
            return Err("the tail cannot be told to stop".into());
        }
        let mut last = String::new();
        loop {
            match self.events.recv_timeout(PATIENCE) {
                Ok(line) => last = line,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return Err("the tail does not stop".into()),
            }
        }
        let code = self.process.wait()?.code();
        println!("`reseal tail` ended with {code:?}: {last}");
        if code == Some(0) { Ok(serde_json::from_str(&last)?) } else { Err("the tail failed".into()) }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        // It has usually ended by itself; then there is nothing to stop.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Waits until no item is in plaintext; gives back for how long.
async fn until_sealed(bench: &Bench) -> Result<Duration, Failure> {
    let begun = Instant::now();
    loop {
        let (mut plaintext, mut after) = (0, None);
        loop {
            let page = bench.table.scan(&Scan { segment: 0, total_segments: 1, after, limit: None }).await?;
            plaintext += page.items.iter().filter(|item| !item.contains(dbesdk::HEAD)).count();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        match begun.elapsed() {
            elapsed if plaintext == 0 => return Ok(elapsed),
            elapsed if elapsed > PATIENCE => return Err(format!("{plaintext} items are still in plaintext").into()),
            _ => sleep(Duration::from_millis(200)).await,
        }
    }
}

/// All that was found.
struct Found {
    /// What the stream says.
    changes: Changes,
    /// What the writers say.
    written: Written,
    /// From the last write to the last sealing.
    sealed_after: Duration,
    samples: Vec<Sample>,
    /// What the tail said in the end.
    result: Value,
}

impl Found {
    /// Resident memory in kilobytes: the medians of the second and of the last tenth of the time.
    fn memory(&self) -> (u64, u64) {
        let tenth = (self.samples.len() / 10).max(1);
        let median = |samples: &[Sample]| {
            let mut kilobytes: Vec<u64> = samples.iter().map(|sample| sample.kilobytes).collect();
            kilobytes.sort_unstable();
            kilobytes[kilobytes.len() / 2]
        };
        (median(&self.samples[tenth..2 * tenth]), median(&self.samples[self.samples.len() - tenth..]))
    }

    /// What the tail said of its lag, each time that it did, in order of size.
    fn lags(&self) -> Vec<u64> {
        let mut lags: Vec<u64> = self.samples.iter().filter_map(|sample| sample.behind).collect();
        lags.sort_unstable();
        lags
    }

    /// A table, for the documentation.
    fn tell(&self, seconds: u64) -> Result<(), Failure> {
        let Self { changes, sealed_after, samples, result, .. } = self;
        let (first, last) = (samples.first().ok_or("no sample")?, samples.last().ok_or("no sample")?);
        let (cpu, ours) = (last.cpu_seconds - first.cpu_seconds, changes.ours + changes.ours_again);
        let (before, after) = self.memory();
        let most = samples.iter().map(|sample| sample.kilobytes).max().unwrap_or_default();
        let lags = self.lags();
        let load = samples.iter().map(|sample| sample.load).sum::<f64>() / samples.len() as f64;
        let megabytes = |kilobytes: u64| kilobytes as f64 / 1024.0;
        let lain = changes.lain_max().unwrap_or_default();
        let stream = &result["stream"];
        let exposed = &stream["exposed"];
        println!("\n| {seconds} s, load {load:.1} on {} processors | |", std::thread::available_parallelism()?);
        println!("|---|---:|");
        println!(
            "| writes of applications | {} ({:.1} per second) |",
            changes.theirs(),
            changes.theirs() as f64 / seconds as f64
        );
        println!("| of these: put where there was none | {} |", changes.created);
        println!("| put over a plaintext item | {} |", changes.over_plaintext);
        println!("| put over a sealed item | {} |", changes.over_sealed);
        println!("| changes of an unsigned attribute | {} |", changes.changed);
        println!("| deletions | {} |", changes.deleted);
        println!("| writes of ours, by the stream | {ours} ({} over sealed items) |", changes.ours_again);
        println!("| items rewritten, by the tail | {} |", stream["rewritten"]);
        println!("| conditions that failed | {} |", stream["conflicts"]);
        println!("| KMS requests | {} |", result["kms-requests"]);
        println!(
            "| resident memory: second tenth of the time, last, most | {:.1} MB, {:.1} MB, {:.1} MB |",
            megabytes(before),
            megabytes(after),
            megabytes(most)
        );
        println!("| CPU time | {cpu:.1} s, {:.2} ms for each write of ours |", cpu * 1000.0 / ours.max(1) as f64);
        println!(
            "| lag: half of {} figures up to, most | {} s, {} s |",
            lags.len(),
            lags.get(lags.len() / 2).copied().unwrap_or_default(),
            lags.last().copied().unwrap_or_default()
        );
        println!(
            "| in plaintext, of {} items: half up to, 99 of 100 up to, most | {} s, {} s, {} s (each ± 1 s) |",
            exposed["items"], exposed["p50"], exposed["p99"], exposed["max"]
        );
        println!("| in plaintext, by the dates of the stream's records: most | {lain} s |");
        println!("| from the last write to the last sealing | {:.1} s |\n", sealed_after.as_secs_f64());
        Ok(())
    }

    /// Whether everything is as it should be.
    fn judge(&self, wanted: f64) -> Result<(), Failure> {
        let Self { changes, written, result, .. } = self;
        let (before, after) = self.memory();
        let lags = self.lags();
        let theirs = changes.theirs();
        let told = |count: &str| result["stream"][count].as_u64();
        let demands = [
            (theirs == written.puts + written.changes + written.deletes, "the stream has not the writers' writes"),
            (
                theirs as f64 >= RATE_MIN * wanted,
                "the applications came to fewer writes than they were to: run it again",
            ),
            (changes.ours <= theirs, "more writes of ours than of theirs"),
            (changes.ours_again == 0, "writes of ours over sealed items"),
            (changes.left_in_plaintext() == 0, "items in plaintext"),
            (told("rewritten") == Some(changes.ours), "the tail says another number of writes than the stream"),
            (told("failed") == Some(0), "failed items"),
            (result["stream"]["exposed"]["max"].is_u64(), "no figures of exposure"),
            (after as f64 <= before as f64 * GROWTH_MAX, "the tail's memory grows"),
            // It tells its lag every ten seconds.
            (lags.len() >= self.samples.len() / 15, "the tail says too rarely how it is"),
            (lags.last().is_some_and(|most| *most < LAG_MAX), "the tail lags behind"),
            (changes.lain_max().is_some_and(|most| most < LAG_MAX as i64), "items lay in plaintext for too long"),
        ];
        let broken: Vec<&str> = demands.iter().filter(|(holds, _)| !holds).map(|(_, problem)| *problem).collect();
        if broken.is_empty() { Ok(()) } else { Err(broken.join("; ").into()) }
    }
}
