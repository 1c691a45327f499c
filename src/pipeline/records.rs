//! The way of a batch of stream records: the records of one item are one piece of work, the page that it makes goes the
//! way of every page.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;

use super::engine::{Drift, Engine, RunError};
use super::event::Event;
use super::page::{self, Doubt, PageDone};
use crate::format::dbesdk::HEAD;
use crate::item::{Item, Key};
use crate::migration::{
    Change, End, Failure, FailureKind, OnMixed, StreamPlace, Tally, Trail, Verdict, same_signature,
};
use crate::store::Record;

/// What became of a batch of records.
#[derive(Debug, Default)]
pub(super) struct BatchDone {
    /// Of their items, each counted once.
    pub(super) page: PageDone,
    /// Of each item that was in plaintext, or written into, and is sealed now: when the write that left it so came about,
    /// and when ours was seen to be done.
    pub(super) exposed: Vec<(SystemTime, Instant)>,
}

/// Brings the items of some records to the target: each item once, whatever happened to it. `shard` names where they
/// come from; `drift` is that of the clocks before they were read.
pub(super) async fn process(
    engine: &Arc<Engine>,
    shard: &str,
    records: Vec<Record>,
    drift: Drift,
) -> Result<BatchDone, RunError> {
    let (mut items, mut since, mut before) = (Vec::new(), Vec::new(), PageDone::default());
    // The records of raw writes, by the item that they went into.
    let mut raw: HashMap<Key, StreamPlace> = HashMap::new();
    // What must be read or opened for that is under way together.
    let looks = histories(records).into_iter().map(|history| -> BoxFuture<'_, _> {
        Box::pin(async move {
            let key = history.last.key.clone();
            Ok::<_, RunError>((key, history.look(engine, shard).await?))
        })
    });
    let looks: Vec<_> = looks.collect();
    let found: Vec<_> = stream::iter(looks).buffered(engine.settings.keys_in_flight.max(1)).try_collect().await?;
    for (key, found) in found {
        raw.extend(found.raw.map(|place| (key.clone(), place)));
        match found.state {
            State::There(item, doubt) => {
                items.push((item, doubt));
                since.push(found.plain_since);
            }
            State::Gone => {
                before.tally += Tally { scanned: 1, superseded: 1, ..Tally::default() };
                before.done.push(key);
            }
            State::Mixed(detail) => {
                let kind = FailureKind::Mixed;
                before.tally += Tally { scanned: 1, failed: 1, ..Tally::default() };
                engine.tell(&Event::Failed { key: key.to_string(), kind: kind.name(), detail: detail.clone() });
                before.failures.push(Failure { key, kind, detail, record: None });
            }
        }
    }
    let mut page = page::process_doubtful(Arc::clone(engine), items, drift).await?;
    let exposed = page.rewritten.iter().filter_map(|(place, sealed)| Some((since[*place]?, *sealed))).collect();
    page.tally += before.tally;
    page.failures.extend(before.failures);
    page.done.extend(before.done);
    for failure in &mut page.failures {
        failure.record = raw.remove(&failure.key);
    }
    Ok(BatchDone { page, exposed })
}

/// The records of each item, in the order of the items' first records.
fn histories(records: Vec<Record>) -> Vec<History> {
    let (mut histories, mut places): (Vec<History>, HashMap<Key, usize>) = (Vec::new(), HashMap::new());
    for record in records {
        if let Some(place) = places.get(&record.key) {
            let earlier = std::mem::replace(&mut histories[*place].last, record);
            histories[*place].earlier.push(earlier);
        } else {
            places.insert(record.key.clone(), histories.len());
            histories.push(History { earlier: Vec::new(), last: record });
        }
    }
    histories
}

/// The records of one item in a batch.
struct History {
    earlier: Vec<Record>,
    last: Record,
}

/// What the records of an item come to.
struct Found {
    state: State,
    /// Since when something of the item is in plaintext, as far as these records tell.
    plain_since: Option<SystemTime>,
    /// The record of the first raw write into the item.
    raw: Option<StreamPlace>,
}

enum State {
    /// The item as it is after them, or now.
    There(Item, Doubt),
    /// It is not there any more.
    Gone,
    /// Nobody can open it, and nobody can say what it was; the reason and the remedy.
    Mixed(String),
}

impl History {
    fn records(&self) -> impl Iterator<Item = &Record> {
        self.earlier.iter().chain([&self.last])
    }

    async fn look(self, engine: &Engine, shard: &str) -> Result<Found, RunError> {
        let changes = self.records().map(|record| Change { old: record.old.as_ref(), new: record.new.as_ref() });
        let trail = Trail::find(&engine.policy.schema, changes.collect()).filter(|_| !self.last.removed);
        let plain_since = self.plain_since();
        let Some((first, trail)) = trail else {
            let state = if self.last.removed { State::Gone } else { self.now(engine, Doubt::None).await? };
            return Ok(Found { state, plain_since, raw: None });
        };
        let first = self.records().nth(first).expect("the trail begins at one of these records");
        let raw = StreamPlace { shard: shard.to_owned(), sequence: first.sequence.clone() };
        let (written, end) = (first.created, follow(engine, trail).await?);
        let (state, plain_since) = match end {
            End::Written(was) => (self.now(engine, Doubt::Since(Arc::from(was))).await?, written),
            End::Doubtful => (self.now(engine, Doubt::Written).await?, plain_since),
            End::Mixed => (self.unproven(engine, &raw).await?, None),
        };
        Ok(Found { state, plain_since, raw: Some(raw) })
    }

    /// The item after the last record: its image there, or as it is now where the view has none.
    async fn now(self, engine: &Engine, doubt: Doubt) -> Result<State, RunError> {
        let item = match self.last.new {
            Some(new) => Some(new),
            None => engine.read_one(&self.last.key).await?,
        };
        Ok(item.map_or(State::Gone, |item| State::There(item, doubt)))
    }

    /// Raw writes, and no image from before them that verifies. That may lie in a batch before this one, whose raw write
    /// was repaired meanwhile: then the item is not what it was after these records.
    async fn unproven(&self, engine: &Engine, raw: &StreamPlace) -> Result<State, RunError> {
        let StreamPlace { shard, sequence } = raw;
        let why = if engine.settings.on_mixed == OnMixed::Quarantine {
            ""
        } else {
            match engine.read_one(&self.last.key).await? {
                None => return Ok(State::Gone),
                Some(now) if !self.last.new.as_ref().is_some_and(|last| same_signature(last, &now)) => {
                    return Ok(State::There(now, Doubt::Written));
                }
                Some(_) => ", and the item before that does not verify",
            }
        };
        Ok(State::Mixed(format!(
            "an application changed a signed attribute of the sealed item and nothing else of it (shard {shard}, sequence \
             number {sequence}){why}; have it put the whole item, with its own encryption client"
        )))
    }

    /// Since when the item is in plaintext, as far as its records tell.
    fn plain_since(&self) -> Option<SystemTime> {
        self.records().fold(None, |since, record| {
            let sealed = record.new.as_ref().is_some_and(|new| new.contains(HEAD));
            if sealed || record.removed { None } else { since.or(record.created) }
        })
    }
}

/// Follows an item since somebody wrote into it. Without repair nothing is opened for that.
async fn follow(engine: &Engine, mut trail: Trail<'_>) -> Result<End, RunError> {
    let repair = engine.settings.on_mixed == OnMixed::Repair;
    while let Some(image) = trail.wants() {
        let plain = if repair { open(engine, image.clone()).await? } else { None };
        trail.opened(image, plain);
    }
    Ok(trail.end())
}

/// What a sealed image opens to; `None` when it does not verify, or no keyring of the job opens it.
async fn open(engine: &Engine, image: Item) -> Result<Option<Item>, RunError> {
    let Ok(Verdict::Current(Some(sealed)) | Verdict::Sealed(sealed)) = engine.policy.classify(&image) else {
        return Ok(None);
    };
    let (edk, key) = match engine.unwrap(&sealed).await {
        Ok(unwrapped) => unwrapped,
        Err(fault) => return engine.refusal(fault).map(|_| None),
    };
    let policy = Arc::clone(&engine.policy);
    Ok(engine.settings.pool.run(move || policy.open(&image, &sealed, edk, &key).ok()).await?)
}
