//! Sealed items that somebody wrote into: nothing closes their entries but a proof, and a repair takes over what was
//! written and nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{advance, sleep};

use super::tail::Streamed;
use super::world::{World, at_update, before_update, customer, customer_with, key};
use crate::crypto::Suite;
use crate::format::dbesdk::{FOOT, HEAD};
use crate::item::{Item, Value};
use crate::migration::{FailureKind, OnMixed, StreamPlace, Target};
use crate::pipeline::{Stop, Until};
use crate::store::{Journal, Table};
use crate::testing::{Call, MemoryTable, TableFault, Tripwire, View};

/// Two customers, sealed, on a table with a stream.
async fn sealed_customers(on_mixed: OnMixed) -> Streamed {
    let mut it = Streamed::of(View::NewAndOldImages);
    it.world.settings.on_mixed = on_mixed;
    it.put(0..2);
    it.drain().await;
    it
}

/// The item as an application seals it that has the same keys.
async fn sealed(item: Item) -> Item {
    let world = World::new();
    world.table.put(item).unwrap();
    world.run().await;
    world.table.items().remove(0)
}

/// Writes into the first customer as `UpdateItem` does.
fn write(table: &MemoryTable, name: &str, value: impl Into<Value>) {
    assert!(table.change(&key(0), |item| drop(item.insert(name, value.into()))));
}

/// Has the first customer's header, footer and ciphertexts replaced, as a rewrite does that was made for the item before
/// somebody wrote into it.
fn carry(it: &Streamed, from: &Item) {
    let names = [HEAD, FOOT, "email"];
    let set =
        |item: &mut Item| names.into_iter().for_each(|name| drop(item.insert(name, from.get(name).unwrap().clone())));
    assert!(it.world.table.change(&key(0), set));
}

fn written(it: &Streamed) -> u64 {
    it.world.table.counts().written
}

/// Demands that the first customer is quarantined, and that nothing was written into it.
async fn demand_quarantine(it: &Streamed, now: &Item) {
    assert_eq!(it.world.ledger().await, [(key(0).to_string(), FailureKind::Mixed)]);
    assert_eq!(it.world.table.peek(&key(0)).as_ref(), Some(now));
}

/// Demands that the first customer was repaired by one write, and is this.
async fn demand_repair(it: &Streamed, expected: &Item) {
    assert_eq!((it.world.ledger().await, written(it)), (vec![], 3));
    it.world.demand(expected).await;
    let report = it.drain().await;
    assert_eq!((report.tally.rewritten, written(it), it.world.ledger().await), (0, 3, vec![]), "and that is all");
}

#[tokio::test(start_paused = true)]
async fn a_scan_closes_an_entry_only_of_what_opens() {
    let it = sealed_customers(OnMixed::Quarantine).await;
    let whole = it.world.table.peek(&key(0)).unwrap();
    write(&it.world.table, "region", "us");
    it.drain().await;
    let before = it.world.journal.open_failures().await.unwrap();
    let report = it.world.run().await;
    assert_eq!((report.passes[0].1.failed, report.passes[0].1.current), (1, 1));
    assert_eq!(report.failures, before, "the entry says more than the scan knows");
    assert_eq!((report.kms_requests, written(&it)), (1, 2), "no other item is opened");

    // Sealed anew by somebody: as it was once, for all that anybody can tell.
    it.world.table.put(whole).unwrap();
    assert_eq!(it.world.run().await.failures, []);
    write(&it.world.table, "region", "us");
    it.drain().await;
    assert_eq!(it.world.ledger().await.len(), 1);
    it.world.table.put(customer(0)).unwrap();
    assert_eq!(it.world.run().await.failures, []);
    it.world.demand(&customer(0)).await;
}

#[tokio::test(start_paused = true)]
async fn a_rewrite_that_lands_after_a_raw_write_does_not_hide_it() {
    for on_mixed in [OnMixed::Quarantine, OnMixed::Repair] {
        let it = sealed_customers(on_mixed).await;
        let rewrite = sealed(customer(0)).await;
        write(&it.world.table, "region", "us");
        carry(&it, &rewrite);
        write(&it.world.table, "visits", "7");
        let now = it.world.table.peek(&key(0)).unwrap();
        it.drain().await;
        if on_mixed == OnMixed::Quarantine {
            demand_quarantine(&it, &now).await;
        } else {
            let mut expected = customer_with(0, "region", "us");
            expected.insert("visits", Value::from("7"));
            demand_repair(&it, &expected).await;
        }
    }
    // In a batch of its own: the entry stays.
    let it = sealed_customers(OnMixed::Quarantine).await;
    let rewrite = sealed(customer(0)).await;
    write(&it.world.table, "region", "us");
    it.drain().await;
    carry(&it, &rewrite);
    it.drain().await;
    demand_quarantine(&it, &it.world.table.peek(&key(0)).unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_sealed_by_others_after_a_raw_write_is_theirs() {
    for on_mixed in [OnMixed::Quarantine, OnMixed::Repair] {
        let it = sealed_customers(on_mixed).await;
        write(&it.world.table, "region", "us");
        it.world.table.put(sealed(customer_with(0, "email", "new@example.org")).await).unwrap();
        let report = it.drain().await;
        assert_eq!((report.tally.current, written(&it), it.world.ledger().await), (1, 2, vec![]));

        // Other content, sealed over what was written: nobody can open that, and it is not repaired with it.
        let it = sealed_customers(on_mixed).await;
        let other = sealed(customer_with(0, "email", "new@example.org")).await;
        write(&it.world.table, "region", "us");
        carry(&it, &other);
        let now = it.world.table.peek(&key(0)).unwrap();
        it.drain().await;
        demand_quarantine(&it, &now).await;

        // A raw write after that of a whole item has an image before it again.
        let it = sealed_customers(on_mixed).await;
        write(&it.world.table, "region", "us");
        it.world.table.put(sealed(customer_with(0, "email", "new@example.org")).await).unwrap();
        write(&it.world.table, "region", "asia");
        it.drain().await;
        if on_mixed == OnMixed::Repair {
            let mut expected = customer_with(0, "email", "new@example.org");
            expected.insert("region", Value::from("asia"));
            demand_repair(&it, &expected).await;
        } else {
            assert_eq!(it.world.ledger().await.len(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_written_is_sealed() {
    type Write = fn(&mut Item);
    let cases: [(Write, Write); 7] = [
        (|item| drop(item.insert("region", Value::from("us"))), |_| ()),
        (|item| drop(item.insert("email", Value::from("new@example.org"))), |_| ()),
        (|item| drop(item.insert("note", Value::from("late"))), |_| ()),
        (|item| drop(item.remove("email")), |_| ()),
        (|item| drop(item.remove("region")), |item| drop(item.insert("note", Value::Null))),
        (
            |item| drop(item.insert("region", Value::from("us"))),
            |item| {
                item.insert("email", Value::Binary(vec![7; 40]));
                item.insert("visits", Value::from("7"));
            },
        ),
        // What is only signed may look like anything.
        (|item| drop(item.insert("region", Value::Binary([vec![0, 1], vec![7; 40]].concat()))), |_| ()),
    ];
    for (first, second) in cases {
        let it = sealed_customers(OnMixed::Repair).await;
        it.world.table.change(&key(0), first);
        it.world.table.change(&key(0), second);
        let report = it.drain().await;
        assert_eq!((report.tally.rewritten, report.exposure.all().map(|all| all.items)), (1, Some(1)));
        let mut expected = customer(0);
        first(&mut expected);
        second(&mut expected);
        demand_repair(&it, &expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_undone_is_whole() {
    for on_mixed in [OnMixed::Quarantine, OnMixed::Repair] {
        let it = sealed_customers(on_mixed).await;
        write(&it.world.table, "region", "us");
        write(&it.world.table, "region", "eu");
        let report = it.drain().await;
        assert_eq!((report.tally.current, written(&it), it.world.ledger().await), (1, 2, vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn what_looks_like_a_ciphertext_is_not_sealed_again() {
    for name in ["email", "note"] {
        let it = sealed_customers(OnMixed::Repair).await;
        let other = it.world.table.peek(&key(1)).unwrap().get("email").unwrap().clone();
        write(&it.world.table, name, other);
        let now = it.world.table.peek(&key(0)).unwrap();
        let report = it.drain().await;
        demand_quarantine(&it, &now).await;
        assert!(report.report.failures[0].detail.contains(name), "{}", report.report.failures[0].detail);
    }
}

#[tokio::test(start_paused = true)]
async fn an_image_that_does_not_verify_vouches_for_nothing() {
    // The raw write before it was read with another setting.
    let mut it = sealed_customers(OnMixed::Quarantine).await;
    write(&it.world.table, "region", "us");
    it.drain().await;
    let first = it.world.journal.open_failures().await.unwrap().remove(0).record;
    assert_eq!(first, Some(StreamPlace { shard: it.shards.open().remove(0), sequence: "104".to_owned() }));
    // The stream no longer has the first record.
    advance(Duration::from_hours(25)).await;
    it.world.settings.on_mixed = OnMixed::Repair;
    write(&it.world.table, "email", "new@example.org");
    let now = it.world.table.peek(&key(0)).unwrap();
    it.drain().await;
    demand_quarantine(&it, &now).await;
    assert_eq!(it.world.journal.open_failures().await.unwrap()[0].record, first, "the first record stays");

    // Another header over the same footer, or the other way round.
    let other = sealed(customer(0)).await;
    for (name, region) in [(HEAD, "us"), (HEAD, "eu"), (FOOT, "us"), (FOOT, "eu")] {
        for on_mixed in [OnMixed::Quarantine, OnMixed::Repair] {
            let it = sealed_customers(on_mixed).await;
            write(&it.world.table, "region", region);
            write(&it.world.table, name, other.get(name).unwrap().clone());
            let now = it.world.table.peek(&key(0)).unwrap();
            it.drain().await;
            demand_quarantine(&it, &now).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_raw_write_in_the_next_batch_is_in_the_same_repair() {
    let it = sealed_customers(OnMixed::Repair).await;
    it.shards.limit_pages(100, 1);
    write(&it.world.table, "region", "us");
    write(&it.world.table, "email", "new@example.org");
    it.drain().await;
    let mut expected = customer_with(0, "region", "us");
    expected.insert("email", Value::from("new@example.org"));
    demand_repair(&it, &expected).await;

    // The same, and then it is gone.
    let it = sealed_customers(OnMixed::Repair).await;
    it.shards.limit_pages(100, 1);
    write(&it.world.table, "region", "us");
    write(&it.world.table, "region", "asia");
    it.world.table.delete(&key(0));
    it.drain().await;
    assert_eq!((it.world.table.peek(&key(0)), written(&it), it.world.ledger().await), (None, 2, vec![]));
}

#[tokio::test(start_paused = true)]
async fn what_is_written_during_a_repair_is_not_lost() {
    type Act = fn(&MemoryTable);
    let cases: [(Act, &str, &str); 4] = [
        // The write touches neither, and the signature covers both.
        (|table| write(table, "region", "asia"), "region", "asia"),
        (|table| write(table, "note", "late"), "note", "late"),
        (|table| write(table, "email", "newer@example.org"), "email", "newer@example.org"),
        (|table| write(table, "visits", "9"), "visits", "9"),
    ];
    for (act, name, value) in cases {
        let it = sealed_customers(OnMixed::Repair).await;
        write(&it.world.table, "email", "new@example.org");
        let table = it.world.faulty(before_update(0, act));
        let report = it.tail_while(table, sleep(Duration::from_secs(10))).await;
        assert_eq!(report.tally.conflicts, u64::from(name != "visits"));
        let mut expected = customer_with(0, "email", "new@example.org");
        expected.insert(name, Value::from(value));
        demand_repair(&it, &expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_happens_to_the_item_during_a_repair_stays() {
    type Act = Box<dyn Fn(&MemoryTable) + Send>;
    let whole = sealed(customer_with(0, "region", "asia")).await;
    let cases: [(Act, Option<Item>, u64); 3] = [
        (Box::new(|table| drop(table.delete(&key(0)))), None, 2),
        (Box::new(|table| drop(table.put(customer(0)))), Some(customer(0)), 3),
        (Box::new(move |table| drop(table.put(whole.clone()))), Some(customer_with(0, "region", "asia")), 2),
    ];
    for (act, expected, writes) in cases {
        let it = sealed_customers(OnMixed::Repair).await;
        write(&it.world.table, "email", "new@example.org");
        let table = it.world.faulty(before_update(0, act));
        let report = it.tail_while(table, sleep(Duration::from_secs(10))).await;
        assert_eq!((written(&it), report.tally.failed, it.world.ledger().await), (writes, 0, vec![]));
        match expected {
            Some(expected) => it.world.demand(&expected).await,
            None => assert_eq!(it.world.table.peek(&key(0)), None),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_at_a_repair_are_bounded() {
    let it = sealed_customers(OnMixed::Repair).await;
    write(&it.world.table, "region", "us");
    let mut round = 0;
    let table = it.world.faulty(move |table, call| {
        if matches!(call, Call::Update(..)) {
            round += 1;
            write(table, "region", format!("us-{round}").as_str());
        }
        TableFault::None
    });
    let stop = Stop::default();
    let (report, ()) = tokio::join!(it.tail_on(table, Until::Stopped, &stop), async {
        // Each attempt has a record, which is one more reason to look.
        sleep(Duration::from_millis(100)).await;
        stop.gently.cancel();
    });
    assert_eq!((report.unwrap().tally.failed, written(&it)), (1, 2));
    let open = it.world.journal.open_failures().await.unwrap();
    assert_eq!((open[0].kind, open[0].record.is_some()), (FailureKind::Contended, true));
}

#[tokio::test(start_paused = true)]
async fn a_repair_leads_to_the_target_and_takes_only_what_the_job_accepts() {
    // Sealed with another key.
    let mut it = sealed_customers(OnMixed::Repair).await;
    it.world.retarget("k2", Suite::EcdsaP384);
    write(&it.world.table, "region", "us");
    it.drain().await;
    demand_repair(&it, &customer_with(0, "region", "us")).await;

    let mut it = sealed_customers(OnMixed::Repair).await;
    it.world.retarget("k2", Suite::EcdsaP384);
    it.world.policy.accept_dbesdk = false;
    write(&it.world.table, "region", "us");
    let now = it.world.table.peek(&key(0)).unwrap();
    it.drain().await;
    demand_quarantine(&it, &now).await;

    // A key that nobody has.
    let mut it = sealed_customers(OnMixed::Repair).await;
    it.world.retarget("k2", Suite::EcdsaP384);
    it.world.sources.clear();
    write(&it.world.table, "region", "us");
    it.drain().await;
    demand_quarantine(&it, &it.world.table.peek(&key(0)).unwrap()).await;

    // The way back.
    let mut it = sealed_customers(OnMixed::Repair).await;
    let keyring = Arc::clone(&it.world.keyring);
    it.world.sources.push(keyring);
    it.world.policy.target = Target::Plaintext;
    write(&it.world.table, "region", "us");
    it.drain().await;
    assert_eq!(it.world.table.peek(&key(0)), Some(customer_with(0, "region", "us")));
    assert!(it.world.ledger().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_repair_whose_answer_is_lost_is_not_made_twice() {
    let it = sealed_customers(OnMixed::Repair).await;
    write(&it.world.table, "region", "us");
    let table = it.world.faulty(at_update(0, |_| TableFault::AnswerLost));
    it.tail_while(table, sleep(Duration::from_secs(10))).await;
    demand_repair(&it, &customer_with(0, "region", "us")).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_call_of_a_repair_loses_nothing() {
    async fn tail_until(it: &Streamed, wire: &Arc<Tripwire>) {
        let table = wire.wire(it.table()) as Arc<dyn Table>;
        let stop = Stop::default();
        tokio::select! {
            report = it.tail_on(table, Until::Drained, &stop) => drop(report.unwrap()),
            () = wire.tripped() => {}
        }
    }
    let wire = Tripwire::at(u64::MAX);
    let it = sealed_customers(OnMixed::Repair).await;
    write(&it.world.table, "region", "us");
    tail_until(&it, &wire).await;
    assert!(wire.moments() >= 4, "{} moments", wire.moments());
    for moment in 0..wire.moments() {
        let it = sealed_customers(OnMixed::Repair).await;
        write(&it.world.table, "region", "us");
        tail_until(&it, &Tripwire::at(moment)).await;
        it.drain().await;
        demand_repair(&it, &customer_with(0, "region", "us")).await;
    }
}

/// Rule S: the image of a record may be stale, and no condition can speak of an attribute that the job does not name;
/// of one that it names, the write demands that it is absent still.
#[tokio::test(start_paused = true)]
async fn an_attribute_that_came_after_the_record_is_sealed_with_the_rest() {
    let it = Streamed::of(View::NewAndOldImages);
    it.shards.limit_pages(100, 1);
    it.put(0..1);
    write(&it.world.table, "note", "late");
    it.drain().await;
    it.world.demand(&customer_with(0, "note", "late")).await;
    assert_eq!((it.world.table.counts().conditions_failed, written(&it)), (3, 1), "the probe, and two stale images");
}

#[tokio::test(start_paused = true)]
async fn repair_may_be_switched_on_later() {
    for batch in [1, 1000] {
        let mut it = sealed_customers(OnMixed::Quarantine).await;
        it.shards.limit_pages(100, batch);
        write(&it.world.table, "region", "us");
        write(&it.world.table, "email", "new@example.org");
        write(&it.world.table, "visits", "7");
        let children = it.shards.split(&it.shards.open()[0], 2);
        write(&it.world.table, "region", "asia");
        it.drain().await;
        let now = it.world.table.peek(&key(0)).unwrap();
        demand_quarantine(&it, &now).await;
        it.world.settings.on_mixed = OnMixed::Repair;
        it.shards.answer_empty(3);
        let mut expected = customer_with(0, "region", "asia");
        expected.insert("email", Value::from("new@example.org"));
        expected.insert("visits", Value::from("7"));
        it.drain().await;
        demand_repair(&it, &expected).await;
        assert_eq!(it.shards.open(), children);
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_no_longer_right_closes_when_repair_is_switched_on() {
    let mut it = sealed_customers(OnMixed::Quarantine).await;
    write(&it.world.table, "region", "us");
    it.drain().await;
    it.world.table.delete(&key(0));
    it.world.settings.on_mixed = OnMixed::Repair;
    it.drain().await;
    assert_eq!((it.world.ledger().await, written(&it)), (vec![], 2));

    // A record that is not the one.
    let mut it = sealed_customers(OnMixed::Quarantine).await;
    write(&it.world.table, "region", "us");
    it.drain().await;
    let mut open = it.world.journal.open_failures().await.unwrap().remove(0);
    for sequence in ["101", "4000", "nonsense"] {
        it.world.journal.record(&[], &[key(0)]).await.unwrap();
        open.record = Some(StreamPlace { shard: it.shards.open().remove(0), sequence: sequence.to_owned() });
        it.world.journal.record(&[open.clone()], &[]).await.unwrap();
        it.world.settings.on_mixed = OnMixed::Repair;
        it.drain().await;
        demand_quarantine(&it, &it.world.table.peek(&key(0)).unwrap()).await;
    }
    open.record = Some(StreamPlace { shard: "gone".to_owned(), sequence: "104".to_owned() });
    it.world.journal.record(&[], &[key(0)]).await.unwrap();
    it.world.journal.record(&[open], &[]).await.unwrap();
    it.drain().await;
    demand_quarantine(&it, &it.world.table.peek(&key(0)).unwrap()).await;
}
