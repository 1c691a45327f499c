//! `reseal run` and `reseal tail`: bring the table, or what is written to it, to the target. Without `--execute` they are
//! `reseal plan`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::args::{PlanArgs, RunArgs, TailArgs, WorkArgs, Writer};
use super::exit::Exit;
use super::failure::Failure;
use super::job::{Job, Target};
use super::keyrings::{self, Use};
use super::progress::Progress;
use super::resolve::Plan;
use super::stream::{self, Asked};
use super::{plan, report, signals};
use crate::aws::{Access, AwsConfig};
use crate::item::{Key, KeyNames, json};
use crate::keyring::Keyring;
use crate::pipeline::{self, Follow, Ports, Report, RunError, Stop, Until};
use crate::store::{
    DynamoShards, DynamoTable, Journal, Shards, SqliteJournal, StreamFacts, TableLock, Via, state_home,
};

/// Runs the job, or shows its plan.
pub(super) async fn run(args: RunArgs) -> Result<Exit, Failure> {
    let job = Job::read(&args.work.job)?;
    let keys = args.keys.as_deref().map(|file| read_keys(file, &job.schema.keys)).transpose()?;
    if !args.work.execute {
        return show(job, args.work.json).await;
    }
    let until = if args.keep_tailing { Until::Stopped } else { Until::Drained };
    let asked = args.tail.then_some(Asked { from: None, until, create: args.create_stream });
    let mut work = Work::prepare(&args.work, job, asked).await?;
    work.plan.settings.max_passes = args.max_passes.get();
    work.done(async |Work { plan, ports, journal, follow, .. }, stop| {
        let (journal, policy, settings) = (Arc::clone(journal), Arc::new(plan.policy.clone()), plan.settings.clone());
        match keys {
            Some(keys) => pipeline::run_keys(ports.clone(), journal, policy, settings, &keys, stop).await,
            None => pipeline::run(ports.clone(), follow.clone(), journal, policy, settings, stop).await,
        }
    })
    .await
}

/// Follows the table's stream, or shows the job's plan.
pub(super) async fn tail(args: TailArgs) -> Result<Exit, Failure> {
    let job = Job::read(&args.work.job)?;
    if !args.work.execute {
        return show(job, args.work.json).await;
    }
    let until = if args.until_drained { Until::Drained } else { Until::Stopped };
    let asked = Asked { from: args.from, until, create: args.create_stream };
    let work = Work::prepare(&args.work, job, Some(asked)).await?;
    work.done(async |Work { plan, ports, journal, follow, .. }, stop| {
        let follow = follow.clone().expect("it was asked for");
        let (journal, policy, settings) = (Arc::clone(journal), Arc::new(plan.policy.clone()), plan.settings.clone());
        pipeline::tail(ports.clone(), follow, journal, policy, settings, stop).await
    })
    .await
}

/// A job that may write, with all that it needs.
struct Work {
    plan: Plan,
    ports: Ports,
    journal: Arc<dyn Journal>,
    follow: Option<Follow>,
    progress: Progress,
    json: bool,
    folder: PathBuf,
    _lock: TableLock,
}

impl Work {
    /// Demands what a job that writes must state and fulfil, and makes what it works with.
    async fn prepare(args: &WorkArgs, job: Job, asked: Option<Asked>) -> Result<Self, Failure> {
        // What the job alone decides comes before any request.
        job.readiness()?;
        demand_consent(&job, args.i_understand_this_removes_encryption)?;
        let config = standard_aws().await?;
        let mut plan = Plan::resolve(job, &config).await?;
        plan.demand()?;
        plan.demand_repair(asked.is_some(), asked.is_some_and(|asked| asked.create))?;
        plan.settings.max_items = args.max_items.map(std::num::NonZeroU64::get);
        plan.settings.writer = match args.writer {
            Writer::Batch => Via::Batch,
            Writer::UpdateItem => Via::Single,
        };
        let target = target_keyring(&plan.job).await?;
        let sources = source_keyrings(&plan.job).await?;
        let folder = state_folder(args.state_dir.as_deref(), &args.job, &plan.facts.arn)?;
        let lock = TableLock::acquire(&state_home()?, &plan.facts.arn, plan.facts.id.as_deref())?;
        let journal = SqliteJournal::open(&folder, &plan.job.schema.keys, &plan.fingerprint, &now())?;
        let follow = match asked {
            Some(asked) => Some(stream::follow(&mut plan, &config, &journal, asked).await?),
            None => None,
        };
        let table = DynamoTable::new(&config, plan.job.table.clone(), plan.job.schema.keys.clone());
        let progress = Progress::start(plan.facts.items, args.json);
        let ports = Ports { table: Arc::new(table), target, sources, observer: progress.observer() };
        Ok(Self { plan, ports, journal: Arc::new(journal), follow, progress, json: args.json, folder, _lock: lock })
    }

    /// Has it done, and tells what came of it.
    async fn done(self, engine: impl AsyncFnOnce(&Self, &Stop) -> Result<Report, RunError>) -> Result<Exit, Failure> {
        let stop = signals::listen()?;
        let report = engine(&self, &stop).await;
        self.progress.finish();
        let report = report?;
        let moved = match &self.ports.target {
            Some(target) => target.moved().await?,
            None => None,
        };
        let notes = report::rewrapped(self.plan.policy.depth).map(str::to_owned).into_iter().chain(moved.clone());
        report::tell(&report, &notes.collect::<Vec<_>>(), &self.folder, self.json)?;
        Ok(if moved.is_some() { report::exit(&report).or_work_left() } else { report::exit(&report) })
    }
}

/// Shows the job's plan.
pub(super) async fn plan(args: &PlanArgs) -> Result<Exit, Failure> {
    show(Job::read(&args.job)?, args.json).await
}

async fn show(job: Job, json: bool) -> Result<Exit, Failure> {
    let config = standard_aws().await?;
    let table = DynamoTable::read_only(&config, job.table.clone(), job.schema.keys.clone());
    let plan = Plan::resolve(job, &config).await?;
    let stream = plan.facts.stream.as_ref().and_then(StreamFacts::both_images);
    let shards = stream.map(|arn| DynamoShards::new(&config, arn, plan.job.schema.keys.clone()));
    let exit = plan::show(&plan, &table, shards.as_ref().map(|shards| shards as &dyn Shards), json).await?;
    // What a run would be refused for, the plan is: keys that are not there or will not do.
    target_keyring(&plan.job).await?;
    source_keyrings(&plan.job).await?;
    Ok(exit)
}

/// The standard AWS configuration of this process.
pub(super) async fn standard_aws() -> Result<AwsConfig, Failure> {
    Ok(AwsConfig::load(&Access::default()).await?)
}

/// The keyring that wraps, unless the target is plaintext.
pub(super) async fn target_keyring(job: &Job) -> Result<Option<Arc<dyn Keyring>>, Failure> {
    match &job.target {
        Target::Plaintext => Ok(None),
        Target::Dbesdk { keyring, refresh, .. } => {
            keyrings::open(keyring, Use { wraps: true, examined: true, refreshes: *refresh }).await.map(Some)
        }
    }
}

pub(super) async fn source_keyrings(job: &Job) -> Result<Vec<Arc<dyn Keyring>>, Failure> {
    let mut keyrings = Vec::with_capacity(job.source.keyrings.len());
    for settings in &job.source.keyrings {
        keyrings.push(keyrings::open(settings, Use { wraps: false, examined: true, refreshes: false }).await?);
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
