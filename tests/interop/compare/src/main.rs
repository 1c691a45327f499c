//! CPU time of sealing and opening an item: the official library in this process, reseal in another
//! (`benches/beside_official.rs`), in turns, on the same items, under one raw AES key. Prints a Markdown table. Run by
//! `scripts/bench-official.sh`.

mod other;
mod shape;

use std::error::Error;

use cpu_time::ProcessTime;
use official::dynamodb_json::{self, Item};
use official::encryptor;
use official::job::Job;
use other::Other;
use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;

use shape::{SHAPES, Shape};

/// Any failure, as a sentence.
type Failure = Box<dyn Error + Send + Sync>;

/// Rounds of which the medians are taken; in each, every contestant does every step once.
const ROUNDS: usize = 31;
/// Items of one step of one round.
const ITEMS: usize = 20;
/// The algorithm suites, and how the table calls them.
const SUITES: [(&str, &str); 2] = [
    ("HMAC", "ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_SYMSIG_HMAC_SHA384"),
    ("HMAC + ECDSA P-384", "ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA_P384_SYMSIG_HMAC_SHA384"),
];

fn main() -> Result<(), Failure> {
    let mut command = std::env::args().skip(1);
    let program = command.next().ok_or("usage: compare PROGRAM [ARGUMENT]...: reseal's half of the benchmark")?;
    let arguments: Vec<String> = command.collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    println!("| suite | item | step | official, us | reseal, us | ratio |\n|---|---|---|---:|---:|---:|");
    for (suite_name, suite) in SUITES {
        for shape in &SHAPES {
            let other = Other::start(&program, &arguments)?;
            for (step, [official, reseal]) in ["seal", "open"].iter().zip(medians(&runtime, shape, suite, other)?) {
                let ratio = official / reseal;
                println!("| {suite_name} | {} | {step} | {official:.1} | {reseal:.1} | {ratio:.1} |", shape.name);
            }
        }
    }
    Ok(())
}

/// Of sealing and of opening, the medians of the official library and of reseal.
fn medians(runtime: &Runtime, shape: &Shape, suite: &str, mut other: Other) -> Result<[[f64; 2]; 2], Failure> {
    let job = shape.job(suite);
    let items: Vec<Json> = (0..ITEMS).map(|index| shape.item(index)).collect();
    other.tell(&json!({ "job": job, "items": items }).to_string())?;
    let encryptor = runtime.block_on(encryptor::for_job(&toml::from_str::<Job>(&job)?))?;
    let items: Vec<Item> = items.iter().map(dynamodb_json::item_from).collect::<Result<_, _>>()?;
    let mut times: [[Vec<f64>; 2]; 2] = std::array::from_fn(|_| Default::default());
    for _ in 0..ROUNDS {
        let (sealed, time) = timed(items.clone(), |item| runtime.block_on(encryptor::seal(&encryptor, item)))?;
        times[0][0].push(time);
        times[0][1].push(other.time("seal")?);
        let (opened, time) = timed(sealed, |item| runtime.block_on(encryptor::open(&encryptor, item)))?;
        times[1][0].push(time);
        times[1][1].push(other.time("open")?);
        if opened != items {
            return Err("an item came back changed".into());
        }
    }
    Ok(times.map(|step| step.map(median)))
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
