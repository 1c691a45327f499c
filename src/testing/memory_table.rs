//! A table in memory that keeps every promise of [`Table`].

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::MemoryShards;
use crate::item::{ITEM_BYTES_MAX, Item, Key, KeyError, KeyNames, read_units, write_units};
use crate::migration::Rewrite;
use crate::store::{Answer, Page, Scan, StoreClass, StoreError, Table, Units, Update, Via};

/// The most that a page of a scan holds, in bytes (DynamoDB developer guide, "Scanning tables").
const PAGE_BYTES: usize = 1024 * 1024;

/// What a [`MemoryTable`] was asked to do so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pages read.
    pub scans: u64,
    /// Items read by key.
    pub gets: u64,
    /// Rewrites that were applied.
    pub written: u64,
    /// Rewrites whose condition did not hold.
    pub conditions_failed: u64,
}

/// A table in memory. Writers of a test use [`MemoryTable::put`], [`MemoryTable::change`] and [`MemoryTable::delete`]
/// at any time; the engine sees it as a [`Table`].
#[derive(Debug)]
pub struct MemoryTable {
    keys: KeyNames,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stream: Option<Arc<MemoryShards>>,
    /// By the text of the key, in whose order a segment is scanned.
    items: BTreeMap<String, Item>,
    counts: Counts,
}

impl MemoryTable {
    /// An empty table with these key attributes.
    #[must_use]
    pub fn new(keys: KeyNames) -> Self {
        Self { keys, state: Mutex::default() }
    }

    /// An empty table whose changes are told to a stream.
    #[must_use]
    pub fn with_stream(keys: KeyNames, stream: Arc<MemoryShards>) -> Self {
        let table = Self::new(keys);
        table.set_stream(stream);
        table
    }

    /// From now on another stream is told of the changes.
    pub fn set_stream(&self, stream: Arc<MemoryShards>) {
        self.state().stream = Some(stream);
    }

    /// The key attributes.
    #[must_use]
    pub const fn keys(&self) -> &KeyNames {
        &self.keys
    }

    /// Puts a whole item, as an application would, and gives back the item that was there.
    ///
    /// # Errors
    /// [`KeyError`] when the item does not carry the table's key.
    pub fn put(&self, item: Item) -> Result<Option<Item>, KeyError> {
        let key = self.keys.key_of(&item)?;
        let mut state = self.state();
        let old = state.items.insert(key.to_string(), item.clone());
        state.tell(key, old.as_ref(), Some(&item));
        Ok(old)
    }

    /// Changes an item in place, as an application's `UpdateItem` would; says whether it was there.
    pub fn change(&self, key: &Key, change: impl FnOnce(&mut Item)) -> bool {
        let mut state = self.state();
        let Some(item) = state.items.get_mut(&key.to_string()) else { return false };
        let old = item.clone();
        change(item);
        let new = item.clone();
        state.tell(key.clone(), Some(&old), Some(&new));
        true
    }

    /// Deletes an item and gives back what was there.
    pub fn delete(&self, key: &Key) -> Option<Item> {
        let mut state = self.state();
        let old = state.items.remove(&key.to_string());
        state.tell(key.clone(), old.as_ref(), None);
        old
    }

    /// The item as it is now, uncounted.
    #[must_use]
    pub fn peek(&self, key: &Key) -> Option<Item> {
        self.state().items.get(&key.to_string()).cloned()
    }

    /// All items, ordered by the text of their keys, uncounted.
    #[must_use]
    pub fn items(&self) -> Vec<Item> {
        self.state().items.values().cloned().collect()
    }

    /// Applies one rewrite, if its condition holds.
    pub fn apply(&self, rewrite: &Rewrite) -> Answer {
        let mut state = self.state();
        let item = |state: &State| state.items.get(&rewrite.key.to_string()).cloned();
        let old = state.stream.as_ref().and_then(|_| item(&state));
        let answer = state.apply(rewrite);
        if state.stream.is_some() {
            state.tell(rewrite.key.clone(), old.as_ref(), item(&state).as_ref());
        }
        answer
    }

    /// Whether a batch is rejected as a whole: it names an item twice, or is too large (API reference,
    /// `BatchExecuteStatement`).
    #[must_use]
    pub fn rejects(rewrites: &[Rewrite]) -> bool {
        let keys: BTreeSet<String> = rewrites.iter().map(|rewrite| rewrite.key.to_string()).collect();
        keys.len() < rewrites.len() || rewrites.len() > 25
    }

    /// The requests that an update of a few rewrites takes.
    #[must_use]
    pub const fn requests(rewrites: &[Rewrite], via: Via) -> u32 {
        match via {
            Via::Batch => !rewrites.is_empty() as u32,
            Via::Single => rewrites.len() as u32,
        }
    }

    /// Write units of an update, as the service reports them and by our own arithmetic: a failed condition is charged
    /// for; a batch reports it if another statement succeeded, a single update never.
    #[must_use]
    pub fn charge(answers: &[Answer], rewrites: &[Rewrite], via: Via) -> (Units, f64) {
        let written = |answer: &Answer| matches!(answer, Answer::Written);
        let any = answers.iter().any(written);
        let reported = |answer: &Answer| any && (via == Via::Batch || written(answer));
        let (mut units, mut unreported) = (any.then_some(0.0), 0.0);
        for (answer, rewrite) in answers.iter().zip(rewrites) {
            let charged = f64::from(write_units(rewrite.bytes));
            match (&mut units, answer) {
                (_, Answer::Failed(_)) => {}
                (Some(units), answer) if reported(answer) => *units += charged,
                _ => unreported += charged,
            }
        }
        (units, unreported)
    }

    /// What was asked so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn segment_of(&self, item: &Item, total: u32) -> Result<u32, StoreError> {
        let key = self.keys.key_of(item).map_err(|error| fatal("Scan", error.to_string()))?;
        let mut hasher = DefaultHasher::new();
        Key { sort: None, ..key }.hash(&mut hasher);
        Ok((hasher.finish() % u64::from(total)) as u32)
    }
}

impl State {
    /// Tells the stream of a change, while the table is locked: records come in the order of the changes.
    fn tell(&self, key: Key, old: Option<&Item>, new: Option<&Item>) {
        if let Some(stream) = &self.stream {
            stream.changed(key, old, new);
        }
    }

    fn apply(&mut self, rewrite: &Rewrite) -> Answer {
        let key = rewrite.key.to_string();
        let Some(item) = self.items.get(&key) else {
            self.counts.conditions_failed += 1;
            return Answer::ConditionFailed(None);
        };
        if !rewrite.holds_for(item) {
            self.counts.conditions_failed += 1;
            return Answer::ConditionFailed(Some(Box::new(item.clone())));
        }
        let after = rewrite.applied_to(item);
        if after.size() > ITEM_BYTES_MAX {
            return Answer::Failed(StoreError {
                operation: "UpdateItem",
                class: StoreClass::Item,
                problem: format!("{} bytes are more than an item may have", after.size()),
            });
        }
        self.items.insert(key, after);
        self.counts.written += 1;
        Answer::Written
    }
}

fn rejected() -> StoreError {
    let problem = "an item is named twice, or there are more than 25".to_owned();
    StoreError { operation: "BatchExecuteStatement", class: StoreClass::Item, problem }
}

fn fatal(operation: &'static str, problem: String) -> StoreError {
    StoreError { operation, class: StoreClass::Fatal, problem }
}

#[async_trait]
impl Table for MemoryTable {
    async fn scan(&self, scan: &Scan) -> Result<Page, StoreError> {
        let (segment, total) = (scan.segment, scan.total_segments);
        if total == 0 || segment >= total {
            return Err(fatal("Scan", format!("segment {segment} of {total}")));
        }
        let mut state = self.state();
        state.counts.scans += 1;
        let begin = scan.after.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(key.to_string()));
        let limit = scan.limit.map_or(usize::MAX, |limit| limit as usize);
        let (mut page, mut bytes) = (Page { items: Vec::new(), next: None, units: None }, 0);
        for item in state.items.range((begin, Bound::Unbounded)).map(|(_, item)| item) {
            if self.segment_of(item, total)? != segment {
                continue;
            }
            bytes += item.size();
            page.items.push(item.clone());
            // Like the service, a page that ends here may be followed by an empty one.
            if page.items.len() >= limit || bytes >= PAGE_BYTES {
                page.next = Some(self.keys.key_of(item).map_err(|error| fatal("Scan", error.to_string()))?);
                break;
            }
        }
        page.units = Some(f64::from(read_units(bytes)));
        Ok(page)
    }

    async fn get(&self, key: &Key) -> Result<(Option<Item>, Units), StoreError> {
        let mut state = self.state();
        state.counts.gets += 1;
        let item = state.items.get(&key.to_string()).cloned();
        let units = read_units(item.as_ref().map_or(0, Item::size));
        Ok((item, Some(f64::from(units))))
    }

    async fn update(&self, rewrites: &[Rewrite], via: Via) -> Update {
        let twice = via == Via::Batch && Self::rejects(rewrites);
        let apply = |rewrite| if twice { Answer::Failed(rejected()) } else { self.apply(rewrite) };
        let answers: Vec<Answer> = rewrites.iter().map(apply).collect();
        let (units, unreported) = Self::charge(&answers, rewrites, via);
        Update { answers, units, unreported, requests: Self::requests(rewrites, via) }
    }
}
