//! `reseal demo`: the whole job on embedded stand-ins. A table of customers is encrypted while applications write to it,
//! and in the end every item is opened and compared with what the applications left.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::args::DemoArgs;
use super::exit::Exit;
use super::failure::Failure;
use super::job::Job;
use super::progress::Progress;
use super::resolve::Plan;
use super::run::now;
use super::{output, signals};
use crate::aws::AwsConfig;
use crate::item::json;
use crate::keyring::{KeyArn, Keyring, KmsKeyring};
use crate::local::world::{self, Bulk, Oracle, Writers};
use crate::local::{self, Options, StandIns};
use crate::migration::FailureKind;
use crate::pipeline::{self, Ended, Ports, Report, Stop, Verification};
use crate::store::{DynamoTable, SqliteJournal, Table};

const WRITERS: u64 = 8;
/// Each writer writes this often.
const PACE: Duration = Duration::from_millis(5);
/// Passes while the writers are at work.
const BUSY_PASSES: u32 = 2;
/// The customer who is shown before and after.
const SHOWN: u64 = 7;

/// What the demo works on.
struct Demo {
    config: AwsConfig,
    plan: Plan,
    table: Arc<DynamoTable>,
    keyring: Arc<dyn Keyring>,
    journal: Arc<SqliteJournal>,
    oracle: Arc<Oracle>,
}

/// Runs the demo. Exit 0 only when every item is what it should be.
pub(super) async fn run(args: DemoArgs) -> Result<Exit, Failure> {
    let stop = signals::listen()?;
    let stand_ins = local::start(Options::default())?;
    let state = tempfile::tempdir().map_err(defect)?;
    let demo = Demo::prepare(&args, &stand_ins, state.path()).await?;
    let client = aws_sdk_dynamodb::Client::new(demo.config.sdk());
    output::line("\nthe application's item, as it is now:")?;
    output::line(demo.shown(args.seed).await?)?;

    let writers = Writers::start(&client, &demo.oracle, args.seed, args.items, WRITERS, PACE);
    output::line(format!("\nencrypting, while {WRITERS} applications write plaintext, change counters and delete:"))?;
    let started = Instant::now();
    let busy = demo.pass(BUSY_PASSES, &stop).await?;
    let written = writers.stop().await.map_err(world_failed)?;
    output::line(format!(
        "the applications have stopped after {} whole items, {} changes of an unsigned attribute, {} deletions",
        written.puts, written.changes, written.deletes
    ))?;
    let quiet = demo.pass(5, &stop).await?;
    let seconds = started.elapsed().as_secs_f64();
    if matches!(quiet.ended, Ended::Interrupted { .. }) {
        return Ok(Exit::Interrupted);
    }
    output::line("\nthe same item, as it is now:")?;
    output::line(demo.shown(args.seed).await?)?;
    sum_up(&[&busy, &quiet], seconds)?;
    let verification = demo.verify(&stop).await?;
    let right = demo.compare(&verification, &quiet).await?;
    stand_ins.shutdown().await?;
    Ok(if right { Exit::Done } else { Exit::Fatal })
}

impl Demo {
    async fn prepare(args: &DemoArgs, stand_ins: &StandIns, state: &std::path::Path) -> Result<Self, Failure> {
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
        let job = Job::parse(&text, std::path::Path::new("demo.toml"))?;
        let plan = Plan::resolve(job, &config).await?;
        plan.demand()?;
        plan.job.readiness()?;
        let keyring = KmsKeyring::new(&kms, KeyArn::parse(&key)?)?;
        keyring.examine().await?;
        let table = DynamoTable::new(&config, world::TABLE, world::key_names());
        let journal = SqliteJournal::open(state, &plan.job.schema.keys, &plan.fingerprint, &now())?;
        Ok(Self {
            config,
            plan,
            table: Arc::new(table),
            keyring: Arc::new(keyring),
            journal: Arc::new(journal),
            oracle,
        })
    }

    /// Passes over the table, at most so many.
    async fn pass(&self, passes: u32, stop: &Stop) -> Result<Report, Failure> {
        let progress = Progress::start(self.oracle.len() as u64, false);
        let mut settings = self.plan.settings.clone();
        settings.max_passes = passes;
        let policy = Arc::new(self.plan.policy.clone());
        let journal = Arc::clone(&self.journal);
        let report = pipeline::run(self.ports(&progress), None, journal, policy, settings, stop).await;
        progress.finish();
        Ok(report?)
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

    /// Opens every item and compares it with the oracle. The one that does not fit has to be in the ledger, untouched.
    async fn compare(&self, verification: &Verification, last: &Report) -> Result<bool, Failure> {
        let expected_failures = (0..3).filter(|n| Bulk::of(*n) == Bulk::TooLarge).count();
        let too_large = last.failures.iter().filter(|failure| failure.kind == FailureKind::TooLarge).count();
        // Read and opened without the engine.
        let opened = world::open_all(self.table.as_ref(), &self.plan.policy, self.keyring.as_ref()).await;
        let opened = opened.map_err(world_failed)?;
        let count = opened.len();
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

fn sum_up(reports: &[&Report], seconds: f64) -> Result<(), Failure> {
    let rewritten: u64 = reports.iter().flat_map(|report| &report.passes).map(|(_, tally)| tally.rewritten).sum();
    let conflicts: u64 = reports.iter().flat_map(|report| &report.passes).map(|(_, tally)| tally.conflicts).sum();
    let sum = |of: fn(&Report) -> f64| reports.iter().map(|report| of(report)).sum::<f64>();
    output::line(format!(
        "\n{rewritten} rewrites in {seconds:.1} s ({:.0} per second), {conflicts} conflicts with the applications; {:.0} read \
         units, {:.0} write units, {} KMS requests",
        rewritten as f64 / seconds,
        sum(|report| report.read_units),
        sum(|report| report.write_units),
        reports.iter().map(|report| report.kms_requests).sum::<u64>()
    ))
}

fn world_failed(error: world::WorldError) -> Failure {
    Failure::new(Exit::Fatal, error, "the stand-ins are embedded: please report it")
}

fn defect(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Fatal, error.to_string(), "the demo makes its own items: please report it")
}
