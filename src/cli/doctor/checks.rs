//! What a run would be refused for, or would trip over, each with its remedy.

use std::sync::Arc;

use serde::Serialize;

use super::keys::{KeyReport, NamedBy};
use crate::aws::AwsConfig;
use crate::cli::economics;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::habits;
use crate::cli::job::{KeyringSettings, KmsKey, Target};
use crate::cli::keyrings::{self, Use};
use crate::cli::permissions::{self, Operation, Permission, Thoroughness};
use crate::cli::resolve::Plan;
use crate::cli::sample::Sample;
use crate::crypto::same_key_in_any_region;
use crate::keyring::{KeyArn, Keyring};
use crate::pipeline::{self, Event, Observer, Ports, RunError};
use crate::store::{DynamoShards, DynamoTable, Known, StoreClass, StreamFacts, Via};

const TARGET: &str = "target";

/// How a check came out; the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Standing {
    Ok,
    Warning,
    /// Nobody could say.
    Unknown,
    /// A run would be refused for it.
    Refused,
}

impl Standing {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
        }
    }
}

/// One thing that was looked into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What of: `table`, `stream`, `readiness`, `key`, `permission`, `quota`, `items`, `conditions`.
    pub(super) about: &'static str,
    pub(super) standing: Standing,
    pub(super) detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Check {
    fn new(about: &'static str, standing: Standing, detail: impl Into<String>) -> Self {
        Self { about, standing, detail: detail.into(), remedy: None }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    fn ok(about: &'static str, detail: impl Into<String>) -> Self {
        Self::new(about, Standing::Ok, detail)
    }

    fn of_failure(about: &'static str, failure: Failure) -> Result<Self, Failure> {
        match failure {
            Failure::Told { exit, problem, remedy } => {
                let standing = if exit == Exit::Fatal { Standing::Unknown } else { Standing::Refused };
                Ok(Self { about, standing, detail: problem, remedy })
            }
            gone @ Failure::ReaderGone => Err(gone),
        }
    }
}

/// Looks into everything.
///
/// # Errors
/// [`Failure`] when the AWS configuration does not serve.
pub(super) async fn all(
    plan: &Plan,
    config: &AwsConfig,
    sample: &Sample,
    keys: &[KeyReport],
    write_probe: bool,
) -> Result<Vec<Check>, Failure> {
    let mut checks = table(plan);
    checks.extend(stream(plan, config).await);
    checks.push(readiness(plan));
    checks.extend(items(sample));
    checks.extend(keys.iter().filter_map(|key| found_key(plan, key, sample)));
    checks.extend(keys.iter().flat_map(untold));
    let permissions = permissions::ask(&plan.job, sample, Thoroughness::EveryExample).await?;
    checks.extend(permissions.iter().map(permission));
    checks.extend(quota(plan));
    checks.push(if write_probe { probe(plan, config, sample).await } else { not_probed() });
    Ok(checks)
}

fn table(plan: &Plan) -> Vec<Check> {
    let facts = &plan.facts;
    let mut checks: Vec<Check> = plan
        .findings
        .objections
        .iter()
        .map(|objection| Check::new("table", Standing::Refused, &*objection.problem).remedy(&*objection.remedy))
        .collect();
    checks.extend(plan.findings.warnings.iter().map(|warning| Check::new("table", Standing::Warning, warning)));
    let regions: Vec<&str> = facts.replicas.iter().map(|replica| replica.region.as_str()).collect();
    let global = match (&facts.replication, &regions[..]) {
        (None, _) => "in one Region".to_owned(),
        (Some(mode), regions) => format!("a global table, {mode:?} consistency, with {}", regions.join(", ")),
    };
    let recovery = match &facts.point_in_time_recovery {
        Known::Known(true) => "; point-in-time recovery is on",
        _ => "",
    };
    checks.push(Check::ok("table", format!("{} is {}, {global}{recovery}", facts.name, facts.status)));
    checks
}

async fn stream(plan: &Plan, config: &AwsConfig) -> Option<Check> {
    let stream = plan.facts.stream.as_ref().filter(|stream| stream.enabled);
    let Some(stream) = stream else {
        return Some(Check::ok("stream", "none; --tail would need one, and --create-stream enables it"));
    };
    let view = stream.view.as_deref().unwrap_or("unknown");
    let Some(arn) = StreamFacts::both_images(stream) else {
        return Some(Check::ok("stream", format!("{view}: a tail has to read each item that was changed")));
    };
    let shards = DynamoShards::new(config, arn, plan.job.schema.keys.clone());
    Some(match habits::sample(&plan.policy, &shards).await {
        Ok(_) => Check::ok("stream", format!("{view}, and it can be read")),
        Err(why) => Check::new("stream", Standing::Warning, format!("{view}, and it cannot be read ({why})")).remedy(
            "allow dynamodb:DescribeStream, GetShardIterator and GetRecords on the stream, or run without --tail",
        ),
    })
}

fn readiness(plan: &Plan) -> Check {
    match plan.job.readiness() {
        Ok(()) => Check::ok("readiness", "the job states what applications do; nothing here can check that it is true"),
        Err(not) => Check::new("readiness", Standing::Refused, not.to_string()).remedy(not.remedy()),
    }
}

/// Items of the sample that a run would leave alone.
fn items(sample: &Sample) -> Vec<Check> {
    let refused = sample.census.refused.iter().map(|(kind, refused)| {
        let detail = format!("{} of {} would fail ({kind}): {}", refused.items, sample.census.items, refused.detail);
        Check::new("items", Standing::Warning, detail)
    });
    refused.collect()
}

/// The keyrings of the job, whether their keys are there and fit; and the target's, if it does.
///
/// # Errors
/// [`Failure`] when nobody reads any more.
pub(super) async fn keyrings(plan: &Plan) -> Result<(Vec<Check>, Option<Arc<dyn Keyring>>), Failure> {
    let target = match &plan.job.target {
        Target::Plaintext => None,
        Target::Dbesdk { keyring, refresh, .. } => Some((TARGET, keyring, *refresh)),
    };
    let sources = plan.job.source.keyrings.iter().map(|keyring| ("source", keyring, false));
    let (mut checks, mut opened) = (Vec::new(), None);
    for (role, settings, refreshes) in target.into_iter().chain(sources) {
        checks.push(match keyrings::open(settings, Use { wraps: role == TARGET, examined: true, refreshes }).await {
            Ok(keyring) => {
                if role == TARGET {
                    opened = Some(keyring);
                }
                Check::ok("key", format!("{role} {}: can be used", settings.in_words()))
            }
            Err(failure) => Check::of_failure("key", failure)?,
        });
    }
    Ok((checks, opened))
}

/// A key that items name and the job does not.
fn found_key(plan: &Plan, key: &KeyReport, sample: &Sample) -> Option<Check> {
    let named = |known: KmsKey<'_>| known.any_region && same_key_in_any_region(known.key.as_str(), &key.named);
    let discoveries = plan.job.source.keyrings.iter().flat_map(KeyringSettings::discoveries);
    let region = KeyArn::parse(&key.named).ok()?.region().to_owned();
    let mut discovered = discoveries.filter(|(filter, _)| filter.key_in(&region, &key.named).is_some());
    if key.named_by != NamedBy::Items || plan.job.kms_keys().into_iter().any(named) || discovered.next().is_some() {
        return None;
    }
    let unusable = key.facts.as_ref().and_then(|facts| facts.unusable.as_deref());
    let detail = format!(
        "{} of {} items of the sample can be opened with {}, which the job does not name{}",
        key.items,
        sample.census.items,
        key.named,
        unusable.map_or_else(String::new, |why| format!("; and {why}"))
    );
    Some(Check::new("key", Standing::Warning, detail).remedy("add a keyring for it to source.keyrings"))
}

fn untold(key: &KeyReport) -> Vec<Check> {
    // Whether the job can do without the key itself is said elsewhere; an alias was asked for.
    let standing =
        if key.named_by == NamedBy::Alias && key.facts.is_none() { Standing::Unknown } else { Standing::Warning };
    let told = |why: &String| Check::new("key", standing, format!("{}: {why}", key.named));
    key.unknown.iter().map(told).collect()
}

fn permission(permission: &Permission) -> Check {
    let Permission { operation, key, asked, refused, refusal, unknown } = permission;
    let name = match operation {
        Operation::GenerateDataKey => "kms:GenerateDataKey",
        Operation::Decrypt => "kms:Decrypt",
    };
    let what = format!("{name} on {key}");
    match (refusal, unknown) {
        _ if *asked == 0 => Check::ok("permission", format!("{what}: not asked, there is no item to ask for")),
        (Some(refusal), _) => {
            // What a keyring says of a refusal ends in the remedy.
            let (problem, remedy) =
                refusal.problem.rsplit_once("; ").unwrap_or((&refusal.problem, "see the key's policy"));
            if permission.is_refused() {
                return Check::new("permission", Standing::Refused, format!("{what}: {problem}")).remedy(remedy);
            }
            let detail = format!("{what}: refused for {refused} of {asked} items of the sample: {problem}");
            Check::new("permission", Standing::Warning, detail)
                .remedy("such items would fail: see the key policy's conditions on the encryption context")
        }
        (None, Some(unknown)) => Check::new("permission", Standing::Unknown, format!("{what}: {}", unknown.problem))
            .remedy("ask again; where it stays so, check the endpoint, and the job's logical_name and attributes"),
        (None, None) => Check::ok("permission", what),
    }
}

fn quota(plan: &Plan) -> Option<Check> {
    let key = plan.job.kms_keys().first()?.key;
    let quota = plan.kms_quota();
    let rate = plan.settings.kms_requests?.get();
    let detail = format!(
        "at most {rate} requests/s to KMS; the default for an account in {} is {quota}, shared with everything else that \
         runs there (as documented: the account's own may differ)",
        key.region()
    );
    Some(if rate <= quota / economics::QUOTA_SHARE {
        Check::ok("quota", detail)
    } else {
        Check::new("quota", Standing::Warning, detail).remedy("lower budget.kms_requests_per_second")
    })
}

fn not_probed() -> Check {
    Check::ok(
        "conditions",
        "not probed: --write-probe asks for a write whose condition cannot hold, as every run does first",
    )
}

/// Proves the ground as a run does.
async fn probe(plan: &Plan, config: &AwsConfig, sample: &Sample) -> Check {
    let table = DynamoTable::new(config, plan.job.table.clone(), plan.job.schema.keys.clone());
    let observer: Arc<dyn Observer> = Arc::new(Silent);
    let ports = Ports { table: Arc::new(table), target: None, sources: Vec::new(), observer };
    let policy = Arc::new(plan.policy.clone());
    match pipeline::prove_ground(ports, policy, plan.settings.clone(), &sample.items).await {
        Ok(Some(Via::Batch)) => Check::ok("conditions", "honoured, in batches (dynamodb:PartiQLUpdate)"),
        Ok(Some(Via::Single)) => Check::ok(
            "conditions",
            "honoured, one item per request (dynamodb:UpdateItem; PartiQLUpdate is not allowed)",
        ),
        Ok(None) => Check::ok("conditions", "not probed: there is no item"),
        Err(error) => {
            let refused = match &error {
                RunError::Ground(_) => true,
                RunError::Store(error) => matches!(error.class, StoreClass::Denied | StoreClass::Fatal),
                _ => false,
            };
            let standing = if refused { Standing::Refused } else { Standing::Unknown };
            Check::new("conditions", standing, error.to_string())
                .remedy("allow dynamodb:PartiQLUpdate and UpdateItem on the table, and check the endpoint")
        }
    }
}

/// What a probe tells of is in its result.
struct Silent;

impl Observer for Silent {
    fn on(&self, _: &Event) {}
}
