//! `reseal plan`: what a run would do, what it would cost, and what stands against it. Reads a sample, writes nothing.

use std::num::NonZeroU32;

use serde::Serialize;

use super::economics::{Estimate, PRICE_LIST};
use super::exit::Exit;
use super::failure::Failure;
use super::habits;
use super::output;
use super::preflight::Objection;
use super::report;
use super::resolve::Plan;
use super::sample::Sample;
use super::stream::{enabled, unseen};
use crate::crypto::Recipient;
use crate::format::Action;
use crate::migration::{Census, Form, Habits, Need, Share, Target};
use crate::pipeline::Settings;
use crate::store::{Capacity, Known, Shards, StreamFacts, Table, TableFacts};

/// Items that are looked at in each of a few segments.
pub(super) const SAMPLE_ITEMS: u32 = 250;

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
    keys: Vec<CountedKey<'a>>,
    forms: Vec<CountedForm<'a>>,
    /// How applications write, as far as the stream's records tell; and why not, where they cannot be read.
    writers: Option<&'a Habits>,
    writers_unknown: Option<&'a str>,
    warnings: &'a [String],
    objections: &'a [Objection],
    not_ready: Vec<&'static str>,
}

/// A form of items as `--json` prints it, and how many have it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct CountedForm<'a> {
    need: Need,
    /// Empty for plaintext.
    keys: Vec<Key<'a>>,
    suite: Option<&'static str>,
    version: Option<u8>,
    #[serde(flatten)]
    share: Share,
}

/// A key of items, and how many it opens.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct CountedKey<'a> {
    #[serde(flatten)]
    key: Key<'a>,
    #[serde(flatten)]
    share: Share,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Key<'a> {
    provider: &'a str,
    key: &'a str,
}

impl<'a> From<&'a Recipient> for Key<'a> {
    fn from(recipient: &'a Recipient) -> Self {
        Self { provider: &recipient.provider, key: &recipient.key }
    }
}

/// The forms of a sample, the most frequent first.
pub(super) fn counted_forms(census: &Census) -> Vec<CountedForm<'_>> {
    let counted = most_frequent(census).into_iter().map(|(form, items)| {
        let sealed = form.sealed.as_ref();
        CountedForm {
            need: form.need,
            keys: sealed.iter().flat_map(|sealed| &sealed.recipients).map(Key::from).collect(),
            suite: sealed.map(|sealed| sealed.suite.name()),
            version: sealed.map(|sealed| sealed.version),
            share: census.share(items),
        }
    });
    counted.collect()
}

/// The keys of a sample.
pub(super) fn counted_keys(census: &Census) -> Vec<CountedKey<'_>> {
    let counted = census.recipients().into_iter();
    counted.map(|(recipient, items)| CountedKey { key: recipient.into(), share: census.share(items) }).collect()
}

fn most_frequent(census: &Census) -> Vec<(&Form, u64)> {
    let mut forms: Vec<_> = census.forms.iter().map(|(form, items)| (form, *items)).collect();
    forms.sort_by_key(|(_, items)| std::cmp::Reverse(*items));
    forms
}

/// The forms of a sample in words, a line each.
pub(super) fn form_lines(census: &Census) -> Vec<String> {
    let line = |(form, items): (&Form, u64)| {
        let what = match &form.sealed {
            None => "plaintext".to_owned(),
            Some(sealed) => {
                let keys: Vec<String> = sealed.recipients.iter().map(ToString::to_string).collect();
                let suite = if sealed.suite.signs() { "with signature" } else { "without signature" };
                format!("{}, {suite}, version {}", keys.join(" and "), sealed.version)
            }
        };
        let (share, need) = (percent(census.share(items), census.whole), needed(form.need));
        let width = if census.whole { 7 } else { 15 };
        format!("  {items:>6}  {share:>width$}  {need:<10}  {what}")
    };
    most_frequent(census).into_iter().map(line).collect()
}

/// A share of the table as far as it is known.
pub(super) fn percent(share: Share, whole: bool) -> String {
    let (low, high) = (share.low * 100.0, share.high * 100.0);
    if whole { format!("{low:.1} %") } else { format!("{low:.1} to {high:.1} %") }
}

/// What an item needs, in one word.
pub(super) const fn needed(need: Need) -> &'static str {
    match need {
        Need::Nothing => "at target",
        Need::Rewrap => "rewrap",
        Need::Reencrypt => "re-encrypt",
        Need::Encrypt => "encrypt",
        Need::Decrypt => "decrypt",
    }
}

/// Shows the plan. Exit 3 when a run would be refused. The stream is one that has both images of each change.
pub(super) async fn show(
    plan: &Plan,
    table: &dyn Table,
    shards: Option<&dyn Shards>,
    json: bool,
) -> Result<Exit, Failure> {
    let census = Sample::read(plan, table, SAMPLE_ITEMS).await?.census;
    let habits = match shards {
        Some(shards) => Some(habits::sample(&plan.policy, shards).await),
        None => None,
    };
    let mut warnings = plan.findings.warnings.clone();
    warnings.extend(habits.iter().flatten().flat_map(habits::warnings));
    warnings.extend(report::rewrapped(plan.policy.depth).map(str::to_owned));
    let estimate = plan.estimate(&census);
    warnings.extend(logged(plan, &estimate));
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
            keys: counted_keys(&census),
            forms: counted_forms(&census),
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
    lines.extend(consumption(estimate));
    lines.extend(warnings.iter().map(|warning| labelled("warning", warning)));
    lines.join("\n")
}

/// What a run would consume, what it costs, and what would cost less.
pub(super) fn consumption(estimate: &Estimate) -> Vec<String> {
    let Estimate { read_units, write_units, kms_requests, kms_usd, .. } = *estimate;
    let mut lines = vec![labelled(
        "estimate",
        format!(
            "{read_units:.0} read units, {write_units:.0} write units, {kms_requests:.0} KMS requests, {}",
            duration(estimate.seconds)
        ),
    )];
    if kms_requests > 0.0 {
        lines.push(labelled(
            "KMS",
            format!(
                "{:.0} requests to open items, {:.0} to seal them: {} at the budget, {} at the account's documented quota; \
                 verify asks {:.0} more",
                estimate.kms_requests_to_open,
                estimate.kms_requests_to_seal,
                duration(estimate.kms_seconds),
                duration(estimate.kms_seconds_at_quota),
                estimate.kms_requests_to_verify
            ),
        ));
    }
    let dynamodb = match estimate.dynamodb_usd {
        Some(dynamodb) => format!("DynamoDB {dynamodb:.2} USD"),
        None => "DynamoDB: nothing besides the provisioned capacity".to_owned(),
    };
    lines.push(labelled("cost", format!("KMS {kms_usd:.2} USD, {dynamodb} ({PRICE_LIST})")));
    lines.extend(estimate.hierarchy_saves.map(|saved| {
        labelled(
            "advice",
            format!(
                "a hierarchical keyring would save {:.0} KMS requests of this run ({:.2} USD, {}), those of verify, and one \
                 for each item that applications read or write from then on",
                saved.kms_requests,
                saved.usd,
                duration(saved.seconds)
            ),
        )
    }));
    lines
}

/// What KMS writes down of the table.
pub(super) fn logged(plan: &Plan, estimate: &Estimate) -> Option<String> {
    let schema = &plan.job.schema;
    let included = schema.actions.iter().filter(|(_, action)| **action == Action::SignAndIncludeInEncryptionContext);
    let mut names: Vec<&str> = schema.keys.iter().chain(included.map(|(name, _)| name.as_str())).collect();
    names.sort_unstable();
    names.dedup();
    (estimate.kms_requests + estimate.kms_requests_to_verify > 0.0).then(|| {
        format!(
            "CloudTrail will hold the values of {}, at most in Base64: they are in the encryption context of every request \
             to KMS",
            names.join(", ")
        )
    })
}

pub(super) fn labelled(label: &str, text: impl std::fmt::Display) -> String {
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
    lines.extend(form_lines(census));
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

pub(super) fn duration(seconds: f64) -> String {
    let duration = std::time::Duration::from_secs_f64(seconds.clamp(1.0, 1e9).ceil());
    format!("about {}", indicatif::HumanDuration(duration))
}
