//! What [`Table`] promises, kept alike by everything that implements it: the table in memory, the simulation's in calm
//! weather, and [`DynamoTable`] over the embedded DynamoDB; or over `RESEAL_CONTRACT_ENDPOINT` instead, for a second
//! opinion (`scripts/contract.sh`).
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod client;
mod items;

use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use reseal::aws::AwsConfig;
use reseal::item::{Item, Key, KeyNames, Number, Value};
use reseal::local::{Options, StandIns, start};
use reseal::migration::{Expected, Rewrite};
use reseal::store::{Answer, DynamoTable, Scan, StoreClass, Table, Via};
use reseal::testing::{MemoryTable, simulation};

use client::client;
use items::{equals, n, only, s, sdk};

const TABLE: &str = "contract-table";
const BOTH: [Via; 2] = [Via::Batch, Via::Single];

/// A table with a partition key `pk` (string) and a sort key `at` (number), as the engine and as applications see it.
struct World {
    name: &'static str,
    table: Arc<dyn Table>,
    applications: Applications,
}

enum Applications {
    Memory(Arc<MemoryTable>),
    DynamoDb { client: Box<Client>, table: String, _stand_ins: Option<StandIns> },
}

fn names() -> KeyNames {
    KeyNames { partition: "pk".into(), sort: Some("at".into()) }
}

impl World {
    /// One world of each kind.
    async fn each() -> Vec<Self> {
        if let Ok(endpoint) = std::env::var("RESEAL_CONTRACT_ENDPOINT") {
            return vec![Self::dynamodb("second opinion", &endpoint, None).await];
        }
        let memory = || Arc::new(MemoryTable::new(names()));
        let (plain, simulated) = (memory(), memory());
        let stand_ins = start(Options::default()).unwrap();
        let endpoint = stand_ins.dynamodb_endpoint();
        vec![
            Self {
                name: "memory",
                table: Arc::clone(&plain) as Arc<dyn Table>,
                applications: Applications::Memory(plain),
            },
            Self {
                name: "simulation",
                table: simulation::calm(&simulated),
                applications: Applications::Memory(simulated),
            },
            Self::dynamodb("embedded", &endpoint, Some(stand_ins)).await,
        ]
    }

    async fn dynamodb(name: &'static str, endpoint: &str, stand_ins: Option<StandIns>) -> Self {
        let client = client(endpoint);
        let attribute = |name: &str, kind| AttributeDefinition::builder().attribute_name(name).attribute_type(kind);
        let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
        // Each test begins with an empty table, on a server that several share as well.
        let table = format!("{TABLE}-{:016x}", rand::random::<u64>());
        client
            .create_table()
            .table_name(&table)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(attribute("pk", ScalarAttributeType::S).build().unwrap())
            .attribute_definitions(attribute("at", ScalarAttributeType::N).build().unwrap())
            .key_schema(key("pk", KeyType::Hash))
            .key_schema(key("at", KeyType::Range))
            .send()
            .await
            .unwrap();
        let config = AwsConfig::stand_in(endpoint, "us-east-1").unwrap();
        let engine = Arc::new(DynamoTable::new(&config, &table, names()));
        let applications = Applications::DynamoDb { client: Box::new(client), table, _stand_ins: stand_ins };
        Self { name, table: engine, applications }
    }

    async fn put(&self, item: &Item) {
        match &self.applications {
            Applications::Memory(table) => drop(table.put(item.clone()).unwrap()),
            Applications::DynamoDb { client, table, .. } => {
                client.put_item().table_name(table).set_item(Some(sdk_item(item))).send().await.unwrap();
            }
        }
    }

    async fn delete(&self, key: &Key) {
        match &self.applications {
            Applications::Memory(table) => drop(table.delete(key)),
            Applications::DynamoDb { client, table, .. } => {
                client.delete_item().table_name(table).set_key(Some(sdk_item(&key.to_item()))).send().await.unwrap();
            }
        }
    }

    async fn get(&self, key: &Key) -> Option<Item> {
        let (item, units) = self.table.get(key).await.unwrap();
        assert!(units.is_some(), "{}", self.name);
        item
    }

    async fn scanned(&self, total_segments: u32, limit: Option<u32>) -> Vec<Item> {
        let mut found = Vec::new();
        for segment in 0..total_segments {
            let mut after = None;
            loop {
                let page = self.table.scan(&Scan { segment, total_segments, after, limit }).await.unwrap();
                assert!(limit.is_none_or(|limit| page.items.len() <= limit as usize), "{}", self.name);
                assert!(page.units.is_some(), "{}", self.name);
                found.extend(page.items);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        found.sort_by_key(|item| names().key_of(item).unwrap().to_string());
        found
    }
}

fn sdk_item(item: &Item) -> std::collections::HashMap<String, AttributeValue> {
    item.iter().map(|(name, value)| (name.to_owned(), sdk(value))).collect()
}

/// An item of the partition `p` with these attributes besides its key.
fn item<const N: usize>(at: &str, attributes: [(&str, Value); N]) -> Item {
    let keys = [("pk", s("p")), ("at", n(at))];
    keys.into_iter().chain(attributes).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Sets `a` of the item to "new" on the condition.
fn rewrite(item: &Item, condition: Vec<(String, Expected)>) -> Rewrite {
    let set = vec![("a".to_owned(), s("new"))];
    Rewrite { key: names().key_of(item).unwrap(), set, remove: vec![], condition, bytes: item.size() }
}

#[tokio::test]
async fn every_item_is_on_one_page() {
    for world in World::each().await {
        for i in 0..60 {
            let mut item = item(&format!("{i}.5"), [("a", s("x"))]);
            item.insert("pk", s(&format!("p{}", i % 7)));
            world.put(&item).await;
        }
        let all = world.scanned(1, None).await;
        assert_eq!(all.len(), 60, "{}", world.name);
        for (total_segments, limit) in [(1, Some(1)), (3, None), (5, Some(7))] {
            assert!(world.scanned(total_segments, limit).await == all, "{}: {total_segments} {limit:?}", world.name);
        }
    }
}

#[tokio::test]
async fn a_page_ends_by_its_size() {
    for world in World::each().await {
        for i in 0..4 {
            world.put(&item(&i.to_string(), [("a", s(&"x".repeat(350 * 1024)))])).await;
        }
        let page = world.table.scan(&Scan { segment: 0, total_segments: 1, after: None, limit: None }).await.unwrap();
        assert!((2..=3).contains(&page.items.len()) && page.next.is_some(), "{}: {}", world.name, page.items.len());
        assert!(page.units.unwrap() >= 175.0, "{}: {:?}", world.name, page.units);
    }
}

#[tokio::test]
async fn a_scan_goes_on_after_a_key_that_is_gone() {
    for world in World::each().await {
        for i in 0..10 {
            world.put(&item(&i.to_string(), [])).await;
        }
        let scan = Scan { segment: 0, total_segments: 1, after: None, limit: Some(4) };
        let page = world.table.scan(&scan).await.unwrap();
        let after = page.next.unwrap();
        world.delete(&after).await;
        let rest = world.table.scan(&Scan { after: Some(after), limit: None, ..scan }).await.unwrap();
        assert_eq!((page.items.len(), rest.items.len(), rest.next), (4, 6, None), "{}", world.name);
    }
}

#[tokio::test]
async fn what_was_written_is_read() {
    for world in World::each().await {
        let (old, new) = (item("1", [("a", s("old"))]), item("1.0", [("a", s("new"))]));
        let key = names().key_of(&old).unwrap();
        assert!(world.get(&key).await.is_none(), "{}", world.name);
        world.put(&old).await;
        world.put(&new).await;
        assert!(world.get(&key).await.unwrap().same(&new), "{}", world.name);
        world.delete(&key).await;
        assert!(world.get(&key).await.is_none(), "{}", world.name);
    }
}

#[tokio::test]
async fn written_refused_or_gone() {
    for (world, via) in World::each().await.iter().flat_map(|world| BOTH.map(|via| (world, via))) {
        let what = format!("{} {via:?}", world.name);
        let before = item("1", [("a", s("old")), ("b", Value::Bool(true))]);
        world.put(&before).await;

        let mut change = rewrite(&before, vec![equals("a", s("old")), ("c".into(), Expected::Absent)]);
        change.remove = vec!["b".to_owned(), "never there".to_owned()];
        let update = world.table.update(std::slice::from_ref(&change), via).await;
        assert_eq!((update.units, update.unreported, update.requests), (Some(1.0), 0.0, 1), "{what}");
        assert!(matches!(only(update), Answer::Written));
        let after = item("1", [("a", s("new"))]);
        assert!(world.get(&change.key).await == Some(after.clone()), "{what}");

        // Again: the condition does not hold any more, and the item as it is comes back.
        let update = world.table.update(std::slice::from_ref(&change), via).await;
        assert_eq!((update.units, update.unreported), (None, 1.0), "{what}");
        let Answer::ConditionFailed(Some(current)) = only(update) else { panic!("{what}") };
        assert!(*current == after);

        // The harmless probe of the ground: nothing is changed.
        let probe = Rewrite {
            set: vec![],
            remove: vec!["xyz".to_owned()],
            condition: vec![("xyz".to_owned(), Expected::Exists)],
            ..change.clone()
        };
        let answer = only(world.table.update(&[probe], via).await);
        assert!(matches!(answer, Answer::ConditionFailed(Some(current)) if *current == after), "{what}");

        // No condition of its own: still only if the item exists.
        let gone = rewrite(&item("2", []), vec![]);
        let answer = only(world.table.update(std::slice::from_ref(&gone), via).await);
        assert!(matches!(answer, Answer::ConditionFailed(None)), "{what}: {answer:?}");
        assert!(world.get(&gone.key).await.is_none(), "{what}: it was made anew");
    }
}

#[tokio::test]
async fn conditions_on_every_type() {
    let set = |members: &[&str]| Value::StringSet(members.iter().map(|text| (*text).to_owned()).collect());
    let numbers = |members: &[&str]| Value::NumberSet(members.iter().map(|m| Number::parse(m).unwrap()).collect());
    let binaries = |members: &[u8]| Value::BinarySet(members.iter().map(|byte| vec![*byte]).collect());
    let list = |members: Vec<Value>| Value::List(members);
    let map = |name: &str, value: Value| Value::Map([(name.to_owned(), value)].into());
    let digits = "12345678901234567890123456789012345678";
    let cases = [
        (s("text"), s("text"), true),
        (s("text"), s("Text"), false),
        (s(""), s(""), true),
        (n("1"), n("1.0"), true),
        (n(digits), n(digits), true),
        (n(digits), n("12345678901234567890123456789012345679"), false),
        (n("1"), s("1"), false),
        (Value::Binary(vec![0, 255]), Value::Binary(vec![0, 255]), true),
        (Value::Binary(vec![0, 255]), Value::Binary(vec![0, 254]), false),
        (Value::Bool(true), Value::Bool(true), true),
        (Value::Bool(true), Value::Bool(false), false),
        (Value::Null, Value::Null, true),
        (Value::Null, s(""), false),
        (s(""), Value::Null, false),
        (set(&["a", "b"]), set(&["b", "a"]), true),
        (set(&["a", "b"]), set(&["a"]), false),
        (numbers(&["1", "20"]), numbers(&["2e1", "1.0"]), true),
        (binaries(&[1, 2]), binaries(&[2, 1]), true),
        (list(vec![n("1"), s("x")]), list(vec![n("1.0"), s("x")]), true),
        (list(vec![n("1"), s("x")]), list(vec![s("x"), n("1")]), false),
        (list(vec![Value::Null]), list(vec![Value::Null]), true),
        (map("x", map("y", set(&["a", "b"]))), map("x", map("y", set(&["b", "a"]))), true),
        (map("x", Value::Null), map("y", Value::Null), false),
    ];
    for (world, via) in World::each().await.iter().flat_map(|world| BOTH.map(|via| (world, via))) {
        for (stored, expected, holds) in &cases {
            let what = format!("{} {via:?}: {stored:?} = {expected:?}", world.name);
            let before = item("1", [("v", stored.clone())]);
            world.put(&before).await;
            let change = rewrite(&before, vec![equals("v", expected.clone())]);
            assert_eq!(change.holds_for(&before), *holds, "{what}");
            let answer = only(world.table.update(&[change], via).await);
            let agrees = match &answer {
                Answer::Written => *holds,
                Answer::ConditionFailed(Some(current)) => !holds && current.same(&before),
                _ => false,
            };
            assert!(agrees, "{what}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn each_of_a_batch_has_its_own_answer() {
    for (world, via) in World::each().await.iter().flat_map(|world| BOTH.map(|via| (world, via))) {
        let what = format!("{} {via:?}", world.name);
        let mut rewrites = Vec::new();
        for i in 0..25 {
            let stored = item(&i.to_string(), [("a", s("old"))]);
            if i % 5 == 4 {
                world.delete(&names().key_of(&stored).unwrap()).await;
            } else {
                world.put(&stored).await;
            }
            rewrites.push(rewrite(&stored, vec![equals("a", s(if i % 5 == 3 { "older" } else { "old" }))]));
        }
        // Larger than an item may be: of no concern to the others.
        rewrites[0].set.push(("b".to_owned(), s(&"x".repeat(400 * 1024))));
        let update = world.table.update(&rewrites, via).await;
        assert_eq!(update.answers.len(), 25, "{what}");
        for (i, answer) in update.answers.iter().enumerate() {
            let right = match i % 5 {
                _ if i == 0 => matches!(answer, Answer::Failed(error) if error.class == StoreClass::Item),
                4 => matches!(answer, Answer::ConditionFailed(None)),
                3 => matches!(answer, Answer::ConditionFailed(Some(current)) if current.get("a") == Some(&s("old"))),
                _ => matches!(answer, Answer::Written),
            };
            assert!(right, "{what}: {i} {answer:?}");
        }
        let consumed = update.units.unwrap() + update.unreported;
        assert!((20.0..=50.0).contains(&consumed), "{what}: {consumed}");
    }
}

#[tokio::test]
async fn an_item_twice_in_a_batch_is_not_written_twice() {
    // The adapter asserts that it is never asked to: the service would reject the batch whole, as these do.
    for world in World::each().await.iter().filter(|world| matches!(world.applications, Applications::Memory(_))) {
        let stored = item("1", [("a", s("old"))]);
        world.put(&stored).await;
        let change = rewrite(&stored, vec![equals("a", s("old"))]);
        let update = world.table.update(&[change.clone(), change.clone()], Via::Batch).await;
        let refused = |answer: &Answer| matches!(answer, Answer::Failed(error) if error.class == StoreClass::Item);
        assert!(update.answers.iter().all(refused), "{}: {:?}", world.name, update.answers);
        assert!(world.get(&change.key).await == Some(stored), "{}: rejected whole", world.name);
    }
}
