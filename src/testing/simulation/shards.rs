//! A stream that behaves as DynamoDB's does on a bad day: slow, busy, silent, behind with its listings.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep};

use super::watch::Watch;
use super::world::{Rng, Weather};
use crate::store::{Listing, Records, Shards, ShardsError, Start, StoreClass, StoreError};
use crate::testing::MemoryShards;

/// Answers without records in a row, at most, although there are some: whoever takes ten of them for silence is right.
const HELD_BACK: u32 = 8;

/// The service, whichever stream the table has.
#[derive(Clone)]
pub(super) struct SimStreams(Arc<Inner>);

struct Inner {
    weather: Weather,
    watch: Arc<Watch>,
    began: Instant,
    state: Mutex<State>,
}

struct State {
    rng: Rng,
    calm: bool,
    /// Answers without records in a row, by shard.
    held_back: BTreeMap<String, u32>,
    faults: BTreeMap<&'static str, u64>,
    calls: u64,
}

/// One stream, as a client reaches it.
#[derive(Clone)]
pub(super) struct SimShards {
    service: SimStreams,
    pub(super) memory: Arc<MemoryShards>,
}

impl SimStreams {
    pub(super) fn new(weather: &Weather, seed: u64, watch: Arc<Watch>) -> Self {
        let rng = Rng::seed_from_u64(seed ^ 0x057E_A115);
        let state = State { rng, calm: false, held_back: BTreeMap::new(), faults: BTreeMap::new(), calls: 0 };
        Self(Arc::new(Inner { weather: weather.clone(), watch, began: Instant::now(), state: Mutex::new(state) }))
    }

    /// The stream that the table has now.
    pub(super) fn present(&self, memory: Arc<MemoryShards>) -> SimShards {
        SimShards { service: self.clone(), memory }
    }

    /// From now on nothing fails. What is no failure goes on: answers without records, and listings that are behind.
    pub(super) fn calm(&self) {
        self.state().calm = true;
    }

    pub(super) fn calls(&self) -> u64 {
        self.state().calls
    }

    pub(super) fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.state().faults.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something goes wrong that happens so many times in a thousand.
    fn chance(&self, what: &'static str, thousandths: u32) -> bool {
        let mut state = self.state();
        let wrong = thousandths > 0 && state.rng.random_ratio(thousandths, 1000);
        if wrong {
            *state.faults.entry(what).or_default() += 1;
        }
        wrong
    }

    async fn delay(&self) {
        let ms = self.state().rng.random_range(0..=self.0.weather.delay_ms);
        sleep(Duration::from_millis(ms)).await;
    }

    /// A request is on its way; it may be refused on its arrival.
    async fn arrive(&self, operation: &'static str) -> Result<(), ShardsError> {
        let (weather, number) = (&self.0.weather, self.state().calls);
        self.state().calls += 1;
        if let Some((_, seconds)) = weather.stalled.filter(|(call, _)| *call == number) {
            *self.state().faults.entry("call to the stream stalled").or_default() += 1;
            sleep(Duration::from_secs(seconds)).await;
        }
        self.delay().await;
        if self.state().calm {
            return Ok(());
        }
        let now = self.0.began.elapsed().as_millis() as u64;
        let class = if weather.expired.is_some_and(|(from, to)| (from..to).contains(&now)) {
            StoreClass::Credentials
        } else if self.chance("call to the stream throttled", weather.throttled) {
            StoreClass::Throttled { reason: "LimitExceeded".to_owned() }
        } else if self.chance("call to the stream not answered", weather.silent) {
            StoreClass::Unknown
        } else {
            return Ok(());
        };
        Err(error(operation, class).into())
    }

    /// An answer is on its way, and may be lost.
    async fn answer<T>(&self, operation: &'static str, answer: T) -> Result<T, ShardsError> {
        self.delay().await;
        if !self.state().calm && self.chance("answer of the stream lost", self.0.weather.silent / 2) {
            return Err(error(operation, StoreClass::Unknown).into());
        }
        Ok(answer)
    }
}

fn error(operation: &'static str, class: StoreClass) -> StoreError {
    StoreError { operation, class, problem: "simulated".to_owned() }
}

impl SimShards {
    /// Listings that begin now are behind with one shard: a younger one is not in them, or an older one seems open.
    fn fall_behind(&self) {
        let service = &self.service;
        if !service.chance("listing behind", service.0.weather.listings) {
            return;
        }
        let ids = self.memory.ids();
        let mut state = service.state();
        let Some(id) = ids.choose(&mut state.rng) else { return };
        let listings = state.rng.random_range(1..=3);
        // A shard that continues none was there before anybody looked.
        if self.memory.parent(id).is_some() && state.rng.random() {
            self.memory.leave_out(id, listings);
        } else {
            self.memory.show_open(id, listings);
        }
    }

    /// Whether the next answer from this shard shall be without records.
    fn holds_back(&self, shard: &str) -> bool {
        let holds = self.service.chance("records held back", self.service.0.weather.held_back);
        let mut state = self.service.state();
        let before = state.held_back.entry(shard.to_owned()).or_default();
        let holds = holds && *before < HELD_BACK;
        *before = if holds { *before + 1 } else { 0 };
        holds
    }
}

#[async_trait]
impl Shards for SimShards {
    fn arn(&self) -> &str {
        self.memory.arn()
    }

    async fn list(&self, after: Option<&str>) -> Result<Listing, ShardsError> {
        const OPERATION: &str = "DescribeStream";
        self.service.arrive(OPERATION).await?;
        if after.is_none() {
            self.fall_behind();
            self.service.0.watch.listing();
        }
        let listing = self.memory.list(after).await?;
        self.service.answer(OPERATION, listing).await
    }

    async fn children(&self, parent: &str) -> Result<Option<Listing>, ShardsError> {
        const OPERATION: &str = "DescribeStream";
        self.service.arrive(OPERATION).await?;
        let listing = self.memory.children(parent).await?;
        self.service.answer(OPERATION, listing).await
    }

    async fn iterator(&self, shard: &str, start: &Start) -> Result<String, ShardsError> {
        const OPERATION: &str = "GetShardIterator";
        self.service.0.watch.begins(&self.memory, shard);
        self.service.arrive(OPERATION).await?;
        let iterator = self.memory.iterator(shard, start).await?;
        self.service.answer(OPERATION, iterator).await
    }

    async fn records(&self, iterator: &str) -> Result<Records, ShardsError> {
        const OPERATION: &str = "GetRecords";
        let shard = iterator.split('/').next().unwrap_or(iterator);
        let _reading = self.service.0.watch.reading(shard);
        self.service.arrive(OPERATION).await?;
        if self.service.chance("iterator expired", self.service.0.weather.iterators) {
            return Err(ShardsError::Expired(error(OPERATION, StoreClass::Fatal)));
        }
        if self.holds_back(shard) {
            self.memory.answer_empty(1);
        }
        let records = self.memory.records(iterator).await;
        self.memory.answer_empty(0);
        let records = records?;
        self.service.0.watch.read_records(&records.records);
        let records = self.service.answer(OPERATION, records).await?;
        self.service.0.watch.handed(shard, &records.records);
        Ok(records)
    }
}
