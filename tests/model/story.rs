//! An interleaving in words.

use stateright::Path;

use crate::item::{Contents, Form, Item, NAMES, Rewrite};
use crate::machine::{Answer, Phase, State, Step};

/// The steps of a path, numbered, after the item that they begin with.
pub(crate) fn story(path: Path<State, Step>) -> String {
    let path = path.into_vec();
    let mut lines = vec![format!("     table: {}", shown(path[0].0.item))];
    for (pair, number) in path.windows(2).zip(1..) {
        let step = pair[0].1.expect("every state but the last has a step");
        lines.push(format!("  {number}. {}", tell(&pair[0].0, step, &pair[1].0)));
    }
    lines.join("\n")
}

/// One line for one step of an interleaving.
fn tell(before: &State, step: Step, after: &State) -> String {
    let what = match step {
        Step::Put(form, contents) => format!("application: puts the item whole, {}", told(form, contents)),
        Step::PutOld => "application: puts the very first item back".to_owned(),
        Step::Count => "application: changes count alone".to_owned(),
        Step::Delete => "application: deletes the item".to_owned(),
        Step::Raw(attribute) => format!("application: writes {}=1 alone, without sealing", NAMES[attribute]),
        Step::Late => "network: a request that nobody waits for any more arrives".to_owned(),
        Step::Read(w) => format!("{}: reads the item, {}", name(w), plan(after, w)),
        Step::Arrive(w) => format!("{}: its write arrives, {}", name(w), outcome(after, w)),
        Step::LoseRequest(w) => format!("{}: its write is lost on the way; {}", name(w), plan(after, w)),
        Step::TimeOut(w) => format!("{}: waits no longer for its write; {}", name(w), plan(after, w)),
        Step::Hear(w) => format!("{}: hears the answer; {}", name(w), plan(after, w)),
        Step::HearBare(w) => format!("{}: hears the answer, without the item; {}", name(w), plan(after, w)),
        Step::LoseAnswer(w) => format!("{}: its answer is lost; {}", name(w), plan(after, w)),
        Step::Refuse(w) => format!("{}: the service refuses its write; {}", name(w), plan(after, w)),
        Step::ReadByKey(w) if before.item.is_none() && after.item.is_some() => {
            format!("{}: finds nothing by the key, and makes the item anew", name(w))
        }
        Step::ReadByKey(w) => format!("{}: reads the item by its key, {}", name(w), plan(after, w)),
        Step::Record(w) => format!("{}: records the item in the ledger", name(w)),
        Step::Checkpoint(w) => format!("{}: its checkpoint passes the item", name(w)),
        Step::Crash(w) if after.workers[w].passed => {
            format!("{}: crashes; when it is started again, its checkpoint says that the item is done", name(w))
        }
        Step::Crash(w) => format!("{}: crashes", name(w)),
        Step::CrashUnderWay(w) => format!("{}: crashes, its write under way", name(w)),
        Step::TakeOver(w) => format!("{}: is suspended, and its lock runs out", name(w)),
        Step::End(w) => format!("{}: goes on, finds its lock lost, and ends", name(w)),
    };
    if before.item == after.item { what } else { format!("{what}  ->  {}", shown(after.item)) }
}

fn shown(item: Option<Item>) -> String {
    item.map_or_else(|| "no item".to_owned(), |item| item.to_string())
}

fn name(w: usize) -> &'static str {
    ["reseal A", "reseal B"][w]
}

fn told(form: Form, contents: Contents) -> String {
    let values = NAMES.iter().zip(contents).filter_map(|(name, value)| Some(format!("{name}={}", value?)));
    let form = match form {
        Form::Plain => "in plaintext",
        Form::Old => "in the old form",
        Form::New => "in the new form",
    };
    format!("{form}: {}", values.collect::<Vec<_>>().join(" "))
}

fn outcome(state: &State, w: usize) -> &'static str {
    match state.workers[w].phase {
        Phase::Answered(_, Answer::Written) => "and is applied",
        _ => "and its condition fails",
    }
}

/// What a worker is about to do.
fn plan(state: &State, w: usize) -> String {
    match state.workers[w].phase {
        Phase::Ready(Rewrite { before, after }) => format!("will write {after} over {before}"),
        Phase::Unseen(_) => "will read the item by its key".to_owned(),
        Phase::Failing => "gives it up for the ledger".to_owned(),
        Phase::Closing { .. } => "takes it for done".to_owned(),
        Phase::Idle | Phase::Answered(..) | Phase::Done => String::new(),
    }
}
