//! Cases for `scripts/interop.sh`: makes them, damages what was sealed, compares what came back. Knows neither
//! library, so that a mistake of one cannot hide here.

mod canonical;
mod case;
mod compare;
mod damage;
mod generate;
mod job;
mod number;
mod random;
mod text;
mod value;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::{Value as Json, json};

use job::Job;
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
    /// Writes a case's job files, keys and items into a directory.
    Generate {
        /// The case.
        #[arg(long)]
        case: String,
        /// What all its random choices derive from.
        #[arg(long)]
        seed: u64,
        /// How many items.
        #[arg(long)]
        count: usize,
        /// The KMS key of the case and another one.
        #[arg(long = "key-arn")]
        key_arns: Vec<String>,
        /// Where to.
        #[arg(long)]
        out: PathBuf,
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
        Command::Generate { case, seed, count, key_arns, out } => {
            let case = case::all().find(|c| c.to_string() == case).ok_or("no such case: see `cases list`")?;
            generate::write(case, seed, count, &key_arns, &out)
        }
        Command::Sealed(pair) => each(&pair, compare::sealed),
        Command::Opened(pair) => each(&pair, compare::opened),
        Command::Damage { job, seed, sealed } => damaged(&Job::read(&job)?, seed, &lines(&sealed)?),
        Command::Refused { count, answers } => refused(count, &lines(&answers)?),
    }
}

type Attributes = serde_json::Map<String, Json>;

fn each(pair: &Pair, check: fn(&Job, &Attributes, &Attributes) -> Result<(), Failure>) -> Result<(), Failure> {
    let job = Job::read(&pair.job)?;
    let (originals, results) = (lines(&pair.original)?, lines(&pair.result)?);
    if originals.len() != results.len() {
        return Err(format!("{} lines for {} items", results.len(), originals.len()).into());
    }
    for (index, (original, result)) in originals.iter().zip(&results).enumerate() {
        let done = compare::item(result).and_then(|result| check(&job, &compare::item(original)?, &result));
        done.map_err(|failure| format!("{}, line {}: {failure}", pair.result.display(), index + 1))?;
    }
    Ok(())
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
