//! The way of a batch of stream records: the records of one item are one piece of work, the page that it makes goes the
//! way of every page.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::engine::{Drift, Engine, RunError};
use super::event::Event;
use super::lane::Seen;
use super::page::{self, PageDone};
use crate::format::Schema;
use crate::format::dbesdk::{FOOT, HEAD};
use crate::item::{Item, Key};
use crate::migration::{Failure, FailureKind, Tally};
use crate::store::Record;

/// What became of a batch of records.
#[derive(Debug, Default)]
pub(super) struct BatchDone {
    /// Of their items, each counted once.
    pub(super) page: PageDone,
    /// Of each item that was in plaintext and is sealed now: when the write that left it so came about.
    pub(super) exposed: Vec<SystemTime>,
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
    for chain in chains(&engine.policy.schema, records) {
        let Chain { key, state, new, removed, sequence, plain_since } = chain;
        let open = engine.failures().contains(&key);
        let item = match state {
            _ if removed => None,
            Link::Mixed => {
                before.tally += Tally { scanned: 1, failed: 1, ..Tally::default() };
                let detail = format!(
                    "an application changed a signed attribute of the sealed item and nothing else of it (shard \
                     {shard}, sequence number {sequence}); have it put the whole item, with its own encryption client"
                );
                let kind = FailureKind::Mixed;
                engine.tell(&Event::Failed { key: key.to_string(), kind: kind.name(), detail: detail.clone() });
                before.failures.push(Failure { key, kind, detail });
                continue;
            }
            // It was not sealed anew: what was wrong with it is wrong still.
            Link::Unsigned if open => {
                before.tally += Tally { scanned: 1, current: 1, ..Tally::default() };
                continue;
            }
            Link::Unsigned | Link::Whole if new.is_some() => new,
            Link::Unsigned | Link::Whole => engine.read_one(&key).await?,
        };
        if let Some(item) = item {
            items.push(item);
            since.push(plain_since);
        } else {
            before.tally += Tally { scanned: 1, superseded: 1, ..Tally::default() };
            before.done.extend(open.then_some(key));
        }
    }
    let mut page = page::process(Arc::clone(engine), Seen { items, drift }).await?;
    let exposed = page.rewritten.iter().filter_map(|place| since[*place]).collect();
    page.tally += before.tally;
    page.failures.extend(before.failures);
    page.done.extend(before.done);
    Ok(BatchDone { page, exposed })
}

/// The records of each item, in the order of the items' first records.
fn chains(schema: &Schema, records: Vec<Record>) -> Vec<Chain> {
    let (mut chains, mut places): (Vec<Chain>, HashMap<Key, usize>) = (Vec::new(), HashMap::new());
    for record in records {
        if let Some(place) = places.get(&record.key) {
            chains[*place].link(schema, record);
        } else {
            places.insert(record.key.clone(), chains.len());
            chains.push(Chain::new(schema, record));
        }
    }
    chains
}

/// What the records of one item in a batch come to.
struct Chain {
    key: Key,
    state: Link,
    /// The item after the last of them, where the view has it.
    new: Option<Item>,
    removed: bool,
    /// Of the last record.
    sequence: String,
    /// Since when the item is in plaintext, as far as these records tell.
    plain_since: Option<SystemTime>,
}

/// What a change did to an item's signature, as far as its images tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// The item was sealed anew, or is not sealed, or the view has not both images.
    Whole,
    /// The item's foot and everything that it signs are as before.
    Unsigned,
    /// The foot is as before, and something that it signs is not: nobody can open the item any more.
    Mixed,
}

impl Chain {
    fn new(schema: &Schema, record: Record) -> Self {
        let state = Link::of(schema, record.old.as_ref(), record.new.as_ref());
        let Record { key, new, removed, sequence, created, .. } = record;
        let sealed = new.as_ref().is_some_and(|new| new.contains(HEAD));
        Self { key, state, new, removed, sequence, plain_since: created.filter(|_| !sealed && !removed) }
    }

    fn link(&mut self, schema: &Schema, record: Record) {
        let (state, plain_since) = (self.state, self.plain_since);
        *self = Self::new(schema, record);
        // What was wrong stays wrong until the item is sealed anew.
        if self.state == Link::Unsigned {
            self.state = state;
        }
        if self.plain_since.is_some() && plain_since.is_some() {
            self.plain_since = plain_since;
        }
    }
}

impl Link {
    fn of(schema: &Schema, old: Option<&Item>, new: Option<&Item>) -> Self {
        let (Some(old), Some(new)) = (old, new) else { return Self::Whole };
        let same = |name: &str| match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) => old.same(new),
            (None, None) => true,
            _ => false,
        };
        if !new.contains(FOOT) || !same(FOOT) {
            return Self::Whole;
        }
        let signed = old.names().chain(new.names()).filter(|name| schema.in_scope(name));
        if signed.into_iter().all(same) { Self::Unsigned } else { Self::Mixed }
    }
}
