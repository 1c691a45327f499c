//! What a rotation costs an item, by keyring and depth, and whether requests to KMS that take their time keep to the rate
//! that they are allowed.
//!
//!   cargo bench --bench rotation -- items [ROUNDS]     CPU time and bytes per item
//!   cargo bench --bench rotation -- latency            requests per second under a budget, 5 ms each
#![allow(clippy::print_stdout, reason = "its results are for people")]

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reseal::aws::AwsConfig;
use reseal::crypto::{Secret, Suite};
use reseal::format::{Action, Schema, Unsigned};
use reseal::item::{Item, Key, KeyNames, Value};
use reseal::keyring::{
    BranchKeyId, Hierarchy, KeepBranchKeys, KeyArn, KeyStore, KeyStoreAdmin, KeyStoreReaders, Keyring, KmsKeyring,
    KmsRsa, KmsRsaPadding, MultiKeyring, RawAes, RawRsa,
};
use reseal::local::{Options, StandIns, start};
use reseal::migration::{Depth, Expected, Policy, Rewrite, Target, Verdict};
use reseal::pipeline::{Event, Observer, Pool, Ports, Stop, verify};
use reseal::store::{Page, Scan, StoreError, Table, Update, Via};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Items of one table, 2 KB each.
const ITEMS: usize = 200;
const ENCRYPTED: [(&str, usize); 4] = [("address", 200), ("notes", 900), ("name", 40), ("profile", 700)];
const SIGNED: [(&str, usize); 2] = [("region", 12), ("status", 60)];
const RSA: &str = "tests/fixtures/rsa2048-for-tests-only.private.pem";

fn item(i: usize) -> Item {
    let text = |bytes: usize| -> String { (0..bytes).map(|j| char::from(b'a' + ((i + 7 * j) % 26) as u8)).collect() };
    let mut item: Item = ENCRYPTED
        .iter()
        .chain(&SIGNED)
        .map(|(name, bytes)| ((*name).to_owned(), Value::String(text(*bytes))))
        .collect();
    item.insert("pk", Value::String(format!("customer-{i:08}")));
    item
}

fn policy(keyring: &dyn Keyring, suite: Suite, depth: Depth) -> Policy {
    let encrypted = ENCRYPTED.iter().map(|(name, _)| (*name, Action::EncryptAndSign));
    let signed = SIGNED.iter().map(|(name, _)| (*name, Action::SignOnly));
    let actions = encrypted.chain(signed).chain([("pk", Action::SignOnly)]);
    let schema = Schema {
        logical_table: "customers".to_owned(),
        keys: KeyNames { partition: "pk".to_owned(), sort: None },
        actions: actions.map(|(name, action)| (name.to_owned(), action)).collect(),
        unsigned: Unsigned::default(),
    };
    let target = Target::Dbesdk { suite, recipients: keyring.recipients().to_vec() };
    Policy { schema, accept_plaintext: true, accept_dbesdk: true, target, depth }
}

/// Does to an item what a page does, on this thread.
fn rotate(runtime: &Runtime, policy: &Policy, from: &dyn Keyring, to: &dyn Keyring, item: &Item) -> Outcome<Rewrite> {
    let (plain, work) = match policy.classify(item)? {
        Verdict::Current(_) => return Err("at target already".into()),
        Verdict::Plain => (None, policy.prepare(item)?),
        Verdict::Sealed(sealed) => {
            let wrapped = sealed.head.edks[0].wrapped().ok_or("no key")?;
            let key = runtime.block_on(from.unwrap(wrapped, &sealed.context))?;
            policy.reopen(item, sealed, 0, &key)?
        }
    };
    let wrapped = runtime.block_on(to.generate(work.context().ok_or("no context")?))?;
    let fresh = Secret::random();
    let verified = policy.finish(item, plain.as_ref().unwrap_or(item), work, (&fresh, rand::random()), &wrapped)?;
    Ok(verified.rewrite)
}

/// Bytes of names and values that a write sends: what it sets, and what it demands.
fn bytes(rewrite: &Rewrite) -> usize {
    let set: usize = rewrite.set.iter().map(|(name, value)| name.len() + value.size()).sum();
    let demanded = rewrite.condition.iter().map(|(name, expected)| {
        name.len()
            + match expected {
                Expected::Equals(value) => value.size(),
                _ => 0,
            }
    });
    set + demanded.sum::<usize>()
}

/// CPU time of this thread: services are on others.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

struct Services {
    stand_ins: StandIns,
    config: AwsConfig,
}

impl Services {
    fn start(runtime: &Runtime) -> Outcome<Self> {
        let stand_ins = runtime.block_on(async { start(Options::default()) })?;
        let config = AwsConfig::stand_in(&stand_ins.kms_endpoint(), stand_ins.region())?;
        Ok(Self { stand_ins, config })
    }

    fn key(&self) -> Outcome<KeyArn> {
        Ok(KeyArn::parse(&self.stand_ins.kms().create_key("benchmark")?)?)
    }

    async fn keyrings(&self) -> Outcome<Vec<(&'static str, Arc<dyn Keyring>)>> {
        let pem = std::fs::read(RSA)?;
        let rsa_arn = KeyArn::parse(&self.stand_ins.kms().import_rsa(std::str::from_utf8(&pem)?)?)?;
        let mut kms_rsa = KmsRsa::new(&self.config, rsa_arn, KmsRsaPadding::OaepSha256)?;
        kms_rsa.fetch_public_key().await?;
        let aes = |name: &str| RawAes::new("acme", name, &[0x5a; 32]);
        let raw_rsa = || RawRsa::new("acme", "r1", &pem, reseal::crypto::RsaPadding::OaepSha256);
        Ok(vec![
            ("raw-aes", Arc::new(aes("k1")?)),
            ("raw-rsa", Arc::new(raw_rsa()?)),
            (
                "multi of raw-aes and raw-rsa",
                Arc::new(MultiKeyring::new(vec![Arc::new(aes("k2")?), Arc::new(raw_rsa()?)])),
            ),
            ("hierarchy", Arc::new(self.hierarchy().await?)),
            ("aws-kms", Arc::new(KmsKeyring::new(&self.config, self.key()?)?)),
            ("aws-kms-rsa", Arc::new(kms_rsa)),
        ])
    }

    async fn hierarchy(&self) -> Outcome<Hierarchy> {
        let tables = AwsConfig::stand_in(&self.stand_ins.dynamodb_endpoint(), self.stand_ins.region())?;
        let key = self.key()?;
        let readers = KeyStoreReaders::Strict(key.clone());
        let store = || KeyStore::new(&tables, &self.config, "branch-keys", "branch-keys", readers.clone());
        let admin = KeyStoreAdmin::new(store());
        admin.create_table().await?;
        admin.new_branch_key("b1", &key, &BTreeMap::new(), time::OffsetDateTime::now_utc()).await?;
        let keep = KeepBranchKeys { time_to_live: Duration::from_hours(1), most: 10 };
        Ok(Hierarchy::new(store(), BranchKeyId::Fixed("b1".to_owned()), keep))
    }
}

fn items(rounds: usize) -> Outcome<()> {
    let services = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let client = Builder::new_current_thread().enable_all().build()?;
    let stand_ins = Services::start(&services)?;
    // The branch keys' client must live on the runtime that asks it.
    let keyrings = client.block_on(stand_ins.keyrings())?;
    println!("| suite | keyring | rewrap, us | re-encrypt, us | rewrap, bytes | re-encrypt, bytes | share |");
    println!("|---|---|---|---|---|---|---|");
    for suite in Suite::ALL {
        for (name, keyring) in &keyrings {
            if suite.signs() && *name == "aws-kms-rsa" {
                continue;
            }
            // From an older key of a raw keyring, so that only the target's cost differs.
            let old = RawAes::new("acme", "old", &[0x3c; 32])?;
            let sealing = policy(&old, suite, Depth::Reencrypt);
            let sealed: Vec<Item> = (0..ITEMS)
                .map(|i| Ok(rotate(&client, &sealing, &old, &old, &item(i))?.applied_to(&item(i))))
                .collect::<Outcome<_>>()?;
            let mut best = [(Duration::MAX, 0); 2];
            for _ in 0..rounds {
                for (depth, best) in [Depth::Rewrap, Depth::Reencrypt].into_iter().zip(&mut best) {
                    let policy = policy(keyring.as_ref(), suite, depth);
                    let (began, mut sent) = (cpu(), 0);
                    for item in &sealed {
                        sent += bytes(&rotate(&client, &policy, &old, keyring.as_ref(), item)?);
                    }
                    let took = cpu().saturating_sub(began);
                    *best = (best.0.min(took), sent);
                }
            }
            let [(rewrap, few), (reencrypt, many)] = best;
            let us = |time: Duration| time.as_secs_f64() * 1e6 / ITEMS as f64;
            println!(
                "| {} | {name} | {:.0} | {:.0} | {} | {} | {:.2} |",
                if suite.signs() { "ECDSA" } else { "without signature" },
                us(rewrap),
                us(reencrypt),
                few / ITEMS,
                many / ITEMS,
                few as f64 / many as f64
            );
        }
    }
    Ok(())
}

/// Requests to KMS that are allowed per second.
const ALLOWED: u32 = 2000;
const SECONDS: usize = 8;
const LATENCY: Duration = Duration::from_millis(5);

/// A table whose pages are in memory, over and over.
struct Pages {
    items: Vec<Item>,
    pages: usize,
}

#[async_trait]
impl Table for Pages {
    async fn scan(&self, scan: &Scan) -> Result<Page, StoreError> {
        let number = match &scan.after {
            None => 0,
            Some(key) => {
                key.to_string().bytes().filter(u8::is_ascii_digit).fold(0, |n, d| 10 * n + usize::from(d - b'0'))
            }
        };
        let names = KeyNames { partition: "pk".to_owned(), sort: None };
        let next = (number + 1 < self.pages).then(|| {
            let item: Item = [("pk".to_owned(), Value::String(format!("{}", number + 1)))].into_iter().collect();
            names.key_of(&item).expect("it has the key")
        });
        Ok(Page { items: self.items.clone(), next, units: Some(1.0) })
    }

    async fn get(&self, _: &Key) -> Result<(Option<Item>, Option<f64>), StoreError> {
        Ok((None, None))
    }

    async fn update(&self, _: &[Rewrite], _: Via) -> Update {
        unreachable!("nothing is written")
    }
}

struct Silent;

impl Observer for Silent {
    fn on(&self, _: &Event) {}
}

fn latency() -> Outcome<()> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let services = Services::start(&runtime)?;
    runtime.block_on(async {
        let keyring: Arc<dyn Keyring> = Arc::new(KmsKeyring::new(&services.config, services.key()?)?);
        let policy = policy(keyring.as_ref(), Suite::HmacSha384, Depth::Reencrypt);
        let mut sealed = Vec::with_capacity(ITEMS);
        for i in 0..ITEMS {
            let work = policy.prepare(&item(i))?;
            let wrapped = keyring.generate(work.context().ok_or("no context")?).await?;
            let verified = policy.finish(&item(i), &item(i), work, (&Secret::random(), rand::random()), &wrapped)?;
            sealed.push(verified.rewrite.applied_to(&item(i)));
        }
        services.stand_ins.kms().delay(LATENCY);
        let pages = ALLOWED as usize * SECONDS / ITEMS;
        let table = Arc::new(Pages { items: sealed, pages });
        let ports = Ports { table, target: Some(keyring), sources: Vec::new(), observer: Arc::new(Silent) };
        let settings = reseal::pipeline::Settings {
            pages_in_flight: 2,
            pages_in_memory: 4,
            keys_in_flight: 64,
            page_items: None,
            kms_requests: NonZeroU32::new(ALLOWED),
            pool: Pool::Rayon,
            ..reseal::testing::settings()
        };
        let began = Instant::now();
        let found = verify(ports, &policy, settings, &Stop::default()).await?;
        let took = began.elapsed().as_secs_f64();
        assert!(found.holds(), "{found:?}");
        // A second's worth may be used at once, before the rate counts.
        let rate = (found.scanned as f64 - f64::from(ALLOWED)) / took;
        println!(
            "{} requests of {} ms in {took:.2} s, a second's worth of them at once: {rate:.0} per second, {:.1} % of the {ALLOWED} allowed",
            found.scanned,
            LATENCY.as_millis(),
            100.0 * rate / f64::from(ALLOWED)
        );
        Ok(())
    })
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["items"] => items(5),
        ["items", rounds] => items(rounds.parse()?),
        ["latency"] => latency(),
        // `cargo test --benches` and a plain `cargo bench` come without a word: nothing to be measured then.
        _ => Ok(()),
    }
}
