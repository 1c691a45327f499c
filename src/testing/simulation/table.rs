//! A table that behaves as DynamoDB does on a bad day: slow, short of capacity, silent, and full of other people.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep};

use super::world::{Rng, Weather};
use crate::item::{Item, Key, write_units};
use crate::migration::Rewrite;
use crate::store::{Answer, Page, Scan, StoreClass, StoreError, Table, Units, Update, Via};
use crate::testing::{MemoryTable, is_probe};

/// Sees what reaches the table, at the moment of its effect, and may act as an application just then.
pub(super) trait Witness: Send + Sync {
    /// An item was read, and is on its way to the engine.
    fn read(&self, item: &Item);
    /// A page was read.
    fn page(&self, scan: &Scan, next: Option<&Key>);
    /// The engine sends rewrites; gives back when, in steps.
    fn sent(&self) -> u64;
    /// A rewrite is about to take effect.
    fn before(&self, rewrite: &Rewrite);
    /// An item was written by a rewrite that was sent then. `before` is `None` where there was none.
    fn written(&self, rewrite: &Rewrite, sent: u64, before: Option<&Item>, after: &Item);
    /// The rewrite is over, whatever became of it.
    fn after(&self, rewrite: &Rewrite);
    /// So many units were consumed by a call that was made at this moment.
    fn consumed(&self, kind: Kind, at: Instant, units: f64);
}

/// The simulation's table in calm weather, with nobody to see it.
#[must_use]
pub fn calm(table: &Arc<MemoryTable>) -> Arc<dyn Table> {
    struct Nobody;
    impl Witness for Nobody {
        fn read(&self, _: &Item) {}
        fn page(&self, _: &Scan, _: Option<&Key>) {}
        fn sent(&self) -> u64 {
            0
        }
        fn before(&self, _: &Rewrite) {}
        fn written(&self, _: &Rewrite, _: u64, _: Option<&Item>, _: &Item) {}
        fn after(&self, _: &Rewrite) {}
        fn consumed(&self, _: Kind, _: Instant, _: f64) {}
    }
    Arc::new(SimTable::new(Arc::clone(table), &Weather::default(), 0, Arc::new(Nobody)))
}

/// What a budget counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Read,
    Write,
    Keys,
}

/// The table, as a client reaches it.
#[derive(Clone)]
pub(super) struct SimTable(Arc<Inner>);

struct Inner {
    table: Arc<MemoryTable>,
    weather: Weather,
    witness: Arc<dyn Witness>,
    state: Mutex<State>,
    began: Instant,
}

struct State {
    rng: Rng,
    calm: bool,
    /// How old the pages of a scan are: strongly consistent ones are not.
    stale: Duration,
    /// The table as it was, where pages may be old.
    past: Vec<(Instant, Vec<Item>)>,
    buckets: BTreeMap<&'static str, Bucket>,
    faults: BTreeMap<&'static str, u64>,
    calls: u64,
}

/// Capacity that fills up second by second, one second's worth at most.
struct Bucket {
    rate: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    fn fill(&mut self, now: Instant) -> f64 {
        self.level = (self.level + self.rate * (now - self.at).as_secs_f64()).min(self.rate);
        self.at = now;
        self.level
    }
}

/// What becomes of a request that nobody answers.
#[derive(Clone, Copy)]
enum Fate {
    Answered,
    /// It never arrives.
    Lost,
    /// It takes effect, and the answer is lost.
    AnswerLost,
    /// It takes effect long after the client gave up.
    Late(Duration),
}

const RANGES: [&str; 4] = ["KeyRange 0", "KeyRange 1", "KeyRange 2", "KeyRange 3"];

impl SimTable {
    pub(super) fn new(table: Arc<MemoryTable>, weather: &Weather, seed: u64, witness: Arc<dyn Witness>) -> Self {
        let now = Instant::now();
        let bucket = |rate: u32| Bucket { rate: f64::from(rate), level: f64::from(rate), at: now };
        let mut buckets = BTreeMap::new();
        if let Some(rate) = weather.provisioned {
            buckets.insert("Table", bucket(rate));
            buckets.insert("Index", bucket(rate));
            buckets.extend(RANGES.map(|range| (range, bucket((rate / 3).max(1)))));
        }
        let state = State {
            rng: Rng::seed_from_u64(seed ^ 0x7AB1E),
            calm: false,
            stale: Duration::ZERO,
            past: Vec::new(),
            buckets,
            faults: BTreeMap::new(),
            calls: 0,
        };
        Self(Arc::new(Inner { table, weather: weather.clone(), witness, state: Mutex::new(state), began: now }))
    }

    /// From now on nothing fails.
    pub(super) fn calm(&self) {
        self.0.state().calm = true;
    }

    /// From now on pages of a scan are so old, as those of eventually consistent reads may be.
    pub(super) fn stale(&self, age: Duration) {
        self.0.state().stale = age;
    }

    pub(super) fn calls(&self) -> u64 {
        self.0.state().calls
    }

    pub(super) fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.0.state().faults.clone()
    }

    pub(super) fn peek(&self, key: &Key) -> Option<Item> {
        self.0.table.peek(key)
    }

    /// Writes on behalf of the engine without any condition: for mistakes only.
    pub(super) fn force(&self, rewrite: &Rewrite, item: Item) {
        let before = self.0.table.peek(&rewrite.key);
        if self.0.table.put(item.clone()).is_ok() {
            self.0.witness.written(rewrite, self.0.witness.sent(), before.as_ref(), &item);
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something goes wrong that happens so many times in a thousand.
    fn chance(&self, what: &'static str, thousandths: u32) -> bool {
        let mut state = self.state();
        let wrong = !state.calm && thousandths > 0 && state.rng.random_ratio(thousandths, 1000);
        if wrong {
            *state.faults.entry(what).or_default() += 1;
        }
        wrong
    }

    /// The table as an eventually consistent read sees it, if such were asked for.
    fn past(&self) -> Option<MemoryTable> {
        let mut state = self.state();
        if state.stale.is_zero() || state.calm {
            return None;
        }
        let now = Instant::now();
        state.past.push((now, self.table.items()));
        let old = state.past.iter().rev().find(|(at, _)| now - *at >= state.stale).or_else(|| state.past.first());
        let past = MemoryTable::new(self.table.keys().clone());
        for item in old.into_iter().flat_map(|(_, items)| items) {
            past.put(item.clone()).ok()?;
        }
        Some(past)
    }

    async fn delay(&self) {
        let ms = self.state().rng.random_range(0..=self.weather.delay_ms);
        sleep(Duration::from_millis(ms)).await;
    }

    /// The fault that a call as a whole meets on its arrival, if any.
    fn refused(&self) -> Option<StoreClass> {
        let now = self.began.elapsed().as_millis() as u64;
        let mut state = self.state();
        state.calls += 1;
        if !state.calm && self.weather.expired.is_some_and(|(from, to)| (from..to).contains(&now)) {
            *state.faults.entry("credentials expired").or_default() += 1;
            return Some(StoreClass::Credentials);
        }
        drop(state);
        let throttled = self.chance("throttled", self.weather.throttled);
        throttled.then(|| StoreClass::Throttled { reason: "TableOnDemandThroughputExceeded".to_owned() })
    }

    fn fate(&self) -> Fate {
        if !self.chance("no answer", self.weather.silent) {
            return Fate::Answered;
        }
        let mut state = self.state();
        match state.rng.random_range(0..3) {
            0 => Fate::Lost,
            1 => Fate::AnswerLost,
            _ => Fate::Late(Duration::from_millis(state.rng.random_range(0..30_000))),
        }
    }

    /// Takes capacity for a write, or says where there is too little of it.
    fn capacity(&self, key: &Key, units: f64) -> Option<String> {
        let mut state = self.state();
        if state.calm || state.buckets.is_empty() {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        Key { sort: None, ..key.clone() }.hash(&mut hasher);
        let names = ["Table", "Index", RANGES[hasher.finish() as usize % RANGES.len()]];
        let now = Instant::now();
        let short = names
            .iter()
            .find(|name| state.buckets.get_mut(*name).is_some_and(|bucket| bucket.fill(now) < units.min(1.0)));
        if let Some(name) = short.copied() {
            *state.faults.entry("capacity short").or_default() += 1;
            let kind = name.split(' ').next().unwrap_or(name);
            return Some(format!("{kind}WriteProvisionedThroughputExceeded"));
        }
        for name in names {
            if let Some(bucket) = state.buckets.get_mut(name) {
                bucket.level -= units;
            }
        }
        None
    }

    /// One statement.
    fn statement(&self, rewrite: &Rewrite, sent: u64) -> Answer {
        if self.chance("statement in conflict", self.weather.partial / 3) {
            return failed("BatchExecuteStatement", StoreClass::Conflict);
        }
        if self.chance("statement throttled", self.weather.partial / 3) {
            let reason = "TableWriteProvisionedThroughputExceeded".to_owned();
            return failed("BatchExecuteStatement", StoreClass::Throttled { reason });
        }
        let unknown = self.chance("statement without outcome", self.weather.partial / 3);
        if unknown && self.state().rng.random() {
            return failed("BatchExecuteStatement", StoreClass::Unknown);
        }
        let units = f64::from(write_units(rewrite.bytes));
        if let Some(reason) = self.capacity(&rewrite.key, units) {
            return failed("BatchExecuteStatement", StoreClass::Throttled { reason });
        }
        self.witness.before(rewrite);
        let before = self.table.peek(&rewrite.key);
        let probe = is_probe(rewrite);
        let answer = if self.weather.ignores_conditions {
            self.table.apply(&Rewrite { condition: Vec::new(), ..rewrite.clone() })
        } else {
            self.table.apply(rewrite)
        };
        if let Answer::Written = answer
            && let Some(after) = self.table.peek(&rewrite.key)
            && !(probe && before.as_ref() == Some(&after))
        {
            self.witness.written(rewrite, sent, before.as_ref(), &after);
        }
        self.witness.after(rewrite);
        match answer {
            _ if unknown => failed("BatchExecuteStatement", StoreClass::Unknown),
            Answer::ConditionFailed(Some(_)) if self.chance("item not returned", self.weather.without_item) => {
                Answer::ConditionFailed(None)
            }
            Answer::ConditionFailed(Some(item)) => {
                // What a probe brings back is not looked at.
                if !probe {
                    self.witness.read(&item);
                }
                Answer::ConditionFailed(Some(item))
            }
            answer => answer,
        }
    }

    fn statements(&self, rewrites: &[Rewrite], via: Via, (at, sent): (Instant, u64)) -> Update {
        let answers: Vec<Answer> = rewrites.iter().map(|rewrite| self.statement(rewrite, sent)).collect();
        let (units, unreported) = MemoryTable::charge(&answers, rewrites, via);
        self.witness.consumed(Kind::Write, at, units.unwrap_or(0.0) + unreported);
        Update { answers, units, unreported, requests: MemoryTable::requests(rewrites, via) }
    }

    async fn update(self: Arc<Self>, rewrites: Vec<Rewrite>, via: Via) -> Update {
        let sent = (Instant::now(), self.witness.sent());
        self.delay().await;
        let none = |class: StoreClass| Update {
            answers: rewrites.iter().map(|_| failed("BatchExecuteStatement", class.clone())).collect(),
            units: None,
            unreported: 0.0,
            requests: MemoryTable::requests(&rewrites, via),
        };
        if let Some(class) = self.refused() {
            return none(class);
        }
        if self.weather.batch_denied && via == Via::Batch {
            return none(StoreClass::Denied);
        }
        if via == Via::Batch && MemoryTable::rejects(&rewrites) {
            return none(StoreClass::Item);
        }
        let update = match self.fate() {
            Fate::Answered => self.statements(&rewrites, via, sent),
            Fate::Lost => none(StoreClass::Unknown),
            Fate::AnswerLost => {
                self.statements(&rewrites, via, sent);
                none(StoreClass::Unknown)
            }
            Fate::Late(after) => {
                let (late, rewrites) = (Arc::clone(&self), rewrites.clone());
                tokio::spawn(async move {
                    sleep(after).await;
                    late.statements(&rewrites, via, sent);
                });
                none(StoreClass::Unknown)
            }
        };
        self.delay().await;
        update
    }

    async fn read<T>(&self, read: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.delay().await;
        let refused = self.refused().or_else(|| {
            // A read that nobody answers has no effect, whatever becomes of it.
            self.chance("read not answered", self.weather.silent).then_some(StoreClass::Unknown)
        });
        if let Some(class) = refused {
            return Err(error("Scan", class));
        }
        let answer = read.await;
        self.delay().await;
        answer
    }
}

fn error(operation: &'static str, class: StoreClass) -> StoreError {
    StoreError { operation, class, problem: "simulated".to_owned() }
}

fn failed(operation: &'static str, class: StoreClass) -> Answer {
    Answer::Failed(error(operation, class))
}

#[async_trait]
impl Table for SimTable {
    async fn scan(&self, scan: &Scan) -> Result<Page, StoreError> {
        let (inner, at) = (&self.0, Instant::now());
        inner
            .read(async {
                let page = match inner.past() {
                    None => inner.table.scan(scan).await?,
                    Some(past) => past.scan(scan).await?,
                };
                inner.witness.page(scan, page.next.as_ref());
                inner.witness.consumed(Kind::Read, at, page.units.unwrap_or(0.0));
                for item in &page.items {
                    inner.witness.read(item);
                }
                Ok(page)
            })
            .await
    }

    async fn get(&self, key: &Key) -> Result<(Option<Item>, Units), StoreError> {
        let (inner, at) = (&self.0, Instant::now());
        inner
            .read(async {
                let (item, units) = inner.table.get(key).await?;
                inner.witness.consumed(Kind::Read, at, units.unwrap_or(0.0));
                if let Some(item) = &item {
                    inner.witness.read(item);
                }
                Ok((item, units))
            })
            .await
    }

    /// A request that is on its way takes effect even when the process that sent it has died.
    async fn update(&self, rewrites: &[Rewrite], via: Via) -> Update {
        let sent = tokio::spawn(Arc::clone(&self.0).update(rewrites.to_vec(), via));
        sent.await.expect("the simulated service neither panics nor is it stopped")
    }
}
