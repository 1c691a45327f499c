//! A stream in memory that keeps every promise of [`Shards`], and none that DynamoDB does not make.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::time::Instant;

use crate::item::{Item, Key};
use crate::migration::Listed;
use crate::store::{Listing, Record, Records, Shards, ShardsError, Start, StoreClass, StoreError};

/// How long records are kept, and closed shards are listed (developer guide, "Data retention limit").
const RETENTION: Duration = Duration::from_hours(24);
/// How long an iterator lives (API reference, `GetShardIterator`).
const ITERATOR_LIFE: Duration = Duration::from_mins(15);
/// `GetRecords` calls per second and shard (developer guide, "Service quotas").
const CALLS_PER_SECOND: usize = 5;
/// The longest that listings are behind, however few there are.
const BEHIND: Duration = Duration::from_mins(30);
/// The service's time when the stream was made: not that of any clock of this machine.
const MADE: Duration = Duration::from_hours(400_000);

/// What a stream's records say of an item besides its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Nothing.
    KeysOnly,
    /// How it is after the change.
    NewImage,
    /// How it was before the change.
    OldImage,
    /// Both.
    NewAndOldImages,
}

/// A stream in memory, on tokio's clock. A [`MemoryTable`](super::MemoryTable) feeds it, and a test splits its shards
/// and makes it as unpleasant as the service can be.
#[derive(Debug)]
pub struct MemoryShards {
    arn: String,
    view: View,
    /// When the first stream of the table was made: the service's clock goes on when another one is.
    made: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    shards: BTreeMap<String, Contents>,
    /// Shards so far.
    made: u32,
    /// Records so far: the next sequence number.
    records: u64,
    /// Every record so far with its shard, trimmed or not.
    told: Vec<(String, Record)>,
    disabled: bool,
    page_shards: usize,
    page_records: usize,
    /// Answers without records that are still to be given although there are some.
    empty_answers: u32,
    calls: u64,
    too_fast: u64,
}

#[derive(Debug)]
struct Contents {
    parent: Option<String>,
    /// The first and the last hash of the keys that belong here.
    range: (u64, u64),
    records: VecDeque<(u64, Instant, Record)>,
    /// Sequence numbers below this one are not here any more.
    trimmed: u64,
    closed: Option<Instant>,
    /// Whole listings that are still to lack it.
    left_out: u32,
    /// Whole listings that are still to show it as open.
    shown_open: u32,
    /// Since when listings are behind with it.
    behind: Option<Instant>,
    /// When the last calls for its records were.
    calls: VecDeque<Instant>,
}

impl MemoryShards {
    /// A stream of one shard, enabled now.
    #[must_use]
    pub fn new(view: View) -> Self {
        Self::numbered(1, view, Instant::now(), (0, 0), (100, 1000))
    }

    /// What follows when this stream is disabled and the table gets another one: under an ARN of its own, and empty.
    #[must_use]
    pub fn successor(&self) -> Self {
        self.disable();
        let state = self.state();
        let number: u32 = self.arn.rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        let pages = (state.page_shards, state.page_records);
        Self::numbered(number + 1, self.view, self.made, (state.made, state.records), pages)
    }

    /// The n-th stream of a table, with shards and records numbered from these on.
    fn numbered(n: u32, view: View, made: Instant, (shards, records): (u32, u64), pages: (usize, usize)) -> Self {
        let mut state = State {
            shards: BTreeMap::new(),
            made: shards,
            records,
            told: Vec::new(),
            disabled: false,
            page_shards: pages.0,
            page_records: pages.1,
            empty_answers: 0,
            calls: 0,
            too_fast: 0,
        };
        state.add(None, (0, u64::MAX));
        let arn = format!("arn:aws:dynamodb:eu-central-1:000000000000:table/customers/stream/{n}");
        Self { arn, view, made, state: Mutex::new(state) }
    }

    /// The same under another ARN.
    #[must_use]
    pub fn named(self, arn: &str) -> Self {
        Self { arn: arn.to_owned(), ..self }
    }

    /// Whether the stream was disabled.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.state().disabled
    }

    /// Every record so far from the n-th on, with its shard, trimmed or not: what a test knows and no reader does.
    #[must_use]
    pub fn told(&self, n: usize) -> Vec<(String, Record)> {
        self.state().told.get(n..).unwrap_or_default().to_vec()
    }

    /// The shard that a shard continues.
    #[must_use]
    pub fn parent(&self, id: &str) -> Option<String> {
        self.state().shards.get(id)?.parent.clone()
    }

    /// The last record of a shard that was not trimmed.
    #[must_use]
    pub fn latest(&self, id: &str) -> Option<String> {
        self.state().shards.get(id)?.records.back().map(|(_, _, record)| record.sequence.clone())
    }

    /// The service's time, in whole seconds.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.time_of(Instant::now())
    }

    /// An item was changed from what it was to what it is.
    pub(super) fn changed(&self, key: Key, old: Option<&Item>, new: Option<&Item>) {
        let mut state = self.state();
        let same = old.zip(new).is_some_and(|(old, new)| old.same(new)) || (old.is_none() && new.is_none());
        if same || state.disabled {
            return;
        }
        let mut hasher = DefaultHasher::new();
        Key { sort: None, ..key.clone() }.hash(&mut hasher);
        let hash = hasher.finish();
        let sequence = state.records;
        state.records += 1;
        let shows = |view| self.view == view || self.view == View::NewAndOldImages;
        let record = Record {
            key,
            old: old.filter(|_| shows(View::OldImage)).cloned(),
            new: new.filter(|_| shows(View::NewImage)).cloned(),
            removed: new.is_none(),
            sequence: text_of(sequence),
            created: Some(self.now()),
        };
        let mut open = state.shards.iter_mut().filter(|(_, shard)| shard.closed.is_none());
        let (id, shard) = open
            .find(|(_, shard)| (shard.range.0..=shard.range.1).contains(&hash))
            .expect("open shards cover every hash");
        shard.records.push_back((sequence, Instant::now(), record.clone()));
        let id = id.clone();
        state.told.push((id, record));
    }

    /// Closes an open shard and continues it with so many, one or more; gives back their ids.
    pub fn split(&self, id: &str, children: u64) -> Vec<String> {
        let mut state = self.state();
        let Some(shard) = state.shards.get_mut(id).filter(|shard| shard.closed.is_none()) else { return Vec::new() };
        shard.closed = Some(Instant::now());
        let (first, last) = shard.range;
        let width = (last - first) / children;
        let range = |child| {
            let begin = first + child * width;
            (begin, if child + 1 == children { last } else { begin + width - 1 })
        };
        (0..children).map(|child| state.add(Some(id.to_owned()), range(child))).collect()
    }

    /// Disables the stream: every shard is closed, and nothing continues them.
    pub fn disable(&self) {
        let mut state = self.state();
        state.disabled = true;
        state.shards.values_mut().for_each(|shard| _ = shard.closed.get_or_insert_with(Instant::now));
    }

    /// The ids of the shards that are there, oldest first.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.state().shards.keys().cloned().collect()
    }

    /// The ids of the shards that are open.
    #[must_use]
    pub fn open(&self) -> Vec<String> {
        let state = self.state();
        let open = state.shards.iter().filter(|(_, shard)| shard.closed.is_none());
        open.map(|(id, _)| id.clone()).collect()
    }

    /// Limits pages to so many shards, and so many records.
    pub fn limit_pages(&self, shards: usize, records: usize) {
        let mut state = self.state();
        (state.page_shards, state.page_records) = (shards.max(1), records.max(1));
    }

    /// The next answers bring no records, whether there are some or not.
    pub fn answer_empty(&self, answers: u32) {
        self.state().empty_answers = answers;
    }

    /// The next whole listings lack a shard.
    pub fn leave_out(&self, id: &str, listings: u32) {
        if let Some(shard) = self.state().shards.get_mut(id) {
            (shard.left_out, shard.behind) = (listings, Some(Instant::now()));
        }
    }

    /// The next whole listings show a shard as open, even if it is closed.
    pub fn show_open(&self, id: &str, listings: u32) {
        if let Some(shard) = self.state().shards.get_mut(id) {
            (shard.shown_open, shard.behind) = (listings, Some(Instant::now()));
        }
    }

    /// Calls for records so far, and how many of them came faster than the service allows.
    #[must_use]
    pub fn calls(&self) -> (u64, u64) {
        let state = self.state();
        (state.calls, state.too_fast)
    }

    fn time_of(&self, moment: Instant) -> SystemTime {
        let whole = Duration::from_secs((MADE + moment.duration_since(self.made)).as_secs());
        SystemTime::UNIX_EPOCH + whole
    }

    /// The state after everything was trimmed that is old enough.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.shards.retain(|_, shard| shard.closed.is_none_or(|closed| closed.elapsed() < RETENTION));
        for shard in state.shards.values_mut() {
            if shard.behind.take_if(|behind| behind.elapsed() > BEHIND).is_some() {
                (shard.left_out, shard.shown_open) = (0, 0);
            }
            while let Some((sequence, _, _)) =
                shard.records.pop_front_if(|(_, created, _)| created.elapsed() > RETENTION)
            {
                shard.trimmed = sequence + 1;
            }
        }
        state
    }
}

impl State {
    fn add(&mut self, parent: Option<String>, range: (u64, u64)) -> String {
        let id = format!("shardId-{:08}-{:08x}", self.made, range.0 >> 32);
        self.made += 1;
        let contents = Contents {
            parent,
            range,
            records: VecDeque::new(),
            trimmed: 0,
            closed: None,
            left_out: 0,
            shown_open: 0,
            behind: None,
            calls: VecDeque::new(),
        };
        self.shards.insert(id.clone(), contents);
        id
    }

    fn shard(&mut self, operation: &'static str, id: &str) -> Result<&mut Contents, ShardsError> {
        self.shards.get_mut(id).ok_or_else(|| ShardsError::Gone(fatal(operation, "there is no such shard")))
    }
}

/// Sequence numbers are ordered by their numbers, not by their texts.
fn text_of(sequence: u64) -> String {
    format!("{}", 100 + sequence)
}

fn sequence_of(operation: &'static str, text: &str) -> Result<u64, ShardsError> {
    let number: Option<u64> = text.parse().ok();
    let sequence = number.and_then(|number| number.checked_sub(100));
    sequence.ok_or_else(|| ShardsError::Store(fatal(operation, "this is no sequence number")))
}

fn fatal(operation: &'static str, problem: &str) -> StoreError {
    StoreError { operation, class: StoreClass::Fatal, problem: problem.to_owned() }
}

fn listed(id: &str, shard: &Contents) -> Listed {
    let closed = shard.closed.is_some() && shard.shown_open == 0;
    Listed { id: id.to_owned(), parent: shard.parent.clone(), closed }
}

#[async_trait]
impl Shards for MemoryShards {
    fn arn(&self) -> &str {
        &self.arn
    }

    async fn list(&self, after: Option<&str>) -> Result<Listing, ShardsError> {
        let mut state = self.state();
        // The youngest first, so that children come before their parents.
        let rest = state
            .shards
            .iter()
            .rev()
            .filter(|(id, shard)| shard.left_out == 0 && after.is_none_or(|after| id.as_str() < after));
        let mut shards: Vec<Listed> = rest.map(|(id, shard)| listed(id, shard)).take(state.page_shards + 1).collect();
        let more = shards.len() > state.page_shards;
        shards.truncate(state.page_shards);
        let next = shards.last().filter(|_| more).map(|shard| shard.id.clone());
        if next.is_none() {
            for shard in state.shards.values_mut() {
                shard.left_out = shard.left_out.saturating_sub(1);
                shard.shown_open = shard.shown_open.saturating_sub(1);
            }
        }
        Ok(Listing { shards, next, enabled: !state.disabled, at: Some(self.now()) })
    }

    async fn children(&self, parent: &str) -> Result<Option<Listing>, ShardsError> {
        let state = self.state();
        let children = state.shards.iter().filter(|(_, shard)| shard.parent.as_deref() == Some(parent));
        let shards = children.map(|(id, shard)| listed(id, shard)).collect();
        Ok(Some(Listing { shards, next: None, enabled: !state.disabled, at: Some(self.now()) }))
    }

    async fn iterator(&self, shard: &str, start: &Start) -> Result<String, ShardsError> {
        const OPERATION: &str = "GetShardIterator";
        let mut state = self.state();
        let contents = state.shard(OPERATION, shard)?;
        let next = match start {
            Start::TrimHorizon => contents.trimmed,
            Start::At(text) | Start::After(text) => {
                let sequence = sequence_of(OPERATION, text)?;
                if sequence < contents.trimmed {
                    return Err(ShardsError::Trimmed(fatal(OPERATION, "the sequence number was trimmed")));
                }
                sequence + u64::from(matches!(start, Start::After(_)))
            }
        };
        Ok(format!("{shard}/{next}/{}", self.made.elapsed().as_millis()))
    }

    async fn records(&self, iterator: &str) -> Result<Records, ShardsError> {
        const OPERATION: &str = "GetRecords";
        let parts: Vec<&str> = iterator.split('/').collect();
        let [id, next, made] = parts[..] else {
            return Err(ShardsError::Store(fatal(OPERATION, "this is no iterator")));
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| fatal(OPERATION, "this is no iterator"));
        let (next, made) = (number(next)?, Duration::from_millis(number(made)?));
        let mut state = self.state();
        state.calls += 1;
        let (now, limit) = (Instant::now(), state.page_records);
        let contents = state.shard(OPERATION, id)?;
        contents.calls.retain(|call| now.duration_since(*call) < Duration::from_secs(1));
        if contents.calls.len() >= CALLS_PER_SECOND {
            state.too_fast += 1;
            let class = StoreClass::Throttled { reason: "LimitExceeded".to_owned() };
            return Err(StoreError { operation: OPERATION, class, problem: "too many calls".to_owned() }.into());
        }
        contents.calls.push_back(now);
        if self.made.elapsed().saturating_sub(made) > ITERATOR_LIFE {
            return Err(ShardsError::Expired(fatal(OPERATION, "the iterator is older than 15 minutes")));
        }
        if next < contents.trimmed {
            return Err(ShardsError::Trimmed(fatal(OPERATION, "the records were trimmed")));
        }
        let hold_back = state.empty_answers > 0;
        state.empty_answers = state.empty_answers.saturating_sub(1);
        let contents = state.shard(OPERATION, id)?;
        let rest = contents.records.iter().filter(|(sequence, _, _)| *sequence >= next);
        let page: Vec<&(u64, Instant, Record)> = rest.take(if hold_back { 0 } else { limit }).collect();
        let next = page.last().map_or(next, |(sequence, _, _)| sequence + 1);
        let read = contents.records.back().is_none_or(|(last, _, _)| *last < next);
        let end = contents.closed.is_some() && read && !hold_back;
        let records = page.into_iter().map(|(_, _, record)| record.clone()).collect();
        let next = (!end).then(|| format!("{id}/{next}/{}", self.made.elapsed().as_millis()));
        Ok(Records { records, next, at: Some(self.now()) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::advance;

    use super::*;
    use crate::item::{KeyNames, Value};
    use crate::testing::MemoryTable;

    fn item(id: &str, note: &str) -> Item {
        [("id", id), ("note", note)].map(|(name, value)| (name.to_owned(), Value::from(value))).into_iter().collect()
    }

    fn world(view: View) -> (Arc<MemoryShards>, MemoryTable) {
        let shards = Arc::new(MemoryShards::new(view));
        let names = KeyNames { partition: "id".to_owned(), sort: None };
        (Arc::clone(&shards), MemoryTable::with_stream(names, shards))
    }

    async fn read(shards: &MemoryShards, id: &str, start: &Start) -> Result<Records, ShardsError> {
        let iterator = shards.iterator(id, start).await?;
        shards.records(&iterator).await
    }

    /// Old note, new note, and whether the item was removed.
    fn told(records: &Records) -> Vec<(Option<&str>, Option<&str>, bool)> {
        fn note(item: Option<&Item>) -> Option<&str> {
            match item?.get("note")? {
                Value::String(note) => Some(note),
                _ => None,
            }
        }
        records.records.iter().map(|of| (note(of.old.as_ref()), note(of.new.as_ref()), of.removed)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn records_tell_what_the_view_has_of_every_change_in_order() {
        let (old, new) = (Some("old"), Some("new"));
        for (view, expected) in [
            (View::KeysOnly, [(None, None, false), (None, None, false), (None, None, true)]),
            (View::NewImage, [(None, old, false), (None, new, false), (None, None, true)]),
            (View::OldImage, [(None, None, false), (old, None, false), (new, None, true)]),
            (View::NewAndOldImages, [(None, old, false), (old, new, false), (new, None, true)]),
        ] {
            let (shards, table) = world(view);
            table.put(item("a", "old")).unwrap();
            table.put(item("a", "old")).unwrap();
            let key = table.keys().key_of(&item("a", "")).unwrap();
            table.change(&key, |item| drop(item.insert("note", Value::from("new"))));
            table.delete(&key);
            table.delete(&key);
            let records = read(&shards, &shards.open()[0], &Start::TrimHorizon).await.unwrap();
            assert_eq!(told(&records), expected, "{view:?}");
            assert_eq!(records.at, Some(shards.now()));
            let second = Start::At(records.records[1].sequence.clone());
            assert_eq!(told(&read(&shards, &shards.open()[0], &second).await.unwrap()), expected[1..], "{view:?}");
            assert!(records.records.iter().all(|record| record.key == key && record.created == Some(shards.now())));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_shard_ends_and_its_children_go_on() {
        let (shards, table) = world(View::NewImage);
        let parent = shards.open().remove(0);
        (0..40).for_each(|i| drop(table.put(item(&i.to_string(), "1")).unwrap()));
        let children = shards.split(&parent, 2);
        assert_eq!(shards.open(), children);
        (0..40).for_each(|i| drop(table.put(item(&i.to_string(), "2")).unwrap()));
        shards.limit_pages(2, 15);
        let (mut start, mut sizes) = (Start::TrimHorizon, Vec::new());
        loop {
            let page = read(&shards, &parent, &start).await.unwrap();
            sizes.push(page.records.len());
            let Some(last) = page.records.last() else { break };
            assert_eq!(page.next.is_none(), sizes.len() == 3);
            start = Start::After(last.sequence.clone());
        }
        assert_eq!(sizes, [15, 15, 10, 0]);
        shards.limit_pages(2, 1000);
        let mut sum = 0;
        for child in &children {
            let page = read(&shards, child, &Start::TrimHorizon).await.unwrap();
            assert!(page.next.is_some() && !page.records.is_empty());
            sum += page.records.len();
        }
        assert_eq!(sum, 40);

        // Children come first, in pages; listings lack shards, and show them as open, so often as they are told to.
        let first = shards.list(None).await.unwrap();
        assert_eq!(first.shards.iter().map(|shard| &shard.id).collect::<Vec<_>>(), [&children[1], &children[0]]);
        let second = shards.list(first.next.as_deref()).await.unwrap();
        assert_eq!((second.shards[0].closed, second.next), (true, None));
        shards.limit_pages(100, 1000);
        shards.leave_out(&children[0], 1);
        shards.show_open(&parent, 1);
        let listed = shards.list(None).await.unwrap();
        assert_eq!((listed.shards.len(), listed.shards[1].closed, listed.enabled), (2, false, true));
        shards.disable();
        let listed = shards.list(None).await.unwrap();
        assert!(listed.shards.len() == 3 && listed.shards.iter().all(|shard| shard.closed) && !listed.enabled);
        assert_eq!(shards.children(&parent).await.unwrap().unwrap().shards.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn time_goes_by() {
        let (shards, table) = world(View::NewImage);
        let id = shards.open().remove(0);
        table.put(item("a", "1")).unwrap();
        let first = read(&shards, &id, &Start::TrimHorizon).await.unwrap();
        let after = Start::After(first.records[0].sequence.clone());
        advance(Duration::from_mins(15) + Duration::from_secs(1)).await;
        let late = shards.records(first.next.as_deref().unwrap()).await;
        assert!(matches!(late, Err(ShardsError::Expired(_))), "{late:?}");
        assert_eq!(told(&read(&shards, &id, &after).await.unwrap()), []);
        advance(Duration::from_hours(12)).await;
        table.put(item("a", "2")).unwrap();
        shards.answer_empty(1);
        let empty = read(&shards, &id, &after).await.unwrap();
        assert!(empty.records.is_empty() && empty.next.is_some());
        assert_eq!(told(&shards.records(empty.next.as_deref().unwrap()).await.unwrap()), [(None, Some("2"), false)]);
        advance(Duration::from_hours(12)).await;
        let trimmed = read(&shards, &id, &after).await;
        assert!(matches!(trimmed, Err(ShardsError::Trimmed(_))), "{trimmed:?}");
        assert_eq!(read(&shards, &id, &Start::TrimHorizon).await.unwrap().records.len(), 1);
        shards.split(&id, 1);
        advance(Duration::from_hours(24)).await;
        let gone = read(&shards, &id, &after).await;
        assert!(matches!(gone, Err(ShardsError::Gone(_))), "{gone:?}");
        assert_eq!(shards.list(None).await.unwrap().shards.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_calls_in_a_second_are_refused() {
        let (shards, _) = world(View::NewImage);
        let iterator = shards.iterator(&shards.open()[0], &Start::TrimHorizon).await.unwrap();
        for call in 0..6 {
            assert_eq!(shards.records(&iterator).await.is_ok(), call < 5);
        }
        advance(Duration::from_secs(1)).await;
        assert!(shards.records(&iterator).await.is_ok());
        assert_eq!(shards.calls(), (7, 1));
    }
}
