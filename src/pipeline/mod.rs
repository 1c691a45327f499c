//! The engine: the only place with tasks. It reads pages, has them brought to the target, and remembers how far it is.
//!
//! Four bounds and no queues keep it within its means: pages in flight per lane, pages in memory, budgets of capacity
//! units and key requests, and requests in flight per page.

mod batch;
mod engine;
mod event;
mod health;
mod keys;
mod lane;
mod mend;
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
#[cfg(any(test, feature = "testing"))]
pub(crate) use keys::DENIALS_AT_FIRST;
pub use pool::{Panicked, Pool};
pub use tail::{Drained, Follow, TailReport, Until};
pub use throttle::{Taken, Throttle};
pub use verify::{Finding, Verification, verify};

use self::engine::Engine;
use self::lane::Seen;
use self::page::PageDone;
use self::tail::Tail;
use crate::item::Key;
use crate::migration::{Failure, Policy, Rewrite, Tally};
use crate::store::{Commit, Cursor, Journal, Pass, Via};

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
    /// The last pass rewrote nothing; or, with the stream, everything that was written until its last page was read is
    /// done.
    Complete,
    /// The last pass allowed still found work: everything written before it began is at target.
    StillFoundWork,
    /// As many items as allowed were rewritten.
    Limit,
    /// Told to stop following the stream, which has no end of its own.
    Stopped,
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
    /// What following the stream came to, if it was followed.
    pub tail: Option<TailReport>,
    /// The open entries of the failure ledger.
    pub failures: Vec<Failure>,
    /// Read capacity units consumed.
    pub read_units: f64,
    /// Write capacity units consumed.
    pub write_units: f64,
    /// KMS requests made.
    pub kms_requests: u64,
}

/// Brings the table to the target, resuming where the journal says: pass after pass until one rewrites nothing. With the
/// stream one pass is enough, and what applications write meanwhile is brought to the target as well (rule C).
///
/// # Errors
/// [`RunError`] when the run cannot go on; what was committed stays.
pub async fn run(
    ports: Ports,
    follow: Option<Follow>,
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
    let Some(follow) = follow else {
        let ended = scan_to_the_end(&engine, &journal, stop, &mut passes).await?;
        return report(&engine, journal.as_ref(), ended, passes, None).await;
    };
    let work = async |tail: &Tail, stop: &Stop| {
        let ended = scan_and_drain(&engine, &journal, tail, stop, &mut passes).await?;
        if ended == Ended::Complete && follow.until == Until::Stopped {
            engine.tell(&Event::Complete);
            tail.gently.cancelled().await;
        }
        Ok(ended)
    };
    let (ended, tail) = beside_the_tail(&engine, &follow, &journal, work, stop).await?;
    report(&engine, journal.as_ref(), ended, passes, tail).await
}

/// Brings what applications write to the target, from where the journal says, without looking at the rest of the table.
///
/// # Errors
/// [`RunError`] when it cannot go on; what was committed stays.
pub async fn tail(
    ports: Ports,
    follow: Follow,
    journal: Arc<dyn Journal>,
    policy: Arc<Policy>,
    settings: Settings,
    stop: &Stop,
) -> Result<Report, RunError> {
    let engine = Arc::new(Engine::new(ports, policy, settings));
    engine.load_failures(journal.as_ref()).await?;
    let work = async |tail: &Tail, _: &Stop| match follow.until {
        Until::Drained if tail.drained().await? => Ok(Ended::Complete),
        until => {
            tail.gently.cancelled().await;
            Ok(match until {
                _ if tail.limited().await => Ended::Limit,
                Until::Stopped => Ended::Stopped,
                Until::Drained => INTERRUPTED,
            })
        }
    };
    let (ended, tail) = beside_the_tail(&engine, &follow, &journal, work, stop).await?;
    report(&engine, journal.as_ref(), ended, Vec::new(), tail).await
}

/// Proves that the service honours conditions, as every run does before its first write (rule P): on the first of these
/// items, given by key and size in bytes, that is still there. Nothing is written. `None` when all of them are gone.
///
/// # Errors
/// [`RunError::Ground`] when it does not honour them, another when the table cannot be used.
pub async fn prove_ground(
    ports: Ports,
    policy: Arc<Policy>,
    settings: Settings,
    items: &[(Key, usize)],
) -> Result<Option<Via>, RunError> {
    let untouched = |(key, bytes): &(Key, usize)| Rewrite {
        key: key.clone(),
        set: Vec::new(),
        remove: Vec::new(),
        condition: Vec::new(),
        bytes: *bytes,
    };
    let items: Vec<Rewrite> = items.iter().map(untouched).collect();
    Engine::new(ports, policy, settings).ground(&items).await
}

/// Follows the stream while something is worked on, and no longer.
async fn beside_the_tail(
    engine: &Arc<Engine>,
    follow: &Follow,
    journal: &Arc<dyn Journal>,
    work: impl AsyncFnOnce(&Tail, &Stop) -> Result<Ended, RunError>,
    stop: &Stop,
) -> Result<(Ended, Option<TailReport>), RunError> {
    // Both stop when the operator says so, and when one of them reaches the limit.
    let gently = stop.gently.child_token();
    let tail = tokio::select! {
        biased;
        tail = Tail::begin(engine, follow, journal, gently.clone()) => tail?,
        () = given_up(engine, &gently, stop) => return Ok((INTERRUPTED, None)),
    };
    let stop = Stop { gently: gently.clone(), at_once: stop.at_once.clone() };
    let (mut ended, mut following) = (None, true);
    {
        let (work, follow, given_up) =
            (work(&tail, &stop), tail.follow(follow.until), given_up(engine, &gently, &stop));
        tokio::pin!(work, follow, given_up);
        while ended.is_none() || following {
            tokio::select! {
                biased;
                done = &mut work, if ended.is_none() => ended = Some(done?),
                followed = &mut follow, if following => {
                    followed?;
                    following = false;
                }
                () = &mut given_up => break,
            }
            // Neither goes on without the other.
            gently.cancel();
        }
    }
    // A batch in flight was dropped.
    let ended = ended.filter(|ended| !following || *ended != Ended::Stopped);
    Ok((ended.unwrap_or(INTERRUPTED), Some(tail.report().await)))
}

/// Scans the table until a pass rewrites nothing.
async fn scan_to_the_end(
    engine: &Arc<Engine>,
    journal: &Arc<dyn Journal>,
    stop: &Stop,
    passes: &mut Vec<(u32, Tally)>,
) -> Result<Ended, RunError> {
    let own = first_own_pass(engine, journal.as_ref()).await?;
    loop {
        let pass = match journal.pass().await? {
            Some(pass) if !pass.ended => pass,
            _ => journal.begin_pass(engine.settings.segments).await?,
        };
        if let Some(ended) = whole_pass(engine, journal, &pass, stop, passes).await? {
            return Ok(ended);
        }
        if passes.last().is_some_and(|(number, tally)| tally.rewritten == 0 && *number >= own) {
            return tokio::select! {
                biased;
                forgotten = forget_gone(engine, journal.as_ref()) => forgotten.map(|()| Ended::Complete),
                () = given_up(engine, &stop.gently, stop) => Ok(INTERRUPTED),
            };
        }
        if passes.len() >= engine.settings.max_passes as usize {
            return Ok(Ended::StillFoundWork);
        }
    }
}

/// The first pass whose word counts for this process: any; but what the target's keyring knows to be old now may have been
/// current when an earlier process looked.
async fn first_own_pass(engine: &Engine, journal: &dyn Journal) -> Result<u32, RunError> {
    Ok(if engine.looks_deeper() { journal.pass().await?.map_or(0, |pass| pass.number + 1) } else { 0 })
}

/// Scans the table once, and again for what the stream lost; then waits until the stream is drained to the moment after
/// that (rules C and G).
async fn scan_and_drain(
    engine: &Arc<Engine>,
    journal: &Arc<dyn Journal>,
    tail: &Tail,
    stop: &Stop,
    passes: &mut Vec<(u32, Tally)>,
) -> Result<Ended, RunError> {
    let stopped = async || if tail.limited().await { Ended::Limit } else { INTERRUPTED };
    let own = first_own_pass(engine, journal.as_ref()).await?;
    loop {
        let wanted = tail.pass_wanted().await;
        let latest = journal.pass().await?;
        if latest.as_ref().is_none_or(|pass| pass.number < wanted.max(own) || !pass.ended) {
            if passes.len() >= engine.settings.max_passes as usize {
                return Ok(Ended::StillFoundWork);
            }
            let pass = match latest {
                Some(pass) if pass.number >= wanted && !pass.ended => pass,
                // What an earlier pass has seen may have changed since, before the stream was followed.
                _ => {
                    tail.look_around().await;
                    journal.begin_pass(engine.settings.segments).await?
                }
            };
            tail.pass_began(pass.number).await;
            match whole_pass(engine, journal, &pass, stop, passes).await? {
                Some(Ended::Interrupted { dropped }) if dropped.is_empty() => return Ok(stopped().await),
                Some(ended) => return Ok(ended),
                None => tail.pass_ended(pass.number).await?,
            }
        } else if !tail.drained().await? {
            return Ok(stopped().await);
        } else if tail.pass_wanted().await <= wanted {
            tail.demand_enabled().await?;
            // What failed while others changed it may be done by now.
            let keys: Vec<Key> = journal.open_failures().await?.into_iter().map(|failure| failure.key).collect();
            let (ended, _) = by_keys(engine, journal.as_ref(), &keys.iter().collect::<Vec<_>>(), stop).await?;
            return Ok(ended);
        }
    }
}

/// Works on a pass to its end, which is durable then; or until something stops it.
async fn whole_pass(
    engine: &Arc<Engine>,
    journal: &Arc<dyn Journal>,
    pass: &Pass,
    stop: &Stop,
    passes: &mut Vec<(u32, Tally)>,
) -> Result<Option<Ended>, RunError> {
    let outcome = run_pass(engine, journal, pass, stop).await?;
    let tally = journal.pass().await?.map_or(pass.tally, |pass| pass.tally);
    passes.push((pass.number, tally));
    if outcome.is_none() {
        journal.end_pass().await?;
        engine.tell(&Event::PassEnded { pass: pass.number, tally });
    }
    Ok(outcome)
}

/// Brings items to the target by their keys. Says how that ended, and what became of them.
async fn by_keys(
    engine: &Arc<Engine>,
    journal: &dyn Journal,
    keys: &[&Key],
    stop: &Stop,
) -> Result<(Ended, Tally), RunError> {
    let mut sum = Tally::default();
    for chunk in keys.chunks(KEYS_PER_PAGE) {
        if stop.gently.is_cancelled() || stop.at_once.is_cancelled() {
            return Ok((INTERRUPTED, sum));
        }
        let (tally, cut) = tokio::select! {
            biased;
            done = work_on_keys(engine, journal, chunk) => done?,
            () = given_up(engine, &stop.gently, stop) => return Ok((INTERRUPTED, sum)),
        };
        sum += tally;
        if cut {
            return Ok((Ended::Limit, sum));
        }
    }
    Ok((Ended::Complete, sum))
}

/// Stopped before the end, with no segment at work.
const INTERRUPTED: Ended = Ended::Interrupted { dropped: Vec::new() };

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
    // A key twice in one page would be a key twice in one batch, which the service rejects whole.
    let keys: Vec<&Key> = keys
        .iter()
        .map(|key| (key.to_string(), key))
        .collect::<std::collections::BTreeMap<_, _>>()
        .into_values()
        .collect();
    let (ended, sum) = by_keys(&engine, journal.as_ref(), &keys, stop).await?;
    report(&engine, journal.as_ref(), ended, vec![(0, sum)], None).await
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
    let PageDone { mut tally, failures, mut done, seen, cut, .. } =
        page::process(Arc::clone(engine), Seen { items, drift }).await?;
    tally += Tally { scanned: gone.len() as u64, superseded: gone.len() as u64, ..Tally::default() };
    done.extend(gone);
    let done = engine.record(&failures, done, seen);
    journal.record(&failures, &done).await?;
    engine.page_done(None, None, tally);
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
        let (PageDone { tally, failures, done, seen, cut, .. }, cursor) = page?;
        if cut {
            // Pages that were begun after this one are finished and counted; the cursor stays before this one.
            lane_cut = true;
            stop.cancel();
        }
        if !lane_cut {
            durable = cursor;
        }
        let done = engine.record(&failures, done, seen);
        journal.commit(Commit { segment, cursor: durable.clone(), tally, failures, done }).await?;
        engine.page_done(Some(segment), None, tally);
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
    tail: Option<TailReport>,
) -> Result<Report, RunError> {
    Ok(Report {
        ended,
        passes,
        tail,
        failures: journal.open_failures().await?,
        read_units: engine.read.consumed(),
        write_units: engine.write.consumed(),
        kms_requests: engine.kms_count.load(std::sync::atomic::Ordering::Relaxed),
    })
}
