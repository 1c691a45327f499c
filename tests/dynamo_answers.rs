//! What [`DynamoTable`] makes of answers that the embedded DynamoDB never gives: throttling, denials, lost and
//! malformed answers.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use reseal::aws::AwsConfig;
use reseal::item::{Key, KeyNames, Value};
use reseal::migration::{Expected, Rewrite};
use reseal::store::{Answer, DynamoTable, Known, Scan, StoreClass, StoreError, Table, Update, Via, describe};

/// Answers by operation: status and body. The operations that were asked for, in their order.
#[derive(Clone, Default)]
struct Script {
    answers: Vec<(&'static str, u16, String)>,
    asked: Arc<Mutex<Vec<String>>>,
    /// What each request said.
    bodies: Arc<Mutex<Vec<serde_json::Value>>>,
}

async fn answer(State(script): State<Script>, headers: HeaderMap, request: Bytes) -> impl IntoResponse {
    let target = headers.get("x-amz-target").unwrap().to_str().unwrap();
    let operation = target.rsplit('.').next().unwrap().to_owned();
    let found = script.answers.iter().find(|(name, ..)| *name == operation);
    let unknown = (400, r#"{"__type":"com.amazon.coral.service#UnknownOperationException"}"#.to_owned());
    let (status, body) = found.map_or(unknown, |(_, status, body)| (*status, body.clone()));
    script.asked.lock().unwrap().push(operation);
    script.bodies.lock().unwrap().push(serde_json::from_slice(&request).unwrap());
    let json = [("content-type", "application/x-amz-json-1.0")];
    (StatusCode::from_u16(status).unwrap(), json, body)
}

/// A service that gives these answers, whatever it is asked.
struct World {
    config: AwsConfig,
    table: DynamoTable,
    script: Script,
}

impl World {
    async fn new(answers: &[(&'static str, u16, &str)]) -> Self {
        let answers = answers.iter().map(|(operation, status, body)| (*operation, *status, (*body).to_owned()));
        let script = Script { answers: answers.collect(), ..Script::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = AwsConfig::stand_in(&format!("http://{}", listener.local_addr().unwrap()), "us-east-1").unwrap();
        let router = Router::new().fallback(answer).with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let table = DynamoTable::new(&config, "t", KeyNames { partition: "pk".into(), sort: None });
        Self { config, table, script }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.script.asked.lock().unwrap())
    }
}

fn rewrites(count: usize) -> Vec<Rewrite> {
    let rewrite = |i: usize| Rewrite {
        key: Key { partition: ("pk".into(), Value::from(i.to_string().as_str())), sort: None },
        set: vec![("a".into(), Value::from("4111-1111"))],
        remove: vec![],
        condition: vec![("a".into(), Expected::Equals(Value::from("4222-2222")))],
        bytes: 1500,
    };
    (0..count).map(rewrite).collect()
}

fn failed(answer: &Answer) -> &StoreError {
    match answer {
        Answer::Failed(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_read_asks_for_strong_consistency() {
    let world = World::new(&[("Scan", 200, r#"{"Count":0}"#), ("GetItem", 200, "{}")]).await;
    world.table.scan(&Scan { segment: 0, total_segments: 1, after: None, limit: None }).await.unwrap();
    world.table.get(&rewrites(1)[0].key).await.unwrap();
    let bodies = world.script.bodies.lock().unwrap();
    assert!(bodies.len() == 2 && bodies.iter().all(|body| body["ConsistentRead"] == true), "{bodies:?}");
}

#[tokio::test]
async fn each_statement_has_its_own_answer() {
    let codes = [
        "ConditionalCheckFailed",
        "ItemCollectionSizeLimitExceeded",
        "RequestLimitExceeded",
        "ProvisionedThroughputExceeded",
        "TransactionConflict",
        "ThrottlingError",
        "InternalServerError",
        "ResourceNotFound",
        "AccessDenied",
        "SomethingNew",
    ];
    let responses: Vec<String> =
        codes.iter().map(|code| format!(r#"{{"Error":{{"Code":"{code}","Message":"m"}}}}"#)).collect();
    let body = format!(r#"{{"Responses":[{{"TableName":"t"}},{}]}}"#, responses.join(","));
    let world = World::new(&[("BatchExecuteStatement", 200, &body)]).await;
    // One statement more than the service answers.
    let update = world.table.update(&rewrites(codes.len() + 2), Via::Batch).await;
    assert!(matches!(update.answers[0], Answer::Written));
    assert!(matches!(update.answers[1], Answer::ConditionFailed(None)));
    let throttled = StoreClass::Throttled { reason: String::new() };
    let classes: Vec<_> = update.answers[2..].iter().map(|answer| failed(answer).class.clone()).collect();
    let expected = [
        StoreClass::Item,
        throttled.clone(),
        throttled.clone(),
        StoreClass::Conflict,
        throttled,
        StoreClass::Unknown,
        StoreClass::Fatal,
        StoreClass::Denied,
        StoreClass::Fatal,
        StoreClass::Unknown,
    ];
    assert_eq!(classes, expected);
    // Nothing was reported: the written one, the failed condition and the two that nobody knows, two units each.
    assert_eq!((update.units, update.unreported), (None, 8.0));
    assert_eq!(world.asked(), ["BatchExecuteStatement"]);
}

#[tokio::test]
async fn a_failure_of_the_call_is_one_of_each_statement() {
    let throttling = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"slow",
        "throttlingReasons":[{"reason":"IndexWriteKeyRangeThroughputExceeded","resource":"arn:i"}]}"#;
    let provisioned = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
        "message":"slow","ThrottlingReasons":[{"reason":"TableWriteProvisionedThroughputExceeded","resource":"arn:t"}]}"#;
    let throttled = |reason: &str| StoreClass::Throttled { reason: reason.to_owned() };
    let typed = |name: &str| format!(r#"{{"__type":"com.amazon.coral.service#{name}","message":"m"}}"#);
    let cases = [
        (400, throttling.to_owned(), throttled("IndexWriteKeyRangeThroughputExceeded arn:i"), 0.0),
        (400, provisioned.to_owned(), throttled("TableWriteProvisionedThroughputExceeded arn:t"), 0.0),
        (400, typed("AccessDeniedException"), StoreClass::Denied, 0.0),
        (400, typed("ExpiredTokenException"), StoreClass::Credentials, 0.0),
        (400, typed("ResourceNotFoundException"), StoreClass::Fatal, 0.0),
        (500, typed("InternalServerError"), StoreClass::Unknown, 6.0),
        (503, "<html>busy</html>".to_owned(), StoreClass::Unknown, 6.0),
        (200, "{\"Responses\":".to_owned(), StoreClass::Unknown, 6.0),
    ];
    for (status, body, class, unreported) in cases {
        let world = World::new(&[("BatchExecuteStatement", status, &body), ("UpdateItem", status, &body)]).await;
        for via in [Via::Batch, Via::Single] {
            let update = world.table.update(&rewrites(3), via).await;
            assert_eq!(update.answers.len(), 3);
            for answer in &update.answers {
                assert_eq!(failed(answer).class, class, "{status} {body} {via:?}: {answer:?}");
            }
            assert_eq!((update.units, update.unreported), (None, unreported), "{status} {body}");
            // Nothing is retried here.
            let requests = if via == Via::Batch { 1 } else { 3 };
            assert_eq!((world.asked().len(), update.requests), (requests, requests as u32));
        }
    }
}

#[tokio::test]
async fn a_batch_that_is_refused_as_such_is_sent_singly() {
    let validation = r#"{"__type":"com.amazon.coral.validate#ValidationException","message":"too much"}"#;
    let statement = r#"{"Responses":[{"TableName":"t"},{"Error":{"Code":"ValidationError","Message":"syntax"}}],
        "ConsumedCapacity":[{"TableName":"t","CapacityUnits":4.0}]}"#;
    let written = r#"{"ConsumedCapacity":{"TableName":"t","CapacityUnits":2.0}}"#;
    for (status, body, singles, units) in [(400, validation, 2, 4.0), (200, statement, 1, 6.0)] {
        let world = World::new(&[("BatchExecuteStatement", status, body), ("UpdateItem", 200, written)]).await;
        let update = world.table.update(&rewrites(2), Via::Batch).await;
        assert!(update.answers.iter().all(|answer| matches!(answer, Answer::Written)), "{:?}", update.answers);
        assert_eq!((update.units, update.unreported, update.requests), (Some(units), 0.0, 1 + singles));
        assert_eq!(world.asked().iter().filter(|operation| *operation == "UpdateItem").count(), singles as usize);
    }
}

#[tokio::test]
async fn a_message_that_repeats_a_value_is_withheld() {
    let only = |update: Update| failed(&update.answers[0]).to_string();
    let message = |text: &str| format!(r#"{{"__type":"x#ValidationException","message":"{text}"}}"#);
    let cases = [
        ("Cannot convert 4111-1111 to a number", false),
        ("Cannot convert: 4222-2222", false),
        ("Cannot convert: 4222-22223", true),
        ("Item size has exceeded the maximum allowed size", true),
    ];
    for (text, told) in cases {
        let world = World::new(&[("UpdateItem", 400, &message(text))]).await;
        let error = only(world.table.update(&rewrites(1), Via::Single).await);
        assert!(error.starts_with("UpdateItem: ValidationException (HTTP 400): "), "{error}");
        assert_eq!(error.contains(text), told, "{error}");
        assert!(!error.contains("4111-1111") && (told || !error.contains("4222-2222")), "{error}");
    }
}

#[tokio::test]
async fn a_page_that_no_table_has_is_an_error() {
    let scan = Scan { segment: 0, total_segments: 1, after: None, limit: None };
    for (body, expected) in [
        (
            r#"{"Items":[{"pk":{"S":"a"},"x":{"N":"12,5"}}]}"#,
            "Scan: the service returned not a decimal number in the attribute \"x\"",
        ),
        (
            r#"{"Items":[],"LastEvaluatedKey":{"id":{"S":"a"}}}"#,
            "Scan: the service returned something that is not the table's key: the key attribute \"pk\" is missing",
        ),
    ] {
        let world = World::new(&[("Scan", 200, body)]).await;
        let error = world.table.scan(&scan).await.unwrap_err();
        assert_eq!((error.class.clone(), error.to_string().as_str()), (StoreClass::Fatal, expected));
    }
    let world = World::new(&[("Scan", 400, r#"{"__type":"x#ValidationException","message":"bad key"}"#)]).await;
    assert_eq!(world.table.scan(&scan).await.unwrap_err().class, StoreClass::Fatal);
    let empty = World::new(&[("Scan", 200, "{}")]).await;
    let page = empty.table.scan(&scan).await.unwrap();
    assert_eq!((page.items.len(), page.next, page.units), (0, None, None));
}

#[tokio::test]
async fn what_a_service_does_not_tell_is_unknown() {
    let table = r#"{"Table":{"TableName":"t","TableArn":"arn:t","TableId":"id","TableStatus":"UPDATING",
        "KeySchema":[{"AttributeName":"sk","KeyType":"RANGE"},{"AttributeName":"pk","KeyType":"HASH"}],
        "AttributeDefinitions":[],"ItemCount":7,"TableSizeBytes":900,"DeletionProtectionEnabled":true,
        "ProvisionedThroughput":{"ReadCapacityUnits":5,"WriteCapacityUnits":6},
        "MultiRegionConsistency":"STRONG","Replicas":[{"RegionName":"eu-west-1","ReplicaStatus":"ACTIVE"}],
        "VectorIndexes":[{"IndexName":"v","VectorAttribute":{"AttributeName":"embedding"},
            "SearchSchema":[{"AttributeName":"kind","SearchSchemaElementType":"FILTER"}],
            "Projection":{"ProjectionType":"KEYS_ONLY"}}]}}"#;
    let denied = r#"{"__type":"x#AccessDeniedException","message":"no"}"#;
    let world = World::new(&[("DescribeTable", 200, table), ("DescribeTimeToLive", 400, denied)]).await;
    let facts = describe(&world.config, "t").await.unwrap();
    assert!(matches!(&facts.ttl, Known::Unknown(reason) if reason.contains("allow dynamodb:DescribeTimeToLive")));
    assert!(matches!(&facts.point_in_time_recovery, Known::Unknown(reason) if reason.contains("UnknownOperation")));
    assert_eq!(facts.keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["pk", "sk"]);
    assert_eq!((facts.items, facts.bytes, facts.deletion_protection), (7, 900, true));
    assert_eq!(facts.capacity, reseal::store::Capacity::Provisioned { read: 5, write: 6 });
    assert_eq!(facts.replication, Some(reseal::store::Replication::Strong));
    assert_eq!(facts.indexes[0].keys, ["embedding", "kind"]);

    let busy = r#"{"__type":"x#InternalServerError","message":"no"}"#;
    let world = World::new(&[("DescribeTable", 200, table), ("DescribeTimeToLive", 500, busy)]).await;
    assert_eq!(describe(&world.config, "t").await.unwrap_err().class, StoreClass::Unknown);
}
