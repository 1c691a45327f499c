//! Rules P and V: the ground is proved before the first write, and so is every kind of key.

use std::sync::{Arc, Mutex};

use super::world::{World, customer, is_probe, key, raw, schema};
use crate::keyring::KeyringClass;
use crate::migration::{Rewrite, Tally};
use crate::pipeline::{Ended, Event, RunError};
use crate::store::{StoreClass, Via};
use crate::testing::{Call, FaultyKeyring, KeyCall, KeyFault, MemoryTable, TableFault};

const CUSTOMERS: u32 = 4;

/// The updates that reached the table, and how they were sent.
type Seen = Arc<Mutex<Vec<(Vec<Rewrite>, Via)>>>;

/// A script that remembers the updates and answers those of one way as it is told.
fn remembering(
    seen: &Seen,
    fault: impl Fn(Via) -> TableFault + Send + 'static,
) -> impl FnMut(&MemoryTable, Call<'_>) -> TableFault + Send + 'static {
    let seen = Arc::clone(seen);
    move |_, call| match call {
        Call::Update(rewrites, via) => {
            seen.lock().unwrap().push((rewrites.to_vec(), via));
            fault(via)
        }
        _ => TableFault::None,
    }
}

#[tokio::test(start_paused = true)]
async fn the_probe_is_first_and_harmless() {
    let mut names = Vec::new();
    for writer in [Via::Batch, Via::Single] {
        let mut world = World::of(CUSTOMERS);
        world.settings.writer = writer;
        let before = world.table.items();
        let seen = Arc::default();
        let after_probe = Arc::new(Mutex::new(None));
        let mut inner = remembering(&seen, |_| TableFault::None);
        let script = {
            let after_probe = Arc::clone(&after_probe);
            move |table: &MemoryTable, call: Call<'_>| {
                if matches!(call, Call::Update(rewrites, _) if !is_probe(rewrites)) {
                    after_probe.lock().unwrap().get_or_insert(table.items());
                }
                inner(table, call)
            }
        };
        world.run_with(script).await.unwrap();
        let seen = seen.lock().unwrap();
        let probes: Vec<_> = seen.iter().filter(|(rewrites, _)| is_probe(rewrites)).collect();
        assert_eq!((probes.len(), is_probe(&seen[0].0), seen[0].1), (1, true, writer));
        let probe = &probes[0].0[0];
        assert_eq!((probe.set.len(), &probe.remove[..]), (0, &[probe.condition[0].0.clone()][..]));
        names.push(probe.remove[0].clone());
        assert_eq!(after_probe.lock().unwrap().take(), Some(before), "the probe changed nothing");
    }
    assert_ne!(names[0], names[1], "the name is random");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_ignores_conditions_is_refused_unharmed() {
    for writer in [Via::Batch, Via::Single] {
        let mut world = World::of(CUSTOMERS);
        world.settings.writer = writer;
        let before = world.table.items();
        let result = world.run_with(|_, _| TableFault::ConditionsIgnored).await;
        assert!(matches!(result, Err(RunError::Ground(_))), "{result:?}");
        assert_eq!(world.table.items(), before);
    }
    // The same for one that does not give the item back with a failed condition.
    let world = World::of(CUSTOMERS);
    let result = world.run_with(|_, _| TableFault::WithoutItem).await;
    assert!(matches!(result, Err(RunError::Ground(_))), "{result:?}");
    assert_eq!(world.table.counts().written, 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_batch_cannot_do_single_updates_do_once_they_are_proved() {
    let faults = [
        TableFault::ConditionsIgnored,
        TableFault::WithoutItem,
        TableFault::Refused(StoreClass::Denied),
        TableFault::Refused(StoreClass::Item),
    ];
    for fault in faults {
        let world = World::of(CUSTOMERS);
        let seen = Arc::default();
        let on_batch = fault.clone();
        let script = remembering(&seen, move |via| if via == Via::Batch { on_batch.clone() } else { TableFault::None });
        let report = world.run_with(script).await.unwrap();
        assert_eq!(report.ended, Ended::Complete, "{fault:?}");
        world.demand_all(CUSTOMERS).await;
        let seen = seen.lock().unwrap();
        let batches = seen.iter().filter(|(_, via)| *via == Via::Batch).count();
        let single_probe = seen.iter().find(|(_, via)| *via == Via::Single).is_some_and(|(r, _)| is_probe(r));
        assert!(single_probe && batches <= 4, "{fault:?}: {batches} batches");
        assert_eq!(world.heard(|event| matches!(event, Event::FellBack { .. })), 1, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_denied_in_the_middle_falls_back() {
    let world = World::of(20);
    let mut batches = 0;
    let script = move |_: &MemoryTable, call: Call<'_>| match call {
        Call::Update(_, Via::Batch) => {
            batches += 1;
            if batches > 2 { TableFault::Refused(StoreClass::Denied) } else { TableFault::None }
        }
        _ => TableFault::None,
    };
    let report = world.run_with(script).await.unwrap();
    assert_eq!(report.ended, Ended::Complete);
    assert_eq!(world.heard(|event| matches!(event, Event::FellBack { .. })), 1);
    world.demand_all(20).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_who_may_not_write_writes() {
    let world = World::of(CUSTOMERS);
    let result = world
        .run_with(|_, call| match call {
            Call::Update(..) => TableFault::Refused(StoreClass::Denied),
            _ => TableFault::None,
        })
        .await;
    assert!(matches!(&result, Err(RunError::Store(error)) if error.class == StoreClass::Denied), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn items_that_vanish_under_the_probe_do_not_discredit_the_service() {
    // All are gone before the probe: nothing is written, nothing comes back.
    let world = World::of(CUSTOMERS);
    let script = |table: &MemoryTable, call: Call<'_>| {
        if matches!(call, Call::Update(..)) {
            (0..CUSTOMERS).for_each(|i| drop(table.delete(&key(i))));
        }
        TableFault::None
    };
    let report = world.run_with(script).await.unwrap();
    let gone = Tally { scanned: 4, superseded: 4, conflicts: 4, ..Tally::default() };
    assert_eq!((report.ended, report.passes[0].1), (Ended::Complete, gone));
    assert!(world.table.items().is_empty());

    // One is deleted before the probe and made again before it is read.
    let world = World::of(CUSTOMERS);
    let mut probes = 0;
    let script = move |table: &MemoryTable, call: Call<'_>| {
        match call {
            Call::Update(rewrites, _) if is_probe(rewrites) => {
                probes += 1;
                if probes == 1 {
                    table.delete(&key(0));
                }
            }
            Call::Get(_) => drop(table.put(customer(0))),
            _ => {}
        }
        TableFault::None
    };
    let report = world.run_with(script).await.unwrap();
    assert_eq!(report.ended, Ended::Complete);
    assert_eq!(world.heard(|event| matches!(event, Event::FellBack { .. })), 0);
    world.demand_all(CUSTOMERS).await;
}

/// Puts a faulty keyring in the target's place.
fn with_keyring(world: &mut World, script: impl FnMut(KeyCall) -> KeyFault + Send + 'static) {
    world.keyring = Arc::new(FaultyKeyring::new(Arc::clone(&world.keyring), script));
}

#[tokio::test(start_paused = true)]
async fn keys_that_do_not_come_back_stop_the_run() {
    type Script = fn(KeyCall) -> KeyFault;
    let cases: [(&str, Script); 4] = [
        ("another key is wrapped than given", |call| match call {
            KeyCall::Generate => KeyFault::OtherKey,
            KeyCall::Unwrap => KeyFault::None,
        }),
        ("another key comes back", |call| match call {
            KeyCall::Generate => KeyFault::None,
            KeyCall::Unwrap => KeyFault::OtherKey,
        }),
        ("what is wrapped is damaged", |call| match call {
            KeyCall::Generate => KeyFault::Damaged,
            KeyCall::Unwrap => KeyFault::None,
        }),
        ("nothing comes back", |call| match call {
            KeyCall::Generate => KeyFault::None,
            KeyCall::Unwrap => KeyFault::Refused(KeyringClass::Item),
        }),
    ];
    for (what, script) in cases {
        let mut world = World::of(CUSTOMERS);
        let before = world.table.items();
        with_keyring(&mut world, script);
        let result = world.run_with(|_, _| TableFault::None).await;
        assert!(matches!(result, Err(RunError::Proof(_))), "{what}: {result:?}");
        assert_eq!(world.table.items(), before, "{what}");
        assert_eq!(world.ledger().await, [], "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_item_is_unwrapped_by_the_keyring_before_any_is_written() {
    for version in [1, 2] {
        let mut world = World::of(CUSTOMERS);
        world.settings.page_items = Some(1);
        world.policy.schema = schema(version);
        for run in 0..2 {
            (0..CUSTOMERS).for_each(|i| drop(world.table.put(customer(i))));
            let unwraps = Arc::new(Mutex::new(0));
            let (count, counted) = (Arc::clone(&unwraps), Arc::clone(&unwraps));
            world.keyring = Arc::new(FaultyKeyring::new(raw("k1"), move |call| {
                *count.lock().unwrap() += u32::from(call == KeyCall::Unwrap);
                KeyFault::None
            }));
            let script = move |_: &MemoryTable, call: Call<'_>| {
                if matches!(call, Call::Update(..)) {
                    assert_eq!(*counted.lock().unwrap(), 1, "proved first");
                }
                TableFault::None
            };
            world.run_with(script).await.unwrap();
            assert_eq!(*unwraps.lock().unwrap(), 1, "run {run} of version {version}: once for each run");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_request_that_fails_is_made_again_or_fails_what_it_must() {
    // For the run: the key cannot be used.
    let mut world = World::of(CUSTOMERS);
    with_keyring(&mut world, |_| KeyFault::Refused(KeyringClass::Key));
    let result = world.run_with(|_, _| TableFault::None).await;
    assert!(matches!(result, Err(RunError::Keyring(_))), "{result:?}");

    // For the item.
    let mut world = World::of(CUSTOMERS);
    let mut calls = 0;
    with_keyring(&mut world, move |_| {
        calls += 1;
        if calls == 1 { KeyFault::Refused(KeyringClass::Item) } else { KeyFault::None }
    });
    let report = world.run().await;
    assert_eq!((report.passes[0].1.rewritten, report.passes[0].1.failed), (3, 1));

    // For a while, however long: hundreds of answers that ask to wait, and one that is lost.
    for class in [KeyringClass::Throttled, KeyringClass::Credentials] {
        let mut world = World::of(1);
        let mut calls = 0;
        with_keyring(&mut world, move |_| {
            calls += 1;
            match calls {
                ..200 => KeyFault::Refused(class),
                200 => KeyFault::Refused(KeyringClass::Transient),
                _ => KeyFault::None,
            }
        });
        world.run().await;
        world.demand_all(1).await;
    }
}
