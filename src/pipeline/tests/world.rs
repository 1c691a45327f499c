//! A table of customers, the job that seals it, and everything that a run needs.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::crypto::{Recipient, Suite};
use crate::format::dbesdk::{self, Inspection};
use crate::format::{Action, Schema, Unsigned};
use crate::item::{Item, Key, KeyNames, Number, Value};
use crate::keyring::{Keyring, RawAes};
use crate::migration::{Depth, Failure, FailureKind, Policy, Rewrite, Target, Verdict};
use crate::pipeline::{Event, Observer, Ports, Report, RunError, Settings, Stop, run};
use crate::store::{Journal, Table};
use crate::testing::{Call, FaultyTable, MemoryJournal, MemoryTable, TableFault};

/// Remembers every event.
#[derive(Default)]
pub(super) struct Heard(Mutex<Vec<Event>>);

impl Observer for Heard {
    fn on(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

/// The outside world, and what the job wants of it.
pub(super) struct World {
    pub(super) table: Arc<MemoryTable>,
    pub(super) journal: Arc<MemoryJournal>,
    pub(super) keyring: Arc<dyn Keyring>,
    pub(super) sources: Vec<Arc<dyn Keyring>>,
    pub(super) policy: Policy,
    pub(super) settings: Settings,
    heard: Arc<Heard>,
}

impl World {
    /// An empty table, to be sealed with the key `k1`.
    pub(super) fn new() -> Self {
        jump(Duration::ZERO, Duration::ZERO);
        let keyring = raw("k1");
        Self {
            table: Arc::new(MemoryTable::new(names())),
            journal: Arc::default(),
            policy: Policy {
                schema: schema(1),
                accept_plaintext: true,
                accept_dbesdk: true,
                target: Target::Dbesdk { suite: Suite::HmacSha384, recipients: keyring.recipients().to_vec() },
                depth: Depth::Reencrypt,
            },
            keyring,
            sources: Vec::new(),
            settings: settings(),
            heard: Arc::default(),
        }
    }

    /// A table of so many customers in plaintext.
    pub(super) fn of(customers: u32) -> Self {
        let world = Self::new();
        for i in 0..customers {
            world.table.put(customer(i)).unwrap();
        }
        world
    }

    pub(super) fn ports(&self, table: Arc<dyn Table>) -> Ports {
        let target = matches!(self.policy.target, Target::Dbesdk { .. }).then(|| Arc::clone(&self.keyring));
        Ports { table, target, sources: self.sources.clone(), observer: Arc::clone(&self.heard) as Arc<dyn Observer> }
    }

    /// Runs to the end on services that work.
    pub(super) async fn run(&self) -> Report {
        self.run_on(Arc::clone(&self.table) as Arc<dyn Table>, &Stop::default()).await.unwrap()
    }

    /// Runs on a table that fails as a script says.
    pub(super) async fn run_with(
        &self,
        script: impl FnMut(&MemoryTable, Call<'_>) -> TableFault + Send + 'static,
    ) -> Result<Report, RunError> {
        self.run_on(self.faulty(script), &Stop::default()).await
    }

    pub(super) fn faulty(
        &self,
        script: impl FnMut(&MemoryTable, Call<'_>) -> TableFault + Send + 'static,
    ) -> Arc<FaultyTable> {
        Arc::new(FaultyTable::new(Arc::clone(&self.table), script))
    }

    pub(super) async fn run_on(&self, table: Arc<dyn Table>, stop: &Stop) -> Result<Report, RunError> {
        let journal = Arc::clone(&self.journal) as Arc<dyn Journal>;
        run(self.ports(table), None, journal, Arc::new(self.policy.clone()), self.settings.clone(), stop).await
    }

    /// Has the job seal with this key from now on.
    pub(super) fn retarget(&mut self, key: &str, suite: Suite) {
        self.sources.push(std::mem::replace(&mut self.keyring, raw(key)));
        self.policy.target = Target::Dbesdk { suite, recipients: self.keyring.recipients().to_vec() };
    }

    /// The item in plaintext, opened with the target's keyring if it is sealed; `None` where there is none.
    pub(super) async fn opened(&self, key: &Key) -> Option<Item> {
        let item = self.table.peek(key)?;
        let Inspection::Sealed(sealed) = dbesdk::inspect(&self.policy.schema, &item).unwrap() else {
            return Some(item);
        };
        let wrapped = sealed.head.edks[0].wrapped().unwrap();
        let unwrapped = self.keyring.unwrap(wrapped, &sealed.context).await.unwrap();
        Some(dbesdk::open(&item, &sealed, 0, &unwrapped).unwrap())
    }

    /// Demands that the item is at target and opens to this one.
    pub(super) async fn demand(&self, expected: &Item) {
        let key = names().key_of(expected).unwrap();
        let item = self.table.peek(&key).unwrap_or_else(|| panic!("{key} is gone"));
        let verdict = self.policy.classify(&item);
        assert!(matches!(verdict, Ok(Verdict::Current(_))), "{key}: {verdict:?}");
        let opened = self.opened(&key).await.unwrap();
        assert!(opened.same(expected), "{key}: {opened:?} instead of {expected:?}");
    }

    /// Demands that the table holds so many customers as they were made, at target, and nothing else.
    pub(super) async fn demand_all(&self, customers: u32) {
        assert_eq!(self.table.items().len(), customers as usize);
        for i in 0..customers {
            self.demand(&customer(i)).await;
        }
    }

    /// The open ledger.
    pub(super) async fn ledger(&self) -> Vec<(String, FailureKind)> {
        let open = self.journal.open_failures().await.unwrap();
        open.into_iter().map(|Failure { key, kind, .. }| (key.to_string(), kind)).collect()
    }

    /// Events for which the question is answered with yes.
    pub(super) fn heard(&self, question: impl Fn(&Event) -> bool) -> usize {
        self.heard.0.lock().unwrap().iter().filter(|event| question(event)).count()
    }
}

/// A keyring whose AES key follows from its name.
pub(super) fn raw(name: &str) -> Arc<dyn Keyring> {
    let byte = name.bytes().fold(7_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    Arc::new(RawAes::new("acme", name, &[byte; 32]).unwrap())
}

/// How the items of a header version are protected: `email` and `note` encrypted, `region` signed, `visits` neither.
pub(super) fn schema(version: u8) -> Schema {
    let key = if version == 1 { Action::SignOnly } else { Action::SignAndIncludeInEncryptionContext };
    let actions = [
        ("id", key),
        ("email", Action::EncryptAndSign),
        ("note", Action::EncryptAndSign),
        ("region", key),
        ("visits", Action::DoNothing),
    ];
    Schema {
        logical_table: "customers".to_owned(),
        keys: names(),
        actions: actions.into_iter().map(|(name, action)| (name.to_owned(), action)).collect(),
        unsigned: Unsigned { names: BTreeSet::from(["visits".to_owned()]), prefix: None },
    }
}

pub(super) fn names() -> KeyNames {
    KeyNames { partition: "id".to_owned(), sort: None }
}

/// One customer in plaintext, without the attribute `note`.
pub(super) fn customer(i: u32) -> Item {
    [
        ("id", Value::from(name(i).as_str())),
        ("email", Value::from(format!("{i}@example.org").as_str())),
        ("region", Value::from("eu")),
        ("visits", Value::Number(Number::parse("1").unwrap())),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// The customer with one attribute set.
pub(super) fn customer_with(i: u32, attribute: &str, value: &str) -> Item {
    let mut item = customer(i);
    item.insert(attribute, Value::from(value));
    item
}

/// Customers are scanned in the order of their numbers.
fn name(i: u32) -> String {
    format!("c{i:04}")
}

pub(super) fn key(i: u32) -> Key {
    names().key_of(&customer(i)).unwrap()
}

/// Whether the update is the probe of the ground.
pub(super) fn is_probe(rewrites: &[Rewrite]) -> bool {
    rewrites.iter().any(crate::testing::is_probe)
}

/// Acts as an application just before the n-th update, from 0 and the probe not counted, takes effect.
pub(super) fn before_update(
    n: u64,
    act: impl Fn(&MemoryTable) + Send + 'static,
) -> impl FnMut(&MemoryTable, Call<'_>) -> TableFault + Send + 'static {
    at_update(n, move |table| {
        act(table);
        TableFault::None
    })
}

/// Has the n-th update, from 0 and the probe not counted, go wrong.
pub(super) fn at_update(
    n: u64,
    fault: impl Fn(&MemoryTable) -> TableFault + Send + 'static,
) -> impl FnMut(&MemoryTable, Call<'_>) -> TableFault + Send + 'static {
    let mut updates = 0;
    move |table, call| match call {
        Call::Update(rewrites, _) if !is_probe(rewrites) => {
            updates += 1;
            if updates == n + 1 { fault(table) } else { TableFault::None }
        }
        _ => TableFault::None,
    }
}

pub(super) fn recipient(name: &str) -> Recipient {
    Recipient { provider: "acme".to_owned(), key: name.to_owned() }
}

fn settings() -> Settings {
    Settings { wall, ..crate::testing::settings() }
}

thread_local! {
    /// By how much the wall clock was set forward, or back, on this test's thread.
    static JUMPED: Cell<(Duration, Duration)> = const { Cell::new((Duration::ZERO, Duration::ZERO)) };
    static BEGAN: Instant = Instant::now();
}

/// A wall clock that goes along with tokio's, and jumps.
fn wall() -> SystemTime {
    let (forward, back) = JUMPED.get();
    let elapsed = BEGAN.with(Instant::elapsed);
    SystemTime::UNIX_EPOCH + Duration::from_hours(24) + elapsed + forward - back
}

/// Sets the wall clock of this test's thread.
pub(super) fn jump(forward: Duration, back: Duration) {
    JUMPED.set((forward, back));
}
