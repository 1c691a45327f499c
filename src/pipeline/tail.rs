//! The tail: what applications write meanwhile, read from the table's stream and brought to the target.
//!
//! Each shard has a lane of its own that works on one batch at a time: its records are brought to the target or into the
//! ledger, then the shard's position moves, in the same transaction as the ledger (rule A).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::engine::{Drift, Engine, RunError};
use super::event::Event;
use super::health::Health;
use super::mend::mend;
use super::page::PageDone;
use super::pool::Panicked;
use super::records::{self, BatchDone};
use super::retry::Tries;
use super::throttle::Throttle;
use crate::item::Key;
use crate::migration::{Exposure, Failure, From, Gap, Lineage, Listed, Place, Tally, Way};
use crate::store::{Checkpoint, Journal, Listing, Record, Records, Shards, ShardsError, Start, StoreClass, StoreError};

/// `GetRecords` calls per second and shard (developer guide, "Service quotas").
pub(super) const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).expect("five is not zero");
/// The pause between calls while records come, and the longest while none come.
const POLL_FAST: Duration = Duration::from_millis(200);
const POLL_IDLE: Duration = Duration::from_secs(2);
/// How often the shards are listed at least, and at most.
const LIST_EVERY: Duration = Duration::from_secs(10);
const LIST_PAUSE: Duration = Duration::from_secs(1);
/// How long a pass waits at most for what else was lost.
const LOOK_AROUND: Duration = Duration::from_mins(1);
/// Empty answers in a row, and the time from the first to the last of them, after which a shard is quiet (rule G).
const QUIET_ANSWERS: usize = 10;
const QUIET_TIME: Duration = Duration::from_secs(30);

/// How long the stream is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until everything that was written before is done (rule G): before the last page of the scan was read, or, without
    /// a scan, before the start.
    Drained,
    /// Until the operator stops it.
    Stopped,
}

/// The table's stream, where it is read from if it never was before, and for how long it is followed.
#[derive(Clone)]
pub struct Follow {
    /// The stream.
    pub shards: Arc<dyn Shards>,
    /// Where it is read from if the journal knows of no stream.
    pub from: From,
    /// For how long.
    pub until: Until,
}

impl std::fmt::Debug for Follow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").field("from", &self.from).field("until", &self.until).finish_non_exhaustive()
    }
}

/// What following the stream came to.
#[derive(Debug, Clone, PartialEq)]
pub struct TailReport {
    /// The second of the start, as the service told it; `None` where it was the oldest record kept.
    pub start: Option<u64>,
    /// Whether a whole pass over the table has ended that began after the start, and after every loss was found.
    pub scanned: bool,
    /// To which moment the stream is drained; `None` when that was not waited for, or not reached.
    pub drained: Option<Drained>,
    /// Records read and not older than the start.
    pub records: u64,
    /// What became of their items: each once per batch.
    pub tally: Tally,
    /// How long items lay in plaintext, as far as the service told its time.
    pub exposure: Exposure,
    /// What was lost and not yet scanned again, by shard: also by earlier tails.
    pub gaps: Vec<(String, Gap)>,
}

/// Everything that was created until a moment is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    /// The second since 1970 of the service's time.
    pub to: u64,
    /// How that is known of each shard.
    pub ways: Vec<(String, Way)>,
}

/// A stream that is being followed.
pub(super) struct Tail {
    /// Served before the scan.
    engine: Arc<Engine>,
    shards: Arc<dyn Shards>,
    journal: Arc<dyn Journal>,
    /// Locked while a change of it becomes durable: nobody makes another one's change durable without its ledger.
    lineage: Mutex<Lineage>,
    sum: Mutex<Sum>,
    /// The service's clock, as it was told last.
    clock: std::sync::Mutex<Clock>,
    health: std::sync::Mutex<Health>,
    /// Something was done that may have drained the stream.
    progress: watch::Sender<()>,
    /// Lanes stop when the operator says so, when the work is done, or when one of them reaches the limit.
    pub(super) gently: CancellationToken,
}

#[derive(Debug, Default)]
struct Sum {
    records: u64,
    tally: Tally,
    exposure: Exposure,
    drained: Option<Drained>,
    limit: bool,
}

/// All pages of a listing.
struct Whole {
    shards: Vec<Listed>,
    /// Whether the stream is enabled.
    enabled: bool,
    /// The second of the first answer.
    at: Option<u64>,
}

impl Tail {
    /// Lists the shards and makes the start durable, unless there was one (rule C). Before a run's first page this must
    /// have returned.
    pub(super) async fn begin(
        engine: &Engine,
        follow: &Follow,
        journal: &Arc<dyn Journal>,
        gently: CancellationToken,
    ) -> Result<Arc<Self>, RunError> {
        let (engine, shards) = (Arc::new(engine.first()), Arc::clone(&follow.shards));
        let mut clock = Clock::default();
        let Whole { shards: listing, enabled, at } = list(&engine, shards.as_ref(), |at| clock.heard(at)).await?;
        let stream = shards.arn();
        let pass = journal.pass().await?;
        let number = pass.as_ref().map_or(0, |pass| pass.number);
        let remembered = journal.lineage().await?;
        let resumed = remembered.as_ref().is_some_and(|rows| rows.stream == stream);
        let mut lineage = match remembered {
            None => Lineage::begin(stream, follow.from, number, &listing, enabled, at),
            Some(rows) if !resumed => Lineage::replace(rows, stream, number, &listing, enabled, at),
            Some(rows) => {
                let mut lineage = Lineage::restore(rows, number);
                lineage.observe(&listing, enabled, at);
                lineage
            }
        };
        // It may have ended just before a crash.
        if pass.is_some_and(|pass| pass.ended) {
            lineage.pass_ended(number);
        }
        let (stream, start) = (stream.to_owned(), lineage.start());
        let tail = Arc::new(Self {
            engine,
            shards,
            journal: Arc::clone(journal),
            lineage: Mutex::new(lineage),
            sum: Mutex::default(),
            clock: std::sync::Mutex::new(clock),
            health: std::sync::Mutex::default(),
            progress: watch::Sender::new(()),
            gently,
        });
        let mut lineage = tail.lineage.lock().await;
        tail.checkpoint(&mut lineage, Vec::new(), Vec::new()).await?;
        for (id, gap) in lineage.gaps() {
            tail.tell_gap(id, gap);
        }
        drop(lineage);
        tail.engine.tell(&Event::Following { stream, start, resumed });
        mend(&tail.engine, tail.shards.as_ref(), journal.as_ref()).await?;
        Ok(tail)
    }

    /// Reads shards as they come and go, until everything was told to stop; every lane has ended then.
    pub(super) async fn follow(self: &Arc<Self>, until: Until) -> Result<(), RunError> {
        let (mut lanes, mut reading) = (JoinSet::new(), BTreeSet::new());
        let mut listed = Instant::now();
        let mut next_listing = listed + LIST_EVERY;
        while !self.gently.is_cancelled() {
            let lineage = self.lineage.lock().await;
            let readable: Vec<String> = lineage.readable().map(str::to_owned).collect();
            if until == Until::Stopped && readable.is_empty() && !lineage.is_enabled() {
                // Nothing more will ever come, and somebody waits for it.
                return Err(disabled().into());
            }
            drop(lineage);
            for id in readable {
                if reading.insert(id.clone()) {
                    self.health().begins(&id);
                    let tail = Arc::clone(self);
                    lanes.spawn(async move {
                        let result = tail.read(&id).await;
                        (id, result)
                    });
                }
            }
            tokio::select! {
                biased;
                () = self.gently.cancelled() => break,
                Some(lane) = lanes.join_next() => {
                    let (id, result): (String, Result<(), RunError>) = lane.map_err(|_| Panicked)?;
                    result?;
                    reading.remove(&id);
                    self.health().ends(&id);
                    self.look_for_children(&id).await?;
                    // What continues it is there by now, even if the service cannot say so alone.
                    next_listing = next_listing.min(listed + LIST_PAUSE);
                }
                () = tokio::time::sleep_until(next_listing) => {
                    self.list().await?;
                    self.tell_health();
                    listed = Instant::now();
                    next_listing = listed + LIST_EVERY;
                }
            }
        }
        while let Some(lane) = lanes.join_next().await {
            lane.map_err(|_| Panicked)?.1?;
        }
        Ok(())
    }

    /// Waits until everything that was written before this was called is done (rule G). `false` when the tail was told to
    /// stop before.
    pub(super) async fn drained(&self) -> Result<bool, RunError> {
        let moment = self.list().await?.ok_or_else(no_time)?;
        let ways = |lineage: &Lineage| -> Option<Vec<(String, Way)>> {
            Some(lineage.drained_to(moment)?.into_iter().map(|(id, way)| (id.to_owned(), way)).collect())
        };
        let drained = self.wait_for(ways).await.map(|ways| Drained { to: moment, ways });
        let done = drained.is_some();
        self.sum.lock().await.drained = drained;
        Ok(done)
    }

    /// Waits until something can be told of the shards; `None` when the tail was told to stop before.
    async fn wait_for<T>(&self, look: impl Fn(&Lineage) -> Option<T>) -> Option<T> {
        let mut progress = self.progress.subscribe();
        loop {
            progress.mark_unchanged();
            if let Some(found) = look(&*self.lineage.lock().await) {
                return Some(found);
            }
            tokio::select! {
                biased;
                () = self.gently.cancelled() => return None,
                changed = progress.changed() => changed.expect("the sender lives as long as the tail"),
            }
        }
    }

    /// Fails if the stream was disabled: what was written since is in no record, and may be behind the scan.
    pub(super) async fn demand_enabled(&self) -> Result<(), RunError> {
        if self.lineage.lock().await.is_enabled() { Ok(()) } else { Err(disabled().into()) }
    }

    /// Waits a while for each shard to answer once, if something was lost: what else was lost with it is then found before
    /// a pass begins, and not during it, which would take another.
    pub(super) async fn look_around(&self) {
        let answered = |lineage: &Lineage| {
            let all = lineage.readable().all(|id| self.health().answered(id));
            (all || lineage.gaps().next().is_none()).then_some(())
        };
        // Later is soon enough for who does not answer.
        drop(tokio::time::timeout(LOOK_AROUND, self.wait_for(answered)).await);
    }

    /// A pass over the table begins; none of its pages was read yet.
    pub(super) async fn pass_began(&self, number: u32) {
        self.lineage.lock().await.pass_began(number);
    }

    /// A pass over the table has ended: what was lost before it is made good.
    pub(super) async fn pass_ended(&self, number: u32) -> Result<(), RunError> {
        let mut lineage = self.lineage.lock().await;
        lineage.pass_ended(number);
        self.checkpoint(&mut lineage, Vec::new(), Vec::new()).await
    }

    /// The first pass that will do.
    pub(super) async fn pass_wanted(&self) -> u32 {
        self.lineage.lock().await.pass_wanted()
    }

    /// Whether it was stopped because no more items may be rewritten.
    pub(super) async fn limited(&self) -> bool {
        self.sum.lock().await.limit
    }

    pub(super) async fn report(&self) -> TailReport {
        let lineage = self.lineage.lock().await;
        let sum = self.sum.lock().await;
        TailReport {
            start: lineage.start(),
            scanned: lineage.scanned(),
            drained: sum.drained.clone(),
            records: sum.records,
            tally: sum.tally,
            exposure: sum.exposure.clone(),
            gaps: lineage.gaps().map(|(id, gap)| (id.to_owned(), gap)).collect(),
        }
    }

    /// Reads a shard to its end, or until the tail stops.
    async fn read(&self, id: &str) -> Result<(), RunError> {
        let engine = &self.engine;
        let throttle = Throttle::per_second(Some(CALLS_PER_SECOND));
        let (mut iterator, mut tries, mut pace, mut quiet) = (None, Tries::default(), POLL_FAST, Quiet::default());
        let mut opened = false;
        loop {
            let token = if let Some(token) = iterator.take() {
                token
            } else {
                opened = true;
                let Some(token) = self.iterator(id, &throttle, &mut tries).await? else { return Ok(()) };
                token
            };
            throttle.settle(throttle.acquire(1.0).await, None);
            let memory = Arc::clone(&engine.memory).acquire_owned().await.expect("the semaphore is never closed");
            if self.gently.is_cancelled() {
                return Ok(());
            }
            let asked = (Instant::now(), self.told());
            let drift = engine.drift();
            match self.shards.records(&token).await {
                Ok(records) => {
                    throttle.satisfied();
                    tries = Tries::default();
                    self.clock().heard(records.at);
                    if std::mem::take(&mut opened) {
                        // The iterator may have been under way for long, in a suspended machine say, and what it was to
                        // begin with be trimmed.
                        self.lost(|lineage, now| drop(lineage.open(id, now))).await?;
                    }
                    let since = quiet.answered(records.records.is_empty(), asked);
                    pace = if records.records.is_empty() { (pace * 2).min(POLL_IDLE) } else { POLL_FAST };
                    iterator.clone_from(&records.next);
                    let ended = records.next.is_none();
                    if !self.work(id, records, asked.1, since, drift).await? || ended {
                        return Ok(());
                    }
                }
                // A new one, after the last record that is done.
                Err(ShardsError::Expired(_)) => {}
                Err(ShardsError::Trimmed(_)) => self.lost(|lineage, now| lineage.trimmed(id, now)).await?,
                Err(ShardsError::Gone(_)) => return self.lost(|lineage, now| lineage.gone(id, now)).await,
                Err(ShardsError::Store(error)) => {
                    engine.wait_out(error, &throttle, &mut tries).await?;
                    iterator = Some(token);
                }
            }
            drop(memory);
            tokio::select! {
                biased;
                () = self.gently.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(asked.0 + pace) => {}
            }
        }
    }

    /// Lists the shards; gives back the second of that.
    async fn list(&self) -> Result<Option<u64>, RunError> {
        let whole = list(&self.engine, self.shards.as_ref(), |at| self.clock().heard(at)).await?;
        self.lost(|lineage, _| lineage.observe(&whole.shards, whole.enabled, whole.at)).await?;
        Ok(whole.at)
    }

    /// Asks what continues a shard that was read to its end, where the service can tell: sooner than the next listing.
    async fn look_for_children(&self, id: &str) -> Result<(), RunError> {
        // Where this fails, the listing that follows it will tell, or say why not.
        if let Ok(Some(Listing { shards, at, .. })) = self.shards.children(id).await {
            self.clock().heard(at);
            self.lost(|lineage, _| lineage.observe_children(&shards)).await?;
        }
        Ok(())
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
                    self.engine.wait_out(error, throttle, tries).await?;
                }
            }
        }
    }

    /// Works on a batch and makes it durable. Says whether the lane may go on. `asked` is the second when the batch was
    /// asked for, `quiet` since when nothing came.
    async fn work(
        &self,
        id: &str,
        records: Records,
        asked: Option<u64>,
        quiet: Option<u64>,
        drift: Drift,
    ) -> Result<bool, RunError> {
        let Records { records, next, .. } = records;
        let last = records.last().map(|record| (record.sequence.clone(), second(record.created)));
        self.health().reached(id, records.first().map_or(asked, |record| second(record.created)));
        let records = {
            let lineage = self.lineage.lock().await;
            let fresh = |record: &Record| !lineage.is_before_start(second(record.created));
            records.into_iter().filter(fresh).collect::<Vec<_>>()
        };
        let count = records.len() as u64;
        let BatchDone { page, exposed } = records::process(&self.engine, id, records, drift).await?;
        let PageDone { tally, failures, done, seen, cut, .. } = page;
        let mut lineage = self.lineage.lock().await;
        // A batch that was cut is read again: the position stays before it.
        if !cut {
            if let Some((sequence, created)) = &last {
                lineage.done(id, sequence, *created);
                self.health().reached(id, *created);
            }
            if next.is_none() {
                lineage.drained(id);
            }
            if quiet.is_some() {
                lineage.quiet(id, quiet);
            }
        }
        let done = self.engine.record(&failures, done, seen);
        self.checkpoint(&mut lineage, failures, done).await?;
        drop(lineage);
        let mut sum = self.sum.lock().await;
        sum.records += count;
        sum.tally += tally;
        sum.limit |= cut;
        for (since, sealed) in exposed {
            if let (Some(since), Some(sealed)) = (second(Some(since)), self.clock().at(sealed))
                && let Some((hour, exposed)) = sum.exposure.add(since, sealed)
            {
                self.engine.tell(&Event::Exposed { hour, exposed });
            }
        }
        drop(sum);
        if count > 0 {
            self.engine.page_done(None, Some(id), tally);
        }
        self.progress.send_replace(());
        if cut {
            self.gently.cancel();
        }
        Ok(!cut)
    }

    /// Makes durable what has changed, with the ledger.
    async fn checkpoint(&self, lineage: &mut Lineage, failures: Vec<Failure>, done: Vec<Key>) -> Result<(), RunError> {
        match lineage.changes() {
            Some(lineage) => self.journal.checkpoint(Checkpoint { lineage, failures, done }).await?,
            None if failures.is_empty() && done.is_empty() => {}
            None => self.journal.record(&failures, &done).await?,
        }
        Ok(())
    }

    /// Has the lineage take notice of something that may be a loss, makes it durable, and tells of what was lost.
    async fn lost(&self, notice: impl FnOnce(&mut Lineage, Option<u64>)) -> Result<(), RunError> {
        let mut lineage = self.lineage.lock().await;
        let before: BTreeMap<String, Gap> = lineage.gaps().map(|(id, gap)| (id.to_owned(), gap)).collect();
        notice(&mut lineage, self.told());
        self.checkpoint(&mut lineage, Vec::new(), Vec::new()).await?;
        for (id, gap) in lineage.gaps().filter(|(id, gap)| before.get(*id) != Some(gap)) {
            self.tell_gap(id, gap);
        }
        drop(lineage);
        self.progress.send_replace(());
        Ok(())
    }

    fn tell_gap(&self, shard: &str, gap: Gap) {
        self.engine.tell(&Event::Gap { shard: shard.to_owned(), from: gap.from, to: gap.to });
    }

    /// Tells how far behind the tail is, and what it would need to keep up.
    fn tell_health(&self) {
        let engine = &self.engine;
        let consumed = [engine.read.consumed_here(), engine.write.consumed_here(), engine.kms.consumed_here()];
        let Some(now) = self.now() else { return };
        let (health, wanted) = self.health().examine(now, Instant::now(), consumed);
        engine.tell(&health);
        let settings = &engine.settings;
        let budgets = [settings.read_units, settings.write_units, settings.kms_requests];
        for ((needed, budget), field) in wanted.into_iter().flatten().zip(budgets).zip(FIELDS) {
            // Somewhat less than the budget is all that one gets.
            if let Some(budget) = budget.filter(|budget| needed > f64::from(budget.get()) * 0.8) {
                engine.tell(&Event::FallingBehind { field, needed: needed.ceil(), budget: budget.get() });
            }
        }
    }

    /// The latest second that the service told.
    fn told(&self) -> Option<u64> {
        self.clock().told.map(|(told, _)| told)
    }

    /// The service's time by now.
    fn now(&self) -> Option<u64> {
        self.clock().at(Instant::now())
    }

    fn clock(&self) -> std::sync::MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the operator may raise when the tail cannot keep up.
const FIELDS: [&str; 3] = ["read_units_per_second", "write_units_per_second", "kms_requests_per_second"];

/// The service's clock: its latest second, and when that was told.
#[derive(Debug, Default)]
struct Clock {
    told: Option<(u64, Instant)>,
}

impl Clock {
    fn heard(&mut self, at: Option<SystemTime>) {
        if let Some(at) = second(at).filter(|at| self.told.is_none_or(|(told, _)| told < *at)) {
            self.told = Some((at, Instant::now()));
        }
    }

    /// The service's second at some moment, as this machine's clock counts on from the latest one that was told.
    fn at(&self, moment: Instant) -> Option<u64> {
        let (told, at) = self.told?;
        let (later, earlier) = (moment.saturating_duration_since(at), at.saturating_duration_since(moment));
        Some((told + later.as_secs()).saturating_sub(earlier.as_secs()))
    }
}

/// Lists all shards.
async fn list(
    engine: &Engine,
    shards: &dyn Shards,
    mut heard: impl FnMut(Option<SystemTime>),
) -> Result<Whole, RunError> {
    let throttle = Throttle::per_second(None);
    let (mut tries, mut whole, mut after, mut first) = (Tries::default(), Vec::new(), None::<String>, None);
    loop {
        throttle.settle(throttle.acquire(1.0).await, None);
        match shards.list(after.as_deref()).await {
            Ok(Listing { shards: page, next, enabled, at }) => {
                heard(at);
                let at = *first.get_or_insert_with(|| second(at));
                whole.extend(page);
                match next {
                    Some(next) if after.as_ref() == Some(&next) => return Err(no_end().into()),
                    Some(next) => after = Some(next),
                    None => return Ok(Whole { shards: whole, enabled, at }),
                }
            }
            Err(ShardsError::Store(error)) => engine.wait_out(error, &throttle, &mut tries).await?,
            Err(ShardsError::Expired(error) | ShardsError::Trimmed(error) | ShardsError::Gone(error)) => {
                return Err(error.into());
            }
        }
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

fn disabled() -> StoreError {
    let problem = "the stream was disabled while it was followed, and what was written since is in no record; enable a \
                   stream and run again, which scans the table once more";
    StoreError { operation: "DescribeStream", class: StoreClass::Fatal, problem: problem.to_owned() }
}

fn no_end() -> StoreError {
    let problem = "the listing of shards has no end: each page names the same last shard; report it to the service";
    StoreError { operation: "DescribeStream", class: StoreClass::Fatal, problem: problem.to_owned() }
}
