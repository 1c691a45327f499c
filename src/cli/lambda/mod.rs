//! `reseal-lambda`: the same job as an AWS Lambda function behind the table's stream. AWS reads the shards, scales, brings
//! again what could not be done, and puts aside what never can; this is what is done with a batch.

mod event;

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use lambda_runtime::{Context, Diagnostic, LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::Value as Json;
use tokio::time::Instant;

use self::event::{Failed, Response};
use super::exit::Exit;
use super::failure::Failure;
use super::job::{Job, Target};
use super::resolve::Plan;
use super::run::{source_keyrings, standard_aws, target_keyring};
use super::{log, output, told};
use crate::item::KeyNames;
use crate::migration::{Exposed, Exposure, Tally};
use crate::pipeline::{BatchReport, Batches, Event, Observer, Ports, Settings, Stopped};
use crate::store::DynamoTable;

/// The job file, where it is not `job.toml` beside the binary.
const JOB: &str = "RESEAL_JOB";
/// The most environments of the function at the same time: the job's budgets are divided by it.
const CONCURRENCY: &str = "RESEAL_CONCURRENCY";
/// What stands for the argument of the same name, where the target is plaintext.
const CONSENT: &str = "RESEAL_I_UNDERSTAND_THIS_REMOVES_ENCRYPTION";
/// Work ends so long before the function would be ended: time to tell what has to come again.
const MARGIN: Duration = Duration::from_secs(3);

/// Serves invocations until the environment is taken away. Every failure before the first one ends the process: Lambda
/// counts it as a failed invocation, and begins anew.
pub async fn serve() -> Exit {
    match begin().await {
        Ok(function) => {
            let function = Arc::new(function);
            let serve = |event: LambdaEvent<Json>| {
                let function = Arc::clone(&function);
                async move { function.invoked(&event.payload, &event.context).await }
            };
            match lambda_runtime::run(service_fn(serve)).await {
                Ok(()) => Exit::Done,
                Err(error) => {
                    told(&Failure::new(Exit::Fatal, format!("the Lambda Runtime API: {error}"), "Lambda begins anew"))
                }
            }
        }
        Err(failure) => told(&failure),
    }
}

/// The job of a function, ready for batches.
struct Function {
    batches: Batches,
    keys: KeyNames,
    /// The table's ARN.
    table: String,
    heard: Arc<Heard>,
}

/// Everything that `reseal run --execute` does before its first request for items.
async fn begin() -> Result<Function, Failure> {
    log::begin()?;
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_none() {
        let remedy = "deploy it as docs/LAMBDA.md says; on a machine of your own, `reseal` does the same";
        return Err(Failure::new(Exit::Usage, "this program is started by AWS Lambda only", remedy));
    }
    let environments = environments(std::env::var(CONCURRENCY).ok().as_deref())?;
    let job = Job::read(&job_file()?)?;
    job.readiness()?;
    demand_consent(&job, std::env::var(CONSENT).ok().as_deref())?;
    let config = standard_aws().await?;
    let Plan { job, facts, policy, settings, .. } = demanded(Plan::resolve(job, &config).await?)?;
    let heard = Arc::<Heard>::default();
    let keys = job.schema.keys.clone();
    let ports = Ports {
        table: Arc::new(DynamoTable::new(&config, job.table.clone(), keys.clone())),
        target: target_keyring(&job).await?,
        sources: source_keyrings(&job).await?,
        observer: Arc::clone(&heard) as Arc<dyn Observer>,
    };
    let batches = Batches::new(ports, Arc::new(policy), shared(settings, environments)?);
    Ok(Function { batches, keys, table: facts.arn, heard })
}

/// The plan, with its warnings told, unless something stands against it.
fn demanded(plan: Plan) -> Result<Plan, Failure> {
    plan.demand()?;
    plan.demand_repair(true, false)?;
    for warning in &plan.findings.warnings {
        output::note(&format!("warning: {warning}"));
    }
    Ok(plan)
}

fn job_file() -> Result<PathBuf, Failure> {
    if let Some(file) = std::env::var_os(JOB) {
        return Ok(file.into());
    }
    let binary = std::env::current_exe().map_err(|error| {
        Failure::new(Exit::Usage, format!("where this program is: {error}"), format!("name the job file in {JOB}"))
    })?;
    Ok(binary.with_file_name("job.toml"))
}

/// How many environments share the job's budgets.
fn environments(stated: Option<&str>) -> Result<NonZeroU32, Failure> {
    stated.and_then(|number| number.parse().ok()).ok_or_else(|| {
        let remedy = "set it to the function's reserved concurrency: the job's budgets are divided by it";
        Failure::new(Exit::Usage, format!("{CONCURRENCY}: not set to a number from 1 on"), remedy)
    })
}

/// The share of one environment in the budgets, which are the table's.
fn shared(settings: Settings, environments: NonZeroU32) -> Result<Settings, Failure> {
    let share = |name: &str, budget: Option<NonZeroU32>| match budget.map(|budget| budget.get() / environments) {
        None => Ok(None),
        Some(share) => NonZeroU32::new(share).map(Some).ok_or_else(|| {
            let problem = format!("{CONCURRENCY}: {environments} environments cannot share the budget of {name}");
            Failure::new(Exit::Refused, problem, "reserve less concurrency, or allow more under [budget]")
        }),
    };
    Ok(Settings {
        read_units: share("read units", settings.read_units)?,
        write_units: share("write units", settings.write_units)?,
        kms_requests: share("KMS requests", settings.kms_requests)?,
        ..settings
    })
}

/// The way back takes encryption away: it has to be asked for twice.
fn demand_consent(job: &Job, given: Option<&str>) -> Result<(), Failure> {
    if job.target == Target::Plaintext && given != Some("yes") {
        return Err(Failure::new(
            Exit::Refused,
            "the target is plaintext: the function would leave everything that is written unencrypted",
            format!("set {CONSENT}=yes if that is what you want"),
        ));
    }
    Ok(())
}

impl Function {
    /// Works on the batch of an invocation. What has to come again is in the answer; it is an error only where the answer
    /// could not say so.
    async fn invoked(&self, event: &Json, context: &Context) -> Result<Response, Diagnostic> {
        let began = Instant::now();
        let left = context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
        let deadline = began + left.saturating_sub(MARGIN);
        let told = event::records(event).map_err(|error| diagnostic("NotAnEvent", error.to_string()))?;
        let (mut records, mut again, mut nameless) = (Vec::with_capacity(told.len()), HashSet::new(), 0_usize);
        for record in told {
            let Some(sequence) = event::sequence(record) else {
                nameless += 1;
                continue;
            };
            match event::read(record, sequence, &self.table, &self.keys) {
                Ok(record) => records.push(record),
                Err(malformed) => {
                    say(&Line::Malformed { sequence, problem: malformed.to_string() });
                    again.insert(sequence.to_owned());
                }
            }
        }
        let malformed = again.len() + nameless;
        let stream = told.iter().find_map(|record| record.get("eventSourceARN")?.as_str()).unwrap_or_default();
        let report = self.batches.work(stream, records, deadline).await;
        let (waiting, exposure) = (self.heard.take(), exposure(&report));
        let BatchReport { tally, failures, undone, stopped, .. } = report;
        again.extend(failures.into_iter().map(|(first, _)| first));
        again.extend(undone);
        // In the order of the batch: whoever reads the answer finds the lowest first.
        let failed = told.iter().filter_map(event::sequence).filter(|sequence| again.contains(*sequence));
        let response = Response {
            batch_item_failures: failed.map(|first| Failed { item_identifier: first.to_owned() }).collect(),
        };
        let (stopped, problem) = match stopped {
            None => (None, None),
            Some(Stopped::Deadline) => (Some("deadline"), waiting),
            Some(Stopped::Fault(fault)) => (Some("fault"), Some(fault.to_string())),
        };
        say(&Line::Batch {
            records: told.len(),
            malformed,
            again: response.batch_item_failures.len(),
            stopped,
            problem,
            exposure,
            tally,
        });
        if nameless > 0 {
            let problem =
                format!("{nameless} records have no sequence number, so that none of the batch can be told of");
            return Err(diagnostic("MalformedRecord", problem));
        }
        Ok(response)
    }
}

/// How long the items lay in plaintext, as this machine's clock says: Lambda keeps it in step with the service's.
fn exposure(report: &BatchReport) -> Option<Exposed> {
    let second = |time: SystemTime| Some(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs());
    let (now, mut exposure) = (second(SystemTime::now())?, Exposure::default());
    report.exposed.iter().filter_map(|since| second(*since)).for_each(|since| exposure.add(since, now));
    exposure.all()
}

fn diagnostic(error_type: &str, error_message: String) -> Diagnostic {
    Diagnostic { error_type: error_type.to_owned(), error_message }
}

/// A line of the function's log.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
enum Line<'a> {
    /// A record that could not be read.
    Malformed { sequence: &'a str, problem: String },
    /// What became of a batch: at its end.
    Batch {
        records: usize,
        malformed: usize,
        /// Records that were told to come again.
        again: usize,
        /// `deadline` or `fault`, where it was not worked on to its end.
        #[serde(skip_serializing_if = "Option::is_none")]
        stopped: Option<&'static str>,
        /// What the run waited for, or why it could not go on.
        #[serde(skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
        /// Seconds that items lay in plaintext.
        #[serde(skip_serializing_if = "Option::is_none")]
        exposure: Option<Exposed>,
        #[serde(flatten)]
        tally: Tally,
    },
}

fn say(line: &impl Serialize) {
    // A log that is gone must not stop a function that is writing to a table.
    drop(output::json(line));
}

/// Tells of what happens in the log, and keeps in mind what the run waits for: there may be many such events in a row.
#[derive(Default)]
struct Heard(Mutex<Option<String>>);

impl Heard {
    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Observer for Heard {
    fn on(&self, event: &Event) {
        match event {
            Event::Throttled { reason } | Event::Holding { reason } => {
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.clone());
            }
            event => say(event),
        }
    }
}
