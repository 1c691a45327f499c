//! Whoever knows what must be true: the applications' side of the table, and the invariants.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::keys::{DENIED_AFTER_GRANTS, SimKms};
use super::table::{Kind, Witness};
use super::trail::{Reading, Trail};
use super::world::{Act, Form, SECRET, UNNAMED, What, When, World, number_value};
use crate::crypto::{KEY_BYTES, Secret};
use crate::format::dbesdk::{self, FOOT, HEAD, Inspection, Sealed};
use crate::item::{Item, Key, Value};
use crate::keyring::KeyringError;
use crate::migration::{Depth, Failure, LineageChange, LineageRows, Policy, Rewrite, Target, Verdict};
use crate::pipeline::{Event, Observer};
use crate::store::{Checkpoint, Commit, Cursor, Journal, JournalError, Pass, Record, Scan};
use crate::testing::{MemoryJournal, MemoryShards, MemoryTable, View};

/// What the applications know of an item.
#[derive(Clone)]
enum Truth {
    /// Readers must see this.
    Readable(Item),
    /// An application broke a sealed item by writing into it. Nobody may touch it again, applications aside.
    Spoiled(Item),
}

/// Something that must never happen has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant, by its number in docs/SAFETY.md.
    pub invariant: u8,
    /// What happened.
    pub what: String,
}

/// Acts as the applications, and sees that what they wrote stays.
pub(super) struct Watch {
    pub(super) world: World,
    pub(super) policy: Policy,
    pub(super) table: Arc<MemoryTable>,
    pub(super) kms: SimKms,
    /// Cancelled at the first violation.
    pub(super) violated: CancellationToken,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the text of the key.
    truth: BTreeMap<String, Truth>,
    /// What each item was, oldest first.
    past: BTreeMap<String, Vec<(Item, Truth)>>,
    /// When an application wrote the item last, in steps.
    touched: BTreeMap<String, u64>,
    /// When a page was read last, in steps, by segment and the key it ends with.
    pages: BTreeMap<(u32, String), u64>,
    /// Items as they were read, and when, in steps.
    reads: BTreeMap<String, Vec<(u64, Item)>>,
    acts: Vec<Act>,
    /// Everything that happened, counted.
    step: u64,
    /// Rewrites, items read and batches of records, that the moments of acts count.
    moments: [u64; 4],
    /// Seconds and units.
    consumed: BTreeMap<Kind, Vec<(f64, f64)>>,
    written: u64,
    acted: u64,
    /// Whole items and attributes written by applications.
    put: u64,
    /// The table's stream, and whatever is known of it.
    stream: Option<Arc<MemoryShards>>,
    trail: Trail,
    /// Of an item that an application broke: the record that says so.
    broken: BTreeMap<String, usize>,
    /// When each process began, in steps, and the version of the target's key that was active then.
    processes: Vec<(u64, u32)>,
    /// The header that each intermediate key served for.
    served: BTreeMap<[u8; KEY_BYTES], Value>,
    /// When the first page of each pass was read, in steps; and a pass that has begun, of which none was.
    passes: BTreeMap<u32, u64>,
    begun: Option<u32>,
    /// The pass that ended last.
    ended: PassEnded,
    violation: Option<Violation>,
    trace: Option<Vec<String>>,
    said: Vec<String>,
}

/// A pass that has ended, in steps; and the records by then.
#[derive(Debug, Clone, Copy, Default)]
struct PassEnded {
    began: u64,
    ended: u64,
    told: usize,
}

/// What a process said that it did, and what must hold then for everything that was written by a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// Passes: everything written before the last of them began.
    Passes,
    /// Passes and the stream beside them: everything written before the last of them ended.
    PassesAndStream,
    /// The stream alone: every record by the process's begin, when there were so many.
    Stream(usize),
}

const MOMENTS: [fn(u64) -> When; 4] = [When::BeforeWrite, When::AfterWrite, When::AfterRead, When::AfterRecords];

impl State {
    /// Takes in what the stream told.
    fn sync(&mut self) {
        if let Some(stream) = &self.stream {
            self.trail.sync(stream);
        }
    }

    /// The version of the target's key that was active when the process began that worked at a step.
    fn version_at(&self, step: u64) -> u32 {
        self.processes.iter().rev().find(|(began, _)| *began <= step).map_or(0, |(_, version)| *version)
    }

    /// The same for the latest process.
    fn version(&self) -> u32 {
        self.version_at(u64::MAX)
    }
}

impl Watch {
    /// Fills the table, which tells the world's stream from then on.
    pub(super) fn new(world: &World, policy: Policy, table: Arc<MemoryTable>, kms: SimKms, traced: bool) -> Self {
        let watch = Self {
            world: world.clone(),
            policy,
            table,
            kms,
            violated: CancellationToken::new(),
            began: Instant::now(),
            state: Mutex::default(),
        };
        {
            let mut state = watch.state();
            state.trace = traced.then(Vec::new);
            for (number, form) in world.items.iter().enumerate() {
                watch.put(&mut state, number, *form);
            }
            state.acts.clone_from(&world.acts);
            if let Some(stream) = &world.stream {
                let shards = MemoryShards::new(stream.view);
                shards.limit_pages(stream.pages.0, stream.pages.1);
                watch.enable(&mut state, shards);
            }
        }
        watch
    }

    /// Gives the table a stream.
    fn enable(&self, state: &mut State, stream: MemoryShards) {
        let stream = Arc::new(stream);
        self.table.set_stream(Arc::clone(&stream));
        state.trail.replaced();
        state.stream = Some(stream);
    }

    /// The table's stream, for a process that begins and wants to read it; one that was disabled is replaced.
    pub(super) fn stream(&self) -> Option<Arc<MemoryShards>> {
        let mut state = self.state();
        state.trail.process();
        let stream = state.stream.clone()?;
        if stream.is_disabled() {
            state.sync();
            self.enable(&mut state, stream.successor());
        }
        state.stream.clone()
    }

    /// A process begins, and its keyrings are made.
    pub(super) fn process(&self) {
        let (mut state, version) = (self.state(), self.kms.process());
        state.step += 1;
        let step = state.step;
        state.processes.push((step, version));
    }

    /// Records that the stream told so far.
    pub(super) fn told(&self) -> usize {
        let mut state = self.state();
        state.sync();
        state.trail.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was violated first.
    pub(super) fn violation(&self) -> Option<Violation> {
        self.state().violation.clone()
    }

    pub(super) fn trace(&self) -> Vec<String> {
        self.state().trace.take().unwrap_or_default()
    }

    /// Writes of the engine that took effect, and acts of applications.
    pub(super) fn counts(&self) -> (u64, u64) {
        let state = self.state();
        (state.written, state.acted)
    }

    /// Records of the stream whose outcome is durable, those whose loss is, and gaps.
    pub(super) fn records(&self) -> (u64, u64, u64) {
        self.state().trail.counts()
    }

    /// From now on applications do this and nothing else; times are from now.
    pub(super) fn go_on_with(self: &Arc<Self>, acts: &[Act]) -> tokio::task::JoinHandle<()> {
        let mut state = self.state();
        state.acts = acts.to_vec();
        state.moments = [0; 4];
        drop(state);
        tokio::spawn(Arc::clone(self).act_by_the_clock(acts.to_vec()))
    }

    /// Everything that was said aloud.
    pub(super) fn said(&self) -> Vec<String> {
        self.state().said.clone()
    }

    pub(super) fn violate(&self, invariant: u8, what: impl Into<String>) {
        self.fail(&mut self.state(), invariant, what);
    }

    fn fail(&self, state: &mut State, invariant: u8, what: impl Into<String>) {
        let what = what.into();
        self.note(state, || format!("VIOLATION {invariant}: {what}"));
        state.violation.get_or_insert(Violation { invariant, what });
        self.violated.cancel();
    }

    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        self.note(&mut self.state(), what);
    }

    fn note(&self, state: &mut State, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut state.trace {
            trace.push(format!("{:>7} ms  {}", self.began.elapsed().as_millis(), what()));
        }
    }

    /// The acts that have their own time, one after the other.
    pub(super) async fn act_by_the_clock(self: Arc<Self>, acts: Vec<Act>) {
        let began = Instant::now();
        let at = |act: &Act| match act.when {
            When::At(ms) => Some(ms),
            _ => None,
        };
        let mut acts: Vec<(u64, Act)> = acts.into_iter().filter_map(|act| Some((at(&act)?, act))).collect();
        acts.sort_by_key(|(ms, _)| *ms);
        for (ms, act) in acts {
            tokio::time::sleep_until(began + Duration::from_millis(ms)).await;
            let mut state = self.state();
            let key = self.key(act.item);
            self.act(&mut state, act.what, &key, act.item);
        }
    }

    /// In most worlds with a stream a shard splits now, and an application writes.
    pub(super) fn split(&self) {
        if self.world.stream.as_ref().is_some_and(|stream| !stream.last.is_empty()) {
            let (mut state, key) = (self.state(), self.key(0));
            self.act(&mut state, What::Split(2), &key, 0);
            self.act(&mut state, What::Put(self.world.items[0]), &key, 0);
        }
    }

    fn key(&self, number: usize) -> Key {
        self.table.keys().key_of(&self.world.item(number, 0, Form::Plain)).expect("items are made with their keys")
    }

    /// The number of the item with this key.
    fn number(&self, key: &Key) -> usize {
        (0..self.world.items.len()).find(|number| self.key(*number) == *key).unwrap_or(0)
    }

    /// Does what applications do at this moment.
    fn moment(&self, state: &mut State, kind: usize, key: &Key) {
        let when = MOMENTS[kind](state.moments[kind]);
        state.moments[kind] += 1;
        let due: Vec<Act> = state.acts.iter().filter(|act| act.when == when).cloned().collect();
        for act in due {
            self.act(state, act.what, key, self.number(key));
        }
    }

    fn act(&self, state: &mut State, what: What, key: &Key, number: usize) {
        state.step += 1;
        state.acted += 1;
        let text = key.to_string();
        self.note(state, || format!("application: {what:?} {text}"));
        let before = self.table.peek(key);
        match what {
            What::Jump(seconds) => super::set_clock(seconds),
            What::NewVersion => {
                self.kms.activate();
                // Each item may be written once more.
                state.put += self.table.items().len() as u64;
            }
            What::Split(children) => {
                let Some(stream) = &state.stream else { return };
                if let Some(shard) = stream.open().get(number % stream.open().len().max(1)) {
                    let children = stream.split(shard, children.max(1));
                    // In some worlds nobody hears of them at first.
                    let late = if self.world.weather.listings > 0 { state.step % 4 } else { 0 };
                    for child in &children {
                        stream.leave_out(child, late as u32);
                    }
                    self.note(state, || format!("{children:?} continue a shard"));
                }
            }
            What::Disable => state.stream.iter().for_each(|stream| stream.disable()),
            What::Renew => {
                let Some(stream) = state.stream.clone() else { return };
                state.sync();
                self.enable(state, stream.successor());
            }
            What::Put(form) => self.put(state, number, form),
            What::PutBack(writes) => {
                let past = state.past.get(&text).map_or(&[][..], Vec::as_slice);
                let Some((item, truth)) = past.len().checked_sub(writes).and_then(|at| past.get(at)).cloned() else {
                    return;
                };
                self.set(state, key, Some((item, truth)));
            }
            What::Amend => {
                let Some(Truth::Readable(mut item)) = state.truth.get(&text).cloned() else { return };
                if item.remove("note").is_none() {
                    item.insert("note", Value::from(format!("{SECRET}{}", state.step).as_str()));
                }
                self.set(state, key, Some((item.clone(), Truth::Readable(item))));
            }
            What::Delete => self.set(state, key, None),
            What::Touch => {
                let (Some(mut item), Some(mut truth)) = (before, state.truth.get(&text).cloned()) else { return };
                let value = number_value(1000 + state.step);
                item.insert("visits", value.clone());
                match &mut truth {
                    Truth::Readable(seen) | Truth::Spoiled(seen) => drop(seen.insert("visits", value)),
                }
                self.set(state, key, Some((item, truth)));
            }
            What::RawSet(_) | What::RawNew => {
                let Some(mut item) = before else { return };
                let (name, value) = match what {
                    What::RawSet(name) => (name, Value::from(format!("raw{}", state.step).as_str())),
                    _ => (UNNAMED, Value::from("x")),
                };
                item.insert(name, value);
                let truth = self.open(&item).map_or_else(|| Truth::Spoiled(item.clone()), Truth::Readable);
                let spoiled = matches!(truth, Truth::Spoiled(_));
                self.set(state, key, Some((item, truth)));
                if let Some(record) = state.trail.last(&text).filter(|_| spoiled) {
                    state.broken.insert(text, record);
                }
            }
        }
    }

    /// Puts a whole item with content of its own.
    fn put(&self, state: &mut State, number: usize, form: Form) {
        state.step += 1;
        let plain = self.world.item(number, state.step, form);
        let key = self.key(number);
        let item = match form {
            Form::Old | Form::New | Form::Replica => self.sealed(&plain, form),
            Form::Plain | Form::Unnamed | Form::Large => Some(plain.clone()),
        };
        let Some(item) = item else { return };
        self.set(state, &key, Some((item, Truth::Readable(plain))));
    }

    /// An application's write, whatever it is.
    fn set(&self, state: &mut State, key: &Key, now: Option<(Item, Truth)>) {
        let text = key.to_string();
        state.touched.insert(text.clone(), state.step);
        state.sync();
        let records = state.trail.len();
        if let Some((item, truth)) = now {
            state.put += 1;
            self.serves(state, &item);
            state.past.entry(text.clone()).or_default().push((item.clone(), truth.clone()));
            let before = self.table.put(item.clone()).expect("items are made with their keys");
            state.truth.insert(text.clone(), truth);
            if before.as_ref().and_then(|before| before.get(FOOT)) != item.get(FOOT) {
                // As it is now, no record shows what is wrong with it.
                state.broken.remove(&text);
            }
            if before.is_some_and(|before| before.same(&item)) {
                return;
            }
        } else {
            self.table.delete(key);
            state.truth.remove(&text);
        }
        state.sync();
        if state.trail.len() == records {
            state.trail.untold(&text);
        }
    }

    /// The item sealed, as a client would that was switched to the form.
    fn sealed(&self, plain: &Item, form: Form) -> Option<Item> {
        let prepared = dbesdk::prepare(&self.world.schema(form), self.world.suite(form), plain).ok()?;
        let wrapped = self.kms.make(World::key_of(form), &prepared.context);
        let message_id = *Secret::random().expose();
        dbesdk::seal(plain, prepared, &Secret::random(), message_id, &[wrapped]).ok()
    }

    /// The item as readers see it that accept plaintext and both keys; `None` when they cannot read it.
    pub(super) fn open(&self, item: &Item) -> Option<Item> {
        let Inspection::Sealed(sealed) = dbesdk::inspect(&self.policy.schema, item).ok()? else {
            return Some(item.clone());
        };
        dbesdk::open(item, &sealed, 0, &self.intermediate(&sealed)?).ok()
    }

    /// A sealed item's message id and data key; `None` when it is not sealed, or does not verify.
    pub(super) fn data_key(&self, item: &Item) -> Option<([u8; 32], Secret)> {
        let Inspection::Sealed(sealed) = dbesdk::inspect(&self.policy.schema, item).ok()? else { return None };
        let data_key = dbesdk::authenticate(item, &sealed, 0, &self.intermediate(&sealed)?).ok()?;
        Some((sealed.head.message_id, data_key))
    }

    fn intermediate(&self, sealed: &Sealed) -> Option<Secret> {
        self.kms.look_up(sealed.head.edks.first()?.wrapped()?, &sealed.context)
    }

    /// Of an item that an application broke: as it was when it was sealed, if an application did that.
    pub(super) fn whole(&self, broken: &Item) -> Option<Item> {
        let key = self.table.keys().key_of(broken).ok()?.to_string();
        let past = self.state().past.get(&key).cloned()?;
        let was = |item: &&Item| item.get(HEAD) == broken.get(HEAD) && self.data_key(item).is_some();
        past.iter().map(|(item, _)| item).find(was).cloned()
    }

    /// Invariant 17: each intermediate key serves for one header.
    fn serves(&self, state: &mut State, item: &Item) {
        let Ok(Inspection::Sealed(sealed)) = dbesdk::inspect(&self.policy.schema, item) else { return };
        let (Some(key), Some(head)) = (self.intermediate(&sealed), item.get(HEAD)) else { return };
        if state.served.entry(*key.expose()).or_insert_with(|| head.clone()) != head {
            self.fail(state, 17, "an intermediate key serves again");
        }
    }

    /// Invariant 18: a sealed item was changed as deep as the job says. Says what is wrong.
    fn wrong_depth(&self, rewrite: &Rewrite, before: &Item, after: &Item) -> Option<&'static str> {
        let ((old_id, old_key), (new_id, new_key)) = self.data_key(before).zip(self.data_key(after))?;
        let more = rewrite
            .remove
            .iter()
            .chain(rewrite.set.iter().map(|(name, _)| name))
            .any(|name| name != HEAD && name != FOOT);
        match self.policy.depth {
            Depth::Rewrap if more => Some("a rewrap changed more than header and footer"),
            Depth::Rewrap if old_id != new_id || old_key != new_key => Some("a rewrap changed the data key"),
            Depth::Reencrypt if old_id == new_id || old_key == new_key => Some("the data key was kept"),
            _ => None,
        }
    }

    /// Whether the rewrite was right for what was read, and takes nothing from what the application did wrong since: no
    /// condition can say "no other attribute", and of what the old signature covered only the rest is asked about.
    /// What is read broken is right for nobody who does not know from the stream what it was.
    fn made_for(&self, rewrite: &Rewrite, image: &Item, now: &Item) -> bool {
        let touched = rewrite.set.iter().map(|(name, _)| name).chain(&rewrite.remove);
        let both = self.world.stream.as_ref().is_some_and(|stream| stream.view == View::NewAndOldImages);
        rewrite.holds_for(image)
            && (both || self.open(image).is_some())
            && self.open(&rewrite.applied_to(image)).is_some()
            && touched.into_iter().all(|name| image.get(name) == now.get(name))
    }

    /// Whether nobody is given the key of an item: its entry in the ledger cannot be closed by opening it.
    fn denied(&self, item: &Item) -> bool {
        let inspected = dbesdk::inspect(&self.policy.schema, item);
        matches!(inspected, Ok(Inspection::Sealed(sealed)) if self.kms.denies(&sealed.context))
    }

    /// Whether an item is at target, under a version of its key that is this one or newer.
    fn at_target(&self, item: &Item, version: u32) -> bool {
        match self.policy.classify(item) {
            Ok(Verdict::Current(None)) => true,
            Ok(Verdict::Current(Some(sealed))) => {
                let found = sealed.head.edks.first().and_then(|edk| self.kms.version(edk.wrapped()?.ciphertext));
                found.is_some_and(|found| found >= version)
            }
            _ => false,
        }
    }

    /// Whether applications of this world add an attribute that nobody configured while the run goes on.
    fn late_attributes(&self) -> bool {
        let last = self.world.stream.iter().flat_map(|stream| &stream.last);
        self.world.acts.iter().chain(last).any(|act| act.what == What::RawNew)
    }

    /// Invariant 5 and the end of all others: when nothing more happens, everything is at target or in the ledger.
    pub(super) async fn demand_end(&self, journal: &MemoryJournal) {
        let failures = journal.open_failures().await.unwrap_or_default();
        let ledger: Vec<String> = failures.iter().map(|failure| failure.key.to_string()).collect();
        let mut state = self.state();
        let (truth, version) = (state.truth.clone(), state.version());
        let items = self.table.items();
        if items.len() != truth.len() {
            self.fail(&mut state, 1, format!("{} items where there should be {}", items.len(), truth.len()));
        }
        for item in items {
            let Ok(key) = self.table.keys().key_of(&item).map(|key| key.to_string()) else { continue };
            let listed = ledger.contains(&key);
            let done = self.at_target(&item, version);
            match truth.get(&key) {
                None => self.fail(&mut state, 2, format!("{key} is there again")),
                Some(Truth::Spoiled(left)) if *left != item => {
                    self.fail(&mut state, 3, format!("{key} was mixed, and was touched"));
                }
                Some(Truth::Readable(seen)) if !self.open(&item).is_some_and(|opened| opened.same(seen)) => {
                    self.fail(&mut state, 3, format!("{key} does not open to what was written last"));
                }
                Some(_) if !done && !listed => {
                    self.fail(&mut state, 5, format!("{key} is neither at target nor in the ledger"));
                }
                Some(Truth::Readable(_)) if done && listed && !self.denied(&item) => {
                    self.fail(&mut state, 5, format!("{key} is at target, and in the ledger"));
                }
                Some(_) => {}
            }
        }
        if let Some(gone) = ledger.iter().find(|key| !truth.contains_key(*key)) {
            self.fail(&mut state, 5, format!("{gone} is gone, and in the ledger"));
        }
        let most = state.put;
        if state.written > most {
            let written = state.written;
            self.fail(&mut state, 6, format!("{written} writes where {most} would do"));
        }
    }

    /// Invariant 16: what a process claims that says it is complete. `open` is the failure ledger.
    pub(super) async fn demand(&self, claim: Claim, journal: &MemoryJournal) {
        let failures = journal.open_failures().await.unwrap_or_default();
        let ledger: Vec<String> = failures.iter().map(|failure| failure.key.to_string()).collect();
        let mut state = self.state();
        state.sync();
        let PassEnded { began, ended, told } = state.ended;
        let (moment, told) = match claim {
            Claim::Passes => (began, 0),
            Claim::PassesAndStream => (ended, told),
            Claim::Stream(told) => (0, told),
        };
        if claim != Claim::Passes
            && let Some((invariant, what)) = state.trail.complete(claim, began, told)
        {
            return self.fail(&mut state, invariant, what);
        }
        for item in self.table.items() {
            let Ok(key) = self.table.keys().key_of(&item).map(|key| key.to_string()) else { continue };
            let before = state.touched.get(&key).is_none_or(|step| *step < moment);
            if before && !self.at_target(&item, state.version()) && !ledger.contains(&key) {
                self.fail(&mut state, 16, format!("{key} was written before the moment, and is not at target"));
            }
            if self.was_shown_broken(&state, &key, &item) && !ledger.contains(&key) {
                self.fail(&mut state, 12, format!("the stream showed {key} mixed, which is not in the ledger"));
            }
        }
    }

    /// Invariant 19: a process that ends over a denial was granted nothing of the kind before.
    pub(super) fn demand_denial(&self, error: &KeyringError) {
        if error.problem == DENIED_AFTER_GRANTS {
            self.violate(19, format!("a process ends because {} was denied for an item", error.key));
        }
    }

    /// Invariant 19: a process that is done was granted something of each kind that it was denied often.
    pub(super) fn demand_grants(&self) {
        if let Some(what) = self.kms.only_denied() {
            self.violate(19, format!("a process that was only denied {what} goes on"));
        }
    }

    /// How many items a reader of the target alone can read, and how many there are.
    pub(super) fn readable(&self) -> (u64, u64) {
        let (items, version) = (self.table.items(), self.state().version());
        let opens = |item: &&Item| self.at_target(item, version) && self.open(item).is_some();
        (items.iter().filter(opens).count() as u64, items.len() as u64)
    }

    /// Invariant 8: what was consumed fits a bucket of one second's worth that fills at the budget's rate.
    pub(super) fn demand_budgets(&self) {
        let mut state = self.state();
        let consumed = std::mem::take(&mut state.consumed);
        let pages = f64::from(self.world.pace.segments) * self.world.pace.pages_in_flight as f64;
        let [read, write, keys] = self.world.pace.budgets;
        // A page of a scan is taken at the price of the one before. What one costs that is 50 times as large becomes known
        // when it is there, and a process that dies then pays no debts.
        let read = read.filter(|_| !self.world.items.contains(&Form::Large));
        for (kind, budget, slack) in
            [(Kind::Read, read, 2.0 * pages), (Kind::Write, write, 0.2), (Kind::Keys, keys, 0.2)]
        {
            let Some(budget) = budget else { continue };
            let rate = f64::from(budget);
            let mut calls = consumed.get(&kind).cloned().unwrap_or_default();
            calls.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            let (mut level, mut last) = (rate, 0.0);
            for (at, units) in calls {
                level = (level + rate * (at - last)).min(rate) - units;
                last = at;
                // One item may cost more than a second's worth.
                if level < -slack && units <= rate {
                    self.fail(
                        &mut state,
                        8,
                        format!("{kind:?}: {:.1} units beyond {rate} per second at {at:.3} s", -level),
                    );
                    break;
                }
            }
        }
    }
}

/// Seen at the stream.
impl Watch {
    /// The first page of a listing is answered.
    pub(super) fn listing(&self) {
        let mut state = self.state();
        state.sync();
        state.trail.listing();
    }

    /// A process asks for records of a shard, until what is given back is dropped.
    pub(super) fn reading(self: &Arc<Self>, shard: &str) -> Reading<'_> {
        let mut state = self.state();
        if let Some(what) = state.trail.reading(shard) {
            self.fail(&mut state, 15, what);
        }
        Reading { watch: self, shard: shard.to_owned() }
    }

    pub(super) fn read(&self, shard: &str) {
        self.state().trail.read(shard);
    }

    /// Records were read, and are on their way to the engine.
    pub(super) fn read_records(&self, records: &[Record]) {
        let mut state = self.state();
        state.step += 1;
        let step = state.step;
        for Record { key, new, .. } in records {
            state.reads.entry(key.to_string()).or_default().extend(new.clone().map(|new| (step, new)));
        }
        if let Some(record) = records.first() {
            self.moment(&mut state, 3, &record.key);
        }
    }

    /// A process asks where to begin with a shard.
    pub(super) fn begins(&self, stream: &MemoryShards, shard: &str) {
        let mut state = self.state();
        if let Some(what) = state.trail.begins(stream, shard) {
            self.fail(&mut state, 13, what);
        }
    }

    /// A process was given records of a shard.
    pub(super) fn handed(&self, shard: &str, records: &[Record]) {
        let mut state = self.state();
        state.sync();
        let sequences: Vec<&str> = records.iter().map(|record| record.sequence.as_str()).collect();
        self.note(&mut state, || format!("records of {shard}: {sequences:?}"));
        state.trail.handed(records);
    }

    /// Invariants 11, 12 and 14: a checkpoint is durable.
    fn demand_checkpoint(&self, change: &LineageChange, ledger: &[String]) {
        let mut state = self.state();
        state.sync();
        state.step += 1;
        let (step, began) = (state.step, state.ended.began);
        self.note(&mut state, || format!("checkpoint {change:?}"));
        let Some(now) = state.stream.as_ref().map(|stream| stream.now()) else { return };
        let (passed, wrong) = state.trail.checkpoint(change, now, (step, began));
        for (invariant, what) in wrong {
            self.fail(&mut state, invariant, what);
        }
        for index in passed {
            let key = state.trail.record(index).key.clone();
            let text = key.to_string();
            let Some(item) = self.table.peek(&key) else { continue };
            // What was done to it since has a record of its own.
            if state.trail.last(&text) != Some(index) || ledger.contains(&text) {
                continue;
            }
            if !self.at_target(&item, state.version()) {
                self.fail(&mut state, 12, format!("a record of {text} was passed, which is not done"));
            } else if self.was_shown_broken(&state, &text, &item) {
                self.fail(
                    &mut state,
                    12,
                    format!("a record was passed that shows {text} mixed, which is not in the ledger"),
                );
            }
        }
    }

    /// Whether the stream shows that an item is mixed, to whoever looks at each record of it, or at the last ones.
    fn was_shown_broken(&self, state: &State, key: &str, item: &Item) -> bool {
        let both = self.world.stream.as_ref().is_some_and(|stream| stream.view == View::NewAndOldImages);
        let (Some(Truth::Spoiled(_)), Some(record)) = (state.truth.get(key), state.broken.get(key)) else {
            return false;
        };
        let then = state.trail.record(*record).new.as_ref().and_then(|new| new.get(FOOT));
        both && then.is_some() && state.trail.is_done(*record) && item.get(FOOT) == then
    }
}

impl Witness for Watch {
    fn read(&self, item: &Item) {
        let Ok(key) = self.table.keys().key_of(item) else { return };
        let mut state = self.state();
        state.step += 1;
        let step = state.step;
        state.reads.entry(key.to_string()).or_default().push((step, item.clone()));
        self.moment(&mut state, 2, &key);
    }

    fn page(&self, scan: &Scan, next: Option<&Key>) {
        let mut state = self.state();
        state.step += 1;
        let (step, end) = (state.step, next.map_or_else(String::new, Key::to_string));
        self.note(&mut state, || format!("page of segment {} up to {end:?}", scan.segment));
        if let Some(number) = state.begun.take() {
            state.passes.insert(number, step);
        }
        state.pages.insert((scan.segment, end), step);
    }

    fn sent(&self) -> u64 {
        self.state().step
    }

    fn before(&self, rewrite: &Rewrite) {
        self.moment(&mut self.state(), 0, &rewrite.key);
    }

    fn written(&self, rewrite: &Rewrite, sent: u64, before: Option<&Item>, after: &Item) {
        let mut state = self.state();
        state.step += 1;
        state.written += 1;
        let key = rewrite.key.to_string();
        self.note(&mut state, || format!("written {key}"));
        if self.world.weather.ignores_conditions || self.world.weather.keys_damaged {
            return self.fail(&mut state, 1, format!("{key} was written on ground that is not solid"));
        }
        let (Some(before), Some(truth)) = (before, state.truth.get(&key).cloned()) else {
            return self.fail(&mut state, 2, format!("{key} was deleted, and was written"));
        };
        let mixed = matches!(truth, Truth::Spoiled(_)) || (after.contains(UNNAMED) && self.late_attributes());
        let reads = state.reads.get(&key).map_or(&[][..], Vec::as_slice);
        if mixed && reads.iter().any(|(step, image)| *step <= sent && self.made_for(rewrite, image, before)) {
            let truth = self.open(after).map_or_else(|| Truth::Spoiled(after.clone()), Truth::Readable);
            state.truth.insert(key, truth);
            return;
        }
        let Truth::Readable(seen) = truth else {
            return self.fail(&mut state, 3, format!("{key} is mixed, and was written"));
        };
        let version = state.version_at(sent);
        if self.at_target(before, version) {
            return self.fail(&mut state, 4, format!("{key} was at target, and was written"));
        }
        match self.open(after) {
            Some(opened) if opened.same(&seen) => {}
            Some(_) => return self.fail(&mut state, 1, format!("{key} opens to something else than was written last")),
            None => return self.fail(&mut state, 3, format!("{key} cannot be read")),
        }
        if !self.at_target(after, version) {
            return self.fail(&mut state, 4, format!("{key} was written and is not at target"));
        }
        if let Some(what) = self.wrong_depth(rewrite, before, after) {
            return self.fail(&mut state, 18, format!("{key}: {what}"));
        }
        self.serves(&mut state, after);
    }

    fn after(&self, rewrite: &Rewrite) {
        self.moment(&mut self.state(), 1, &rewrite.key);
    }

    fn consumed(&self, kind: Kind, at: Instant, units: f64) {
        self.state().consumed.entry(kind).or_default().push(((at - self.began).as_secs_f64(), units));
    }
}

impl Observer for Watch {
    fn on(&self, event: &Event) {
        let mut state = self.state();
        let said = format!("{event:?} {}", serde_json::to_string(event).unwrap_or_default());
        self.note(&mut state, || format!("event {event:?}"));
        state.said.push(said);
        if let Event::PageDone { tally, .. } | Event::PassEnded { tally, .. } = event
            && !tally.balances()
        {
            self.fail(&mut state, 9, format!("{tally:?} does not balance"));
        }
    }
}

/// A journal that is looked at after every commit.
pub(super) struct Watched {
    pub(super) journal: Arc<MemoryJournal>,
    pub(super) watch: Arc<Watch>,
}

impl Watched {
    /// Invariant 7: every item that the cursor has passed is at target or in the ledger, unless it was written by an
    /// application after its page was read.
    async fn demand_cursor(&self, segment: u32, from: &Cursor, to: &Cursor) {
        let passes = self.journal.passes();
        let total_segments = passes.last().map_or(1, |pass| pass.cursors.len() as u32);
        let end = match to {
            Cursor::Start => return,
            Cursor::After(key) => key.to_string(),
            Cursor::End => String::new(),
        };
        let after = if let Cursor::After(key) = from { Some(key.clone()) } else { None };
        let scan = Scan { segment, total_segments, after, limit: None };
        let items = crate::store::Table::scan(self.watch.table.as_ref(), &scan).await.map(|page| page.items);
        let ledger: Vec<Key> =
            self.journal.open_failures().await.unwrap_or_default().into_iter().map(|failure| failure.key).collect();
        let mut state = self.watch.state();
        let read = state.pages.get(&(segment, end.clone())).copied().unwrap_or_default();
        for item in items.unwrap_or_default() {
            let Ok(key) = self.watch.table.keys().key_of(&item) else { continue };
            let text = key.to_string();
            let touched = state.touched.get(&text).is_some_and(|step| *step > read);
            let done = self.watch.at_target(&item, state.version());
            if (end.is_empty() || text <= end) && !touched && !done && !ledger.contains(&key) {
                self.watch.fail(&mut state, 7, format!("the cursor of segment {segment} has passed {text}"));
            }
        }
    }
}

#[async_trait]
impl Journal for Watched {
    async fn pass(&self) -> Result<Option<Pass>, JournalError> {
        self.journal.pass().await
    }

    async fn begin_pass(&self, segments: u32) -> Result<Pass, JournalError> {
        let pass = self.journal.begin_pass(segments).await?;
        let mut state = self.watch.state();
        state.step += 1;
        state.begun = Some(pass.number);
        drop(state);
        Ok(pass)
    }

    async fn commit(&self, commit: Commit) -> Result<(), JournalError> {
        let (segment, to) = (commit.segment, commit.cursor.clone());
        let from = self.journal.pass().await?.and_then(|pass| pass.cursors.get(segment as usize).cloned());
        self.journal.commit(commit).await?;
        self.watch.tell(|| format!("commit of segment {segment} up to {to:?}"));
        self.demand_cursor(segment, &from.unwrap_or(Cursor::Start), &to).await;
        Ok(())
    }

    async fn record(&self, failures: &[Failure], done: &[Key]) -> Result<(), JournalError> {
        self.journal.record(failures, done).await
    }

    async fn lineage(&self) -> Result<Option<LineageRows>, JournalError> {
        self.journal.lineage().await
    }

    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<(), JournalError> {
        let lineage = checkpoint.lineage.clone();
        self.journal.checkpoint(checkpoint).await?;
        let failures = self.journal.open_failures().await?;
        let ledger: Vec<String> = failures.iter().map(|failure| failure.key.to_string()).collect();
        self.watch.demand_checkpoint(&lineage, &ledger);
        Ok(())
    }

    async fn end_pass(&self) -> Result<(), JournalError> {
        self.journal.end_pass().await?;
        let mut state = self.watch.state();
        state.sync();
        state.step += 1;
        let began = self.journal.passes().last().and_then(|pass| state.passes.get(&pass.number).copied());
        let (ended, told) = (state.step, state.trail.len());
        state.ended = PassEnded { began: began.unwrap_or_default(), ended, told };
        Ok(())
    }

    async fn open_failures(&self) -> Result<Vec<Failure>, JournalError> {
        self.journal.open_failures().await
    }
}

/// What a job of this world wants of every item.
pub(super) fn policy(world: &World) -> Policy {
    let target = match world.job {
        super::Job::Unseal => Target::Plaintext,
        _ => Target::Dbesdk { suite: world.suite(Form::New), recipients: vec![world.wanted()] },
    };
    Policy {
        schema: world.schema(Form::New),
        accept_plaintext: true,
        accept_dbesdk: true,
        target,
        depth: if world.rotation.rewraps { Depth::Rewrap } else { Depth::Reencrypt },
    }
}
