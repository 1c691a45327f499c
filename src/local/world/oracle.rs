//! What applications wrote last, by key: what every item must open to.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::item::{Item, Key};

/// Remembers the plaintext that the applications of a test left behind.
#[derive(Debug, Default)]
pub struct Oracle {
    items: Mutex<HashMap<Key, Item>>,
}

/// In what the table differs from the oracle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Items that should exist and do not.
    pub lost: Vec<Key>,
    /// Items that should not exist and do.
    pub resurrected: Vec<Key>,
    /// Items that are something else than what was written.
    pub changed: Vec<Key>,
}

impl Differences {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lost.is_empty() && self.resurrected.is_empty() && self.changed.is_empty()
    }
}

impl Oracle {
    /// An application wrote the whole item.
    pub fn put(&self, key: Key, item: Item) {
        self.items().insert(key, item);
    }

    /// An application changed the item in place.
    pub fn change(&self, key: &Key, change: impl FnOnce(&mut Item)) {
        if let Some(item) = self.items().get_mut(key) {
            change(item);
        }
    }

    /// An application deleted the item.
    pub fn delete(&self, key: &Key) {
        self.items().remove(key);
    }

    /// The item as it was left, if it exists.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Item> {
        self.items().get(key).cloned()
    }

    /// How many items exist.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items().len()
    }

    /// Whether none exists.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items().is_empty()
    }

    /// Compares all items, in plaintext, with what the applications left.
    #[must_use]
    pub fn compare(&self, found: impl IntoIterator<Item = (Key, Item)>) -> Differences {
        let mut missing = self.items().clone();
        let mut differences = Differences::default();
        for (key, item) in found {
            match missing.remove(&key) {
                None => differences.resurrected.push(key),
                Some(expected) if !expected.same(&item) => differences.changed.push(key),
                Some(_) => {}
            }
        }
        differences.lost = missing.into_keys().collect();
        differences
    }

    fn items(&self) -> MutexGuard<'_, HashMap<Key, Item>> {
        // Each change is one call of the map: it is whole even when a writer panicked.
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::Value;

    #[test]
    fn differences_are_told_apart() {
        let key = |id: &str| Key { partition: ("id".into(), Value::from(id)), sort: None };
        let item = |id: &str, text: &str| -> Item {
            [("id".to_owned(), Value::from(id)), ("x".to_owned(), Value::from(text))].into_iter().collect()
        };
        let oracle = Oracle::default();
        for id in ["a", "b", "c", "d"] {
            oracle.put(key(id), item(id, "1"));
        }
        oracle.delete(&key("d"));
        oracle.change(&key("b"), |item| drop(item.insert("x", Value::from("2"))));
        let found = ["a", "b", "d"].map(|id| (key(id), item(id, "1")));
        let expected = Differences { lost: vec![key("c")], resurrected: vec![key("d")], changed: vec![key("b")] };
        assert_eq!(oracle.compare(found), expected);
    }
}
