//! CPU time of sealing and opening an item: reseal beside the official library, in turns, on the same items, under
//! one raw AES key. Prints a Markdown table. Run by `scripts/bench-official.sh`.

mod shape;

use std::error::Error;

use cpu_time::ProcessTime;
use official::dynamodb_json::{self, Item};
use official::encryptor;
use official::job::Job;
use tokio::runtime::Runtime;

use shape::{SHAPES, Shape};

/// Rounds of which the medians are taken; in each, every contestant does every step once.
const ROUNDS: usize = 31;
/// Items of one step of one round.
const ITEMS: usize = 20;
/// The algorithm suites, and how the table calls them.
const SUITES: [(&str, &str); 2] = [
    ("HMAC", "ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_SYMSIG_HMAC_SHA384"),
    ("HMAC + ECDSA P-384", "ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA_P384_SYMSIG_HMAC_SHA384"),
];

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    println!("| suite | item | step | official, us | reseal, us | ratio |\n|---|---|---|---:|---:|---:|");
    for (suite_name, suite) in SUITES {
        for shape in &SHAPES {
            let job: Job = toml::from_str(&shape.job(suite))?;
            let official = official_side(&runtime, &job, shape)?;
            for (step, times) in [("seal", official.seal), ("open", official.open)] {
                println!("| {suite_name} | {} | {step} | {times:.1} | | |", shape.name);
            }
        }
    }
    Ok(())
}

struct Times {
    seal: f64,
    open: f64,
}

fn official_side(runtime: &Runtime, job: &Job, shape: &Shape) -> Result<Times, Box<dyn Error + Send + Sync>> {
    let encryptor = runtime.block_on(encryptor::for_job(job))?;
    let items: Vec<Item> =
        (0..ITEMS).map(|index| dynamodb_json::item_from(&shape.item(index))).collect::<Result<_, _>>()?;
    let mut seal = Vec::new();
    let mut open = Vec::new();
    for _ in 0..ROUNDS {
        let (sealed, time) = timed(items.clone(), |item| runtime.block_on(encryptor::seal(&encryptor, item)))?;
        seal.push(time);
        let (_, time) = timed(sealed, |item| runtime.block_on(encryptor::open(&encryptor, item)))?;
        open.push(time);
    }
    Ok(Times { seal: median(seal), open: median(open) })
}

/// Does one step to each item; the results, and the microseconds of CPU time that one took.
fn timed<I, O, E>(items: Vec<I>, step: impl Fn(I) -> Result<O, E>) -> Result<(Vec<O>, f64), E> {
    let count = items.len() as f64;
    let mut results = Vec::with_capacity(items.len());
    let start = ProcessTime::now();
    for item in items {
        results.push(step(item)?);
    }
    Ok((results, start.elapsed().as_secs_f64() * 1e6 / count))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
