//! The way of a page: classified, unwrapped, sealed, verified, written, every item accounted for.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use tokio::time::Instant;

use super::engine::{Drift, Engine, RunError};
use super::event::Event;
use super::keys::KeyFault;
use super::lane::Seen;
use super::writer::{BATCH_MAX, Sent};
use crate::crypto::{KEY_BYTES, Secret, WrappedKey};
use crate::format::dbesdk::{self, HEAD, Sealed};
use crate::item::{Item, Key};
use crate::migration::{Before, Failure, FailureKind, Policy, Refusal, Tally, Verdict, Verified, Work, guarded};

/// What became of a page's items.
#[derive(Debug, Default)]
pub(super) struct PageDone {
    pub(super) tally: Tally,
    pub(super) failures: Vec<Failure>,
    /// Items seen done that had an open ledger entry.
    pub(super) done: Vec<Key>,
    /// The places in the page of the items that were rewritten, and when they were seen to be.
    pub(super) rewritten: Vec<(usize, Instant)>,
    /// Entries in the failure ledger before the items were read: later ones do not close.
    pub(super) seen: u64,
    /// Whether items were left because no more may be rewritten: the cursor must not pass this page.
    pub(super) cut: bool,
}

/// What is held against an item that its bytes do not tell.
#[derive(Debug)]
pub(super) enum Doubt {
    /// Nothing: it is at target if its bytes say so.
    None,
    /// The ledger has an open entry of it: it is done if it opens, and otherwise the entry stays as it is.
    Entry,
    /// Somebody wrote into it after it was sealed: it is whole if it opens.
    Written,
    /// The same, and it was this before.
    Since(Arc<Before>),
}

/// An item on its way, as it was read last.
struct Task {
    /// Its place in the page.
    place: usize,
    item: Item,
    doubt: Doubt,
    /// How often it was looked at before.
    looks: u32,
    /// Whether it may be rewritten: it holds one of the run's tickets.
    ticket: bool,
}

impl Task {
    fn take_ticket(&mut self, engine: &Engine) -> bool {
        self.ticket = self.ticket || engine.ticket();
        self.ticket
    }

    /// What it was before somebody wrote into it, if it still is what became of that.
    fn before(&self) -> Option<&Arc<Before>> {
        match &self.doubt {
            Doubt::Since(before) => Some(before).filter(|before| before.became(&self.item)),
            _ => None,
        }
    }

    /// Gives its ticket back, if it holds one.
    fn not_rewritten(&self, engine: &Engine) {
        if self.ticket {
            engine.unused_ticket();
        }
    }
}

/// An item as sorted by its bytes.
enum Sorted {
    /// At target by its bytes.
    Current(Option<Box<Sealed>>),
    /// At target by its bytes, and in doubt.
    Doubtful(Box<Sealed>),
    Refused(Refusal),
    Ready(Ready),
    Sealed(Box<Sealed>),
}

/// What is known of an item once it is open: its plaintext where that differs from the item and was decrypted, and what is
/// to be made of it.
struct Ready {
    plain: Option<Item>,
    work: Work,
}

/// A rewrite that was verified, with the item that it was made for.
struct Made {
    task: Task,
    plain: Option<Item>,
    verified: Verified,
}

/// Brings one page to the target, as far as that is possible.
pub(super) async fn process(engine: Arc<Engine>, seen: Seen) -> Result<PageDone, RunError> {
    let Seen { items, drift } = seen;
    process_doubtful(engine, items.into_iter().map(|item| (item, Doubt::None)).collect(), drift).await
}

/// Brings items to the target that something may be held against. `read` is the drift of the clocks before they were.
pub(super) async fn process_doubtful(
    engine: Arc<Engine>,
    items: Vec<(Item, Doubt)>,
    read: Drift,
) -> Result<PageDone, RunError> {
    let mut page = PageDone { tally: Tally { scanned: items.len() as u64, ..Tally::default() }, ..PageDone::default() };
    page.seen = read.entries;
    let together = BATCH_MAX * engine.settings.writes_in_flight.max(1);
    let mut fresh = items.into_iter().enumerate().map(|(place, (item, doubt))| Task {
        place,
        item,
        doubt,
        looks: 0,
        ticket: false,
    });
    let (mut tasks, mut drift, mut waiting) = (Vec::new(), read, Vec::new());
    loop {
        if tasks.is_empty() {
            // As many as can be in flight as writes: a whole page would fall out of the processor's cache from step to
            // step. All that waits was read when the page was.
            (tasks, drift) = (fresh.by_ref().take(together).collect(), read);
        }
        if tasks.is_empty() {
            // Tickets of items that were not rewritten after all serve others.
            tasks = with_tickets(&engine, &mut waiting);
        }
        if tasks.is_empty() {
            break;
        }
        let ready = page.sort(&engine, tasks, &mut waiting).await?;
        let made = page.make(&engine, ready).await?;
        prove(&engine, &made).await?;
        // What is given back is read while this round is written.
        let read_from = engine.drift();
        tasks = page.write(&engine, made, drift).await?;
        drift = read_from;
    }
    page.tally.skipped = waiting.len() as u64;
    page.cut = !waiting.is_empty();
    debug_assert!(page.tally.balances(), "an item of a page has no outcome");
    Ok(page)
}

/// Takes tickets for items that wait for one, as far as there are any.
fn with_tickets(engine: &Engine, waiting: &mut Vec<Task>) -> Vec<Task> {
    let count = waiting.iter_mut().map_while(|task| task.take_ticket(engine).then_some(())).count();
    waiting.drain(..count).collect()
}

impl PageDone {
    /// Sorts items by their bytes and opens the sealed ones: what is given back is in plaintext and wants a rewrite.
    /// Items for which there is no ticket wait.
    async fn sort(
        &mut self,
        engine: &Arc<Engine>,
        mut tasks: Vec<Task>,
        waiting: &mut Vec<Task>,
    ) -> Result<Vec<(Task, Ready)>, RunError> {
        for task in tasks.iter_mut().filter(|task| matches!(task.doubt, Doubt::None)) {
            if is_open(engine, &task.item).is_some() {
                task.doubt = Doubt::Entry;
            }
        }
        let policy = Arc::clone(&engine.policy);
        let mut sorted = engine
            .settings
            .pool
            .run(move || {
                tasks
                    .into_iter()
                    .map(|task| {
                        let sorted = sort_one(&policy, &task);
                        (task, sorted.unwrap_or_else(Sorted::Refused))
                    })
                    .collect::<Vec<_>>()
            })
            .await?;
        look_deeper(engine, &mut sorted).await?;
        let (mut ready, mut sealed, mut doubtful) = (Vec::new(), Vec::new(), Vec::new());
        for (mut task, sorted) in sorted {
            if matches!(
                (&task.doubt, &sorted),
                (Doubt::Entry, Sorted::Refused(_) | Sorted::Ready(_) | Sorted::Sealed(_))
            ) {
                // Its bytes say by themselves that it is not done.
                task.doubt = Doubt::None;
            }
            match sorted {
                Sorted::Current(_) => self.current(engine, &task),
                Sorted::Doubtful(content) => doubtful.push((task, content)),
                Sorted::Refused(refusal) => self.fail(engine, &task, refusal),
                Sorted::Ready(_) | Sorted::Sealed(_) if task.looks > engine.settings.attempts => {
                    let detail = format!("changed by others during each of {} attempts; run again", task.looks);
                    self.fail(engine, &task, Refusal::new(FailureKind::Contended, detail));
                }
                Sorted::Ready(_) | Sorted::Sealed(_) if !task.take_ticket(engine) => waiting.push(task),
                Sorted::Ready(content) => ready.push((task, content)),
                Sorted::Sealed(content) => sealed.push((task, content)),
            }
        }
        if !doubtful.is_empty() {
            for (task, _) in self.open(engine, doubtful).await? {
                self.current(engine, &task);
            }
        }
        if !sealed.is_empty() {
            ready.extend(self.open(engine, sealed).await?);
        }
        Ok(ready)
    }

    /// Unwraps the keys of sealed items and opens them.
    async fn open(
        &mut self,
        engine: &Arc<Engine>,
        sealed: Vec<(Task, Box<Sealed>)>,
    ) -> Result<Vec<(Task, Ready)>, RunError> {
        let keys = in_flight(engine, sealed.iter().map(|(_, sealed)| engine.unwrap(sealed))).await?;
        let mut unwrapped = Vec::with_capacity(sealed.len());
        for ((task, sealed), key) in sealed.into_iter().zip(keys) {
            if let Some((task, (edk, key))) = self.keep(engine, task, key) {
                unwrapped.push((task, sealed, edk, key));
            }
        }
        let policy = Arc::clone(&engine.policy);
        let opened = engine
            .settings
            .pool
            .run(move || {
                unwrapped
                    .into_iter()
                    .map(|(task, sealed, edk, key)| {
                        let opened = policy.reopen(&task.item, sealed, edk, &key);
                        (task, opened.map(|(plain, work)| Ready { plain, work }))
                    })
                    .collect::<Vec<_>>()
            })
            .await?;
        Ok(opened.into_iter().filter_map(|(task, ready)| self.keep(engine, task, ready)).collect())
    }

    /// Fetches fresh keys, seals, and opens the result again (rule V).
    async fn make(&mut self, engine: &Arc<Engine>, ready: Vec<(Task, Ready)>) -> Result<Vec<Made>, RunError> {
        let keys = in_flight(engine, ready.iter().map(|(_, ready)| fresh_keys(engine, &ready.work))).await?;
        let mut work = Vec::with_capacity(ready.len());
        for ((task, ready), key) in ready.into_iter().zip(keys) {
            if let Some((task, wrapped)) = self.keep(engine, task, key) {
                work.push((task, ready, wrapped));
            }
        }
        let (policy, entropy) = (Arc::clone(&engine.policy), engine.settings.entropy);
        let made = engine
            .settings
            .pool
            .run(move || {
                work.into_iter()
                    .map(|(task, ready, wrapped)| {
                        let plain = ready.plain.as_ref().unwrap_or(&task.item);
                        let (data_key, message_id) = fresh(entropy);
                        let fresh = (&data_key, message_id);
                        let verified = policy.finish(&task.item, plain, ready.work, fresh, &wrapped);
                        let verified = verified.map(|mut verified| {
                            if task.before().is_some() {
                                verified.rewrite = guarded(&policy.schema, &task.item, verified.rewrite);
                            }
                            (ready.plain, verified)
                        });
                        (task, verified)
                    })
                    .collect::<Vec<_>>()
            })
            .await?;
        let mut kept = Vec::with_capacity(made.len());
        for (task, result) in made {
            if let Some((task, (plain, verified))) = self.keep(engine, task, result) {
                kept.push(Made { task, plain, verified });
            }
        }
        Ok(kept)
    }

    /// Writes, and sorts out the answers (rule R). Gives back what must be looked at again.
    async fn write(&mut self, engine: &Arc<Engine>, made: Vec<Made>, drift: Drift) -> Result<Vec<Task>, RunError> {
        if made.is_empty() {
            return Ok(Vec::new());
        }
        let (tasks, rewrites): (Vec<_>, Vec<_>) =
            made.into_iter().map(|made| (made.task, made.verified.rewrite)).unzip();
        let outcomes = engine.send(&rewrites, drift).await?;
        let written = Instant::now();
        // Nothing was sent because every item was gone: each is looked at again by its key.
        let outcomes = outcomes.unwrap_or_else(|| rewrites.iter().map(|_| Sent::ConditionFailed(None)).collect());
        let mut again = Vec::new();
        for ((task, rewrite), mut outcome) in tasks.into_iter().zip(rewrites).zip(outcomes) {
            let holds = |outcome: &Sent| match outcome {
                Sent::ConditionFailed(Some(current)) => rewrite.holds_for(current),
                _ => false,
            };
            if holds(&outcome) {
                outcome = engine.send_single(&rewrite, drift).await?;
                if holds(&outcome) {
                    let detail = "the service says that the item changed and returns it unchanged; write it by hand, and \
                                  report the service";
                    self.fail(engine, &task, Refusal::new(FailureKind::ConditionDefect, detail));
                    continue;
                }
            }
            let current = match outcome {
                Sent::Written => None,
                Sent::Rejected(why) => {
                    self.fail(engine, &task, Refusal::new(FailureKind::Rejected, why));
                    continue;
                }
                Sent::Contended(why) => {
                    self.fail(engine, &task, Refusal::new(FailureKind::Contended, why));
                    continue;
                }
                Sent::ConditionFailed(current) => {
                    self.tally.conflicts += 1;
                    let current = match current {
                        Some(current) => Some(*current),
                        None => engine.read_one(&rewrite.key).await?,
                    };
                    let Some(current) = current else {
                        self.gone(engine, &task);
                        continue;
                    };
                    // Our own earlier attempt, whose answer was lost, is not looked at again.
                    (!rewrite.applied_to(&task.item).same(&current)).then_some(current)
                }
            };
            match current {
                None => {
                    self.tally.rewritten += 1;
                    self.rewritten.push((task.place, written));
                    self.closes(engine, &task.item);
                }
                Some(item) => again.push(Task { item, looks: task.looks + 1, ..task }),
            }
        }
        Ok(again)
    }

    /// The item is at target: as it was read, or by somebody else since.
    fn current(&mut self, engine: &Engine, task: &Task) {
        task.not_rewritten(engine);
        if task.looks == 0 {
            self.tally.current += 1;
        } else {
            self.tally.superseded += 1;
        }
        self.closes(engine, &task.item);
    }

    /// The item is gone: deleted by somebody else.
    fn gone(&mut self, engine: &Engine, task: &Task) {
        task.not_rewritten(engine);
        self.tally.superseded += 1;
        self.closes(engine, &task.item);
    }

    /// The item is done: its ledger entry, if one is open, closes.
    fn closes(&mut self, engine: &Engine, item: &Item) {
        self.done.extend(is_open(engine, item));
    }

    fn keep<T>(&mut self, engine: &Engine, task: Task, result: Result<T, Refusal>) -> Option<(Task, T)> {
        match result {
            Ok(content) => Some((task, content)),
            Err(refusal) => {
                self.fail(engine, &task, refusal);
                None
            }
        }
    }

    fn fail(&mut self, engine: &Engine, task: &Task, refusal: Refusal) {
        self.tally.failed += 1;
        task.not_rewritten(engine);
        let Refusal { kind, detail } = refusal;
        let kind = match (&task.doubt, kind) {
            (Doubt::Written | Doubt::Since(_), FailureKind::Broken) => FailureKind::Mixed,
            (_, kind) => kind,
        };
        match engine.policy.key_of(&task.item) {
            Ok(key) => {
                engine.tell(&Event::Failed { key: key.to_string(), kind: kind.name(), detail: detail.clone() });
                if !matches!(task.doubt, Doubt::Entry) {
                    self.failures.push(Failure { key, kind, detail, record: None });
                }
            }
            // DynamoDB stores no item without its key; a stand-in that does is told of without one.
            Err(error) => {
                engine.tell(&Event::Failed { key: String::new(), kind: kind.name(), detail: error.to_string() });
            }
        }
    }
}

/// What an item wants, as far as that can be told without a key.
fn sort_one(policy: &Policy, task: &Task) -> Result<Sorted, Refusal> {
    if let Some(before) = task.before() {
        let plain = before.merge(&policy.schema, &task.item)?;
        let work = policy.prepare(&plain)?;
        return Ok(Sorted::Ready(Ready { plain: Some(plain), work }));
    }
    Ok(match policy.classify(&task.item)? {
        Verdict::Current(Some(sealed)) if !matches!(task.doubt, Doubt::None) => Sorted::Doubtful(sealed),
        Verdict::Current(sealed) => Sorted::Current(sealed),
        Verdict::Sealed(sealed) => Sorted::Sealed(sealed),
        Verdict::Plain => Sorted::Ready(Ready { plain: None, work: policy.prepare(&task.item)? }),
    })
}

/// Asks the target's keyring of the items that are at target by their bytes, where bytes do not tell all.
async fn look_deeper(engine: &Engine, sorted: &mut [(Task, Sorted)]) -> Result<(), RunError> {
    if !engine.looks_deeper() {
        return Ok(());
    }
    let (mut places, mut asked) = (Vec::new(), Vec::new());
    for (place, (_, sorted)) in sorted.iter().enumerate() {
        if let Sorted::Current(Some(sealed)) | Sorted::Doubtful(sealed) = sorted {
            places.push(place);
            asked.push(engine.is_current(sealed));
        }
    }
    let answers = in_flight(engine, asked.into_iter()).await?;
    for (place, answer) in places.into_iter().zip(answers) {
        let sorted = &mut sorted[place].1;
        let found = std::mem::replace(sorted, Sorted::Current(None));
        *sorted = match (answer, found) {
            (Ok(false), Sorted::Current(Some(sealed)) | Sorted::Doubtful(sealed)) => {
                engine.policy.stale(sealed).map_or_else(Sorted::Refused, Sorted::Sealed)
            }
            (Ok(_), found) => found,
            (Err(refusal), _) => Sorted::Refused(refusal),
        };
    }
    Ok(())
}

/// The key of an item that has an open entry in the ledger.
fn is_open(engine: &Engine, item: &Item) -> Option<Key> {
    let open = engine.failures();
    if open.is_empty() {
        return None;
    }
    engine.policy.key_of(item).ok().filter(|key| open.contains(key))
}

/// Has the service unwrap, from its bytes, the first item of each shape of encryption context (rule V).
async fn prove(engine: &Engine, made: &[Made]) -> Result<(), RunError> {
    let sealed = made.iter().filter_map(|made| made.verified.sealed.as_ref().map(|sealed| (made, sealed)));
    let mut wanted: BTreeMap<u64, (&Made, &Sealed)> = BTreeMap::new();
    for (made, sealed) in sealed {
        wanted.entry(shape(sealed)).or_insert((made, sealed));
    }
    if wanted.is_empty() {
        return Ok(());
    }
    // Held while the service answers: no second item of the shape is written before.
    let mut proven = engine.proven.lock().await;
    for (shape, (made, sealed)) in wanted {
        if !proven.contains(&shape) {
            unwrapped_by_service(engine, made, sealed).await?;
            proven.insert(shape);
        }
    }
    Ok(())
}

/// Waits for many key requests, so many in flight, and gives their answers in order: keys, or why an item has none. A
/// fault that concerns the run comes out alone.
pub(super) async fn in_flight<'a, T: Send + 'a>(
    engine: &Engine,
    requests: impl Iterator<Item = impl Future<Output = Result<T, KeyFault>> + Send + 'a> + Send,
) -> Result<Vec<Result<T, Refusal>>, RunError> {
    let requests: Vec<BoxFuture<'a, _>> = requests.map(|request| -> BoxFuture<'a, _> { Box::pin(request) }).collect();
    let answers: Vec<_> = stream::iter(requests).buffered(engine.settings.keys_in_flight.max(1)).collect().await;
    answers
        .into_iter()
        .map(|answer| answer.map_or_else(|fault| engine.refusal(fault).map(Err), |key| Ok(Ok(key))))
        .collect()
}

/// Fresh keys for sealing; none when nothing is to be sealed.
async fn fresh_keys(engine: &Engine, work: &Work) -> Result<Vec<WrappedKey>, KeyFault> {
    match (work.context(), &engine.ports.target) {
        (Some(context), Some(keyring)) => engine.generate(keyring.as_ref(), context).await,
        _ => Ok(Vec::new()),
    }
}

/// A fresh data key and message id.
fn fresh(entropy: fn(&mut [u8])) -> (Secret, [u8; 32]) {
    let (mut key, mut message_id) = (zeroize::Zeroizing::new([0_u8; KEY_BYTES]), [0_u8; 32]);
    entropy(&mut *key);
    entropy(&mut message_id);
    (Secret::new(*key), message_id)
}

/// What items have in common whose keys were requested under contexts of the same shape.
fn shape(sealed: &Sealed) -> u64 {
    let mut hasher = DefaultHasher::new();
    sealed.head.version.hash(&mut hasher);
    for (key, _) in sealed.context.iter() {
        key.hash(&mut hasher);
    }
    hasher.finish()
}

/// Opens an item as a reader will: with a key that the service unwraps from the item's bytes. A service that refuses to
/// unwrap what it just wrapped fails the run and not the item: it would refuse it to readers.
async fn unwrapped_by_service(engine: &Engine, made: &Made, sealed: &Sealed) -> Result<(), RunError> {
    let refused = |why: &str| {
        RunError::Proof(format!(
            "the key service does not give back the key that it wrapped{why}; nothing of this kind was written. Check \
             the keyring's endpoint, and any proxy in front of it"
        ))
    };
    let after = made.verified.rewrite.applied_to(&made.task.item);
    // Where the data key was kept, nothing was decrypted: what it opens to was compared by key and ciphertexts.
    let plain = made.plain.as_ref().or_else(|| Some(&made.task.item).filter(|item| !item.contains(HEAD)));
    for edk in 0..sealed.head.edks.len() {
        let key = engine.unwrap_one_by_target(sealed, edk).await.map_err(|fault| match fault {
            KeyFault::Item(refusal) => refused(&format!(" ({refusal})")),
            KeyFault::Denied(_, error) => error.into(),
            KeyFault::Run(error) => error,
        })?;
        match dbesdk::open(&after, sealed, edk, &key) {
            Ok(opened) if plain.is_none_or(|plain| opened.same(plain)) => {}
            _ => return Err(refused("")),
        }
    }
    Ok(())
}
