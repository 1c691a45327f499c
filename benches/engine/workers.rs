//! What is measured: each of these is done by a process of its own, which says at the end what it cost.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementRequest, PutRequest, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure,
    WriteRequest,
};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use reseal::aws::AwsConfig;
use reseal::crypto::{EncryptionContext, Secret, WrappedKey, WrappedRef};
use reseal::format::dbesdk;
use reseal::item::{Item, Key, Value};
use reseal::keyring::{Keyring, KeyringCall, KeyringError, RawAes, Wanted};
use reseal::migration::{Expected, OnMixed, Rewrite, Tally};
use reseal::pipeline::{self, Batches, Event, Observer, Pool, Ports, Settings, Stop};
use reseal::store::{Answer, DynamoTable, Page, Record, Scan, SqliteJournal, StoreError, Table, Units, Update, Via};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::items::{self, KEY, PAGE};
use super::sealing;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type SdkItem = HashMap<String, AttributeValue>;

/// As the command sets it for tables of some size, but for the number of segments, which there follows from the size.
pub(crate) const SEGMENTS: u32 = 4;
const WRITES_IN_FLIGHT: usize = 4;
/// Statements, or items, of one request (API reference).
const BATCH: usize = 25;
/// Batches of records in a round.
const RECORD_BATCHES: usize = 40;
/// A budget that is counted, and never binds.
const PLENTY: NonZeroU32 = NonZeroU32::new(10_000_000).expect("it is not 0");

/// What a worker did and what it cost.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) items: u64,
    /// Seconds of the processor, all threads, the system's part included.
    pub(crate) cpu: f64,
    /// Seconds on the clock.
    pub(crate) wall: f64,
    #[serde(default)]
    pub(crate) write_units: f64,
    #[serde(default)]
    pub(crate) kms_requests: u64,
    /// Seconds that a write was in flight, in the mean, where that is measured.
    #[serde(default)]
    pub(crate) in_flight: f64,
    /// The most bytes that were allocated at once, where the allocator counts.
    #[serde(default)]
    pub(crate) allocated: Option<u64>,
    /// The most kilobytes that were resident.
    #[serde(default)]
    pub(crate) resident: u64,
}

/// What limits a run of the pipeline.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) write_units: Option<NonZeroU32>,
    pub(crate) kms_requests: Option<NonZeroU32>,
    /// Write requests in flight of the whole run.
    pub(crate) writes_in_flight: Option<usize>,
}

/// Runs `work`, which says how many items it did.
pub(crate) async fn measured(work: impl Future<Output = Result<Cost, Failure>>) -> Result<Cost, Failure> {
    let (start, began) = (cpu_time(), Instant::now());
    let cost = work.await?;
    let (cpu, wall) = (cpu_time().saturating_sub(start).as_secs_f64(), began.elapsed().as_secs_f64());
    Ok(Cost { cpu, wall, resident: resident()?, ..cost })
}

impl Cost {
    fn of(items: u64) -> Self {
        Self {
            items,
            cpu: 0.0,
            wall: 0.0,
            write_units: 0.0,
            kms_requests: 0,
            in_flight: 0.0,
            allocated: None,
            resident: 0,
        }
    }
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The most kilobytes that this process had in memory.
fn resident() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// The engine as `reseal run` sets it up: one pass, into a journal on disk.
pub(crate) async fn pipeline(endpoint: &str, table: &str, limits: Limits) -> Result<Cost, Failure> {
    let config = AwsConfig::stand_in(endpoint, "eu-central-1")?;
    let kms = Arc::new(AtomicU64::new(0));
    let keyring = Counted { inner: items::keyring(), count: Arc::clone(&kms) };
    let keyring: Arc<dyn Keyring> =
        if limits.kms_requests.is_some() { Arc::new(keyring) } else { Arc::new(items::keyring()) };
    let table = DynamoTable::new(&config, table, items::names());
    let places = limits.writes_in_flight.unwrap_or(Semaphore::MAX_PERMITS);
    let table = Arc::new(Narrow { inner: table, places: Semaphore::new(places), writes: Mutex::default() });
    let folder = tempfile::tempdir()?;
    let plan = [("table".to_owned(), "bench".to_owned())].into_iter().collect();
    let journal = SqliteJournal::open(folder.path(), &items::names(), &plan, "now")?;
    let settings = settings(limits);
    let ports = Ports {
        table: Arc::<Narrow>::clone(&table),
        target: Some(keyring),
        sources: Vec::new(),
        observer: Arc::new(Nobody),
    };
    let (journal, policy) = (Arc::new(journal), Arc::new(items::policy()));
    let report = pipeline::run(ports, None, journal, policy, settings, &Stop::default()).await?;
    let (_, tally) = report.passes.first().ok_or("no pass")?;
    if tally.rewritten != tally.scanned || !report.failures.is_empty() {
        return Err(format!("not every item was rewritten: {tally:?}").into());
    }
    let kms_requests = kms.load(Ordering::Relaxed);
    if kms_requests != report.kms_requests {
        return Err("the run did not count its key requests right".into());
    }
    let (writes, time) = *table.writes.lock().unwrap_or_else(PoisonError::into_inner);
    let in_flight = time.as_secs_f64() / f64::from(writes.max(1));
    Ok(Cost { write_units: report.write_units, kms_requests, in_flight, ..Cost::of(tally.rewritten) })
}

/// As the command sets it for a large table.
fn settings(limits: Limits) -> Settings {
    Settings {
        segments: SEGMENTS,
        pages_in_flight: 2,
        pages_in_memory: 16,
        writes_in_flight: WRITES_IN_FLIGHT,
        keys_in_flight: 64,
        read_units: Some(PLENTY),
        write_units: limits.write_units.or(Some(PLENTY)),
        kms_requests: limits.kms_requests.or(Some(PLENTY)),
        page_items: None,
        page_units: 256.0,
        write_copies: 1,
        attempts: 10,
        max_items: None,
        max_passes: 1,
        writer: Via::Batch,
        on_mixed: OnMixed::Quarantine,
        pool: Pool::Rayon,
        drain: Duration::from_secs(30),
        entropy: |bytes| rand::fill(bytes),
        wall: SystemTime::now,
    }
}

/// What the records of a batch say of their items.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found {
    /// Sealed as they shall be: our own writes that come by.
    AtTarget,
    /// In plaintext: an application put them.
    Plaintext,
    /// Sealed by the key before.
    OldKey,
}

/// The tail's page function: batches of as many records as one call for records brings, each of an item of its own, with
/// both images. The records are made before the clock is read.
pub(crate) async fn records(endpoint: &str, table: &str, found: Found) -> Result<Cost, Failure> {
    let config = AwsConfig::stand_in(endpoint, "eu-central-1")?;
    let ports = Ports {
        table: Arc::new(DynamoTable::new(&config, table, items::names())),
        target: Some(Arc::new(items::keyring())),
        sources: vec![Arc::new(items::old_keyring())],
        observer: Arc::new(Nobody),
    };
    let batches = Batches::new(ports, Arc::new(items::policy()), settings(Limits::default()));
    let record = |i: usize| {
        let plain = items::item(i);
        let sealed = |keyring: &RawAes| sealing::seal(keyring, &items::policy().schema, items::SUITE, &plain);
        let (old, new) = match found {
            Found::AtTarget => (plain.clone(), sealed(&items::keyring())?),
            Found::Plaintext => (sealed(&items::keyring())?, plain.clone()),
            Found::OldKey => (plain.clone(), sealed(&items::old_keyring())?),
        };
        let (key, created) = (items::names().key_of(&plain)?, Some(SystemTime::UNIX_EPOCH));
        Ok(Record { key, old: Some(old), new: Some(new), removed: false, sequence: i.to_string(), created })
    };
    let batch: Vec<Record> =
        (0..PAGE).map(record).collect::<sealing::Outcome<_>>().map_err(|error| error.to_string())?;
    let all = vec![batch; RECORD_BATCHES];
    measured(async {
        let (mut tally, deadline) = (Tally::default(), Instant::now() + Duration::from_hours(1));
        for batch in all {
            let report = batches.work("bench", batch, deadline).await;
            if !report.failures.is_empty() || !report.undone.is_empty() {
                return Err(format!("not every record was done: {report:?}").into());
            }
            tally += report.tally;
        }
        let expected = if matches!(found, Found::AtTarget) { tally.current } else { tally.rewritten };
        if tally.scanned != expected {
            return Err(format!("not every record was what it should be: {tally:?}").into());
        }
        Ok(Cost::of(tally.scanned))
    })
    .await
}

struct Nobody;

impl Observer for Nobody {
    fn on(&self, _: &Event) {}
}

/// A keyring that asks for one request of the budget each time, as a KMS keyring does.
#[derive(Debug)]
struct Counted {
    inner: RawAes,
    count: Arc<AtomicU64>,
}

#[async_trait]
impl Keyring for Counted {
    fn recipients(&self) -> &[Wanted] {
        self.inner.recipients()
    }

    fn accepts(&self, found: WrappedRef<'_>) -> bool {
        self.inner.accepts(found)
    }

    fn requests(&self, _: KeyringCall) -> u32 {
        1
    }

    async fn generate(&self, context: &EncryptionContext) -> Result<Vec<WrappedKey>, KeyringError> {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.inner.generate(context).await
    }

    async fn unwrap(&self, found: WrappedRef<'_>, context: &EncryptionContext) -> Result<Secret, KeyringError> {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.inner.unwrap(found, context).await
    }
}

/// A table to which so many write requests go at once.
struct Narrow {
    inner: DynamoTable,
    places: Semaphore,
    /// Writes so far, and the time that all of them together were in flight.
    writes: Mutex<(u32, Duration)>,
}

#[async_trait]
impl Table for Narrow {
    async fn scan(&self, scan: &Scan) -> Result<Page, StoreError> {
        self.inner.scan(scan).await
    }

    async fn get(&self, key: &Key) -> Result<(Option<Item>, Units), StoreError> {
        self.inner.get(key).await
    }

    async fn update(&self, rewrites: &[Rewrite], via: Via) -> Update {
        let _place = self.places.acquire().await;
        let began = Instant::now();
        let update = self.inner.update(rewrites, via).await;
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        *writes = (writes.0 + 1, writes.1 + began.elapsed());
        update
    }
}

/// How the bare loop writes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Writes {
    /// The statements that the pipeline sends.
    Conditional,
    /// The same without their conditions.
    Unconditional,
    /// Whole items by `BatchWriteItem`, which knows no conditions.
    Put,
}

/// What the SDK alone costs: the same pages are read and the same batches are written, with bytes of the right lengths
/// where ciphertexts would be.
pub(crate) async fn bare(endpoint: &str, table: &str, writes: Writes) -> Result<Cost, Failure> {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("stand-in", "stand-in", None, None, "stand-in"));
    let bare = Arc::new(Bare::new(Client::from_conf(config.build()), table, writes)?);
    let segments = (0..SEGMENTS).map(|segment| tokio::spawn(Arc::clone(&bare).segment(segment)));
    let segments: Vec<_> = segments.collect();
    let mut items = 0;
    for segment in segments {
        items += segment.await??;
    }
    Ok(Cost::of(items))
}

struct Bare {
    client: Client,
    table: String,
    writes: Writes,
    statement: String,
    set: Vec<(String, usize)>,
}

/// Name and bytes of each attribute that a rewrite sets.
fn rewritten() -> Result<Vec<(String, usize)>, Failure> {
    let sealed = sealing::seal(&items::keyring(), &items::policy().schema, items::SUITE, &items::item(0));
    let sealed = sealed.map_err(|error| error.to_string())?;
    let rewritten = sealed.into_iter().filter_map(|(name, value)| match value {
        Value::Binary(bytes) => Some((name, bytes.len())),
        _ => None,
    });
    Ok(rewritten.collect())
}

impl Bare {
    fn new(client: Client, table: &str, writes: Writes) -> Result<Self, Failure> {
        let set = rewritten()?;
        let sets = set.iter().map(|(name, _)| format!(" SET \"{name}\"=?"));
        let mut statement = format!("UPDATE \"{table}\"{} WHERE \"{KEY}\"=?", sets.collect::<String>());
        if matches!(writes, Writes::Conditional) {
            let mut condition = items::others();
            condition.extend([dbesdk::HEAD, dbesdk::FOOT]);
            for name in condition {
                let is = if name.starts_with("aws_dbe_") { " IS MISSING" } else { "=?" };
                statement.extend([" AND \"", name, "\"", is]);
            }
        }
        Ok(Self { client, table: table.to_owned(), writes, statement, set })
    }

    async fn segment(self: Arc<Self>, segment: u32) -> Result<u64, Failure> {
        let (mut after, mut items) = (None, 0);
        loop {
            let page = self.client.scan().table_name(&self.table).consistent_read(true).segment(segment as i32);
            let page = page.total_segments(SEGMENTS as i32).set_exclusive_start_key(after);
            let page = page.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await?;
            let mut rest = page.items.unwrap_or_default();
            items += rest.len() as u64;
            let mut batches = Vec::with_capacity(PAGE / BATCH);
            while !rest.is_empty() {
                let batch = rest.split_off(rest.len().saturating_sub(BATCH));
                batches.push(async {
                    match self.writes {
                        Writes::Put => self.put(batch).await,
                        Writes::Conditional | Writes::Unconditional => self.update(batch).await,
                    }
                });
            }
            let batches = stream::iter(batches).buffer_unordered(WRITES_IN_FLIGHT);
            batches.try_collect::<()>().await?;
            after = page.last_evaluated_key;
            if after.is_none() {
                return Ok(items);
            }
        }
    }

    /// What ciphertexts, head or foot of an item would be.
    fn sealed(bytes: usize) -> AttributeValue {
        AttributeValue::B(Blob::new(vec![0x5a; bytes]))
    }

    async fn update(&self, batch: Vec<SdkItem>) -> Result<(), Failure> {
        let statements = batch.into_iter().map(|mut item| {
            let mut parameters: Vec<_> = self.set.iter().map(|(_, bytes)| Self::sealed(*bytes)).collect();
            parameters.extend(item.remove(KEY));
            if matches!(self.writes, Writes::Conditional) {
                parameters.extend(items::others().into_iter().filter_map(|name| item.remove(name)));
            }
            BatchStatementRequest::builder()
                .statement(&self.statement)
                .set_parameters(Some(parameters))
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .build()
        });
        let statements = statements.collect::<Result<_, _>>()?;
        let request = self.client.batch_execute_statement().set_statements(Some(statements));
        let answer = request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await?;
        match answer.responses.unwrap_or_default().iter().find_map(|response| response.error.as_ref()) {
            Some(error) => Err(format!("{error:?}").into()),
            None => Ok(()),
        }
    }

    async fn put(&self, batch: Vec<SdkItem>) -> Result<(), Failure> {
        let requests = batch.into_iter().map(|mut item| {
            item.extend(self.set.iter().map(|(name, bytes)| (name.clone(), Self::sealed(*bytes))));
            let put = PutRequest::builder().set_item(Some(item)).build()?;
            Ok::<_, Failure>(WriteRequest::builder().put_request(put).build())
        });
        let requests = requests.collect::<Result<_, _>>()?;
        let request = self.client.batch_write_item().request_items(&self.table, requests);
        request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await?;
        Ok(())
    }
}

/// What reseal's own adapter costs: the same again, through its types.
pub(crate) async fn adapter(endpoint: &str, table: &str, conditional: bool) -> Result<Cost, Failure> {
    let config = AwsConfig::stand_in(endpoint, "eu-central-1")?;
    let table = Arc::new(DynamoTable::new(&config, table, items::names()));
    let segments = (0..SEGMENTS).map(|segment| tokio::spawn(rewrite_segment(Arc::clone(&table), segment, conditional)));
    let segments: Vec<_> = segments.collect();
    let mut items = 0;
    for segment in segments {
        items += segment.await??;
    }
    Ok(Cost::of(items))
}

async fn rewrite_segment(table: Arc<DynamoTable>, segment: u32, conditional: bool) -> Result<u64, Failure> {
    let set = rewritten()?;
    let mut scan = Scan { segment, total_segments: SEGMENTS, after: None, limit: None };
    let mut items = 0;
    loop {
        let page = table.scan(&scan).await?;
        items += page.items.len() as u64;
        let rewrites = page.items.into_iter().map(|mut item| {
            let absent = [dbesdk::HEAD, dbesdk::FOOT].map(|name| (name.to_owned(), Expected::Absent));
            let old = items::others().into_iter().filter_map(|name| Some((name.to_owned(), item.remove(name)?)));
            let condition = old.map(|(name, value)| (name, Expected::Equals(value))).chain(absent).collect();
            let bytes = |bytes: usize| Value::Binary(vec![0x5a; bytes]);
            Ok::<_, Failure>(Rewrite {
                set: set.iter().map(|(name, length)| (name.clone(), bytes(*length))).collect(),
                remove: Vec::new(),
                condition: if conditional { condition } else { Vec::new() },
                bytes: 1,
                key: items::names().key_of(&item)?,
            })
        });
        let rewrites = rewrites.collect::<Result<Vec<_>, _>>()?;
        let batches: Vec<_> = rewrites.chunks(BATCH).map(|batch| table.update(batch, Via::Batch)).collect();
        let updates: Vec<_> = stream::iter(batches).buffer_unordered(WRITES_IN_FLIGHT).collect().await;
        let answers = updates.iter().flat_map(|update| &update.answers);
        if let Some(other) = answers.into_iter().find(|answer| !matches!(answer, Answer::Written)) {
            return Err(format!("{other:?}").into());
        }
        scan.after = page.next;
        if scan.after.is_none() {
            return Ok(items);
        }
    }
}

/// What the format alone costs, in one thread: the key is made and wrapped, the item sealed and opened again.
pub(crate) fn format(count: usize) -> Result<Cost, Failure> {
    let (keyring, policy) = (items::keyring(), items::policy());
    let page: Vec<Item> = (0..PAGE).map(items::item).collect();
    for item in page.iter().cycle().take(count) {
        let opened = sealed_and_opened(&keyring, &policy.schema, item).map_err(|error| error.to_string())?;
        if !opened.same(item) {
            return Err("an item came back changed".into());
        }
    }
    Ok(Cost::of(count as u64))
}

fn sealed_and_opened(keyring: &RawAes, schema: &reseal::format::Schema, item: &Item) -> sealing::Outcome<Item> {
    use futures::FutureExt as _;
    let prepared = dbesdk::prepare(schema, items::SUITE, item)?;
    let wrapped = keyring.generate(&prepared.context).now_or_never().ok_or("the keyring waits")??;
    let sealed_item = dbesdk::seal(item, prepared, &Secret::random(), rand::random(), &wrapped)?;
    let sealed = sealing::inspect(schema, &sealed_item)?;
    Ok(dbesdk::open(&sealed_item, &sealed, 0, &wrapped[0].key)?)
}
