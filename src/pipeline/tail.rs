//! The tail: what applications write meanwhile, read from the table's stream and brought to the target.
//!
//! Each shard has a lane of its own that works on one batch at a time: its records are brought to the target or into the
//! ledger, then the shard's position moves, in the same transaction as the ledger (rule A).
//!
//! No command uses it yet: a gap is recorded and told, and does not yet lead to another pass; beside a run it keeps budgets
//! of its own; and nothing is repaired.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::engine::{Drift, Engine, Ports, RunError, Settings};
use super::event::Event;
use super::mend::mend;
use super::page::PageDone;
use super::pool::Panicked;
use super::records::{self, BatchDone};
use super::retry::Tries;
use super::throttle::Throttle;
use super::{Stop, given_up};
use crate::item::Key;
use crate::migration::{Exposure, Failure, Gap, Lineage, Listed, Place, Policy, Tally, Way};
use crate::store::{Checkpoint, Journal, Listing, Record, Records, Shards, ShardsError, Start, StoreClass, StoreError};

/// `GetRecords` calls per second and shard (developer guide, "Service quotas").
const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).expect("five is not zero");
/// The pause between calls while records come, and the longest while none come.
const POLL_FAST: Duration = Duration::from_millis(200);
const POLL_IDLE: Duration = Duration::from_secs(2);
/// How often the shards are listed at least, and at most.
const LIST_EVERY: Duration = Duration::from_secs(10);
const LIST_PAUSE: Duration = Duration::from_secs(1);
/// Empty answers in a row, and the time from the first to the last of them, after which a shard is quiet (rule G).
const QUIET_ANSWERS: usize = 10;
const QUIET_TIME: Duration = Duration::from_secs(30);

/// How long the tail goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until everything that was written before it was called is done (rule G).
    Drained,
    /// Until the operator stops it.
    Stopped,
}

/// What a tail did.
#[derive(Debug, Clone, PartialEq)]
pub struct TailReport {
    /// How it is known of each shard that it is drained; `None` when the tail ended before.
    pub drained: Option<Vec<(String, Way)>>,
    /// Whether it ended because no more items may be rewritten.
    pub limit: bool,
    /// Records read and not older than the start.
    pub records: u64,
    /// What became of their items: each once per batch.
    pub tally: Tally,
    /// How long items lay in plaintext, as far as the service told its time.
    pub exposure: Exposure,
    /// What was lost and not yet scanned again, by shard: also by earlier tails.
    pub gaps: Vec<(String, Gap)>,
    /// The open entries of the failure ledger.
    pub failures: Vec<Failure>,
    /// Read capacity units consumed.
    pub read_units: f64,
    /// Write capacity units consumed.
    pub write_units: f64,
    /// KMS requests made.
    pub kms_requests: u64,
}

/// Brings what applications write to the target, from where the journal says, or from the start that it records (rule
/// C). Before a run's first page, this must have begun.
///
/// # Errors
/// [`RunError`] when it cannot go on; what was committed stays.
pub async fn tail(
    ports: Ports,
    shards: Arc<dyn Shards>,
    journal: Arc<dyn Journal>,
    policy: Arc<Policy>,
    settings: Settings,
    until: Until,
    stop: &Stop,
) -> Result<TailReport, RunError> {
    let engine = Arc::new(Engine::new(ports, policy, settings));
    engine.load_failures(journal.as_ref()).await?;
    let tail = Arc::new(Tail {
        engine,
        shards,
        journal,
        lineage: Mutex::new(Lineage::begin(&[], true, None)),
        sum: Mutex::default(),
        now: AtomicU64::new(0),
        progress: Notify::new(),
        // Lanes stop when the operator says so, when all is drained, or when one of them reaches the limit.
        gently: stop.gently.child_token(),
    });
    let begun = tokio::select! {
        biased;
        begun = tail.begin() => begun?,
        () = given_up(&tail.engine, &stop.gently, stop) => return tail.report(None).await,
    };
    let moment = match (until, begun) {
        (Until::Stopped, _) => None,
        (Until::Drained, Some(moment)) => Some(moment),
        (Until::Drained, None) => return Err(no_time().into()),
    };
    let mut lanes = JoinSet::new();
    let drained = {
        let given_up = given_up(&tail.engine, &tail.gently, stop);
        tokio::pin!(given_up);
        tokio::select! {
            biased;
            drained = follow(&tail, &mut lanes, moment) => drained?,
            () = &mut given_up => None,
        }
    };
    lanes.shutdown().await;
    tail.report(drained).await
}

/// Reads shards as they come and go, until all is drained or everything was told to stop; every lane has ended then.
async fn follow(
    tail: &Arc<Tail>,
    lanes: &mut JoinSet<(String, Result<(), RunError>)>,
    moment: Option<u64>,
) -> Result<Option<Vec<(String, Way)>>, RunError> {
    let (mut reading, mut drained) = (BTreeSet::new(), None);
    let mut listed = Instant::now();
    let mut next_listing = listed + LIST_EVERY;
    while !tail.gently.is_cancelled() {
        let lineage = tail.lineage.lock().await;
        drained = moment
            .and_then(|moment| lineage.drained_to(moment))
            .map(|ways| ways.into_iter().map(|(id, way)| (id.to_owned(), way)).collect());
        if drained.is_some() {
            tail.gently.cancel();
            break;
        }
        for id in lineage.readable().filter(|id| !reading.contains(*id)).map(str::to_owned).collect::<Vec<_>>() {
            reading.insert(id.clone());
            let tail = Arc::clone(tail);
            lanes.spawn(async move {
                let result = run_shard(&tail, &id).await;
                (id, result)
            });
        }
        drop(lineage);
        tokio::select! {
            biased;
            () = tail.gently.cancelled() => break,
            Some(lane) = lanes.join_next() => {
                let (id, result) = lane.map_err(|_| Panicked)?;
                result?;
                reading.remove(&id);
                // What continues it is there by now.
                next_listing = next_listing.min(listed + LIST_PAUSE);
            }
            () = tail.progress.notified(), if moment.is_some() => {}
            () = tokio::time::sleep_until(next_listing) => {
                tail.list().await?;
                listed = Instant::now();
                next_listing = listed + LIST_EVERY;
            }
        }
    }
    while let Some(lane) = lanes.join_next().await {
        lane.map_err(|_| Panicked)?.1?;
    }
    Ok(drained)
}

/// Reads a shard to its end, or until the tail stops.
async fn run_shard(tail: &Tail, id: &str) -> Result<(), RunError> {
    let engine = &tail.engine;
    let throttle = Throttle::per_second(Some(CALLS_PER_SECOND));
    let (mut iterator, mut tries, mut pace, mut quiet) = (None, Tries::default(), POLL_FAST, Quiet::default());
    loop {
        let token = match iterator.take() {
            Some(token) => token,
            None => match tail.iterator(id, &throttle, &mut tries).await? {
                Some(token) => token,
                None => return Ok(()),
            },
        };
        throttle.settle(throttle.acquire(1.0).await, None);
        let memory = Arc::clone(&engine.memory).acquire_owned().await.expect("the semaphore is never closed");
        if tail.gently.is_cancelled() {
            return Ok(());
        }
        let asked = (Instant::now(), tail.now());
        let drift = engine.drift();
        match tail.shards.records(&token).await {
            Ok(records) => {
                throttle.satisfied();
                tries = Tries::default();
                tail.heard(records.at);
                let since = quiet.answered(records.records.is_empty(), asked);
                pace = if records.records.is_empty() { (pace * 2).min(POLL_IDLE) } else { POLL_FAST };
                iterator.clone_from(&records.next);
                let ended = records.next.is_none();
                if !tail.work(id, records, since, drift).await? || ended {
                    return Ok(());
                }
            }
            // A new one, after the last record that is done.
            Err(ShardsError::Expired(_)) => {}
            Err(ShardsError::Trimmed(_)) => tail.lost(|lineage, now| lineage.trimmed(id, now)).await?,
            Err(ShardsError::Gone(_)) => return tail.lost(|lineage, now| lineage.gone(id, now)).await,
            Err(ShardsError::Store(error)) => {
                tail.again(error, &throttle, &mut tries).await?;
                iterator = Some(token);
            }
        }
        drop(memory);
        tokio::select! {
            biased;
            () = tail.gently.cancelled() => return Ok(()),
            () = tokio::time::sleep_until(asked.0 + pace) => {}
        }
    }
}

/// Shared by the lanes of a tail.
struct Tail {
    engine: Arc<Engine>,
    shards: Arc<dyn Shards>,
    journal: Arc<dyn Journal>,
    /// Locked while a change of it becomes durable: nobody makes another one's change durable without its ledger.
    lineage: Mutex<Lineage>,
    sum: Mutex<Sum>,
    /// The second of the service's latest answer; 0 before the first.
    now: AtomicU64,
    /// Something was done that may have drained the stream.
    progress: Notify,
    gently: CancellationToken,
}

#[derive(Debug, Default)]
struct Sum {
    records: u64,
    tally: Tally,
    exposure: Exposure,
    limit: bool,
}

impl Tail {
    /// Lists the shards and makes the start durable, unless there was one. Gives back the second of the listing.
    async fn begin(&self) -> Result<Option<u64>, RunError> {
        let remembered = self.journal.lineage().await?;
        let (listing, enabled, at) = self.listing().await?;
        let mut lineage = match remembered {
            None => Lineage::begin(&listing, enabled, at),
            Some(rows) => {
                let mut lineage = Lineage::restore(rows);
                lineage.observe(&listing, enabled, at);
                lineage
            }
        };
        self.checkpoint(&mut lineage, Vec::new(), Vec::new()).await?;
        *self.lineage.lock().await = lineage;
        mend(&self.engine, self.shards.as_ref(), self.journal.as_ref()).await?;
        Ok(at)
    }

    async fn list(&self) -> Result<(), RunError> {
        let (listing, enabled, at) = self.listing().await?;
        self.lost(|lineage, _| lineage.observe(&listing, enabled, at)).await
    }

    /// All pages of a listing, whether the stream is enabled, and the second of the first answer.
    async fn listing(&self) -> Result<(Vec<Listed>, bool, Option<u64>), RunError> {
        let throttle = Throttle::per_second(None);
        let (mut tries, mut shards, mut after, mut first) = (Tries::default(), Vec::new(), None::<String>, None);
        loop {
            throttle.settle(throttle.acquire(1.0).await, None);
            match self.shards.list(after.as_deref()).await {
                Ok(Listing { shards: page, next, enabled, at }) => {
                    self.heard(at);
                    let at = *first.get_or_insert_with(|| second(at));
                    shards.extend(page);
                    match next {
                        Some(next) => after = Some(next),
                        None => return Ok((shards, enabled, at)),
                    }
                }
                Err(ShardsError::Store(error)) => self.again(error, &throttle, &mut tries).await?,
                Err(ShardsError::Expired(error) | ShardsError::Trimmed(error) | ShardsError::Gone(error)) => {
                    return Err(error.into());
                }
            }
        }
    }

    /// An iterator to go on with; `None` when there is nothing more to read.
    async fn iterator(&self, id: &str, throttle: &Throttle, tries: &mut Tries) -> Result<Option<String>, RunError> {
        loop {
            let mut place = Place::Gone;
            // If it was not read for too long, that is durable before it goes on without what was lost.
            self.lost(|lineage, now| place = lineage.open(id, now)).await?;
            let start = match place {
                Place::NotStarted => Start::TrimHorizon,
                Place::After(sequence) => Start::After(sequence),
                Place::Drained | Place::Gone => return Ok(None),
            };
            match self.shards.iterator(id, &start).await {
                Ok(iterator) => return Ok(Some(iterator)),
                Err(ShardsError::Trimmed(_)) => self.lost(|lineage, now| lineage.trimmed(id, now)).await?,
                Err(ShardsError::Gone(_)) => self.lost(|lineage, now| lineage.gone(id, now)).await?,
                Err(ShardsError::Expired(error) | ShardsError::Store(error)) => {
                    self.again(error, throttle, tries).await?;
                }
            }
        }
    }

    /// Works on a batch and makes it durable. Says whether the lane may go on.
    async fn work(&self, id: &str, records: Records, quiet: Option<u64>, drift: Drift) -> Result<bool, RunError> {
        let Records { records, next, .. } = records;
        let last = records.last().map(|record| (record.sequence.clone(), second(record.created)));
        let records = {
            let lineage = self.lineage.lock().await;
            let fresh = |record: &Record| !lineage.is_before_start(second(record.created));
            records.into_iter().filter(fresh).collect::<Vec<_>>()
        };
        let count = records.len() as u64;
        let BatchDone { page, exposed } = records::process(&self.engine, id, records, drift).await?;
        let PageDone { tally, failures, done, cut, .. } = page;
        let mut lineage = self.lineage.lock().await;
        // A batch that was cut is read again: the position stays before it.
        if !cut {
            if let Some((sequence, created)) = &last {
                lineage.done(id, sequence, *created);
            }
            if next.is_none() {
                lineage.drained(id);
            }
            if quiet.is_some() {
                lineage.quiet(id, quiet);
            }
        }
        self.checkpoint(&mut lineage, failures, done).await?;
        drop(lineage);
        let mut sum = self.sum.lock().await;
        sum.records += count;
        sum.tally += tally;
        for since in exposed {
            if let (Some(since), Some(now)) = (second(Some(since)), self.now()) {
                sum.exposure.add(since, now);
            }
        }
        sum.limit |= cut;
        drop(sum);
        if count > 0 {
            self.engine.page_done(None, tally);
        }
        self.progress.notify_one();
        if cut {
            self.gently.cancel();
        }
        Ok(!cut)
    }

    /// Makes durable what has changed, with the ledger.
    async fn checkpoint(&self, lineage: &mut Lineage, failures: Vec<Failure>, done: Vec<Key>) -> Result<(), RunError> {
        match lineage.changes() {
            Some(lineage) => {
                let (failed, closed) = (failures.iter().map(|of| of.key.clone()).collect::<Vec<_>>(), done.clone());
                self.journal.checkpoint(Checkpoint { lineage, failures, done }).await?;
                let mut open = self.engine.failures();
                open.extend(failed);
                open.retain(|key| !closed.contains(key));
            }
            None if failures.is_empty() && done.is_empty() => {}
            None => self.journal.record(&failures, &done).await?,
        }
        Ok(())
    }

    /// Has the lineage take notice of something that may be a loss, makes it durable, and tells of what was lost.
    async fn lost(&self, notice: impl FnOnce(&mut Lineage, Option<u64>)) -> Result<(), RunError> {
        let mut lineage = self.lineage.lock().await;
        let before: BTreeMap<String, Gap> = lineage.gaps().map(|(id, gap)| (id.to_owned(), gap)).collect();
        notice(&mut lineage, self.now());
        self.checkpoint(&mut lineage, Vec::new(), Vec::new()).await?;
        for (id, gap) in lineage.gaps().filter(|(id, gap)| before.get(*id) != Some(gap)) {
            self.engine.tell(&Event::Gap { shard: id.to_owned(), from: gap.from, to: gap.to });
        }
        drop(lineage);
        self.progress.notify_one();
        Ok(())
    }

    /// The service told its time.
    fn heard(&self, at: Option<SystemTime>) {
        self.now.fetch_max(second(at).unwrap_or(0), Ordering::AcqRel);
    }

    /// The latest second that the service told.
    fn now(&self) -> Option<u64> {
        Some(self.now.load(Ordering::Acquire)).filter(|now| *now > 0)
    }

    /// Waits as an error asks for, or gives up.
    async fn again(&self, error: StoreError, throttle: &Throttle, tries: &mut Tries) -> Result<(), RunError> {
        match &error.class {
            StoreClass::Throttled { reason } => self.engine.slow_down(throttle, tries, reason),
            StoreClass::Conflict | StoreClass::Unknown if self.engine.silent(tries).await => {}
            StoreClass::Credentials => self.engine.hold(tries, &error.to_string()).await,
            _ => return Err(error.into()),
        }
        Ok(())
    }

    async fn report(&self, drained: Option<Vec<(String, Way)>>) -> Result<TailReport, RunError> {
        let sum = self.sum.lock().await;
        Ok(TailReport {
            drained,
            limit: sum.limit,
            records: sum.records,
            tally: sum.tally,
            exposure: sum.exposure.clone(),
            gaps: self.lineage.lock().await.gaps().map(|(id, gap)| (id.to_owned(), gap)).collect(),
            failures: self.journal.open_failures().await?,
            read_units: self.engine.read.consumed(),
            write_units: self.engine.write.consumed(),
            kms_requests: self.engine.kms_count.load(Ordering::Relaxed),
        })
    }
}

/// The empty answers of a shard since the last that was not: when each was asked for, and the service's second then.
#[derive(Debug, Default)]
struct Quiet(VecDeque<(Instant, Option<u64>)>);

impl Quiet {
    /// Since which second the shard is quiet, if it is.
    fn answered(&mut self, empty: bool, asked: (Instant, Option<u64>)) -> Option<u64> {
        if !empty {
            self.0.clear();
            return None;
        }
        self.0.push_back(asked);
        let long = |first: Option<&(Instant, Option<u64>)>| {
            first.is_some_and(|(first, _)| asked.0.duration_since(*first) >= QUIET_TIME)
        };
        while self.0.len() > QUIET_ANSWERS && long(self.0.get(1)) {
            self.0.pop_front();
        }
        self.0.front().filter(|first| self.0.len() >= QUIET_ANSWERS && long(Some(first)))?.1
    }
}

/// A time of the service in whole seconds.
fn second(time: Option<SystemTime>) -> Option<u64> {
    Some(time?.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
}

fn no_time() -> StoreError {
    StoreError {
        operation: "DescribeStream",
        class: StoreClass::Fatal,
        problem:
            "the answer has no date, and without the service's time nobody can say what is drained; check any proxy \
                  in front of the service"
                .to_owned(),
    }
}
