//! The engine in a simulated world: applications at its worst moments, services that fail, processes that die. A world
//! follows from one number and runs the same way each time; after every step the invariants of docs/SAFETY.md hold, or
//! the number is printed and the world is made smaller until nothing can be left out.

mod keys;
mod mistake;
mod shrink;
mod table;
#[cfg(test)]
mod tests;
mod watch;
mod world;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::{Instant, sleep, timeout};

pub use mistake::Mistake;
pub use shrink::shrink;
pub use table::calm;
pub use watch::Violation;
pub use world::{Act, End, Form, Job, Life, Pace, Shape, Weather, What, When, World};

use self::keys::SimKms;
use self::mistake::{MistakenJournal, MistakenKeyring, MistakenTable};
use self::table::{SimTable, Witness};
use self::watch::{Watch, Watched};
use self::world::{Rng, SECRET};
use crate::keyring::Keyring;
use crate::pipeline::{Ended, Observer, Ports, Report, RunError, Settings, Stop, run, run_keys, verify};
use crate::store::{Journal, Table, Via};
use crate::testing::{MemoryJournal, MemoryTable, Tripwire};

/// What a simulation came to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What was violated first, if anything was.
    pub violation: Option<Violation>,
    /// Calls that reached the services.
    pub calls: u64,
    /// Writes that took effect.
    pub written: u64,
    /// What applications did.
    pub acts: u64,
    /// Processes that were killed or stopped.
    pub ended: u64,
    /// Faults met, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// How long it took in the world's own time.
    pub time: Duration,
    /// What happened, line by line, if that was asked for.
    pub trace: Vec<String>,
}

/// Runs a world to its end, or to the first violation. With a mistake planted, there should be one.
#[must_use]
pub fn simulate(world: &World, mistake: Option<Mistake>, traced: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without I/O needs nothing that could be missing");
    let logs = Logs::default();
    let writer = logs.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .without_time()
        .finish();
    tracing::subscriber::with_default(subscriber, || runtime.block_on(live(world, mistake, traced, &logs)))
}

/// Everything that is logged.
#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

thread_local! {
    static ENTROPY: RefCell<Rng> = RefCell::new(Rng::seed_from_u64(0));
    static WALL: Cell<Option<(Instant, i64)>> = const { Cell::new(None) };
}

fn entropy(bytes: &mut [u8]) {
    ENTROPY.with_borrow_mut(|rng| rng.fill_bytes(bytes));
}

/// A wall clock that goes along with the world's, and is set by others.
fn wall() -> SystemTime {
    let (elapsed, jumped) = WALL.get().map_or((Duration::ZERO, 0), |(began, jumped)| (began.elapsed(), jumped));
    let day = SystemTime::UNIX_EPOCH + Duration::from_hours(24) + elapsed;
    if jumped < 0 {
        day - Duration::from_secs(jumped.unsigned_abs())
    } else {
        day + Duration::from_secs(jumped.unsigned_abs())
    }
}

/// Sets the wall clock by so many seconds.
fn set_clock(seconds: i64) {
    WALL.set(WALL.get().map(|(began, jumped)| (began, jumped + seconds)));
}

/// A world in motion.
struct Simulation<'a> {
    world: &'a World,
    mistake: Option<Mistake>,
    table: SimTable,
    kms: SimKms,
    journal: Arc<MemoryJournal>,
    watch: Arc<Watch>,
}

/// Longer than any world lasts that comes to an end: a world that goes on is stuck.
const FOREVER: Duration = Duration::from_hours(24);
/// Processes after those that die, before the world is said to come to no end.
const LIVES: usize = 60;

/// Between two processes: each begins with a second's worth of every budget.
const BETWEEN: Duration = Duration::from_secs(1);

async fn live(world: &World, mistake: Option<Mistake>, traced: bool, logs: &Logs) -> Outcome {
    let began = Instant::now();
    ENTROPY.set(Rng::seed_from_u64(world.seed));
    WALL.set(Some((began, 0)));
    let memory = Arc::new(MemoryTable::new(world.keys()));
    let kms = SimKms::new(&world.weather, world.seed);
    let watch = Arc::new(Watch::new(world, watch::policy(world), Arc::clone(&memory), kms.clone(), traced));
    let table = SimTable::new(memory, &world.weather, world.seed, Arc::clone(&watch) as Arc<dyn Witness>);
    let simulation = Simulation { world, mistake, table, kms, journal: Arc::default(), watch: Arc::clone(&watch) };
    let clock = tokio::spawn(Arc::clone(&watch).act_by_the_clock());
    let mut ended = 0;
    tokio::select! {
        biased;
        () = watch.violated.cancelled() => {}
        done = timeout(FOREVER, simulation.go(&mut ended, &clock)) => if done.is_err() {
            watch.violate(5, "the run is stuck");
        },
    }
    watch.demand_budgets();
    simulation.demand_silence(logs).await;
    let (written, acts) = watch.counts();
    let mut faults = simulation.table.faults();
    faults.extend(simulation.kms.faults());
    Outcome {
        violation: watch.violation(),
        calls: simulation.table.calls() + simulation.kms.calls(),
        written,
        acts,
        ended,
        faults,
        time: began.elapsed(),
        trace: watch.trace(),
    }
}

impl Simulation<'_> {
    /// Life after life, and in the end a quiet one.
    async fn go(&self, ended: &mut u64, clock: &tokio::task::JoinHandle<()>) {
        let usual = Life { end: None, keys: false, max_items: None };
        let lives = self.world.lives.iter().copied().chain(std::iter::repeat_n(usual, LIVES));
        for (number, life) in lives.enumerate() {
            let report = self.life(life).await;
            self.watch.tell(|| format!("process {number} ended: {report:?}"));
            *ended +=
                u64::from(life.end.is_some() && !matches!(&report, Some(Ok(Report { ended: Ended::Complete, .. }))));
            if self.never_written(report.as_ref()) {
                return;
            }
            sleep(BETWEEN).await;
            let complete = matches!(&report, Some(Ok(Report { ended: Ended::Complete, .. })));
            if complete && number >= self.world.lives.len() && clock.is_finished() {
                break;
            }
        }
        // Requests that are under way arrive within half a minute.
        sleep(Duration::from_secs(40)).await;
        self.table.calm();
        self.kms.calm();
        self.watch.calm();
        match self.life(usual).await {
            Some(Ok(Report { ended: Ended::Complete, .. })) => {}
            other => return self.watch.violate(5, format!("in calm weather the run ends with {other:?}")),
        }
        self.watch.demand_end(&self.journal).await;
        for pass in self.journal.passes() {
            if !pass.tally.balances() {
                self.watch.violate(9, format!("pass {}: {:?} does not balance", pass.number, pass.tally));
            }
        }
        self.kms.allow();
        sleep(BETWEEN).await;
        let verified = verify(self.ports(None), &self.watch.policy, self.settings(), &Stop::default()).await;
        let (readable, items) = self.watch.readable();
        match verified {
            Ok(found) if found.complete && found.scanned == items && found.current == readable => {}
            found => {
                self.watch.violate(3, format!("{readable} of {items} items are readable, and verify says {found:?}"));
            }
        }
    }

    /// On ground that is not solid a run must refuse, or find nothing to do; and nothing more happens.
    fn never_written(&self, report: Option<&Result<Report, RunError>>) -> bool {
        let weather = &self.world.weather;
        if !weather.ignores_conditions && !weather.keys_damaged {
            return false;
        }
        match report {
            None | Some(Ok(_) | Err(RunError::Ground(_) | RunError::Proof(_) | RunError::Keyring(_))) => {}
            Some(Err(other)) => self.watch.violate(5, format!("refused for another reason: {other}")),
        }
        // Every process after the first would say the same.
        report.is_some()
    }

    /// One process: `None` when it was killed.
    async fn life(&self, life: Life) -> Option<Result<Report, RunError>> {
        let at = if let Some(End::Killed(moment)) = life.end { moment } else { u64::MAX };
        let (wire, stop) = (Tripwire::at(at), Stop::default());
        let journal: Arc<dyn Journal> =
            Arc::new(Watched { journal: Arc::clone(&self.journal), watch: Arc::clone(&self.watch) });
        let mut journal: Arc<dyn Journal> = wire.wire(journal);
        if self.mistake == Some(Mistake::LedgerAfterCheckpoint) {
            journal = Arc::new(MistakenJournal(journal));
        }
        let (ports, policy) = (self.ports(Some(&wire)), Arc::new(self.watch.policy.clone()));
        let mut settings = self.settings();
        settings.max_items = life.max_items;
        let keys = if life.keys { self.keys() } else { Vec::new() };
        let work = async {
            if life.keys {
                run_keys(ports, journal, policy, settings, &keys, &stop).await
            } else {
                run(ports, None, journal, policy, settings, &stop).await
            }
        };
        let stopping = async {
            match life.end {
                Some(End::Stopped(ms)) => {
                    sleep(Duration::from_millis(ms)).await;
                    stop.gently.cancel();
                }
                Some(End::StoppedAtOnce(ms)) => {
                    sleep(Duration::from_millis(ms)).await;
                    stop.at_once.cancel();
                }
                _ => {}
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = wire.tripped() => None,
            report = work => Some(report),
            () = stopping => None,
        }
    }

    /// Every second item of the world, there or not.
    fn keys(&self) -> Vec<crate::item::Key> {
        let names = self.world.keys();
        (0..self.world.items.len())
            .step_by(2)
            .filter_map(|number| names.key_of(&self.world.item(number, 0, Form::Plain)).ok())
            .collect()
    }

    fn ports(&self, wire: Option<&Arc<Tripwire>>) -> Ports {
        let keyring = |name: &str| -> Arc<dyn Keyring> {
            let keyring = self.kms.key(name, Arc::clone(&self.watch) as Arc<dyn Witness>);
            let keyring: Arc<dyn Keyring> = match wire {
                Some(wire) => wire.wire(Arc::new(keyring) as Arc<dyn Keyring>),
                None => Arc::new(keyring),
            };
            match self.mistake {
                Some(mistake @ (Mistake::OtherItemsContext | Mistake::ProofSkipped)) => {
                    Arc::new(MistakenKeyring::new(keyring, mistake))
                }
                _ => keyring,
            }
        };
        let table: Arc<dyn Table> = match self.mistake {
            Some(mistake) => Arc::new(MistakenTable::new(self.table.clone(), mistake, self.world.keys())),
            None => Arc::new(self.table.clone()),
        };
        let seals = self.world.job != Job::Unseal;
        Ports {
            table: wire.map_or_else(|| Arc::clone(&table), |wire| wire.wire(Arc::clone(&table))),
            target: seals.then(|| keyring("new")),
            sources: if seals { vec![keyring("old")] } else { vec![keyring("old"), keyring("new")] },
            observer: Arc::clone(&self.watch) as Arc<dyn Observer>,
        }
    }

    fn settings(&self) -> Settings {
        let pace = self.world.pace;
        let [read, write, keys] = pace.budgets.map(|budget| match self.mistake {
            Some(Mistake::BudgetIgnored) => None,
            _ => budget.and_then(NonZeroU32::new),
        });
        Settings {
            segments: pace.segments,
            pages_in_flight: pace.pages_in_flight,
            pages_in_memory: pace.pages_in_flight * pace.segments as usize,
            writes_in_flight: pace.in_flight,
            keys_in_flight: pace.in_flight,
            read_units: read,
            write_units: write,
            kms_requests: keys,
            page_items: Some(pace.page_items),
            attempts: pace.attempts,
            writer: if pace.single { Via::Single } else { Via::Batch },
            entropy,
            wall,
            ..crate::testing::settings()
        }
    }

    /// Invariant 10: no value that is to be encrypted and no key is in anything that stays or is said.
    async fn demand_silence(&self, logs: &Logs) {
        let mut said = self.watch.said();
        said.push(format!("{:?}", self.journal.passes()));
        let failures = self.journal.open_failures().await.unwrap_or_default();
        said.extend(failures.iter().map(|failure| format!("{failure:?} {} {}", failure.key, failure.detail)));
        let logged = std::mem::take(&mut *logs.0.lock().unwrap_or_else(PoisonError::into_inner));
        said.push(String::from_utf8_lossy(&logged).into_owned());
        let said = said.concat();
        if said.contains(SECRET) {
            self.watch.violate(10, "a value was said aloud");
        }
        for key in self.kms.material() {
            let spellings = [
                format!("{:012x}", key[..6].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))),
                format!("{:?}", &key[..6]).trim_matches(['[', ']']).to_owned(),
                base64::engine::general_purpose::STANDARD.encode(&key[..6]),
            ];
            if spellings.iter().any(|spelling| said.contains(spelling)) {
                self.watch.violate(10, "a key was said aloud");
            }
        }
    }
}
