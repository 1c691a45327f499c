//! How often and how long to wait before the same request is made again.

use std::time::Duration;

/// What came of a request so far. Each kind of answer is counted by itself: a service that asks to wait is not silent,
/// however often it asks.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// Times that nobody answered, one after the other.
    pub(super) silences: u32,
    /// Times that something else was in the way of the item.
    pub(super) conflicts: u32,
    /// Whether it was told that the run holds.
    pub(super) held: bool,
}

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// The pause before the next attempt, after so many that failed: doubling from 50 ms to 5 s, and spread over half of
/// that by `jitter` (0.0 to 1.0), so that lanes that failed together do not return together.
#[must_use]
pub(super) fn pause(attempts: u32, jitter: f64) -> Duration {
    let whole = FIRST.saturating_mul(1 << attempts.min(10)).min(LONGEST);
    whole.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_a_bound_and_spreads() {
        let ms = |attempts, jitter| pause(attempts, jitter).as_millis();
        assert_eq!([ms(0, 1.0), ms(1, 1.0), ms(3, 1.0), ms(40, 1.0)], [50, 100, 400, 5000]);
        assert_eq!([ms(0, 0.0), ms(40, 0.0)], [25, 2500]);
    }
}
