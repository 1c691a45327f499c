//! What must hold in every state, and what must happen somewhere.

use stateright::Property;

use crate::item::{Form, Item, Rewrite};
use crate::machine::{Answer, Phase, State, Worker, World};

pub(crate) const READABLE: &str = "the item is readable at every moment";
pub(crate) const NOT_LOST: &str = "no application write is lost or undone";
pub(crate) const NOT_BACK_FROM_DELETION: &str = "no deleted item reappears";
pub(crate) const NOT_BACK_FROM_TARGET: &str = "nothing goes from the target back";
pub(crate) const CHECKPOINT: &str = "no checkpoint is ahead of durable work";
pub(crate) const END: &str = "what was there when a job first looked ends at target, in the ledger, or gone";
pub(crate) const RAW_STAYS: &str = "no rewrite goes over a sealed item that does not open";
pub(crate) const NO_STANDSTILL: &str = "nobody waits for ever";

impl World {
    /// What must hold in every state.
    pub(crate) fn demands() -> Vec<Property<Self>> {
        vec![
            Property::always(READABLE, |world: &Self, state: &State| {
                state.item.is_none_or(|item| world.schema.open(&item).is_some())
            }),
            Property::always(NOT_LOST, |world: &Self, state: &State| {
                state.intended.is_none() || state.item.and_then(|item| world.schema.open(&item)) == state.intended
            }),
            Property::always(NOT_BACK_FROM_DELETION, |_, state: &State| {
                state.intended.is_some() || state.item.is_none()
            }),
            Property::always(NOT_BACK_FROM_TARGET, |_, state: &State| !state.went_back),
            Property::always(CHECKPOINT, |_, state: &State| {
                state.workers.iter().all(|worker| !worker.passed || worker.was_done || worker.ledger)
            }),
            Property::always(END, |world: &Self, state: &State| {
                state.workers.iter().zip(world.targets).all(|(worker, target)| {
                    worker.phase != Phase::Done
                        || !worker.undisturbed
                        || worker.ledger
                        || world.at_target(state.item.as_ref(), target)
                })
            }),
            Property::always(RAW_STAYS, |_, state: &State| !state.hid),
            Property::always(NO_STANDSTILL, |world: &Self, state: &State| {
                let mut steps = Vec::new();
                (0..2).for_each(|w| world.worker_steps(state, w, &mut steps));
                !steps.is_empty() || state.workers.iter().all(|worker| worker.phase == Phase::Done)
            }),
        ]
    }

    /// What must happen somewhere, so that the properties do not hold because nothing happens.
    pub(crate) fn sights(&self) -> Vec<Property<Self>> {
        fn failed(worker: &Worker) -> Option<(Rewrite, Option<Item>)> {
            match worker.phase {
                Phase::Answered(rewrite, Answer::ConditionFailed(item)) => Some((rewrite, item)),
                _ => None,
            }
        }
        let mut sights: Vec<Property<Self>> = vec![
            Property::sometimes("a worker meets an item that somebody changed", |_, state: &State| {
                let foreign = |(rewrite, item): (Rewrite, Option<Item>)| item.is_some_and(|item| item != rewrite.after);
                state.workers.iter().filter_map(failed).any(foreign)
            }),
            Property::sometimes("both workers end and the item is sealed", |_, state: &State| {
                let done = |worker: &Worker| worker.phase == Phase::Done && !worker.ledger;
                state.workers.iter().all(done) && state.item.is_some_and(|item| item.form() == Form::New)
            }),
        ];
        if self.losses > 0 {
            sights.push(Property::sometimes("a worker recognises its own write", |_, state: &State| {
                state.workers.iter().filter_map(failed).any(|(rewrite, item)| item == Some(rewrite.after))
            }));
            sights.push(Property::sometimes("an item ends in the ledger", |_, state: &State| {
                state.workers.iter().any(|worker| worker.phase == Phase::Done && worker.ledger)
            }));
        }
        if self.crashes > 0 {
            let name = "a worker crashes between its write and the checkpoint";
            sights.push(Property::sometimes(name, |_, state: &State| {
                state.workers.iter().any(|worker| worker.phase == Phase::Idle && worker.was_done)
            }));
        }
        if self.application > 1 {
            sights.push(Property::sometimes("an item is made again after a worker missed it", |_, state: &State| {
                state.item.is_some() && state.workers.iter().filter_map(failed).any(|(_, item)| item.is_none())
            }));
        }
        if self.late {
            sights.push(Property::sometimes("a request is under way after its sender ended", |_, state: &State| {
                state.late.is_some_and(|(w, _)| state.workers[w].phase == Phase::Done)
            }));
        }
        sights
    }
}
