//! A few worlds in every `cargo test`; `scripts/simulate.sh` runs as many as wanted.

use super::*;

/// Every mistake is caught within so many seeds.
const SEEDS_TO_CATCH: u64 = 300;

#[test]
fn in_every_world_the_invariants_hold() {
    let mut happened = BTreeMap::new();
    for seed in 0..100 {
        let outcome = simulate(&World::from_seed(seed), None, false);
        assert_eq!(outcome.violation, None, "seed {seed}: scripts/simulate.sh {seed} 1 shows it");
        outcome.faults.into_iter().for_each(|(name, count)| *happened.entry(name).or_default() += count);
    }
    // What never happens proves nothing.
    for name in ["gap in the stream", "record of the stream lost", "iterator expired", "listing behind"] {
        assert!(happened.get(name).is_some_and(|count: &u64| *count > 0), "{name}");
    }
}

#[test]
fn a_world_runs_the_same_way_each_time() {
    for seed in 0..10 {
        let world = World::from_seed(seed);
        let [first, second] = [(); 2].map(|()| simulate(&world, None, true));
        assert!(!first.trace.is_empty());
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}

#[test]
fn every_planted_mistake_is_caught() {
    for mistake in Mistake::ALL {
        let caught = |seed: &u64| simulate(&World::from_seed(*seed), Some(mistake), false).violation.is_some();
        assert!(
            (0..SEEDS_TO_CATCH).any(|seed| caught(&seed)),
            "{mistake:?} is not caught within {SEEDS_TO_CATCH} seeds"
        );
    }
}

#[test]
fn a_world_that_went_wrong_is_made_smaller() {
    let mistake = Some(Mistake::Unconditional);
    let world = (0..SEEDS_TO_CATCH)
        .map(World::from_seed)
        .find(|world| simulate(world, mistake, false).violation.is_some())
        .unwrap();
    let small = shrink(&world, mistake);
    assert!(simulate(&small, mistake, false).violation.is_some());
    assert!(simulate(&small, None, false).violation.is_none());
    assert!(small.acts.len() <= 1 && small.lives.is_empty(), "{small:?}");
}
