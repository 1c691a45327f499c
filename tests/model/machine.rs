//! The table, two workers, an application and the network between them, one step at a time.

use stateright::{Model, Property};

use crate::item::{COUNT, Contents, Field, Form, Item, NOTE, Nonce, Rewrite, SECRET, Schema, Verdict};
use crate::removed::{Acknowledge, Monotone, Removed, Retry};

/// Looks at an item after the first one, before it goes to the ledger as contended.
const LOOKS: u8 = 1;

/// What keeps two jobs from one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Nothing: two runs of the same job may meet.
    None,
    /// It is held from the first read until the process ends.
    Held,
    /// Like `Held`, but a holder that is suspended loses it; when it goes on it reads again before it writes.
    Lease,
    /// The same, but a holder that lost it ends when it goes on.
    LeaseOrEnd,
}

/// What is explored: who takes part, how often what may happen, and what is taken away.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) schema: Schema,
    /// The form that the table is in.
    pub(crate) source: Form,
    /// The form that each worker's job wants.
    pub(crate) targets: [Form; 2],
    pub(crate) lock: Lock,
    /// The signed attribute that the application updates alone, which it must not.
    pub(crate) raw: Option<usize>,
    /// Whether a request may be under way while its sender goes on without it, or is dead.
    pub(crate) late: bool,
    pub(crate) application: u8,
    pub(crate) crashes: u8,
    pub(crate) losses: u8,
    pub(crate) removed: Option<Removed>,
    /// Explore only until this property is refuted.
    pub(crate) only: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) item: Option<Item>,
    /// What the application meant last; `None` is deleted.
    pub(crate) intended: Option<Contents>,
    pub(crate) workers: [Worker; 2],
    /// A request whose sender no longer waits for it.
    pub(crate) late: Option<(usize, Rewrite)>,
    holder: Option<usize>,
    application_left: u8,
    crashes_left: u8,
    losses_left: u8,
    /// Whether a write took an item away from the target of its own job, or of the one in charge.
    pub(crate) went_back: bool,
    /// Whether a write went over an item that did not open.
    pub(crate) hid: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Worker {
    pub(crate) phase: Phase,
    looks: u8,
    /// Durable: the cursor is behind the item.
    pub(crate) passed: bool,
    /// Durable: the item has an open entry.
    pub(crate) ledger: bool,
    /// Whether its lock was taken over while it was suspended, and it has done nothing since.
    suspended: bool,
    /// Whether the item was at target, or gone, at some moment since the first look of this pass.
    pub(crate) was_done: bool,
    /// Whether nobody but workers of the same job changed the item since then.
    pub(crate) undisturbed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Nothing is in memory: not begun, or crashed.
    Idle,
    /// Prepared, and sent or about to be.
    Ready(Rewrite),
    /// The service has decided; the answer is under way.
    Answered(Rewrite, Answer),
    /// The condition failed without an item: it wants a read by key.
    Unseen(Rewrite),
    /// To be recorded in the ledger.
    Failing,
    /// To be passed by the checkpoint.
    Closing {
        failed: bool,
    },
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Answer {
    Written,
    /// With the item as it was then.
    ConditionFailed(Option<Item>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Put(Form, Contents),
    /// The item that was there at first, byte for byte.
    PutOld,
    /// The unsigned attribute alone.
    Count,
    Delete,
    /// A signed attribute of a sealed item alone, without sealing it again.
    Raw(usize),
    /// A strongly consistent read, and everything up to the write.
    Read(usize),
    Arrive(usize),
    Late,
    /// The request is lost before the service sees it.
    LoseRequest(usize),
    /// The worker gives up waiting and sends again; the first request is still under way.
    TimeOut(usize),
    Hear(usize),
    /// The answer comes without the item.
    HearBare(usize),
    LoseAnswer(usize),
    /// The service refuses to write this item.
    Refuse(usize),
    ReadByKey(usize),
    Record(usize),
    Checkpoint(usize),
    Crash(usize),
    /// The process ends while its request is under way.
    CrashUnderWay(usize),
    /// The worker is suspended, and the other may take its lock over.
    TakeOver(usize),
    /// The worker finds its lock lost.
    End(usize),
}

impl World {
    fn first_items(&self) -> impl Iterator<Item = Item> {
        contents(0).into_iter().map(|contents| self.schema.seal(contents, self.source, 0))
    }

    fn lacks(&self, rule: Removed) -> bool {
        self.removed == Some(rule)
    }

    pub(crate) fn at_target(&self, item: Option<&Item>, target: Form) -> bool {
        item.is_none_or(|item| self.schema.at_target(item, target))
    }

    /// The forms that applications write: the one that the table was in, and those of clients that were switched already.
    fn writers(&self) -> [Form; 2] {
        [self.source, Form::New]
    }

    fn may_begin(&self, state: &State, w: usize) -> bool {
        self.lock == Lock::None
            || self.lacks(Removed::M(Monotone::NoLock))
            || state.holder.is_none_or(|holder| holder == w)
    }

    /// Steps that a worker, or the network for it, can take.
    pub(crate) fn worker_steps(&self, state: &State, w: usize, steps: &mut Vec<Step>) {
        let worker = &state.workers[w];
        match worker.phase {
            Phase::Idle if worker.passed => {}
            Phase::Idle if self.may_begin(state, w) => steps.push(Step::Read(w)),
            Phase::Ready(_) if worker.suspended && self.lock == Lock::LeaseOrEnd => steps.push(Step::End(w)),
            Phase::Ready(_) if worker.suspended && !self.lacks(Removed::M(Monotone::WritesUnread)) => {
                steps.push(Step::ReadByKey(w));
            }
            Phase::Ready(_) => steps.push(Step::Arrive(w)),
            Phase::Answered(_, answer) => {
                steps.push(Step::Hear(w));
                if matches!(answer, Answer::ConditionFailed(Some(_))) {
                    steps.push(Step::HearBare(w));
                }
            }
            Phase::Unseen(_) => steps.push(Step::ReadByKey(w)),
            Phase::Failing if worker.passed || !self.lacks(Removed::A(Acknowledge::LedgerLast)) => {
                steps.push(Step::Record(w));
            }
            Phase::Failing | Phase::Closing { .. } => steps.push(Step::Checkpoint(w)),
            Phase::Idle | Phase::Done => {}
        }
    }

    /// What goes wrong for a worker.
    fn faults(&self, state: &State, w: usize, steps: &mut Vec<Step>) {
        let worker = &state.workers[w];
        let sending = matches!(worker.phase, Phase::Ready(_));
        let early = self.lacks(Removed::A(Acknowledge::CheckpointFirst));
        if sending && early && !worker.passed {
            steps.push(Step::Checkpoint(w));
        }
        if state.losses_left > 0 {
            match worker.phase {
                Phase::Ready(_) => steps.extend([Step::LoseRequest(w), Step::Refuse(w)]),
                Phase::Answered(..) => steps.push(Step::LoseAnswer(w)),
                _ => {}
            }
        }
        let room = self.late && state.late.is_none();
        if sending && room && state.losses_left > 0 {
            steps.push(Step::TimeOut(w));
        }
        if state.crashes_left > 0 && !matches!(worker.phase, Phase::Idle | Phase::Done) {
            steps.push(Step::Crash(w));
            if sending && room {
                steps.push(Step::CrashUnderWay(w));
            }
        }
        if matches!(self.lock, Lock::Lease | Lock::LeaseOrEnd) && sending && state.holder == Some(w) {
            steps.push(Step::TakeOver(w));
        }
    }

    fn application_steps(&self, state: &State, steps: &mut Vec<Step>) {
        let over = state.late.is_none() && state.workers.iter().all(|worker| worker.phase == Phase::Done);
        // Once nobody else writes any more, an application only talks to itself.
        if over || state.application_left == 0 {
            return;
        }
        let count = state.intended.and_then(|intended| intended[COUNT]).unwrap_or(0);
        for form in self.writers() {
            steps.extend(contents(count).into_iter().rev().map(|contents| Step::Put(form, contents)));
        }
        steps.push(Step::PutOld);
        if let Some(item) = &state.item {
            steps.push(Step::Delete);
            if item.foot.is_some() {
                steps.extend(self.raw.map(Step::Raw));
            }
            // Legal only while the signature leaves it out.
            if !self.schema.covers(item.form(), COUNT) && item.fields[COUNT].is_some() {
                steps.push(Step::Count);
            }
        }
    }

    /// A look at the item as it is now: classified, and prepared for writing if that is wanted.
    fn look(&self, state: &mut State, w: usize, item: Option<Item>) {
        let target = self.targets[w];
        state.workers[w].phase = match item.map(|item| (item, self.schema.classify(&item, target))) {
            None | Some((_, Verdict::Current)) => Phase::Closing { failed: false },
            Some((_, Verdict::Refused)) => Phase::Failing,
            Some((before, Verdict::Work(contents))) => {
                // The old item is in no phase yet; its nonces are in use all the same.
                state.workers[w].phase = Phase::Ready(Rewrite { before, after: before });
                Phase::Ready(Rewrite { before, after: self.schema.seal(contents, target, state.fresh()) })
            }
        };
    }

    /// Another look after a failed condition (`page::write`).
    fn look_again(&self, state: &mut State, w: usize, rewrite: Rewrite, item: Option<Item>) {
        state.workers[w].suspended = false;
        match item {
            None if self.lacks(Removed::R(Retry::MakesAnew)) => {
                state.item = Some(rewrite.after);
                state.workers[w].phase = Phase::Closing { failed: false };
            }
            None => state.workers[w].phase = Phase::Closing { failed: false },
            // Our own earlier attempt, whose answer was lost.
            Some(item) if rewrite.applied_to(Some(&rewrite.before), self.removed) == item => {
                state.workers[w].phase = Phase::Closing { failed: false };
            }
            Some(_) if state.workers[w].looks >= LOOKS => state.workers[w].phase = Phase::Failing,
            Some(_) => {
                state.workers[w].looks += 1;
                self.look(state, w, item);
            }
        }
    }

    /// The service decides about a request.
    fn decide(&self, state: &mut State, w: usize, rewrite: &Rewrite) -> Answer {
        if !self.schema.holds(rewrite, state.item.as_ref(), self.removed) {
            return Answer::ConditionFailed(state.item);
        }
        let after = rewrite.applied_to(state.item.as_ref(), self.removed);
        let left = |target| self.at_target(state.item.as_ref(), target) && !self.at_target(Some(&after), target);
        let at_work = |other: usize| !matches!(state.workers[other].phase, Phase::Idle | Phase::Done);
        let in_charge = |other: usize| state.holder.map_or_else(|| at_work(other), |holder| holder == other);
        state.went_back |= left(self.targets[w]) || (in_charge(1 - w) && left(self.targets[1 - w]));
        state.hid |= state.item.is_some_and(|item| self.schema.open(&item).is_none());
        state.item = Some(after);
        Answer::Written
    }

    /// Nobody knows whether the request was applied: the same again, under the same condition.
    fn unknown(&self, state: &mut State, w: usize, rewrite: Rewrite) {
        state.workers[w].phase = if self.lacks(Removed::R(Retry::UnknownIsDone)) {
            Phase::Closing { failed: false }
        } else if self.lacks(Removed::R(Retry::SealsItsOutput)) {
            match state.item {
                None => Phase::Closing { failed: false },
                Some(before) => {
                    let after = self.schema.seal(before.taken_for_plain(), self.targets[w], state.fresh());
                    Phase::Ready(Rewrite { before, after })
                }
            }
        } else {
            Phase::Ready(rewrite)
        };
    }

    fn hear(&self, state: &mut State, w: usize, rewrite: Rewrite, answer: Answer) {
        match answer {
            Answer::Written => state.workers[w].phase = Phase::Closing { failed: false },
            Answer::ConditionFailed(_) if self.lacks(Removed::R(Retry::FailedIsDone)) => {
                state.workers[w].phase = Phase::Closing { failed: false };
            }
            Answer::ConditionFailed(None) if self.lacks(Removed::R(Retry::GoneUnread)) => {
                state.workers[w].phase = Phase::Closing { failed: false };
            }
            Answer::ConditionFailed(None) => state.workers[w].phase = Phase::Unseen(rewrite),
            Answer::ConditionFailed(item) => self.look_again(state, w, rewrite, item),
        }
    }

    fn put(&self, state: &mut State, item: Option<Item>) {
        state.intended = item.and_then(|item| self.schema.open(&item));
        state.item = item;
        state.application_left -= 1;
        for worker in &mut state.workers {
            worker.undisturbed = false;
        }
    }

    /// Workers of the same job may change places: of two states that differ in nothing else, one is explored. Not where
    /// an interleaving is to be told, so that everybody keeps their name.
    fn representative(&self, mut state: State) -> State {
        let alike = self.targets[0] == self.targets[1] && self.lock == Lock::None && self.only.is_none();
        if alike && state.workers[0] > state.workers[1] {
            state.workers.swap(0, 1);
            state.late = state.late.map(|(w, rewrite)| (1 - w, rewrite));
        }
        state
    }

    fn worker_step(&self, state: &mut State, w: usize, step: Step) -> Option<()> {
        let phase = state.workers[w].phase;
        match (step, phase) {
            (Step::Read(_), _) => {
                if self.lock != Lock::None && !self.lacks(Removed::M(Monotone::NoLock)) {
                    state.holder = Some(w);
                }
                if self.targets[0] != self.targets[1] {
                    state.workers[1 - w].undisturbed = false;
                }
                (state.workers[w].was_done, state.workers[w].undisturbed) = (false, true);
                self.look(state, w, state.item);
            }
            (Step::Arrive(_), Phase::Ready(rewrite)) => {
                let answer = self.decide(state, w, &rewrite);
                state.workers[w].phase = Phase::Answered(rewrite, answer);
            }
            (Step::TimeOut(_), Phase::Ready(rewrite)) => {
                state.late = Some((w, rewrite));
                state.losses_left -= 1;
                self.unknown(state, w, rewrite);
            }
            (Step::LoseRequest(_), Phase::Ready(rewrite)) | (Step::LoseAnswer(_), Phase::Answered(rewrite, _)) => {
                state.losses_left -= 1;
                self.unknown(state, w, rewrite);
            }
            (Step::Refuse(_), _) => {
                state.losses_left -= 1;
                state.workers[w].phase = Phase::Failing;
            }
            (Step::Hear(_), Phase::Answered(rewrite, answer)) => self.hear(state, w, rewrite, answer),
            (Step::HearBare(_), Phase::Answered(rewrite, _)) => {
                self.hear(state, w, rewrite, Answer::ConditionFailed(None));
            }
            (Step::ReadByKey(_), Phase::Unseen(rewrite) | Phase::Ready(rewrite)) => {
                self.look_again(state, w, rewrite, state.item);
            }
            (Step::Record(_), _) => {
                state.workers[w].ledger = true;
                state.workers[w].phase = Phase::Closing { failed: true };
                if state.workers[w].passed {
                    state.workers[w].phase = Phase::Done;
                }
            }
            (Step::Checkpoint(_), Phase::Closing { failed }) => {
                let worker = &mut state.workers[w];
                // A ledger entry of an item that is seen done closes together with the checkpoint.
                (worker.passed, worker.ledger, worker.phase) = (true, worker.ledger && failed, Phase::Done);
                state.release(w);
            }
            // Too early, where rule A was taken away.
            (Step::Checkpoint(_), _) => state.workers[w].passed = true,
            (Step::Crash(_), _) => state.crash(w),
            (Step::CrashUnderWay(_), Phase::Ready(rewrite)) => {
                state.late = Some((w, rewrite));
                state.crash(w);
            }
            (Step::TakeOver(_), _) => {
                state.workers[w].suspended = true;
                state.holder = None;
            }
            (Step::End(_), _) => {
                state.workers[w].suspended = false;
                state.workers[w].phase = Phase::Idle;
            }
            _ => return None,
        }
        Some(())
    }
}

impl State {
    /// A nonce that nothing holds any more: equal to none that matters.
    fn fresh(&self) -> Nonce {
        let rewrites = self.workers.iter().filter_map(|worker| match worker.phase {
            Phase::Ready(rewrite) | Phase::Answered(rewrite, _) | Phase::Unseen(rewrite) => Some(rewrite),
            _ => None,
        });
        let rewrites = rewrites.chain(self.late.map(|(_, rewrite)| rewrite));
        let answers = self.workers.iter().filter_map(|worker| match worker.phase {
            Phase::Answered(_, Answer::ConditionFailed(item)) => item,
            _ => None,
        });
        let items = rewrites.flat_map(|rewrite| [rewrite.before, rewrite.after]).chain(answers).chain(self.item);
        // 0 is that of the first item, which may be put back.
        let used =
            items.flat_map(|item| item.nonces().collect::<Vec<_>>()).fold(1_u32, |used, nonce| used | 1 << nonce);
        used.trailing_ones() as Nonce
    }

    fn crash(&mut self, w: usize) {
        self.crashes_left -= 1;
        let worker = &mut self.workers[w];
        (worker.phase, worker.looks, worker.suspended) = (Phase::Idle, 0, false);
        if worker.passed {
            worker.phase = Phase::Done;
        }
        self.release(w);
    }

    fn release(&mut self, w: usize) {
        if self.holder == Some(w) {
            self.holder = None;
        }
    }
}

/// What applications put: nothing at all but the unsigned attribute; the secret with the note; either secret alone.
fn contents(count: u8) -> [Contents; 4] {
    let mut items = [[None, None, Some(count)]; 4];
    (items[1][SECRET], items[1][NOTE]) = (Some(0), Some(0));
    (items[2][SECRET], items[3][SECRET]) = (Some(1), Some(0));
    items
}

impl Model for World {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let worker = Worker {
            phase: Phase::Idle,
            looks: 0,
            passed: false,
            ledger: false,
            suspended: false,
            was_done: false,
            undisturbed: false,
        };
        let state = |item| State {
            item: Some(item),
            intended: self.schema.open(&item),
            workers: [worker; 2],
            late: None,
            holder: None,
            application_left: self.application,
            crashes_left: self.crashes,
            losses_left: self.losses,
            went_back: false,
            hid: false,
        };
        self.first_items().map(state).collect()
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for w in 0..2 {
            self.worker_steps(state, w, steps);
        }
        if state.late.is_some() {
            steps.push(Step::Late);
        }
        self.application_steps(state, steps);
        for w in 0..2 {
            self.faults(state, w, steps);
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = *last;
        match step {
            Step::Put(form, contents) => {
                let item = self.schema.seal(contents, form, last.fresh());
                self.put(&mut state, Some(item));
            }
            Step::PutOld => self.put(&mut state, self.first_items().last()),
            Step::Delete => self.put(&mut state, None),
            Step::Count => {
                let mut item = state.item?;
                item.fields[COUNT] = match item.fields[COUNT]? {
                    Field::Clear(count) => Some(Field::Clear(1 - count)),
                    Field::Cipher(..) => return None,
                };
                let intended = state.intended.map(|mut intended| {
                    intended[COUNT] = intended[COUNT].map(|count| 1 - count);
                    intended
                });
                self.put(&mut state, Some(item));
                state.intended = intended;
            }
            Step::Raw(attribute) => {
                let mut item = last.item?;
                item.fields[attribute] = Some(Field::Clear(1));
                self.put(&mut state, Some(item));
            }
            Step::Late => {
                let (w, rewrite) = state.late.take()?;
                self.decide(&mut state, w, &rewrite);
            }
            Step::Read(w)
            | Step::Arrive(w)
            | Step::LoseRequest(w)
            | Step::TimeOut(w)
            | Step::Hear(w)
            | Step::HearBare(w)
            | Step::LoseAnswer(w)
            | Step::Refuse(w)
            | Step::ReadByKey(w)
            | Step::Record(w)
            | Step::Checkpoint(w)
            | Step::Crash(w)
            | Step::CrashUnderWay(w)
            | Step::TakeOver(w)
            | Step::End(w) => self.worker_step(&mut state, w, step)?,
        }
        for (worker, target) in state.workers.iter_mut().zip(self.targets) {
            worker.was_done |= worker.phase != Phase::Idle && self.at_target(state.item.as_ref(), target);
            if !matches!(worker.phase, Phase::Ready(_) | Phase::Answered(..) | Phase::Unseen(_)) {
                worker.looks = 0;
            }
        }
        Some(self.representative(state))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        match self.only {
            Some(only) => Self::demands().into_iter().filter(|property| property.name == only).collect(),
            None => Self::demands().into_iter().chain(self.sights()).collect(),
        }
    }
}
