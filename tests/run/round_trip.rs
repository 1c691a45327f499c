//! To `dbesdk` and back to `plaintext`: every item is what it was, save that encrypted numbers and sets come back in
//! their canonical form.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reseal::aws::AwsConfig;
use reseal::cli::job::Job;
use reseal::format::{Action, Schema};
use reseal::item::{Item, Number, Value};
use reseal::keyring::{KeyArn, Keyring, KmsKeyring, RawAes};
use reseal::local::world::{self, Bulk, Oracle};
use reseal::migration::{Depth, FailureKind, Fingerprint, OnMixed, Policy, Target};
use reseal::pipeline::{self, Ended, Event, Observer, Pool, Ports, Report, Settings, Stop};
use reseal::store::{DynamoTable, Scan, SqliteJournal, Table, Via};

use crate::bench::Bench;

const CUSTOMERS: u64 = 40;
const SEED: u64 = 6;
const RAW: &str = r#"{ type = "raw-aes", namespace = "acme", name = "k1", key_file = "k1.key" }"#;

/// The items of the demo's table, by key.
async fn items(table: &DynamoTable) -> BTreeMap<String, Item> {
    let (mut items, mut after) = (BTreeMap::new(), None);
    loop {
        let page = table.scan(&Scan { segment: 0, total_segments: 1, after, limit: None }).await.unwrap();
        items.extend(page.items.into_iter().map(|item| (world::key_of(&item).unwrap().to_string(), item)));
        after = page.next;
        if after.is_none() {
            return items;
        }
    }
}

fn table(bench: &Bench) -> DynamoTable {
    let config = AwsConfig::stand_in(&bench.stand_ins.dynamodb_endpoint(), bench.stand_ins.region()).unwrap();
    DynamoTable::new(&config, world::TABLE, world::key_names())
}

/// What an item becomes on the way there and back.
fn canonical_item(schema: &Schema, item: &Item) -> Item {
    let encrypted = |name: &str| schema.action(name) == Some(Action::EncryptAndSign);
    let after =
        |name: &str, value: &Value| if encrypted(name) { each(value, &Number::to_canonical) } else { value.clone() };
    item.iter().map(|(name, value)| (name.to_owned(), after(name, value))).collect()
}

/// The value with each number as `number` makes it. Sets are sorted: in which order the service keeps them is its own
/// affair.
fn each(value: &Value, number: &dyn Fn(&Number) -> Number) -> Value {
    fn sorted<T: Clone + Ord>(members: &[T]) -> Vec<T> {
        let mut members = members.to_vec();
        members.sort();
        members
    }
    match value {
        Value::Number(found) => Value::Number(number(found)),
        Value::NumberSet(members) => {
            let mut members: Vec<Number> = members.iter().map(number).collect();
            members.sort_by_key(|member| member.as_str().to_owned());
            Value::NumberSet(members)
        }
        Value::StringSet(members) => Value::StringSet(sorted(members)),
        Value::BinarySet(members) => Value::BinarySet(sorted(members)),
        Value::List(members) => Value::List(members.iter().map(|member| each(member, number)).collect()),
        Value::Map(members) => {
            Value::Map(members.iter().map(|(name, member)| (name.clone(), each(member, number))).collect())
        }
        other => other.clone(),
    }
}

#[track_caller]
fn demand_equal(expected: &BTreeMap<String, Item>, found: &BTreeMap<String, Item>) {
    assert_eq!(expected.len(), found.len());
    for ((key, expected), (other, found)) in expected.iter().zip(found) {
        assert_eq!(key, other);
        for (name, value) in expected.iter() {
            let [value, found] =
                [Some(value), found.get(name)].map(|value| value.map(|value| each(value, &Number::clone)));
            // Values are not printed: which item and attribute it is leads on.
            assert!(value == found, "{key}: {name}");
        }
        assert_eq!(expected.len(), found.len(), "{key}");
    }
}

struct Silent;

impl Observer for Silent {
    fn on(&self, _: &Event) {}
}

/// One run of the library to a target.
async fn run(bench: &Bench, policy: &Policy, keyring: &Arc<dyn Keyring>) -> Report {
    let sealing = policy.target != Target::Plaintext;
    let ports = Ports {
        table: Arc::new(table(bench)),
        target: sealing.then(|| Arc::clone(keyring)),
        sources: if sealing { Vec::new() } else { vec![Arc::clone(keyring)] },
        observer: Arc::new(Silent),
    };
    let units = NonZeroU32::new(100_000);
    let settings = Settings {
        segments: 4,
        pages_in_flight: 2,
        pages_in_memory: 16,
        writes_in_flight: 4,
        keys_in_flight: 16,
        read_units: units,
        write_units: units,
        kms_requests: units,
        page_items: None,
        page_units: 256.0,
        write_copies: 2,
        attempts: 10,
        max_items: None,
        max_passes: 5,
        writer: Via::Batch,
        on_mixed: OnMixed::Quarantine,
        pool: Pool::Rayon,
        drain: Duration::from_secs(30),
        entropy: |bytes| rand::fill(bytes),
        wall: std::time::SystemTime::now,
    };
    let state = bench.path(if sealing { "there" } else { "back" });
    let plan: Fingerprint = [].into_iter().collect();
    let journal = SqliteJournal::open(&state, &policy.schema.keys, &plan, "2026-01-01T00:00:00Z").unwrap();
    pipeline::run(ports, None, Arc::new(journal), Arc::new(policy.clone()), settings, &Stop::default()).await.unwrap()
}

async fn there_and_back(bench: &Bench, keyring: Arc<dyn Keyring>) {
    let oracle = Oracle::default();
    world::create(&bench.client, SEED, 0..CUSTOMERS, &oracle).await.unwrap();
    let originals = items(&table(bench)).await;
    let job = format!("{}\n[target]\nformat = \"dbesdk\"\nkeyring = {RAW}\n", world::job_head());
    let schema = Job::parse(&job, Path::new("job.toml")).unwrap().schema;
    let suite = reseal::crypto::Suite::EcdsaP384;
    let recipients = keyring.recipients().to_vec();
    let mut policy = Policy {
        schema,
        accept_plaintext: true,
        accept_dbesdk: false,
        target: Target::Dbesdk { suite, recipients },
        depth: Depth::Reencrypt,
    };

    let there = run(bench, &policy, &keyring).await;
    assert_eq!(there.ended, Ended::Complete);
    let too_large: Vec<FailureKind> = there.failures.iter().map(|failure| failure.kind).collect();
    assert_eq!(too_large, [FailureKind::TooLarge]);
    assert_eq!(there.passes[0].1.rewritten, CUSTOMERS - 1);
    let sealed = items(&table(bench)).await;
    let in_plaintext = sealed.iter().filter(|(key, item)| originals[*key] == **item).count();
    assert_eq!(in_plaintext, 1, "the one that is too large");

    (policy.accept_plaintext, policy.accept_dbesdk, policy.target) = (false, true, Target::Plaintext);
    let back = run(bench, &policy, &keyring).await;
    assert_eq!((back.ended, back.failures), (Ended::Complete, vec![]));
    let expected = originals.into_iter().map(|(key, item)| {
        let number = item.get("id").and_then(|id| match id {
            Value::String(text) => text.strip_prefix("customer-")?.parse::<u64>().ok(),
            _ => None,
        });
        let sealed = Bulk::of(number.unwrap()) != Bulk::TooLarge;
        (key, if sealed { canonical_item(&policy.schema, &item) } else { item })
    });
    demand_equal(&expected.collect(), &items(&table(bench)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_raw_key() {
    there_and_back(&Bench::bare(), Arc::new(RawAes::new("acme", "k1", &[7; 32]).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_kms_key() {
    let bench = Bench::bare();
    let config = AwsConfig::stand_in(&bench.stand_ins.kms_endpoint(), bench.stand_ins.region()).unwrap();
    let arn = bench.stand_ins.kms().create_key("").unwrap();
    let keyring = KmsKeyring::new(&config, KeyArn::parse(&arn).unwrap()).unwrap();
    there_and_back(&bench, Arc::new(keyring)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_binary() {
    let bench = Bench::bare();
    let oracle = Oracle::default();
    let numbers = (0..CUSTOMERS).filter(|number| Bulk::of(*number) != Bulk::TooLarge);
    world::create(&bench.client, SEED, numbers, &oracle).await.unwrap();
    let originals = items(&table(&bench)).await;
    let head = world::job_head();
    let there = format!("{head}\n[target]\nformat = \"dbesdk\"\nkeyring = {RAW}\n");
    bench.write("there.toml", &there);
    bench.write("back.toml", &format!("{head}\n[source]\nkeyrings = [{RAW}]\n\n[target]\nformat = \"plaintext\"\n"));
    bench.reseal("run --job there.toml --execute --state-dir there").expect(0, &["complete"]);
    bench.reseal("verify --job there.toml").expect(0, &["39 items: 39 at target and opened"]);
    let sealed = items(&table(&bench)).await;

    let unasked = bench.reseal("run --job back.toml --execute --state-dir back");
    unasked.expect(3, &["the run would leave every item unencrypted", "--i-understand-this-removes-encryption"]);
    assert!(items(&table(&bench)).await == sealed, "nothing was written");
    let back = "run --job back.toml --execute --state-dir back --i-understand-this-removes-encryption";
    bench.reseal(back).expect(0, &["complete"]);
    bench.reseal("verify --job back.toml").expect(0, &["39 items: 39 at target"]);
    let schema = Job::parse(&there, Path::new("there.toml")).unwrap().schema;
    let expected = originals.iter().map(|(key, item)| (key.clone(), canonical_item(&schema, item))).collect();
    demand_equal(&expected, &items(&table(&bench)).await);
}
