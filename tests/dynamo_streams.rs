//! What [`Shards`] promises, kept by [`DynamoShards`]: over the embedded DynamoDB, and over scripted answers of the kinds
//! that the embedded one never gives.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod client;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    StreamSpecification, StreamViewType,
};
use reseal::aws::AwsConfig;
use reseal::item::{Item, Key, KeyNames, Number, Value};
use reseal::local::{Options, StandIns, start};
use reseal::store::{
    DynamoShards, DynamoTable, Record, Shards, ShardsError, Start, StoreClass, StoreError, Table, describe,
};

use client::client;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const TABLE: &str = "streamed-table";
const ARN: &str = "arn:aws:dynamodb:us-east-1:1:table/t/stream/2026";

fn names() -> KeyNames {
    KeyNames { partition: "pk".into(), sort: Some("sort key".into()) }
}

fn key(sort: &str) -> Key {
    let number = Value::Number(Number::parse(sort).unwrap());
    Key { partition: ("pk".into(), Value::from("p")), sort: Some(("sort key".into(), number)) }
}

/// The table `streamed-table` with a partition key `pk` (string), a sort key `sort key` (number) and a stream.
struct World {
    client: Client,
    config: AwsConfig,
    shards: DynamoShards,
    _stand_ins: StandIns,
}

impl World {
    async fn new(view: StreamViewType) -> Self {
        let stand_ins = start(Options::default()).unwrap();
        let config = AwsConfig::stand_in(&stand_ins.dynamodb_endpoint(), "us-east-1").unwrap();
        let client = client(&stand_ins.dynamodb_endpoint());
        let mut create = client.create_table().table_name(TABLE).billing_mode(BillingMode::PayPerRequest);
        for (name, kind, role) in
            [("pk", ScalarAttributeType::S, KeyType::Hash), ("sort key", ScalarAttributeType::N, KeyType::Range)]
        {
            let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(kind);
            let element = KeySchemaElement::builder().attribute_name(name).key_type(role);
            create = create.attribute_definitions(attribute.build().unwrap()).key_schema(element.build().unwrap());
        }
        let stream = StreamSpecification::builder().stream_enabled(true).stream_view_type(view);
        create.stream_specification(stream.build().unwrap()).send().await.unwrap();
        let arn = describe(&config, TABLE).await.unwrap().stream.unwrap().arn.unwrap();
        let shards = DynamoShards::new(&config, arn, names());
        Self { client, config, shards, _stand_ins: stand_ins }
    }

    async fn put(&self, sort: &str, a: &str) {
        let item = HashMap::from([("a".to_owned(), AttributeValue::S(a.to_owned()))]);
        let item = item.into_iter().chain(sdk_key(sort)).collect();
        self.client.put_item().table_name(TABLE).set_item(Some(item)).send().await.unwrap();
    }

    async fn delete(&self, sort: &str) {
        let key = sdk_key(sort).into_iter().collect();
        self.client.delete_item().table_name(TABLE).set_key(Some(key)).send().await.unwrap();
    }

    /// The only shard.
    async fn shard(&self) -> String {
        let listing = self.shards.list(None).await.unwrap();
        assert!(listing.enabled && listing.next.is_none() && listing.at.is_some(), "{listing:?}");
        let [shard] = &listing.shards[..] else { panic!("{listing:?}") };
        assert_eq!(shard.parent, None);
        shard.id.clone()
    }
}

fn sdk_key(sort: &str) -> [(String, AttributeValue); 2] {
    let sort = AttributeValue::N(sort.to_owned());
    [("pk".to_owned(), AttributeValue::S("p".to_owned())), ("sort key".to_owned(), sort)]
}

/// The text of `a`, if there is an image.
fn a(image: Option<&Item>) -> Option<&str> {
    match image?.get("a") {
        Some(Value::String(text)) => Some(text),
        other => panic!("{other:?}"),
    }
}

/// What the records of one item say: `a` before and after, and whether it was removed.
fn story<'a>(records: &'a [Record], sort: &str) -> Vec<(Option<&'a str>, Option<&'a str>, bool)> {
    let of = records.iter().filter(|record| record.key == key(sort));
    of.map(|record| (a(record.old.as_ref()), a(record.new.as_ref()), record.removed)).collect()
}

#[tokio::test]
async fn each_view_tells_what_it_has_in_the_order_of_the_changes() {
    for (view, has_old, has_new) in [
        (StreamViewType::KeysOnly, false, false),
        (StreamViewType::OldImage, true, false),
        (StreamViewType::NewImage, false, true),
        (StreamViewType::NewAndOldImages, true, true),
    ] {
        let began = SystemTime::now() - Duration::from_secs(2);
        let world = World::new(view.clone()).await;
        world.put("1", "first").await;
        world.put("2", "other").await;
        world.put("1", "second").await;
        world.delete("1").await;
        world.put("1", "third").await;

        let shard = world.shard().await;
        let iterator = world.shards.iterator(&shard, &Start::TrimHorizon).await.unwrap();
        let all = world.shards.records(&iterator).await.unwrap();
        let changes = [
            (None, Some("first"), false),
            (Some("first"), Some("second"), false),
            (Some("second"), None, true),
            (None, Some("third"), false),
        ];
        let seen = |old: Option<&'static str>, new: Option<&'static str>, removed| {
            (old.filter(|_| has_old), new.filter(|_| has_new), removed)
        };
        assert_eq!(story(&all.records, "1"), changes.map(|(old, new, removed)| seen(old, new, removed)), "{view:?}");
        assert_eq!(story(&all.records, "2"), [seen(None, Some("other"), false)], "{view:?}");
        assert_eq!(all.records.len(), 5);
        assert!(all.records.is_sorted_by(|one, next| one.sequence < next.sequence));
        for time in all.records.iter().map(|record| record.created).chain([all.at]) {
            assert!((began..SystemTime::now()).contains(&time.unwrap()), "{time:?}");
        }

        // Nothing new, and then what came meanwhile; an iterator serves more than once.
        let next = all.next.unwrap();
        assert_eq!(world.shards.records(&next).await.unwrap().records, []);
        world.put("1", "fourth").await;
        for _ in ["once", "again"] {
            let more = world.shards.records(&next).await.unwrap();
            assert_eq!(story(&more.records, "1"), [seen(Some("third"), Some("fourth"), false)], "{view:?}");
            assert_eq!(more.records.len(), 1);
        }
        let after = Start::After(all.records[2].sequence.clone());
        let iterator = world.shards.iterator(&shard, &after).await.unwrap();
        let rest = world.shards.records(&iterator).await.unwrap().records;
        assert_eq!(rest[..2], all.records[3..]);
        assert_eq!(rest.len(), 3);
        let at = Start::At(all.records[2].sequence.clone());
        let iterator = world.shards.iterator(&shard, &at).await.unwrap();
        assert_eq!(world.shards.records(&iterator).await.unwrap().records[..3], all.records[2..]);
    }
}

#[tokio::test]
async fn an_image_is_the_item_that_a_read_finds() {
    let world = World::new(StreamViewType::NewAndOldImages).await;
    let text = |text: &str| text.to_owned();
    let nested = HashMap::from([(text("größe"), AttributeValue::L(vec![AttributeValue::Null(true)]))]);
    let item = [
        (text("s"), AttributeValue::S(text("line\u{2028}separator"))),
        (text("n"), AttributeValue::N(text("-1.50E3"))),
        (text("b"), AttributeValue::B(Blob::new([0, 255]))),
        (text("flag"), AttributeValue::Bool(true)),
        (text("ss"), AttributeValue::Ss(vec![text("b"), text("a")])),
        (text("ns"), AttributeValue::Ns(vec![text("2"), text("10")])),
        (text("bs"), AttributeValue::Bs(vec![Blob::new([1]), Blob::new([])])),
        (text("m"), AttributeValue::M(nested)),
    ];
    let item = item.into_iter().chain(sdk_key("7")).collect();
    world.client.put_item().table_name(TABLE).set_item(Some(item)).send().await.unwrap();
    let (read, _) = DynamoTable::new(&world.config, TABLE, names()).get(&key("7")).await.unwrap();
    let iterator = world.shards.iterator(&world.shard().await, &Start::TrimHorizon).await.unwrap();
    let records = world.shards.records(&iterator).await.unwrap().records;
    let image = records[0].new.as_ref().unwrap();
    assert!(image.same(&read.unwrap()) && image.len() == 10);
}

#[tokio::test]
async fn a_filter_that_is_passed_over_tells_nothing() {
    let world = World::new(StreamViewType::KeysOnly).await;
    assert_eq!(world.shards.children(&world.shard().await).await.unwrap(), None);
}

#[tokio::test]
async fn a_stream_that_is_not_there_is_gone() {
    let world = World::new(StreamViewType::KeysOnly).await;
    let shard = world.shard().await;
    let off = StreamSpecification::builder().stream_enabled(false).build().unwrap();
    world.client.update_table().table_name(TABLE).stream_specification(off).send().await.unwrap();
    let listed = world.shards.list(None).await.unwrap_err();
    let begun = world.shards.iterator(&shard, &Start::TrimHorizon).await.unwrap_err();
    for error in [listed, begun] {
        assert!(matches!(&error, ShardsError::Gone(error) if error.class == StoreClass::Fatal), "{error}");
        assert!(error.to_string().contains("the stream was disabled or enabled anew"), "{error}");
    }
    assert!(!describe(&world.config, TABLE).await.unwrap().stream.is_some_and(|stream| stream.enabled));
}

/// Answers in their order, whatever is asked, and what was asked.
#[derive(Clone, Default)]
struct Script {
    /// HTTP status and body.
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
    asked: Arc<Mutex<Vec<(String, Json)>>>,
    /// The whole line of the header.
    date: &'static str,
}

impl Script {
    /// Starts a service that gives these answers.
    async fn serve(date: &'static str, answers: impl IntoIterator<Item = (u16, Json)>) -> (Self, DynamoShards) {
        let answers = answers.into_iter().map(|(status, body)| (status, body.to_string()));
        Self::serve_raw(date, answers.collect()).await
    }

    async fn serve_raw(date: &'static str, answers: VecDeque<(u16, String)>) -> (Self, DynamoShards) {
        let script = Self { answers: Arc::new(Mutex::new(answers)), date, ..Self::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = AwsConfig::stand_in(&format!("http://{}", listener.local_addr().unwrap()), "us-east-1").unwrap();
        let serving = script.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                serving.answer(client).await;
            }
        });
        (script, DynamoShards::new(&config, ARN, names()))
    }

    /// By hand: an HTTP server would add a date of its own.
    async fn answer(&self, mut client: TcpStream) {
        let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
        let (head, body) = loop {
            let count = client.read(&mut buffer).await.unwrap();
            assert!(count > 0, "a whole request");
            read.extend_from_slice(&buffer[..count]);
            let text = std::str::from_utf8(&read).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let head = head.to_ascii_lowercase();
            let header = |name: &str| {
                let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                line.unwrap().trim().to_owned()
            };
            if body.len() == header("content-length").parse::<usize>().unwrap() {
                break (header("x-amz-target"), serde_json::from_str(body).unwrap());
            }
        };
        let operation = head.rsplit('.').next().unwrap().to_owned();
        self.asked.lock().unwrap().push((operation, body));
        let (status, body) = self.answers.lock().unwrap().pop_front().expect("no more is asked than there are answers");
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{}connection: close", body.len(), self.date);
        client.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
    }

    fn asked(&self) -> Vec<(String, Json)> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// 2026-11-22 06:40:00 UTC.
const DATE: &str = "date: Sun, 22 Nov 2026 06:40:00 GMT\r\n";
const DATE_SECONDS: u64 = 1_795_329_600;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn stream(shards: Json, last: Json) -> (u16, Json) {
    let status = json!("ENABLED");
    (200, json!({"StreamDescription": {"StreamStatus": status, "Shards": shards, "LastEvaluatedShardId": last}}))
}

fn error(code: &str) -> (u16, Json) {
    (400, json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": "the service's words"}))
}

fn keys() -> Json {
    json!({"sort key": {"N": "1.0"}, "pk": {"S": "p"}})
}

fn records(changes: Json) -> (u16, Json) {
    (200, json!({"Records": changes, "NextShardIterator": "next"}))
}

fn put(change: Json) -> Json {
    json!({"eventName": "INSERT", "dynamodb": change})
}

#[tokio::test]
async fn shards_are_listed_page_by_page() {
    let open = json!({"StartingSequenceNumber": "100"});
    let closed = json!({"StartingSequenceNumber": "100", "EndingSequenceNumber": "200"});
    let (script, shards) = Script::serve(
        DATE,
        [
            stream(
                json!([
                    {"ShardId": "child", "ParentShardId": "parent", "SequenceNumberRange": open},
                    {"ShardId": "orphan", "ParentShardId": "trimmed", "SequenceNumberRange": closed},
                ]),
                json!("orphan"),
            ),
            stream(json!([{"ShardId": "parent", "SequenceNumberRange": closed}, {"ShardId": "new"}]), Json::Null),
        ],
    )
    .await;
    let first = shards.list(None).await.unwrap();
    let shown = |listing: &reseal::store::Listing| -> Vec<(String, Option<String>, bool)> {
        listing.shards.iter().map(|shard| (shard.id.clone(), shard.parent.clone(), shard.closed)).collect()
    };
    let expected = [("child".into(), Some("parent".into()), false), ("orphan".into(), Some("trimmed".into()), true)];
    assert_eq!(shown(&first), expected);
    assert_eq!((first.next.as_deref(), first.enabled, first.at), (Some("orphan"), true, Some(at(DATE_SECONDS))));
    let second = shards.list(first.next.as_deref()).await.unwrap();
    assert_eq!(shown(&second), [("parent".into(), None, true), ("new".into(), None, false)]);
    assert_eq!(second.next, None);
    let asked = script.asked();
    assert_eq!(asked[0], ("describestream".into(), json!({"StreamArn": ARN})));
    assert_eq!(asked[1].1, json!({"StreamArn": ARN, "ExclusiveStartShardId": "orphan"}));
}

#[tokio::test]
async fn only_a_stream_that_is_known_to_be_disabled_is() {
    for (status, enabled) in [
        (json!("ENABLED"), true),
        (json!("ENABLING"), true),
        (json!("SOMETHING_NEW"), true),
        (Json::Null, true),
        (json!("DISABLING"), false),
        (json!("DISABLED"), false),
    ] {
        let answer = json!({"StreamDescription": {"StreamStatus": status}});
        let (_, shards) = Script::serve("", [(200, answer)]).await;
        let listing = shards.list(None).await.unwrap();
        assert_eq!((listing.enabled, listing.shards.len(), listing.at), (enabled, 0, None), "{status}");
    }
}

#[tokio::test]
async fn children_are_told_where_the_service_can() {
    let child = |id: &str, parent: &str| json!({"ShardId": id, "ParentShardId": parent});
    let both = stream(json!([child("a", "p"), child("b", "p")]), Json::Null);
    let (script, shards) = Script::serve(DATE, [both, stream(json!([]), Json::Null)]).await;
    let told = shards.children("p").await.unwrap().unwrap();
    assert_eq!(told.shards.iter().map(|shard| shard.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(told.at, Some(at(DATE_SECONDS)));
    // None is an answer too.
    assert_eq!(shards.children("q").await.unwrap().unwrap().shards, []);
    let filter = json!({"Type": "CHILD_SHARDS", "ShardId": "p"});
    assert_eq!(script.asked()[0].1, json!({"StreamArn": ARN, "ShardFilter": filter}));

    // Whoever does not know the filter is asked once.
    for answer in [
        error("ValidationException"),
        error("SerializationException"),
        error("UnknownOperationException"),
        stream(json!([child("a", "p"), {"ShardId": "p"}]), Json::Null),
        stream(json!([child("a", "p")]), json!("a")),
    ] {
        let (script, shards) = Script::serve(DATE, [answer]).await;
        for _ in ["once", "again"] {
            assert_eq!(shards.children("p").await.unwrap(), None);
        }
        assert_eq!(script.asked().len(), 1);
    }

    // What fails for another reason is asked again.
    let (_, shards) =
        Script::serve(DATE, [error("LimitExceededException"), stream(json!([child("a", "p")]), Json::Null)]).await;
    let busy = shards.children("p").await.unwrap_err();
    assert!(matches!(busy, ShardsError::Store(error) if matches!(error.class, StoreClass::Throttled { .. })));
    assert_eq!(shards.children("p").await.unwrap().unwrap().shards.len(), 1);
}

#[tokio::test]
async fn an_iterator_begins_where_it_is_told_to() {
    let answer = || (200, json!({"ShardIterator": "an iterator"}));
    let (script, shards) = Script::serve(DATE, [answer(), answer(), answer()]).await;
    for start in [Start::TrimHorizon, Start::After("100".into()), Start::At("100".into())] {
        assert_eq!(shards.iterator("s", &start).await.unwrap(), "an iterator");
    }
    let asked = script.asked();
    assert_eq!(asked[0].0, "getsharditerator");
    assert_eq!(asked[0].1, json!({"StreamArn": ARN, "ShardId": "s", "ShardIteratorType": "TRIM_HORIZON"}));
    let after = json!({"StreamArn": ARN, "ShardId": "s", "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
        "SequenceNumber": "100"});
    assert_eq!(asked[1].1, after);
    let at = json!({"StreamArn": ARN, "ShardId": "s", "ShardIteratorType": "AT_SEQUENCE_NUMBER",
        "SequenceNumber": "100"});
    assert_eq!(asked[2].1, at);
}

#[tokio::test]
async fn a_shard_is_read_to_its_end() {
    let expired = json!({
        "eventName": "REMOVE",
        "userIdentity": {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"},
        "dynamodb": {"Keys": keys(), "OldImage": {"a": {"S": "old"}, "pk": {"S": "p"}, "sort key": {"N": "10E-1"}},
            "NewImage": {}, "SequenceNumber": "300", "ApproximateCreationDateTime": 1_795_000_000},
    });
    let timeless = put(json!({"Keys": keys(), "SequenceNumber": "301"}));
    let (script, shards) = Script::serve(
        DATE,
        [
            records(json!([])),
            (200, json!({"Records": [expired, timeless], "NextShardIterator": null})),
            (200, json!({"NextShardIterator": "next"})),
        ],
    )
    .await;
    let empty = shards.records("first").await.unwrap();
    assert_eq!((empty.records.len(), empty.next.as_deref(), empty.at), (0, Some("next"), Some(at(DATE_SECONDS))));
    let last = shards.records("next").await.unwrap();
    assert_eq!(last.next, None);
    // An item that time-to-live deleted is a removed item; its key is the table's, however it is spelled.
    assert_eq!(story(&last.records, "1"), [(Some("old"), None, true), (None, None, false)]);
    assert_eq!(last.records[0].created, Some(at(1_795_000_000)));
    assert_eq!((last.records[1].created, last.records[1].sequence.as_str()), (None, "301"));
    assert_eq!(shards.records("next").await.unwrap().records, []);
    assert_eq!(script.asked()[0], ("getrecords".into(), json!({"ShardIterator": "first"})));
}

#[tokio::test]
async fn the_time_of_an_answer_is_the_services_or_none() {
    for (date, expected) in [
        (DATE, Some(at(DATE_SECONDS))),
        ("Date: Thu, 01 Jan 1970 00:00:07 GMT\r\n", Some(at(7))),
        ("", None),
        ("date: \r\n", None),
        ("date: yesterday\r\n", None),
        ("date: Sun, 99 Nov 9999999999 06:40:00 GMT\r\n", None),
        ("date: Sun, 31 Feb 0000 99:99:99 GMT\r\n", None),
    ] {
        let (_, shards) = Script::serve(date, [records(json!([])), stream(json!([]), Json::Null)]).await;
        assert_eq!(shards.records("i").await.unwrap().at, expected, "{date:?}");
        assert_eq!(shards.list(None).await.unwrap().at, expected, "{date:?}");
    }
}

/// The failure of each operation, in this order: listing, iterator, records.
async fn failures(answer: (u16, String)) -> [ShardsError; 3] {
    let (script, shards) = Script::serve_raw(DATE, VecDeque::from([answer.clone(), answer.clone(), answer])).await;
    let listed = shards.list(None).await.unwrap_err();
    let begun = shards.iterator("s", &Start::After("100".into())).await.unwrap_err();
    let read = shards.records("i").await.unwrap_err();
    // Nothing is retried here.
    assert_eq!(script.asked().len(), 3);
    [listed, begun, read]
}

#[tokio::test]
async fn failures_are_told_apart() {
    use StoreClass::{Credentials, Denied, Fatal, Unknown};
    type Kind = fn(StoreError) -> ShardsError;
    let throttled = StoreClass::Throttled { reason: String::new() };
    let cases: [(_, Kind, _, _); 10] = [
        (error("ExpiredIteratorException"), ShardsError::Expired, Fatal, "ask for a new iterator"),
        (error("TrimmedDataAccessException"), ShardsError::Trimmed, Fatal, "not read in time"),
        (error("ResourceNotFoundException"), ShardsError::Gone, Fatal, "the stream was disabled or enabled anew"),
        (error("LimitExceededException"), ShardsError::Store, throttled.clone(), "the service's words"),
        (error("ThrottlingException"), ShardsError::Store, throttled, "the service's words"),
        (error("AccessDeniedException"), ShardsError::Store, Denied, "on the table's stream (table/NAME/stream/*)"),
        (error("ValidationException"), ShardsError::Store, Fatal, "check the stream's ARN"),
        (error("ExpiredTokenException"), ShardsError::Store, Credentials, "the service's words"),
        ((500, error("InternalServerError").1), ShardsError::Store, Unknown, "the service's words"),
        (error("SomethingNew"), ShardsError::Store, Fatal, "check the stream's ARN"),
    ];
    for ((status, body), kind, class, remedy) in cases {
        let operations = ["DescribeStream", "GetShardIterator", "GetRecords"];
        for (operation, error) in operations.into_iter().zip(failures((status, body.to_string())).await) {
            let told = error.to_string();
            assert!(told.starts_with(operation) && told.contains(remedy), "{told}");
            assert!(class != Denied || told.contains(&format!("allow dynamodb:{operation}")), "{told}");
            let problem = told[operation.len() + 2..].to_owned();
            assert_eq!(error, kind(StoreError { operation, class: class.clone(), problem }));
        }
    }
    // Nobody listens on the port of a listener that is gone.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let nobody = DynamoShards::new(&AwsConfig::stand_in(&endpoint, "us-east-1").unwrap(), ARN, names());
    let error = nobody.records("i").await.unwrap_err();
    assert!(matches!(&error, ShardsError::Store(error) if error.class == Unknown), "{error}");
}

#[tokio::test]
async fn answers_that_are_none_are_errors_without_values() {
    for body in [
        "",
        "<html>",
        "[]",
        "{\"Records\":",
        "{\"Records\":[{\"dynamodb\":{\"ApproximateCreationDateTime\":\"4111-1111\"}}],\"StreamDescription\":7,\
         \"ShardIterator\":7}",
    ] {
        for error in failures((200, body.to_owned())).await {
            let unknown = matches!(&error, ShardsError::Store(error) if error.class == StoreClass::Unknown);
            // An empty body is an empty answer.
            assert!(unknown || body.is_empty(), "{body:?}: {error}");
            assert!(!error.to_string().contains("4111"), "{error}");
        }
    }
    let expected = ["a stream", "an iterator", "the next iterator"];
    for body in ["{}", "{\"ShardIterator\":\"\",\"NextShardIterator\":\"\",\"Records\":[]}"] {
        for (missing, error) in expected.into_iter().zip(failures((200, body.to_owned())).await) {
            assert!(matches!(&error, ShardsError::Store(error) if error.class == StoreClass::Fatal), "{error}");
            let told = format!("the service returned an answer without {missing}; check the endpoint");
            assert!(error.to_string().ends_with(&told), "{error}");
        }
    }
    let (_, shards) = Script::serve(DATE, [stream(json!([{"ParentShardId": "p"}]), Json::Null)]).await;
    let error = shards.list(None).await.unwrap_err().to_string();
    assert_eq!(error, "DescribeStream: the service returned an answer without a shard's id; check the endpoint");
}

#[tokio::test]
async fn records_that_are_none_are_errors_without_values() {
    let image = |change: Json| {
        let mut image = keys();
        image.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        put(json!({"Keys": keys(), "SequenceNumber": "300", "NewImage": image, "OldImage": keys()}))
    };
    let deep = (0..60).fold(json!({"S": "4111-1111"}), |inner, _| json!({"L": [inner]}));
    let without = |name: &str| format!("the service returned an answer without {name}; check the endpoint");
    let wrong = |problem: &str| format!("the service returned {problem}, in the record with the sequence number 300");
    let missing = "something that is not the table's key: the key attribute \"sort key\" is missing";
    let cases = [
        (json!({"eventName": "INSERT"}), without("a record's change")),
        (put(json!({"Keys": keys()})), without("a record's sequence number")),
        (
            put(json!({"SequenceNumber": "300"})),
            wrong("something that is not the table's key: the key attribute \"pk\" is missing"),
        ),
        (put(json!({"Keys": {"pk": {"S": "4111-1111"}}, "SequenceNumber": "300"})), wrong(missing)),
        (
            put(json!({"Keys": {"pk": {"BOOL": true}, "sort key": {"N": "1"}}, "SequenceNumber": "300"})),
            wrong(
                "something that is not the table's key: the key attribute \"pk\" is of type BOOL; a key is S, N or B",
            ),
        ),
        (put(json!({"Keys": keys(), "SequenceNumber": "300", "NewImage": {"pk": {"S": "4111-1111"}}})), wrong(missing)),
        (image(json!({"pk": {"S": "4111-1111"}})), wrong("the image of another item")),
        (image(json!({"a": {"N": "4111-1111"}})), wrong("not a decimal number in the attribute \"a\"")),
        (image(json!({"a": {"X": "4111-1111"}})), wrong("a value of an unknown kind in the attribute \"a\"")),
        (image(json!({"a": {"NULL": false}})), wrong("a value of an unknown kind in the attribute \"a\"")),
        (image(json!({"a": deep})), wrong("a value of an unknown kind in the attribute \"a\"")),
        (
            json!({"eventName": "UPSERT", "dynamodb": {"Keys": keys(), "SequenceNumber": "300"}}),
            wrong("an unknown kind of change"),
        ),
        (json!({"dynamodb": {"Keys": keys(), "SequenceNumber": "300"}}), wrong("an unknown kind of change")),
    ];
    for (told, expected) in cases {
        let good = put(json!({"Keys": keys(), "SequenceNumber": "299"}));
        let (_, shards) = Script::serve(DATE, [records(json!([good, told]))]).await;
        let error = shards.records("i").await.unwrap_err();
        assert_eq!(error.to_string(), format!("GetRecords: {expected}"));
        assert!(matches!(error, ShardsError::Store(error) if error.class == StoreClass::Fatal));
    }
    // Nested as deep as no parser follows, and of kinds that no JSON of DynamoDB has.
    let bottomless = format!("{}{}", "{\"L\":[".repeat(10_000), "4111");
    for value in [bottomless.as_str(), "4111", "\"4111\"", "{\"S\":4111}", "{\"S\":\"4111\",\"N\":\"4111\"}", "{}"] {
        let body = format!(
            "{{\"Records\":[{{\"eventName\":\"INSERT\",\"dynamodb\":{{\"Keys\":{{\"pk\":{value}}},\
             \"SequenceNumber\":\"300\"}}}}],\"NextShardIterator\":\"next\"}}"
        );
        let (_, shards) = Script::serve_raw(DATE, VecDeque::from([(200, body)])).await;
        let error = shards.records("i").await.unwrap_err();
        assert!(matches!(&error, ShardsError::Store(error) if error.class == StoreClass::Unknown), "{error}");
        assert!(!error.to_string().contains("4111"), "{error}");
    }
}
