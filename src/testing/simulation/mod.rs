//! The engine in a simulated world: applications at its worst moments, services that fail, processes that die. A world
//! follows from one number and runs the same way each time; after every step the invariants of docs/SAFETY.md hold, or
//! the number is printed and the world is made smaller until nothing can be left out.

mod keys;
mod mistake;
mod shards;
mod shrink;
mod table;
#[cfg(test)]
mod tests;
mod trail;
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
pub use world::{
    Act, End, Form, Job, Life, Pace, Regions, Rotation, Shape, Stream, Versions, Weather, What, When, Work, World,
};

use self::keys::SimKms;
use self::mistake::{MistakenJournal, MistakenKeyring, MistakenShards, MistakenTable};
use self::shards::SimStreams;
use self::table::{SimTable, Witness};
use self::watch::{Claim, Watch, Watched};
use self::world::{Rng, SECRET};
use crate::keyring::{Keyring, KeyringClass, KeyringError, Wanted};
use crate::migration::From;
use crate::pipeline::{
    Ended, Follow, Observer, Ports, Report, RunError, Settings, Stop, Until, run, run_keys, tail, verify,
};
use crate::store::{Journal, Shards, Table, Via};
use crate::testing::{MemoryJournal, MemoryShards, MemoryTable, Tripwire};

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
    /// Records of the stream whose outcome became durable.
    pub records: u64,
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
    streams: SimStreams,
    journal: Arc<MemoryJournal>,
    watch: Arc<Watch>,
}

/// Longer than any world lasts that comes to an end, pauses aside: a world that goes on is stuck.
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
    let streams = SimStreams::new(&world.weather, world.seed, Arc::clone(&watch));
    let journal = Arc::default();
    let simulation = Simulation { world, mistake, table, kms, streams, journal, watch: Arc::clone(&watch) };
    let clock = tokio::spawn(Arc::clone(&watch).act_by_the_clock(world.acts.clone()));
    let paused: u64 = world.lives.iter().map(|life| life.pause).sum();
    let stalled = world.weather.stalled.map_or(0, |(_, seconds)| seconds);
    let forever = FOREVER + Duration::from_secs(paused + stalled);
    let mut ended = 0;
    tokio::select! {
        biased;
        () = watch.violated.cancelled() => {}
        done = timeout(forever, simulation.go(&mut ended, &clock)) => if done.is_err() {
            watch.violate(5, "the run is stuck");
        },
    }
    watch.demand_budgets();
    simulation.demand_silence(logs).await;
    let (written, acts) = watch.counts();
    let mut faults = simulation.table.faults();
    faults.extend(simulation.kms.faults());
    faults.extend(simulation.streams.faults());
    let (records, lost, gaps) = watch.records();
    faults.extend([("record of the stream lost", lost), ("gap in the stream", gaps)]);
    Outcome {
        violation: watch.violation(),
        calls: simulation.table.calls() + simulation.kms.calls() + simulation.streams.calls(),
        written,
        acts,
        records,
        ended,
        faults,
        time: began.elapsed(),
        trace: watch.trace(),
    }
}

/// Whether a process ended because it may not use a key.
const fn is_denied(error: &RunError) -> bool {
    matches!(error, RunError::Keyring(KeyringError { class: KeyringClass::Denied, .. }))
}

impl Simulation<'_> {
    /// Life after life, and in the end a quiet one.
    async fn go(&self, ended: &mut u64, clock: &tokio::task::JoinHandle<()>) {
        let usual = Life { end: None, work: Work::RunAndTail, max_items: None, pause: 0 };
        let lives = self.world.lives.iter().copied().chain(std::iter::repeat_n(usual, LIVES));
        for (number, life) in lives.enumerate() {
            let report = self.life(life).await;
            self.watch.tell(|| format!("process {number} ended: {report:?}"));
            let complete = matches!(&report, Some(Ok(Report { ended: Ended::Complete, .. })));
            *ended += u64::from(life.end.is_some() && !complete);
            if self.never_written(report.as_ref()) {
                return;
            }
            sleep(BETWEEN + Duration::from_secs(life.pause)).await;
            if complete && number >= self.world.lives.len() && clock.is_finished() {
                break;
            }
        }
        // Requests that are under way arrive within half a minute.
        sleep(Duration::from_secs(40)).await;
        self.table.calm();
        self.kms.calm();
        self.streams.calm();
        // In calm weather applications go on while the stream is read, and no longer.
        let acts = self.world.stream.as_ref().map_or(&[][..], |stream| &stream.last);
        let acting = self.watch.go_on_with(acts);
        self.complete(usual).await;
        if self.world.stream.is_some() {
            sleep(BETWEEN).await;
            self.watch.split();
            self.complete(Life { work: Work::Tail, ..usual }).await;
        }
        acting.abort();
        self.watch.go_on_with(&[]).abort();
        if self.world.stream.is_some() {
            sleep(BETWEEN).await;
            self.complete(usual).await;
        }
        self.watch.demand_end(&self.journal).await;
        for pass in self.journal.passes() {
            if !pass.tally.balances() {
                self.watch.violate(9, format!("pass {}: {:?} does not balance", pass.number, pass.tally));
            }
        }
        if self.world.stream.is_some() {
            // Our own writes have come by, and led to no further ones.
            sleep(BETWEEN).await;
            let (written, _) = self.watch.counts();
            let allowed = self.complete(usual).await;
            let again = self.watch.counts().0 - written;
            // What was denied until then is not done.
            if again > 0 && !allowed {
                self.watch.violate(6, format!("{again} writes when all was done"));
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

    /// In calm weather a process comes to its end. Says whether a key had to be allowed before.
    async fn complete(&self, life: Life) -> bool {
        let mut report = self.life(life).await;
        let denied = matches!(&report, Some(Err(error)) if is_denied(error));
        if denied {
            // What was denied is not any more.
            sleep(BETWEEN).await;
            report = self.life(life).await;
        }
        match report {
            Some(Ok(Report { ended: Ended::Complete, .. })) => {}
            other => self.watch.violate(5, format!("in calm weather the run ends with {other:?}")),
        }
        denied
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
        let mut journal: Arc<dyn Journal> = wire.wire(self.watched());
        let mut policy = self.watch.policy.clone();
        if let Some(mistake) = self.mistake {
            journal = Arc::new(MistakenJournal(journal, mistake));
            mistake.change(&mut policy);
        }
        let (ports, policy) = (self.ports(Some(&wire)), Arc::new(policy));
        let mut settings = self.settings();
        settings.max_items = life.max_items;
        let stream = self.watch.stream();
        let (work, shards) = match stream {
            Some(stream) => (life.work, Some(self.shards(stream, &wire, life.work == Work::Tail))),
            None if life.work == Work::Keys => (Work::Keys, None),
            None => (Work::Run, None),
        };
        let told = self.watch.told();
        let work = async {
            let report = match work {
                Work::Keys => run_keys(ports, journal, policy, settings, &self.keys(), &stop).await,
                Work::Run => run(ports, None, journal, policy, settings, &stop).await,
                Work::RunAndTail => {
                    let follow = shards.map(|shards| Follow { shards, until: Until::Drained, from: From::Now });
                    run(ports, follow, journal, policy, settings, &stop).await
                }
                Work::Tail => {
                    let until = if life.end.is_some() { Until::Stopped } else { Until::Drained };
                    let follow = Follow { shards: shards.expect("there is a stream"), until, from: From::Now };
                    tail(ports, follow, journal, policy, settings, &stop).await
                }
            };
            if let Ok(Report { ended: Ended::Complete, .. }) = &report {
                match work {
                    Work::Keys => {}
                    Work::Run => self.watch.demand(Claim::Passes, &self.journal).await,
                    Work::RunAndTail => self.watch.demand(Claim::PassesAndStream, &self.journal).await,
                    Work::Tail => self.watch.demand(Claim::Stream(told), &self.journal).await,
                }
            }
            report
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
        let report = tokio::select! {
            biased;
            () = wire.tripped() => None,
            report = work => Some(report),
            () = stopping => None,
        };
        self.keys_denied(report.as_ref());
        report
    }

    /// A process ended: what it was denied had the right consequence, and the operator sees to it if that was the end.
    fn keys_denied(&self, report: Option<&Result<Report, RunError>>) {
        match report {
            Some(Err(RunError::Keyring(error))) => {
                self.watch.demand_denial(error);
                if error.class == KeyringClass::Denied {
                    self.kms.allow();
                }
            }
            Some(Ok(Report { ended: Ended::Complete, .. })) => self.watch.demand_grants(),
            _ => {}
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

    fn watched(&self) -> Arc<dyn Journal> {
        Arc::new(Watched { journal: Arc::clone(&self.journal), watch: Arc::clone(&self.watch) })
    }

    /// The stream, as a process reads it.
    fn shards(&self, stream: Arc<MemoryShards>, wire: &Arc<Tripwire>, alone: bool) -> Arc<dyn Shards> {
        let shards = self.streams.present(stream);
        let shards: Arc<dyn Shards> = match self.mistake {
            Some(mistake) => Arc::new(MistakenShards::new(shards, mistake, self.watched(), (self.world.seed, alone))),
            None => Arc::new(shards),
        };
        wire.wire(shards)
    }

    /// The services as a process sees them that begins now.
    fn ports(&self, wire: Option<&Arc<Tripwire>>) -> Ports {
        self.watch.process();
        let Rotation { versions, regions, .. } = self.world.rotation;
        let keyring = |wanted: Wanted, versions: Versions| -> Arc<dyn Keyring> {
            let keyring = self.kms.key(wanted, versions, Arc::clone(&self.watch) as Arc<dyn Witness>);
            let keyring: Arc<dyn Keyring> = match wire {
                Some(wire) => wire.wire(Arc::new(keyring) as Arc<dyn Keyring>),
                None => Arc::new(keyring),
            };
            match self.mistake {
                Some(mistake) => Arc::new(MistakenKeyring::new(keyring, mistake, self.kms.clone())),
                None => keyring,
            }
        };
        let source = |form| keyring(Wanted::exactly(keys::recipient(World::key_of(form))), Versions::One);
        let table: Arc<dyn Table> = match self.mistake {
            Some(mistake) => Arc::new(MistakenTable::new(self.table.clone(), mistake, Arc::clone(&self.watch))),
            None => Arc::new(self.table.clone()),
        };
        let seals = self.world.job != Job::Unseal;
        Ports {
            table: wire.map_or_else(|| Arc::clone(&table), |wire| wire.wire(Arc::clone(&table))),
            target: seals.then(|| keyring(self.world.wanted(), versions)),
            sources: match (seals, regions) {
                (false, _) => vec![source(Form::Old), source(Form::New)],
                (true, Regions::Strict) => vec![source(Form::Old), source(Form::Replica)],
                (true, _) => vec![source(Form::Old)],
            },
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
