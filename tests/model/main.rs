//! The rules of the engine as a model that is small enough to be explored whole: one item, two workers, an application,
//! a network that delays and loses, crashes. With every rule in place the properties hold in every state; with any
//! piece of a rule taken away there is an interleaving that breaks one. `docs/SAFETY.md` tells these in words.
//!
//! `cargo test --test model -- --nocapture` prints the number of states, and the interleavings.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod item;
mod machine;
mod properties;
mod removed;
mod story;

use item::{Action, Form, NOTE, SECRET, Schema};
use machine::{Lock, World};
use properties::{CHECKPOINT, END, NOT_BACK_FROM_DELETION, NOT_BACK_FROM_TARGET, NOT_LOST, RAW_STAYS, READABLE};
use removed::{Acknowledge, Monotone, Removed, Retry, Token, Write};
use stateright::{Checker as _, Expectation, Model as _};
use story::story;

/// Two runs of one job, of which nothing keeps one from the other.
fn world(source: Form, count: Action) -> World {
    World {
        schema: Schema { count },
        source,
        targets: [Form::New; 2],
        lock: Lock::None,
        raw: None,
        late: true,
        application: 1,
        crashes: 1,
        losses: 1,
        removed: None,
        only: None,
    }
}

/// A job that seals and one that leads back, on one table.
fn there_and_back(lock: Lock) -> World {
    World { targets: [Form::New, Form::Plain], lock, late: false, ..world(Form::Plain, Action::Nothing) }
}

/// Explores every state and demands every property.
fn demand(what: &str, world: World) {
    let checker = world.checker().threads(2).spawn_bfs().join();
    println!("{what}: {} states, up to {} steps", checker.unique_state_count(), checker.max_depth());
    for property in checker.model().properties() {
        match (property.expectation, checker.discovery(property.name)) {
            (Expectation::Always, Some(path)) => panic!("{what}: not true: {}\n{}", property.name, story(path)),
            (Expectation::Sometimes, None) => panic!("{what}: it never happens that {}", property.name),
            _ => {}
        }
    }
}

/// A shortest interleaving that breaks the property, in words; `None` when none does.
fn broken(property: &'static str, world: &World) -> Option<String> {
    let checker = World { only: Some(property), ..world.clone() }.checker().spawn_bfs().join();
    checker.discovery(property).map(story)
}

/// Demands that a property breaks once a piece of a rule is taken away.
fn needed(removed: Removed, property: &'static str, world: World) {
    let story = broken(property, &World { removed: Some(removed), ..world });
    let story = story.unwrap_or_else(|| panic!("without {removed:?} it still holds that {property}"));
    println!("without {removed:?} it does not hold that {property}:\n{story}\n");
}

#[test]
fn with_every_rule_every_property_holds() {
    let twice = |world: World| World { application: 2, crashes: 0, late: false, ..world };
    demand("plaintext, two changes", twice(world(Form::Plain, Action::Nothing)));
    demand("plaintext", world(Form::Plain, Action::Nothing));
    demand("sealed, the same scope", world(Form::Old, Action::Nothing));
    let signed = World { late: false, ..world(Form::Old, Action::Sign) };
    demand("sealed, one attribute more is signed", signed);
    demand("sealed, one attribute more is encrypted", world(Form::Old, Action::Encrypt));
    demand("there and back under a lock", there_and_back(Lock::Held));
}

/// The same with more of everything at once: minutes.
#[test]
#[ignore = "takes minutes"]
fn with_every_rule_every_property_holds_at_length() {
    let long = |world: World| World { application: 2, ..world };
    demand("plaintext", long(world(Form::Plain, Action::Nothing)));
    demand("plaintext, all encrypted", long(world(Form::Plain, Action::Encrypt)));
    demand("sealed, the same scope", long(world(Form::Old, Action::Nothing)));
    demand("sealed, one attribute more is signed", long(world(Form::Old, Action::Sign)));
    demand("sealed, one attribute more is encrypted", long(world(Form::Old, Action::Encrypt)));
    demand("there and back under a lock", World { application: 3, ..there_and_back(Lock::Held) });
}

#[test]
fn without_w_unconditional() {
    needed(Removed::W(Write::Unconditional), NOT_LOST, world(Form::Plain, Action::Nothing));
    needed(Removed::W(Write::Unconditional), READABLE, world(Form::Plain, Action::Nothing));
}

#[test]
fn without_w_upsert() {
    needed(Removed::W(Write::Upsert), NOT_BACK_FROM_DELETION, world(Form::Plain, Action::Nothing));
}

#[test]
fn without_w_put_of_image() {
    needed(Removed::W(Write::PutOfImage), NOT_LOST, world(Form::Plain, Action::Nothing));
    needed(Removed::W(Write::PutOfImage), NOT_LOST, world(Form::Old, Action::Nothing));
}

#[test]
fn without_t_foot_only() {
    needed(Removed::T(Token::FootOnly), NOT_LOST, world(Form::Plain, Action::Nothing));
    needed(Removed::T(Token::FootOnly), NOT_LOST, world(Form::Old, Action::Encrypt));
    let raw = World { raw: Some(SECRET), ..world(Form::Old, Action::Nothing) };
    assert_eq!(broken(RAW_STAYS, &raw), None);
    needed(Removed::T(Token::FootOnly), RAW_STAYS, raw);
}

/// Where the scope stays the same and applications keep to whole items, any change of what is signed is a new
/// signature: head and foot alone would do. The longer condition is for the other cases above.
#[test]
fn without_t_on_sealed_items_of_the_same_scope_nothing_breaks() {
    for token in [Token::FootOnly, Token::AbsentNotNamed] {
        let removed = Some(Removed::T(token));
        demand(&format!("without {removed:?}"), World { removed, late: false, ..world(Form::Old, Action::Nothing) });
    }
}

#[test]
fn without_t_absent_not_named() {
    needed(Removed::T(Token::AbsentNotNamed), READABLE, world(Form::Plain, Action::Nothing));
}

#[test]
fn without_t_newly_covered_not_named() {
    needed(Removed::T(Token::NewlyCoveredNotNamed), READABLE, world(Form::Plain, Action::Nothing));
    needed(Removed::T(Token::NewlyCoveredNotNamed), READABLE, world(Form::Old, Action::Sign));
}

#[test]
fn without_r_gone_unread() {
    needed(Removed::R(Retry::GoneUnread), CHECKPOINT, world(Form::Plain, Action::Nothing));
}

#[test]
fn without_r_seals_its_output() {
    let alone = World { application: 0, ..world(Form::Plain, Action::Nothing) };
    needed(Removed::R(Retry::SealsItsOutput), NOT_LOST, alone);
}

#[test]
fn without_r_failed_is_done() {
    needed(Removed::R(Retry::FailedIsDone), CHECKPOINT, world(Form::Plain, Action::Nothing));
}

#[test]
fn without_r_unknown_is_done() {
    needed(Removed::R(Retry::UnknownIsDone), END, world(Form::Plain, Action::Nothing));
}

#[test]
fn without_r_makes_anew() {
    needed(Removed::R(Retry::MakesAnew), NOT_BACK_FROM_DELETION, world(Form::Plain, Action::Nothing));
}

#[test]
fn without_a_checkpoint_first() {
    needed(Removed::A(Acknowledge::CheckpointFirst), END, world(Form::Plain, Action::Nothing));
}

#[test]
fn without_a_ledger_last() {
    needed(Removed::A(Acknowledge::LedgerLast), END, world(Form::Plain, Action::Nothing));
}

#[test]
fn without_m_no_lock() {
    needed(Removed::M(Monotone::NoLock), NOT_BACK_FROM_TARGET, there_and_back(Lock::Held));
}

/// What the condition of a sealed item leaves out: an attribute that was signed, is signed again and not changed. An
/// application that writes it alone breaks the item, which the rewrite then seals without noticing.
#[test]
fn a_raw_write_into_what_is_only_signed() {
    let raw = World { raw: Some(NOTE), ..world(Form::Old, Action::Nothing) };
    let story = broken(RAW_STAYS, &raw).expect("nothing names the attribute");
    println!("a raw write, not: {RAW_STAYS}\n{story}\n");
}

/// What a job that lost its lock may do. Whether it reads again before it writes changes nothing: its conditions keep
/// the data either way, and neither keeps it from going back. Ending does, but for requests that are under way.
#[test]
fn a_lock_that_runs_out() {
    let unread = World { removed: Some(Removed::M(Monotone::WritesUnread)), ..there_and_back(Lock::Lease) };
    for world in [there_and_back(Lock::Lease), unread] {
        for property in [READABLE, NOT_LOST, NOT_BACK_FROM_DELETION, CHECKPOINT] {
            assert_eq!(broken(property, &world), None, "{property}");
        }
        let story = broken(NOT_BACK_FROM_TARGET, &world).expect("a lock that runs out protects nothing");
        println!("{:?}: a lock that runs out, not: {NOT_BACK_FROM_TARGET}\n{story}\n", world.removed);
    }
    demand("a lock that runs out, and its holder ends", there_and_back(Lock::LeaseOrEnd));
}

/// A lock keeps processes apart, not requests: one that is still under way when its job is dead arrives in the next.
#[test]
fn a_request_that_outlives_its_job() {
    let world = World { late: true, ..there_and_back(Lock::Held) };
    for property in [READABLE, NOT_LOST, NOT_BACK_FROM_DELETION, CHECKPOINT] {
        assert_eq!(broken(property, &world), None, "{property}");
    }
    let story = broken(NOT_BACK_FROM_TARGET, &world).expect("the request arrives in the next job");
    println!("a request under way, not: {NOT_BACK_FROM_TARGET}\n{story}\n");
}
