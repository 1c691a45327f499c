//! Stopping: gently, at once, by the drain deadline, by a panic.

use std::time::Duration;

use tokio::time::Instant;

use super::world::{World, is_probe};
use crate::migration::Rewrite;
use crate::pipeline::{Ended, RunError, Stop};
use crate::store::Cursor;
use crate::testing::{Call, MemoryTable, TableFault};

const CUSTOMERS: u32 = 40;

/// A script that acts at the n-th update from 0, the probe not counted.
fn at(n: u64, act: impl Fn() + Send) -> impl FnMut(&MemoryTable, Call<'_>) -> TableFault + Send {
    let mut updates = 0;
    move |_, call| {
        if matches!(call, Call::Update(rewrites, _) if !is_probe(rewrites)) {
            updates += 1;
            if updates == n + 1 {
                act();
            }
        }
        TableFault::None
    }
}

#[tokio::test(start_paused = true)]
async fn a_gentle_stop_commits_what_is_in_flight() {
    for segments in [1, 3] {
        let mut world = World::of(CUSTOMERS);
        world.settings.segments = segments;
        let stop = Stop::default();
        let gently = stop.gently.clone();
        let report = world.run_on(world.faulty(at(2, move || gently.cancel())), &stop).await.unwrap();
        assert_eq!(report.ended, Ended::Interrupted { dropped: vec![] });
        let (_, tally) = report.passes[0];
        assert!(tally.balances() && tally.scanned < u64::from(CUSTOMERS), "{tally:?}");
        assert_eq!(tally.rewritten, world.table.counts().written, "every write is accounted for");
        let report = world.run().await;
        assert_eq!(report.ended, Ended::Complete);
        let passes = world.journal.passes();
        assert_eq!((passes[0].tally.scanned, passes[0].tally.rewritten), (40, 40), "nothing skipped, nothing repeated");
        world.demand_all(CUSTOMERS).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_before_the_first_page_does_nothing() {
    let world = World::of(CUSTOMERS);
    let stop = Stop::default();
    stop.gently.cancel();
    let report = world.run_on(world.faulty(|_, _| TableFault::None), &stop).await.unwrap();
    assert_eq!(report.ended, Ended::Interrupted { dropped: vec![] });
    assert_eq!(world.table.counts().written, 0);
    assert_eq!(world.journal.passes()[0].cursors, [Cursor::Start]);
}

/// Whether the update is for a customer of the first page.
fn first_page(rewrites: &[Rewrite]) -> bool {
    rewrites.iter().any(|rewrite| rewrite.key == super::world::key(0))
}

#[tokio::test(start_paused = true)]
async fn a_stop_at_once_drops_what_is_in_flight() {
    let world = World::of(CUSTOMERS);
    let stop = Stop::default();
    let at_once = stop.at_once.clone();
    let table = world.faulty(move |_, call| match call {
        Call::Update(rewrites, _) if !is_probe(rewrites) && first_page(rewrites) => {
            at_once.cancel();
            TableFault::Hangs
        }
        _ => TableFault::None,
    });
    let report = world.run_on(table, &stop).await.unwrap();
    assert_eq!(report.ended, Ended::Interrupted { dropped: vec![0] });
    assert_eq!(world.journal.passes()[0].cursors, [Cursor::Start]);
    assert_eq!(world.run().await.ended, Ended::Complete);
    world.demand_all(CUSTOMERS).await;
}

#[tokio::test(start_paused = true)]
async fn the_drain_deadline_names_the_segments_that_were_busy() {
    let mut world = World::of(CUSTOMERS);
    world.settings.segments = 3;
    let stop = Stop::default();
    let gently = stop.gently.clone();
    let table = world.faulty(move |_, call| match call {
        Call::Update(rewrites, _) if !is_probe(rewrites) && first_page(rewrites) => {
            gently.cancel();
            TableFault::Hangs
        }
        _ => TableFault::None,
    });
    let start = Instant::now();
    let report = world.run_on(table, &stop).await.unwrap();
    let Ended::Interrupted { dropped } = report.ended else { panic!("{:?}", report.ended) };
    assert_eq!(dropped.len(), 1, "the other segments were drained");
    assert_eq!(world.journal.passes()[0].cursors[dropped[0] as usize], Cursor::Start);
    assert_eq!(start.elapsed().as_secs(), world.settings.drain.as_secs());
    assert_eq!(world.run().await.ended, Ended::Complete);
    world.demand_all(CUSTOMERS).await;
}

/// A lane that waits for read units when the stop comes must not keep them from the pages in flight.
#[tokio::test(start_paused = true)]
async fn a_gentle_stop_does_not_starve_pages_that_read_again() {
    let mut world = World::of(CUSTOMERS);
    world.settings.read_units = std::num::NonZeroU32::new(1);
    world.settings.drain = Duration::from_hours(10);
    let stop = Stop::default();
    let gently = stop.gently.clone();
    let mut updates = 0;
    let table = world.faulty(move |table, call| {
        let Call::Update(rewrites, _) = call else { return TableFault::None };
        if is_probe(rewrites) {
            return TableFault::None;
        }
        updates += 1;
        if updates > 1 {
            return TableFault::None;
        }
        gently.cancel();
        table.put(super::world::customer_with(0, "region", "us")).unwrap();
        TableFault::WithoutItem
    });
    let report = world.run_on(table, &stop).await.unwrap();
    assert_eq!(report.ended, Ended::Interrupted { dropped: vec![] });
    world.demand(&super::world::customer_with(0, "region", "us")).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_holds_can_be_stopped() {
    let world = World::of(CUSTOMERS);
    let stop = Stop::default();
    let gently = stop.gently.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_mins(5)).await;
        gently.cancel();
    });
    let table = world.faulty(|_, _| TableFault::Refused(crate::store::StoreClass::Credentials));
    let report = tokio::time::timeout(Duration::from_hours(1), world.run_on(table, &stop)).await.expect("it ends");
    assert!(matches!(report.unwrap().ended, Ended::Interrupted { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_the_run_as_an_error() {
    let mut world = World::of(CUSTOMERS);
    world.settings.entropy = |_| panic!("planted");
    let result = world.run_with(|_, _| TableFault::None).await;
    assert!(matches!(result, Err(RunError::Panicked(_))), "{result:?}");
    assert_eq!(world.table.counts().written, 0);
}
