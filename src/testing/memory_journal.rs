//! A journal in memory, for tests of the engine.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::item::Key;
use crate::migration::{Failure, LineageRows, ShardRow, Tally};
use crate::store::{Checkpoint, Commit, Cursor, Journal, JournalError, Pass};

/// A journal that forgets everything when it is dropped; shared through an `Arc` it survives the run that used it.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    passes: Vec<Pass>,
    /// By the text of the key.
    open: BTreeMap<String, Failure>,
    commits: u64,
    /// Of the stream, but for its shards.
    stream: Option<LineageRows>,
    shards: BTreeMap<String, ShardRow>,
}

impl MemoryJournal {
    /// An empty journal.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every pass so far.
    #[must_use]
    pub fn passes(&self) -> Vec<Pass> {
        self.state().passes.clone()
    }

    /// How many commits were recorded.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.state().commits
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn record(&mut self, failures: Vec<Failure>, done: &[Key]) {
        for failure in failures {
            self.open.insert(failure.key.to_string(), failure);
        }
        for key in done {
            self.open.remove(&key.to_string());
        }
    }

    fn present(&mut self) -> Result<&mut Pass, JournalError> {
        self.passes.last_mut().filter(|pass| !pass.ended).ok_or_else(|| misuse("no pass has begun"))
    }
}

fn misuse(problem: &str) -> JournalError {
    JournalError { path: "(memory)".to_owned(), problem: problem.to_owned() }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn pass(&self) -> Result<Option<Pass>, JournalError> {
        Ok(self.state().passes.last().cloned())
    }

    async fn begin_pass(&self, segments: u32) -> Result<Pass, JournalError> {
        let mut state = self.state();
        let pass = Pass {
            number: state.passes.len() as u32 + 1,
            cursors: vec![Cursor::Start; segments as usize],
            tally: Tally::default(),
            ended: false,
        };
        state.passes.push(pass.clone());
        Ok(pass)
    }

    async fn commit(&self, commit: Commit) -> Result<(), JournalError> {
        let mut state = self.state();
        let pass = state.present()?;
        let cursor = pass.cursors.get_mut(commit.segment as usize).ok_or_else(|| misuse("no such segment"))?;
        *cursor = commit.cursor;
        pass.tally += commit.tally;
        state.commits += 1;
        state.record(commit.failures, &commit.done);
        Ok(())
    }

    async fn record(&self, failures: &[Failure], done: &[Key]) -> Result<(), JournalError> {
        self.state().record(failures.to_vec(), done);
        Ok(())
    }

    async fn lineage(&self) -> Result<Option<LineageRows>, JournalError> {
        let state = self.state();
        let shards = state.shards.values().cloned().collect();
        Ok(state.stream.clone().map(|rows| LineageRows { shards, ..rows }))
    }

    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<(), JournalError> {
        let mut state = self.state();
        let rows = checkpoint.lineage.rows;
        state.shards.extend(rows.shards.iter().map(|row| (row.id.clone(), row.clone())));
        state.stream = Some(LineageRows { shards: Vec::new(), ..rows });
        for id in &checkpoint.lineage.forgotten {
            state.shards.remove(id);
        }
        state.record(checkpoint.failures, &checkpoint.done);
        Ok(())
    }

    async fn end_pass(&self) -> Result<(), JournalError> {
        self.state().present()?.ended = true;
        Ok(())
    }

    async fn open_failures(&self) -> Result<Vec<Failure>, JournalError> {
        Ok(self.state().open.values().cloned().collect())
    }
}
