//! The tail, on a stream in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, advance, sleep};

use super::world::{World, at_update, before_update, customer, customer_with, key, names};
use crate::item::Value;
use crate::keyring::Keyring;
use crate::migration::{FailureKind, From, Place, Way};
use crate::pipeline::{Ended, Event, Follow, Report, RunError, Stop, TailReport, Until, tail};
use crate::store::{Journal, Listing, Records, Shards, ShardsError, Start, StoreClass, Table};
use crate::testing::{FaultyKeyring, KeyFault, MemoryShards, MemoryTable, TableFault, Tripwire, View};

pub(super) fn follow(shards: Arc<impl Shards + 'static>, until: Until) -> Follow {
    Follow { shards, from: From::Now, until }
}

/// A report of a tail, with its part of the stream within reach.
#[derive(Debug)]
pub(super) struct Tailed {
    pub(super) report: Report,
    tail: TailReport,
}

impl std::ops::Deref for Tailed {
    type Target = TailReport;

    fn deref(&self) -> &TailReport {
        &self.tail
    }
}

impl Tailed {
    /// How it is known of each shard that it is drained.
    fn ways(&self) -> Vec<(String, Way)> {
        self.tail.drained.clone().expect("it is drained").ways
    }
}

impl std::convert::From<Report> for Tailed {
    fn from(report: Report) -> Self {
        Self { tail: report.tail.clone().expect("the stream was followed"), report }
    }
}

pub(super) struct Streamed {
    pub(super) world: World,
    pub(super) shards: Arc<MemoryShards>,
}

impl Streamed {
    pub(super) fn of(view: View) -> Self {
        let mut world = World::new();
        let shards = Arc::new(MemoryShards::new(view));
        world.table = Arc::new(MemoryTable::with_stream(names(), Arc::clone(&shards)));
        // Every call for a key counts.
        world.keyring = Arc::new(FaultyKeyring::new(Arc::clone(&world.keyring), |_| KeyFault::None));
        Self { world, shards }
    }

    pub(super) fn put(&self, customers: std::ops::Range<u32>) {
        customers.for_each(|i| drop(self.world.table.put(customer(i)).unwrap()));
    }

    pub(super) async fn tail_on(&self, table: Arc<dyn Table>, until: Until, stop: &Stop) -> Result<Tailed, RunError> {
        let journal = Arc::clone(&self.world.journal) as Arc<dyn Journal>;
        let policy = Arc::new(self.world.policy.clone());
        let (ports, settings) = (self.world.ports(table), self.world.settings.clone());
        tail(ports, follow(Arc::clone(&self.shards), until), journal, policy, settings, stop).await.map(Tailed::from)
    }

    /// Reads until the stream is drained.
    pub(super) async fn drain(&self) -> Tailed {
        let table = Arc::clone(&self.world.table) as Arc<dyn Table>;
        let report = self.tail_on(table, Until::Drained, &Stop::default()).await.unwrap();
        assert!(report.drained.is_some() && report.tally.balances(), "{report:?}");
        report
    }

    /// Reads while something happens, and stops gently when that is over.
    pub(super) async fn tail_while(&self, table: Arc<dyn Table>, work: impl Future<Output = ()>) -> Tailed {
        let stop = Stop::default();
        let (report, ()) = tokio::join!(self.tail_on(table, Until::Stopped, &stop), async {
            work.await;
            stop.gently.cancel();
        });
        report.unwrap()
    }

    pub(super) fn table(&self) -> Arc<dyn Table> {
        Arc::clone(&self.world.table) as Arc<dyn Table>
    }

    async fn places(&self) -> Vec<(String, Place)> {
        let rows = self.world.journal.lineage().await.unwrap().unwrap();
        rows.shards.into_iter().map(|row| (row.id, row.place)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_written_is_sealed_whatever_the_view_and_our_own_writes_end_the_loop() {
    for view in [View::KeysOnly, View::NewImage, View::OldImage, View::NewAndOldImages] {
        let it = Streamed::of(view);
        it.put(0..7);
        let first = it.drain().await;
        it.world.demand_all(7).await;
        assert_eq!((first.tally.rewritten, it.world.table.counts().written), (7, 7), "{view:?}");
        let images = matches!(view, View::NewImage | View::NewAndOldImages);
        // Reads by key where the view has no image: each item, and each again when our write comes back.
        assert_eq!(it.world.table.counts().gets, if images { 0 } else { 14 }, "{view:?}");
        // Both the applications' writes and ours have come by.
        assert_eq!((first.records, first.tally.current), (14, 7), "{view:?}");

        let again = it.drain().await;
        assert_eq!((again.records, again.report.kms_requests, it.world.table.counts().written), (0, 0, 7), "{view:?}");
        // Sealed items of an application's own, already at target, cost no key.
        for item in it.world.table.items() {
            let key = names().key_of(&item).unwrap();
            it.world.table.delete(&key);
            it.world.table.put(item).unwrap();
        }
        let third = it.drain().await;
        assert_eq!((third.records, third.tally.current, third.report.kms_requests), (14, 7, 0), "{view:?}");
        assert_eq!(it.world.table.counts().written, 7, "{view:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_older_than_the_start_is_not_looked_at() {
    let it = Streamed::of(View::NewImage);
    it.put(0..3);
    advance(Duration::from_secs(61)).await;
    it.put(3..5);
    advance(Duration::from_secs(30)).await;
    let report = it.drain().await;
    assert_eq!((report.records, report.tally.rewritten), (4, 2));
    assert_eq!(it.world.table.peek(&key(0)), Some(customer(0)));
    it.world.demand(&customer(3)).await;
}

#[tokio::test(start_paused = true)]
async fn records_of_one_item_are_one_rewrite() {
    let it = Streamed::of(View::NewAndOldImages);
    for round in 0..5 {
        it.world.table.put(customer_with(1, "region", &format!("eu-{round}"))).unwrap();
        it.world.table.put(customer_with(2, "region", "us")).unwrap();
        it.world.table.delete(&key(2));
    }
    let report = it.drain().await;
    it.world.demand(&customer_with(1, "region", "eu-4")).await;
    assert_eq!(it.world.table.peek(&key(2)), None, "what was removed stays so");
    assert_eq!((it.world.table.counts().written, it.world.table.counts().conditions_failed), (1, 1), "and the probe");
    assert_eq!((report.tally.rewritten, report.tally.superseded, report.tally.current), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_mixed_item_is_in_the_ledger_until_it_is_put_whole() {
    let it = Streamed::of(View::NewAndOldImages);
    it.put(0..2);
    it.drain().await;
    let set = |name: &str, value: &str| {
        assert!(it.world.table.change(&key(0), |item| drop(item.insert(name, Value::from(value)))));
    };
    // Its shape does not tell: what is signed only is not ciphertext.
    set("region", "us");
    let report = it.drain().await;
    assert_eq!(it.world.ledger().await, [(key(0).to_string(), FailureKind::Mixed)]);
    assert_eq!((report.tally.failed, it.world.table.counts().written), (1, 2));
    let detail = &report.report.failures[0].detail;
    assert!(detail.contains(&it.shards.open()[0]) && detail.contains("sequence number 104"), "{detail}");
    // What is not signed mends nothing, in a batch of its own and with others.
    set("visits", "7");
    it.drain().await;
    assert_eq!(it.world.ledger().await, [(key(0).to_string(), FailureKind::Mixed)]);
    set("region", "asia");
    set("visits", "8");
    it.drain().await;
    assert_eq!(it.world.ledger().await.len(), 1);
    it.world.table.put(customer(0)).unwrap();
    it.drain().await;
    assert!(it.world.ledger().await.is_empty());
    it.world.demand(&customer(0)).await;
    // An unsigned attribute of a whole item is an application's own affair.
    assert!(it.world.table.change(&key(1), |item| drop(item.insert("visits", Value::from("9")))));
    assert_eq!(it.drain().await.tally.current, 1);
    assert!(it.world.ledger().await.is_empty());
    // An entry closes with its item.
    set("region", "us");
    it.world.table.delete(&key(0));
    set_and_delete_closes(&it).await;
}

async fn set_and_delete_closes(it: &Streamed) {
    it.drain().await;
    assert!(it.world.ledger().await.is_empty());
    it.world.table.put(customer_with(0, "late", "x")).unwrap();
    it.drain().await;
    assert_eq!(it.world.ledger().await, [(key(0).to_string(), FailureKind::UnknownAttribute)]);
    it.world.table.delete(&key(0));
    it.drain().await;
    assert!(it.world.ledger().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_applications_do_after_the_record_stays() {
    let it = Streamed::of(View::NewAndOldImages);
    it.put(0..3);
    let table = it.world.faulty(before_update(0, |table| {
        table.put(customer_with(0, "region", "us")).unwrap();
        table.delete(&key(1));
    }));
    it.tail_while(table, sleep(Duration::from_secs(10))).await;
    it.world.demand(&customer_with(0, "region", "us")).await;
    it.world.demand(&customer(2)).await;
    assert_eq!(it.world.table.peek(&key(1)), None);
    assert_eq!(it.world.table.counts().written, 2);
}

#[tokio::test(start_paused = true)]
async fn shards_are_read_as_they_split_and_the_report_says_how_they_are_drained() {
    let it = Streamed::of(View::NewImage);
    it.shards.limit_pages(2, 3);
    it.drain().await;
    let root = it.shards.open().remove(0);
    it.put(0..20);
    let children = it.shards.split(&root, 2);
    // The listing is not up to date: the parent is open in it, and a child is missing.
    it.shards.show_open(&root, 2);
    it.shards.leave_out(&children[0], 2);
    it.put(20..40);
    it.shards.split(&children[1], 3);
    it.put(40..60);
    let report = it.drain().await;
    it.world.demand_all(60).await;
    assert_eq!(it.world.table.counts().written, 60);
    let ways = report.ways();
    assert_eq!(ways.len(), 6);
    for (id, way) in ways {
        let closed = id == root || id == children[1];
        assert!(if closed { way == Way::Closed } else { way != Way::Closed }, "{id}: {way:?}");
    }

    // A closed shard that nothing listed continues may still be continued.
    let open = it.shards.open();
    let next = it.shards.split(&open[0], 1).remove(0);
    it.shards.leave_out(&next, 3);
    it.put(60..90);
    it.drain().await;
    it.world.demand_all(90).await;
    assert!(it.places().await.iter().any(|(id, _)| *id == next));

    it.shards.disable();
    let report = it.drain().await;
    assert!(report.ways().iter().all(|(_, way)| *way == Way::Closed));
    assert!(it.places().await.iter().all(|(_, place)| *place == Place::Drained));
}

#[tokio::test(start_paused = true)]
async fn one_empty_answer_is_no_end() {
    let it = Streamed::of(View::NewImage);
    it.put(0..3);
    (0..3).for_each(|i| drop(it.world.table.delete(&key(i))));
    it.shards.answer_empty(9);
    let began = Instant::now();
    let report = it.drain().await;
    assert_eq!((report.records, report.ways()), (6, vec![(it.shards.open().remove(0), Way::Quiet)]));
    assert!(began.elapsed() >= Duration::from_secs(45), "nine answers, then 30 s: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_record_from_later_proves_that_all_before_is_done() {
    let it = Streamed::of(View::NewImage);
    it.put(0..3);
    let began = Instant::now();
    let (report, ()) = tokio::join!(it.drain(), async {
        sleep(Duration::from_secs(5)).await;
        it.put(3..4);
    });
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(report.ways(), vec![(it.shards.open().remove(0), Way::Record)]);
}

#[tokio::test(start_paused = true)]
async fn an_iterator_that_expired_is_renewed_after_the_last_record_done() {
    let it = Streamed::of(View::NewImage);
    it.shards.limit_pages(100, 2);
    it.put(0..6);
    let began = Instant::now();
    // The credentials are missing for longer than an iterator lives.
    let table = it.world.faulty(move |_, _| {
        let missing = began.elapsed() < Duration::from_mins(20);
        if missing { TableFault::Refused(StoreClass::Credentials) } else { TableFault::None }
    });
    let report = it.tail_while(table, sleep(Duration::from_mins(21))).await;
    it.world.demand_all(6).await;
    assert_eq!((report.records, it.world.table.counts().written), (12, 6));
    assert_eq!(report.gaps, []);
}

#[tokio::test(start_paused = true)]
async fn what_was_trimmed_is_told_and_remembered() {
    let it = Streamed::of(View::NewImage);
    it.put(0..2);
    it.drain().await;
    it.put(2..4);
    advance(Duration::from_hours(25)).await;
    it.put(4..6);
    let report = it.drain().await;
    assert_eq!((report.gaps.len(), report.tally.rewritten), (1, 2));
    let (id, gap) = &report.gaps[0];
    assert_eq!(*id, it.shards.open()[0]);
    assert!(gap.to.unwrap() - gap.from.unwrap() >= 25 * 3600, "{gap:?}");
    assert_eq!(it.world.heard(|event| matches!(event, Event::Gap { .. })), 1);
    assert_eq!(it.drain().await.gaps, report.gaps, "until the table was scanned again");

    // A shard that is gone.
    let it = Streamed::of(View::NewImage);
    it.put(0..2);
    it.drain().await;
    let root = it.shards.open().remove(0);
    it.shards.split(&root, 1);
    advance(Duration::from_hours(25)).await;
    it.put(4..6);
    let report = it.drain().await;
    assert!(report.gaps.iter().any(|(id, _)| *id == root), "{:?}", report.gaps);
    assert!(it.places().await.contains(&(root, Place::Gone)));
    it.world.demand(&customer(4)).await;
}

/// A stream whose iterators and records are that far away.
struct Slow(Arc<MemoryShards>, Duration, Duration);

#[async_trait]
impl Shards for Slow {
    fn arn(&self) -> &str {
        self.0.arn()
    }

    async fn list(&self, after: Option<&str>) -> Result<Listing, ShardsError> {
        self.0.list(after).await
    }

    async fn children(&self, parent: &str) -> Result<Option<Listing>, ShardsError> {
        self.0.children(parent).await
    }

    async fn iterator(&self, shard: &str, start: &Start) -> Result<String, ShardsError> {
        sleep(self.1).await;
        self.0.iterator(shard, start).await
    }

    async fn records(&self, iterator: &str) -> Result<Records, ShardsError> {
        sleep(self.2).await;
        self.0.records(iterator).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_trimmed_under_an_iterator_is_a_gap() {
    let it = Streamed::of(View::NewImage);
    it.drain().await;
    it.put(0..1);
    advance(Duration::from_hours(24) - Duration::from_mins(1)).await;
    let (shards, stop) =
        (Arc::new(Slow(Arc::clone(&it.shards), Duration::ZERO, Duration::from_mins(2))), Stop::default());
    let (journal, policy) = (Arc::clone(&it.world.journal), Arc::new(it.world.policy.clone()));
    let (ports, settings) = (it.world.ports(it.table()), it.world.settings.clone());
    let (report, ()) =
        tokio::join!(tail(ports, follow(shards, Until::Stopped), journal, policy, settings, &stop), async {
            sleep(Duration::from_mins(5)).await;
            stop.gently.cancel();
        });
    assert_eq!(report.unwrap().tail.unwrap().gaps.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_are_few_and_never_too_fast() {
    let it = Streamed::of(View::NewImage);
    it.shards.limit_pages(100, 1);
    it.put(0..40);
    let began = Instant::now();
    it.tail_while(it.table(), async {
        while it.world.table.counts().written < 40 {
            sleep(Duration::from_millis(100)).await;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "five batches per second: {:?}", began.elapsed());
        sleep(Duration::from_secs(20)).await;
        let (busy, _) = it.shards.calls();
        sleep(Duration::from_secs(100)).await;
        let (idle, too_fast) = it.shards.calls();
        assert!((45..=55).contains(&(idle - busy)), "{} calls while nothing came", idle - busy);
        assert_eq!(too_fast, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_was_cut_is_read_again() {
    let mut it = Streamed::of(View::NewImage);
    it.put(0..5);
    it.world.settings.max_items = Some(2);
    let report = it.tail_on(it.table(), Until::Drained, &Stop::default()).await.unwrap();
    assert!(report.report.ended == Ended::Limit && report.drained.is_none());
    assert_eq!((report.tally.rewritten, report.tally.skipped), (2, 3));
    it.world.settings.max_items = None;
    it.drain().await;
    it.world.demand_all(5).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_and_a_stop_at_once_lose_nothing() {
    let it = Streamed::of(View::NewImage);
    it.put(0..5);
    let table = it.world.faulty(at_update(0, |_| TableFault::AnswerLost));
    it.tail_while(table, sleep(Duration::from_secs(10))).await;
    it.world.demand_all(5).await;
    assert_eq!(it.world.table.counts().written, 5);

    it.put(5..9);
    let stop = Stop::default();
    let hanging = it.world.faulty(|_, _| TableFault::Hangs);
    let (report, ()) = tokio::join!(it.tail_on(hanging, Until::Stopped, &stop), async {
        sleep(Duration::from_secs(5)).await;
        stop.at_once.cancel();
    });
    assert_eq!(report.unwrap().drained, None);
    it.drain().await;
    it.world.demand_all(9).await;
}

/// Rule A: a tail that dies at any call loses nothing, and no position is ahead of what is durable.
struct Crash {
    it: Streamed,
    put: Arc<AtomicBool>,
}

const CUSTOMERS: u32 = 8;
/// Has an attribute that the job does not name.
const FAILING: u32 = CUSTOMERS;
/// Is put again by an application while the tail writes.
const BUSY: u32 = 5;

impl Crash {
    async fn new() -> Self {
        let it = Streamed::of(View::NewAndOldImages);
        it.shards.limit_pages(1, 3);
        it.drain().await;
        it.put(0..5);
        let root = it.shards.open().remove(0);
        it.shards.split(&root, 2);
        it.put(5..CUSTOMERS);
        it.world.table.put(customer_with(FAILING, "late", "x")).unwrap();
        Self { it, put: Arc::default() }
    }

    async fn run(&self, wire: &Arc<Tripwire>) -> bool {
        let put = Arc::clone(&self.put);
        let world = &self.it.world;
        let table = world.faulty(before_update(1, move |table| {
            table.put(customer_with(BUSY, "region", "us")).unwrap();
            put.store(true, Ordering::Relaxed);
        }));
        let mut ports = world.ports(wire.wire(table as Arc<dyn Table>));
        ports.target = Some(wire.wire(Arc::clone(&world.keyring)) as Arc<dyn Keyring>);
        let journal = wire.wire(Arc::clone(&world.journal));
        let shards = wire.wire(Arc::clone(&self.it.shards));
        let (policy, settings, stop) = (Arc::new(world.policy.clone()), world.settings.clone(), Stop::default());
        tokio::select! {
            report = tail(ports, follow(shards, Until::Drained), journal, policy, settings, &stop) => {
                assert!(report.unwrap().tail.unwrap().drained.is_some());
                true
            }
            () = wire.tripped() => false,
        }
    }

    async fn demand_end(&self, what: &str) {
        let world = &self.it.world;
        for i in 0..CUSTOMERS {
            let put = i == BUSY && self.put.load(Ordering::Relaxed);
            world.demand(&if put { customer_with(BUSY, "region", "us") } else { customer(i) }).await;
        }
        assert_eq!(world.table.peek(&key(FAILING)), Some(customer_with(FAILING, "late", "x")), "{what}");
        assert_eq!(world.ledger().await, [(key(FAILING).to_string(), FailureKind::UnknownAttribute)], "{what}");
        // At most one write of ours per write of theirs, whatever was done twice.
        assert!(world.table.counts().written <= u64::from(CUSTOMERS) + 1, "{what}: {:?}", world.table.counts());
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_of_the_tail_at_any_call_loses_nothing() {
    let clean = Crash::new().await;
    let wire = Tripwire::at(u64::MAX);
    assert!(clean.run(&wire).await);
    clean.demand_end("a clean tail").await;
    assert!(wire.moments() > 100, "{} moments", wire.moments());
    for moment in 0..wire.moments() {
        let what = format!("moment {moment} of {}", wire.moments());
        let crash = Crash::new().await;
        // And once more in the midst of the resumed tail.
        if !crash.run(&Tripwire::at(moment)).await {
            crash.run(&Tripwire::at(moment / 2)).await;
        }
        let report = crash.it.drain().await;
        assert_eq!(report.gaps, [], "{what}");
        crash.demand_end(&what).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_follows_a_stream_that_was_disabled_is_told() {
    let it = Streamed::of(View::NewImage);
    let stop = Stop::default();
    let (report, ()) = tokio::join!(it.tail_on(it.table(), Until::Stopped, &stop), async {
        sleep(Duration::from_secs(5)).await;
        it.put(0..3);
        it.shards.disable();
    });
    assert!(matches!(report, Err(RunError::Store(error)) if error.problem.contains("was disabled")));
    // What was in it is done.
    it.world.demand_all(3).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_trimmed_while_an_iterator_is_under_way_is_a_gap() {
    let it = Streamed::of(View::NewImage);
    it.put(0..1);
    let late = Duration::from_hours(30);
    let (shards, stop) = (Arc::new(Slow(Arc::clone(&it.shards), late, Duration::ZERO)), Stop::default());
    let (journal, policy) = (Arc::clone(&it.world.journal), Arc::new(it.world.policy.clone()));
    let (ports, settings) = (it.world.ports(it.table()), it.world.settings.clone());
    let follow = follow(shards, Until::Stopped);
    let (report, ()) = tokio::join!(tail(ports, follow, journal, policy, settings, &stop), async {
        sleep(late + Duration::from_mins(1)).await;
        stop.gently.cancel();
    });
    assert_eq!(report.unwrap().tail.unwrap().gaps.len(), 1);
    assert_eq!(it.world.table.peek(&key(0)), Some(customer(0)));
}
