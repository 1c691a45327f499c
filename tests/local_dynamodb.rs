//! What the engine relies on in DynamoDB, asked of the embedded one through AWS's SDK.
//!
//! Not a test of DynamoDB, but of the ground that other tests and the demo stand on: a stand-in that ignored a
//! condition, lost a segment or made an item out of nothing would let a broken engine pass.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use aws_sdk_dynamodb::error::ProvideErrorMetadata as _;
use aws_sdk_dynamodb::operation::batch_execute_statement::BatchExecuteStatementOutput;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BatchStatementErrorCodeEnum, BatchStatementRequest, BillingMode,
    KeySchemaElement, KeyType, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure, ScalarAttributeType,
};
use reseal::local::{Options, StandIns, start};

const TABLE: &str = "conditions-table";

type Item = HashMap<String, AttributeValue>;

/// A table with a partition key `pk` and a sort key `sk`, both strings.
struct World {
    client: Client,
    stand_ins: StandIns,
}

impl World {
    async fn new() -> Self {
        let world = Self::over(start(Options::default()).unwrap());
        create_table(&world.client).await;
        world
    }

    fn over(stand_ins: StandIns) -> Self {
        Self { client: client(&stand_ins), stand_ins }
    }

    async fn put(&self, item: &Item) {
        self.client.put_item().table_name(TABLE).set_item(Some(item.clone())).send().await.unwrap();
    }

    async fn get(&self, sk: &str) -> Option<Item> {
        let request = self.client.get_item().table_name(TABLE).set_key(Some(key(sk)));
        request.consistent_read(true).send().await.unwrap().item
    }

    async fn batch(&self, statements: Vec<BatchStatementRequest>) -> BatchExecuteStatementOutput {
        let request = self.client.batch_execute_statement().set_statements(Some(statements));
        request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await.unwrap()
    }
}

fn client(stand_ins: &StandIns) -> Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(stand_ins.dynamodb_endpoint());
    Client::from_conf(config.build())
}

async fn create_table(client: &Client) {
    let name =
        |name: &str, kind| AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().unwrap();
    let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
    let request = client.create_table().table_name(TABLE).billing_mode(BillingMode::PayPerRequest);
    let request = request.attribute_definitions(name("pk", ScalarAttributeType::S));
    let request = request.attribute_definitions(name("sk", ScalarAttributeType::S));
    request.key_schema(key("pk", KeyType::Hash)).key_schema(key("sk", KeyType::Range)).send().await.unwrap();
}

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn n(text: &str) -> AttributeValue {
    AttributeValue::N(text.to_owned())
}

fn b(bytes: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

fn list(values: &[AttributeValue]) -> AttributeValue {
    AttributeValue::L(values.to_vec())
}

fn map(values: &[(&str, AttributeValue)]) -> AttributeValue {
    AttributeValue::M(values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn key(sk: &str) -> Item {
    [("pk".to_owned(), s("p")), ("sk".to_owned(), s(sk))].into()
}

/// An item of the partition `p`.
fn item(sk: &str, attributes: &[(&str, AttributeValue)]) -> Item {
    let mut item = key(sk);
    item.extend(attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    item
}

/// `UPDATE` of one item: what comes before `WHERE`, then more conditions, then their parameters with the key's last
/// but for those of the conditions.
fn update(sk: &str, change: (&str, Vec<AttributeValue>), when: (&str, Vec<AttributeValue>)) -> BatchStatementRequest {
    let statement = format!(r#"UPDATE "{TABLE}" {} WHERE "pk" = ? AND "sk" = ?{}"#, change.0, when.0);
    let mut parameters = change.1;
    parameters.extend([s("p"), s(sk)]);
    parameters.extend(when.1);
    BatchStatementRequest::builder()
        .statement(statement)
        .set_parameters(Some(parameters))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .unwrap()
}

/// Whether an update of an item that has `stored` as its attribute `a` passes the condition.
async fn passes(world: &World, stored: Option<&AttributeValue>, when: (&str, Vec<AttributeValue>)) -> bool {
    let attributes: Vec<(&str, AttributeValue)> = stored.iter().map(|value| ("a", (*value).clone())).collect();
    let before = item("1", &attributes);
    world.put(&before).await;
    let answer = world.batch(vec![update("1", (r#"SET "done" = ?"#, vec![n("1")]), when)]).await;
    let [response] = answer.responses() else { panic!("one answer for one statement: {answer:?}") };
    let after = world.get("1").await.unwrap();
    let Some(error) = response.error() else {
        assert_eq!(after.get("done"), Some(&n("1")));
        return true;
    };
    assert_eq!(error.code(), Some(&BatchStatementErrorCodeEnum::ConditionalCheckFailed), "{error:?}");
    assert_eq!(error.item(), Some(&before), "a failed condition returns the item");
    assert_eq!(after, before, "and changes nothing");
    false
}

#[tokio::test]
async fn equality_is_of_values_not_of_spelling() {
    let world = World::new().await;
    let nested = |number: &str, set: &[&str]| {
        map(&[("x", list(&[n(number), AttributeValue::Ss(strings(set))])), ("y", AttributeValue::Null(true))])
    };
    for (stored, given, equal) in [
        (s("ä😀"), s("ä😀"), true),
        (s("a"), s("A"), false),
        (s(""), s(""), true),
        (s("1"), n("1"), false),
        (n("1"), n("1.0"), true),
        (n("100"), n("1E2"), true),
        (n("12345678901234567890123456789012345678"), n("12345678901234567890123456789012345678"), true),
        (n("12345678901234567890123456789012345678"), n("12345678901234567890123456789012345679"), false),
        (b(&[0, 255]), b(&[0, 255]), true),
        (b(&[0, 255]), b(&[0, 254]), false),
        (AttributeValue::Bool(true), AttributeValue::Bool(true), true),
        (AttributeValue::Bool(true), AttributeValue::Bool(false), false),
        (AttributeValue::Null(true), AttributeValue::Null(true), true),
        (AttributeValue::Null(true), s(""), false),
        (s("x"), AttributeValue::Null(true), false),
        (AttributeValue::Ss(strings(&["a", "b"])), AttributeValue::Ss(strings(&["b", "a"])), true),
        (AttributeValue::Ss(strings(&["a", "b"])), AttributeValue::Ss(strings(&["a"])), false),
        (AttributeValue::Ns(strings(&["1", "2.50"])), AttributeValue::Ns(strings(&["2.5", "1.0"])), true),
        (
            AttributeValue::Bs(vec![Blob::new([1]), Blob::new([2])]),
            AttributeValue::Bs(vec![Blob::new([2]), Blob::new([1])]),
            true,
        ),
        (list(&[n("1"), s("x")]), list(&[n("1.0"), s("x")]), true),
        (list(&[n("1"), s("x")]), list(&[s("x"), n("1")]), false),
        (nested("1", &["a", "b"]), nested("1.0", &["b", "a"]), true),
        (nested("1", &["a", "b"]), nested("2", &["a", "b"]), false),
        (map(&[]), map(&[]), true),
        (list(&[]), list(&[]), true),
        (list(&[]), map(&[]), false),
    ] {
        let passed = passes(&world, Some(&stored), (r#" AND "a" = ?"#, vec![given.clone()])).await;
        assert_eq!(passed, equal, "{stored:?} = {given:?}");
    }
}

#[tokio::test]
async fn absence_is_a_condition_and_null_is_not_absent() {
    let world = World::new().await;
    let null = AttributeValue::Null(true);
    for (stored, when, expect) in [
        (None, r#" AND "a" IS MISSING"#, true),
        (Some(&s("x")), r#" AND "a" IS MISSING"#, false),
        (Some(&null), r#" AND "a" IS MISSING"#, false),
        (None, r#" AND "a" IS NOT MISSING"#, false),
        (Some(&s("x")), r#" AND "a" IS NOT MISSING"#, true),
        (Some(&null), r#" AND "a" IS NOT MISSING"#, true),
    ] {
        assert_eq!(passes(&world, stored, (when, vec![])).await, expect, "{stored:?} {when}");
    }
    assert!(!passes(&world, None, (r#" AND "a" = ?"#, vec![null])).await, "an absent attribute equals nothing");
}

#[tokio::test]
async fn statements_set_and_remove_together_and_each_has_its_own_answer() {
    let world = World::new().await;
    let names = "name with spaces";
    for sk in ["1", "2"] {
        world.put(&item(sk, &[("dots.and-dashes", s("old")), (names, s("keep")), ("gone", s("x"))])).await;
    }
    let change = || {
        let set = format!(r#"SET "dots.and-dashes" = ? SET "{}" = ? REMOVE "gone""#, "aws_dbe_head");
        (set, vec![b(&[1; 300]), b(&[2; 100])])
    };
    let statement = |sk: &str, expected: &str| {
        let (set, parameters) = change();
        let when = (r#" AND "dots.and-dashes" = ? AND "aws_dbe_head" IS MISSING"#, vec![s(expected)]);
        update(sk, (&set, parameters), when)
    };
    let answer = world.batch(vec![statement("1", "old"), statement("2", "other"), statement("3", "old")]).await;
    let codes: Vec<_> =
        answer.responses().iter().map(|response| response.error().and_then(|error| error.code())).collect();
    let failed = Some(&BatchStatementErrorCodeEnum::ConditionalCheckFailed);
    assert_eq!(codes, [None, failed, failed]);
    let written = item("1", &[("dots.and-dashes", b(&[1; 300])), (names, s("keep")), ("aws_dbe_head", b(&[2; 100]))]);
    assert_eq!(world.get("1").await, Some(written));
    assert_eq!(answer.responses()[1].error().unwrap().item(), world.get("2").await.as_ref());
    assert_eq!(answer.responses()[2].error().unwrap().item(), None);
    assert_eq!(world.get("3").await, None, "an item that is not there is not made");
}

#[tokio::test]
async fn a_batch_takes_25_statements_and_no_item_twice() {
    let world = World::new().await;
    let touch = |sk: String| update(&sk, (r#"SET "a" = ?"#, vec![n("1")]), ("", vec![]));
    for index in 0..26 {
        world.put(&item(&index.to_string(), &[])).await;
    }
    let send = async |statements| world.client.batch_execute_statement().set_statements(Some(statements)).send().await;
    let answer = send((0..25).map(|index| touch(index.to_string())).collect()).await.unwrap();
    assert_eq!(answer.responses().len(), 25);
    assert!(answer.responses().iter().all(|response| response.error().is_none()), "{answer:?}");
    for statements in [
        (0..26).map(|index| touch(index.to_string())).collect(),
        vec![touch("25".to_owned()), touch("24".to_owned()), touch("25".to_owned())],
    ] {
        let error = send(statements).await.unwrap_err();
        assert_eq!(error.code(), Some("ValidationException"), "{error:?}");
    }
    assert_eq!(world.get("25").await.unwrap().get("a"), None, "a refused batch writes nothing");
}

#[tokio::test]
async fn large_old_and_new_values_fit_one_statement() {
    let world = World::new().await;
    let old = s(&"o".repeat(300_000));
    world.put(&item("1", &[("a", old.clone())])).await;
    let new = b(&[7].repeat(300_000));
    let change = (r#"SET "a" = ?"#, vec![new.clone()]);
    let answer = world.batch(vec![update("1", change, (r#" AND "a" = ?"#, vec![old]))]).await;
    assert!(answer.responses()[0].error().is_none());
    assert_eq!(world.get("1").await.unwrap().get("a"), Some(&new));
}

#[tokio::test]
async fn an_item_ends_at_400_kib() {
    let world = World::new().await;
    // pk, p, sk, 1, a: 2 + 1 + 2 + 1 + 1 bytes besides the value.
    let most = 400 * 1024 - 7;
    world.put(&item("1", &[("a", s(&"x".repeat(most)))])).await;
    let longer = s(&"x".repeat(most + 1));
    let request = world.client.put_item().table_name(TABLE).set_item(Some(item("2", &[("a", longer.clone())])));
    assert_eq!(request.send().await.unwrap_err().code(), Some("ValidationException"));
    let before = world.get("1").await;
    let answer = world.batch(vec![update("1", (r#"SET "a" = ?"#, vec![longer]), ("", vec![]))]).await;
    let error = answer.responses()[0].error().unwrap();
    assert_eq!(error.code(), Some(&BatchStatementErrorCodeEnum::ValidationError), "{error:?}");
    assert_eq!(world.get("1").await, before);
}

#[tokio::test]
async fn capacity_is_reported_by_table() {
    let world = World::new().await;
    world.put(&item("1", &[("a", s(&"x".repeat(2500)))])).await;
    world.put(&item("2", &[])).await;
    let touch = |sk: &str| update(sk, (r#"SET "c" = ?"#, vec![n("1")]), ("", vec![]));
    let answer = world.batch(vec![touch("1"), touch("2")]).await;
    let [capacity] = answer.consumed_capacity() else { panic!("one figure for one table: {answer:?}") };
    assert_eq!((capacity.table_name(), capacity.capacity_units()), (Some(TABLE), Some(4.0)), "3 and 1");

    let request = world.client.scan().table_name(TABLE).consistent_read(true);
    let scanned = request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await.unwrap();
    assert_eq!(scanned.consumed_capacity().unwrap().capacity_units(), Some(1.0), "one unit for 4 KB");

    let request = world.client.update_item().table_name(TABLE).set_key(Some(key("1")));
    let request = request.update_expression("SET c = :c").expression_attribute_values(":c", n("2"));
    let updated = request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await.unwrap();
    assert_eq!(updated.consumed_capacity().unwrap().capacity_units(), Some(3.0), "the whole item");
}

#[tokio::test]
async fn segments_partition_the_table_page_by_page() {
    let world = World::new().await;
    let mut expect = BTreeMap::new();
    for index in 0..200 {
        let item = Item::from([
            ("pk".to_owned(), s(&format!("partition {}", index % 50))),
            ("sk".to_owned(), s(&index.to_string())),
            ("a".to_owned(), s(&"x".repeat(40_000))),
        ]);
        world.put(&item).await;
        expect.insert(index.to_string(), 1);
    }
    for segments in [1, 4, 16] {
        let (mut seen, mut pages) = (BTreeMap::new(), 0);
        for segment in 0..segments {
            let mut start = None;
            loop {
                let request = world.client.scan().table_name(TABLE).segment(segment).total_segments(segments);
                let request = request.consistent_read(true).set_exclusive_start_key(start);
                let page = request.send().await.unwrap();
                let bytes = page.items().len() * 40_000;
                assert!(bytes <= 1024 * 1024 + 40_000, "a page holds 1 MB and at most one item more: {bytes}");
                for item in page.items() {
                    *seen.entry(item["sk"].as_s().unwrap().clone()).or_insert(0) += 1;
                }
                pages += 1;
                start = page.last_evaluated_key;
                if start.is_none() {
                    break;
                }
            }
        }
        assert_eq!(seen, expect, "{segments} segments: every item once");
        assert!(pages >= 8, "8 MB are at least 8 pages: {pages}");
    }
}

#[tokio::test]
async fn a_single_update_returns_the_item_that_failed_its_condition() {
    let world = World::new().await;
    let before = item("1", &[("a", s("x"))]);
    world.put(&before).await;
    let attempt = async |sk: &str, expected: &str| {
        let request = world.client.update_item().table_name(TABLE).set_key(Some(key(sk)));
        let request = request.update_expression("SET #b = :b REMOVE #a");
        let request = request.condition_expression("attribute_exists(pk) AND #a = :a AND attribute_not_exists(#b)");
        let request = request.expression_attribute_names("#a", "a").expression_attribute_names("#b", "b.c d");
        let request = request.expression_attribute_values(":a", s(expected)).expression_attribute_values(":b", n("1"));
        request.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld).send().await
    };
    for (sk, expected, returned) in [("1", "other", Some(&before)), ("2", "x", None)] {
        let error = attempt(sk, expected).await.unwrap_err().into_service_error();
        let aws_sdk_dynamodb::operation::update_item::UpdateItemError::ConditionalCheckFailedException(failed) = error
        else {
            panic!("{error:?}");
        };
        assert_eq!(failed.item(), returned, "{sk}");
        assert_eq!(world.get(sk).await.as_ref(), returned);
    }
    attempt("1", "x").await.unwrap();
    assert_eq!(world.get("1").await, Some(item("1", &[("b.c d", n("1"))])));
}

#[tokio::test]
async fn the_probe_of_an_absent_attribute_fails_with_the_item() {
    let world = World::new().await;
    let before = item("1", &[("a", s("x"))]);
    world.put(&before).await;
    let probe = update("1", (r#"REMOVE "no such name""#, vec![]), (r#" AND "no such name" IS NOT MISSING"#, vec![]));
    let answer = world.batch(vec![probe]).await;
    let error = answer.responses()[0].error().unwrap();
    assert_eq!(error.code(), Some(&BatchStatementErrorCodeEnum::ConditionalCheckFailed));
    assert_eq!(error.item(), Some(&before));
}

#[tokio::test]
async fn tables_outlive_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let begin = || start(Options { data: Some(data.path().to_owned()), ..Options::default() }).unwrap();
    let world = World::over(begin());
    create_table(&world.client).await;
    let kept = item("1", &[("a", n("12345678901234567890123456789012345678"))]);
    world.put(&kept).await;
    let identity = async |world: &World| {
        let table = world.client.describe_table().table_name(TABLE).send().await.unwrap().table.unwrap();
        (table.table_id.unwrap(), table.table_arn.unwrap())
    };
    let before = identity(&world).await;
    world.stand_ins.shutdown().await.unwrap();

    let world = World::over(begin());
    assert_eq!(identity(&world).await, before);
    assert_eq!(world.get("1").await, Some(kept));
    world.stand_ins.shutdown().await.unwrap();
}
