//! What every lane and page of a run shares: the services, the budgets, the policy.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::event::{Event, Observer};
use super::keys::Grants;
use super::pool::{Panicked, Pool};
use super::retry::{Tries, pause};
use super::throttle::Throttle;
use crate::item::Key;
use crate::keyring::{Keyring, KeyringError};
use crate::migration::{Failure, OnMixed, Policy, Tally};
use crate::store::{Journal, JournalError, StoreError, Table, Via};

/// The outside world of a run.
#[derive(Clone)]
pub struct Ports {
    /// The table.
    pub table: Arc<dyn Table>,
    /// Makes and opens the target's keys; `None` when the target is plaintext.
    pub target: Option<Arc<dyn Keyring>>,
    /// Open what other keys sealed.
    pub sources: Vec<Arc<dyn Keyring>>,
    /// Hears what happens.
    pub observer: Arc<dyn Observer>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports").field("target", &self.target).field("sources", &self.sources).finish_non_exhaustive()
    }
}

/// How a run goes about its work; what it does is the [`Policy`]'s.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Segments of the scan: part of the plan, and frozen with it.
    pub segments: u32,
    /// Pages in flight per lane.
    pub pages_in_flight: usize,
    /// Pages held in memory by all lanes together.
    pub pages_in_memory: usize,
    /// Write requests in flight per page.
    pub writes_in_flight: usize,
    /// Key requests in flight per page.
    pub keys_in_flight: usize,
    /// Budget of read capacity units per second.
    pub read_units: Option<NonZeroU32>,
    /// Budget of write capacity units per second.
    pub write_units: Option<NonZeroU32>,
    /// Budget of KMS requests per second.
    pub kms_requests: Option<NonZeroU32>,
    /// Items per scan page at most; `None` for whole pages of 1 MB.
    pub page_items: Option<u32>,
    /// Read units that the first page of a lane is expected to consume.
    pub page_units: f64,
    /// How many times an item is written in all by one write: itself and the indexes that may project it.
    pub write_copies: u32,
    /// Looks at one item at most, when others keep changing it.
    pub attempts: u32,
    /// Items to rewrite at most.
    pub max_items: Option<u64>,
    /// Passes over the table at most, in this call.
    pub max_passes: u32,
    /// The preferred way of writing.
    pub writer: Via,
    /// What becomes of sealed items that somebody wrote into.
    pub on_mixed: OnMixed,
    /// Where the processor's work is done.
    pub pool: Pool,
    /// How long a graceful stop may take before it is cut short.
    pub drain: Duration,
    /// Fills with bytes from a cryptographically secure generator.
    pub entropy: fn(&mut [u8]),
    /// The wall clock. Nothing is decided by its time, only by its jumps against tokio's: they tell that the machine was
    /// suspended, or its clock was set (rule M).
    pub wall: fn() -> SystemTime,
}

/// A run cannot go on. What was committed stays, and a later run resumes from it.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The table cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key cannot be used.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// Progress cannot be remembered.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A defect of ours.
    #[error(transparent)]
    Panicked(#[from] Panicked),
    /// The service does not honour conditions (rule P).
    #[error("{0}")]
    Ground(String),
    /// What was just wrapped cannot be unwrapped (rule V).
    #[error("{0}")]
    Proof(String),
}

/// What every lane and page works with: shared by all of them, but for their place in the queues.
pub(super) struct Engine {
    shared: Arc<Shared>,
    pub(super) read: Throttle,
    pub(super) write: Throttle,
    pub(super) kms: Throttle,
    /// One permit per page in memory.
    pub(super) memory: Arc<Semaphore>,
}

impl std::ops::Deref for Engine {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// Shared by scan and tail.
pub(super) struct Shared {
    pub(super) ports: Ports,
    pub(super) policy: Arc<Policy>,
    pub(super) settings: Settings,
    /// Read units of the item that was read by its key last.
    pub(super) item_units: AtomicU32,
    /// Requests to KMS so far.
    pub(super) kms_count: AtomicU64,
    /// The way of writing that was proved, once it was (rule P).
    pub(super) ground: tokio::sync::Mutex<Option<Via>>,
    /// Set when the batch writer was refused: single updates from then on.
    pub(super) single_only: AtomicBool,
    /// Shapes of encryption context for which the service unwrapped one of our items (rule V).
    pub(super) proven: tokio::sync::Mutex<HashSet<u64>>,
    /// What key services granted.
    grants: Mutex<Grants>,
    /// The open entries of the failure ledger.
    open_failures: Mutex<Open>,
    /// Items that may still be rewritten.
    tickets: AtomicU64,
    /// When the run began, on both clocks.
    began: (Instant, SystemTime),
}

/// The open entries of the failure ledger, by key: which of the entries made in this run each is, 0 before.
#[derive(Debug, Default)]
pub(super) struct Open {
    entries: HashMap<Key, u64>,
    made: u64,
}

impl Open {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.entries.contains_key(key)
    }
}

/// How things stood before items were read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drift {
    /// By how many seconds the wall clock went ahead of tokio's clock since the run began.
    seconds: f64,
    /// Entries made in the failure ledger.
    pub(super) entries: u64,
}

impl Engine {
    pub(super) fn new(ports: Ports, policy: Arc<Policy>, settings: Settings) -> Self {
        Self {
            read: Throttle::per_second(settings.read_units),
            write: Throttle::per_second(settings.write_units),
            kms: Throttle::per_second(settings.kms_requests),
            memory: Arc::new(Semaphore::new(settings.pages_in_memory)),
            shared: Arc::new(Shared {
                item_units: AtomicU32::new(1),
                kms_count: AtomicU64::new(0),
                ground: tokio::sync::Mutex::new(None),
                single_only: AtomicBool::new(false),
                proven: tokio::sync::Mutex::default(),
                grants: Mutex::default(),
                open_failures: Mutex::default(),
                tickets: AtomicU64::new(settings.max_items.unwrap_or(u64::MAX / 2)),
                began: (Instant::now(), (settings.wall)()),
                ports,
                policy,
                settings,
            }),
        }
    }

    /// The same for those who are served first (rule B). They have memory of their own: pages that wait for a budget
    /// keep theirs for long.
    pub(super) fn first(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            read: self.read.first(),
            write: self.write.first(),
            kms: self.kms.first(),
            memory: Arc::new(Semaphore::new(self.settings.pages_in_memory)),
        }
    }

    pub(super) fn tell(&self, event: &Event) {
        tracing::debug!(?event);
        self.ports.observer.on(event);
    }

    /// The drift of the clocks and the state of the ledger now: to be taken before items are read.
    pub(super) fn drift(&self) -> Drift {
        Drift { seconds: self.drifted(), entries: self.failures().made }
    }

    fn drifted(&self) -> f64 {
        let (began, wall_began) = self.began;
        let wall = match (self.settings.wall)().duration_since(wall_began) {
            Ok(ahead) => ahead.as_secs_f64(),
            Err(behind) => -behind.duration().as_secs_f64(),
        };
        wall - began.elapsed().as_secs_f64()
    }

    /// Whether the wall clock has jumped since: what was read then must be read again before it is written (rule M).
    pub(super) fn jumped_since(&self, then: Drift) -> bool {
        (self.drifted() - then.seconds).abs() > JUMP_SECONDS
    }

    /// Tells of a page that is durable, and of what the run consumed so far.
    pub(super) fn page_done(&self, segment: Option<u32>, shard: Option<&str>, tally: Tally) {
        self.tell(&Event::PageDone {
            segment,
            shard: shard.map(str::to_owned),
            tally,
            read_units: self.read.consumed(),
            write_units: self.write.consumed(),
            kms_requests: self.kms_count.load(Ordering::Relaxed),
        });
    }

    /// Takes one of the items that may be rewritten.
    pub(super) fn ticket(&self) -> bool {
        self.tickets.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok()
    }

    /// Gives a ticket back: its item was not rewritten after all.
    pub(super) fn unused_ticket(&self) {
        self.tickets.fetch_add(1, Ordering::AcqRel);
    }

    /// Loads the open entries of the failure ledger, so that pages can close them.
    pub(super) async fn load_failures(&self, journal: &dyn Journal) -> Result<(), JournalError> {
        let keys = journal.open_failures().await?.into_iter().map(|failure| (failure.key, 0));
        self.failures().entries = keys.collect();
        Ok(())
    }

    /// To be asked just before the ledger is written: which of the entries close whose items were seen done. `seen` is the
    /// number of entries before the items were read: what somebody else found of an item since, scan or tail, may be of
    /// a later state.
    pub(super) fn record(&self, failures: &[Failure], done: Vec<Key>, seen: u64) -> Vec<Key> {
        let mut open = self.failures();
        for failure in failures {
            open.made += 1;
            let made = open.made;
            open.entries.insert(failure.key.clone(), made);
        }
        let mut closes = |key: &Key| {
            let old = open.entries.get(key).is_some_and(|made| *made <= seen);
            old && open.entries.remove(key).is_some()
        };
        done.into_iter().filter(|key| closes(key)).collect()
    }

    /// The open entries of the failure ledger. Never held across an await.
    pub(super) fn failures(&self) -> MutexGuard<'_, Open> {
        self.open_failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What key services granted. Never held across an await.
    pub(super) fn grants(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps before a request is made again, after so many of a kind that failed.
    pub(super) async fn back_off(&self, attempts: u32) {
        let mut byte = [0_u8; 1];
        (self.settings.entropy)(&mut byte);
        tokio::time::sleep(pause(attempts, f64::from(byte[0]) / 255.0)).await;
    }

    /// Waits after a request without an answer; `false` when there were too many in a row.
    pub(super) async fn silent(&self, tries: &mut Tries) -> bool {
        if tries.silences >= SILENCES {
            return false;
        }
        self.back_off(tries.silences).await;
        tries.silences += 1;
        true
    }

    /// Waits for the operator to mend something, and says so once per request.
    pub(super) async fn hold(&self, tries: &mut Tries, reason: &str) {
        tries.silences = 0;
        if !std::mem::replace(&mut tries.held, true) {
            self.tell(&Event::Holding { reason: reason.to_owned() });
        }
        tokio::time::sleep(HOLD).await;
    }

    /// The service asks for fewer requests.
    pub(super) fn slow_down(&self, throttle: &Throttle, tries: &mut Tries, reason: &str) {
        tries.silences = 0;
        throttle.slow_down(reason);
        self.tell(&Event::Throttled { reason: reason.to_owned() });
    }
}

/// More than clocks are slewed while a page is worked on, and less than a lease would last.
const JUMP_SECONDS: f64 = 5.0;

/// How often credentials are tried again while a run holds for them.
const HOLD: Duration = Duration::from_secs(5);

/// Requests that may fail without an answer, one after the other, before the run stops: about five minutes of pauses.
const SILENCES: u32 = 64;
