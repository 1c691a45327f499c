//! The engine: the only place with tasks. It reads pages, has them brought to the target, and remembers how far it is.
//!
//! Four bounds and no queues keep it within its means: pages in flight per lane, pages in memory, budgets of capacity
//! units and key requests, and requests in flight per page.

mod batch;
mod engine;
mod event;
mod keys;
mod lane;
mod page;
mod pool;
mod reader;
mod records;
mod retry;
mod tail;
#[cfg(test)]
mod tests;
mod throttle;
mod verify;
mod writer;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use batch::{BatchReport, Batches, Stopped};
pub use engine::{Ports, RunError, Settings};
pub use event::{Event, Observer};
pub use pool::{Panicked, Pool};
pub use tail::{TailReport, Until, tail};
pub use throttle::{Taken, Throttle};
pub use verify::{Finding, Verification, verify};

use self::engine::Engine;
use self::lane::Seen;
use self::page::PageDone;
use crate::item::Key;
use crate::migration::{Failure, Policy, Tally};
use crate::store::{Commit, Cursor, Journal, Pass};

/// How the operator stops a run.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// No new pages; those in flight are finished and committed.
    pub gently: CancellationToken,
    /// Pages in flight are dropped: safe, because every write is conditional.
    pub at_once: CancellationToken,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The last pass rewrote nothing.
    Complete,
    /// The last pass allowed still found work: everything written before it began is at target.
    StillFoundWork,
    /// As many items as allowed were rewritten.
    Limit,
    /// Stopped by the operator.
    Interrupted {
        /// Segments whose pages in flight were dropped.
        dropped: Vec<u32>,
    },
}

/// What a run did.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// How it ended.
    pub ended: Ended,
    /// Each pass that it worked on: number and tally, earlier interrupted parts of the pass included.
    pub passes: Vec<(u32, Tally)>,
    /// The open entries of the failure ledger.
    pub failures: Vec<Failure>,
    /// Read capacity units consumed.
    pub read_units: f64,
    /// Write capacity units consumed.
    pub write_units: f64,
    /// KMS requests made.
    pub kms_requests: u64,
}

/// Brings the table to the target: pass after pass until one rewrites nothing, resuming where the journal says.
///
/// # Errors
/// [`RunError`] when the run cannot go on; what was committed stays.
pub async fn run(
    ports: Ports,
    journal: Arc<dyn Journal>,
    policy: Arc<Policy>,
    mut settings: Settings,
    stop: &Stop,
) -> Result<Report, RunError> {
    if let Some(pass) = journal.pass().await? {
        // Cursors belong to the segments that they were made for, whatever the table's size is now.
        settings.segments = u32::try_from(pass.cursors.len()).unwrap_or(settings.segments);
    }
    let engine = Arc::new(Engine::new(ports, policy, settings));
    engine.load_failures(journal.as_ref()).await?;
    let mut passes: Vec<(u32, Tally)> = Vec::new();
    let ended = loop {
        let pass = match journal.pass().await? {
            Some(pass) if !pass.ended => pass,
            _ => journal.begin_pass(engine.settings.segments).await?,
        };
        let outcome = run_pass(&engine, &journal, &pass, stop).await?;
        let number = pass.number;
        let tally = journal.pass().await?.map_or(pass.tally, |pass| pass.tally);
        passes.push((number, tally));
        if let Some(ended) = outcome {
            break ended;
        }
        journal.end_pass().await?;
        engine.tell(&Event::PassEnded { pass: number, tally });
        engine.load_failures(journal.as_ref()).await?;
        if tally.rewritten == 0 {
            let forgotten = tokio::select! {
                biased;
                forgotten = forget_gone(&engine, journal.as_ref()) => forgotten.map(|()| Ended::Complete),
                () = given_up(&engine, &stop.gently, stop) => Ok(Ended::Interrupted { dropped: Vec::new() }),
            };
            break forgotten?;
        }
        if passes.len() >= engine.settings.max_passes as usize {
            break Ended::StillFoundWork;
        }
    };
    report(&engine, journal.as_ref(), ended, passes).await
}

/// Brings single items to the target, by their keys. Only the failure ledger is touched; no pass is.
///
/// # Errors
/// [`RunError`] when the run cannot go on.
pub async fn run_keys(
    ports: Ports,
    journal: Arc<dyn Journal>,
    policy: Arc<Policy>,
    settings: Settings,
    keys: &[Key],
    stop: &Stop,
) -> Result<Report, RunError> {
    let engine = Arc::new(Engine::new(ports, policy, settings));
    engine.load_failures(journal.as_ref()).await?;
    let mut sum = Tally::default();
    // A key twice in one page would be a key twice in one batch, which the service rejects whole.
    let keys: Vec<&Key> = keys
        .iter()
        .map(|key| (key.to_string(), key))
        .collect::<std::collections::BTreeMap<_, _>>()
        .into_values()
        .collect();
    let mut ended = Ended::Complete;
    for chunk in keys.chunks(KEYS_PER_PAGE) {
        if stop.gently.is_cancelled() || stop.at_once.is_cancelled() {
            ended = Ended::Interrupted { dropped: Vec::new() };
            break;
        }
        let (tally, cut) = tokio::select! {
            biased;
            done = work_on_keys(&engine, journal.as_ref(), chunk) => done?,
            () = given_up(&engine, &stop.gently, stop) => {
                ended = Ended::Interrupted { dropped: Vec::new() };
                break;
            }
        };
        sum += tally;
        if cut {
            ended = Ended::Limit;
            break;
        }
    }
    report(&engine, journal.as_ref(), ended, vec![(0, sum)]).await
}

/// Items of a `--keys` file that are done together.
const KEYS_PER_PAGE: usize = 100;

/// Works on some keys; gives back their tally, and whether the limit on rewrites cut it short.
async fn work_on_keys(engine: &Arc<Engine>, journal: &dyn Journal, keys: &[&Key]) -> Result<(Tally, bool), RunError> {
    let drift = engine.drift();
    let (mut items, mut gone) = (Vec::new(), Vec::new());
    for key in keys {
        match engine.read_one(key).await? {
            Some(item) => items.push(item),
            None => gone.push((*key).clone()),
        }
    }
    let PageDone { mut tally, failures, mut done, cut, .. } =
        page::process(Arc::clone(engine), Seen { items, drift }).await?;
    tally += Tally { scanned: gone.len() as u64, superseded: gone.len() as u64, ..Tally::default() };
    done.extend(gone);
    journal.record(&failures, &done).await?;
    engine.page_done(None, tally);
    Ok((tally, cut))
}

/// Works on one pass to its end, or until something stops it: `None` means that every lane is done.
async fn run_pass(
    engine: &Arc<Engine>,
    journal: &Arc<dyn Journal>,
    pass: &Pass,
    stop: &Stop,
) -> Result<Option<Ended>, RunError> {
    let resumed = pass.cursors.iter().any(|cursor| *cursor != Cursor::Start);
    engine.tell(&Event::PassBegan { pass: pass.number, segments: engine.settings.segments, resumed });
    let busy = Arc::new(Mutex::new(BTreeSet::new()));
    // Lanes stop when the operator says so, or when one of them reaches the limit.
    let gently = stop.gently.child_token();
    let mut lanes = JoinSet::new();
    for (segment, cursor) in (0..).zip(pass.cursors.clone()) {
        busy.lock().unwrap_or_else(PoisonError::into_inner).insert(segment);
        let (engine, journal, busy, gently) =
            (Arc::clone(engine), Arc::clone(journal), Arc::clone(&busy), gently.clone());
        lanes.spawn(async move {
            let cut = run_lane(&engine, journal.as_ref(), segment, cursor, &gently).await?;
            busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&segment);
            Ok::<_, RunError>(cut)
        });
    }
    let given_up = given_up(engine, &gently, stop);
    tokio::pin!(given_up);
    let mut cut = false;
    loop {
        tokio::select! {
            biased;
            lane = lanes.join_next() => match lane {
                Some(lane) => cut |= lane.map_err(|_| Panicked)??,
                None => break,
            },
            () = &mut given_up => break,
        }
    }
    // Dropping the set aborts the lanes that are left, and they their pages.
    let dropped: Vec<u32> = busy.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
    lanes.shutdown().await;
    if stop.gently.is_cancelled() || stop.at_once.is_cancelled() || !dropped.is_empty() {
        return Ok(Some(Ended::Interrupted { dropped }));
    }
    Ok(cut.then_some(Ended::Limit))
}

/// Waits until what is in flight is no longer waited for: a stop at once, or the drain deadline after a gentle one.
async fn given_up(engine: &Engine, gently: &CancellationToken, stop: &Stop) {
    let deadline = async {
        gently.cancelled().await;
        tokio::time::sleep(engine.settings.drain).await;
    };
    tokio::select! {
        biased;
        () = deadline => {}
        () = stop.at_once.cancelled() => {}
    }
}

/// One lane of a pass, every page committed in order. Says whether it was cut by the limit on rewrites.
async fn run_lane(
    engine: &Arc<Engine>,
    journal: &dyn Journal,
    segment: u32,
    from: Cursor,
    stop: &CancellationToken,
) -> Result<bool, RunError> {
    let (mut durable, mut lane_cut) = (from.clone(), false);
    let mut pages = lane::work(engine, segment, from, |engine, seen| Box::pin(page::process(engine, seen)), stop);
    while let Some(page) = pages.next().await {
        let (PageDone { tally, failures, done, cut, .. }, cursor) = page?;
        if cut {
            // Pages that were begun after this one are finished and counted; the cursor stays before this one.
            lane_cut = true;
            stop.cancel();
        }
        if !lane_cut {
            durable = cursor;
        }
        journal.commit(Commit { segment, cursor: durable.clone(), tally, failures, done }).await?;
        engine.page_done(Some(segment), tally);
    }
    Ok(lane_cut)
}

/// Closes ledger entries of items that no longer exist: no scan will ever see them done.
async fn forget_gone(engine: &Engine, journal: &dyn Journal) -> Result<(), RunError> {
    let mut gone = Vec::new();
    for failure in journal.open_failures().await? {
        if engine.read_one(&failure.key).await?.is_none() {
            gone.push(failure.key);
        }
    }
    if !gone.is_empty() {
        journal.record(&[], &gone).await?;
    }
    Ok(())
}

async fn report(
    engine: &Engine,
    journal: &dyn Journal,
    ended: Ended,
    passes: Vec<(u32, Tally)>,
) -> Result<Report, RunError> {
    Ok(Report {
        ended,
        passes,
        failures: journal.open_failures().await?,
        read_units: engine.read.consumed(),
        write_units: engine.write.consumed(),
        kms_requests: engine.kms_count.load(std::sync::atomic::Ordering::Relaxed),
    })
}
