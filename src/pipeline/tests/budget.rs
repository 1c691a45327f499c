//! Rule B, in virtual time: what a run consumes in any window, and what it does when a service asks for less.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::world::{World, is_probe};
use crate::item::write_units;
use crate::keyring::KeyringClass;
use crate::migration::Rewrite;
use crate::pipeline::{Ended, Event};
use crate::store::StoreClass;
use crate::testing::{Call, FaultyKeyring, KeyFault, MemoryTable, TableFault};

/// When units were consumed, in seconds, and how many.
#[derive(Clone)]
struct Meter {
    start: Instant,
    taken: Arc<Mutex<Vec<(f64, f64)>>>,
}

impl Meter {
    fn new() -> Self {
        Self { start: Instant::now(), taken: Arc::default() }
    }

    fn take(&self, units: f64) {
        self.taken.lock().unwrap().push((self.start.elapsed().as_secs_f64(), units));
    }

    /// Demands that in every window at most `rate` a second and one second's worth were consumed, and that the budget
    /// was used: at least three quarters of it over the whole time.
    fn demand(&self, rate: f64) -> f64 {
        let taken = self.taken.lock().unwrap();
        for (i, (from, _)) in taken.iter().enumerate() {
            let mut sum = 0.0;
            for (at, units) in &taken[i..] {
                sum += units;
                assert!(sum <= rate * (at - from) + rate + 0.2, "{sum} units in {} s", at - from);
            }
        }
        let (sum, last) = (taken.iter().map(|(_, units)| units).sum::<f64>(), taken.last().unwrap().0);
        assert!(sum >= 0.75 * rate * last, "{sum} units in {last} s");
        sum
    }
}

fn units(rewrites: &[Rewrite]) -> f64 {
    rewrites.iter().map(|rewrite| f64::from(write_units(rewrite.bytes))).sum()
}

#[tokio::test(start_paused = true)]
async fn write_units_stay_within_the_budget() {
    let mut world = World::of(150);
    world.settings.write_units = NonZeroU32::new(10);
    world.settings.page_items = Some(40);
    let meter = Meter::new();
    let script = {
        let meter = meter.clone();
        move |_: &MemoryTable, call: Call<'_>| {
            if let Call::Update(rewrites, _) = call {
                meter.take(units(rewrites));
            }
            TableFault::None
        }
    };
    let report = world.run_with(script).await.unwrap();
    assert_eq!(report.ended, Ended::Complete);
    assert!((meter.demand(10.0) - report.write_units).abs() < 0.01, "what is reported is what was consumed");
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_charged_like_the_item_it_looks_at() {
    let mut world = World::of(0);
    world.settings.write_units = NonZeroU32::new(100);
    world.table.put(super::world::customer_with(0, "region", &"x".repeat(50 * 1024))).unwrap();
    let report = world.run().await;
    // One failed condition and one write of 51 KB each.
    assert!(report.write_units >= 102.0, "{}", report.write_units);
}

#[tokio::test(start_paused = true)]
async fn read_units_stay_within_the_budget() {
    let mut world = World::of(40);
    world.settings.read_units = NonZeroU32::new(4);
    world.settings.page_items = Some(1);
    world.settings.segments = 3;
    let meter = Meter::new();
    let script = {
        let meter = meter.clone();
        move |_: &MemoryTable, call: Call<'_>| {
            if matches!(call, Call::Scan(_)) {
                meter.take(1.0);
            }
            TableFault::None
        }
    };
    let report = world.run_with(script).await.unwrap();
    assert!((meter.demand(4.0) - report.read_units).abs() < 0.01);
    world.demand_all(40).await;
}

#[tokio::test(start_paused = true)]
async fn key_requests_stay_within_the_budget() {
    let mut world = World::of(40);
    world.settings.kms_requests = NonZeroU32::new(5);
    let meter = Meter::new();
    world.keyring = Arc::new(FaultyKeyring::new(Arc::clone(&world.keyring), {
        let meter = meter.clone();
        move |_| {
            meter.take(1.0);
            KeyFault::None
        }
    }));
    let report = world.run().await;
    let requests = meter.demand(5.0);
    assert!((requests - report.kms_requests as f64).abs() < 0.01);
    assert!((requests - 41.0).abs() < 0.01, "one for each item, and one to prove the first");
}

#[tokio::test(start_paused = true)]
async fn throttling_answers_slow_the_run_down() {
    let reason = "TableWriteProvisionedThroughputExceeded";
    let world = World::of(20);
    let start = Instant::now();
    let calls = Arc::new(Mutex::new(0_u32));
    let script = {
        let calls = Arc::clone(&calls);
        move |_: &MemoryTable, call: Call<'_>| match call {
            Call::Update(rewrites, _) if !is_probe(rewrites) && start.elapsed().as_secs() < 60 => {
                *calls.lock().unwrap() += 1;
                TableFault::Refused(StoreClass::Throttled { reason: reason.to_owned() })
            }
            _ => TableFault::None,
        }
    };
    let report = world.run_with(script).await.unwrap();
    assert_eq!(report.ended, Ended::Complete);
    world.demand_all(20).await;
    let calls = *calls.lock().unwrap();
    // Pauses double from 50 ms to 5 s, for everybody; at most four requests are in flight.
    assert!((8..=80).contains(&calls), "{calls} calls in a minute");
    let told = world.heard(|event| matches!(event, Event::Throttled { reason: told } if told == reason));
    assert_eq!(told, calls as usize);
}

#[tokio::test(start_paused = true)]
async fn a_key_service_that_throttles_slows_the_run_down() {
    let mut world = World::of(20);
    let start = Instant::now();
    let calls = Arc::new(Mutex::new(0_u32));
    world.keyring = Arc::new(FaultyKeyring::new(Arc::clone(&world.keyring), {
        let calls = Arc::clone(&calls);
        move |_| {
            if start.elapsed().as_secs() >= 60 {
                return KeyFault::None;
            }
            *calls.lock().unwrap() += 1;
            KeyFault::Refused(KeyringClass::Throttled)
        }
    }));
    world.run().await;
    world.demand_all(20).await;
    // At most eight requests are in flight: four for each of two pages.
    let calls = *calls.lock().unwrap();
    assert!((8..=8 * 20).contains(&calls), "{calls} calls in a minute");
}
