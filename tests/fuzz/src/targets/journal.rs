use std::cell::RefCell;

use reseal::item::{Key, KeyNames, Value};
use reseal::migration::{Failure, FailureKind, Fingerprint, Tally};
use reseal::store::{Commit, Cursor, Journal as _, JournalError, Pass, SqliteJournal};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// The journal's tables with their columns; numbers first.
const TABLES: [(&str, &str, usize); 3] = [
    ("pass", "number, began, ended, tally", 1),
    ("lane", "pass, segment, state, after", 2),
    ("ledger", "attempts, key, kind, detail, first_seen, last_seen, closed", 1),
];

/// A journal, and a second way into its file. It is made once: the same file serves every input.
struct World {
    journal: SqliteJournal,
    file: Connection,
    runtime: Runtime,
    _directory: TempDir,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a place for files");
        let keys = KeyNames { partition: "tenant".into(), sort: Some("id".into()) };
        let plan = Fingerprint::from_iter([]);
        let journal = SqliteJournal::open(directory.path(), &keys, &plan, "noon").expect("a fresh journal");
        let file = Connection::open(directory.path().join("journal.sqlite3")).expect("the journal's file");
        // A damaged file need not keep to its own constraints.
        let careless = "PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF";
        file.execute_batch(careless).expect("pragmas");
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        Self { journal, file, runtime, _directory: directory }
    }

    /// Puts rows into the file in place of those that are there. The bytes are lines: the name of a table and its
    /// columns, with a tab between any two; what is left out, or is a lone minus, is NULL. Rows that SQLite itself
    /// refuses are left out.
    fn fill(&mut self, text: &str) {
        let rows = self.file.transaction().expect("nobody else is at work");
        for (table, columns, numbers) in TABLES {
            rows.execute(&format!("DELETE FROM {table}"), []).expect("a table of the journal");
            let count = columns.split(", ").count();
            let places: Vec<String> = (1..=count).map(|place| format!("?{place}")).collect();
            let insert = format!("INSERT INTO {table} ({columns}) VALUES ({})", places.join(", "));
            let mut insert = rows.prepare_cached(&insert).expect("columns of the table");
            for line in text.lines() {
                let mut parts = line.split('\t');
                if parts.next() != Some(table) {
                    continue;
                }
                let row = (0..count).map(|place| match parts.next() {
                    None | Some("-") => rusqlite::types::Value::Null,
                    Some(text) if place < numbers => {
                        text.parse::<i64>().map_or(rusqlite::types::Value::Null, Into::into)
                    }
                    Some(text) => text.to_owned().into(),
                });
                drop(insert.execute(rusqlite::params_from_iter(row)));
            }
        }
        rows.commit().expect("nobody else is at work");
    }

    /// Segments of the pass as the rows have them.
    fn segments(&self, pass: &Pass) -> Vec<i64> {
        let mut rows =
            self.file.prepare_cached("SELECT segment FROM lane WHERE pass = ?1 ORDER BY segment").expect("SQL");
        let segments = rows.query_map([pass.number], |row| row.get(0)).expect("one parameter");
        segments.collect::<Result<_, _>>().expect("integers")
    }

    /// Reads everything; what can be read agrees with itself.
    async fn read(&self) -> Result<Option<Pass>, JournalError> {
        let entries = self.journal.ledger().await;
        let open = self.journal.open_failures().await;
        if let (Ok(entries), Ok(open)) = (entries, open) {
            let entries = entries.into_iter().filter(|entry| entry.closed.is_none());
            assert!(entries.map(|entry| entry.failure).eq(open), "the ledger has other open entries");
        }
        let pass = self.journal.pass().await?;
        if let Ok(history) = self.journal.history().await {
            assert!(history.last().map(|record| &record.pass) == pass.as_ref(), "the history ends otherwise");
        }
        if let Some(pass) = &pass {
            let lanes = 0..i64::try_from(pass.cursors.len()).expect("rows of a file");
            assert!(!lanes.is_empty(), "a pass without lanes would be done without reading anything");
            assert!(self.segments(pass) == lanes.collect::<Vec<_>>(), "cursors of other segments");
        }
        Ok(pass)
    }

    /// Goes on from what was read, as a run does.
    async fn go_on(&self, pass: Option<Pass>) -> Result<(), JournalError> {
        let before = match pass {
            Some(pass) if !pass.ended => pass,
            ended => {
                let begun = self.journal.begin_pass(2).await?;
                assert_eq!(begun.number, ended.map_or(1, |pass| pass.number + 1));
                begun
            }
        };
        let key = |id: &str| Key {
            partition: ("tenant".to_owned(), Value::from("t")),
            sort: Some(("id".to_owned(), Value::from(id))),
        };
        let commit = Commit {
            segment: 0,
            cursor: Cursor::After(key("a")),
            tally: Tally { scanned: 2, failed: 1, current: 1, ..Tally::default() },
            failures: vec![Failure { key: key("b"), kind: FailureKind::Mixed, detail: "why".to_owned(), record: None }],
            done: vec![key("a")],
        };
        self.journal.commit(commit.clone()).await?;
        let after = self.read().await?.expect("a pass was there");
        assert!(after.cursors.first() == Some(&commit.cursor) && after.cursors[1..] == before.cursors[1..]);
        assert_eq!(after.tally.scanned, before.tally.scanned + commit.tally.scanned);
        self.journal.end_pass().await
    }
}

/// The bytes are rows of a journal's file: then they can be read and gone on from as a run does, or are refused.
pub fn journal(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    WORLD.with_borrow_mut(|world| {
        world.fill(text);
        let outcome = world.runtime.block_on(async { world.go_on(world.read().await?).await });
        if let Err(error) = outcome {
            assert!(!error.problem.starts_with("the journal's thread ended"), "{error}");
        }
    });
}
