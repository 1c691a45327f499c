//! `reseal doctor`: which change a table needs, if any, and whether a run would be refused. Writes nothing.

mod answer;
mod checks;
mod keys;
mod stores;

use serde::Serialize;

use self::answer::{Diagnosis, Seen};
use self::checks::{Check, Standing};
use self::keys::KeyReport;
use self::stores::StoreReport;
use super::args::DoctorArgs;
use super::economics::Estimate;
use super::exit::Exit;
use super::failure::Failure;
use super::job::Job;
use super::output;
use super::plan::{self, CountedForm, CountedKey, SAMPLE_ITEMS, counted_forms, counted_keys, form_lines, labelled};
use super::resolve::Plan;
use super::run::standard_aws;
use super::sample::Sample;
use crate::migration::{Census, Need};
use crate::store::DynamoTable;

/// What was found, as `--json` prints it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Printed<'a> {
    result: &'static str,
    #[serde(flatten)]
    diagnosis: &'a Diagnosis,
    items: u64,
    sampled: u64,
    keys: Vec<CountedKey<'a>>,
    forms: Vec<CountedForm<'a>>,
    kms_keys: &'a [KeyReport],
    key_stores: &'a [StoreReport],
    estimate: Estimate,
    checks: &'a [Check],
}

/// Looks at the job's table and keys. Exit 3 when a run would be refused, 1 when that could not be found out.
pub(super) async fn run(args: DoctorArgs) -> Result<Exit, Failure> {
    let job = Job::read(&args.job)?;
    let config = standard_aws().await?;
    let table = DynamoTable::read_only(&config, job.table.clone(), job.schema.keys.clone());
    let plan = Plan::resolve(job, &config).await?;
    let mut sample = Sample::read(&plan, &table, SAMPLE_ITEMS).await?;
    let (of_keyrings, target) = checks::keyrings(&plan).await?;
    let deeper = match target {
        Some(target) => sample.look_deeper(target.as_ref()).await,
        None => 0,
    };
    let stores = stores::report(&plan.job).await?;
    let keys = keys::report(&plan.job, &sample.census, &stores, &args.alias).await?;
    let diagnosis =
        answer::diagnose(&Seen { policy: &plan.policy, census: &sample.census, deeper, keys: &keys, stores: &stores });
    let mut checks = checks::all(&plan, &config, &sample, &keys, args.write_probe).await?;
    checks.extend(of_keyrings);
    let worst = checks.iter().map(|check| check.standing).max().unwrap_or(Standing::Ok);
    let (result, exit) = match worst {
        Standing::Ok | Standing::Warning => ("ready", Exit::Done),
        Standing::Unknown => ("unknown", Exit::Fatal),
        Standing::Refused => ("refused", Exit::Refused),
    };
    let estimate = plan.estimate(&sample.census);
    if args.json {
        output::json(&Printed {
            result,
            diagnosis: &diagnosis,
            items: plan.facts.items,
            sampled: sample.census.items,
            keys: counted_keys(&sample.census),
            forms: counted_forms(&sample.census),
            kms_keys: &keys,
            key_stores: &stores,
            estimate,
            checks: &checks,
        })?;
    } else {
        output::line(text(&diagnosis, &sample.census, &keys, &estimate, &checks, worst))?;
    }
    Ok(exit)
}

/// The answer first, then why, then what was looked into, the worst first.
fn text(
    diagnosis: &Diagnosis,
    census: &Census,
    keys: &[KeyReport],
    estimate: &Estimate,
    checks: &[Check],
    worst: Standing,
) -> String {
    let ready = match worst {
        Standing::Ok => "yes: a run would not be refused",
        Standing::Warning => "yes: a run would not be refused; mind the warnings",
        Standing::Unknown => "unknown: not everything could be found out",
        Standing::Refused => "no: a run would be refused",
    };
    let mut lines = vec![labelled("answer", &diagnosis.sentence)];
    lines.extend(diagnosis.reasons.iter().map(|reason| labelled("", reason)));
    lines.push(labelled("ready", ready));
    lines.push(String::new());
    let sampled = if census.whole { "all of the table" } else { "shares of the table with a confidence of 95 %" };
    lines.push(labelled("items", format!("{} looked at, {sampled}", census.items)));
    lines.extend(form_lines(census));
    lines.extend(keys.iter().map(|key| labelled("key", in_words(key, keys))));
    if census.needs().keys().any(|need| *need != Need::Nothing) {
        lines.extend(plan::consumption(estimate));
    }
    lines.push(String::new());
    let mut sorted: Vec<&Check> = checks.iter().collect();
    sorted.sort_by_key(|check| std::cmp::Reverse(check.standing));
    for check in sorted {
        let mut detail = check.detail.clone();
        if check.standing == Standing::Ok {
            // The whole ARN stands above.
            for key in keys {
                detail = detail.replace(&key.named, id(&key.named));
            }
        }
        lines.push(labelled(check.standing.name(), format!("{}: {detail}", check.about)));
        lines.extend(
            check.remedy.as_ref().map(|remedy| labelled("", format!("remedy: {}", remedy.replace('\n', INDENTED)))),
        );
    }
    lines.join("\n")
}

/// What of an ARN tells keys of one account and Region apart.
fn id(arn: &str) -> &str {
    arn.rsplit(':').next().unwrap_or(arn)
}

/// Where the text of a line goes on.
const INDENTED: &str = "\n          ";

fn in_words(key: &KeyReport, all: &[KeyReport]) -> String {
    let Some(facts) = &key.facts else { return format!("{}: unknown", key.named) };
    let mut words = Vec::new();
    if facts.arn != key.named {
        words.push(format!("names {}", facts.arn));
        if all.iter().any(|other| other.named == facts.arn) {
            return format!("{}: {}", key.named, words.join(", "));
        }
    }
    words.extend([facts.state.clone(), facts.spec.clone()]);
    if facts.multi_region {
        words.push("multi-Region".to_owned());
    }
    if let Some(rotation) = &key.rotation {
        words.push(match rotation.period_days.filter(|_| rotation.automatic) {
            Some(days) => format!("rotated every {days} days"),
            None => "not rotated automatically".to_owned(),
        });
        words.push(match &rotation.last {
            Some(last) => format!("new material {}, last on {last}", times(rotation.rotations)),
            None => "never got new material".to_owned(),
        });
    }
    if !key.aliases.is_empty() {
        words.push(format!("named by {}", key.aliases.join(", ")));
    }
    format!("{}: {}", key.named, words.join(", "))
}

/// A number of times in words.
fn times(count: usize) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}
