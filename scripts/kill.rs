//! Kills a run again and again while applications write, and shows that nothing is lost.
//!
//! The stand-ins (`reseal local`) and the run (`reseal run --execute`) are processes of their own, made from the binary
//! that is given. The run is ended with SIGKILL at moments drawn from a seed, and started again; between two kills a
//! sample of items is read and has to open. Then the writers stop, the run completes, `reseal verify` has to hold, and
//! every item is compared with what the applications left. `scripts/kill.sh` builds all that is needed.
#![allow(clippy::print_stdout, reason = "what it finds is its result")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use clap::{Parser, ValueEnum};
use rand::rngs::StdRng;
use rand::seq::IteratorRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use reseal::aws::AwsConfig;
use reseal::cli::job::{Job, Target};
use reseal::format::dbesdk;
use reseal::item::json;
use reseal::keyring::{KeyArn, Keyring, KmsKeyring, RawAes};
use reseal::local::world::{self, Bulk, Oracle, Writers};
use reseal::migration::{self, Policy, Tally};
use reseal::store::{DynamoTable, Table as _};
use tokio::time::Instant;

/// Any failure, as a sentence.
type Failure = Box<dyn Error + Send + Sync>;

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
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KeyringType {
    RawAes,
    AwsKms,
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
    let stand_ins = StandIns::start(args)?;
    let bench = Bench::prepare(args, &stand_ins).await?;
    println!("seed {}: {} items, {} writers, {} kills", args.seed, bench.oracle.len(), WRITERS, args.kills);
    let writers = Writers::start(&bench.client, &bench.oracle, args.seed, args.items, WRITERS, PACE);
    let mut rng = StdRng::seed_from_u64(args.seed);
    let mut kills = 0;
    while kills < args.kills {
        let moment = Moment::draw(&mut rng, args.items);
        match bench.run_until(moment)? {
            Ended::Killed(seen) => {
                kills += 1;
                let journal = bench.journal()?;
                let opened = bench.open_sample(&mut rng).await?;
                println!(
                    "kill {kills:>2}: {seen}; {journal}; {opened} of {SAMPLE} sampled items open, the others deleted"
                );
            }
            Ended::Exited(code @ (0 | 5 | 6)) => println!("the run ended by itself with {code} before it was killed"),
            Ended::Exited(code) => return Err(format!("the run ended with {code}").into()),
        }
    }
    let written = writers.stop().await?;
    println!(
        "the writers have stopped after {} whole items, {} changes of an unsigned attribute, {} deletions",
        written.puts, written.changes, written.deletes
    );
    bench.complete()?;
    println!("{}", bench.first_pass()?);
    bench.command(&["verify"])?.demand(0)?;
    bench.compare().await?;
    bench.export(&mut rng).await
}

/// `reseal local`, stopped when dropped.
struct StandIns {
    process: Child,
    environment: BTreeMap<String, String>,
}

impl StandIns {
    fn start(args: &Args) -> Result<Self, Failure> {
        let mut command = Command::new(&args.reseal);
        command.arg("local").arg("--data").arg(args.work.join("stand-ins"));
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(process.stdout.take().ok_or("no standard output")?).lines();
        let mut environment = BTreeMap::new();
        for line in lines {
            let line = line?;
            let pair = line.strip_prefix("export ").and_then(|pair| pair.split_once('='));
            let (name, value) = pair.ok_or("not an export line")?;
            environment.insert(name.to_owned(), value.to_owned());
            // The last one that is printed.
            if name == "AWS_SECRET_ACCESS_KEY" {
                return Ok(Self { process, environment });
            }
        }
        Err("the stand-ins did not start".into())
    }

    fn config(&self, service: &str) -> Result<AwsConfig, Failure> {
        Ok(AwsConfig::stand_in(&self.environment[&format!("AWS_ENDPOINT_URL_{service}")], self.region())?)
    }

    fn region(&self) -> &str {
        &self.environment["AWS_REGION"]
    }
}

impl Drop for StandIns {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to stop.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The table, its applications' memory, and how to start the program.
struct Bench<'a> {
    args: &'a Args,
    environment: BTreeMap<String, String>,
    client: Client,
    table: DynamoTable,
    policy: Policy,
    keyring: Arc<dyn Keyring>,
    oracle: Arc<Oracle>,
}

/// When a run is killed: after so many events, and a while.
#[derive(Debug, Clone, Copy)]
struct Moment {
    pages: Option<u64>,
    delay: Duration,
}

impl Moment {
    /// One run in eight is killed without waiting for any page: while it starts, or works on its first pages.
    fn draw(rng: &mut StdRng, items: u64) -> Self {
        let pages = rng.random_bool(0.875).then(|| rng.random_range(1..=(items / ITEMS_PER_PAGE).clamp(1, PAGES_MAX)));
        Self { pages, delay: DELAY_MAX.mul_f64(rng.random()) }
    }
}

enum Ended {
    /// Killed; what it had told until then.
    Killed(String),
    /// It ended by itself, with this code.
    Exited(i32),
}

/// A command that ran to its end.
struct Ran {
    words: String,
    code: i32,
    output: String,
}

impl Ran {
    fn demand(self, code: i32) -> Result<Self, Failure> {
        let Self { words, code: found, output } = &self;
        if *found == code { Ok(self) } else { Err(format!("`reseal {words}` ended with {found}: {output}").into()) }
    }
}

impl<'a> Bench<'a> {
    async fn prepare(args: &'a Args, stand_ins: &StandIns) -> Result<Self, Failure> {
        let key: [u8; 32] = StdRng::seed_from_u64(args.seed).random();
        fs::write(args.work.join("k1.key"), key)?;
        let (keyring, text): (Arc<dyn Keyring>, _) = match args.keyring {
            KeyringType::RawAes => {
                let text = r#"{ type = "raw-aes", namespace = "acme", name = "k1", key_file = "k1.key" }"#;
                (Arc::new(RawAes::new("acme", "k1", &key)?), text.to_owned())
            }
            KeyringType::AwsKms => {
                let arn = create_key(stand_ins).await?;
                let keyring = KmsKeyring::new(&stand_ins.config("KMS")?, KeyArn::parse(&arn)?)?;
                (Arc::new(keyring), format!(r#"{{ type = "aws-kms", key_arn = "{arn}" }}"#))
            }
        };
        let text = format!("{}\n[target]\nformat = \"dbesdk\"\nkeyring = {text}\n{BUDGET}", world::job_head());
        let file = args.work.join("job.toml");
        fs::write(&file, &text)?;
        let job = Job::parse(&text, &file)?;
        let Target::Dbesdk { suite, keyring: settings } = &job.target else { return Err("no target".into()) };
        let target = migration::Target::Dbesdk { suite: *suite, recipients: vec![settings.recipient()] };
        let policy = Policy { schema: job.schema, accept_plaintext: true, accept_dbesdk: true, target };
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(stand_ins.region().to_owned()))
            .credentials_provider(Credentials::new("local", "local", None, None, "stand-in"))
            .retry_config(RetryConfig::disabled())
            .endpoint_url(&stand_ins.environment["AWS_ENDPOINT_URL_DYNAMODB"]);
        let bench = Self {
            args,
            environment: stand_ins.environment.clone(),
            client: Client::from_conf(config.build()),
            table: DynamoTable::read_only(&stand_ins.config("DYNAMODB")?, world::TABLE, world::key_names()),
            policy,
            keyring,
            oracle: Arc::default(),
        };
        // Every item has to be at target in the end, so the one that cannot be is left out.
        let numbers = (0..args.items).filter(|number| Bulk::of(*number) != Bulk::TooLarge);
        world::create(&bench.client, args.seed, numbers, &bench.oracle).await?;
        Ok(bench)
    }

    fn reseal(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.args.reseal);
        command.args(words).arg("--job").arg(self.args.work.join("job.toml")).arg("--json");
        command.envs(&self.environment).env("XDG_STATE_HOME", self.args.work.join("home"));
        if words.first() == Some(&"run") {
            command.arg("--state-dir").arg(self.state());
        }
        command
    }

    fn state(&self) -> PathBuf {
        self.args.work.join("state")
    }

    /// Runs a command to its end.
    fn command(&self, words: &[&str]) -> Result<Ran, Failure> {
        let ran = self.reseal(words).output()?;
        let code = ran.status.code().ok_or("ended by a signal")?;
        let last =
            |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().rsplit('\n').next().unwrap_or_default().to_owned();
        let output = format!("{} {}", last(&ran.stdout), last(&ran.stderr));
        println!("`reseal {}` ended with {code}: {output}", words.join(" "));
        Ok(Ran { words: words.join(" "), code, output })
    }

    /// Starts the run and kills it at the moment, unless it ends before.
    fn run_until(&self, moment: Moment) -> Result<Ended, Failure> {
        let mut process = self.reseal(&["run", "--execute"]).stdout(Stdio::piped()).spawn()?;
        let events = events(&mut process)?;
        let begun = Instant::now();
        let mut seen = Seen::default();
        if let Some(pages) = moment.pages {
            while seen.pages < pages {
                match events.recv_timeout(SILENCE_MAX) {
                    Ok(event) => seen.add(&event),
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
                Ok(event) => seen.add(&event),
                Err(RecvTimeoutError::Timeout) => break false,
                Err(RecvTimeoutError::Disconnected) => break true,
            }
        };
        if !ended {
            process.kill()?;
        }
        let status = process.wait()?;
        Ok(status.code().map_or_else(
            || Ended::Killed(format!("after {:>4} ms and {seen}", begun.elapsed().as_millis())),
            Ended::Exited,
        ))
    }

    /// What the journal says, read from a copy: opening the file itself would mend what the kill left.
    fn journal(&self) -> Result<String, Failure> {
        let passes = self.passes()?;
        Ok(match passes.last() {
            None => "nothing in the journal".to_owned(),
            Some((pass, ended, tally)) => format!(
                "pass {pass}{}: {} scanned, {} rewritten, {} at target, {} superseded, {} failed, {} conflicts",
                if *ended { " (ended)" } else { "" },
                tally.scanned,
                tally.rewritten,
                tally.current,
                tally.superseded,
                tally.failed,
                tally.conflicts
            ),
        })
    }

    fn passes(&self) -> Result<Vec<(u32, bool, Tally)>, Failure> {
        let copy = tempfile::tempdir()?;
        for name in ["journal.sqlite3", "journal.sqlite3-wal"] {
            let file = self.state().join(name);
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
        Ok(format!(
            "{} passes; the first found {} items at target that it had no record of: written, and killed before the commit",
            passes.len(),
            first.current
        ))
    }

    /// Reads items and opens them; those that are deleted are not counted.
    async fn open_sample(&self, rng: &mut StdRng) -> Result<usize, Failure> {
        let mut opened = 0;
        for number in (0..self.args.items).sample(rng, SAMPLE) {
            let key = world::key_of(&world::customer(self.args.seed, number, 0))?;
            if let (Some(item), _) = self.table.get(&key).await? {
                world::open(&self.policy, self.keyring.as_ref(), &item).await?;
                opened += 1;
            }
        }
        Ok(opened)
    }

    /// Runs until nothing is left to do.
    fn complete(&self) -> Result<(), Failure> {
        for _ in 0..COMPLETING_MAX {
            let ran = self.command(&["run", "--execute"])?;
            if !matches!(ran.code, 5 | 6) {
                return ran.demand(0).map(drop);
            }
        }
        Err(format!("not complete after {COMPLETING_MAX} runs").into())
    }

    async fn compare(&self) -> Result<(), Failure> {
        let found = world::open_all(&self.table, &self.policy, self.keyring.as_ref()).await?;
        let count = found.len();
        let differences = self.oracle.compare(found);
        println!(
            "oracle: {count} items opened and compared: {} lost, {} resurrected, {} changed",
            differences.lost.len(),
            differences.resurrected.len(),
            differences.changed.len()
        );
        if differences.is_empty() { Ok(()) } else { Err(format!("{differences:?}").into()) }
    }

    /// Leaves sealed items, and what they must open to, for the official client.
    async fn export(&self, rng: &mut StdRng) -> Result<(), Failure> {
        // The largest item always; more than are wanted, because some are deleted.
        let numbers = [1].into_iter().chain((2..self.args.items).sample(rng, 2 * EXPORTED));
        let (mut sealed, mut expected) = (Vec::new(), Vec::new());
        for number in numbers {
            let key = world::key_of(&world::customer(self.args.seed, number, 0))?;
            let (Some(plain), (Some(item), _)) = (self.oracle.get(&key), self.table.get(&key).await?) else { continue };
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

/// What a run told until it was killed.
#[derive(Debug, Default)]
struct Seen {
    pages: u64,
    proved: bool,
    began: bool,
}

impl Seen {
    fn add(&mut self, event: &str) {
        self.began |= event.contains(r#""event":"pass-began""#);
        self.proved |= event.contains(r#""event":"ground-proved""#);
        self.pages += u64::from(event.contains(r#""event":"page-done""#));
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { began: false, .. } => f.write_str("before its pass"),
            Self { proved: false, pages: 0, .. } => f.write_str("before its first write"),
            Self { pages, .. } => write!(f, "{pages} pages"),
        }
    }
}

/// The lines that a process prints; the channel closes when it ends.
fn events(process: &mut Child) -> Result<Receiver<String>, Failure> {
    let lines = BufReader::new(process.stdout.take().ok_or("no standard output")?).lines();
    let (sender, receiver) = channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    Ok(receiver)
}

async fn create_key(stand_ins: &StandIns) -> Result<String, Failure> {
    let config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(stand_ins.region().to_owned()))
        .credentials_provider(Credentials::new("local", "local", None, None, "stand-in"))
        .endpoint_url(&stand_ins.environment["AWS_ENDPOINT_URL_KMS"]);
    let made = aws_sdk_kms::Client::from_conf(config.build()).create_key().send().await?;
    Ok(made.key_metadata.and_then(|key| key.arn).ok_or("a key without ARN")?)
}

fn write_lines(file: &Path, lines: &[String]) -> std::io::Result<()> {
    fs::write(file, lines.join("\n") + "\n")
}
