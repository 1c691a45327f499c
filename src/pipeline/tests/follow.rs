//! A run that follows the stream, on a stream in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{advance, sleep};

use super::tail::{Streamed, follow};
use super::world::{customer, customer_with, key};
use crate::item::{Item, Key, Value};
use crate::migration::{FailureKind, Rewrite, Tally};
use crate::pipeline::{Ended, Event, Report, Stop, Until, run};
use crate::store::{Answer, Commit, Cursor, Journal, Page, Scan, StoreError, Table, Units, Update, Via};
use crate::testing::{Call, MemoryShards, MemoryTable, TableFault, View};

impl Streamed {
    async fn run_until(&self, table: Arc<dyn Table>, until: Until, stop: &Stop) -> Report {
        let journal = Arc::clone(&self.world.journal) as Arc<dyn Journal>;
        let policy = Arc::new(self.world.policy.clone());
        let (ports, settings) = (self.world.ports(table), self.world.settings.clone());
        let follow = Some(follow(Arc::clone(&self.shards), until));
        run(ports, follow, journal, policy, settings, stop).await.unwrap()
    }

    /// Runs until the scan is done and the stream is drained.
    async fn follow(&self) -> Report {
        let report = self.run_until(self.table(), Until::Drained, &Stop::default()).await;
        let tail = report.tail.as_ref().unwrap();
        assert_eq!(report.ended, Ended::Complete, "{report:?}");
        assert!(tail.drained.is_some() && tail.gaps.is_empty() && tail.tally.balances(), "{report:?}");
        report
    }
}

fn passes(report: &Report) -> Vec<(u32, u64)> {
    report.passes.iter().map(|(number, tally)| (*number, tally.rewritten)).collect()
}

#[tokio::test(start_paused = true)]
async fn one_pass_is_enough_whatever_is_written_meanwhile() {
    for view in [View::KeysOnly, View::NewImage, View::OldImage, View::NewAndOldImages] {
        let mut it = Streamed::of(view);
        it.put(0..30);
        advance(Duration::from_mins(2)).await;
        it.world.settings.page_items = Some(10);
        // Applications write at each of our first requests, behind the scan and before it.
        let mut requests = 0;
        let table = it.world.faulty(move |table, call| {
            if matches!(call, Call::Update(..)) && requests < 6 {
                for i in [0, 29] {
                    table.put(customer_with(i, "region", &format!("eu-{requests}"))).unwrap();
                }
                table.put(customer(40 + requests)).unwrap();
                requests += 1;
            }
            TableFault::None
        });
        let report = it.run_until(table, Until::Drained, &Stop::default()).await;
        assert_eq!(report.ended, Ended::Complete, "{view:?}: {report:?}");
        assert_eq!(report.passes.len(), 1, "{view:?}");
        for item in it.world.table.items() {
            assert!(item.contains("aws_dbe_foot"), "{view:?}: {:?}", item.names().collect::<Vec<_>>());
        }
        it.world.demand(&customer(45)).await;
        // Again, nothing is left: neither scan nor stream finds any work, and the pass before is not repeated.
        let written = it.world.table.counts().written;
        let again = it.follow().await;
        assert_eq!((again.passes.len(), it.world.table.counts().written), (0, written), "{view:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_scanned_before_the_start_is_scanned_again() {
    let it = Streamed::of(View::NewImage);
    it.put(0..10);
    let journal = &it.world.journal;
    let segments = it.world.settings.segments;
    journal.begin_pass(segments).await.unwrap();
    for segment in 0..segments {
        let tally = Tally::default();
        journal.commit(Commit { segment, cursor: Cursor::End, tally, failures: vec![], done: vec![] }).await.unwrap();
    }
    advance(Duration::from_mins(2)).await;
    // Neither given up in its midst nor ended does it count.
    let report = it.follow().await;
    assert_eq!(passes(&report), [(2, 10)]);
    it.world.demand_all(10).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_leads_to_another_pass() {
    let it = Streamed::of(View::NewAndOldImages);
    it.put(0..10);
    it.follow().await;
    it.put(3..6);
    advance(Duration::from_hours(30)).await;
    let report = it.follow().await;
    assert_eq!(passes(&report), [(2, 3)]);
    assert_eq!(it.world.heard(|event| matches!(event, Event::Gap { from: Some(_), to: Some(_), .. })), 1);
    it.world.demand_all(10).await;
    assert_eq!(it.follow().await.passes, []);
}

#[tokio::test(start_paused = true)]
async fn another_stream_of_the_table_is_a_gap_and_read_from_its_beginning() {
    let mut it = Streamed::of(View::NewAndOldImages);
    it.put(0..10);
    it.follow().await;
    // The stream was disabled, somebody wrote, and it was enabled again: under another ARN.
    it.put(3..5);
    it.shards = Arc::new(MemoryShards::new(View::NewImage).named("another"));
    let table = MemoryTable::with_stream(super::world::names(), Arc::clone(&it.shards));
    it.world.table.items().into_iter().for_each(|item| drop(table.put(item).unwrap()));
    it.world.table = Arc::new(table);
    let report = it.follow().await;
    assert_eq!(report.passes.len(), 1);
    assert_eq!(it.world.heard(|event| matches!(event, Event::Gap { .. })), 1);
    it.world.demand_all(10).await;
    assert_eq!(it.follow().await.passes, []);
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_where_the_stream_was_not_yet_drained_and_looks_at_the_ledger_again() {
    let it = Streamed::of(View::NewImage);
    it.put(0..10);
    it.world.table.put(customer_with(4, "late", "x")).unwrap();
    let stop = Stop::default();
    let (report, ()) = tokio::join!(it.run_until(it.table(), Until::Drained, &stop), async {
        sleep(Duration::from_secs(5)).await;
        stop.gently.cancel();
    });
    assert_eq!((report.ended, report.passes.len()), (Ended::Interrupted { dropped: vec![] }, 1));
    assert_eq!(it.world.ledger().await, [(key(4).to_string(), FailureKind::UnknownAttribute)]);
    let mut it = it;
    it.world.policy.schema.actions.insert("late".to_owned(), crate::format::Action::EncryptAndSign);
    let report = it.follow().await;
    assert_eq!((report.passes.len(), report.failures.len()), (0, 0));
    it.world.demand(&customer_with(4, "late", "x")).await;
}

#[tokio::test(start_paused = true)]
async fn it_may_go_on_when_everything_is_done() {
    let it = Streamed::of(View::NewImage);
    it.put(0..10);
    let stop = Stop::default();
    let (report, ()) = tokio::join!(it.run_until(it.table(), Until::Stopped, &stop), async {
        sleep(Duration::from_mins(2)).await;
        assert_eq!(it.world.heard(|event| *event == Event::Complete), 1);
        it.put(5..20);
        sleep(Duration::from_secs(5)).await;
        it.world.demand_all(20).await;
        stop.gently.cancel();
    });
    assert_eq!((report.ended, report.passes.len()), (Ended::Complete, 1));
    let exposed = report.tail.unwrap().exposure.all().unwrap();
    // A second or two until the next call, and one of rounding.
    assert!(exposed.items >= 15 && exposed.max <= 4, "{exposed:?}");
}

#[tokio::test(start_paused = true)]
async fn the_limit_on_rewrites_is_one_for_scan_and_tail() {
    let mut it = Streamed::of(View::NewImage);
    it.put(0..30);
    it.world.settings.max_items = Some(7);
    let report = it.run_until(it.table(), Until::Drained, &Stop::default()).await;
    assert_eq!((report.ended, it.world.table.counts().written), (Ended::Limit, 7));
    it.world.settings.max_items = None;
    it.follow().await;
    it.world.demand_all(30).await;
    assert_eq!(it.world.table.counts().written, 30);
}

#[tokio::test(start_paused = true)]
async fn a_budget_below_the_applications_rate_is_said_aloud() {
    let mut it = Streamed::of(View::NewImage);
    it.drain().await;
    it.world.settings.write_units = std::num::NonZeroU32::new(10);
    let stop = Stop::default();
    let (report, ()) = tokio::join!(it.run_until(it.table(), Until::Stopped, &stop), async {
        for second in 0..300 {
            it.put(second * 20..second * 20 + 20);
            sleep(Duration::from_secs(1)).await;
        }
        stop.at_once.cancel();
    });
    assert!(matches!(report.ended, Ended::Interrupted { .. }), "{:?}", report.ended);
    let needed = |event: &Event| matches!(event, Event::FallingBehind { field: "write_units_per_second", needed, budget: 10 } if (15.0..45.0).contains(needed));
    assert!(it.world.heard(needed) > 3);
    assert_eq!(
        it.world
            .heard(|event| matches!(event, Event::FallingBehind { field, .. } if *field != "write_units_per_second")),
        0
    );
    assert!(it.world.heard(|event| matches!(event, Event::Health { behind: Some(behind), .. } if *behind > 100)) > 0);
}

/// A table whose answers to updates come five seconds late; just after the first effect somebody writes into the item.
struct Late {
    table: Arc<MemoryTable>,
    wrote: AtomicBool,
}

#[async_trait]
impl Table for Late {
    async fn scan(&self, scan: &Scan) -> Result<Page, StoreError> {
        self.table.scan(scan).await
    }

    async fn get(&self, key: &Key) -> Result<(Option<Item>, Units), StoreError> {
        self.table.get(key).await
    }

    async fn update(&self, rewrites: &[Rewrite], via: Via) -> Update {
        let update = self.table.update(rewrites, via).await;
        let written = update.answers.iter().any(|answer| matches!(answer, Answer::Written));
        if written && !self.wrote.swap(true, Ordering::Relaxed) {
            assert!(self.table.change(&rewrites[0].key, |item| drop(item.insert("late", Value::from("x")))));
        }
        sleep(Duration::from_secs(5)).await;
        update
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_does_not_close_what_the_tail_found_after_the_page_was_read() {
    let it = Streamed::of(View::NewAndOldImages);
    it.put(0..1);
    advance(Duration::from_mins(2)).await;
    let late = Late { table: Arc::clone(&it.world.table), wrote: AtomicBool::new(false) };
    let report = it.run_until(Arc::new(late), Until::Drained, &Stop::default()).await;
    assert_eq!((&report.ended, passes(&report)), (&Ended::Complete, vec![(1, 1)]));
    assert_eq!(it.world.ledger().await, [(key(0).to_string(), FailureKind::Mixed)]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_disabled_meanwhile_makes_nothing_complete() {
    let it = Streamed::of(View::NewImage);
    it.put(0..3);
    let shards = Arc::clone(&it.shards);
    let table = it.world.faulty(move |table, call| {
        if matches!(call, Call::Update(..)) && !shards.is_disabled() {
            shards.disable();
            // Behind the scan, and in no record.
            table.put(customer(0)).unwrap();
        }
        TableFault::None
    });
    let journal = Arc::clone(&it.world.journal) as Arc<dyn Journal>;
    let policy = Arc::new(it.world.policy.clone());
    let follow = Some(follow(Arc::clone(&it.shards), Until::Drained));
    let (ports, settings) = (it.world.ports(table), it.world.settings.clone());
    let refused = run(ports, follow, journal, policy, settings, &Stop::default()).await;
    assert!(refused.unwrap_err().to_string().contains("disabled while it was followed"));
}
