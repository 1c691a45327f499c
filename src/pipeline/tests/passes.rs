//! Rule F, the forms an item can have, passes, the ledger's entries, `--max-items` and `--keys`.

use std::sync::Arc;
use std::time::Duration;

use super::world::{World, at_update, before_update, customer, customer_with, is_probe, key, raw, schema};
use crate::crypto::{Suite, Wanted};
use crate::format::dbesdk::{self, Inspection};
use crate::item::{Item, Value};
use crate::migration::{FailureKind, Target};
use crate::pipeline::{Ended, Event, Report, RunError, Stop, run_keys};
use crate::store::{Journal, StoreClass, Table};
use crate::testing::{Call, FaultyTable, MemoryTable, TableFault};

const CUSTOMERS: u32 = 12;

fn rewritten(report: &Report) -> Vec<u64> {
    report.passes.iter().map(|(_, tally)| tally.rewritten).collect()
}

#[tokio::test(start_paused = true)]
async fn a_second_run_writes_nothing() {
    for suite in Suite::ALL {
        for version in [1, 2] {
            let mut world = World::of(CUSTOMERS);
            world.policy.schema = schema(version);
            world.policy.target = Target::Dbesdk { suite, recipients: world.keyring.recipients().to_vec() };
            let report = world.run().await;
            assert_eq!((&report.ended, rewritten(&report)), (&Ended::Complete, vec![12, 0]));
            world.demand_all(CUSTOMERS).await;
            let Inspection::Sealed(sealed) =
                dbesdk::inspect(&world.policy.schema, &world.table.peek(&key(0)).unwrap()).unwrap()
            else {
                panic!("in plaintext")
            };
            assert_eq!((sealed.head.version, sealed.head.suite), (version, suite));

            let (items, counts) = (world.table.items(), world.table.counts());
            let report = world.run().await;
            assert_eq!((&report.ended, rewritten(&report)), (&Ended::Complete, vec![0]));
            assert_eq!((world.table.items(), world.table.counts().written), (items, counts.written));
            assert!(report.write_units < 0.1, "nothing was even tried");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sealed_items_move_to_another_key_and_suite_and_back_to_plaintext() {
    let mut world = World::of(CUSTOMERS);
    world.table.put(customer_with(0, "note", "kept")).unwrap();
    world.run().await;
    for (key, suite) in [("k2", Suite::HmacSha384), ("k2", Suite::EcdsaP384), ("k3", Suite::HmacSha384)] {
        world.retarget(key, suite);
        let report = world.run().await;
        assert_eq!((&report.ended, rewritten(&report)), (&Ended::Complete, vec![12, 0]), "{key} {suite}");
        world.demand(&customer_with(0, "note", "kept")).await;
        world.demand(&customer(1)).await;
    }
    world.sources.push(Arc::clone(&world.keyring));
    world.policy.target = Target::Plaintext;
    let report = world.run().await;
    assert_eq!((&report.ended, rewritten(&report)), (&Ended::Complete, vec![12, 0]));
    let expected: Vec<Item> = std::iter::once(customer_with(0, "note", "kept")).chain((1..12).map(customer)).collect();
    assert_eq!(world.table.items(), expected);
}

#[tokio::test(start_paused = true)]
async fn writes_of_others_stay_when_sealed_items_are_rewritten() {
    for to_plaintext in [false, true] {
        let mut world = World::of(4);
        world.run().await;
        world.retarget("k2", Suite::HmacSha384);
        if to_plaintext {
            world.policy.target = Target::Plaintext;
        }
        let act = |table: &MemoryTable| {
            table.put(customer_with(0, "region", "us")).unwrap();
            table.delete(&key(1)).unwrap();
            assert!(table.change(&key(2), |item| drop(item.insert("visits", Value::from("many")))));
        };
        let report = world.run_with(before_update(0, act)).await.unwrap();
        assert_eq!((report.ended, report.failures.len()), (Ended::Complete, 0));
        assert_eq!(world.table.peek(&key(1)), None);
        for expected in [customer_with(0, "region", "us"), customer_with(2, "visits", "many"), customer(3)] {
            world.demand(&expected).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_keyring_opens_and_what_the_job_does_not_accept() {
    let mut world = World::of(2);
    world.run().await;
    let before = world.table.items();
    world.keyring = raw("k9");
    world.policy.target =
        Target::Dbesdk { suite: Suite::HmacSha384, recipients: vec![Wanted::exactly(super::world::recipient("k9"))] };
    world.run().await;
    assert!(world.ledger().await.iter().all(|(_, kind)| *kind == FailureKind::Key));
    world.policy.accept_dbesdk = false;
    world.run().await;
    assert_eq!(world.ledger().await.len(), 2);
    assert!(world.ledger().await.iter().all(|(_, kind)| *kind == FailureKind::UnexpectedForm));
    assert_eq!(world.table.items(), before);
}

#[tokio::test(start_paused = true)]
async fn passes_go_on_while_applications_write_plaintext() {
    // An application puts a customer behind the cursor, in the first and in the second pass.
    let put_behind = |passes: u32| {
        let mut pages = 0;
        move |table: &MemoryTable, call: Call<'_>| {
            if matches!(call, Call::Scan(_)) {
                pages += 1;
                // Three pages a pass.
                if pages % 3 == 0 && pages / 3 <= passes {
                    table.put(customer(0)).unwrap();
                }
            }
            TableFault::None
        }
    };
    let world = World::of(CUSTOMERS);
    let report = world.run_with(put_behind(2)).await.unwrap();
    assert_eq!((&report.ended, rewritten(&report)), (&Ended::Complete, vec![12, 1, 1, 0]));
    world.demand_all(CUSTOMERS).await;

    let mut world = World::of(CUSTOMERS);
    world.settings.max_passes = 2;
    let report = world.run_with(put_behind(9)).await.unwrap();
    assert_eq!((&report.ended, rewritten(&report)), (&Ended::StillFoundWork, vec![12, 1]));
    // The next call begins another pass.
    let report = world.run().await;
    assert_eq!((&report.ended, report.passes[0].0, rewritten(&report)), (&Ended::Complete, 3, vec![1, 0]));
}

#[tokio::test(start_paused = true)]
async fn ledger_entries_close_when_the_item_is_done_or_gone() {
    let world = World::of(4);
    for i in 0..3 {
        world.table.put(customer_with(i, "late", "x")).unwrap();
    }
    let report = world.run().await;
    assert_eq!((report.ended, report.failures.len()), (Ended::Complete, 3));
    world.table.put(customer(0)).unwrap();
    world.table.delete(&key(1)).unwrap();
    let report = world.run().await;
    assert_eq!(report.failures.len(), 1, "one was mended, one is gone");
    assert_eq!(world.ledger().await, [(key(2).to_string(), FailureKind::UnknownAttribute)]);
}

#[tokio::test(start_paused = true)]
async fn max_items_is_exact_and_a_later_run_goes_on() {
    for pages_in_flight in [1, 3] {
        let mut world = World::of(CUSTOMERS);
        world.settings.max_items = Some(7);
        world.settings.pages_in_flight = pages_in_flight;
        world.settings.page_items = Some(3);
        let report = world.run().await;
        assert_eq!((&report.ended, rewritten(&report)), (&Ended::Limit, vec![7]), "{pages_in_flight} pages in flight");
        assert_eq!(world.table.counts().written, 7);
        let sealed = world.table.items().iter().filter(|item| item.contains(dbesdk::HEAD)).count();
        assert_eq!(sealed, 7);
        assert!(report.passes[0].1.balances());
        let report = world.run().await;
        assert_eq!(report.ended, Ended::Complete);
        assert_eq!(world.table.counts().written, 12);
        world.demand_all(CUSTOMERS).await;
    }
}

#[tokio::test(start_paused = true)]
async fn max_items_counts_rewrites_and_not_failures() {
    let mut world = World::of(CUSTOMERS);
    world.settings.max_items = Some(4);
    world.settings.page_items = None;
    // The first grows too large, the second is deleted before it is written.
    let large = customer_with(0, "region", &"x".repeat(crate::item::ITEM_BYTES_MAX - 100));
    world.table.put(large).unwrap();
    let report = world.run_with(before_update(0, |table| drop(table.delete(&key(1)).unwrap()))).await.unwrap();
    assert_eq!((&report.ended, rewritten(&report)), (&Ended::Limit, vec![4]));
    assert_eq!(world.table.counts().written, 4);
    assert_eq!(world.ledger().await, [(key(0).to_string(), FailureKind::TooLarge)]);
}

#[tokio::test(start_paused = true)]
async fn max_items_that_suffice_are_no_limit() {
    let mut world = World::of(CUSTOMERS);
    world.settings.max_items = Some(u64::from(CUSTOMERS));
    let report = world.run().await;
    assert_eq!((&report.ended, rewritten(&report)), (&Ended::Complete, vec![12, 0]));
}

async fn keys(world: &World, table: Arc<dyn Table>, keys: &[u32], stop: &Stop) -> Result<Report, RunError> {
    let keys: Vec<_> = keys.iter().map(|i| key(*i)).collect();
    let journal = Arc::clone(&world.journal) as Arc<dyn Journal>;
    run_keys(world.ports(table), journal, Arc::new(world.policy.clone()), world.settings.clone(), &keys, stop).await
}

#[tokio::test(start_paused = true)]
async fn single_keys_touch_nothing_else() {
    let world = World::of(4);
    world.table.put(customer_with(2, "late", "x")).unwrap();
    world.table.delete(&key(3)).unwrap();
    let table = Arc::clone(&world.table) as Arc<dyn Table>;
    let stop = Stop::default();
    let report = keys(&world, Arc::clone(&table), &[1, 2, 3, 1], &stop).await.unwrap();
    let (_, tally) = report.passes[0];
    assert_eq!((tally.scanned, tally.rewritten, tally.superseded, tally.failed), (3, 1, 1, 1));
    assert_eq!(report.failures.len(), 1);
    assert_eq!(world.table.peek(&key(0)), Some(customer(0)));
    world.demand(&customer(1)).await;
    assert_eq!(world.journal.passes(), [], "no pass was begun");
    // The failed item is gone: its entry closes.
    world.table.delete(&key(2)).unwrap();
    let report = keys(&world, table, &[2], &stop).await.unwrap();
    assert_eq!((report.ended, report.failures.len()), (Ended::Complete, 0));
}

#[tokio::test(start_paused = true)]
async fn single_keys_can_be_stopped_while_they_hold() {
    for at_once in [false, true] {
        let world = World::of(1);
        let stop = Stop::default();
        let table = world.faulty(|_, _| TableFault::Refused(StoreClass::Credentials));
        let token = if at_once { stop.at_once.clone() } else { stop.gently.clone() };
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_mins(1)).await;
            token.cancel();
        });
        let work = keys(&world, table as Arc<FaultyTable>, &[0], &stop);
        let report = tokio::time::timeout(Duration::from_hours(1), work).await.expect("it ends").unwrap();
        assert!(matches!(report.ended, Ended::Interrupted { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_cannot_be_read_is_read_again_or_ends_the_run() {
    for class in [StoreClass::Throttled { reason: "r".to_owned() }, StoreClass::Credentials, StoreClass::Unknown] {
        let world = World::of(CUSTOMERS);
        let mut scans = 0;
        let refused = class.clone();
        let script = move |_: &MemoryTable, call: Call<'_>| match call {
            Call::Scan(_) => {
                scans += 1;
                if scans % 4 == 0 { TableFault::None } else { TableFault::Refused(refused.clone()) }
            }
            _ => TableFault::None,
        };
        let report = world.run_with(script).await.unwrap();
        assert_eq!(report.ended, Ended::Complete, "{class:?}");
        world.demand_all(CUSTOMERS).await;
    }
    let world = World::of(CUSTOMERS);
    let result = world.run_with(|_, _| TableFault::Refused(StoreClass::Denied)).await;
    assert!(matches!(result, Err(RunError::Store(_))), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn the_failed_items_of_a_pass_are_told_of_once() {
    let world = World::of(4);
    world.table.put(customer_with(2, "late", "x")).unwrap();
    world.run_with(at_update(0, |_| TableFault::AnswerLost)).await.unwrap();
    assert_eq!(world.heard(|event| matches!(event, Event::PassEnded { .. })), 2);
    assert_eq!(world.heard(|event| matches!(event, Event::Failed { .. })), 2, "once in each pass");
}

#[tokio::test(start_paused = true)]
async fn lost_answers_are_found_out_when_sealed_items_are_rewritten() {
    for to_plaintext in [false, true] {
        for then in [TableFault::None, TableFault::WithoutItem, TableFault::AnswerLost] {
            let mut world = World::of(4);
            world.run().await;
            world.retarget("k2", Suite::HmacSha384);
            if to_plaintext {
                world.policy.target = Target::Plaintext;
            }
            let before = world.table.counts().written;
            let mut faults = [TableFault::AnswerLost, then.clone()].into_iter();
            let script = move |_: &MemoryTable, call: Call<'_>| match call {
                Call::Update(rewrites, _) if !is_probe(rewrites) => faults.next().unwrap_or(TableFault::None),
                _ => TableFault::None,
            };
            let report = world.run_with(script).await.unwrap();
            assert_eq!((&report.ended, rewritten(&report)), (&Ended::Complete, vec![4, 0]), "{then:?}");
            assert_eq!((report.failures.len(), world.table.counts().written - before), (0, 4), "each written once");
            world.demand_all(4).await;
        }
    }
}
