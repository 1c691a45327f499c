//! What came of a run or a tail, for a human or as JSON, and the exit code that says it to a script.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::exit::Exit;
use super::failure::Failure;
use super::output;
use crate::migration::{Depth, Exposed, Gap, Tally, Way};
use crate::pipeline::{Ended, Report, TailReport};

/// The result as `--json` prints it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Printed<'a> {
    result: &'static str,
    passes: Vec<Pass>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<Stream>,
    open_failures: usize,
    read_units: f64,
    write_units: f64,
    kms_requests: u64,
    notes: &'a [String],
    state: &'a Path,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Pass {
    pass: u32,
    #[serde(flatten)]
    tally: Tally,
}

/// What following the stream came to. Times are seconds since 1970 of the service's clock.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Stream {
    start: Option<u64>,
    drained_to: Option<u64>,
    /// How that is known of each shard.
    drained: BTreeMap<String, &'static str>,
    records: u64,
    #[serde(flatten)]
    tally: Tally,
    exposed: Option<Exposed>,
    exposed_by_hour: Vec<Hour>,
    gaps: Vec<Lost>,
}

#[derive(Serialize)]
struct Hour {
    hour: u64,
    #[serde(flatten)]
    exposed: Exposed,
}

#[derive(Serialize)]
struct Lost {
    shard: String,
    from: Option<u64>,
    to: Option<u64>,
}

impl Stream {
    fn of(tail: &TailReport) -> Self {
        let ways = tail.drained.iter().flat_map(|drained| &drained.ways);
        let gaps = tail.gaps.iter().map(|(shard, Gap { from, to, .. })| (shard.clone(), *from, *to));
        Self {
            start: tail.start,
            drained_to: tail.drained.as_ref().map(|drained| drained.to),
            drained: ways.map(|(shard, way)| (shard.clone(), name(*way))).collect(),
            records: tail.records,
            tally: tail.tally,
            exposed: tail.exposure.all(),
            exposed_by_hour: tail.exposure.hours().into_iter().map(|(hour, exposed)| Hour { hour, exposed }).collect(),
            gaps: gaps.map(|(shard, from, to)| Lost { shard, from, to }).collect(),
        }
    }
}

/// How it is known of a shard that it is drained, in a word.
fn name(way: Way) -> &'static str {
    match way {
        Way::Record => "younger-record",
        Way::Closed => "closed",
        Way::Quiet => "quiet",
    }
}

/// How long items lay in plaintext, in words.
pub(super) fn exposure(exposed: &Exposed) -> String {
    let Exposed { items, p50, p99, max } = exposed;
    format!(
        "{items} items lay in plaintext until they were sealed: half of them up to {p50} s, 99 of 100 up to {p99} s, the \
         longest {max} s (each \u{b1} 1 s)"
    )
}

/// A moment of the service's clock.
fn moment(second: u64) -> String {
    let time = i64::try_from(second).ok().and_then(|second| time::OffsetDateTime::from_unix_timestamp(second).ok());
    let text = time.and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok());
    text.unwrap_or_else(|| format!("second {second}"))
}

/// Tells what following the stream came to.
fn tell_stream(tail: &TailReport) -> Result<(), Failure> {
    let Tally { rewritten, current, superseded, failed, skipped, .. } = tail.tally;
    output::line(format!(
        "stream: {} records; of their items {rewritten} rewritten, {current} at target, {superseded} superseded, \
         {skipped} skipped, {failed} failed",
        tail.records
    ))?;
    if let Some(exposed) = tail.exposure.all() {
        output::line(format!("exposure: {}", exposure(&exposed)))?;
    }
    if let Some(drained) = &tail.drained {
        let count = |way| drained.ways.iter().filter(|(_, of)| *of == way).count();
        output::line(format!(
            "drained to {}: {} shards by a younger record, {} closed and read to their end, {} quiet for half a minute",
            moment(drained.to),
            count(Way::Record),
            count(Way::Closed),
            count(Way::Quiet)
        ))?;
    }
    for (shard, Gap { from, to, .. }) in &tail.gaps {
        let time = |second: &Option<u64>| second.map_or_else(|| "an unknown time".to_owned(), moment);
        output::line(format!(
            "lost: what was written to {shard} from {} to {} was not read in time; reseal run --tail scans the table \
             again",
            time(from),
            time(to)
        ))?;
    }
    Ok(())
}

/// What a job must be told of its depth.
pub(super) fn rewrapped(depth: Depth) -> Option<&'static str> {
    (depth == Depth::Rewrap).then_some(
        "depth \"rewrap\" keeps every item's data key: whoever has once had one can still read what the item holds; only \
         \"reencrypt\" takes that away",
    )
}

/// Tells what came of it all.
pub(super) fn tell(report: &Report, notes: &[String], folder: &Path, as_json: bool) -> Result<(), Failure> {
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
            stream: report.tail.as_ref().map(Stream::of),
            open_failures: report.failures.len(),
            read_units: report.read_units,
            write_units: report.write_units,
            kms_requests: report.kms_requests,
            notes,
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
    if let Some(tail) = &report.tail {
        tell_stream(tail)?;
    }
    for note in notes {
        output::line(format!("note: {note}"))?;
    }
    output::line(format!("checkpoints and failure ledger: {}", folder.display()))?;
    let drained = report.tail.as_ref().and_then(|tail| tail.drained.as_ref());
    output::line(match (&report.ended, drained) {
        (Ended::Complete, _) if !report.failures.is_empty() => {
            format!("complete, but {} items could not be done: see above", report.failures.len())
        }
        (Ended::Complete, Some(drained)) if report.tail.as_ref().is_some_and(|tail| tail.scanned) => {
            format!("complete: everything written until {} is at target", moment(drained.to))
        }
        (Ended::Complete, Some(drained)) => {
            let to = moment(drained.to);
            format!("complete: everything in the stream until {to} is at target; the rest of the table was not scanned")
        }
        (Ended::Complete, None) => "complete: everything written before the last pass began is at target".to_owned(),
        (Ended::StillFoundWork, _) => {
            "the last pass still found work: run again, or stop the plaintext writers".to_owned()
        }
        (Ended::Stopped, _) => "stopped: the same command goes on from here".to_owned(),
        (Ended::Limit, _) => "stopped at --max-items: run again to go on".to_owned(),
        (Ended::Interrupted { dropped }, _) if dropped.is_empty() => "interrupted: run again to go on".to_owned(),
        (Ended::Interrupted { dropped }, _) => {
            let lanes: Vec<String> = dropped.iter().map(ToString::to_string).collect();
            format!("interrupted while segments {} were busy: run again to go on", lanes.join(", "))
        }
    })
}

/// The exit code that says it.
pub(super) fn exit(report: &Report) -> Exit {
    let lost = report.tail.as_ref().is_some_and(|tail| !tail.gaps.is_empty());
    match &report.ended {
        Ended::Interrupted { .. } | Ended::Limit => Exit::Interrupted,
        Ended::StillFoundWork => Exit::WorkLeft,
        Ended::Complete | Ended::Stopped if lost => Exit::WorkLeft,
        Ended::Complete | Ended::Stopped if report.failures.is_empty() => Exit::Done,
        Ended::Complete | Ended::Stopped => Exit::FailedItems,
    }
}
