//! Starts the server and the workers, each in a process of its own, in turns, and prints what they cost.
//!
//! Every worker is a fresh process that reads its own CPU clock around its work; the server's time is nobody's.

use std::env;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::num::NonZeroU32;
use std::process::{Child, Command, ExitCode, Stdio};

use super::items::{ENCRYPTED, PAGE};
use super::workers::{self, Cost, Found, Limits, SEGMENTS, Writes};
use super::{sealing, server};

type Outcome<T> = sealing::Outcome<T>;

/// Pages of a segment in the rounds.
const PAGES: u64 = 10;
/// Pages that Python works through in a round: it is slow, and its cost per item is the same.
const PYTHON_PAGES: u64 = 2;

/// Runs what the command line asks for. `allocated` tells the most bytes allocated at once, if the allocator counts.
pub(crate) fn main(allocated: fn() -> Option<usize>) -> ExitCode {
    // Cargo adds this.
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["compare", rounds, python] => compare(rounds, python),
        ["memory"] => memory(),
        ["latency"] => latency(),
        ["budgets"] => budgets(),
        ["records", rounds] => records(rounds),
        ["serve"] => server::serve(),
        [] | [_] => {
            eprintln!("run scripts/bench.sh");
            Ok(())
        }
        ref worker => work(worker, allocated),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The work of a worker's process; its cost is printed.
fn work(words: &[&str], allocated: fn() -> Option<usize>) -> Outcome<()> {
    // As in the command.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let bare = |endpoint, table, writes| runtime.block_on(workers::measured(workers::bare(endpoint, table, writes)));
    let cost = match *words {
        ["pipeline", endpoint, table, write_units, kms_requests, writes_in_flight] => {
            let limits = Limits {
                write_units: NonZeroU32::new(write_units.parse()?),
                kms_requests: NonZeroU32::new(kms_requests.parse()?),
                writes_in_flight: Some(writes_in_flight.parse()?).filter(|writes| *writes > 0),
            };
            runtime.block_on(workers::measured(workers::pipeline(endpoint, table, limits)))
        }
        ["conditional", endpoint, table] => bare(endpoint, table, Writes::Conditional),
        ["unconditional", endpoint, table] => bare(endpoint, table, Writes::Unconditional),
        ["put", endpoint, table] => bare(endpoint, table, Writes::Put),
        ["adapter", endpoint, table, conditional] => {
            let conditional = conditional == "conditional";
            runtime.block_on(workers::measured(workers::adapter(endpoint, table, conditional)))
        }
        ["records", endpoint, table, found] => {
            let found = match found {
                "target" => Found::AtTarget,
                "plaintext" => Found::Plaintext,
                _ => Found::OldKey,
            };
            runtime.block_on(workers::records(endpoint, table, found))
        }
        ["format", count] => {
            let count = count.parse()?;
            runtime.block_on(workers::measured(async { workers::format(count) }))
        }
        _ => return Err(format!("no such worker: {words:?}").into()),
    };
    let allocated = allocated().map(|bytes| bytes as u64);
    let cost = Cost { allocated, ..cost.map_err(|error| error.to_string())? };
    println!("{}", serde_json::to_string(&cost)?);
    Ok(())
}

/// The server's process, ended when dropped.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start() -> Outcome<Self> {
        let mut process = Command::new(env::current_exe()?).arg("serve").stdout(Stdio::piped()).spawn()?;
        let mut address = String::new();
        BufReader::new(process.stdout.take().ok_or("no standard output")?).read_line(&mut address)?;
        Ok(Self { process, address: address.trim().to_owned() })
    }

    /// A worker that needs this server, on a table of so many pages a segment whose answers come so much later.
    fn worker(&self, name: &str, pages: u64, behaviour: &str, limits: &[&str]) -> Outcome<Command> {
        let mut command = Command::new(env::current_exe()?);
        command.args([name, &self.endpoint(), &format!("bench-{pages}-{behaviour}")]).args(limits);
        Ok(command)
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bytes of all requests that wrote, so far.
    fn written(&self) -> Outcome<u64> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let counts = answer.split("\r\n\r\n").nth(1).ok_or("no answer")?;
        let (_, bytes): (u64, u64) = serde_json::from_str(counts)?;
        Ok(bytes)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to stop.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// What a worker printed when it was done.
fn cost(mut worker: Command) -> Outcome<Cost> {
    let output = worker.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{worker:?} ended with {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What was measured of one worker, round by round.
#[derive(Default)]
struct Rounds {
    /// Microseconds of CPU time per item.
    cpu: Vec<f64>,
    /// Bytes of its writing requests per item.
    bytes: Vec<f64>,
}

impl Rounds {
    fn measure(&mut self, server: &Server, worker: Command) -> Outcome<()> {
        let before = server.written()?;
        let cost = cost(worker)?;
        self.cpu.push(cost.cpu * 1e6 / cost.items as f64);
        self.bytes.push((server.written()? - before) as f64 / cost.items as f64);
        Ok(())
    }

    fn cpu(&self) -> f64 {
        median(self.cpu.clone())
    }

    /// The least and the most CPU time per item.
    fn range(&self) -> (f64, f64) {
        let range = (f64::INFINITY, 0.0);
        self.cpu.iter().fold(range, |(least, most): (f64, f64), cpu| (least.min(*cpu), most.max(*cpu)))
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

const UNLIMITED: [&str; 3] = ["0", "0", "0"];
const AT_ONCE: &str = "0-0-0";

/// CPU time per item, in interleaved rounds.
fn compare(rounds: &str, python: &str) -> Outcome<()> {
    let server = Server::start()?;
    let rust = |name: &str, limits: &[&str]| server.worker(name, PAGES, AT_ONCE, limits);
    let python = |way: &str| {
        let names: Vec<&str> = ENCRYPTED.iter().map(|(name, _)| *name).collect();
        let mut command = Command::new(python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/engine/boto3_loop.py"));
        command.args([&server.endpoint(), &format!("bench-{PYTHON_PAGES}-{AT_ONCE}"), way, &names.join(",")]);
        command
    };
    let names = [
        "pipeline",
        "SDK alone, the same conditional statements",
        "SDK alone, the same statements without conditions",
        "SDK alone, `BatchWriteItem` of whole items",
        "reseal's adapter alone, the same conditional statements",
        "reseal's adapter alone, the same statements without conditions",
        "format alone: prepare, seal, open again",
        "boto3 and AES-GCM, conditional statements in batches",
        "boto3 and AES-GCM, a conditional `UpdateItem` each",
    ];
    let mut all = names.map(|_| Rounds::default());
    for _ in 0..rounds.parse()? {
        let [pipeline, conditional, unconditional, put, ours, ours_unconditional, format, boto3_batch, boto3_single] =
            &mut all;
        pipeline.measure(&server, rust("pipeline", &UNLIMITED)?)?;
        conditional.measure(&server, rust("conditional", &[])?)?;
        unconditional.measure(&server, rust("unconditional", &[])?)?;
        put.measure(&server, rust("put", &[])?)?;
        ours.measure(&server, rust("adapter", &["conditional"])?)?;
        ours_unconditional.measure(&server, rust("adapter", &["unconditional"])?)?;
        let mut alone = Command::new(env::current_exe()?);
        alone.args(["format", &(u64::from(SEGMENTS) * PAGES * PAGE as u64).to_string()]);
        format.measure(&server, alone)?;
        boto3_batch.measure(&server, python("batch"))?;
        boto3_single.measure(&server, python("single"))?;
    }
    println!("| CPU time per item | us, median | least | most | bytes written |\n|---|---:|---:|---:|---:|");
    for (name, rounds) in names.iter().zip(&all) {
        let (least, most) = rounds.range();
        println!("| {name} | {:.1} | {least:.1} | {most:.1} | {:.0} |", rounds.cpu(), median(rounds.bytes.clone()));
    }
    let [pipeline, conditional, unconditional, put, ours, ours_unconditional, format, boto3_batch, boto3_single] =
        all.each_ref().map(Rounds::cpu);
    println!("\n| ratio | measured | wanted |\n|---|---:|---:|");
    println!("| pipeline to SDK + format | {:.2} | at most 1.20 |", pipeline / (conditional + format));
    println!("| boto3, one by one, to pipeline | {:.1} | at least 8 |", boto3_single / pipeline);
    println!("| boto3 in batches to pipeline | {:.1} | at least 8 |", boto3_batch / pipeline);
    let rows = [
        ("reseal's adapter", ours / ours_unconditional),
        ("SDK", conditional / unconditional),
        ("SDK, unconditional by `BatchWriteItem`", conditional / put),
    ];
    for (name, ratio) in rows {
        println!("| conditional to unconditional batches, {name} | {ratio:.2} | at most 1.15 |");
    }
    println!();
    Ok(())
}

/// Records that the tail's page function works on per second of CPU time, in interleaved rounds.
fn records(rounds: &str) -> Outcome<()> {
    let server = Server::start()?;
    let kinds = [("at target", "target"), ("in plaintext", "plaintext"), ("sealed by another key", "old-key")];
    let mut all = kinds.map(|_| Rounds::default());
    for _ in 0..rounds.parse()? {
        for (rounds, (_, found)) in all.iter_mut().zip(kinds) {
            rounds.measure(&server, server.worker("records", PAGES, AT_ONCE, &[found])?)?;
        }
    }
    println!(
        "| records whose item is | records per CPU second | us each, median | least | most |\n|---|---:|---:|---:|---:|"
    );
    for ((name, _), rounds) in kinds.iter().zip(&all) {
        let (cpu, (least, most)) = (rounds.cpu(), rounds.range());
        println!("| {name} | {:.0} | {cpu:.1} | {least:.1} | {most:.1} |", 1e6 / cpu);
    }
    println!();
    Ok(())
}

/// The most memory that a run needs, on a table and on one ten times as large: medians of three runs each.
fn memory() -> Outcome<()> {
    let server = Server::start()?;
    let mut peaks = Vec::new();
    println!("| items | MB allocated, most | MB resident, most |\n|---:|---:|---:|");
    for pages in [PAGES, 10 * PAGES] {
        let (mut allocated, mut resident) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let cost = cost(server.worker("pipeline", pages, AT_ONCE, &UNLIMITED)?)?;
            allocated.push(cost.allocated.ok_or("the allocator does not count")? as f64 / 1e6);
            resident.push(cost.resident as f64 / 1e3);
        }
        let (allocated, items) = (median(allocated), u64::from(SEGMENTS) * pages * PAGE as u64);
        println!("| {items} | {allocated:.1} | {:.1} |", median(resident));
        peaks.push(allocated);
    }
    println!("\nratio of what was allocated: {:.2}, wanted: at most 1.10\n", peaks[1] / peaks[0]);
    Ok(())
}

/// Items per second when every answer takes 10 ms and four writes are in flight; and with a service that throttles.
fn latency() -> Outcome<()> {
    let server = Server::start()?;
    let most = 4.0 * 25.0;
    println!("| every answer 10 ms late | items/s | of 4 x 25 / 10 ms | a write took, ms | of 4 x 25 / that |");
    println!("|---|---:|---:|---:|---:|");
    let rows = [
        ("4 writes in flight in all", "10-0-0", "4"),
        ("4 writes in flight for each page, as in the command", "10-0-0", "0"),
        ("the same, every 50th write throttled, every 20th in part", "10-50-20", "0"),
    ];
    for (name, behaviour, writes) in rows {
        let cost = cost(server.worker("pipeline", PAGES, behaviour, &["0", "0", writes])?)?;
        let (rate, took) = (cost.items as f64 / cost.wall, cost.in_flight);
        let (to_10_ms, to_took) = (rate * 0.010 / most, rate * took / most);
        println!("| {name} | {rate:.0} | {to_10_ms:.2} | {:.1} | {to_took:.2} |", took * 1e3);
    }
    println!();
    Ok(())
}

/// Two runs of a minute, at the same time: one bound by its write units, the other by its key requests.
fn budgets() -> Outcome<()> {
    let server = Server::start()?;
    // 16 000 items of 2 units, and 12 000 items of one request.
    let start = |pages: u64, limits: [&str; 3]| -> Outcome<Child> {
        let mut worker = server.worker("pipeline", pages, AT_ONCE, &limits)?;
        Ok(worker.stdout(Stdio::piped()).spawn()?)
    };
    let runs = [start(4, ["500", "0", "0"])?, start(3, ["0", "200", "0"])?];
    let [write, kms] =
        runs.map(|run| -> Outcome<Cost> { Ok(serde_json::from_slice(&run.wait_with_output()?.stdout)?) });
    let (write, kms) = (write?, kms?);
    println!("| budget | consumed | seconds | per second | to the budget |\n|---|---:|---:|---:|---:|");
    let rows = [
        ("500 write units/s", write.write_units, write.wall, 500.0),
        ("200 key requests/s", kms.kms_requests as f64, kms.wall, 200.0),
    ];
    for (name, consumed, wall, budget) in rows {
        println!("| {name} | {consumed:.0} | {wall:.1} | {:.1} | {:.3} |", consumed / wall, consumed / wall / budget);
    }
    println!();
    Ok(())
}
