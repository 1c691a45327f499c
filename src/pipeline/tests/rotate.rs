//! Rotation: depths, what only a keyring knows of an item, and keys that are denied.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::world::{World, customer, customer_with, key, raw};
use crate::crypto::{EncryptionContext, Suite};
use crate::format::dbesdk::{self, FOOT, HEAD, Inspection, Sealed};
use crate::item::{Item, Value};
use crate::keyring::{Keyring, KeyringCall, KeyringClass, KeyringError, Secret, Wanted, WrappedKey, WrappedRef};
use crate::migration::{Depth, FailureKind, Tally};
use crate::pipeline::{Ended, Report, RunError, Stop, Verification, verify};
use crate::store::{Commit, Cursor, Journal as _, Table};
use crate::testing::{Call, TableFault};

const CUSTOMERS: u32 = 6;
/// More than are denied before a run stops.
const MANY: u32 = 12;

/// A keyring that tells of what it does, is denied what a script says, and may know of another material.
struct Told {
    keyring: Arc<dyn Keyring>,
    /// The intermediate keys that it made.
    made: Mutex<Vec<Secret>>,
    unwraps: AtomicU64,
    /// Whether a request under this context is denied.
    denied: fn(KeyringCall, &EncryptionContext) -> bool,
    /// Items of which it says that they are not current: those of these keys.
    stale: Option<&'static str>,
}

impl Told {
    fn around(keyring: &Arc<dyn Keyring>) -> Self {
        let keyring = Arc::clone(keyring);
        Self { keyring, made: Mutex::default(), unwraps: AtomicU64::new(0), denied: |_, _| false, stale: None }
    }

    fn ask(&self, call: KeyringCall, context: &EncryptionContext) -> Result<(), KeyringError> {
        let error = || KeyringError { class: KeyringClass::Denied, key: "k".to_owned(), problem: "denied".to_owned() };
        if (self.denied)(call, context) { Err(error()) } else { Ok(()) }
    }
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.keyring.fmt(f)
    }
}

#[async_trait]
impl Keyring for Told {
    fn recipients(&self) -> &[Wanted] {
        self.keyring.recipients()
    }

    fn accepts(&self, found: WrappedRef<'_>) -> bool {
        self.keyring.accepts(found)
    }

    fn requests(&self, _: KeyringCall) -> u32 {
        1
    }

    fn looks_deeper(&self) -> bool {
        self.stale.is_some()
    }

    async fn is_current(&self, _: &[WrappedRef<'_>], context: &EncryptionContext) -> Result<bool, KeyringError> {
        self.ask(KeyringCall::IsCurrent, context)?;
        Ok(!of(context, self.stale.unwrap_or_default()))
    }

    async fn generate(&self, context: &EncryptionContext) -> Result<Vec<WrappedKey>, KeyringError> {
        self.ask(KeyringCall::Generate, context)?;
        let made = self.keyring.generate(context).await?;
        self.made.lock().unwrap().extend(made.iter().map(|wrapped| wrapped.key.clone()));
        Ok(made)
    }

    async fn unwrap(&self, found: WrappedRef<'_>, context: &EncryptionContext) -> Result<Secret, KeyringError> {
        self.unwraps.fetch_add(1, Ordering::Relaxed);
        self.ask(KeyringCall::Unwrap, context)?;
        self.keyring.unwrap(found, context).await
    }
}

/// Whether a context is that of the customer of this name: header version 1 holds its key in Base64.
fn of(context: &EncryptionContext, name: &str) -> bool {
    use base64::Engine as _;
    let bytes = [&[0, 1][..], name.as_bytes()].concat();
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    context.get("aws-crypto-attr.id") == Some(text.as_str())
}

fn sealed(world: &World, i: u32) -> (Item, Sealed) {
    let item = world.table.peek(&key(i)).unwrap();
    match dbesdk::inspect(&world.policy.schema, &item).unwrap() {
        Inspection::Sealed(sealed) => (item, *sealed),
        Inspection::Plaintext => panic!("in plaintext"),
    }
}

async fn verified(world: &World) -> Verification {
    let ports = world.ports(Arc::clone(&world.table) as Arc<dyn Table>);
    verify(ports, &world.policy, world.settings.clone(), &Stop::default()).await.unwrap()
}

fn tallies(report: &Report) -> Vec<(u64, u64)> {
    report.passes.iter().map(|(_, tally)| (tally.rewritten, tally.failed)).collect()
}

/// Customers sealed under the key `k1`, to be rewrapped under `k2`.
async fn to_rewrap(suite: Suite) -> (World, Arc<Told>) {
    let mut world = World::of(CUSTOMERS);
    world.run().await;
    world.retarget("k2", suite);
    world.policy.depth = Depth::Rewrap;
    let told = Arc::new(Told::around(&world.keyring));
    world.keyring = Arc::clone(&told) as Arc<dyn Keyring>;
    (world, told)
}

#[tokio::test(start_paused = true)]
async fn a_rewrap_writes_header_and_footer_only_under_keys_that_serve_once() {
    for suite in Suite::ALL {
        let (world, told) = to_rewrap(suite).await;
        world.table.put(customer(CUSTOMERS)).unwrap();
        let before: Vec<(Item, Sealed)> = (0..CUSTOMERS).map(|i| sealed(&world, i)).collect();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&sent);
        let script = move |_: &_, call: Call<'_>| {
            if let Call::Update(rewrites, _) = call {
                let names = |rewrite: &crate::migration::Rewrite| {
                    rewrite.set.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
                };
                hears.lock().unwrap().extend(rewrites.iter().map(|rewrite| (rewrite.key.clone(), names(rewrite))));
            }
            TableFault::None
        };
        let report = world.run_with(script).await.unwrap();
        assert_eq!((&report.ended, tallies(&report)), (&Ended::Complete, vec![(7, 0), (0, 0)]));
        world.demand_all(CUSTOMERS + 1).await;
        for (i, (item, old)) in (0..CUSTOMERS).zip(&before) {
            let (now, new) = sealed(&world, i);
            assert_eq!((now.get("email"), new.head.message_id), (item.get("email"), old.head.message_id));
            let sent = sent.lock().unwrap();
            let (_, names) = sent.iter().find(|(sent, names)| *sent == key(i) && !names.is_empty()).unwrap();
            assert_eq!(names, &[FOOT, HEAD]);
        }
        let mut made = std::mem::take(&mut *told.made.lock().unwrap());
        assert_eq!(made.len(), 7);
        while let Some(key) = made.pop() {
            assert!(!made.contains(&key), "an intermediate key served twice");
        }

        let (items, counts) = (world.table.items(), world.table.counts());
        assert_eq!(tallies(&world.run().await), [(0, 0)]);
        assert_eq!((world.table.items(), world.table.counts().written), (items, counts.written));
        assert!(verified(&world).await.holds());
    }
}

#[tokio::test(start_paused = true)]
async fn a_mixed_item_is_not_rewrapped() {
    let (world, _) = to_rewrap(Suite::EcdsaP384).await;
    // Neither is seen by structure: a clear attribute that is signed, and a ciphertext of another item.
    let foreign = world.table.peek(&key(5)).unwrap();
    assert!(world.table.change(&key(0), |item| drop(item.insert("region", Value::from("us")))));
    assert!(world.table.change(&key(1), |item| drop(item.insert("email", foreign.get("email").unwrap().clone()))));
    assert!(world.table.change(&key(2), |item| drop(item.insert("note", Value::from("late")))));
    let before: Vec<_> = (0..3).map(|i| world.table.peek(&key(i))).collect();
    let report = world.run().await;
    assert_eq!(tallies(&report)[0], (3, 3));
    assert_eq!((0..3).map(|i| world.table.peek(&key(i))).collect::<Vec<_>>(), before);
    let kinds: Vec<FailureKind> = world.ledger().await.into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, [FailureKind::Broken, FailureKind::Broken, FailureKind::Mixed]);
}

#[tokio::test(start_paused = true)]
async fn a_rewrap_leaves_what_applications_write_meanwhile() {
    let (world, _) = to_rewrap(Suite::HmacSha384).await;
    let act = |table: &crate::testing::MemoryTable| {
        table.put(customer_with(0, "region", "us")).unwrap();
        table.delete(&key(1)).unwrap();
        assert!(table.change(&key(2), |item| drop(item.insert("visits", Value::from("many")))));
    };
    let report = world.run_with(super::world::before_update(0, act)).await.unwrap();
    assert_eq!((report.ended, report.failures.len()), (Ended::Complete, 0));
    assert_eq!(world.table.peek(&key(1)), None);
    for expected in [customer_with(0, "region", "us"), customer_with(2, "visits", "many"), customer(3)] {
        world.demand(&expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_only_the_keyring_knows_to_be_old_is_rewritten() {
    let mut world = World::of(CUSTOMERS);
    world.run().await;
    let before = (sealed(&world, 2).0, sealed(&world, 3).0);
    let told = Told { stale: Some("c0002"), ..Told::around(&world.keyring) };
    world.keyring = Arc::new(told);
    let found = verified(&world).await;
    assert_eq!((found.current, found.stale), (5, 1));
    world.settings.max_passes = 1;
    let report = world.run().await;
    assert_eq!(tallies(&report), [(1, 0)]);
    assert_ne!(sealed(&world, 2).0, before.0);
    assert_eq!(sealed(&world, 3).0, before.1);

    world.policy.accept_dbesdk = false;
    assert_eq!(tallies(&world.run().await), [(0, 1)]);
    assert!(world.ledger().await.iter().all(|(_, kind)| *kind == FailureKind::UnexpectedForm));
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_process_found_current_is_looked_at_again_where_only_the_keyring_knows() {
    let mut world = World::of(CUSTOMERS);
    world.run().await;
    // A process has read the whole table, and died.
    let segment = 0;
    world.journal.begin_pass(1).await.unwrap();
    let tally = Tally { scanned: 6, current: 6, ..Tally::default() };
    let commit = Commit { segment, cursor: Cursor::End, tally, failures: Vec::new(), done: Vec::new() };
    world.journal.commit(commit).await.unwrap();
    let told = Arc::new(Told { stale: Some("c0002"), ..Told::around(&world.keyring) });
    world.keyring = Arc::clone(&told) as Arc<dyn Keyring>;
    world.settings.max_passes = 2;
    let report = world.run().await;
    assert_eq!((report.ended.clone(), tallies(&report)), (Ended::StillFoundWork, vec![(0, 0), (1, 0)]));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_denied_for_some_items_fails_them_and_for_all_stops_the_run() {
    let denied = |customers, denied| async move {
        let mut world = World::of(customers);
        world.run().await;
        let source = Told { denied, ..Told::around(&world.keyring) };
        world.keyring = raw("k2");
        world.sources = vec![Arc::new(source)];
        world.policy.target = crate::migration::Target::Dbesdk {
            suite: Suite::HmacSha384,
            recipients: world.keyring.recipients().to_vec(),
        };
        let result = world.run_with(|_, _| TableFault::None).await;
        (result, world.ledger().await)
    };
    // The first of a page, before anything else was granted.
    let (result, ledger) = denied(MANY, |_, context| of(context, "c0000")).await;
    assert_eq!(tallies(&result.unwrap())[0], (u64::from(MANY) - 1, 1));
    assert_eq!(ledger, [(key(0).to_string(), FailureKind::Key)]);
    // A few may be all that are left.
    let (result, ledger) = denied(3, |_, _| true).await;
    assert_eq!((tallies(&result.unwrap())[0], ledger.len()), ((0, 3), 3));
    let (result, ledger) = denied(MANY, |_, _| true).await;
    assert!(matches!(result, Err(RunError::Keyring(KeyringError { class: KeyringClass::Denied, .. }))), "{result:?}");
    assert!(ledger.len() < 10, "{ledger:?}");
}

#[tokio::test(start_paused = true)]
async fn a_header_that_names_a_key_again_and_again_costs_few_requests() {
    let mut world = World::of(2);
    world.run().await;
    let (mut item, found) = sealed(&world, 0);
    // 255 encrypted data keys for our key, none of which unwraps.
    let edk = &found.head.edks[0];
    let mut bytes = Vec::new();
    for part in [edk.provider_id.as_bytes(), &edk.provider_info, &vec![0; edk.ciphertext.len()]] {
        bytes.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(part);
    }
    let Some(Value::Binary(head)) = item.get(HEAD) else { panic!("no header") };
    let start = head.len() - 32 - bytes.len();
    let forged = [&head[..start - 1], &[255], &bytes.repeat(255), &head[head.len() - 32..]].concat();
    item.insert(HEAD, Value::Binary(forged));
    world.table.put(item).unwrap();
    let told = Arc::new(Told::around(&world.keyring));
    world.sources = vec![Arc::clone(&told) as Arc<dyn Keyring>];
    world.keyring = raw("k2");
    world.policy.target =
        crate::migration::Target::Dbesdk { suite: Suite::HmacSha384, recipients: world.keyring.recipients().to_vec() };
    world.settings.max_passes = 1;
    assert_eq!(tallies(&world.run().await), [(1, 1)]);
    assert!(told.unwraps.load(Ordering::Relaxed) <= 9);
}
