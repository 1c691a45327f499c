//! Runs simulated worlds; `scripts/simulate.sh` builds and starts this.

#![allow(clippy::print_stdout, reason = "what it finds is its result")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use reseal::testing::simulation::{Mistake, Outcome, World, shrink, simulate};
use tokio::time::Instant;

/// Runs the engine in simulated worlds, each from one number, and shows the first that goes wrong, made smaller.
#[derive(Parser)]
struct Args {
    /// The first seed.
    from: u64,
    /// How many seeds.
    #[arg(default_value_t = 1)]
    count: u64,
    /// Shows everything that happens in a world, as it is and not made smaller.
    #[arg(long)]
    trace: bool,
    /// Plants each known mistake, and counts the seeds until it is caught.
    #[arg(long)]
    mistakes: bool,
    /// Plants this mistake.
    #[arg(long, value_parser = mistake)]
    mistake: Option<Mistake>,
}

fn mistake(name: &str) -> Result<Mistake, String> {
    let named = Mistake::ALL.into_iter().find(|mistake| format!("{mistake:?}") == name);
    named.ok_or_else(|| format!("there are {:?}", Mistake::ALL))
}

fn main() -> ExitCode {
    let args = Args::parse();
    let planted = args.mistake;
    if args.mistakes {
        return catch_all(args.from, args.count);
    }
    let begun = Instant::now();
    let (sum, failed) = run(args.from, args.count, planted);
    if let Some(seed) = failed {
        tell(seed, planted, args.trace);
        return ExitCode::FAILURE;
    }
    if args.trace && args.count == 1 {
        for line in simulate(&World::from_seed(args.from), planted, true).trace {
            println!("{line}");
        }
    }
    let Sum { calls, written, acts, records, ended, faults, time } = sum;
    println!("{} seeds from {} in {:.0} s: no violation", args.count, args.from, begun.elapsed().as_secs_f64());
    println!("{calls} calls, {written} writes, {acts} acts of applications, {ended} processes killed or stopped");
    println!("{records} records of streams read and done");
    println!(
        "{:.0} hours of the worlds' own time; {} faults:",
        time.as_secs_f64() / 3600.0,
        faults.values().sum::<u64>()
    );
    for (name, count) in faults {
        println!("  {count:>9}  {name}");
    }
    ExitCode::SUCCESS
}

#[derive(Default)]
struct Sum {
    calls: u64,
    written: u64,
    acts: u64,
    records: u64,
    ended: u64,
    faults: BTreeMap<&'static str, u64>,
    time: Duration,
}

impl Sum {
    fn add(&mut self, outcome: Outcome) {
        self.calls += outcome.calls;
        self.written += outcome.written;
        self.acts += outcome.acts;
        self.records += outcome.records;
        self.ended += outcome.ended;
        self.time += outcome.time;
        for (name, count) in outcome.faults {
            *self.faults.entry(name).or_default() += count;
        }
    }
}

/// Runs seeds on all processors; gives back the lowest that failed.
fn run(from: u64, count: u64, planted: Option<Mistake>) -> (Sum, Option<u64>) {
    let (sum, next, failed) = (Mutex::new(Sum::default()), AtomicU64::new(from), AtomicU64::new(u64::MAX));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count || seed > failed.load(Ordering::Relaxed) {
                        break;
                    }
                    let outcome = simulate(&World::from_seed(seed), planted, false);
                    if outcome.violation.is_some() {
                        failed.fetch_min(seed, Ordering::Relaxed);
                    }
                    sum.lock().expect("no thread panics").add(outcome);
                }
            });
        }
    });
    let failed = failed.into_inner();
    (sum.into_inner().expect("no thread panics"), (failed < u64::MAX).then_some(failed))
}

/// Shows what went wrong, in the smallest world found in which it does.
fn tell(seed: u64, planted: Option<Mistake>, whole: bool) {
    let world = World::from_seed(seed);
    let world = if whole { world } else { shrink(&world, planted) };
    let outcome = simulate(&world, planted, true);
    println!("{world:#?}");
    for line in &outcome.trace {
        println!("{line}");
    }
    if let Some(violation) = outcome.violation {
        println!("seed {seed} violates invariant {}: {}", violation.invariant, violation.what);
    }
    println!("again: scripts/simulate.sh {seed} 1");
}

/// Plants each mistake and counts the seeds until it is caught.
fn catch_all(from: u64, count: u64) -> ExitCode {
    let mut missed = 0;
    for mistake in Mistake::ALL {
        let Some(seed) = run(from, count, Some(mistake)).1 else {
            missed += 1;
            println!("| {mistake:?} | not within {count} | | |");
            continue;
        };
        let violation = simulate(&World::from_seed(seed), Some(mistake), false).violation;
        let (invariant, what) = violation.map_or((0, String::new()), |found| (found.invariant, found.what));
        println!("| {mistake:?} | {} | {invariant} | {what} |", seed - from + 1);
    }
    ExitCode::from(u8::from(missed > 0))
}
