//! `reseal run`: brings the table to the target. Without `--execute` it is `reseal plan`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::args::{PlanArgs, RunArgs, Writer};
use super::exit::Exit;
use super::failure::Failure;
use super::job::{Job, Target};
use super::progress::Progress;
use super::resolve::Plan;
use super::{keyrings, output, plan, signals};
use crate::aws::{Access, AwsConfig};
use crate::item::{Key, KeyNames, json};
use crate::keyring::Keyring;
use crate::pipeline::{self, Ended, Ports, Report, Stop};
use crate::store::{DynamoTable, SqliteJournal, TableLock, Via, state_home};

/// Runs the job, or shows its plan.
pub(super) async fn run(args: RunArgs) -> Result<Exit, Failure> {
    let job = Job::read(&args.job)?;
    let keys = args.keys.as_deref().map(|file| read_keys(file, &job.schema.keys)).transpose()?;
    if !args.execute {
        return show(job, args.json).await;
    }
    // What the job alone decides comes before any request.
    job.readiness()?;
    demand_consent(&job, args.i_understand_this_removes_encryption)?;
    let config = standard_aws().await?;
    let mut plan = Plan::resolve(job, &config).await?;
    plan.demand()?;
    plan.settings.max_items = args.max_items.map(std::num::NonZeroU64::get);
    plan.settings.max_passes = args.max_passes.get();
    plan.settings.writer = match args.writer {
        Writer::Batch => Via::Batch,
        Writer::UpdateItem => Via::Single,
    };
    let target = target_keyring(&plan.job).await?;
    let sources = source_keyrings(&plan.job).await?;
    let folder = state_folder(args.state_dir.as_deref(), &args.job, &plan.facts.arn)?;
    let _lock = TableLock::acquire(&state_home()?, &plan.facts.arn, plan.facts.id.as_deref())?;
    let journal = SqliteJournal::open(&folder, &plan.job.schema.keys, &plan.fingerprint, &now())?;
    let table = DynamoTable::new(&config, plan.job.table.clone(), plan.job.schema.keys.clone());
    let progress = Progress::start(plan.facts.items, args.json);
    let ports = Ports { table: Arc::new(table), target, sources, observer: progress.observer() };
    let stop = signals::listen()?;
    let report = execute(plan, ports, Arc::new(journal), keys, &stop).await;
    progress.finish();
    let report = report?;
    tell(&report, &folder, args.json)?;
    Ok(exit(&report))
}

/// Shows the job's plan.
pub(super) async fn plan(args: &PlanArgs) -> Result<Exit, Failure> {
    show(Job::read(&args.job)?, args.json).await
}

async fn show(job: Job, json: bool) -> Result<Exit, Failure> {
    let config = standard_aws().await?;
    let table = DynamoTable::read_only(&config, job.table.clone(), job.schema.keys.clone());
    let plan = Plan::resolve(job, &config).await?;
    let exit = plan::show(&plan, &table, json).await?;
    // What a run would be refused for, the plan is: keys that are not there or will not do.
    target_keyring(&plan.job).await?;
    source_keyrings(&plan.job).await?;
    Ok(exit)
}

/// The standard AWS configuration of this process.
pub(super) async fn standard_aws() -> Result<AwsConfig, Failure> {
    Ok(AwsConfig::load(&Access::default()).await?)
}

async fn execute(
    plan: Plan,
    ports: Ports,
    journal: Arc<SqliteJournal>,
    keys: Option<Vec<Key>>,
    stop: &Stop,
) -> Result<Report, Failure> {
    let policy = Arc::new(plan.policy);
    Ok(match keys {
        Some(keys) => pipeline::run_keys(ports, journal, policy, plan.settings, &keys, stop).await?,
        None => pipeline::run(ports, None, journal, policy, plan.settings, stop).await?,
    })
}

/// The keyring that wraps, unless the target is plaintext.
pub(super) async fn target_keyring(job: &Job) -> Result<Option<Arc<dyn Keyring>>, Failure> {
    match &job.target {
        Target::Plaintext => Ok(None),
        Target::Dbesdk { keyring, .. } => keyrings::open_usable(keyring).await.map(Some),
    }
}

pub(super) async fn source_keyrings(job: &Job) -> Result<Vec<Arc<dyn Keyring>>, Failure> {
    let mut keyrings = Vec::with_capacity(job.source.keyrings.len());
    for settings in &job.source.keyrings {
        keyrings.push(keyrings::open_usable(settings).await?);
    }
    Ok(keyrings)
}

/// The way back takes encryption away: it has to be asked for twice.
fn demand_consent(job: &Job, given: bool) -> Result<(), Failure> {
    if job.target == Target::Plaintext && !given {
        return Err(Failure::new(
            Exit::Refused,
            "the target is plaintext: the run would leave every item unencrypted",
            "add --i-understand-this-removes-encryption if that is what you want",
        ));
    }
    Ok(())
}

/// The time on this machine's wall clock, as text: for whoever reads the journal, nothing is decided by it.
pub(super) fn now() -> String {
    let now = time::OffsetDateTime::now_utc();
    now.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

/// Where this job keeps its state for this table: as asked for, or in the user's state directory.
fn state_folder(asked: Option<&Path>, job: &Path, arn: &str) -> Result<PathBuf, Failure> {
    if let Some(folder) = asked {
        return Ok(folder.to_owned());
    }
    let file = std::path::absolute(job).unwrap_or_else(|_| job.to_owned());
    let digest = Sha256::new().chain_update(arn).chain_update([0]).chain_update(file.as_os_str().as_encoded_bytes());
    let hash = digest.finalize().iter().take(6).fold(0_u64, |hash, byte| hash << 8 | u64::from(*byte));
    let name = job.file_stem().and_then(|stem| stem.to_str()).unwrap_or("job");
    Ok(state_home()?.join("jobs").join(format!("{name}-{hash:012x}")))
}

/// Reads the keys of a `--keys` file: one DynamoDB JSON object per line.
fn read_keys(file: &Path, names: &KeyNames) -> Result<Vec<Key>, Failure> {
    let wrong = |line: usize, problem: String| {
        let place = format!("{}:{line}: {problem}", file.display());
        Failure::new(Exit::Usage, place, r#"one key per line, such as {"id": {"S": "a"}}"#)
    };
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::new(Exit::Usage, format!("{}: {error}", file.display()), "check the path after --keys")
    })?;
    let lines = text.split('\n').enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(i, line)| {
            let value = serde_json::from_str(line).map_err(|error| wrong(i + 1, format!("not JSON: {error}")))?;
            let item = json::from_json(&value).map_err(|error| wrong(i + 1, error.to_string()))?;
            names.key_of(&item).map_err(|error| wrong(i + 1, error.to_string()))
        })
        .collect()
}

/// The result as `--json` prints it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Printed<'a> {
    result: &'static str,
    passes: Vec<Pass>,
    open_failures: usize,
    read_units: f64,
    write_units: f64,
    kms_requests: u64,
    state: &'a Path,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Pass {
    pass: u32,
    #[serde(flatten)]
    tally: crate::migration::Tally,
}

fn tell(report: &Report, folder: &Path, as_json: bool) -> Result<(), Failure> {
    let result = match (&report.ended, report.failures.is_empty()) {
        (Ended::Complete, true) => "complete",
        (Ended::Complete, false) => "complete-with-failures",
        (Ended::StillFoundWork, _) => "work-left",
        (Ended::Limit, _) => "limit",
        (Ended::Stopped, _) => "stopped",
        (Ended::Interrupted { .. }, _) => "interrupted",
    };
    if as_json {
        return output::json(&Printed {
            result,
            passes: report.passes.iter().map(|(pass, tally)| Pass { pass: *pass, tally: *tally }).collect(),
            open_failures: report.failures.len(),
            read_units: report.read_units,
            write_units: report.write_units,
            kms_requests: report.kms_requests,
            state: folder,
        });
    }
    for failure in &report.failures {
        output::line(format!("failed {}: {}: {}", failure.key, failure.kind.name(), failure.detail))?;
    }
    let last = report.passes.last().map_or_else(String::new, |(pass, tally)| {
        let of = if *pass == 0 { "keys".to_owned() } else { format!("pass {pass}") };
        format!(
            "{of}: {} scanned, {} rewritten, {} at target, {} superseded, {} skipped, {} failed; ",
            tally.scanned, tally.rewritten, tally.current, tally.superseded, tally.skipped, tally.failed
        )
    });
    output::line(format!(
        "{last}{:.0} read units, {:.0} write units, {} KMS requests",
        report.read_units, report.write_units, report.kms_requests
    ))?;
    output::line(format!("checkpoints and failure ledger: {}", folder.display()))?;
    output::line(match &report.ended {
        Ended::Complete if report.failures.is_empty() => {
            "complete: everything written before the last pass began is at target".to_owned()
        }
        Ended::Complete => {
            format!("complete, but {} items could not be done: see above", report.failures.len())
        }
        Ended::StillFoundWork => "the last pass still found work: run again, or stop the plaintext writers".to_owned(),
        Ended::Stopped => "stopped: the same command goes on from here".to_owned(),
        Ended::Limit => "stopped at --max-items: run again to go on".to_owned(),
        Ended::Interrupted { dropped } if dropped.is_empty() => "interrupted: run again to go on".to_owned(),
        Ended::Interrupted { dropped } => {
            let lanes: Vec<String> = dropped.iter().map(ToString::to_string).collect();
            format!("interrupted while segments {} were busy: run again to go on", lanes.join(", "))
        }
    })
}

fn exit(report: &Report) -> Exit {
    let lost = report.tail.as_ref().is_some_and(|tail| !tail.gaps.is_empty());
    match &report.ended {
        Ended::Interrupted { .. } | Ended::Limit => Exit::Interrupted,
        Ended::StillFoundWork => Exit::WorkLeft,
        Ended::Complete | Ended::Stopped if lost => Exit::WorkLeft,
        Ended::Complete | Ended::Stopped if report.failures.is_empty() => Exit::Done,
        Ended::Complete | Ended::Stopped => Exit::FailedItems,
    }
}
