//! reseal's half of `scripts/bench-official.sh`: seals and opens the items that it is given, whenever it is told to,
//! and says how much CPU time that took. `tests/interop/compare` is the other half and tells it what to do; they are
//! two programs because the official library's build must not depend on this package's dependencies.
//!
//! On standard input a line for the case, `{"job": "<the text of a job file>", "items": [<DynamoDB JSON>, ...]}`, then a
//! line for each step, `seal` or `open`. On standard output a line for each step: microseconds of CPU time per item.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what it measures is its result")]

use std::error::Error;
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::time::Duration;

use futures::FutureExt as _;
use reseal::cli::job::{Job, KeyringSettings, Target};
use reseal::item::{Item, json};
use reseal::keyring::RawAes;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value as Json;

#[path = "../tests/sealing/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest of it")]
mod sealing;

fn main() -> Result<(), Box<dyn Error>> {
    let mut lines = std::io::stdin().lock().lines();
    let Some(case) = lines.next().transpose()? else {
        eprintln!("run scripts/bench-official.sh");
        return Ok(());
    };
    let case: Json = serde_json::from_str(&case)?;
    let job = Job::parse(case["job"].as_str().ok_or("no job")?, Path::new("job.toml"))?;
    let Target::Dbesdk { suite, keyring: KeyringSettings::RawAes { namespace, name, key }, .. } = &job.target else {
        return Err("not a job with a raw AES key".into());
    };
    let keyring = RawAes::new(namespace, name, &key.aes().now_or_never().ok_or("a key at hand")??)?;
    let items: Vec<Item> =
        case["items"].as_array().ok_or("no items")?.iter().map(json::from_json).collect::<Result<_, _>>()?;
    let mut sealed = Vec::new();
    for step in lines {
        let time = match step?.as_str() {
            "seal" => {
                let (results, time) = timed(items.clone(), |item| sealing::seal(&keyring, &job.schema, *suite, &item))?;
                sealed = results;
                time
            }
            "open" => {
                let (opened, time) = timed(sealed.clone(), |item| sealing::open(&keyring, &job.schema, &item))?;
                assert!(opened.iter().zip(&items).all(|(opened, item)| opened.same(item)), "an item came back changed");
                time
            }
            other => return Err(format!("no step {other:?}").into()),
        };
        println!("{time}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Does one step to each item; the results, and the microseconds of CPU time that one took.
fn timed(items: Vec<Item>, step: impl Fn(Item) -> sealing::Outcome<Item>) -> sealing::Outcome<(Vec<Item>, f64)> {
    let count = items.len() as f64;
    let mut results = Vec::with_capacity(items.len());
    let start = cpu_time();
    for item in items {
        results.push(step(item)?);
    }
    Ok((results, cpu_time().saturating_sub(start).as_secs_f64() * 1e6 / count))
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
