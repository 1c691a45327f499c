//! `reseal demo`: the whole job on embedded stand-ins. A table of customers is encrypted while applications write to it,
//! scan and stream together; in the end every item is opened and compared with what the applications left.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::args::DemoArgs;
use super::exit::Exit;
use super::failure::Failure;
use super::job::Job;
use super::progress::Progress;
use super::resolve::Plan;
use super::run::now;
use super::stream::{self, Asked};
use super::{output, report, signals};
use crate::aws::AwsConfig;
use crate::format::dbesdk;
use crate::item::{Item, Key, json};
use crate::keyring::{KeyArn, Keyring, KmsKeyring};
use crate::local::world::{self, Bulk, Oracle, Writers};
use crate::local::{self, Options, StandIns};
use crate::migration::{FailureKind, Tally};
use crate::pipeline::{self, Ended, Event, Follow, Observer, Ports, Report, Stop, Until, Verification};
use crate::store::{DynamoTable, Journal as _, Scan, SqliteJournal, Table};

const WRITERS: u64 = 8;
/// Each writer writes this often.
const PACE: Duration = Duration::from_millis(40);
/// How long the applications go on when the scan is done and the stream is drained.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// How long the tail may take for what they wrote last, before the demo gives up.
const PATIENCE: Duration = Duration::from_mins(1);
/// The customer who is shown before and after.
const SHOWN: u64 = 7;
/// Items that are kept for another client to open.
const KEPT: usize = 200;

/// Hears that everything is done, and passes everything on.
struct Listener {
    next: Arc<dyn Observer>,
    done: CancellationToken,
}

impl Observer for Listener {
    fn on(&self, event: &Event) {
        if *event == Event::Complete {
            self.done.cancel();
        }
        self.next.on(event);
    }
}

/// What the demo works on.
struct Demo {
    config: AwsConfig,
    plan: Plan,
    table: Arc<DynamoTable>,
    keyring: Arc<dyn Keyring>,
    journal: Arc<SqliteJournal>,
    follow: Follow,
    oracle: Arc<Oracle>,
}

/// Runs the demo. Exit 0 only when every item is what it should be.
pub(super) async fn run(args: DemoArgs) -> Result<Exit, Failure> {
    let stop = signals::listen()?;
    let temporary = tempfile::tempdir().map_err(defect)?;
    let folder = args.keep.as_deref().unwrap_or_else(|| temporary.path());
    let stand_ins = local::start(Options { data: Some(folder.to_owned()), ..Options::default() })?;
    let demo = Demo::prepare(&args, &stand_ins, folder).await?;
    let client = aws_sdk_dynamodb::Client::new(demo.config.sdk());
    output::line("\nthe application's item, as it is now:")?;
    output::line(demo.shown(args.seed).await?)?;

    output::line(format!("\nencrypting, while {WRITERS} applications write plaintext, change counters and delete:"))?;
    let writers = Writers::start(&client, &demo.oracle, args.seed, args.items, WRITERS, PACE);
    let started = Instant::now();
    let (done, ended) = (CancellationToken::new(), stop.gently.child_token());
    let engine = demo.follow(&done, Stop { gently: ended.clone(), at_once: stop.at_once.clone() });
    tokio::pin!(engine);
    let applications = async {
        done.cancelled().await;
        let seconds = started.elapsed().as_secs_f64();
        output::line(format!("after {seconds:.1} s the scan is done and the stream drained; the applications go on"))?;
        tokio::time::sleep(AFTERWARDS).await;
        let written = writers.stop().await.map_err(world_failed)?;
        output::line(format!(
            "the applications have stopped after {} whole items, {} changes of an unsigned attribute, {} deletions",
            written.puts, written.changes, written.deletes
        ))?;
        let stopped = Instant::now();
        while demo.in_plaintext().await? > 0 {
            if stopped.elapsed() > PATIENCE {
                return Err(defect("the tail does not catch up"));
            }
        }
        output::line(format!("{:.1} s later nothing is left in plaintext", stopped.elapsed().as_secs_f64()))
    };
    let report = tokio::select! {
        biased;
        report = &mut engine => report?,
        written = applications => {
            written?;
            ended.cancel();
            engine.await?
        }
    };
    if stop.gently.is_cancelled() {
        return Ok(Exit::Interrupted);
    }
    output::line("\nthe same item, as it is now:")?;
    output::line(demo.shown(args.seed).await?)?;
    sum_up(&report, started.elapsed().as_secs_f64())?;
    let verification = demo.verify(&stop).await?;
    let right = demo.compare(&verification, &report, args.keep.as_deref()).await?;
    stand_ins.shutdown().await?;
    Ok(if right { Exit::Done } else { Exit::Fatal })
}

impl Demo {
    async fn prepare(args: &DemoArgs, stand_ins: &StandIns, folder: &Path) -> Result<Self, Failure> {
        output::line(format!(
            "stand-ins: DynamoDB at {}, KMS at {}",
            stand_ins.dynamodb_endpoint(),
            stand_ins.kms_endpoint()
        ))?;
        let config = AwsConfig::stand_in(&stand_ins.dynamodb_endpoint(), stand_ins.region())?;
        let kms = AwsConfig::stand_in(&stand_ins.kms_endpoint(), stand_ins.region())?;
        let key = stand_ins.kms().create_key("reseal demo").map_err(defect)?;
        let oracle = Arc::new(Oracle::default());
        let client = aws_sdk_dynamodb::Client::new(config.sdk());
        world::create(&client, args.seed, 0..args.items, &oracle).await.map_err(world_failed)?;
        output::line(format!(
            "table {}: {} customers in plaintext, an index by region, a TTL attribute",
            world::TABLE,
            oracle.len()
        ))?;
        let text = job_file(&key);
        output::line(format!("\nthe job:\n{text}"))?;
        let job = Job::parse(&text, Path::new("demo.toml"))?;
        if args.keep.is_some() {
            std::fs::write(folder.join("job.toml"), &text).map_err(defect)?;
        }
        let mut plan = Plan::resolve(job, &config).await?;
        plan.demand()?;
        plan.job.readiness()?;
        let keyring = KmsKeyring::new(&kms, KeyArn::parse(&key)?)?;
        keyring.examine().await?;
        let table = DynamoTable::new(&config, world::TABLE, world::key_names());
        let journal = SqliteJournal::open(&folder.join("state"), &plan.job.schema.keys, &plan.fingerprint, &now())?;
        // Made when the customers are there: only what is written from now on leaves records.
        let asked = Asked { from: None, until: Until::Stopped, create: true };
        let follow = stream::follow(&mut plan, &config, &journal, asked).await?;
        Ok(Self {
            config,
            plan,
            table: Arc::new(table),
            keyring: Arc::new(keyring),
            journal: Arc::new(journal),
            follow,
            oracle,
        })
    }

    /// Scans the table and follows its stream until it is stopped; says when the scan is done and the stream drained.
    async fn follow(&self, done: &CancellationToken, stop: Stop) -> Result<Report, Failure> {
        let progress = Progress::start(self.oracle.len() as u64, false);
        let mut ports = self.ports(&progress);
        ports.observer = Arc::new(Listener { next: ports.observer, done: done.clone() });
        let (policy, journal) = (Arc::new(self.plan.policy.clone()), Arc::clone(&self.journal));
        let (follow, settings) = (Some(self.follow.clone()), self.plan.settings.clone());
        let report = pipeline::run(ports, follow, journal, policy, settings, &stop).await;
        progress.finish();
        Ok(report?)
    }

    /// Items in plaintext, but for those in the failure ledger.
    async fn in_plaintext(&self) -> Result<usize, Failure> {
        let failures = self.journal.open_failures().await?;
        let left_alone = |item: &Item| failures.iter().any(|failure| world::key_of(item).as_ref() == Ok(&failure.key));
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.table.scan(&Scan { segment: 0, total_segments: 1, after, limit: None }).await?;
            let plain = page.items.iter().filter(|item| !item.contains(dbesdk::HEAD));
            count += plain.filter(|item| !left_alone(item)).count();
            after = page.next;
            if after.is_none() {
                return Ok(count);
            }
        }
    }

    async fn verify(&self, stop: &Stop) -> Result<Verification, Failure> {
        let progress = Progress::start(self.oracle.len() as u64, false);
        let ports = self.ports(&progress);
        let verification = pipeline::verify(ports, &self.plan.policy, self.plan.settings.clone(), stop).await;
        progress.finish();
        Ok(verification?)
    }

    fn ports(&self, progress: &Progress) -> Ports {
        Ports {
            table: Arc::clone(&self.table) as Arc<dyn Table>,
            target: Some(Arc::clone(&self.keyring)),
            sources: Vec::new(),
            observer: progress.observer(),
        }
    }

    /// One item of the table, as DynamoDB JSON.
    async fn shown(&self, seed: u64) -> Result<String, Failure> {
        let key = world::key_of(&world::customer(seed, SHOWN, 0)).map_err(defect)?;
        let (item, _) = self.table.get(&key).await?;
        let Some(item) = item else { return Ok("(an application has deleted it)".to_owned()) };
        let shown = json::to_json(&item);
        let attributes = shown.as_object().into_iter().flatten().map(|(name, value)| {
            let value = value.to_string();
            let short: String = value.chars().take(96).collect();
            let dots = if short.len() < value.len() { "…" } else { "" };
            format!("  {name}: {short}{dots}")
        });
        Ok(attributes.collect::<Vec<_>>().join("\n"))
    }

    /// Keeps some sealed items, and what they have to open to.
    async fn keep(&self, folder: &Path, opened: &[(Key, Item)]) -> Result<(), Failure> {
        let (mut sealed, mut expected) = (Vec::new(), Vec::new());
        for (key, item) in opened.iter().step_by((opened.len() / KEPT).max(1)).take(KEPT) {
            let (Some(present), _) = self.table.get(key).await? else { continue };
            if present.contains(dbesdk::HEAD) {
                sealed.push(serde_json::json!({ "Item": json::to_json(&present) }).to_string());
                expected.push(serde_json::json!({ "Item": json::to_json(item) }).to_string());
            }
        }
        std::fs::write(folder.join("sealed.jsonl"), sealed.join("\n") + "\n").map_err(defect)?;
        std::fs::write(folder.join("expected.jsonl"), expected.join("\n") + "\n").map_err(defect)
    }

    /// Opens every item and compares it with the oracle. The one that does not fit has to be in the ledger, untouched.
    async fn compare(&self, verification: &Verification, last: &Report, keep: Option<&Path>) -> Result<bool, Failure> {
        let expected_failures = (0..3).filter(|n| Bulk::of(*n) == Bulk::TooLarge).count();
        let too_large = last.failures.iter().filter(|failure| failure.kind == FailureKind::TooLarge).count();
        // Read and opened without the engine.
        let opened = world::open_all(self.table.as_ref(), &self.plan.policy, self.keyring.as_ref()).await;
        let opened = opened.map_err(world_failed)?;
        let count = opened.len();
        if let Some(folder) = keep {
            self.keep(folder, &opened).await?;
        }
        let differences = self.oracle.compare(opened);
        let [gone, resurrected, changed] =
            [&differences.lost, &differences.resurrected, &differences.changed].map(Vec::len);
        output::line(format!(
            "verify: {} at target and opened, {} in plaintext (too large to seal, in the ledger), {} stale, {} broken",
            verification.current, verification.plaintext, verification.stale, verification.broken
        ))?;
        output::line(format!(
            "oracle: {count} items opened and compared: {gone} lost, {resurrected} resurrected, {changed} changed"
        ))?;
        let right = differences.is_empty()
            && last.ended == Ended::Complete
            && last.failures.len() == expected_failures
            && too_large == expected_failures
            && verification.complete
            && verification.plaintext as usize == expected_failures
            && verification.stale + verification.broken == 0;
        output::line(if right { "everything is as it should be" } else { "SOMETHING IS NOT AS IT SHOULD BE" })?;
        Ok(right)
    }
}

fn job_file(key: &str) -> String {
    let head = world::job_head();
    format!(
        r#"{head}
[source]
formats = ["plaintext"]

[target]
format = "dbesdk"
keyring = {{ type = "aws-kms", key_arn = "{key}" }}

[budget]
read_units_per_second = 5000
write_units_per_second = 5000
kms_requests_per_second = 5000
"#
    )
}

fn sum_up(report: &Report, seconds: f64) -> Result<(), Failure> {
    let tallies = report.passes.iter().map(|(_, tally)| *tally).chain(report.tail.as_ref().map(|tail| tail.tally));
    let sum = tallies.fold(Tally::default(), |mut sum, tally| {
        sum += tally;
        sum
    });
    output::line(format!(
        "\n{} rewrites in {seconds:.1} s ({:.0} per second), {} conflicts with the applications; {:.0} read units, {:.0} \
         write units, {} KMS requests",
        sum.rewritten,
        sum.rewritten as f64 / seconds,
        sum.conflicts,
        report.read_units,
        report.write_units,
        report.kms_requests
    ))?;
    match report.tail.as_ref().and_then(|tail| tail.exposure.all()) {
        Some(exposed) => output::line(format!("exposure: {}", report::exposure(&exposed))),
        None => output::line("exposure: the stream brought nothing in plaintext"),
    }
}

fn world_failed(error: world::WorldError) -> Failure {
    Failure::new(Exit::Fatal, error, "the stand-ins are embedded: please report it")
}

fn defect(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Fatal, error.to_string(), "the demo makes its own items: please report it")
}
