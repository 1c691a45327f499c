//! How long items lay in plaintext before the tail sealed them, by the hour.

use std::collections::BTreeMap;

use serde::Serialize;

/// Seconds of an hour.
const HOUR: u64 = 60 * 60;

/// How many seconds the items lay in plaintext that were sealed in a stretch of time. The service dates records in whole
/// seconds, and does not say how it rounds: each figure may be off by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Exposed {
    /// Items that were sealed.
    pub items: u64,
    /// Half of them lay no longer than so many seconds.
    pub p50: u64,
    /// 99 of 100 of them lay no longer than so many seconds.
    pub p99: u64,
    /// None of them lay longer than so many seconds.
    pub max: u64,
}

/// Counts exposures. Its memory grows with the hours, not with the items.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exposure {
    /// The hour that is under way, from its first second since 1970.
    hour: Option<(u64, Counts)>,
    past: Vec<(u64, Exposed)>,
    all: Counts,
}

/// Items by seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Counts(BTreeMap<u64, u64>);

impl Exposure {
    /// An item was in plaintext from one second of the service's time to another. Gives back the hour that this ended, by
    /// its first second since 1970, with its figures.
    pub fn add(&mut self, since: u64, until: u64) -> Option<(u64, Exposed)> {
        let (hour, seconds) = (until - until % HOUR, until.saturating_sub(since));
        self.all.add(seconds);
        match &mut self.hour {
            // Of two shards one may be a little behind the other.
            Some((present, counts)) if *present >= hour => {
                counts.add(seconds);
                None
            }
            present => {
                let past = present.replace((hour, Counts(BTreeMap::from([(seconds, 1)]))));
                let past = past.and_then(|(hour, counts)| Some((hour, counts.sum_up()?)));
                self.past.extend(past);
                past
            }
        }
    }

    /// Of all items; `None` when there were none.
    #[must_use]
    pub fn all(&self) -> Option<Exposed> {
        self.all.sum_up()
    }

    /// Of the items of each hour in which there were some, by its first second since 1970.
    #[must_use]
    pub fn hours(&self) -> Vec<(u64, Exposed)> {
        let present = self.hour.iter().filter_map(|(hour, counts)| Some((*hour, counts.sum_up()?)));
        self.past.iter().copied().chain(present).collect()
    }
}

impl Counts {
    fn add(&mut self, seconds: u64) {
        *self.0.entry(seconds).or_default() += 1;
    }

    fn sum_up(&self) -> Option<Exposed> {
        let items = self.0.values().sum::<u64>();
        // The smallest number of seconds that so many of a hundred items do not exceed.
        let within = |percent: u64| {
            let mut left = (items * percent).div_ceil(100);
            self.0.iter().find_map(|(seconds, count)| {
                left = left.saturating_sub(*count);
                (left == 0).then_some(*seconds)
            })
        };
        Some(Exposed { items, p50: within(50)?, p99: within(99)?, max: *self.0.last_key_value()?.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_sorted_list() {
        let mut exposure = Exposure::default();
        assert_eq!(exposure.all(), None);
        for seconds in (0..200).rev() {
            exposure.add(1_000_000 - seconds, 1_000_000);
        }
        assert_eq!(exposure.all(), Some(Exposed { items: 200, p50: 99, p99: 197, max: 199 }));
        let mut one = Exposure::default();
        // A record may be dated after the answer that shows it sealed.
        one.add(8, 7);
        assert_eq!(one.all(), Some(Exposed { items: 1, p50: 0, p99: 0, max: 0 }));
    }

    #[test]
    fn each_hour_has_its_own() {
        let mut exposure = Exposure::default();
        let mut ended = Vec::new();
        for (since, until) in [(3598, 3599), (3599, 3602), (3590, 3599), (7200, 7205)] {
            ended.extend(exposure.add(since, until));
        }
        let one = |items, p50, max| Exposed { items, p50, p99: max, max };
        assert_eq!(exposure.hours(), [(0, one(1, 1, 1)), (3600, one(2, 3, 9)), (7200, one(1, 5, 5))]);
        assert_eq!(exposure.all().map(|all| all.items), Some(4));
        assert_eq!(ended, exposure.hours()[..2]);
    }
}
