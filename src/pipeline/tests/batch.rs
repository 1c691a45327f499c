//! Batches that somebody else reads and remembers.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::world::{World, at_update, customer, customer_with, key};
use crate::item::Item;
use crate::keyring::KeyringClass;
use crate::migration::FailureKind;
use crate::pipeline::{BatchReport, Batches, RunError, Stopped};
use crate::store::{Record, Table};
use crate::testing::{FaultyKeyring, KeyFault, TableFault};

/// The record of a customer that was put, in plaintext.
fn put(sequence: u32, i: u32) -> Record {
    changed(sequence, i, None, Some(customer(i)))
}

fn changed(sequence: u32, i: u32, old: Option<Item>, new: Option<Item>) -> Record {
    let created = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(sequence.into()));
    Record { key: key(i), old, removed: false, new, sequence: sequence.to_string(), created }
}

fn batches(world: &World, table: Arc<dyn Table>) -> Batches {
    Batches::new(world.ports(table), Arc::new(world.policy.clone()), world.settings.clone())
}

/// Works with a minute of time.
async fn work(batches: &Batches, records: Vec<Record>) -> BatchReport {
    batches.work("shard", records, Instant::now() + Duration::from_mins(1)).await
}

/// Sequence numbers of what failed.
fn failed(report: &BatchReport) -> Vec<(&str, FailureKind)> {
    report.failures.iter().map(|(first, failure)| (first.as_str(), failure.kind)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_told_by_the_first_record_of_its_item_and_the_rest_is_done() {
    let world = World::of(4);
    let strange = customer_with(1, "surprise", "unknown");
    world.table.put(strange.clone()).unwrap();
    let batches = batches(&world, Arc::clone(&world.table) as Arc<dyn Table>);
    let records =
        vec![put(10, 0), put(11, 1), put(12, 2), changed(13, 1, Some(customer(1)), Some(strange.clone())), put(14, 3)];
    let report = work(&batches, records.clone()).await;
    assert_eq!(failed(&report), [("11", FailureKind::UnknownAttribute)]);
    assert!(report.undone.is_empty() && report.stopped.is_none(), "{report:?}");
    assert_eq!((report.tally.scanned, report.tally.rewritten, report.tally.failed), (4, 3, 1));
    let second = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
    assert_eq!(report.exposed, [second(10), second(12), second(14)]);
    for i in [0, 2, 3] {
        world.demand(&customer(i)).await;
    }
    assert_eq!(world.table.peek(&key(1)), Some(strange));

    // From the lowest on all come again, with the images that they had: nothing is written twice.
    let written = world.table.counts().written;
    let again = work(&batches, records[1..].to_vec()).await;
    assert_eq!((again.tally.superseded, world.table.counts().written), (2, written));
    assert_eq!(failed(&again), [("11", FailureKind::UnknownAttribute)]);
}

#[tokio::test(start_paused = true)]
async fn when_the_time_is_up_what_was_not_done_to_its_end_is_told() {
    let world = World::of(120);
    // The fourth batch of statements is the second of the second group.
    let hanging = world.faulty(at_update(3, |_| TableFault::Hangs));
    let batches = batches(&world, hanging);
    let mut records: Vec<Record> = (0..120).map(|i| put(1000 + i, i)).collect();
    // A later record of an early item goes with its first.
    records.push(changed(2000, 0, Some(customer(0)), Some(customer(0))));
    let began = Instant::now();
    let report = work(&batches, records.clone()).await;
    assert!(matches!(report.stopped, Some(Stopped::Deadline)), "{report:?}");
    assert_eq!(began.elapsed(), Duration::from_mins(1));
    let expected: Vec<String> = (1050..1120).map(|sequence| sequence.to_string()).collect();
    assert_eq!((report.undone, report.tally.rewritten, report.failures.len()), (expected, 50, 0));

    // What is brought again is done then, and what was done without being told of is recognised.
    let records = records.split_off(50);
    let report = work(&batches, records).await;
    assert!(report.undone.is_empty() && report.failures.is_empty(), "{report:?}");
    assert_eq!(report.tally.rewritten + report.tally.superseded, 71);
    world.demand_all(120).await;
    // Without any time nothing is begun.
    let report = batches.work("shard", vec![put(3000, 1)], Instant::now()).await;
    assert_eq!((report.undone, report.tally.scanned), (vec!["3000".to_owned()], 0));
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_run_leaves_nothing_untold() {
    let mut world = World::of(60);
    // The keys of the first group are there, those of the second are not; then all are again.
    let mut calls = 0;
    world.keyring = Arc::new(FaultyKeyring::new(Arc::clone(&world.keyring), move |_| {
        calls += 1;
        if (52..60).contains(&calls) { KeyFault::Refused(KeyringClass::Key) } else { KeyFault::None }
    }));
    let batches = batches(&world, Arc::clone(&world.table) as Arc<dyn Table>);
    let records: Vec<Record> = (0..60).map(|i| put(100 + i, i)).collect();
    let report = work(&batches, records.clone()).await;
    assert!(matches!(report.stopped, Some(Stopped::Fault(RunError::Keyring(_)))), "{report:?}");
    let expected: Vec<String> = (150..160).map(|sequence| sequence.to_string()).collect();
    assert_eq!((report.undone, report.tally.rewritten), (expected, 50));
    let report = work(&batches, records[50..].to_vec()).await;
    assert_eq!((report.undone.len(), report.tally.rewritten), (0, 10), "{report:?}");
    world.demand_all(60).await;
}
