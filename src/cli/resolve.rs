//! From a job and a table to everything that a run needs, or to the reasons against it.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::aws::AwsConfig;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::job::{Job, KeyringSettings, Target};
use crate::cli::preflight::{self, Findings, Objection};
use crate::migration::{Fingerprint, Policy};
use crate::pipeline::{Pool, Settings};
use crate::store::{self, Capacity, Projection, StoreClass, TableFacts, Via};

/// Bytes of table per segment: about a minute of scanning within one partition's read capacity.
const SEGMENT_BYTES: u64 = 256 << 20;
/// Segments of the smallest and of the largest table.
const SEGMENTS: std::ops::RangeInclusive<u64> = 4..=256;
/// Bytes of a whole page of a scan.
const PAGE_BYTES: u64 = 1 << 20;
/// What an item is taken to weigh where the service does not know: bytes.
const ITEM_BYTES: u64 = 1024;
/// Budgets where the job names none: units per second of an on-demand table, the share of a provisioned one, KMS
/// requests per second (the smallest quota of any Region is 20 times that).
const ON_DEMAND_UNITS: u64 = 1000;
const PROVISIONED_SHARE: u64 = 4;
const KMS_REQUESTS: u32 = 500;

/// A job that was held against its table.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) job: Job,
    pub(super) facts: TableFacts,
    pub(super) findings: Findings,
    pub(super) policy: Policy,
    pub(super) settings: Settings,
    pub(super) fingerprint: Fingerprint,
}

impl Plan {
    /// Holds a job against its table.
    pub(super) async fn resolve(job: Job, config: &AwsConfig) -> Result<Self, Failure> {
        let facts = store::describe(config, &job.table).await.map_err(|error| match error.class {
            // Nothing was begun: the table is not there, or not ours to look at.
            StoreClass::Denied | StoreClass::Fatal | StoreClass::Item => Failure::plain(Exit::Refused, error),
            _ => error.into(),
        })?;
        let findings = preflight::examine(&job, &facts);
        let policy = job.policy();
        let settings = settings(&job, &facts);
        let fingerprint = fingerprint(&job, &facts);
        Ok(Self { job, facts, findings, policy, settings, fingerprint })
    }

    /// Refuses what preflight objects to, with the first objection's remedy.
    pub(super) fn demand(&self) -> Result<(), Failure> {
        refused(&self.findings.objections)
    }

    /// Refuses a repair of mixed items where there is nothing to repair them by: `tail` says whether the table's stream is
    /// followed, `create` whether it is made where there is none.
    pub(super) fn demand_repair(&self, tail: bool, create: bool) -> Result<(), Failure> {
        refused(preflight::repair(&self.job, &self.facts, tail, create).as_slice())
    }
}

fn refused(objections: &[Objection]) -> Result<(), Failure> {
    let Some(first) = objections.first() else { return Ok(()) };
    let problems: Vec<&str> = objections.iter().map(|objection| objection.problem.as_str()).collect();
    Err(Failure::new(Exit::Refused, problems.join("\nerror: "), first.remedy.clone()))
}

fn settings(job: &Job, facts: &TableFacts) -> Settings {
    let budget = |named: Option<NonZeroU32>, provisioned: u64, most: Option<u64>| -> Option<NonZeroU32> {
        let derived = match facts.capacity {
            Capacity::Provisioned { .. } => provisioned / PROVISIONED_SHARE,
            Capacity::OnDemand { .. } => {
                most.map_or(ON_DEMAND_UNITS, |most| ON_DEMAND_UNITS.min(most / PROVISIONED_SHARE))
            }
        };
        named.or_else(|| NonZeroU32::new(u32::try_from(derived.max(1)).unwrap_or(u32::MAX)))
    };
    let (read, write, read_max, write_max) = match facts.capacity {
        Capacity::Provisioned { read, write } => (read, write, None, None),
        Capacity::OnDemand { read_max, write_max } => (0, 0, read_max, write_max),
    };
    let read_units = budget(job.budget.read_units, read, read_max);
    let item_bytes = facts.bytes.checked_div(facts.items).unwrap_or(ITEM_BYTES).max(1);
    // A page never costs more than a second's worth of the budget, as far as the average item tells.
    let page_bytes = read_units.map_or(PAGE_BYTES, |units| (u64::from(units.get()) * 4096).min(PAGE_BYTES));
    let page_items =
        (page_bytes < PAGE_BYTES).then(|| u32::try_from((page_bytes / item_bytes).max(1)).unwrap_or(u32::MAX));
    let segments = (facts.bytes / SEGMENT_BYTES).clamp(*SEGMENTS.start(), *SEGMENTS.end());
    let copied = facts.indexes.iter().filter(|index| index.projection != Projection::Keys).count();
    Settings {
        segments: u32::try_from(segments).unwrap_or(1),
        pages_in_flight: 2,
        pages_in_memory: 16,
        writes_in_flight: 4,
        keys_in_flight: 64,
        read_units,
        write_units: budget(job.budget.write_units, write, write_max),
        kms_requests: job.budget.kms_requests.or_else(|| NonZeroU32::new(KMS_REQUESTS)),
        page_items,
        page_units: (page_bytes as f64 / 4096.0).ceil(),
        write_copies: 1 + u32::try_from(copied).unwrap_or(u32::MAX - 1),
        attempts: 10,
        max_items: None,
        max_passes: 5,
        writer: Via::Batch,
        on_mixed: job.source.on_mixed,
        pool: Pool::Rayon,
        drain: Duration::from_secs(30),
        entropy,
        wall: std::time::SystemTime::now,
    }
}

/// Bytes from this thread's generator, seeded by the system: a system call per nonce would cost as much as sealing.
pub(super) fn entropy(bytes: &mut [u8]) {
    rand::fill(bytes);
}

/// Everything that a checkpoint of this job depends on.
fn fingerprint(job: &Job, facts: &TableFacts) -> Fingerprint {
    let forms = |plaintext: bool, dbesdk: bool| -> String {
        [(plaintext, "plaintext"), (dbesdk, "dbesdk")]
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, form)| *form)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut fields = vec![
        ("table".to_owned(), facts.arn.clone()),
        ("table id".to_owned(), facts.id.clone().unwrap_or_default()),
        ("logical table name".to_owned(), job.schema.logical_table.clone()),
        ("key".to_owned(), job.schema.keys.iter().collect::<Vec<_>>().join(", ")),
        ("unsigned names".to_owned(), job.schema.unsigned.names.iter().cloned().collect::<Vec<_>>().join(", ")),
        ("unsigned prefix".to_owned(), job.schema.unsigned.prefix.clone().unwrap_or_default()),
        ("source formats".to_owned(), forms(job.source.plaintext, job.source.dbesdk)),
    ];
    match &job.target {
        Target::Plaintext => fields.push(("target format".to_owned(), "plaintext".to_owned())),
        Target::Dbesdk { suite, keyring, depth, refresh } => {
            fields.push(("target format".to_owned(), "dbesdk".to_owned()));
            fields.push(("algorithm suite".to_owned(), suite.to_string()));
            fields.push(("target key".to_owned(), keyring.in_words()));
            fields.push(("depth".to_owned(), depth.name().to_owned()));
            fields.push(("refresh key material".to_owned(), refresh.to_string()));
        }
    }
    let sources = job.source.keyrings.iter().map(KeyringSettings::in_words);
    fields.push(("source keys".to_owned(), sources.collect::<Vec<_>>().join(", ")));
    let actions = job.schema.actions.iter();
    fields.extend(actions.map(|(name, action)| (format!("action of {name}"), action.name().to_owned())));
    fields.into_iter().collect()
}
