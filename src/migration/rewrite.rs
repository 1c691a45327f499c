//! One conditional change of one item: the only kind of write there is.

use crate::item::{Item, Key, Value};

/// What must still be true of an attribute when the change is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// It has this value, in DynamoDB's sense of `=`.
    Equals(Value),
    /// It does not exist.
    Absent,
    /// It exists, whatever its value. Only the harmless probe of the ground asks this (rule P).
    Exists,
}

/// A change of the attributes that the rewrite touches, on the condition that the item exists and is still what was
/// read (rules W and T).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// The item.
    pub key: Key,
    /// Attributes to set.
    pub set: Vec<(String, Value)>,
    /// Attributes to remove.
    pub remove: Vec<String>,
    /// What must still be true; that the item exists is always part of it.
    pub condition: Vec<(String, Expected)>,
    /// The larger of the item's sizes before and after, in bytes: what the write is charged for.
    pub bytes: usize,
}

impl Rewrite {
    /// The item after the change, given the item it was made for.
    #[must_use]
    pub fn applied_to(&self, item: &Item) -> Item {
        let mut after = item.clone();
        for (name, value) in &self.set {
            after.insert(name.clone(), value.clone());
        }
        for name in &self.remove {
            after.remove(name);
        }
        after
    }

    /// Whether the condition holds for the item. A current item that was returned with a failed condition and for which
    /// it holds shows a defect of the condition (rule R).
    #[must_use]
    pub fn holds_for(&self, item: &Item) -> bool {
        self.condition.iter().all(|(name, expected)| match (expected, item.get(name)) {
            (Expected::Equals(value), Some(found)) => found.same(value),
            (Expected::Absent, None) | (Expected::Exists, Some(_)) => true,
            _ => false,
        })
    }
}
