//! Cases for `scripts/interop.sh`: makes them, damages what was sealed, compares what came back. Knows neither
//! library, so that a mistake of one cannot hide here.

mod canonical;
mod case;
mod compare;
mod damage;
mod generate;
mod job;
mod keyrings;
mod number;
mod random;
mod rewrap;
mod text;
mod value;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::{Value as Json, json};

use job::Job;
use keyrings::Entry;
use random::Random;

/// Any failure, as a sentence.
type Failure = Box<dyn std::error::Error>;

#[derive(Parser)]
#[command(about = "Cases for the interoperability test")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints the names of all cases.
    List,
    /// Writes a case's job files and items into a directory.
    Generate {
        /// The case.
        #[arg(long)]
        case: String,
        /// What all its random choices derive from.
        #[arg(long)]
        seed: u64,
        /// How many items a case has at most.
        #[arg(long)]
        count: usize,
        /// The file of keyrings.
        #[arg(long)]
        keyrings: PathBuf,
        /// Where to.
        #[arg(long)]
        out: PathBuf,
    },
    /// Writes the job files that move a case's items to another keyring into a directory.
    Rewrap {
        /// The case's job file.
        #[arg(long)]
        job: PathBuf,
        /// The file of keyrings.
        #[arg(long)]
        keyrings: PathBuf,
        /// The keyring that the items are under.
        #[arg(long)]
        from: String,
        /// The keyring that they go to.
        #[arg(long)]
        to: String,
        /// With the other suite than the case's.
        #[arg(long)]
        other_suite: bool,
        /// Where to.
        #[arg(long)]
        out: PathBuf,
    },
    /// Fails unless the second file has the items of the first with other heads and feet, and nothing else changed.
    Rewrapped {
        /// The items before.
        before: PathBuf,
        /// The items after.
        after: PathBuf,
    },
    /// Fails unless the head of every item names this version of a branch key.
    Under {
        /// The version, a UUID.
        #[arg(long)]
        version: String,
        /// The sealed items.
        sealed: PathBuf,
    },
    /// Fails unless each sealed item has the form that the job asks for.
    Sealed(Pair),
    /// Fails unless each opened item is the original, encrypted attributes in canonical form.
    Opened(Pair),
    /// Prints sealed items, each changed in a way that no reader may accept.
    Damage {
        /// The job file that sealed them.
        #[arg(long)]
        job: PathBuf,
        /// What all its random choices derive from.
        #[arg(long)]
        seed: u64,
        /// The sealed items.
        sealed: PathBuf,
    },
    /// Fails unless the file has so many lines and every one is an error.
    Refused {
        /// How many lines.
        #[arg(long)]
        count: usize,
        /// What a program answered.
        answers: PathBuf,
    },
}

#[derive(clap::Args)]
struct Pair {
    /// The job file.
    #[arg(long)]
    job: PathBuf,
    /// The original items.
    original: PathBuf,
    /// What a program made of them.
    result: PathBuf,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("cases: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List => {
            case::all().for_each(|case| println!("{case}"));
            Ok(())
        }
        Command::Generate { case, seed, count, keyrings, out } => {
            let case = case::all().find(|c| c.to_string() == case).ok_or("no such case: see `cases list`")?;
            generate::write(case, seed, count, &Entry::read(&keyrings, &case.keyring.to_string())?, &out)
        }
        Command::Rewrap { job, keyrings, from, to, other_suite, out } => {
            let [from, to] = [from, to].map(|name| Entry::read(&keyrings, &name));
            let ecdsa = Job::read(&job)?.ecdsa != other_suite;
            rewrap::write(&job, &from?, &to?, ecdsa, &out)
        }
        Command::Rewrapped { before, after } => pairs(&before, &after, rewrap::check),
        Command::Under { version, sealed } => under(&version, &lines(&sealed)?),
        Command::Sealed(pair) => each(&pair, compare::sealed),
        Command::Opened(pair) => each(&pair, compare::opened),
        Command::Damage { job, seed, sealed } => damaged(&Job::read(&job)?, seed, &lines(&sealed)?),
        Command::Refused { count, answers } => refused(count, &lines(&answers)?),
    }
}

type Attributes = serde_json::Map<String, Json>;

fn each(pair: &Pair, check: fn(&Job, &Attributes, &Attributes) -> Result<(), Failure>) -> Result<(), Failure> {
    let job = Job::read(&pair.job)?;
    pairs(&pair.original, &pair.result, |original, result| check(&job, original, result))
}

fn pairs(
    original: &Path,
    result: &Path,
    check: impl Fn(&Attributes, &Attributes) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (originals, results) = (lines(original)?, lines(result)?);
    if originals.len() != results.len() {
        return Err(format!("{} lines for {} items", results.len(), originals.len()).into());
    }
    for (index, (original, answer)) in originals.iter().zip(&results).enumerate() {
        let done = compare::item(answer).and_then(|answer| check(&compare::item(original)?, &answer));
        done.map_err(|failure| format!("{}, line {}: {failure}", result.display(), index + 1))?;
    }
    Ok(())
}

fn under(version: &str, sealed: &[String]) -> Result<(), Failure> {
    let version = u128::from_str_radix(&version.replace('-', ""), 16)?.to_be_bytes();
    for (index, line) in sealed.iter().enumerate() {
        let head = compare::binary(&compare::item(line)?["aws_dbe_head"])?;
        if !head.windows(version.len()).any(|bytes| bytes == version) {
            return Err(format!("line {} is not under this version", index + 1).into());
        }
    }
    if sealed.is_empty() { Err("no lines".into()) } else { Ok(()) }
}

fn damaged(job: &Job, seed: u64, sealed: &[String]) -> Result<(), Failure> {
    let mut random = Random::new(seed, "damage");
    for line in sealed {
        let mut item = compare::item(line)?;
        damage::item(job, &mut item, &mut random)?;
        println!("{}", json!({ "Item": item }));
    }
    Ok(())
}

fn refused(count: usize, answers: &[String]) -> Result<(), Failure> {
    if answers.len() != count {
        return Err(format!("{} lines, not {count}", answers.len()).into());
    }
    for (index, line) in answers.iter().enumerate() {
        if serde_json::from_str::<Json>(line)?.get("Error").is_none() {
            return Err(format!("line {} was not refused", index + 1).into());
        }
    }
    Ok(())
}

/// The lines of a file; they end at line feeds only, as values may hold other separators.
fn lines(file: &Path) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(text.split_terminator('\n').map(str::to_owned).collect())
}
