//! Making a world smaller that went wrong, until nothing can be left out.

use super::world::{Act, Regions, Versions, Weather, Work, World};
use super::{Mistake, simulate};

/// The smallest world found in which the same invariant is violated still.
#[must_use]
pub fn shrink(world: &World, mistake: Option<Mistake>) -> World {
    let violated = |world: &World| simulate(world, mistake, false).violation.map(|violation| violation.invariant);
    let invariant = violated(world);
    let fails = |world: &World| violated(world) == invariant;
    let mut best = world.clone();
    while let Some(smaller) = candidates(&best).into_iter().find(|smaller| *smaller != best && fails(smaller)) {
        best = smaller;
    }
    best
}

/// Worlds with one thing less.
fn candidates(world: &World) -> Vec<World> {
    let mut found = Vec::new();
    let mut with = |change: &dyn Fn(&mut World)| {
        let mut smaller = world.clone();
        change(&mut smaller);
        found.push(smaller);
    };
    with(&|world| world.weather = Weather { delay_ms: world.weather.delay_ms, ..Weather::default() });
    with(&|world| world.lives.clear());
    for i in 0..world.lives.len() {
        with(&|world| {
            world.lives.remove(i);
        });
        with(&|world| world.lives[i].end = None);
        with(&|world| world.lives[i].work = Work::Run);
        with(&|world| world.lives[i].pause = 0);
        with(&|world| world.lives[i].max_items = None);
    }
    with(&|world| world.stream = None);
    for list in [acts, last_acts] {
        let count = list(&mut world.clone()).len();
        for half in [count / 2, 0] {
            with(&|world| list(world).truncate(half));
        }
        for i in 0..count {
            with(&|world| {
                list(world).remove(i);
            });
        }
    }
    with(&|world| {
        world.items.pop();
    });
    let calms: [fn(&mut Weather); 16] = [
        |weather| weather.delay_ms = 0,
        |weather| weather.throttled = 0,
        |weather| weather.silent = 0,
        |weather| weather.partial = 0,
        |weather| weather.without_item = 0,
        |weather| weather.provisioned = None,
        |weather| weather.expired = None,
        |weather| weather.batch_denied = false,
        |weather| weather.keys_throttled = 0,
        |weather| weather.keys_silent = 0,
        |weather| weather.keys_denied = 0,
        |weather| weather.key_disabled = None,
        |weather| weather.held_back = 0,
        |weather| weather.listings = 0,
        |weather| weather.iterators = 0,
        |weather| weather.stalled = None,
    ];
    for calm in calms {
        with(&|world| calm(&mut world.weather));
    }
    with(&|world| world.pace.segments = 1);
    with(&|world| world.pace.pages_in_flight = 1);
    with(&|world| world.pace.in_flight = 1);
    with(&|world| world.pace.budgets = [None; 3]);
    with(&|world| world.shape.sort = false);
    with(&|world| world.shape.signs = false);
    with(&|world| world.shape.widens = false);
    with(&|world| world.shape.version = 1);
    with(&|world| world.rotation.rewraps = false);
    with(&|world| world.rotation.other_suite = false);
    with(&|world| world.rotation.versions = Versions::One);
    with(&|world| world.rotation.regions = Regions::One);
    found.retain(|world| !world.items.is_empty());
    found
}

fn acts(world: &mut World) -> &mut Vec<Act> {
    &mut world.acts
}

/// What applications do while the last process works: with a stream only.
fn last_acts(world: &mut World) -> &mut Vec<Act> {
    world.stream.as_mut().map_or(&mut world.acts, |stream| &mut stream.last)
}
