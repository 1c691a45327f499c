//! Making a world smaller that went wrong, until nothing can be left out.

use super::world::{Weather, World};
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
        with(&|world| world.lives[i].keys = false);
        with(&|world| world.lives[i].max_items = None);
    }
    for half in [world.acts.len() / 2, 0] {
        with(&|world| world.acts.truncate(half));
    }
    for i in 0..world.acts.len() {
        with(&|world| {
            world.acts.remove(i);
        });
    }
    with(&|world| {
        world.items.pop();
    });
    let calms: [fn(&mut Weather); 12] = [
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
    found.retain(|world| !world.items.is_empty());
    found
}
