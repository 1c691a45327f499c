//! A table in memory that keeps every promise of [`Table`].

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

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
        let key = self.keys.key_of(&item)?.to_string();
        Ok(self.state().items.insert(key, item))
    }

    /// Changes an item in place, as an application's `UpdateItem` would; says whether it was there.
    pub fn change(&self, key: &Key, change: impl FnOnce(&mut Item)) -> bool {
        self.state().items.get_mut(&key.to_string()).map(change).is_some()
    }

    /// Deletes an item and gives back what was there.
    pub fn delete(&self, key: &Key) -> Option<Item> {
        self.state().items.remove(&key.to_string())
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
        self.state().apply(rewrite)
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
        let answers: Vec<Answer> = rewrites.iter().map(|rewrite| self.apply(rewrite)).collect();
        let (units, unreported) = Self::charge(&answers, rewrites, via);
        let requests = if via == Via::Batch { u32::from(!rewrites.is_empty()) } else { rewrites.len() as u32 };
        Update { answers, units, unreported, requests }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::Value;
    use crate::migration::Expected;

    fn names() -> KeyNames {
        KeyNames { partition: "pk".into(), sort: Some("sk".into()) }
    }

    fn item(pk: &str, sk: usize, text: &str) -> Item {
        [
            ("pk".to_owned(), Value::from(pk)),
            ("sk".to_owned(), Value::from(format!("{sk:04}").as_str())),
            ("a".to_owned(), Value::from(text)),
        ]
        .into_iter()
        .collect()
    }

    fn rewrite(item: &Item, set: &str, expected: Expected) -> Rewrite {
        Rewrite {
            key: names().key_of(item).unwrap(),
            set: vec![("a".to_owned(), Value::from(set))],
            remove: vec!["b".to_owned()],
            condition: vec![("a".to_owned(), expected)],
            bytes: item.size(),
        }
    }

    async fn scanned(table: &MemoryTable, total_segments: u32, limit: Option<u32>) -> Vec<Item> {
        let mut found = Vec::new();
        for segment in 0..total_segments {
            let mut after = None;
            loop {
                let page = table.scan(&Scan { segment, total_segments, after, limit }).await.unwrap();
                found.extend(page.items);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        found
    }

    #[tokio::test]
    async fn every_item_is_in_one_segment_and_on_one_page() {
        let table = MemoryTable::new(names());
        for i in 0..100 {
            table.put(item(&format!("p{}", i % 7), i, "x")).unwrap();
        }
        for (total, limit) in [(1, None), (1, Some(1)), (3, Some(10)), (16, Some(7))] {
            let mut found = scanned(&table, total, limit).await;
            found.sort_by_key(|item| names().key_of(item).unwrap().to_string());
            assert_eq!(found, table.items(), "{total} segments, limit {limit:?}");
        }
    }

    #[tokio::test]
    async fn a_page_ends_at_one_megabyte() {
        let table = MemoryTable::new(names());
        for i in 0..4 {
            table.put(item("p", i, &"x".repeat(350 * 1024))).unwrap();
        }
        let page = table.scan(&Scan { segment: 0, total_segments: 1, after: None, limit: None }).await.unwrap();
        assert_eq!((page.items.len(), page.next.is_some(), page.units), (3, true, Some(263.0)));
    }

    #[tokio::test]
    async fn updates_are_conditional_and_never_create() {
        let table = MemoryTable::new(names());
        let (old, gone) = (item("p", 1, "old"), item("p", 2, "old"));
        table.put(old.clone()).unwrap();
        let update = table
            .update(
                &[
                    rewrite(&old, "new", Expected::Equals(Value::from("old"))),
                    rewrite(&gone, "new", Expected::Equals(Value::from("old"))),
                ],
                Via::Batch,
            )
            .await;
        assert!(matches!(update.answers[..], [Answer::Written, Answer::ConditionFailed(None)]));
        assert_eq!((update.units, update.unreported, update.requests), (Some(2.0), 0.0, 1));

        let late = rewrite(&old, "newer", Expected::Equals(Value::from("old")));
        let update = table.update(&[late], Via::Single).await;
        let [Answer::ConditionFailed(Some(current))] = &update.answers[..] else { panic!("{update:?}") };
        assert_eq!(**current, item("p", 1, "new"));
        assert_eq!((update.units, update.unreported), (None, 1.0));

        let large = rewrite(&old, &"x".repeat(ITEM_BYTES_MAX), Expected::Equals(Value::from("new")));
        let update = table.update(&[large], Via::Single).await;
        assert!(matches!(&update.answers[..], [Answer::Failed(error)] if error.class == StoreClass::Item));
        assert_eq!(table.items(), [item("p", 1, "new")]);
        assert_eq!(table.counts(), Counts { written: 1, conditions_failed: 2, ..Counts::default() });
    }
}
