//! Rule A with the journal on disk: a run that dies at any call, or whose journal fails at any operation, is resumed, and
//! in the end everything is as if nothing had happened.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use reseal::crypto::Suite;
use reseal::format::{Action, Schema, Unsigned};
use reseal::item::{Item, KeyNames, Value};
use reseal::keyring::{Keyring, RawAes};
use reseal::migration::{Depth, Fingerprint, Policy, Target, Verdict};
use reseal::pipeline::{Ended, Event, Observer, Ports, Report, RunError, Settings, Stop, run};
use reseal::store::{Journal, PassRecord, SqliteJournal, Table};
use reseal::testing::{MemoryTable, Tripwire};

const CUSTOMERS: usize = 5;
/// Has an attribute that the job does not name.
const FAILING: usize = 3;

struct Deaf;

impl Observer for Deaf {
    fn on(&self, _: &Event) {}
}

fn names() -> KeyNames {
    KeyNames { partition: "id".to_owned(), sort: None }
}

fn customer(i: usize) -> Item {
    let mut item: Item =
        [("id", Value::from(format!("c{i}").as_str())), ("email", Value::from(format!("{i}@example.org").as_str()))]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
    if i == FAILING {
        item.insert("late", Value::Null);
    }
    item
}

/// A table of customers and the state directory of its job.
struct World {
    table: Arc<MemoryTable>,
    keyring: Arc<dyn Keyring>,
    policy: Arc<Policy>,
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let table = Arc::new(MemoryTable::new(names()));
        for i in 0..CUSTOMERS {
            table.put(customer(i)).unwrap();
        }
        let keyring: Arc<dyn Keyring> = Arc::new(RawAes::new("acme", "k", &[7; 32]).unwrap());
        let actions =
            BTreeMap::from([("id".to_owned(), Action::SignOnly), ("email".to_owned(), Action::EncryptAndSign)]);
        let unsigned = Unsigned { names: BTreeSet::new(), prefix: None };
        let policy = Policy {
            schema: Schema { logical_table: "customers".to_owned(), keys: names(), actions, unsigned },
            accept_plaintext: true,
            accept_dbesdk: false,
            target: Target::Dbesdk { suite: Suite::HmacSha384, recipients: keyring.recipients().to_vec() },
            depth: Depth::Reencrypt,
        };
        Self { table, keyring, policy: Arc::new(policy), directory: tempfile::tempdir().unwrap() }
    }

    fn state(&self) -> &Path {
        self.directory.path()
    }

    fn journal(&self) -> Arc<SqliteJournal> {
        let plan: Fingerprint = [("job".to_owned(), "customers".to_owned())].into_iter().collect();
        Arc::new(SqliteJournal::open(self.state(), &names(), &plan, "2026-11-22T00:00:00Z").unwrap())
    }

    /// A process: `None` when it died. It has a runtime of its own, with which everything of it ends.
    fn run(&self, wire: &Arc<Tripwire>) -> Option<Result<Report, RunError>> {
        runtime().block_on(self.work(wire))
    }

    async fn work(&self, wire: &Arc<Tripwire>) -> Option<Result<Report, RunError>> {
        let ports = Ports {
            table: wire.wire(Arc::clone(&self.table) as Arc<dyn Table>),
            target: Some(wire.wire(Arc::clone(&self.keyring))),
            sources: Vec::new(),
            observer: Arc::new(Deaf),
        };
        let journal = wire.wire(self.journal() as Arc<dyn Journal>);
        let stop = Stop::default();
        tokio::select! {
            report = run(ports, None, journal, Arc::clone(&self.policy), settings(), &stop) => Some(report),
            () = wire.tripped() => None,
        }
    }

    fn demand_end(&self, what: &str) {
        for i in 0..CUSTOMERS {
            let item = self.table.peek(&names().key_of(&customer(i)).unwrap()).unwrap();
            if i == FAILING {
                assert_eq!(item, customer(i), "{what}");
            } else {
                assert!(matches!(self.policy.classify(&item), Ok(Verdict::Current(_))), "{what}: {i}");
            }
        }
        assert_eq!(self.table.items().len(), CUSTOMERS, "{what}");
        assert_eq!(self.table.counts().written as usize, CUSTOMERS - 1, "{what}: nothing was written twice");
        let journal = self.journal();
        let runtime = runtime();
        let failures = runtime.block_on(journal.open_failures()).unwrap();
        assert_eq!(failures.len(), 1, "{what}");
        for PassRecord { pass, ended, .. } in runtime.block_on(journal.history()).unwrap() {
            assert!(ended.is_some() && pass.tally.balances(), "{what}: {pass:?}");
            assert_eq!(pass.tally.scanned as usize, CUSTOMERS, "{what}: no page was skipped or counted twice");
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

fn settings() -> Settings {
    Settings { segments: 2, page_items: Some(2), ..reseal::testing::settings() }
}

#[test]
fn a_process_that_dies_at_any_call_is_resumed_from_the_file() {
    let clean = World::new();
    let wire = Tripwire::at(u64::MAX);
    assert_eq!(clean.run(&wire).unwrap().unwrap().ended, Ended::Complete);
    clean.demand_end("a clean run");
    println!("{} moments at which a process may die: before and after each call of a port", wire.moments());
    assert!(wire.moments() > 60);
    for moment in 0..wire.moments() {
        let what = format!("moment {moment}");
        let world = World::new();
        assert!(world.run(&Tripwire::at(moment)).is_none(), "{what}");
        let resumed = world.run(&Tripwire::at(u64::MAX)).unwrap().unwrap();
        assert_eq!(resumed.ended, Ended::Complete, "{what}");
        world.demand_end(&what);
    }
}

/// Counts rows from a number down to zero and fails there, in every way in which the journal writes.
fn countdown() -> String {
    let ways = ["pass", "lane", "ledger"].into_iter().flat_map(|table| [(table, "INSERT"), (table, "UPDATE")]);
    let triggers = ways.map(|(table, way)| {
        format!(
            "CREATE TRIGGER {table}_{way} BEFORE {way} ON {table} BEGIN
                SELECT RAISE(ABORT, 'planted') WHERE (SELECT rows FROM countdown) = 0;
                UPDATE countdown SET rows = rows - 1;
            END;"
        )
    });
    std::iter::once("CREATE TABLE countdown (rows INTEGER NOT NULL);".to_owned()).chain(triggers).collect()
}

/// Has the journal fail when so many rows were written, or lets it work again.
fn fail_after(state: &Path, rows: Option<u32>) -> u32 {
    let file = rusqlite::Connection::open(state.join("journal.sqlite3")).unwrap();
    let before: u32 = file.query_row("SELECT rows FROM countdown", [], |row| row.get(0)).unwrap_or_default();
    match rows {
        Some(rows) => {
            if file.execute("UPDATE countdown SET rows = ?1", [rows]).is_err() {
                file.execute_batch(&countdown()).unwrap();
                file.execute("INSERT INTO countdown VALUES (?1)", [rows]).unwrap();
            }
        }
        None => drop(file.execute("UPDATE countdown SET rows = 1000000", []).unwrap()),
    }
    before
}

#[test]
fn a_journal_that_fails_at_any_operation_stops_the_run_and_nothing_else() {
    const MANY: u32 = 1000;
    let never = || Tripwire::at(u64::MAX);
    let clean = World::new();
    drop(clean.journal());
    fail_after(clean.state(), Some(MANY));
    clean.run(&never()).unwrap().unwrap();
    let operations = MANY - fail_after(clean.state(), None);
    println!("{operations} rows written to the journal in a clean run");
    assert!(operations > 20);
    for rows in 0..operations {
        let what = format!("failing after {rows} rows");
        let world = World::new();
        drop(world.journal());
        fail_after(world.state(), Some(rows));
        let stopped = world.run(&never()).unwrap();
        assert!(matches!(&stopped, Err(RunError::Journal(error)) if error.problem.contains("planted")), "{what}");
        fail_after(world.state(), None);
        assert_eq!(world.run(&never()).unwrap().unwrap().ended, Ended::Complete, "{what}");
        world.demand_end(&what);
    }
}
