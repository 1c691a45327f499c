//! Batches of stream records that somebody else reads, remembers and brings again: the way of the tail's batches, without
//! a journal. What has to come again is in the report.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::{Instant, timeout_at};

use super::engine::{Engine, Ports, RunError, Settings};
use super::page::PageDone;
use super::records::{self, BatchDone};
use super::writer::BATCH_MAX;
use crate::item::Key;
use crate::migration::{Failure, Policy, Tally};
use crate::store::Record;

/// Works on batches, one after the other or several at once. Budgets, proofs and the way of writing are theirs together.
pub struct Batches {
    engine: Arc<Engine>,
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches").field("ports", &self.engine.ports).finish_non_exhaustive()
    }
}

/// What became of the items of a batch. An item stands for all its records: where it has to be seen again, so has its
/// first record in the batch, because what an application did to the item may be told by all of them together only.
#[derive(Debug, Default)]
pub struct BatchReport {
    /// Of the items that were worked on, each counted once.
    pub tally: Tally,
    /// Of each item that was in plaintext and is sealed now: when the write that left it so came about.
    pub exposed: Vec<SystemTime>,
    /// Items that cannot be done as they are, each with the sequence number of its first record.
    pub failures: Vec<(String, Failure)>,
    /// The sequence number of the first record of each item that was not worked on to its end.
    pub undone: Vec<String>,
    /// Why there are such items.
    pub stopped: Option<Stopped>,
}

/// Why a batch was not worked on to its end. What was sent by then was conditional; seen again, it is recognised.
#[derive(Debug)]
pub enum Stopped {
    /// The time was up.
    Deadline,
    /// The run cannot go on.
    Fault(RunError),
}

impl Batches {
    /// Ready for batches. Sends nothing. However many items come, they are rewritten: no limit is kept.
    #[must_use]
    pub fn new(ports: Ports, policy: Arc<Policy>, settings: Settings) -> Self {
        Self { engine: Arc::new(Engine::new(ports, policy, Settings { max_items: None, ..settings })) }
    }

    /// Brings the items of some records, given in the order of their changes, to the target, as far as that is possible
    /// until the deadline. `shard` names in failures where the records come from.
    pub async fn work(&self, shard: &str, records: Vec<Record>, deadline: Instant) -> BatchReport {
        let drift = self.engine.drift();
        let mut report = BatchReport::default();
        // A page would work on no more at once. Between groups, what is done is known to be done.
        for Group { records, firsts } in groups(records, BATCH_MAX * self.engine.settings.writes_in_flight.max(1)) {
            if report.stopped.is_none() && Instant::now() >= deadline {
                report.stopped = Some(Stopped::Deadline);
            }
            if report.stopped.is_none() {
                match timeout_at(deadline, records::process(&self.engine, shard, records, drift)).await {
                    Ok(Ok(done)) => {
                        report.add(done, firsts);
                        continue;
                    }
                    Ok(Err(fault)) => report.stopped = Some(Stopped::Fault(fault)),
                    Err(_elapsed) => report.stopped = Some(Stopped::Deadline),
                }
            }
            report.undone.extend(firsts.into_iter().map(|(_, first)| first));
        }
        report
    }
}

impl BatchReport {
    fn add(&mut self, done: BatchDone, firsts: Vec<(Key, String)>) {
        let BatchDone { page: PageDone { tally, failures, .. }, exposed } = done;
        self.tally += tally;
        self.exposed.extend(exposed);
        let first = |failure: Failure| {
            let (_, first) = firsts.iter().find(|(key, _)| *key == failure.key)?;
            Some((first.clone(), failure))
        };
        let failures: Vec<_> = failures.into_iter().filter_map(first).collect();
        if (failures.len() as u64) < tally.failed {
            // One was returned without its key, which no service does: nobody knows which, so that all come again.
            self.undone.extend(firsts.into_iter().map(|(_, first)| first));
        }
        self.failures.extend(failures);
    }
}

/// Items that are worked on together.
#[derive(Default)]
struct Group {
    /// All the batch's records of these items, in order.
    records: Vec<Record>,
    /// Each item, with the sequence number of its first record.
    firsts: Vec<(Key, String)>,
}

/// Cuts a batch into groups of so many items at most, in the order of the items' first records.
fn groups(records: Vec<Record>, items: usize) -> Vec<Group> {
    let (mut groups, mut places): (Vec<Group>, HashMap<Key, usize>) = (Vec::new(), HashMap::new());
    for record in records {
        let place = *places.entry(record.key.clone()).or_insert_with_key(|key| {
            if groups.last().is_none_or(|group| group.firsts.len() >= items) {
                groups.push(Group::default());
            }
            let last = groups.len() - 1;
            groups[last].firsts.push((key.clone(), record.sequence.clone()));
            last
        });
        groups[place].records.push(record);
    }
    groups
}
