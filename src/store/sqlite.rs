//! The journal in a SQLite file: one per job, for `sqlite3` to look into.
//!
//! The file is in WAL mode with `synchronous=FULL`, so a commit that returned survives a loss of power. Every call runs
//! on a thread that may block. It holds primary keys, counts and reasons, never another value of the table.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Transaction, params};
use serde_json::Value as Json;

use super::journal::{Checkpoint, Commit, Cursor, Journal, JournalError, Pass};
use super::lock::{FileLock, LockError, private_directory, private_file};
use crate::item::{Key, KeyNames, json};
use crate::migration::{
    Failure, FailureKind, Fingerprint, Gap, LineageChange, LineageRows, Mismatch, Place, ShardRow, Tally,
};

/// The journal's file in the state directory.
const FILE: &str = "journal.sqlite3";
/// Marks the file as ours: "RSEL".
const APPLICATION_ID: i32 = 0x5253_454c;
/// The version of a file with [`SCHEMA`] and [`STREAM_SCHEMA`]. Version 1 had the first alone; what version 2 had of the
/// stream, no command wrote.
const VERSION: i32 = 3;

const SCHEMA: &str = "
    -- What the run is bound to, field by field.
    CREATE TABLE plan (field TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT, WITHOUT ROWID;
    -- The table's key attributes: 1 is the partition key, 2 the sort key.
    CREATE TABLE key_attribute (place INTEGER PRIMARY KEY CHECK (place IN (1, 2)), name TEXT NOT NULL) STRICT;
    -- Times are of the run's start. The tally is JSON.
    CREATE TABLE pass (number INTEGER PRIMARY KEY, began TEXT NOT NULL, ended TEXT, tally TEXT NOT NULL) STRICT;
    CREATE TABLE lane (
        pass INTEGER NOT NULL REFERENCES pass (number),
        segment INTEGER NOT NULL,
        state TEXT NOT NULL DEFAULT 'start' CHECK (state IN ('start', 'after', 'end')),
        after TEXT CHECK ((state = 'after') = (after IS NOT NULL)),
        PRIMARY KEY (pass, segment)
    ) STRICT, WITHOUT ROWID;
    -- Items that could not be done, by key. An entry without a closing time is open.
    CREATE TABLE ledger (
        key TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        detail TEXT NOT NULL,
        first_seen TEXT NOT NULL,
        last_seen TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        closed TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX open_ledger ON ledger (key) WHERE closed IS NULL;
";

const STREAM_SCHEMA: &str = "
    DROP TABLE IF EXISTS stream;
    DROP TABLE IF EXISTS shard;
    -- The start, and the latest whole listing of the shards: seconds since 1970 of the service's time, as all below. The
    -- pass is the latest one at the start.
    CREATE TABLE stream (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        arn TEXT NOT NULL,
        start INTEGER,
        pass INTEGER NOT NULL,
        listed INTEGER
    ) STRICT;
    -- How far each shard was read, and what was lost of it, found during or after which pass.
    CREATE TABLE shard (
        id TEXT PRIMARY KEY,
        parent TEXT,
        state TEXT NOT NULL CHECK (state IN ('not-started', 'after', 'drained', 'gone')),
        after TEXT CHECK ((state = 'after') = (after IS NOT NULL)),
        known INTEGER,
        gap_pass INTEGER,
        gap_from INTEGER CHECK (gap_from IS NULL OR gap_pass IS NOT NULL),
        gap_to INTEGER CHECK (gap_to IS NULL OR gap_pass IS NOT NULL)
    ) STRICT, WITHOUT ROWID;
";

const INSERT_FAILURE: &str = "
    INSERT INTO ledger (key, kind, detail, first_seen, last_seen, attempts) VALUES (?1, ?2, ?3, ?4, ?4, 1)
    ON CONFLICT (key) DO UPDATE SET
        kind = excluded.kind, detail = excluded.detail, last_seen = excluded.last_seen,
        attempts = attempts + 1, closed = NULL";

const CLOSE_FAILURE: &str = "UPDATE ledger SET closed = ?2 WHERE key = ?1 AND closed IS NULL";

/// Why a journal was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The state directory cannot be made or written to.
    #[error("the state directory {} cannot be written: {problem}; choose another with --state-dir", path.display())]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// What happened.
        problem: String,
    },
    /// Another process uses the state directory.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The file is damaged, or was never a journal.
    #[error(
        "{} is not a journal of reseal, or is damaged ({problem}); move it away, or choose another --state-dir: a run \
         without it begins anew, which is safe", path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file was made by a later version of this program.
    #[error(
        "{} is of version {found} and this program knows versions up to {VERSION}; use the version of reseal that \
         made it", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
    },
    /// The file belongs to another plan.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
}

/// A pass, with its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassRecord {
    /// The pass.
    pub pass: Pass,
    /// When the run that began it was started.
    pub began: String,
    /// When the run that ended it was started.
    pub ended: Option<String>,
}

/// An entry of the failure ledger, with its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The latest failure.
    pub failure: Failure,
    /// When the run that first saw it was started.
    pub first_seen: String,
    /// When the run that last saw it was started.
    pub last_seen: String,
    /// How often it was seen.
    pub attempts: u64,
    /// When the run that saw the item done was started; `None` while the entry is open.
    pub closed: Option<String>,
}

/// A journal in a SQLite file.
#[derive(Debug)]
pub struct SqliteJournal {
    path: PathBuf,
    file: Arc<JournalFile>,
}

/// The open file. Kept together, so that the lock outlives every call that is still running.
#[derive(Debug)]
struct JournalFile {
    connection: Mutex<Connection>,
    keys: KeyNames,
    now: String,
    _lock: FileLock,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("it is damaged: {0}")]
    Corrupt(String),
    #[error("{0}")]
    Misuse(&'static str),
}

impl SqliteJournal {
    /// Opens the journal in a state directory, or makes directory and file, for this user alone. `now` is the time that
    /// entries of this run carry.
    ///
    /// # Errors
    /// [`OpenError`] with the reason and the remedy. An existing file is left as it is.
    pub fn open(directory: &Path, keys: &KeyNames, plan: &Fingerprint, now: &str) -> Result<Self, OpenError> {
        let not_writable = |problem: String| OpenError::NotWritable { path: directory.to_owned(), problem };
        private_directory(directory).map_err(|error| not_writable(error.to_string()))?;
        let subject = format!("the state directory {}", directory.display());
        let lock = FileLock::acquire(&directory.join("journal.lock"), subject).map_err(|error| match error {
            LockError::File { source, .. } => not_writable(source.to_string()),
            held => OpenError::Locked(held),
        })?;
        let path = directory.join(FILE);
        // Made here and not by SQLite, so that it is never readable for others, not even for a moment.
        private_file(&path).map_err(|error| not_writable(error.to_string()))?;
        let connection = prepare(&path, keys, plan).map_err(|problem| match problem {
            Trouble::Refused(error) => error,
            Trouble::Sqlite(error) => match error.sqlite_error_code() {
                Some(
                    ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::DiskFull,
                ) => not_writable(error.to_string()),
                _ => OpenError::Corrupt { path: path.clone(), problem: error.to_string() },
            },
        })?;
        let connection = Mutex::new(connection);
        let file = JournalFile { connection, keys: keys.clone(), now: now.to_owned(), _lock: lock };
        Ok(Self { path, file: Arc::new(file) })
    }

    /// Every pass so far, the first one first.
    ///
    /// # Errors
    /// [`JournalError`] when the file cannot be read.
    pub async fn history(&self) -> Result<Vec<PassRecord>, JournalError> {
        self.call(|tx, file| {
            let numbers: Vec<u32> = column(tx, "SELECT number FROM pass ORDER BY number")?;
            numbers.into_iter().map(|number| read_pass(tx, &file.keys, number)).collect()
        })
        .await
    }

    /// Every entry of the failure ledger, open and closed, by key.
    ///
    /// # Errors
    /// [`JournalError`] when the file cannot be read.
    pub async fn ledger(&self) -> Result<Vec<LedgerEntry>, JournalError> {
        self.call(|tx, file| read_ledger(tx, &file.keys, "")).await
    }

    /// Runs one transaction on a thread that may block; it is rolled back unless `work` succeeds.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &JournalFile) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, JournalError> {
        let file = Arc::clone(&self.file);
        let task = tokio::task::spawn_blocking(move || {
            let mut connection = file.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let tx = connection.transaction()?;
            let result = work(&tx, &file)?;
            tx.commit()?;
            Ok::<T, Problem>(result)
        });
        let failed = |problem: String| JournalError { path: self.path.display().to_string(), problem };
        match task.await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(problem)) => Err(failed(format!("{problem}{}", remedy(&problem)))),
            Err(error) => Err(failed(format!("the journal's thread ended: {error}"))),
        }
    }
}

fn remedy(problem: &Problem) -> &'static str {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    match problem {
        // What stands in the file is none of what this program writes: no disk is to blame.
        Problem::Corrupt(_)
        | Problem::Sqlite(FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..)) => {
            "; move it away and run again, which is safe"
        }
        Problem::Sqlite(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => "; make room on its disk, then resume",
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "; another program has it locked: close it",
            _ => "; check its disk, then resume",
        },
        Problem::Misuse(_) => "",
    }
}

/// Why a file was not opened.
enum Trouble {
    Refused(OpenError),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Opens the file, makes its tables if it is new, and demands that it belongs to the plan.
fn prepare(path: &Path, keys: &KeyNames, plan: &Fingerprint) -> Result<Connection, Trouble> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables: u32 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let corrupt = |problem: String| Trouble::Refused(OpenError::Corrupt { path: path.to_owned(), problem });
    let new = (application, version, tables) == (0, 0, 0);
    if !new && application != APPLICATION_ID {
        return Err(corrupt("it is another program's database".to_owned()));
    }
    if version > VERSION {
        return Err(Trouble::Refused(OpenError::Newer { path: path.to_owned(), found: version }));
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let tx = connection.transaction()?;
    if new {
        create(&tx, keys, plan)?;
    }
    let check: String = tx.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Err(corrupt(check));
    }
    demand(&tx, keys, plan)?;
    if new || version < VERSION {
        tx.execute_batch(STREAM_SCHEMA)?;
        tx.pragma_update(None, "user_version", VERSION)?;
    }
    tx.commit()?;
    Ok(connection)
}

/// Demands that the file belongs to the plan.
fn demand(tx: &Transaction<'_>, keys: &KeyNames, plan: &Fingerprint) -> Result<(), Trouble> {
    let mut fields = tx.prepare("SELECT field, text FROM plan")?;
    let fields = fields.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let stored: Fingerprint = fields.collect::<Result<Vec<_>, _>>()?.into_iter().collect();
    stored.demand(plan).map_err(|mismatch| Trouble::Refused(mismatch.into()))?;
    let names: Vec<String> = column(tx, "SELECT name FROM key_attribute ORDER BY place")?;
    if names.iter().map(String::as_str).eq(keys.iter()) {
        return Ok(());
    }
    let present = keys.iter().collect::<Vec<_>>().join(", ");
    let mismatch = Mismatch { field: "key attributes".to_owned(), stored: names.join(", "), present };
    Err(Trouble::Refused(mismatch.into()))
}

fn create(tx: &Transaction<'_>, keys: &KeyNames, plan: &Fingerprint) -> rusqlite::Result<()> {
    tx.execute_batch(SCHEMA)?;
    for (field, text) in plan.iter() {
        tx.execute("INSERT INTO plan VALUES (?1, ?2)", params![field, text])?;
    }
    for (place, name) in (1..).zip(keys.iter()) {
        tx.execute("INSERT INTO key_attribute VALUES (?1, ?2)", params![place, name])?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)
}

fn column<T: rusqlite::types::FromSql>(tx: &Transaction<'_>, sql: &str) -> rusqlite::Result<Vec<T>> {
    tx.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect()
}

fn latest(tx: &Transaction<'_>) -> rusqlite::Result<Option<(u32, bool)>> {
    let sql = "SELECT number, ended IS NOT NULL FROM pass ORDER BY number DESC LIMIT 1";
    tx.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

fn present(tx: &Transaction<'_>) -> Result<u32, Problem> {
    match latest(tx)? {
        Some((number, false)) => Ok(number),
        _ => Err(Problem::Misuse("no pass has begun")),
    }
}

fn read_pass(tx: &Transaction<'_>, keys: &KeyNames, number: u32) -> Result<PassRecord, Problem> {
    let sql = "SELECT began, ended, tally FROM pass WHERE number = ?1";
    let (began, ended, tally): (String, Option<String>, String) =
        tx.query_row(sql, [number], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut lanes = tx.prepare_cached("SELECT segment, state, after FROM lane WHERE pass = ?1 ORDER BY segment")?;
    let lanes = lanes.query_map([number], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let corrupt = |problem: &str| Problem::Corrupt(format!("{problem} in pass {number}"));
    let cursors = lanes.zip(0..).map(|(lane, expected)| {
        let (segment, state, after): (i64, String, Option<String>) = lane?;
        // A cursor means nothing under another number of segments.
        if segment != expected {
            return Err(corrupt("a lane is missing"));
        }
        match (state.as_str(), after) {
            ("start", None) => Ok(Cursor::Start),
            ("after", Some(key)) => Ok(Cursor::After(key_from(keys, &key)?)),
            ("end", None) => Ok(Cursor::End),
            _ => Err(corrupt("a lane is in no known state")),
        }
    });
    let cursors: Vec<Cursor> = cursors.collect::<Result<_, _>>()?;
    if cursors.is_empty() {
        // It would be done before anything was read.
        return Err(corrupt("there is no lane"));
    }
    let pass = Pass { number, cursors, tally: tally_from(&tally)?, ended: ended.is_some() };
    Ok(PassRecord { pass, began, ended })
}

fn read_ledger(tx: &Transaction<'_>, keys: &KeyNames, filter: &str) -> Result<Vec<LedgerEntry>, Problem> {
    let sql =
        format!("SELECT key, kind, detail, first_seen, last_seen, attempts, closed FROM ledger {filter} ORDER BY key");
    let mut entries = tx.prepare_cached(&sql)?;
    let mut rows = entries.query([])?;
    let mut ledger = Vec::new();
    while let Some(row) = rows.next()? {
        let (key, kind): (String, String) = (row.get(0)?, row.get(1)?);
        let failure = Failure { key: key_from(keys, &key)?, kind: kind_from(&kind)?, detail: row.get(2)? };
        let (first_seen, last_seen) = (row.get(3)?, row.get(4)?);
        ledger.push(LedgerEntry { failure, first_seen, last_seen, attempts: row.get(5)?, closed: row.get(6)? });
    }
    Ok(ledger)
}

fn key_from(keys: &KeyNames, text: &str) -> Result<Key, Problem> {
    let json: Json = serde_json::from_str(text).map_err(|error| Problem::Corrupt(error.to_string()))?;
    let item = json::from_json(&json).map_err(|error| Problem::Corrupt(error.to_string()))?;
    keys.key_of(&item).map_err(|error| Problem::Corrupt(error.to_string()))
}

fn kind_from(text: &str) -> Result<FailureKind, Problem> {
    serde_json::from_value(Json::String(text.to_owned())).map_err(|error| Problem::Corrupt(error.to_string()))
}

fn tally_from(text: &str) -> Result<Tally, Problem> {
    serde_json::from_str(text).map_err(|error| Problem::Corrupt(error.to_string()))
}

fn tally_to(tally: Tally) -> String {
    serde_json::to_string(&tally).expect("a tally is a struct of integers")
}

fn record(tx: &Transaction<'_>, now: &str, commit: &Commit) -> Result<(), Problem> {
    let number = present(tx)?;
    let (state, after) = match &commit.cursor {
        Cursor::Start => ("start", None),
        Cursor::After(key) => ("after", Some(key.to_string())),
        Cursor::End => ("end", None),
    };
    let move_lane = "UPDATE lane SET state = ?3, after = ?4 WHERE pass = ?1 AND segment = ?2";
    if tx.prepare_cached(move_lane)?.execute(params![number, commit.segment, state, after])? != 1 {
        return Err(Problem::Misuse("no such segment"));
    }
    let tally: String =
        tx.prepare_cached("SELECT tally FROM pass WHERE number = ?1")?.query_row([number], |row| row.get(0))?;
    let tally = tally_from(&tally)?.checked_add(commit.tally);
    let tally = tally_to(tally.ok_or_else(|| Problem::Corrupt(format!("pass {number} counts too many items")))?);
    tx.prepare_cached("UPDATE pass SET tally = ?2 WHERE number = ?1")?.execute(params![number, tally])?;
    record_items(tx, now, &commit.failures, &commit.done)
}

fn read_lineage(tx: &Transaction<'_>) -> Result<Option<LineageRows>, Problem> {
    let mut stream = tx.prepare_cached("SELECT arn, start, pass, listed FROM stream")?;
    let stream = stream.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).optional()?;
    let Some((stream, start, pass, listed)) = stream else { return Ok(None) };
    let sql = "SELECT id, parent, state, after, known, gap_pass, gap_from, gap_to FROM shard ORDER BY id";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut shards = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, state, after): (String, String, Option<String>) = (row.get(0)?, row.get(2)?, row.get(3)?);
        let place = match (state.as_str(), after) {
            ("not-started", None) => Place::NotStarted,
            ("after", Some(sequence)) => Place::After(sequence),
            ("drained", None) => Place::Drained,
            ("gone", None) => Place::Gone,
            _ => return Err(Problem::Corrupt(format!("shard {id} is in no known state"))),
        };
        let gap = match row.get(5)? {
            Some(pass) => Some(Gap { from: row.get(6)?, to: row.get(7)?, pass }),
            None => None,
        };
        shards.push(ShardRow { id, parent: row.get(1)?, place, known: row.get(4)?, gap });
    }
    Ok(Some(LineageRows { stream, start, pass, listed, shards }))
}

fn record_lineage(tx: &Transaction<'_>, change: &LineageChange) -> rusqlite::Result<()> {
    let LineageRows { stream, start, pass, listed, shards } = &change.rows;
    let set = "INSERT OR REPLACE INTO stream VALUES (1, ?1, ?2, ?3, ?4)";
    tx.prepare_cached(set)?.execute(params![stream, start, pass, listed])?;
    let mut set = tx.prepare_cached("INSERT OR REPLACE INTO shard VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
    for ShardRow { id, parent, place, known, gap } in shards {
        let (state, after) = match place {
            Place::NotStarted => ("not-started", None),
            Place::After(sequence) => ("after", Some(sequence)),
            Place::Drained => ("drained", None),
            Place::Gone => ("gone", None),
        };
        let (from, to, found) = gap.map_or((None, None, None), |gap| (gap.from, gap.to, Some(gap.pass)));
        set.execute(params![id, parent, state, after, known, found, from, to])?;
    }
    let mut forget = tx.prepare_cached("DELETE FROM shard WHERE id = ?1")?;
    change.forgotten.iter().try_for_each(|id| forget.execute([id]).map(drop))
}

/// Opens and closes entries of the ledger.
fn record_items(tx: &Transaction<'_>, now: &str, failures: &[Failure], done: &[Key]) -> Result<(), Problem> {
    for failure in failures {
        let (key, kind) = (failure.key.to_string(), failure.kind.name());
        tx.prepare_cached(INSERT_FAILURE)?.execute(params![key, kind, failure.detail, now])?;
    }
    // Nearly always nothing is open, and the text of every key of a page need not be made.
    let open: bool = tx
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM ledger WHERE closed IS NULL)")?
        .query_row([], |row| row.get(0))?;
    if open {
        let mut close = tx.prepare_cached(CLOSE_FAILURE)?;
        for key in done {
            close.execute(params![key.to_string(), now])?;
        }
    }
    Ok(())
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn pass(&self) -> Result<Option<Pass>, JournalError> {
        self.call(|tx, file| match latest(tx)? {
            None => Ok(None),
            Some((number, _)) => Ok(Some(read_pass(tx, &file.keys, number)?.pass)),
        })
        .await
    }

    async fn begin_pass(&self, segments: u32) -> Result<Pass, JournalError> {
        self.call(move |tx, file| {
            let number = match latest(tx)? {
                None => 1,
                Some((number, _)) => {
                    number.checked_add(1).ok_or_else(|| Problem::Corrupt(format!("pass {number} is the last")))?
                }
            };
            let pass = "INSERT INTO pass (number, began, tally) VALUES (?1, ?2, ?3)";
            tx.execute(pass, params![number, file.now, tally_to(Tally::default())])?;
            let mut lane = tx.prepare_cached("INSERT INTO lane (pass, segment) VALUES (?1, ?2)")?;
            for segment in 0..segments {
                lane.execute(params![number, segment])?;
            }
            Ok(read_pass(tx, &file.keys, number)?.pass)
        })
        .await
    }

    async fn commit(&self, commit: Commit) -> Result<(), JournalError> {
        self.call(move |tx, file| record(tx, &file.now, &commit)).await
    }

    async fn record(&self, failures: &[Failure], done: &[Key]) -> Result<(), JournalError> {
        let (failures, done) = (failures.to_vec(), done.to_vec());
        self.call(move |tx, file| record_items(tx, &file.now, &failures, &done)).await
    }

    async fn lineage(&self) -> Result<Option<LineageRows>, JournalError> {
        self.call(|tx, _| read_lineage(tx)).await
    }

    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<(), JournalError> {
        self.call(move |tx, file| {
            record_lineage(tx, &checkpoint.lineage)?;
            record_items(tx, &file.now, &checkpoint.failures, &checkpoint.done)
        })
        .await
    }

    async fn end_pass(&self) -> Result<(), JournalError> {
        self.call(|tx, file| {
            let number = present(tx)?;
            tx.execute("UPDATE pass SET ended = ?2 WHERE number = ?1", params![number, file.now])?;
            Ok(())
        })
        .await
    }

    async fn open_failures(&self) -> Result<Vec<Failure>, JournalError> {
        self.call(|tx, file| {
            let entries = read_ledger(tx, &file.keys, "WHERE closed IS NULL")?;
            Ok(entries.into_iter().map(|entry| entry.failure).collect())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{Item, Value};

    type Change<'a> = &'a dyn Fn(&Connection) -> rusqlite::Result<()>;

    fn keys() -> KeyNames {
        KeyNames { partition: "tenant".into(), sort: Some("id".into()) }
    }

    fn plan(table: &str) -> Fingerprint {
        [("table".to_owned(), table.to_owned())].into_iter().collect()
    }

    fn key(id: &str) -> Key {
        let item: Item =
            [("tenant".to_owned(), Value::from("é\"\n")), ("id".to_owned(), Value::from(id))].into_iter().collect();
        keys().key_of(&item).unwrap()
    }

    fn open_at(directory: &Path, now: &str) -> Result<SqliteJournal, OpenError> {
        SqliteJournal::open(directory, &keys(), &plan("t"), now)
    }

    fn failure(id: &str, kind: FailureKind) -> Failure {
        Failure { key: key(id), kind, detail: format!("why {id}") }
    }

    fn commit(segment: u32, cursor: Cursor, scanned: u64) -> Commit {
        let tally = Tally { scanned, current: scanned, ..Tally::default() };
        Commit { segment, cursor, tally, failures: vec![], done: vec![] }
    }

    #[tokio::test]
    async fn what_was_committed_is_there_after_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let journal = open_at(directory.path(), "noon").unwrap();
        assert_eq!(journal.pass().await.unwrap(), None);
        let pass = journal.begin_pass(3).await.unwrap();
        assert_eq!((pass.number, pass.cursors.len(), pass.ended), (1, 3, false));
        journal.commit(commit(0, Cursor::After(key("a")), 5)).await.unwrap();
        journal.commit(commit(2, Cursor::End, 2)).await.unwrap();
        drop(journal);

        let journal = open_at(directory.path(), "one").unwrap();
        let pass = journal.pass().await.unwrap().unwrap();
        assert_eq!(pass.cursors, [Cursor::After(key("a")), Cursor::Start, Cursor::End]);
        assert_eq!((pass.tally.scanned, pass.ended), (7, false));
        journal.end_pass().await.unwrap();
        assert!(journal.pass().await.unwrap().unwrap().ended);
        assert_eq!(journal.begin_pass(1).await.unwrap().number, 2);

        let history = journal.history().await.unwrap();
        let summary: Vec<_> = history
            .iter()
            .map(|record| (record.began.as_str(), record.ended.as_deref(), record.pass.tally.scanned))
            .collect();
        assert_eq!(summary, [("noon", Some("one"), 7), ("one", None, 0)]);
    }

    #[tokio::test]
    async fn shards_are_remembered_with_the_ledger_and_old_files_learn_to() {
        let directory = tempfile::tempdir().unwrap();
        let journal = open_at(directory.path(), "noon").unwrap();
        journal.begin_pass(2).await.unwrap();
        {
            let connection = journal.file.connection.lock().unwrap();
            connection.execute_batch("DROP TABLE stream; DROP TABLE shard; PRAGMA user_version = 1").unwrap();
        }
        drop(journal);

        let journal = open_at(directory.path(), "one").unwrap();
        assert_eq!(journal.pass().await.unwrap().unwrap().cursors.len(), 2);
        assert_eq!(journal.lineage().await.unwrap(), None);
        let row = |id: &str, place, gap| {
            let (parent, known) = (Some("z".to_owned()).filter(|_| id != "a"), Some(7).filter(|_| id != "b"));
            ShardRow { id: id.to_owned(), parent, place, known, gap }
        };
        let shards = vec![
            row("a", Place::NotStarted, Some(Gap { from: None, to: None, pass: 0 })),
            row("b", Place::After("000120".to_owned()), None),
            row("c", Place::Drained, Some(Gap { from: Some(3), to: Some(4), pass: 7 })),
            row("d", Place::Gone, Some(Gap { from: None, to: Some(9), pass: 1 })),
        ];
        let rows = LineageRows { stream: "arn".to_owned(), start: Some(1), pass: 2, listed: None, shards };
        let lineage = LineageChange { rows: rows.clone(), forgotten: vec![] };
        let failures = vec![failure("a", FailureKind::Mixed)];
        journal.checkpoint(Checkpoint { lineage, failures: failures.clone(), done: vec![] }).await.unwrap();
        drop(journal);

        let journal = open_at(directory.path(), "two").unwrap();
        assert_eq!(journal.lineage().await.unwrap(), Some(rows.clone()));
        assert_eq!(journal.open_failures().await.unwrap(), failures);
        let later = LineageRows { listed: Some(5), shards: vec![row("b", Place::Drained, None)], ..rows.clone() };
        let lineage = LineageChange { rows: later, forgotten: vec!["c".to_owned(), "d".to_owned()] };
        journal.checkpoint(Checkpoint { lineage, failures: vec![], done: vec![key("a")] }).await.unwrap();
        let read = journal.lineage().await.unwrap().unwrap();
        let places: Vec<_> = read.shards.iter().map(|row| (row.id.as_str(), &row.place)).collect();
        assert_eq!(places, [("a", &Place::NotStarted), ("b", &Place::Drained)]);
        assert_eq!((read.start, read.listed), (Some(1), Some(5)));
        assert!(journal.open_failures().await.unwrap().is_empty());

        // A step is whole or not at all.
        let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON ledger BEGIN SELECT RAISE(ABORT, 'no'); END";
        journal.file.connection.lock().unwrap().execute_batch(refuse).unwrap();
        let rows = LineageRows { start: Some(2), shards: vec![row("b", Place::Gone, None)], ..rows };
        let lineage = LineageChange { rows, forgotten: vec!["a".to_owned()] };
        let whole = Checkpoint { lineage, failures, done: vec![] };
        assert!(journal.checkpoint(whole).await.unwrap_err().problem.starts_with("no"));
        assert_eq!(journal.lineage().await.unwrap(), Some(read));
    }

    #[tokio::test]
    async fn calls_out_of_turn_change_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let journal = open_at(directory.path(), "noon").unwrap();
        assert!(journal.commit(commit(0, Cursor::End, 1)).await.is_err());
        assert!(journal.end_pass().await.is_err());
        journal.begin_pass(1).await.unwrap();
        let mut beyond = commit(1, Cursor::End, 1);
        beyond.failures.push(failure("a", FailureKind::Mixed));
        assert!(journal.commit(beyond).await.is_err());
        assert_eq!(journal.pass().await.unwrap().unwrap().tally, Tally::default());
        assert!(journal.ledger().await.unwrap().is_empty());
        journal.end_pass().await.unwrap();
        assert!(journal.commit(commit(0, Cursor::End, 1)).await.is_err());
    }

    #[tokio::test]
    async fn a_pass_that_is_given_up_stays_where_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let journal = open_at(directory.path(), "noon").unwrap();
        journal.begin_pass(2).await.unwrap();
        journal.commit(commit(1, Cursor::End, 3)).await.unwrap();
        assert_eq!(journal.begin_pass(1).await.unwrap().number, 2);
        journal.commit(commit(0, Cursor::End, 5)).await.unwrap();
        journal.end_pass().await.unwrap();
        let history = journal.history().await.unwrap();
        let ended: Vec<_> = history.iter().map(|record| (record.pass.ended, record.pass.tally.scanned)).collect();
        assert_eq!(ended, [(false, 3), (true, 5)]);
    }

    #[tokio::test]
    async fn the_ledger_opens_closes_and_opens_again() {
        let directory = tempfile::tempdir().unwrap();
        let ledger_commit = |failures, done| Commit { failures, done, ..commit(0, Cursor::Start, 0) };
        let journal = open_at(directory.path(), "noon").unwrap();
        journal.begin_pass(1).await.unwrap();
        let both = vec![failure("a", FailureKind::Mixed), failure("b", FailureKind::TooLarge)];
        journal.commit(ledger_commit(both.clone(), vec![key("c")])).await.unwrap();
        assert_eq!(journal.open_failures().await.unwrap(), both);
        drop(journal);

        let journal = open_at(directory.path(), "one").unwrap();
        journal.commit(ledger_commit(vec![], vec![key("a"), key("z")])).await.unwrap();
        journal.commit(ledger_commit(vec![failure("b", FailureKind::Rejected)], vec![])).await.unwrap();
        assert_eq!(journal.open_failures().await.unwrap(), [failure("b", FailureKind::Rejected)]);
        let entries = journal.ledger().await.unwrap();
        let summary = |entry: &LedgerEntry| {
            (entry.first_seen.clone(), entry.last_seen.clone(), entry.attempts, entry.closed.clone())
        };
        let text = str::to_owned;
        assert_eq!(summary(&entries[0]), (text("noon"), text("noon"), 1, Some(text("one"))));
        assert_eq!(summary(&entries[1]), (text("noon"), text("one"), 2, None));

        journal.commit(ledger_commit(vec![failure("a", FailureKind::Broken)], vec![])).await.unwrap();
        assert_eq!(journal.open_failures().await.unwrap().len(), 2);
        assert_eq!(summary(&journal.ledger().await.unwrap()[0]), (text("noon"), text("one"), 2, None));
    }

    #[tokio::test]
    async fn a_commit_is_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let journal = open_at(directory.path(), "noon").unwrap();
        journal.begin_pass(1).await.unwrap();
        let refuse = "CREATE TRIGGER refuse BEFORE UPDATE OF closed ON ledger WHEN new.closed IS NOT NULL
                      BEGIN SELECT RAISE(ABORT, 'no'); END";
        journal.file.connection.lock().unwrap().execute_batch(refuse).unwrap();
        let whole = Commit {
            failures: vec![failure("a", FailureKind::Mixed), failure("b", FailureKind::Mixed)],
            done: vec![key("a")],
            ..commit(0, Cursor::After(key("b")), 2)
        };
        let error = journal.commit(whole).await.unwrap_err();
        assert!(error.problem.starts_with("no"), "{error}");
        let pass = journal.pass().await.unwrap().unwrap();
        assert_eq!((pass.cursors, pass.tally), (vec![Cursor::Start], Tally::default()));
        assert!(journal.ledger().await.unwrap().is_empty());
    }

    #[test]
    fn another_plan_is_refused_by_its_field() {
        let directory = tempfile::tempdir().unwrap();
        drop(open_at(directory.path(), "noon").unwrap());
        let refused = SqliteJournal::open(directory.path(), &keys(), &plan("u"), "noon").unwrap_err();
        assert!(matches!(&refused, OpenError::Mismatch(mismatch) if mismatch.field == "table"), "{refused}");
        let other = KeyNames { partition: "tenant".into(), sort: None };
        let refused = SqliteJournal::open(directory.path(), &other, &plan("t"), "noon").unwrap_err();
        assert!(matches!(&refused, OpenError::Mismatch(mismatch) if mismatch.field == "key attributes"), "{refused}");
        open_at(directory.path(), "noon").unwrap();
    }

    #[test]
    fn files_that_are_no_journal_of_ours() {
        let newer = |connection: &Connection| connection.pragma_update(None, "user_version", VERSION + 1);
        let foreign = |connection: &Connection| connection.pragma_update(None, "application_id", 7);
        for (change, expected) in [(&newer as Change<'_>, "is of version 4"), (&foreign, "another program's database")]
        {
            let directory = tempfile::tempdir().unwrap();
            drop(open_at(directory.path(), "noon").unwrap());
            change(&Connection::open(directory.path().join(FILE)).unwrap()).unwrap();
            let refused = open_at(directory.path(), "noon").unwrap_err();
            assert!(refused.to_string().contains(expected), "{refused}");
        }
    }

    #[test]
    fn damaged_files_are_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        drop(open_at(directory.path(), "noon").unwrap());
        let whole = std::fs::read(&path).unwrap();
        let noise = b"not a database, but long enough to be read as the header of one by mistake".repeat(20);
        let mut scribbled = whole.clone();
        scribbled.iter_mut().skip(100).for_each(|byte| *byte = 0x5a);
        for damaged in [noise, scribbled, whole[..whole.len() / 2].to_vec()] {
            std::fs::write(&path, &damaged).unwrap();
            let refused = open_at(directory.path(), "noon").unwrap_err();
            assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
            assert_eq!(std::fs::read(&path).unwrap(), damaged);
        }
    }

    /// Passes that no run can have written: taken for what they say, they would be done without the table being read.
    #[tokio::test]
    async fn a_pass_that_lacks_lanes_is_refused() {
        let cases = [
            (
                "DELETE FROM lane",
                "it is damaged: there is no lane in pass 1; move it away and run again, which is safe",
            ),
            (
                "DELETE FROM lane WHERE segment = 1",
                "it is damaged: a lane is missing in pass 1; move it away and run again, which is safe",
            ),
            (
                "UPDATE lane SET segment = segment - 1",
                "it is damaged: a lane is missing in pass 1; move it away and run again, which is safe",
            ),
        ];
        for (damage, expected) in cases {
            let directory = tempfile::tempdir().unwrap();
            let journal = open_at(directory.path(), "noon").unwrap();
            journal.begin_pass(3).await.unwrap();
            journal.file.connection.lock().unwrap().execute_batch(damage).unwrap();
            assert_eq!(journal.pass().await.unwrap_err().problem, expected, "{damage}");
            assert_eq!(journal.history().await.unwrap_err().problem, expected, "{damage}");
        }
    }

    #[tokio::test]
    async fn counts_at_their_end_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let journal = open_at(directory.path(), "noon").unwrap();
        journal.begin_pass(1).await.unwrap();
        let damage = |sql: &str| journal.file.connection.lock().unwrap().execute_batch(sql).unwrap();
        damage("UPDATE pass SET tally = replace(tally, '\"scanned\":0', '\"scanned\":18446744073709551615')");
        let error = journal.commit(commit(0, Cursor::End, 1)).await.unwrap_err();
        assert!(error.problem.starts_with("it is damaged: pass 1 counts too many items"), "{error}");
        damage("PRAGMA foreign_keys = OFF; UPDATE pass SET number = 4294967295, ended = 'one'");
        let error = journal.begin_pass(1).await.unwrap_err();
        assert!(error.problem.starts_with("it is damaged: pass 4294967295 is the last"), "{error}");
        damage("UPDATE pass SET number = -1");
        let error = journal.pass().await.unwrap_err();
        assert!(error.problem.ends_with("; move it away and run again, which is safe"), "{error}");
    }

    #[test]
    fn one_process_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let held = open_at(directory.path(), "noon").unwrap();
        let refused = open_at(directory.path(), "noon").unwrap_err();
        assert!(matches!(refused, OpenError::Locked(LockError::Held { .. })), "{refused}");
        drop(held);
        open_at(directory.path(), "noon").unwrap();
    }

    #[test]
    fn a_place_that_cannot_be_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = open_at(&file.path().join("state"), "noon").unwrap_err();
        assert!(matches!(refused, OpenError::NotWritable { .. }), "{refused}");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn nobody_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("a").join("state");
        let journal = open_at(&state, "noon").unwrap();
        journal.begin_pass(1).await.unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&state), 0o700);
        let files: Vec<_> = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() >= 4, "journal, lock, write-ahead log and its index: {files:?}");
        for file in files {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    }
}
