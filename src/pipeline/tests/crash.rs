//! Rule A: a run that dies at any call is resumed, and in the end everything is as if it had not died.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::world::{World, before_update, customer, customer_with, key, names};
use crate::migration::{FailureKind, Verdict};
use crate::pipeline::{Ended, Stop, run};
use crate::store::{Cursor, Scan, Table};
use crate::testing::Tripwire;

const CUSTOMERS: u32 = 11;
/// Has an attribute that the job does not name.
const FAILING: u32 = 3;
/// Is put again by an application while the run writes.
const BUSY: u32 = 8;

struct Crash {
    world: World,
    put: Arc<AtomicBool>,
}

impl Crash {
    fn new() -> Self {
        let mut world = World::of(CUSTOMERS);
        world.settings.segments = 2;
        world.settings.page_items = Some(2);
        world.table.put(customer_with(FAILING, "late", "x")).unwrap();
        Self { world, put: Arc::default() }
    }

    /// Runs until the tripwire trips, or to the end; gives back whether it came to its end.
    async fn run(&self, wire: &Arc<Tripwire>) -> bool {
        let put = Arc::clone(&self.put);
        let table = self.world.faulty(before_update(2, move |table| {
            table.put(customer_with(BUSY, "region", "us")).unwrap();
            put.store(true, Ordering::Relaxed);
        }));
        let mut ports = self.world.ports(wire.wire(table as Arc<dyn Table>));
        ports.target = Some(wire.wire(Arc::clone(&self.world.keyring)));
        let journal = wire.wire(Arc::clone(&self.world.journal));
        let policy = Arc::new(self.world.policy.clone());
        let stop = Stop::default();
        let settings = self.world.settings.clone();
        tokio::select! {
            report = run(ports, None, journal, policy, settings, &stop) => {
                assert_eq!(report.unwrap().ended, Ended::Complete);
                true
            }
            () = wire.tripped() => false,
        }
    }

    /// Demands that every item which a cursor has passed is at target or in the ledger.
    async fn demand_cursors(&self, what: &str) {
        let Some(pass) = self.world.journal.passes().pop() else { return };
        let ledger = self.world.ledger().await;
        for (segment, cursor) in (0..).zip(&pass.cursors) {
            let scan = Scan { segment, total_segments: pass.cursors.len() as u32, after: None, limit: None };
            for item in self.world.table.scan(&scan).await.unwrap().items {
                let key = names().key_of(&item).unwrap().to_string();
                let passed = match cursor {
                    Cursor::Start => false,
                    Cursor::After(last) => key <= last.to_string(),
                    Cursor::End => true,
                };
                let done = matches!(self.world.policy.classify(&item), Ok(Verdict::Current(_)))
                    || ledger.iter().any(|(failed, _)| *failed == key);
                assert!(done || !passed, "{what}: the cursor has passed {key}");
            }
        }
    }

    async fn demand_end(&self, what: &str) {
        for i in (0..CUSTOMERS).filter(|i| *i != FAILING) {
            let put = i == BUSY && self.put.load(Ordering::Relaxed);
            self.world.demand(&if put { customer_with(BUSY, "region", "us") } else { customer(i) }).await;
        }
        let failing = customer_with(FAILING, "late", "x");
        assert_eq!(self.world.table.peek(&key(FAILING)), Some(failing), "{what}");
        let ledger = self.world.ledger().await;
        assert_eq!(ledger, [(key(FAILING).to_string(), FailureKind::UnknownAttribute)], "{what}");
        assert_eq!(self.world.table.items().len(), CUSTOMERS as usize, "{what}");
        for pass in self.world.journal.passes() {
            assert!(pass.ended && pass.tally.balances(), "{what}: {pass:?}");
            assert_eq!(pass.tally.scanned, u64::from(CUSTOMERS), "{what}: no page was skipped or counted twice");
        }
    }
}

#[tokio::test(start_paused = true)]
#[allow(clippy::print_stdout, reason = "how many moments there are is a result")]
async fn a_crash_at_any_call_loses_nothing() {
    let clean = Crash::new();
    let wire = Tripwire::at(u64::MAX);
    assert!(clean.run(&wire).await);
    clean.demand_end("a clean run").await;
    println!("{} moments at which a process may die: before and after each call of a port", wire.moments());
    assert!(wire.moments() > 100);
    for moment in 0..wire.moments() {
        let what = format!("moment {moment} of {}", wire.moments());
        let crash = Crash::new();
        let ended = crash.run(&Tripwire::at(moment)).await;
        crash.demand_cursors(&what).await;
        // And once more in the midst of the resumed run.
        if !ended && !crash.run(&Tripwire::at(moment / 2)).await {
            crash.demand_cursors(&what).await;
        }
        assert_eq!(crash.world.run().await.ended, Ended::Complete, "{what}");
        crash.demand_end(&what).await;
    }
}
