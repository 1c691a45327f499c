//! How far behind the tail is, and what it would need to keep up.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::event::Event;
use crate::migration::RETENTION;

/// Seconds behind of which nothing need be said: a batch or two.
const USUAL: u64 = 30;
/// How long the tail must have been observed before its pace says something.
const WINDOW: Duration = Duration::from_mins(1);

/// How far each shard was read, and what that took.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Of each shard that is being read: everything that was created until then is done. An empty answer counts as the
    /// end of what there is: good enough for a figure, and for nothing else.
    reached: BTreeMap<String, Option<u64>>,
    /// What was seen within the window: when, how far all shards were read, and what was consumed by then: read units,
    /// write units, key requests.
    seen: VecDeque<(Instant, u64, [f64; 3])>,
}

impl Health {
    /// A shard begins to be read.
    pub(super) fn begins(&mut self, shard: &str) {
        self.reached.insert(shard.to_owned(), None);
    }

    /// A shard is not read any more.
    pub(super) fn ends(&mut self, shard: &str) {
        self.reached.remove(shard);
    }

    /// Everything in a shard that was created until this second is done.
    pub(super) fn reached(&mut self, shard: &str, until: Option<u64>) {
        if let Some(reached) = self.reached.get_mut(shard) {
            *reached = until.or(*reached);
        }
    }

    /// Whether a shard that is being read has answered.
    pub(super) fn answered(&self, shard: &str) -> bool {
        self.reached.get(shard).is_some_and(Option::is_some)
    }

    /// How it stands at this second of the service's time; and, if the tail falls behind, what each budget would have to
    /// be for it to keep up, as far as that can be told.
    pub(super) fn examine(&mut self, now: u64, at: Instant, consumed: [f64; 3]) -> (Event, Option<[f64; 3]>) {
        // While one shard has not answered yet, nobody knows.
        let oldest = self.reached.values().copied().collect::<Option<Vec<u64>>>();
        let oldest = oldest.and_then(|reached| reached.into_iter().min());
        let behind = oldest.map(|oldest| now.saturating_sub(oldest));
        let left = behind.map(|behind| RETENTION.saturating_sub(behind));
        let health = Event::Health { shards: self.reached.len(), behind, left };
        let (Some(oldest), Some(behind)) = (oldest, behind) else { return (health, None) };
        self.seen.push_back((at, oldest, consumed));
        while self.seen.get(1).is_some_and(|(seen, ..)| at.duration_since(*seen) >= WINDOW) {
            self.seen.pop_front();
        }
        let (first, read, before) = self.seen[0];
        let (passed, advanced) = (at.duration_since(first).as_secs_f64(), oldest.saturating_sub(read) as f64);
        let falls_behind = behind > USUAL && passed >= WINDOW.as_secs_f64() && advanced < passed;
        // What so many seconds of the applications' writes took, per second.
        let needed = std::array::from_fn(|i| (consumed[i] - before[i]) / advanced.max(1.0));
        (health, falls_behind.then_some(needed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(event: &Event) -> Option<u64> {
        let Event::Health { behind, left, .. } = event else { panic!("{event:?}") };
        assert_eq!(behind.map(|behind| RETENTION - behind), *left);
        *behind
    }

    #[test]
    fn the_slowest_shard_counts() {
        let (mut health, at) = (Health::default(), Instant::now());
        health.begins("a");
        health.begins("b");
        health.reached("a", Some(100));
        assert_eq!(behind(&health.examine(110, at, [0.0; 3]).0), None);
        assert!(health.answered("a") && !health.answered("b") && !health.answered("c"));
        health.reached("b", Some(70));
        health.reached("b", None);
        assert_eq!(behind(&health.examine(110, at, [0.0; 3]).0), Some(40));
        health.ends("b");
        assert_eq!(behind(&health.examine(110, at, [0.0; 3]).0), Some(10));
    }

    #[test]
    fn what_is_needed_is_what_was_consumed_over_what_it_was_for() {
        let (mut health, begun) = (Health::default(), Instant::now());
        health.begins("a");
        let mut needed = None;
        // Each ten seconds it gets through five seconds' worth of writes.
        for step in 0..10 {
            health.reached("a", Some(1000 + step * 5));
            let consumed = [0.0, (step * 100) as f64, (step * 10) as f64];
            needed = health.examine(1040 + step * 10, begun + Duration::from_secs(step * 10), consumed).1;
            assert_eq!(needed.is_some(), step >= 6, "{step}");
        }
        assert_eq!(needed, Some([0.0, 20.0, 2.0]));
        // It keeps up.
        for step in 0..10 {
            health.reached("a", Some(2000 + step * 10));
            let at = begun + Duration::from_secs(1000 + step * 10);
            assert_eq!(health.examine(2040 + step * 10, at, [0.0; 3]).1, None);
        }
    }
}
