//! What [`Table`] promises, kept by [`DynamoTable`] over the embedded DynamoDB.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod client;
mod items;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType, StreamSpecification, StreamViewType, TimeToLiveSpecification,
};
use reseal::aws::AwsConfig;
use reseal::item::{Item, Key, KeyNames, Value};
use reseal::local::{Options, StandIns, start};
use reseal::migration::{Expected, Rewrite};
use reseal::store::{
    Answer, Capacity, DynamoTable, IndexKind, Known, Scan, StoreClass, Table, TtlFacts, Via, describe,
};

use client::client;
use items::{equals, n, only, s, sdk};

const TABLE: &str = "rewrites-table";
const BOTH: [Via; 2] = [Via::Batch, Via::Single];

/// The table `rewrites-table` with a partition key `pk` (string) and a sort key `sort key` (number).
struct World {
    client: Client,
    table: DynamoTable,
    config: AwsConfig,
    _stand_ins: StandIns,
}

fn names() -> KeyNames {
    KeyNames { partition: "pk".into(), sort: Some("sort key".into()) }
}

fn attribute(name: &str, kind: ScalarAttributeType) -> AttributeDefinition {
    AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().unwrap()
}

fn key_element(name: &str, kind: KeyType) -> KeySchemaElement {
    KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap()
}

impl World {
    async fn new() -> Self {
        let stand_ins = start(Options::default()).unwrap();
        let config = AwsConfig::stand_in(&stand_ins.dynamodb_endpoint(), "us-east-1").unwrap();
        let client = client(&stand_ins.dynamodb_endpoint());
        let index = GlobalSecondaryIndex::builder()
            .index_name("by-region")
            .key_schema(key_element("region", KeyType::Hash))
            .projection(Projection::builder().projection_type(ProjectionType::Include).non_key_attributes("a").build());
        client
            .create_table()
            .table_name(TABLE)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(attribute("pk", ScalarAttributeType::S))
            .attribute_definitions(attribute("sort key", ScalarAttributeType::N))
            .attribute_definitions(attribute("region", ScalarAttributeType::S))
            .key_schema(key_element("pk", KeyType::Hash))
            .key_schema(key_element("sort key", KeyType::Range))
            .global_secondary_indexes(index.build().unwrap())
            .send()
            .await
            .unwrap();
        let table = DynamoTable::new(&config, TABLE, names());
        Self { client, table, config, _stand_ins: stand_ins }
    }

    async fn put(&self, item: &Item) {
        let item = item.iter().map(|(name, value)| (name.to_owned(), sdk(value))).collect();
        self.client.put_item().table_name(TABLE).set_item(Some(item)).send().await.unwrap();
    }

    async fn get(&self, key: &Key) -> Option<Item> {
        self.table.get(key).await.unwrap().0
    }
}

/// An item of the partition `p` with these attributes besides its key.
fn item<const N: usize>(sort: &str, attributes: [(&str, Value); N]) -> Item {
    let keys = [("pk", s("p")), ("sort key", n(sort))];
    keys.into_iter().chain(attributes).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Sets `a` of the item to "new" on the condition.
fn rewrite(item: &Item, condition: Vec<(String, Expected)>) -> Rewrite {
    let set = vec![("a".to_owned(), s("new"))];
    Rewrite { key: names().key_of(item).unwrap(), set, remove: vec![], condition, bytes: item.size() }
}

#[tokio::test]
async fn every_name_can_be_set_removed_and_compared() {
    let names = [
        "with space",
        "a.b",
        "a-b",
        "größe",
        "名前",
        "😀",
        "a\"b",
        "\"",
        "a\\b",
        "a'b",
        "select",
        "SIZE",
        "a\tb",
        "a\nb",
        "#0",
        ":0",
        "?",
        "a[0]",
        "--",
        "a`b",
        "0",
    ];
    let world = World::new().await;
    for via in BOTH {
        for name in names {
            let before = item("1", [(name, s("old")), ("other", s("kept"))]);
            world.put(&before).await;
            let mut change = rewrite(&before, vec![equals(name, s("old"))]);
            change.set = vec![(name.to_owned(), s("new"))];
            let answer = only(world.table.update(std::slice::from_ref(&change), via).await);
            assert!(matches!(answer, Answer::Written), "{name:?} {via:?} {answer:?}");
            assert!(world.get(&change.key).await == Some(item("1", [(name, s("new")), ("other", s("kept"))])));

            let answer = only(world.table.update(std::slice::from_ref(&change), via).await);
            assert!(matches!(answer, Answer::ConditionFailed(Some(_))), "{name:?} {via:?} {answer:?}");

            change.set.clear();
            change.remove = vec![name.to_owned()];
            change.condition = vec![(name.to_owned(), Expected::Exists)];
            let answer = only(world.table.update(std::slice::from_ref(&change), via).await);
            assert!(matches!(answer, Answer::Written), "{name:?} {via:?} {answer:?}");
            assert!(world.get(&change.key).await == Some(item("1", [("other", s("kept"))])), "{name:?} {via:?}");

            change.set = vec![("other".to_owned(), s("changed"))];
            change.remove.clear();
            change.condition = vec![(name.to_owned(), Expected::Absent)];
            let answer = only(world.table.update(&[change], via).await);
            assert!(matches!(answer, Answer::Written), "{name:?} {via:?} {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_batch_answers_each_rewrite_in_its_place() {
    let world = World::new().await;
    for via in BOTH {
        let mut rewrites = Vec::new();
        for i in 0..25 {
            let stored = item(&i.to_string(), [("a", s("old"))]);
            if i % 5 != 4 {
                world.put(&stored).await;
            }
            let expected = if i % 5 == 3 { "older" } else { "old" };
            // What no statement can say is sent alone, and answered in its place.
            let name = if i % 5 == 2 { "a \"quoted\" name" } else { "plain" };
            rewrites.push(rewrite(&stored, vec![equals("a", s(expected)), (name.to_owned(), Expected::Absent)]));
        }
        let update = world.table.update(&rewrites, via).await;
        assert_eq!(update.requests, if via == Via::Batch { 1 + 5 } else { 25 });
        assert_eq!(update.answers.len(), 25);
        for (i, answer) in update.answers.iter().enumerate() {
            let right = match i % 5 {
                4 => matches!(answer, Answer::ConditionFailed(None)),
                3 => matches!(answer, Answer::ConditionFailed(Some(current)) if current.get("a") == Some(&s("old"))),
                _ => matches!(answer, Answer::Written),
            };
            assert!(right, "{i} {via:?}: {answer:?}");
        }
        let consumed = update.units.unwrap() + update.unreported;
        assert!((20.0..=50.0).contains(&consumed), "{consumed}");
    }
}

#[tokio::test]
async fn large_values_are_sent_in_several_requests() {
    let world = World::new().await;
    let (old, new) = (Value::Binary(vec![1; 300 * 1024]), Value::Binary(vec![2; 300 * 1024]));
    let mut rewrites = Vec::new();
    for i in 0..15 {
        let stored = item(&i.to_string(), [("large", old.clone())]);
        world.put(&stored).await;
        let mut change = rewrite(&stored, vec![equals("large", old.clone())]);
        change.set = vec![("large".to_owned(), new.clone())];
        rewrites.push(change);
    }
    let update = world.table.update(&rewrites, Via::Batch).await;
    assert!(update.answers.iter().all(|answer| matches!(answer, Answer::Written)), "{:?}", update.answers);
    // 600 KB each, 4 MB a request: six to a request.
    assert_eq!(update.requests, 3);
    assert_eq!(update.units, Some(15.0 * 301.0));
}

#[tokio::test]
async fn items_of_many_attributes() {
    let world = World::new().await;
    let many = |count: usize| {
        let mut stored = item("1", []);
        for i in 0..count {
            stored.insert(format!("{i:060}"), Value::Bool(true));
        }
        let condition = stored.iter().filter(|(name, _)| name.len() == 60);
        let change = rewrite(&stored, condition.map(|(name, value)| equals(name, value.clone())).collect());
        (stored, change)
    };
    // Too long for a statement, but not for UpdateItem.
    let (stored, change) = many(140);
    world.put(&stored).await;
    let update = world.table.update(&[change], Via::Batch).await;
    assert_eq!(update.requests, 1);
    assert!(matches!(only(update), Answer::Written));
    // Too long for both.
    let (stored, change) = many(160);
    world.put(&stored).await;
    for via in BOTH {
        let update = world.table.update(std::slice::from_ref(&change), via).await;
        assert_eq!(update.requests, 0);
        let Answer::Failed(error) = only(update) else { panic!("{via:?}") };
        assert_eq!(error.class, StoreClass::Item);
        let expected = "UpdateItem: the item needs a condition of 321 operators and DynamoDB takes 300: it has too \
                        many attributes";
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn a_rejected_item_spoils_no_other() {
    let world = World::new().await;
    let (good, bad) = (item("1", [("a", s("old"))]), item("2", [("a", s("old"))]));
    world.put(&good).await;
    world.put(&bad).await;
    let secret = "x".repeat(400 * 1024);
    for via in BOTH {
        let mut too_large = rewrite(&bad, vec![]);
        too_large.set = vec![("b".to_owned(), s(&secret))];
        // The type of an index key: "read-only" items of this kind exist.
        let mut wrong_type = rewrite(&good, vec![]);
        wrong_type.set = vec![("region".to_owned(), Value::Binary(vec![1]))];
        let fine = rewrite(&item("3", []), vec![]);
        world.put(&item("3", [])).await;
        let update = world.table.update(&[too_large, fine, wrong_type], via).await;
        let [Answer::Failed(large), Answer::Written, Answer::Failed(typed)] = &update.answers[..] else {
            panic!("{via:?} {:?}", update.answers)
        };
        for error in [large, typed] {
            assert_eq!(error.class, StoreClass::Item, "{error}");
            assert!(!error.problem.contains(&secret[..100]), "{via:?}");
        }
    }
    assert!(world.get(&names().key_of(&good).unwrap()).await == Some(good));
}

#[tokio::test]
async fn what_cannot_be_reached_is_classified() {
    let world = World::new().await;
    let elsewhere = DynamoTable::new(&world.config, "no-such-table", names());
    let scan = Scan { segment: 0, total_segments: 1, after: None, limit: None };
    let error = elsewhere.scan(&scan).await.unwrap_err();
    assert_eq!((error.operation, error.class), ("Scan", StoreClass::Fatal));
    let change = rewrite(&item("1", []), vec![]);
    for via in BOTH {
        let Answer::Failed(error) = only(elsewhere.update(std::slice::from_ref(&change), via).await) else {
            panic!("{via:?}")
        };
        assert_eq!(error.class, StoreClass::Fatal, "{error}");
    }

    // Nobody listens on the port of a listener that is gone.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let nobody = DynamoTable::new(&AwsConfig::stand_in(&endpoint, "us-east-1").unwrap(), TABLE, names());
    let error = nobody.scan(&scan).await.unwrap_err();
    assert_eq!(error.class, StoreClass::Unknown, "{error}");
    for via in BOTH {
        let update = nobody.update(std::slice::from_ref(&change), via).await;
        assert_eq!((update.units, update.unreported > 0.0), (None, true));
        assert!(matches!(only(update), Answer::Failed(error) if error.class == StoreClass::Unknown));
    }
}

#[tokio::test]
async fn a_table_is_described() {
    let world = World::new().await;
    let facts = describe(&world.config, TABLE).await.unwrap();
    assert_eq!((facts.name.as_str(), facts.status.as_str()), (TABLE, "ACTIVE"));
    assert!(facts.arn.ends_with(":table/rewrites-table"), "{}", facts.arn);
    let keys: Vec<_> = facts.keys.iter().map(|key| (key.name.as_str(), key.partition)).collect();
    assert_eq!(keys, [("pk", true), ("sort key", false)]);
    assert!(facts.key_types.contains(&("sort key".to_owned(), "N".to_owned())));
    let [index] = &facts.indexes[..] else { panic!("{:?}", facts.indexes) };
    assert_eq!(
        (index.name.as_str(), index.kind, index.keys.as_slice()),
        ("by-region", IndexKind::Global, &["region".to_owned()][..])
    );
    assert_eq!(index.projection, reseal::store::Projection::Include(vec!["a".to_owned()]));
    assert_eq!(facts.ttl, Known::Known(None));
    assert_eq!(facts.capacity, Capacity::OnDemand { read_max: None, write_max: None });
    assert_eq!((facts.stream, facts.replicas.len(), facts.replication), (None, 0, None));

    let ttl = TimeToLiveSpecification::builder().attribute_name("expires").enabled(true).build().unwrap();
    world.client.update_time_to_live().table_name(TABLE).time_to_live_specification(ttl).send().await.unwrap();
    let stream = StreamSpecification::builder().stream_enabled(true).stream_view_type(StreamViewType::NewAndOldImages);
    let stream = stream.build().unwrap();
    world.client.update_table().table_name(TABLE).stream_specification(stream).send().await.unwrap();
    let facts = describe(&world.config, TABLE).await.unwrap();
    let ttl = TtlFacts { attribute: "expires".into(), status: "ENABLED".into() };
    assert_eq!(facts.ttl, Known::Known(Some(ttl)));
    let stream = facts.stream.unwrap();
    assert_eq!((stream.enabled, stream.view.as_deref()), (true, Some("NEW_AND_OLD_IMAGES")));

    let error = describe(&world.config, "no-such-table").await.unwrap_err();
    assert_eq!(error.class, StoreClass::Fatal);
}
