//! Mistakes that such programs make, planted one at a time between the engine and the services. A net that has caught
//! nothing is not known to be one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;

use super::keys::SimKms;
use super::shards::SimShards;
use super::table::SimTable;
use super::watch::Watch;
use super::world::{Form, UNNAMED, World};
use crate::crypto::{EncryptionContext, Matching};
use crate::format::dbesdk::{self, FOOT, HEAD, Inspection};
use crate::item::{Item, Key, Value};
use crate::keyring::{Keyring, KeyringCall, KeyringClass, KeyringError, Secret, Wanted, WrappedKey, WrappedRef};
use crate::migration::{
    Depth, Expected, Failure, FailureKind, LineageChange, LineageRows, Place, Policy, Rewrite, Target,
};
use crate::store::{
    Answer, Checkpoint, Commit, Journal, JournalError, Listing, Page, Pass, Record, Records, Scan, Shards, ShardsError,
    Start, StoreError, Table, Units, Update, Via,
};
use crate::testing::is_probe;

/// A known mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mistake {
    /// Writes have no condition, save that the item exists.
    Unconditional,
    /// A write creates the item where there is none.
    Upsert,
    /// A write replaces the item by the old image, changed.
    PutOldImage,
    /// The condition of a write names header and footer only.
    FootOnlyToken,
    /// The condition of a write does not say which attributes must still be absent.
    NoAbsentAttributes,
    /// Pages of a scan are eventually consistent.
    StalePages,
    /// A write is acknowledged, and so its page committed, before it was sent.
    CheckpointBeforeAcknowledgement,
    /// The cursor is durable before the ledger is.
    LedgerAfterCheckpoint,
    /// After a failed condition a sealed item is taken for plaintext, and sealed again.
    SealsItsOwnOutput,
    /// An item that did not come back with a failed condition is taken for gone.
    GoneBecauseNotReturned,
    /// No budget is kept.
    BudgetIgnored,
    /// An attribute that the job does not name is not seen.
    UnknownAttributeIgnored,
    /// A mixed item is opened by leaving out what its header does not name.
    UnknownAttributeLeftOut,
    /// The proof that conditions are honoured writes something.
    CanaryWrites,
    /// Keys are wrapped under the context of the item before.
    OtherItemsContext,
    /// The key service is not asked whether it unwraps what it wrapped.
    ProofSkipped,
    /// Items at the end of a page are dropped.
    PageCutShort,
    /// An error message holds a value of the item.
    ValueInError,
    /// What continues a shard is read from the latest record on.
    ChildFromLatest,
    /// When records were trimmed, the shard is read from the oldest one left, and nothing is said of it.
    SkipToTrimHorizon,
    /// A shard's position is durable as soon as its records were read.
    PositionBeforeWrites,
    /// Of the records of an item in a batch, only the last one's new image is looked at.
    LastImageOnly,
    /// A shard is taken for quiet after one answer without records.
    QuietAtOnce,
    /// A closed shard that nothing listed continues is taken for the last.
    ChildlessIsLast,
    /// This machine's clock is taken for the service's.
    LocalClock,
    /// Our own writes are taken for those of applications.
    OwnWritesRewritten,
    /// The keyring gives the same key again, and wraps it under the next context.
    IntermediateKeyReused,
    /// A rewrap keeps the signature, whose private key is gone.
    SignatureKept,
    /// Any Region of the target's key is taken for the target's.
    AnyRegionAccepted,
    /// Any key of the target's provider is taken for the target's.
    AnyKeyAccepted,
    /// What somebody wrote into a sealed item is given a footer that verifies.
    MixedRewrapped,
    /// Items whose key is denied are passed over.
    DeniedPassedOver,
    /// That a key is denied is taken for the item's own fault.
    DeniedToItem,
    /// That a key is denied for an item ends the run.
    DeniedToRun,
    /// An old version of the target's key is taken for the active one.
    OldVersionAccepted,
    /// The job's depth is taken for the other one.
    OtherDepth,
}

impl Mistake {
    /// All of them.
    pub const ALL: [Self; 36] = [
        Self::Unconditional,
        Self::Upsert,
        Self::PutOldImage,
        Self::FootOnlyToken,
        Self::NoAbsentAttributes,
        Self::StalePages,
        Self::CheckpointBeforeAcknowledgement,
        Self::LedgerAfterCheckpoint,
        Self::SealsItsOwnOutput,
        Self::GoneBecauseNotReturned,
        Self::BudgetIgnored,
        Self::UnknownAttributeIgnored,
        Self::UnknownAttributeLeftOut,
        Self::CanaryWrites,
        Self::OtherItemsContext,
        Self::ProofSkipped,
        Self::PageCutShort,
        Self::ValueInError,
        Self::ChildFromLatest,
        Self::SkipToTrimHorizon,
        Self::PositionBeforeWrites,
        Self::LastImageOnly,
        Self::QuietAtOnce,
        Self::ChildlessIsLast,
        Self::LocalClock,
        Self::OwnWritesRewritten,
        Self::IntermediateKeyReused,
        Self::SignatureKept,
        Self::AnyRegionAccepted,
        Self::AnyKeyAccepted,
        Self::MixedRewrapped,
        Self::DeniedPassedOver,
        Self::DeniedToItem,
        Self::DeniedToRun,
        Self::OldVersionAccepted,
        Self::OtherDepth,
    ];

    /// The policy as a mistaken program has it.
    pub(super) fn change(self, policy: &mut Policy) {
        let matching = match self {
            Self::AnyRegionAccepted => Matching::AnyRegion,
            Self::AnyKeyAccepted => Matching::Provider,
            Self::OtherDepth => {
                policy.depth = match policy.depth {
                    Depth::Rewrap => Depth::Reencrypt,
                    Depth::Reencrypt => Depth::Rewrap,
                };
                return;
            }
            _ => return,
        };
        if let Target::Dbesdk { recipients, .. } = &mut policy.target {
            for wanted in recipients {
                wanted.matching = matching;
            }
        }
    }
}

/// The signature at the end of the footer, under the suite that signs.
const SIGNATURE_BYTES: usize = 103;

/// The table, as a program sees it that makes a mistake.
pub(super) struct MistakenTable {
    table: SimTable,
    mistake: Mistake,
    watch: Arc<Watch>,
    state: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Items as they were read last, by the text of their keys.
    images: BTreeMap<String, Item>,
    /// Of items whose footer was made to verify, by the text of their keys: header and footer as they are.
    forged: BTreeMap<String, [Option<Value>; 2]>,
    /// Keys of items that did not come back.
    missing: Vec<Key>,
    /// What is sent later than it was acknowledged; dies with the process.
    later: Vec<AbortOnDropHandle<()>>,
}

impl MistakenTable {
    pub(super) fn new(table: SimTable, mistake: Mistake, watch: Arc<Watch>) -> Self {
        if mistake == Mistake::StalePages {
            table.stale(Duration::from_millis(300));
        }
        Self { table, mistake, watch, state: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An item as the mistaken program sees it.
    fn see(&self, mut item: Item, again: bool) -> Item {
        if let Ok(key) = self.watch.table.keys().key_of(&item) {
            self.seen().images.insert(key.to_string(), item.clone());
            if let Some(forged) = self.forge(&item) {
                self.seen().forged.insert(key.to_string(), [HEAD, FOOT].map(|name| item.get(name).cloned()));
                item = forged;
            }
        }
        match self.mistake {
            Mistake::UnknownAttributeIgnored if !item.contains(HEAD) => drop(item.remove(UNNAMED)),
            Mistake::UnknownAttributeLeftOut if item.contains(HEAD) => drop(item.remove(UNNAMED)),
            Mistake::SealsItsOwnOutput if again => {
                item.remove(HEAD);
                item.remove(FOOT);
            }
            _ => {}
        }
        item
    }

    /// A broken item with header and footer that verify, where that is the mistake. The program remembers its data key.
    fn forge(&self, item: &Item) -> Option<Item> {
        let Watch { policy, kms, world, .. } = &*self.watch;
        if self.mistake != Mistake::MixedRewrapped || self.watch.open(item).is_some() {
            return None;
        }
        let (_, data_key) = self.watch.data_key(&self.watch.whole(item)?)?;
        let Inspection::Sealed(sealed) = dbesdk::inspect(&policy.schema, item).ok()? else { return None };
        let suite = world.suite(Form::Old);
        let rewrap = dbesdk::prepare_rewrap(&policy.schema, suite, item, sealed, data_key).ok()?;
        let wrapped = kms.make(World::key_of(Form::Old), &rewrap.context);
        dbesdk::rewrap(item, &rewrap, &[wrapped]).ok()
    }

    /// The footer of a rewrap with the signature that was there before.
    fn keep_signature(&self, sent: &mut Rewrite) {
        let seen = self.seen();
        let before = seen.images.get(&sent.key.to_string());
        let both = before.is_some_and(|before| [before, &sent.applied_to(before)].iter().all(|item| self.signs(item)));
        let old = before.and_then(|before| before.get(FOOT)).filter(|_| both && sent.set.len() == 2);
        let new = sent.set.iter_mut().find(|(name, _)| name == FOOT).map(|(_, value)| value);
        if let (Some(Value::Binary(old)), Some(Value::Binary(new))) = (old, new)
            && let (Some(old), Some(new)) = (old.last_chunk::<SIGNATURE_BYTES>(), new.last_chunk_mut())
        {
            *new = *old;
        }
    }

    fn signs(&self, item: &Item) -> bool {
        let found = dbesdk::inspect(&self.watch.policy.schema, item);
        matches!(found, Ok(Inspection::Sealed(sealed)) if sealed.head.suite.signs())
    }

    /// A rewrite as the mistaken program sends it.
    fn send(&self, rewrite: &Rewrite) -> Rewrite {
        let mut sent = rewrite.clone();
        if is_probe(rewrite) {
            if self.mistake == Mistake::CanaryWrites {
                sent.set.push(("canary".to_owned(), Value::Null));
                sent.condition.clear();
            }
            return sent;
        }
        let ends = |name: &str| name == HEAD || name == FOOT;
        match self.mistake {
            Mistake::Unconditional => sent.condition.clear(),
            Mistake::FootOnlyToken => sent.condition.retain(|(name, _)| ends(name)),
            Mistake::NoAbsentAttributes => {
                sent.condition.retain(|(name, expected)| ends(name) || *expected != Expected::Absent);
            }
            Mistake::SealsItsOwnOutput | Mistake::OwnWritesRewritten => {
                sent.condition.retain(|(name, expected)| !(ends(name) && *expected == Expected::Absent));
            }
            Mistake::SignatureKept => self.keep_signature(&mut sent),
            Mistake::MixedRewrapped => {
                if let Some([head, foot]) = self.seen().forged.get(&rewrite.key.to_string()).cloned() {
                    for (name, expected) in &mut sent.condition {
                        let was = if name == HEAD { &head } else { &foot };
                        if let Some(was) = was.clone().filter(|_| ends(name)) {
                            *expected = Expected::Equals(was);
                        }
                    }
                }
            }
            _ => {}
        }
        sent
    }

    /// Goes past the conditions of the service, where that is the mistake.
    fn force(&self, rewrite: &Rewrite) -> Option<Answer> {
        let image = self.seen().images.get(&rewrite.key.to_string()).cloned()?;
        let current = self.table.peek(&rewrite.key);
        let put = match self.mistake {
            Mistake::Upsert => current.is_none(),
            Mistake::PutOldImage => current.is_some_and(|current| rewrite.holds_for(&current)),
            _ => false,
        };
        put.then(|| {
            self.table.force(rewrite, rewrite.applied_to(&image));
            Answer::Written
        })
    }

    /// An answer as the mistaken program sees it.
    fn answered(&self, rewrite: &Rewrite, answer: Answer) -> Answer {
        match answer {
            Answer::ConditionFailed(Some(item)) => Answer::ConditionFailed(Some(Box::new(self.see(*item, true)))),
            Answer::ConditionFailed(None) => {
                self.seen().missing.push(rewrite.key.clone());
                Answer::ConditionFailed(None)
            }
            Answer::Failed(mut error) if self.mistake == Mistake::ValueInError => {
                if let Some((_, Value::String(text))) = rewrite.condition.iter().find_map(|(name, expected)| {
                    if let Expected::Equals(value) = expected { Some((name, value)) } else { None }
                }) {
                    error.problem.push_str(text);
                    if let crate::store::StoreClass::Throttled { reason } = &mut error.class {
                        reason.push_str(text);
                    }
                }
                Answer::Failed(error)
            }
            answer => answer,
        }
    }
}

#[async_trait]
impl Table for MistakenTable {
    async fn scan(&self, scan: &Scan) -> Result<Page, StoreError> {
        let mut page = self.table.scan(scan).await?;
        if self.mistake == Mistake::PageCutShort && page.items.len() > 2 {
            page.items.pop();
        }
        page.items = page.items.into_iter().map(|item| self.see(item, false)).collect();
        Ok(page)
    }

    async fn get(&self, key: &Key) -> Result<(Option<Item>, Units), StoreError> {
        if self.mistake == Mistake::GoneBecauseNotReturned && self.seen().missing.contains(key) {
            return Ok((None, None));
        }
        let (item, units) = self.table.get(key).await?;
        Ok((item.map(|item| self.see(item, true)), units))
    }

    async fn update(&self, rewrites: &[Rewrite], via: Via) -> Update {
        let sent: Vec<Rewrite> = rewrites.iter().map(|rewrite| self.send(rewrite)).collect();
        if self.mistake == Mistake::CheckpointBeforeAcknowledgement && !rewrites.iter().any(is_probe) {
            let table = self.table.clone();
            self.seen().later.push(AbortOnDropHandle::new(tokio::spawn(async move {
                drop(table.update(&sent, via).await);
            })));
            let answers = rewrites.iter().map(|_| Answer::Written).collect();
            return Update { answers, units: None, unreported: rewrites.len() as f64, requests: 1 };
        }
        let forced: Vec<Option<Answer>> = rewrites.iter().map(|rewrite| self.force(rewrite)).collect();
        let mut update = self.table.update(&sent, via).await;
        let answers = std::mem::take(&mut update.answers);
        update.answers = forced
            .into_iter()
            .zip(answers)
            .zip(rewrites)
            .map(|((forced, answer), rewrite)| forced.unwrap_or_else(|| self.answered(rewrite, answer)))
            .collect();
        update
    }
}

/// A journal as a mistaken program uses it.
pub(super) struct MistakenJournal(pub(super) Arc<dyn Journal>, pub(super) Mistake);

impl MistakenJournal {
    /// The failures that the program knows of, now and later.
    fn split(&self, failures: &[Failure]) -> [Vec<Failure>; 2] {
        let known = |failure: &&Failure| self.1 != Mistake::DeniedPassedOver || failure.kind != FailureKind::Key;
        self.later(failures.iter().filter(known).cloned().collect())
    }

    /// The cursor is durable first, and the ledger afterwards, where that is the mistake.
    fn later<T>(&self, rows: Vec<T>) -> [Vec<T>; 2] {
        if self.1 == Mistake::LedgerAfterCheckpoint { [Vec::new(), rows] } else { [rows, Vec::new()] }
    }
}

#[async_trait]
impl Journal for MistakenJournal {
    async fn pass(&self) -> Result<Option<Pass>, JournalError> {
        self.0.pass().await
    }

    async fn begin_pass(&self, segments: u32) -> Result<Pass, JournalError> {
        self.0.begin_pass(segments).await
    }

    async fn commit(&self, commit: Commit) -> Result<(), JournalError> {
        let [failures, later] = self.split(&commit.failures);
        let [done, done_later] = self.later(commit.done);
        self.0.commit(Commit { failures, done, ..commit }).await?;
        self.0.record(&later, &done_later).await
    }

    async fn record(&self, failures: &[Failure], done: &[Key]) -> Result<(), JournalError> {
        let [failures, later] = self.split(failures);
        self.0.record(&[failures, later].concat(), done).await
    }

    async fn lineage(&self) -> Result<Option<LineageRows>, JournalError> {
        self.0.lineage().await
    }

    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<(), JournalError> {
        let [failures, later] = self.split(&checkpoint.failures);
        let [done, done_later] = self.later(checkpoint.done);
        self.0.checkpoint(Checkpoint { failures, done, ..checkpoint }).await?;
        self.0.record(&later, &done_later).await
    }

    async fn end_pass(&self) -> Result<(), JournalError> {
        self.0.end_pass().await
    }

    async fn open_failures(&self) -> Result<Vec<Failure>, JournalError> {
        self.0.open_failures().await
    }
}

/// The stream, as a program sees it that makes a mistake.
pub(super) struct MistakenShards {
    shards: SimShards,
    mistake: Mistake,
    journal: Arc<dyn Journal>,
    /// Whether the stream is all that the process reads.
    alone: bool,
    /// By how many hours this machine's clock is ahead of the service's, or behind.
    hours: i64,
    state: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Of each iterator that was given back with an answer without records: how many more such answers are made up.
    quiet: BTreeMap<String, u32>,
}

/// Answers without records that make a shard quiet.
const QUIET_ANSWERS: u32 = 10;

impl MistakenShards {
    pub(super) fn new(
        shards: SimShards,
        mistake: Mistake,
        journal: Arc<dyn Journal>,
        (seed, alone): (u64, bool),
    ) -> Self {
        let hours = if seed.is_multiple_of(2) { 3 } else { -3 };
        Self { shards, mistake, journal, alone, hours, state: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time, as the mistaken program tells it.
    fn time(&self, at: Option<SystemTime>) -> Option<SystemTime> {
        let hours = Duration::from_hours(self.hours.unsigned_abs());
        match self.mistake {
            Mistake::LocalClock if self.hours < 0 => Some(at? - hours),
            Mistake::LocalClock => Some(at? + hours),
            _ => at,
        }
    }

    /// Moves a shard's position in the journal, before anything was done for it.
    async fn pass(&self, shard: &str, last: &Record) -> Result<(), ShardsError> {
        let rows = self.journal.lineage().await.ok().flatten();
        if let Some(mut rows) = rows {
            rows.shards.retain(|row| row.id == shard);
            rows.shards.iter_mut().for_each(|row| row.place = Place::After(last.sequence.clone()));
            let lineage = LineageChange { rows, forgotten: Vec::new() };
            drop(self.journal.checkpoint(Checkpoint { lineage, ..Checkpoint::default() }).await);
        }
        Ok(())
    }

    /// Records as the mistaken program sees them.
    fn see(&self, records: Vec<Record>) -> Vec<Record> {
        match self.mistake {
            Mistake::LastImageOnly => {
                let mut seen: Vec<Record> = Vec::new();
                for record in records {
                    seen.retain(|before| before.key != record.key);
                    seen.push(Record { old: None, ..record });
                }
                seen
            }
            Mistake::OwnWritesRewritten => {
                let unseal = |mut record: Record| {
                    for name in [HEAD, FOOT] {
                        record.new.as_mut().map(|new| new.remove(name));
                    }
                    record
                };
                records.into_iter().map(unseal).collect()
            }
            _ => records,
        }
    }
}

#[async_trait]
impl Shards for MistakenShards {
    fn arn(&self) -> &str {
        self.shards.arn()
    }

    async fn list(&self, after: Option<&str>) -> Result<Listing, ShardsError> {
        let listing = self.shards.list(after).await?;
        // A run that makes passes as well has another reason to ask whether the stream is enabled.
        let enabled = listing.enabled && !(self.alone && self.mistake == Mistake::ChildlessIsLast);
        Ok(Listing { enabled, at: self.time(listing.at), ..listing })
    }

    async fn children(&self, parent: &str) -> Result<Option<Listing>, ShardsError> {
        if self.mistake == Mistake::ChildlessIsLast {
            return Ok(None);
        }
        let listing = self.shards.children(parent).await?;
        Ok(listing.map(|listing| Listing { at: self.time(listing.at), ..listing }))
    }

    async fn iterator(&self, shard: &str, start: &Start) -> Result<String, ShardsError> {
        let memory = &self.shards.memory;
        let latest = memory.latest(shard).filter(|_| self.mistake == Mistake::ChildFromLatest);
        match (start, latest) {
            (Start::TrimHorizon, Some(latest)) if memory.parent(shard).is_some() => {
                self.shards.iterator(shard, &Start::After(latest)).await
            }
            _ => match self.shards.iterator(shard, start).await {
                Err(ShardsError::Trimmed(_)) if self.mistake == Mistake::SkipToTrimHorizon => {
                    self.shards.iterator(shard, &Start::TrimHorizon).await
                }
                answer => answer,
            },
        }
    }

    async fn records(&self, iterator: &str) -> Result<Records, ShardsError> {
        if self.mistake == Mistake::QuietAtOnce {
            // Having seen one answer without records, the program asks no more.
            let mut kept = self.kept();
            if let Some(more) = kept.quiet.get_mut(iterator).filter(|more| **more > 0) {
                *more -= 1;
                let at = Some(self.shards.memory.now());
                return Ok(Records { records: Vec::new(), next: Some(iterator.to_owned()), at });
            }
        }
        let mut answer = match self.shards.records(iterator).await {
            Err(ShardsError::Trimmed(error)) if self.mistake == Mistake::SkipToTrimHorizon => {
                return Err(ShardsError::Expired(error));
            }
            answer => answer?,
        };
        answer.at = self.time(answer.at);
        match (&answer.records[..], &answer.next) {
            ([], Some(next)) => drop(self.kept().quiet.insert(next.clone(), QUIET_ANSWERS)),
            ([.., last], _) if self.mistake == Mistake::PositionBeforeWrites => {
                let shard = iterator.split('/').next().unwrap_or(iterator);
                self.pass(shard, last).await?;
            }
            _ => {}
        }
        answer.records = self.see(answer.records);
        Ok(answer)
    }
}

/// A keyring as a mistaken program uses it.
pub(super) struct MistakenKeyring {
    keyring: Arc<dyn Keyring>,
    mistake: Mistake,
    kms: SimKms,
    state: Mutex<Remembered>,
}

#[derive(Default)]
struct Remembered {
    /// The contexts asked for so far.
    contexts: Vec<EncryptionContext>,
    /// The first key that was made.
    key: Option<Secret>,
    /// What was wrapped, with its key.
    keys: Vec<(Vec<u8>, Secret)>,
}

impl MistakenKeyring {
    pub(super) fn new(keyring: Arc<dyn Keyring>, mistake: Mistake, kms: SimKms) -> Self {
        Self { keyring, mistake, kms, state: Mutex::default() }
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A refusal as the mistaken program sees it.
    fn refused(&self, error: KeyringError) -> KeyringError {
        let class = match (self.mistake, error.class) {
            (Mistake::DeniedToItem, KeyringClass::Denied) => KeyringClass::Item,
            (Mistake::DeniedToRun, KeyringClass::Denied) => KeyringClass::Key,
            (_, class) => class,
        };
        KeyringError { class, ..error }
    }
}

impl std::fmt::Debug for MistakenKeyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.keyring.fmt(f)
    }
}

#[async_trait]
impl Keyring for MistakenKeyring {
    fn recipients(&self) -> &[Wanted] {
        self.keyring.recipients()
    }

    fn accepts(&self, found: WrappedRef<'_>) -> bool {
        self.keyring.accepts(found)
    }

    fn requests(&self, call: KeyringCall) -> u32 {
        self.keyring.requests(call)
    }

    fn looks_deeper(&self) -> bool {
        self.keyring.looks_deeper()
    }

    async fn is_current(&self, found: &[WrappedRef<'_>], context: &EncryptionContext) -> Result<bool, KeyringError> {
        let current = self.keyring.is_current(found, context).await.map_err(|error| self.refused(error))?;
        Ok(current || self.mistake == Mistake::OldVersionAccepted)
    }

    async fn generate(&self, context: &EncryptionContext) -> Result<Vec<WrappedKey>, KeyringError> {
        let mut asked = context.clone();
        if self.mistake == Mistake::OtherItemsContext {
            let mut remembered = self.remembered();
            // The first is proved by the service, and would be found out.
            if let [_, .., last] = &remembered.contexts[..] {
                asked = last.clone();
            }
            remembered.contexts.push(context.clone());
        }
        let mut made = self.keyring.generate(&asked).await.map_err(|error| self.refused(error))?;
        if self.mistake == Mistake::IntermediateKeyReused {
            let mut remembered = self.remembered();
            for wrapped in &mut made {
                match &remembered.key {
                    Some(key) => self.kms.replace(wrapped, key),
                    None => remembered.key = Some(wrapped.key.clone()),
                }
            }
        }
        if self.mistake == Mistake::ProofSkipped {
            let keys = made.iter().map(|wrapped| (wrapped.ciphertext.clone(), wrapped.key.clone()));
            self.remembered().keys.extend(keys);
        }
        Ok(made)
    }

    async fn unwrap(&self, found: WrappedRef<'_>, context: &EncryptionContext) -> Result<Secret, KeyringError> {
        let known = self.remembered().keys.iter().find(|(wrapped, _)| wrapped == found.ciphertext).cloned();
        match known {
            Some((_, key)) => Ok(key),
            None => self.keyring.unwrap(found, context).await.map_err(|error| self.refused(error)),
        }
    }
}
