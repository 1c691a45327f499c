//! Rules W, T, R and S: no write of others is lost or undone, no deleted item comes back, nothing is written twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::world::{World, at_update, before_update, customer, customer_with, is_probe, jump, key};
use crate::format::dbesdk;
use crate::item::{Item, Number, Value};
use crate::migration::{FailureKind, Rewrite, Tally};
use crate::pipeline::{Ended, Event};
use crate::store::{StoreClass, Via};
use crate::testing::{Call, FaultyKeyring, KeyCall, KeyFault, MemoryTable, TableFault};

const CUSTOMERS: u32 = 4;

fn number(text: &str) -> Value {
    Value::Number(Number::parse(text).unwrap())
}

fn put(table: &MemoryTable, item: Item) {
    table.put(item).unwrap();
}

/// The tally of a first pass over all customers in which so many were rewritten or superseded, after so many failed
/// conditions.
fn tally(rewritten: u64, superseded: u64, conflicts: u64) -> Tally {
    let failed = u64::from(CUSTOMERS) - rewritten - superseded;
    Tally { scanned: u64::from(CUSTOMERS), rewritten, superseded, failed, conflicts, ..Tally::default() }
}

#[tokio::test(start_paused = true)]
async fn what_applications_do_between_scan_and_write_stays() {
    async fn check(what: &str, act: fn(&MemoryTable), first: Option<Item>, expected: Tally) {
        for writer in [Via::Batch, Via::Single] {
            let mut world = World::of(CUSTOMERS);
            world.settings.writer = writer;
            let report = world.run_with(before_update(0, act)).await.unwrap();
            assert_eq!(report.ended, Ended::Complete, "{what}");
            assert_eq!(report.passes[0].1, expected, "{what}");
            assert_eq!(report.failures, [], "{what}");
            assert_eq!(world.table.peek(&key(0)).is_some(), first.is_some(), "{what}");
            for item in first.iter().cloned().chain((1..CUSTOMERS).map(customer)) {
                world.demand(&item).await;
            }
        }
    }
    let renewed = || customer_with(0, "email", "new@example.org");
    check(
        "a whole put",
        |table| put(table, customer_with(0, "email", "new@example.org")),
        Some(renewed()),
        tally(4, 0, 1),
    )
    .await;
    let mut visited = customer(0);
    visited.insert("visits", number("2"));
    let visit: fn(&MemoryTable) =
        |table| assert!(table.change(&key(0), |item| drop(item.insert("visits", number("2")))));
    check("an unsigned attribute", visit, Some(visited), tally(4, 0, 0)).await;
    let noted = customer_with(0, "note", "late");
    check(
        "an absent attribute appears",
        |table| put(table, customer_with(0, "note", "late")),
        Some(noted),
        tally(4, 0, 1),
    )
    .await;
    let moved = customer_with(0, "region", "us");
    check("a signed attribute", |table| put(table, customer_with(0, "region", "us")), Some(moved), tally(4, 0, 1))
        .await;
    let mut silent = customer(0);
    silent.remove("email");
    let silence: fn(&MemoryTable) = |table| assert!(table.change(&key(0), |item| drop(item.remove("email"))));
    check("an attribute disappears", silence, Some(silent), tally(4, 0, 1)).await;
    check("deleted", |table| drop(table.delete(&key(0)).unwrap()), None, tally(3, 1, 1)).await;
    let again: fn(&MemoryTable) = |table| {
        table.delete(&key(0)).unwrap();
        put(table, customer_with(0, "email", "new@example.org"));
    };
    check("deleted and made anew", again, Some(renewed()), tally(4, 0, 1)).await;
}

#[tokio::test(start_paused = true)]
async fn the_token_names_everything_that_the_rewrite_depends_on() {
    let world = World::of(1);
    let seen: Arc<std::sync::Mutex<Vec<Rewrite>>> = Arc::default();
    let report = world
        .run_with({
            let seen = Arc::clone(&seen);
            move |_, call| {
                if let Call::Update(rewrites, _) = call {
                    seen.lock()
                        .unwrap()
                        .extend(rewrites.iter().filter(|rewrite| !is_probe(&[(*rewrite).clone()])).cloned());
                }
                TableFault::None
            }
        })
        .await
        .unwrap();
    assert_eq!(report.ended, Ended::Complete);
    let seen = seen.lock().unwrap();
    let [rewrite] = &seen[..] else { panic!("{seen:?}") };
    let names: Vec<&str> = rewrite.condition.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [dbesdk::FOOT, dbesdk::HEAD, "email", "note", "region"]);
    let set: Vec<&str> = rewrite.set.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((set, rewrite.remove.len()), (vec![dbesdk::FOOT, dbesdk::HEAD, "email"], 0));
}

#[tokio::test(start_paused = true)]
async fn an_item_that_another_writer_sealed_meanwhile_is_done() {
    let other = World::of(1);
    other.run().await;
    let theirs = other.table.items().remove(0);
    let world = World::of(CUSTOMERS);
    let script = before_update(0, {
        let theirs = theirs.clone();
        move |table| put(table, theirs.clone())
    });
    let report = world.run_with(script).await.unwrap();
    assert_eq!(report.passes[0].1, tally(3, 1, 1));
    assert_eq!(world.table.peek(&key(0)), Some(theirs));
}

/// Runs with faults for the first updates, one each, and gives back the first pass's tally, the writes applied and the
/// keys generated.
async fn faults(world: &mut World, faults: Vec<TableFault>) -> (Tally, u64, u64) {
    let generated = Arc::new(AtomicU64::new(0));
    world.keyring = Arc::new(FaultyKeyring::new(Arc::clone(&world.keyring), {
        let generated = Arc::clone(&generated);
        move |call| {
            generated.fetch_add(u64::from(call == KeyCall::Generate), Ordering::Relaxed);
            KeyFault::None
        }
    }));
    let mut faults = faults.into_iter();
    let script = move |_: &MemoryTable, call: Call<'_>| match call {
        Call::Update(rewrites, _) if !is_probe(rewrites) => faults.next().unwrap_or(TableFault::None),
        _ => TableFault::None,
    };
    let report = world.run_with(script).await.unwrap();
    assert_eq!(report.ended, Ended::Complete);
    assert!(report.passes.iter().all(|(_, tally)| tally.balances()));
    (report.passes[0].1, world.table.counts().written, generated.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_found_out_and_nothing_is_sealed_twice() {
    use TableFault::{AnswerLost, None, Refused, RefusedAfter, WithoutItem};
    let unknown = || Refused(StoreClass::Unknown);
    let cases = [
        ("nothing goes wrong", vec![None], tally(4, 0, 0)),
        ("applied, the answer lost", vec![AnswerLost], tally(4, 0, 4)),
        ("the same, and failed conditions come without the item", vec![AnswerLost, WithoutItem], tally(4, 0, 4)),
        ("lost twice", vec![AnswerLost, AnswerLost], tally(4, 0, 4)),
        ("not applied", vec![unknown(), unknown()], tally(4, 0, 0)),
        ("partly throttled", vec![RefusedAfter(3, StoreClass::Throttled { reason: "r".into() })], tally(4, 0, 0)),
        ("conflicts", vec![Refused(StoreClass::Conflict); 9], tally(4, 0, 0)),
        ("credentials expire", vec![Refused(StoreClass::Credentials); 200], tally(4, 0, 0)),
    ];
    for (what, script, expected) in cases {
        let mut world = World::of(CUSTOMERS);
        assert_eq!(faults(&mut world, script).await, (expected, 4, 4), "{what}");
        world.demand_all(CUSTOMERS).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_applications_do_after_a_lost_answer_stays() {
    async fn check(what: &str, act: fn(&MemoryTable), first: Option<Item>) {
        let world = World::of(CUSTOMERS);
        let mut updates = 0;
        let script = move |table: &MemoryTable, call: Call<'_>| match call {
            Call::Update(rewrites, _) if !is_probe(rewrites) => {
                updates += 1;
                if updates == 2 {
                    act(table);
                }
                if updates == 1 { TableFault::AnswerLost } else { TableFault::None }
            }
            _ => TableFault::None,
        };
        let report = world.run_with(script).await.unwrap();
        assert_eq!((&report.ended, report.failures.len()), (&Ended::Complete, 0), "{what}");
        assert_eq!(world.table.peek(&key(0)).is_some(), first.is_some(), "{what}");
        for item in first.iter().cloned().chain((1..CUSTOMERS).map(customer)) {
            world.demand(&item).await;
        }
    }
    check("deleted", |table| drop(table.delete(&key(0)).unwrap()), None).await;
    check("the same item put again", |table| put(table, customer(0)), Some(customer(0))).await;
    let moved = customer_with(0, "region", "us");
    check("another item put", |table| put(table, customer_with(0, "region", "us")), Some(moved)).await;
    let mut visited = customer(0);
    visited.insert("visits", number("2"));
    let visit: fn(&MemoryTable) =
        |table| assert!(table.change(&key(0), |item| drop(item.insert("visits", number("2")))));
    check("an unsigned attribute", visit, Some(visited)).await;
}

#[tokio::test(start_paused = true)]
async fn a_defect_of_the_condition_gets_one_second_opinion() {
    let mut world = World::of(CUSTOMERS);
    assert_eq!(faults(&mut world, vec![TableFault::ConditionsFail]).await, (tally(4, 0, 0), 4, 4));
    world.demand_all(CUSTOMERS).await;

    let world = World::of(CUSTOMERS);
    let updates = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&updates);
    let script = move |_: &MemoryTable, call: Call<'_>| match call {
        Call::Update(rewrites, _) if !is_probe(rewrites) => {
            count.fetch_add(1, Ordering::Relaxed);
            TableFault::ConditionsFail
        }
        _ => TableFault::None,
    };
    let report = world.run_with(script).await.unwrap();
    assert_eq!((report.ended, report.passes[0].1), (Ended::Complete, tally(0, 0, 0)));
    assert_eq!(updates.load(Ordering::Relaxed), 1 + u64::from(CUSTOMERS), "one batch, one second opinion each");
    assert!(world.ledger().await.iter().all(|(_, kind)| *kind == FailureKind::ConditionDefect));
    assert_eq!(world.table.counts().written, 0);
}

#[tokio::test(start_paused = true)]
async fn contention_is_bounded() {
    let world = World::of(1);
    let changes = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&changes);
    let script = move |table: &MemoryTable, call: Call<'_>| {
        if matches!(call, Call::Update(rewrites, _) if !is_probe(rewrites)) {
            let n = count.fetch_add(1, Ordering::Relaxed);
            put(table, customer_with(0, "region", &n.to_string()));
        }
        TableFault::None
    };
    let report = world.run_with(script).await.unwrap();
    assert_eq!(report.ended, Ended::Complete);
    assert_eq!(report.passes.len(), 1);
    assert_eq!(changes.load(Ordering::Relaxed), 1 + u64::from(world.settings.attempts));
    assert_eq!(world.ledger().await, [(key(0).to_string(), FailureKind::Contended)]);
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_final_go_to_the_ledger() {
    for (class, kind) in [(StoreClass::Item, FailureKind::Rejected), (StoreClass::Conflict, FailureKind::Contended)] {
        let mut world = World::of(CUSTOMERS);
        world.settings.page_items = Some(1);
        let refused = class.clone();
        let script = move |_: &MemoryTable, call: Call<'_>| match call {
            Call::Update(rewrites, _) if !is_probe(rewrites) && rewrites[0].key == key(1) => {
                TableFault::Refused(refused.clone())
            }
            _ => TableFault::None,
        };
        let report = world.run_with(script).await.unwrap();
        assert_eq!((report.ended, report.passes[0].1.failed), (Ended::Complete, 1));
        assert_eq!(world.ledger().await, [(key(1).to_string(), kind)], "{class:?}");
        assert_eq!(world.table.peek(&key(1)), Some(customer(1)));
        world.demand(&customer(0)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn silence_ends_the_run_and_waiting_does_not_count_as_silence() {
    let refused = |class: StoreClass, times: u64| {
        let mut updates = 0;
        move |_: &MemoryTable, call: Call<'_>| match call {
            Call::Update(rewrites, _) if !is_probe(rewrites) => {
                updates += 1;
                match updates {
                    n if n <= times => TableFault::Refused(class.clone()),
                    n if n == times + 1 => TableFault::Refused(StoreClass::Unknown),
                    n if n == times + 2 => TableFault::Refused(StoreClass::Conflict),
                    _ => TableFault::None,
                }
            }
            _ => TableFault::None,
        }
    };
    let world = World::of(1);
    assert!(world.run_with(refused(StoreClass::Unknown, 1000)).await.is_err());
    for class in [StoreClass::Throttled { reason: "r".to_owned() }, StoreClass::Credentials] {
        let world = World::of(1);
        let report = world.run_with(refused(class.clone(), 200)).await.unwrap();
        assert_eq!((report.ended, report.failures.len()), (Ended::Complete, 0), "{class:?}");
        world.demand_all(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn expired_credentials_are_told_of_whatever_came_before() {
    let world = World::of(1);
    let mut updates = 0;
    let script = move |_: &MemoryTable, call: Call<'_>| match call {
        Call::Update(rewrites, _) if !is_probe(rewrites) => {
            updates += 1;
            match updates {
                1 => TableFault::Refused(StoreClass::Throttled { reason: "r".to_owned() }),
                2..5 => TableFault::Refused(StoreClass::Credentials),
                _ => TableFault::None,
            }
        }
        _ => TableFault::None,
    };
    world.run_with(script).await.unwrap();
    assert_eq!(world.heard(|event| matches!(event, Event::Holding { .. })), 1);
    world.demand_all(1).await;
}

#[tokio::test(start_paused = true)]
async fn unknown_attributes_go_to_the_ledger_by_name() {
    let world = World::of(2);
    put(&world.table, customer_with(0, "late", "x"));
    let report = world.run().await;
    assert_eq!(world.ledger().await, [(key(0).to_string(), FailureKind::UnknownAttribute)]);
    assert!(report.failures[0].detail.contains("\"late\""), "{}", report.failures[0].detail);
    assert_eq!(world.table.peek(&key(0)), Some(customer_with(0, "late", "x")));
    world.demand(&customer(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_mixed_item_is_named_and_left_alone() {
    let mut world = World::of(2);
    world.run().await;
    // An application writes into a sealed item; then the job changes, so that opening it would be wished for.
    assert!(world.table.change(&key(0), |item| drop(item.insert("late", Value::from("x")))));
    let mixed = world.table.peek(&key(0));
    world.retarget("k2", crate::crypto::Suite::HmacSha384);
    let report = world.run().await;
    assert_eq!(world.ledger().await, [(key(0).to_string(), FailureKind::Mixed)]);
    assert!(report.failures[0].detail.contains("\"late\""), "{}", report.failures[0].detail);
    assert_eq!(world.table.peek(&key(0)), mixed);
    world.demand(&customer(1)).await;
}

/// No condition can say that no other attribute exists: this is what `schema = "frozen"` is demanded for.
#[tokio::test(start_paused = true)]
async fn an_attribute_that_comes_with_the_write_is_noticed() {
    let world = World::of(2);
    let add = |table: &MemoryTable| assert!(table.change(&key(0), |item| drop(item.insert("late", Value::from("x")))));
    let report = world.run_with(before_update(0, add)).await.unwrap();
    assert_eq!(report.ended, Ended::Complete);
    assert_eq!(world.ledger().await, [(key(0).to_string(), FailureKind::Mixed)]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_denied_stops() {
    let world = World::of(CUSTOMERS);
    let script = at_update(0, |_| TableFault::Refused(StoreClass::Fatal));
    assert!(world.run_with(script).await.is_err());
    assert_eq!(world.table.counts().written, 0);
}

/// Rule M: while the machine slept, another might have taken over.
#[tokio::test(start_paused = true)]
async fn after_a_jump_of_the_wall_clock_items_are_read_again_before_they_are_written() {
    let (no, slew, hour) = (Duration::ZERO, Duration::from_secs(3), Duration::from_hours(1));
    for (forward, back, reads) in [(no, no, 0), (slew, no, 0), (hour, no, 4), (no, hour, 4)] {
        let mut world = World::of(CUSTOMERS);
        let table = Arc::clone(&world.table);
        let mut calls = 0;
        world.keyring = Arc::new(FaultyKeyring::new(Arc::clone(&world.keyring), move |_| {
            calls += 1;
            if calls == 1 {
                jump(forward, back);
                put(&table, customer_with(0, "region", "us"));
            }
            KeyFault::None
        }));
        let report = world.run().await;
        assert_eq!((report.ended, world.table.counts().gets), (Ended::Complete, reads));
        assert_eq!(report.passes[0].1, tally(4, 0, reads.max(1)), "a jump is looked at like a failed condition");
        assert_eq!(world.table.counts().conditions_failed, 1 + u64::from(reads == 0), "the probe, and the put");
        world.demand(&customer_with(0, "region", "us")).await;
        world.demand(&customer(1)).await;
    }
}

/// The same for an item that waited for a ticket while another was worked on.
#[tokio::test(start_paused = true)]
async fn what_waited_during_a_jump_is_read_again_too() {
    let mut world = World::of(2);
    world.settings.max_items = Some(1);
    let (table, mut calls) = (Arc::clone(&world.table), 0);
    world.keyring = Arc::new(FaultyKeyring::new(Arc::clone(&world.keyring), move |_| {
        calls += 1;
        if calls == 1 {
            jump(Duration::from_hours(1), Duration::ZERO);
            // Its ticket goes to the other one.
            table.delete(&key(0));
        }
        KeyFault::None
    }));
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let report = world.run_with(move |_, call| {
        match call {
            Call::Get(of) if *of == key(1) => log.lock().unwrap().push("read"),
            Call::Update(rewrites, _) if !is_probe(rewrites) => log.lock().unwrap().push("written"),
            _ => {}
        }
        TableFault::None
    });
    let tally = report.await.unwrap().passes[0].1;
    assert_eq!((tally.rewritten, tally.superseded), (1, 1));
    assert_eq!(*seen.lock().unwrap(), ["read", "written"]);
}
