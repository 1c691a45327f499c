//! Budgets: units per second that are taken before a call and settled after it (rule B).

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

/// The limiter counts tenths of a unit: DynamoDB reports halves.
const TENTHS: f64 = 10.0;
/// The first pause after the service asked for fewer requests, and the longest. AWS advises exponential pauses from
/// tens of milliseconds (developer guide, "Error retries and exponential backoff").
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Time since the throttle was made, on tokio's clock: paused tests stay deterministic.
#[derive(Debug, Clone)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>;

/// A budget of units per second: in any window `w`, at most `rate * w` plus one second's worth are taken.
#[derive(Debug)]
pub struct Throttle {
    bucket: Arc<Bucket>,
    /// Whether those who ask here go first.
    first: bool,
    /// Those who wait are served in their order; a large request is not overtaken for ever by small ones.
    turn: tokio::sync::Mutex<()>,
    /// Tenths of units consumed here, as far as reported, else as estimated.
    consumed: AtomicU64,
}

/// What is shared by those who go first and those who do not.
#[derive(Debug)]
struct Bucket {
    clock: TokioClock,
    rate: Option<Rate>,
    /// How many wait who go first.
    first: AtomicUsize,
    state: Mutex<State>,
}

/// A limiter lets so many tenths of a unit through at once at most.
#[derive(Debug)]
struct Rate {
    limiter: Limiter,
    burst: NonZeroU32,
    /// What the others may take all the same while somebody waits who goes first: a tenth.
    floor: Limiter,
    floor_burst: NonZeroU32,
}

/// Somebody waits who goes first, until this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a call waits for, and the debt in it: who goes away while waiting leaves the debt to others.
struct Due<'a> {
    throttle: &'a Throttle,
    debt: i64,
    tenths: i64,
}

impl Drop for Due<'_> {
    fn drop(&mut self) {
        if self.tenths > 0 {
            self.throttle.state().debt += self.debt.min(self.tenths);
        }
    }
}

/// Units that were taken for a call, until the call is settled.
#[derive(Debug)]
#[must_use = "a call that is not settled counts as consumed, and is missing in the sum"]
pub struct Taken {
    tenths: i64,
    at: Instant,
}

#[derive(Debug, Default)]
struct State {
    /// Tenths of units consumed beyond what was taken.
    debt: i64,
    /// Tenths of units taken and not consumed, as of a moment. As time goes by they are worth less: meanwhile the
    /// limiter has filled up again, and both together are never more than one second's worth.
    credit: Option<(i64, Instant)>,
    /// Tenths of units consumed in all, as far as reported, else as estimated.
    consumed: u64,
    /// When calls may be made again, after the service asked for fewer.
    paused_until: Option<Instant>,
    /// Consecutive answers that asked for fewer.
    streak: u32,
    /// The service's last reason, until it is satisfied again.
    reason: Option<String>,
}

impl Throttle {
    /// A budget of so many units per second, or none: then only the service's own answers slow it down.
    #[must_use]
    pub fn per_second(units: Option<NonZeroU32>) -> Self {
        let clock = TokioClock(Instant::now());
        let limiter = |tenths| RateLimiter::direct_with_clock(Quota::per_second(tenths), clock.clone());
        // A tenth of the units, in tenths, is as many as there are units.
        let rate = units.map(|units| {
            let burst = units.saturating_mul(NonZeroU32::MIN.saturating_add(TENTHS as u32 - 1));
            Rate { limiter: limiter(burst), burst, floor: limiter(units), floor_burst: units }
        });
        let bucket = Bucket { rate, clock: clock.clone(), first: AtomicUsize::new(0), state: Mutex::default() };
        Self::of(Arc::new(bucket), false)
    }

    /// The same budget for those who go first: while one of them waits, all others together get a tenth of it.
    #[must_use]
    pub fn first(&self) -> Self {
        Self::of(Arc::clone(&self.bucket), true)
    }

    fn of(bucket: Arc<Bucket>, first: bool) -> Self {
        Self { bucket, first, turn: tokio::sync::Mutex::new(()), consumed: AtomicU64::new(0) }
    }

    /// Waits until so many units may be consumed, debts of earlier calls first. More than one second's worth is
    /// taken in parts.
    pub async fn acquire(&self, units: f64) -> Taken {
        let _waiting = self.first.then(|| {
            self.bucket.first.fetch_add(1, Ordering::AcqRel);
            Waiting(&self.bucket.first)
        });
        let _turn = self.turn.lock().await;
        // Units are taken last: what was taken before a pause would come on top of a second's worth after it.
        while let Some(until) = self.paused() {
            tokio::time::sleep_until(until).await;
        }
        let taken = tenths_of(units);
        let Some(rate) = &self.bucket.rate else { return Taken { tenths: taken, at: Instant::now() } };
        let given_at = Instant::now();
        let (mut due, mut given) = {
            let mut state = self.state();
            let (credit, debt) = (self.credit(&state), std::mem::take(&mut state.debt));
            let given = (taken + debt).min(credit);
            state.credit = Some((credit - given, given_at));
            (Due { throttle: self, debt, tenths: taken + debt - given }, given)
        };
        // How much the floor has let through of the next part, which is then taken as a whole: what was taken in parts, a
        // second ago or more, would come on top of a second's worth.
        let mut allowed = 0;
        while due.tenths > 0 {
            let part = |of: i64, burst: NonZeroU32| {
                u32::try_from(of).ok().and_then(NonZeroU32::new).map_or(burst, |part| part.min(burst))
            };
            let next = part(due.tenths, rate.burst);
            let missing = i64::from(next.get()) - allowed;
            let others = !self.first && self.bucket.first.load(Ordering::Acquire) > 0;
            if others && given > 0 {
                // The limiter fills up for those who go first: what was given back and is kept that long would come on top
                // of a second's worth.
                let mut state = self.state();
                let worth = (given - self.filled_since(given_at)).max(0);
                state.credit = Some((self.credit(&state) + worth, Instant::now()));
                due.tenths += std::mem::take(&mut given);
                continue;
            }
            let asks_floor = others && missing > 0;
            let (limiter, taken) =
                if asks_floor { (&rate.floor, part(missing, rate.floor_burst)) } else { (&rate.limiter, next) };
            match limiter.check_n(taken).expect("no part is larger than the burst") {
                Ok(()) if asks_floor => allowed += i64::from(taken.get()),
                Ok(()) => {
                    due.tenths -= i64::from(taken.get());
                    allowed = 0;
                }
                Err(until) => tokio::time::sleep(until.wait_time_from(self.bucket.clock.now())).await,
            }
        }
        Taken { tenths: taken, at: Instant::now() }
    }

    /// Settles a call: what was taken against what the service reports. Without a report it all counts as consumed: the
    /// call may have been made.
    pub fn settle(&self, taken: Taken, reported: Option<f64>) {
        let actual = reported.map_or(taken.tenths, tenths_of);
        self.consumed.fetch_add(actual.unsigned_abs(), Ordering::Relaxed);
        let mut state = self.state();
        state.consumed += actual.unsigned_abs();
        state.debt += (actual - taken.tenths).max(0);
        // What the limiter has filled up by itself since the units were taken is not given back on top.
        let back = (taken.tenths - actual).min(self.burst()) - self.filled_since(taken.at);
        if back > 0 {
            state.credit = Some((self.credit(&state) + back, Instant::now()));
        }
    }

    /// Tenths of units that fill up in one second.
    fn burst(&self) -> i64 {
        self.bucket.rate.as_ref().map_or(0, |rate| i64::from(rate.burst.get()))
    }

    /// Tenths of units that were given back and are still worth something.
    fn credit(&self, state: &State) -> i64 {
        state.credit.map_or(0, |(credit, since)| credit - self.filled_since(since)).max(0)
    }

    fn filled_since(&self, since: Instant) -> i64 {
        (self.burst() as f64 * since.elapsed().as_secs_f64()).ceil() as i64
    }

    /// The service asked for fewer requests: everybody pauses, longer each time.
    pub fn slow_down(&self, reason: &str) {
        let mut state = self.state();
        let pause = PAUSE_MIN.saturating_mul(1 << state.streak.min(10)).min(PAUSE_MAX);
        state.streak += 1;
        // An answer in between that was normal does not shorten a pause that has begun.
        state.paused_until = state.paused_until.max(Some(Instant::now() + pause));
        state.reason = Some(reason.to_owned());
    }

    /// The service answered normally.
    pub fn satisfied(&self) {
        let mut state = self.state();
        state.streak = 0;
        state.reason = None;
    }

    /// Units consumed so far of the budget.
    #[must_use]
    pub fn consumed(&self) -> f64 {
        self.state().consumed as f64 / TENTHS
    }

    /// Units consumed so far by those who asked here.
    #[must_use]
    pub fn consumed_here(&self) -> f64 {
        self.consumed.load(Ordering::Relaxed) as f64 / TENTHS
    }

    /// Why the service asks for fewer requests at the moment, if it does.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.state().reason.clone()
    }

    fn paused(&self) -> Option<Instant> {
        let mut state = self.state();
        state.paused_until = state.paused_until.filter(|until| *until > Instant::now());
        state.paused_until
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every update is a few assignments that leave the state whole.
        self.bucket.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tenths_of(units: f64) -> i64 {
    (units * TENTHS).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(rate: u32) -> Throttle {
        Throttle::per_second(NonZeroU32::new(rate))
    }

    /// Seconds of paused time that a future takes.
    async fn seconds<T>(work: impl Future<Output = T>) -> f64 {
        let start = Instant::now();
        work.await;
        start.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_worth_at_once_then_the_rate() {
        let throttle = throttle(10);
        assert!(seconds(throttle.acquire(10.0)).await < 0.01);
        assert!((seconds(throttle.acquire(5.0)).await - 0.5).abs() < 0.02);
        assert!((seconds(throttle.acquire(25.0)).await - 2.5).abs() < 0.02);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_behind_others_keeps_nothing_that_was_given_back() {
        let scan = throttle(10);
        let tail = scan.first();
        let taken = scan.acquire(10.0).await;
        scan.settle(taken, Some(2.0));
        // The scan could have 8 of 10 units at once. While the tail waits, the bucket fills up for the tail.
        let waits = Waiting(&scan.bucket.first);
        scan.bucket.first.fetch_add(1, Ordering::AcqRel);
        let begun = Instant::now();
        let scans = async {
            scan.settle(scan.acquire(10.0).await, None);
            begun.elapsed().as_secs_f64()
        };
        let tails = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            tail.settle(tail.acquire(10.0).await, None);
            drop(waits);
            begun.elapsed().as_secs_f64()
        };
        let (scans, tails) = tokio::join!(scans, tails);
        assert!((tails - 1.0).abs() < 0.05, "{tails}");
        // Two seconds' worth in all were there until the tail went, and the next is there a second later.
        assert!(scans > 1.9, "{scans}");
    }

    #[tokio::test(start_paused = true)]
    async fn debts_are_paid_and_what_was_not_used_is_given_back() {
        let throttle = throttle(10);
        let taken = throttle.acquire(10.0).await;
        throttle.settle(taken, Some(30.0));
        let begun = Instant::now();
        let taken = throttle.acquire(1.0).await;
        assert!((begun.elapsed().as_secs_f64() - 2.1).abs() < 0.02);
        throttle.settle(taken, Some(0.0));
        assert!(seconds(throttle.acquire(1.0)).await < 0.01);
        assert!((throttle.consumed() - 30.0).abs() < 0.01);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_leaves_the_debt_to_others() {
        let throttle = throttle(10);
        let taken = throttle.acquire(10.0).await;
        throttle.settle(taken, Some(30.0));
        assert!(tokio::time::timeout(Duration::from_millis(500), throttle.acquire(1.0)).await.is_err());
        let seconds = seconds(throttle.acquire(1.0)).await;
        assert!((1.5..1.7).contains(&seconds), "{seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_was_lost_is_not_given_back() {
        let throttle = throttle(10);
        let taken = throttle.acquire(10.0).await;
        throttle.settle(taken, None);
        assert!((seconds(throttle.acquire(10.0)).await - 1.0).abs() < 0.02);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_never_adds_up_to_more_than_one_second_worth() {
        let throttle = throttle(10);
        // Reads of items that might have been large, and were not.
        for wait in [0, 300, 1000] {
            let taken = throttle.acquire(100.0).await;
            tokio::time::sleep(Duration::from_millis(wait)).await;
            throttle.settle(taken, Some(1.0));
        }
        let begun = Instant::now();
        for _ in 0..30 {
            let taken = throttle.acquire(1.0).await;
            throttle.settle(taken, Some(1.0));
        }
        let passed = begun.elapsed().as_secs_f64();
        assert!((1.99..2.1).contains(&passed), "30 units within {passed} s");
    }

    #[tokio::test(start_paused = true)]
    async fn some_go_first_and_the_others_keep_a_tenth() {
        let throttle = throttle(100);
        let first = throttle.first();
        let begun = Instant::now();
        let take = async |throttle: &Throttle, units| {
            while begun.elapsed() < Duration::from_secs(20) {
                let taken = throttle.acquire(units).await;
                throttle.settle(taken, Some(units));
            }
        };
        // Together they get the whole budget, and what the first leave is not lost.
        tokio::join!(take(&throttle, 25.0), async {
            take(&first, 25.0).await;
        });
        let (others, first_consumed) = (throttle.consumed_here(), first.consumed_here());
        // The others began with a whole second's worth: nobody else was there.
        assert!((280.0..330.0).contains(&others), "the others got {others}");
        assert!((1980.0..2160.0).contains(&(others + first_consumed)), "all got {}", others + first_consumed);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            let taken = throttle.acquire(25.0).await;
            throttle.settle(taken, Some(25.0));
        }
        assert!((990.0..1130.0).contains(&(throttle.consumed_here() - others)));
        // Who goes away while waiting holds nobody back.
        let large = first.acquire(1000.0);
        assert!(tokio::time::timeout(Duration::from_millis(1), large).await.is_err());
        assert_eq!(throttle.bucket.first.load(Ordering::Acquire), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_tenth_takes_it_as_a_whole_when_it_is_used() {
        let throttle = throttle(1);
        let first = throttle.first();
        let begun = Instant::now();
        let used = Mutex::new(Vec::new());
        let take = async |throttle: &Throttle| {
            while begun.elapsed() < Duration::from_secs(100) {
                let taken = throttle.acquire(1.0).await;
                used.lock().unwrap().push(begun.elapsed().as_secs_f64());
                throttle.settle(taken, Some(1.0));
            }
        };
        tokio::join!(take(&throttle), take(&first));
        let (mut level, mut last) = (1.0_f64, 0.0);
        for at in used.into_inner().unwrap() {
            level = (level + at - last).min(1.0) - 1.0;
            last = at;
            assert!(level > -0.11, "{:.2} units beyond one second's worth at {at:.2} s", -level);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_service_slows_everybody_down_until_it_is_satisfied() {
        let throttle = throttle(1000);
        throttle.slow_down("TableWriteProvisionedThroughputExceeded");
        throttle.slow_down("TableWriteProvisionedThroughputExceeded");
        assert_eq!(throttle.reason().as_deref(), Some("TableWriteProvisionedThroughputExceeded"));
        assert!((seconds(throttle.acquire(1.0)).await - 0.1).abs() < 0.02);
        throttle.satisfied();
        assert_eq!(throttle.reason(), None);
        assert!(seconds(throttle.acquire(1.0)).await < 0.01);
    }

    #[tokio::test(start_paused = true)]
    async fn in_any_window_at_most_the_rate_and_one_second_worth() {
        let throttle = throttle(100);
        let mut taken: Vec<(f64, f64)> = Vec::new();
        let start = Instant::now();
        for i in 0..400_u32 {
            let units = f64::from(1 + i * 7 % 23);
            let call = throttle.acquire(units).await;
            throttle.settle(call, Some(units));
            taken.push((start.elapsed().as_secs_f64(), units));
            tokio::time::sleep(Duration::from_millis(u64::from(i * 13 % 40))).await;
        }
        for (i, (from, _)) in taken.iter().enumerate() {
            let mut sum = 0.0;
            for (at, units) in &taken[i..] {
                sum += units;
                assert!(sum <= 100.0 * (at - from) + 100.0 + 0.2, "{sum} units in {} s", at - from);
            }
        }
    }
}
