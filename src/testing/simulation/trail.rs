//! What the table's stream ever told, and what became of each record of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::watch::{Claim, Watch};
use crate::migration::{Gap, LineageChange, Place, ShardRow};
use crate::store::Record;
use crate::testing::MemoryShards;

/// Calls for records in a second, of one shard (developer guide, "Service quotas").
const CALLS_PER_SECOND: usize = 5;

/// How long records are kept (developer guide, "Data retention limit").
const RETENTION: Duration = Duration::from_hours(24);

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its outcome is durable.
    Done,
    /// It was lost, and the loss is durable.
    Lost,
}

/// Every record, oldest first, and what the journal says of them.
#[derive(Default)]
pub(super) struct Trail {
    /// Records of streams that were replaced.
    before: usize,
    /// With their shards.
    told: Vec<(String, Record)>,
    of_shard: BTreeMap<String, Vec<usize>>,
    by_sequence: HashMap<String, usize>,
    /// Of each item, by the text of its key: the record of its present state; none if nobody told.
    last: BTreeMap<String, Option<usize>>,
    /// Records before this one are older than the start; `None` before the start is durable.
    start: Option<usize>,
    /// Where the start would be if the latest listing were the first.
    listed: usize,
    /// What was handed to the present process, and the shards that it has begun with.
    handed: BTreeSet<usize>,
    begun: BTreeSet<String>,
    fates: BTreeMap<usize, Fate>,
    rows: BTreeMap<String, ShardRow>,
    /// Of each gap that is remembered: when it was first, in steps.
    found: BTreeMap<String, u64>,
    /// Every gap that ever was, and when the latest was found, in steps.
    gaps: Vec<Gap>,
    latest_gap: u64,
    /// Shards that are being read, and when they were of late.
    reading: BTreeSet<String>,
    calls: BTreeMap<String, VecDeque<Instant>>,
}

impl Trail {
    /// Takes in what the stream told since.
    pub(super) fn sync(&mut self, stream: &MemoryShards) {
        for (shard, record) in stream.told(self.told.len() - self.before) {
            let index = self.told.len();
            self.of_shard.entry(shard.clone()).or_default().push(index);
            self.by_sequence.insert(record.sequence.clone(), index);
            self.last.insert(record.key.to_string(), Some(index));
            self.told.push((shard, record));
        }
    }

    /// The table gets another stream.
    pub(super) fn replaced(&mut self) {
        self.before = self.told.len();
    }

    /// The item was changed, and no record says so.
    pub(super) fn untold(&mut self, key: &str) {
        self.last.insert(key.to_owned(), None);
    }

    /// Records so far.
    pub(super) fn len(&self) -> usize {
        self.told.len()
    }

    /// The record of an item's present state, if there is one.
    pub(super) fn last(&self, key: &str) -> Option<usize> {
        self.last.get(key).copied().flatten()
    }

    pub(super) fn record(&self, index: usize) -> &Record {
        &self.told[index].1
    }

    /// Whether the outcome of a record that the tail read is durable.
    pub(super) fn is_done(&self, index: usize) -> bool {
        self.fates.get(&index) == Some(&Fate::Done)
    }

    /// Records whose outcome is durable, those whose loss is, and gaps.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let done = self.fates.values().filter(|fate| **fate == Fate::Done).count();
        (done as u64, (self.fates.len() - done) as u64, self.gaps.len() as u64)
    }

    /// Another process begins.
    pub(super) fn process(&mut self) {
        self.handed.clear();
        self.begun.clear();
    }

    /// The first page of a listing is answered now.
    pub(super) fn listing(&mut self) {
        self.listed = self.told.len();
    }

    /// A process asks for records of a shard.
    pub(super) fn reading(&mut self, shard: &str) -> Option<String> {
        let (now, calls) = (Instant::now(), self.calls.entry(shard.to_owned()).or_default());
        calls.retain(|call| now - *call < Duration::from_secs(1));
        calls.push_back(now);
        if calls.len() > CALLS_PER_SECOND {
            return Some(format!("{} calls for records of {shard} in a second", calls.len()));
        }
        (!self.reading.insert(shard.to_owned())).then(|| format!("{shard} is read twice at a time"))
    }

    pub(super) fn read(&mut self, shard: &str) {
        self.reading.remove(shard);
    }

    /// A process asks where to begin with a shard. Says which shard it should have read before.
    pub(super) fn begins(&mut self, stream: &MemoryShards, shard: &str) -> Option<String> {
        // What was in no listing was trimmed, for all that anybody knows; it may be listed while what continues it is read.
        let begins = self.begun.insert(shard.to_owned());
        let parent = stream.parent(shard)?;
        let finished = matches!(self.rows.get(&parent)?.place, Place::Drained | Place::Gone);
        (begins && !finished).then(|| format!("{shard} is read before {parent}, which it continues, is done"))
    }

    /// A process was given records.
    pub(super) fn handed(&mut self, records: &[Record]) {
        self.handed.extend(records.iter().filter_map(|record| self.by_sequence.get(&record.sequence)));
    }

    /// A change is durable. Gives back the records that were passed by it and should be done, and what is wrong: a record
    /// that was neither handed out nor is said to be lost, or a gap that was forgotten before a pass that began after it.
    pub(super) fn checkpoint(
        &mut self,
        change: &LineageChange,
        now: SystemTime,
        (step, pass_began): (u64, u64),
    ) -> (Vec<usize>, Vec<(u8, String)>) {
        let mut wrong = Vec::new();
        self.start.get_or_insert(self.listed);
        let mut passed = Vec::new();
        for row in &change.rows.shards {
            let before = self.rows.insert(row.id.clone(), row.clone()).and_then(|row| row.gap);
            match row.gap {
                Some(gap) if before != Some(gap) => {
                    self.found.insert(row.id.clone(), step);
                    self.gaps.push(gap);
                    self.latest_gap = step;
                }
                None if before.is_some() => wrong.extend(self.forgets(&row.id, pass_began)),
                _ => {}
            }
            passed.push((row.id.clone(), row.place.clone()));
        }
        for id in &change.forgotten {
            if self.rows.remove(id).is_some_and(|row| row.gap.is_some()) {
                wrong.extend(self.forgets(id, pass_began));
            }
            passed.push((id.clone(), Place::Drained));
        }
        let mut to_be_done = Vec::new();
        for (id, place) in passed {
            let end = match &place {
                Place::NotStarted => 0,
                Place::After(sequence) => self.by_sequence.get(sequence).map_or(0, |index| index + 1),
                Place::Drained | Place::Gone => usize::MAX,
            };
            // Of what nobody can read any more, a gap of any shard tells: passes make good whatever was lost by then.
            let trimmed = |record: &Record| record.created.is_none_or(|created| created + RETENTION < now);
            let lost = |record: &Record| trimmed(record) && self.gaps.iter().any(|gap| covers(*gap, record));
            for &index in self.of_shard.get(&id).into_iter().flatten() {
                let required = self.start.is_none_or(|start| index >= start) && !self.fates.contains_key(&index);
                if !required {
                    continue;
                }
                let record = &self.told[index].1;
                if self.rows.get(&id).and_then(|row| row.gap).is_some_and(|gap| covers(gap, record)) {
                    self.fates.insert(index, Fate::Lost);
                } else if index < end && self.handed.contains(&index) {
                    self.fates.insert(index, Fate::Done);
                    to_be_done.push(index);
                } else if index < end && lost(record) {
                    self.fates.insert(index, Fate::Lost);
                } else if index < end {
                    let sequence = &record.sequence;
                    wrong
                        .push((11, format!("record {sequence} of {id} was passed, and nobody has seen it: {place:?}")));
                }
            }
        }
        (to_be_done, wrong)
    }

    fn forgets(&mut self, id: &str, pass_began: u64) -> Option<(u8, String)> {
        let found = self.found.remove(id)?;
        (found >= pass_began).then(|| (14, format!("the gap of {id} is forgotten, and the table was not read since")))
    }

    /// What is wrong with a job that is said to be complete, when the last pass began at this step and so many records
    /// were told by the moment until which the stream should be drained.
    pub(super) fn complete(&self, claim: Claim, pass_began: u64, by: usize) -> Option<(u8, String)> {
        if claim == Claim::PassesAndStream && self.latest_gap > pass_began {
            return Some((14, "a gap was found after the last pass began, and no other followed".to_owned()));
        }
        let done = |index: &usize| {
            self.fates.contains_key(index) || self.gaps.iter().any(|gap| covers(*gap, &self.told[*index].1))
        };
        let missed = (self.start.unwrap_or(0)..by).find(|index| !done(index))?;
        let (shard, record) = &self.told[missed];
        Some((11, format!("record {} of {shard} was never read, and all is said to be drained", record.sequence)))
    }
}

/// Whether a record may be among those that a gap says are lost.
fn covers(gap: Gap, record: &Record) -> bool {
    let second = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    record.created.is_none_or(|created| {
        gap.from.is_none_or(|from| from <= second(created)) && gap.to.is_none_or(|to| second(created) <= to)
    })
}

/// Ends a call for records when it is dropped, answered or not.
pub(super) struct Reading<'a> {
    pub(super) watch: &'a Arc<Watch>,
    pub(super) shard: String,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.watch.read(&self.shard);
    }
}
