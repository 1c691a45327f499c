//! `reseal plan`: what a run would do, what it would cost, and what stands against it. Reads a sample, writes nothing.

use std::num::NonZeroU32;

use serde::Serialize;

use super::exit::Exit;
use super::failure::Failure;
use super::habits;
use super::output;
use super::preflight::Objection;
use super::report;
use super::resolve::Plan;
use super::stream::{enabled, unseen};
use crate::migration::{Census, Habits, Target};
use crate::pipeline::Settings;
use crate::store::{Capacity, Known, Scan, Shards, StreamFacts, Table, TableFacts};

/// Items that are looked at; a page of each of a few segments spread over the table.
const SAMPLE_ITEMS: u32 = 250;
const SAMPLE_SEGMENTS: u32 = 4;

/// The plan as `--json` prints it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Printed<'a> {
    table: &'a str,
    items: u64,
    bytes: u64,
    stream_arn: Option<&'a str>,
    stream_view: Option<&'a str>,
    segments: u32,
    read_units_per_second: Option<u32>,
    write_units_per_second: Option<u32>,
    kms_requests_per_second: Option<u32>,
    estimate: Estimate,
    sample: &'a Census,
    /// How applications write, as far as the stream's records tell; and why not, where they cannot be read.
    writers: Option<&'a Habits>,
    writers_unknown: Option<&'a str>,
    warnings: &'a [String],
    objections: &'a [Objection],
    not_ready: Vec<&'static str>,
}

/// What the whole table would cost, as far as the sample tells. One pass that rewrites, and one that proves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Estimate {
    read_units: f64,
    write_units: f64,
    kms_requests: f64,
    seconds: f64,
}

/// Shows the plan. Exit 3 when a run would be refused. The stream is one that has both images of each change.
pub(super) async fn show(
    plan: &Plan,
    table: &dyn Table,
    shards: Option<&dyn Shards>,
    json: bool,
) -> Result<Exit, Failure> {
    let census = sample(plan, table).await?;
    let habits = match shards {
        Some(shards) => Some(habits::sample(&plan.policy, shards).await),
        None => None,
    };
    let mut warnings = plan.findings.warnings.clone();
    warnings.extend(habits.iter().flatten().flat_map(habits::warnings));
    warnings.extend(report::rewrapped(plan.policy.depth).map(str::to_owned));
    let estimate = estimate(plan, &census);
    let not_ready = plan.job.readiness().err();
    if json {
        let limit = |units: Option<NonZeroU32>| units.map(NonZeroU32::get);
        let stream = enabled(&plan.facts);
        let printed = Printed {
            table: &plan.facts.arn,
            items: plan.facts.items,
            bytes: plan.facts.bytes,
            stream_arn: stream.and_then(|stream| stream.arn.as_deref()),
            stream_view: stream.and_then(|stream| stream.view.as_deref()),
            segments: plan.settings.segments,
            read_units_per_second: limit(plan.settings.read_units),
            write_units_per_second: limit(plan.settings.write_units),
            kms_requests_per_second: limit(plan.settings.kms_requests),
            estimate,
            sample: &census,
            writers: habits.as_ref().and_then(|habits| habits.as_ref().ok()),
            writers_unknown: habits.as_ref().and_then(|habits| habits.as_ref().err()).map(String::as_str),
            warnings: &warnings,
            objections: &plan.findings.objections,
            not_ready: not_ready.as_ref().map(|not| not.missing.clone()).unwrap_or_default(),
        };
        output::json(&printed)?;
    } else {
        output::line(text(plan, &census, &estimate, habits.as_ref(), &warnings))?;
    }
    plan.demand()?;
    plan.demand_repair(true, true)?;
    not_ready.map_or(Ok(Exit::Done), |not_ready| Err(not_ready.into()))
}

/// Looks at the first items of a few segments.
async fn sample(plan: &Plan, table: &dyn Table) -> Result<Census, Failure> {
    let mut census = Census::default();
    let total_segments = plan.settings.segments;
    for i in 0..SAMPLE_SEGMENTS.min(total_segments) {
        let segment = i * (total_segments / SAMPLE_SEGMENTS.min(total_segments));
        let scan = Scan { segment, total_segments, after: None, limit: Some(SAMPLE_ITEMS) };
        let page = table.scan(&scan).await?;
        for item in &page.items {
            census.add(&plan.policy, item);
        }
    }
    Ok(census)
}

fn estimate(plan: &Plan, census: &Census) -> Estimate {
    let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let items = plan.facts.items.max(census.items) as f64;
    let read_units = 2.0 * (plan.facts.bytes as f64 / 4096.0).max(1.0);
    let per_item =
        share(census.growth.write_units, census.growth.items).max(1.0) * f64::from(plan.settings.write_copies);
    let rewritten = items * share(census.plaintext + census.sealed, census.items);
    let write_units = rewritten * per_item;
    let opened = items * share(census.sealed, census.items);
    let (opens, seals) = plan.job.kms_requests();
    let kms_requests = opened * f64::from(opens) + rewritten * f64::from(seals);
    let time = |units: f64, budget: Option<NonZeroU32>| budget.map_or(0.0, |rate| units / f64::from(rate.get()));
    let seconds = (time(read_units / 2.0, plan.settings.read_units))
        .max(time(write_units, plan.settings.write_units))
        .max(time(kms_requests, plan.settings.kms_requests))
        + time(read_units / 2.0, plan.settings.read_units);
    Estimate { read_units, write_units, kms_requests, seconds }
}

/// The plan for a human.
fn text(
    plan: &Plan,
    census: &Census,
    estimate: &Estimate,
    habits: Option<&Result<Habits, String>>,
    warnings: &[String],
) -> String {
    let mut lines = table(&plan.facts);
    lines.push(labelled("target", target(plan)));
    lines.push(String::new());
    lines.extend(attributes(census));
    lines.push(String::new());
    lines.extend(forms(census));
    lines.extend(habits.map(|habits| labelled("writers", writers(habits))));
    lines.push(String::new());
    let Settings { read_units, write_units, kms_requests, segments, .. } = plan.settings;
    let rate = |rate: Option<NonZeroU32>| rate.map_or_else(|| "unbounded".to_owned(), |rate| rate.to_string());
    let (read, write, kms) = (rate(read_units), rate(write_units), rate(kms_requests));
    lines.push(labelled(
        "budget",
        format!("{read} read units/s, {write} write units/s, {kms} KMS requests/s; {segments} segments"),
    ));
    lines.push(labelled(
        "estimate",
        format!(
            "{:.0} read units, {:.0} write units, {:.0} KMS requests, {}",
            estimate.read_units,
            estimate.write_units,
            estimate.kms_requests,
            duration(estimate.seconds)
        ),
    ));
    lines.extend(warnings.iter().map(|warning| labelled("warning", warning)));
    lines.join("\n")
}

fn labelled(label: &str, text: impl std::fmt::Display) -> String {
    format!("{label:<10}{text}")
}

fn table(facts: &TableFacts) -> Vec<String> {
    let keys: Vec<&str> = facts.keys.iter().map(|key| key.name.as_str()).collect();
    let size = indicatif::BinaryBytes(facts.bytes);
    let ttl = match &facts.ttl {
        Known::Known(Some(ttl)) => &ttl.attribute,
        Known::Known(None) => "none",
        Known::Unknown(_) => "unknown",
    };
    let recovery = match &facts.point_in_time_recovery {
        Known::Known(true) => "on",
        Known::Known(false) => "off",
        Known::Unknown(_) => "unknown",
    };
    let mut lines = vec![
        labelled("table", &facts.arn),
        labelled("key", keys.join(", ")),
        labelled("items", format!("about {}, {size} (DynamoDB's figures are up to six hours old)", facts.items)),
        labelled("capacity", capacity(&facts.capacity)),
    ];
    lines.extend(
        facts.indexes.iter().map(|index| labelled("index", format!("{} on {}", index.name, index.keys.join(", ")))),
    );
    lines.push(labelled("TTL", ttl));
    lines.push(labelled("recovery", format!("point in time: {recovery}")));
    lines.push(labelled("stream", enabled(facts).map_or_else(|| "none".to_owned(), stream)));
    lines
}

/// The stream, and what its view is enough for.
fn stream(stream: &StreamFacts) -> String {
    let unknown = || "unknown".to_owned();
    let (view, arn) = (stream.view.clone().unwrap_or_else(unknown), stream.arn.clone().unwrap_or_else(unknown));
    let enough = unseen(stream).unwrap_or("enough to follow every change without reading the table");
    format!("{view}, {arn}: {enough}")
}

/// How applications write.
fn writers(habits: &Result<Habits, String>) -> String {
    match habits {
        Err(why) => format!("unknown ({why})"),
        Ok(Habits { records, changes, partial, raw, .. }) => format!(
            "sample of {records} stream records: {changes} changes of plaintext items, {partial} of them of few \
             attributes; {raw} raw writes into sealed items"
        ),
    }
}

fn target(plan: &Plan) -> String {
    match &plan.policy.target {
        Target::Plaintext => "plaintext".to_owned(),
        Target::Dbesdk { suite, recipients } => {
            let keys: Vec<String> = recipients.iter().map(|wanted| wanted.recipient.to_string()).collect();
            format!("{suite}, {}, depth {}", keys.join(", "), plan.policy.depth.name())
        }
    }
}

fn attributes(census: &Census) -> Vec<String> {
    let width = census.attributes.keys().map(|name| name.chars().count()).max().unwrap_or(0).clamp(9, 40);
    let head =
        format!("  {:width$}  {:>6}  {:>8}  {:>8}  {:<8}  action", "attribute", "items", "average", "largest", "types");
    let mut lines = vec![format!("sample of {} items (sizes in bytes)", census.items), head];
    lines.extend(census.attributes.iter().map(|(name, attribute)| {
        let types: Vec<&str> = attribute.types.keys().copied().collect();
        let action = match (attribute.action, attribute.signed) {
            (Some(action), _) => action.name(),
            (None, false) => "(unsigned)",
            (None, true) => "NOT NAMED IN THE JOB: items that have it fail",
        };
        let (average, types) = (attribute.bytes / attribute.items.max(1), types.join(","));
        let (items, largest) = (attribute.items, attribute.bytes_max);
        format!("  {name:width$}  {items:>6}  {average:>8}  {largest:>8}  {types:<8}  {action}")
    }));
    lines
}

fn forms(census: &Census) -> Vec<String> {
    let Census { plaintext, sealed, current, .. } = census;
    let counts = format!("{plaintext} to be sealed, {sealed} sealed otherwise, {current} at target");
    let mut lines = vec![labelled("forms", counts)];
    lines.extend(
        census
            .refused
            .iter()
            .map(|(kind, refused)| labelled("fails", format!("{} {kind}, such as: {}", refused.items, refused.detail))),
    );
    let growth = &census.growth;
    let average = |bytes: u64| bytes.checked_div(growth.items);
    if let (Some(before), Some(after)) = (average(growth.bytes_before), average(growth.bytes_after)) {
        let units = growth.write_units as f64 / growth.items as f64;
        let (largest, growth) = (growth.bytes_after_max, format!("{before} to {after} bytes on average"));
        lines.push(labelled("growth", format!("{growth}, {largest} at most; {units:.2} write units per item")));
    }
    lines
}

fn capacity(capacity: &Capacity) -> String {
    match capacity {
        Capacity::Provisioned { read, write } => format!("provisioned, {read} read and {write} write units/s"),
        Capacity::OnDemand { .. } => "on demand".to_owned(),
    }
}

fn duration(seconds: f64) -> String {
    let duration = std::time::Duration::from_secs_f64(seconds.clamp(1.0, 1e9).ceil());
    format!("about {}", indicatif::HumanDuration(duration))
}
