//! The function as AWS Lambda starts it: the real binary before a Runtime API on loopback, on a table of the embedded
//! DynamoDB, under a key of the embedded KMS.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "run/bench.rs"]
#[expect(dead_code, reason = "the tests of `run` use the rest of it")]
mod bench;

use std::fs::File;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::types::AttributeValue;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bench::{Bench, Item, TABLE, item, order, ran, s};
use reseal::local::kms::Denial;
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};

const RAW: &str = r#"{ type = "raw-aes", namespace = "acme", name = "k1", key_file = "k1.key" }"#;
/// More than any test takes: what a function has by default where it is set up for a stream.
const PLENTY: Duration = Duration::from_mins(5);

/// What the Runtime API gives out, and what comes back.
struct Api {
    next: Mutex<mpsc::Receiver<(Json, SystemTime)>>,
    answers: mpsc::Sender<(String, Json)>,
}

async fn next(State(api): State<Arc<Api>>) -> impl IntoResponse {
    let Some((event, deadline)) = api.next.lock().await.recv().await else { return std::future::pending().await };
    let deadline = deadline.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis().to_string();
    let headers = [
        ("lambda-runtime-aws-request-id", "an-id".to_owned()),
        ("lambda-runtime-deadline-ms", deadline),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:1:function:reseal".to_owned()),
    ];
    (headers, event.to_string())
}

async fn answered(State(api): State<Arc<Api>>, Path((id, kind)): Path<(String, String)>, body: Bytes) -> StatusCode {
    assert_eq!(id, "an-id");
    api.answers.send((kind, serde_json::from_slice(&body).unwrap())).await.unwrap();
    StatusCode::ACCEPTED
}

/// A function that was started, as Lambda keeps one.
struct Function {
    process: Child,
    events: mpsc::Sender<(Json, SystemTime)>,
    answers: mpsc::Receiver<(String, Json)>,
}

impl Function {
    async fn start(bench: &Bench) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ((events, next_events), (answers, got)) = (mpsc::channel(1), mpsc::channel(1));
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/{kind}", post(answered))
            .with_state(Arc::new(Api { next: Mutex::new(next_events), answers }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let log = File::create(bench.path("log")).unwrap();
        let mut command = command(bench);
        command.env("AWS_LAMBDA_RUNTIME_API", address.to_string());
        let process = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Self { process, events, answers: got }
    }

    /// Invokes it: `response` or `error`, and what it says.
    async fn invoke(&mut self, event: Json, time: Duration) -> (String, Json) {
        self.events.send((event, SystemTime::now() + time)).await.unwrap();
        tokio::time::timeout(PLENTY, self.answers.recv()).await.expect("an answer").unwrap()
    }

    /// Invokes it with records: the sequence numbers that it reports.
    async fn work(&mut self, records: &[Json], time: Duration) -> Vec<String> {
        let (kind, answer) = self.invoke(json!({ "Records": records }), time).await;
        assert_eq!(kind, "response", "{answer}");
        let failures = answer["batchItemFailures"].as_array().unwrap();
        failures.iter().map(|failure| failure["itemIdentifier"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The binary as Lambda starts it, but for the address of the Runtime API.
fn command(bench: &Bench) -> Command {
    let mut command = bench.program(env!("CARGO_BIN_EXE_reseal-lambda"));
    command.envs([
        ("AWS_LAMBDA_FUNCTION_NAME", "reseal"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
        ("RESEAL_CONCURRENCY", "1"),
    ]);
    command.env("RESEAL_JOB", bench.path("job.toml"));
    command
}

/// A table of so many orders, and a job that seals them under a key of KMS.
async fn world(orders: usize) -> (Bench, String) {
    let bench = Bench::with(orders).await;
    let arn = bench.stand_ins.kms().create_key("").unwrap();
    bench.job(&[(RAW, &format!(r#"{{ type = "aws-kms", key_arn = "{arn}" }}"#))]);
    let described = bench.client.describe_table().table_name(TABLE).send().await.unwrap();
    let stream = format!("{}/stream/2026-01-01T00:00:00.000", described.table().unwrap().table_arn().unwrap());
    (bench, stream)
}

/// A record as the mapping brings it.
fn record(stream: &str, sequence: &str, name: &str, key: &Item, new: Option<&Item>) -> Json {
    let mut change = json!({
        "ApproximateCreationDateTime": 1_750_000_000,
        "Keys": image(&item(&[("pk", key["pk"].clone()), ("sk", key["sk"].clone())])),
        "SequenceNumber": sequence,
        "SizeBytes": 100,
    });
    if let Some(new) = new {
        change["NewImage"] = image(new);
    }
    json!({
        "eventID": sequence,
        "eventName": name,
        "eventSource": "aws:dynamodb",
        "eventSourceARN": stream,
        "dynamodb": change,
    })
}

fn put(stream: &str, sequence: usize, item: &Item) -> Json {
    record(stream, &sequence.to_string(), "INSERT", item, Some(item))
}

/// Attributes as an event has them.
fn image(item: &Item) -> Json {
    let value = |value: &AttributeValue| match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(text) => json!({ "N": text }),
        AttributeValue::B(bytes) => json!({ "B": BASE64.encode(bytes) }),
        other => panic!("no test has {other:?}"),
    };
    item.iter().map(|(name, of)| (name.clone(), value(of))).collect::<serde_json::Map<_, _>>().into()
}

fn log(bench: &Bench) -> String {
    std::fs::read_to_string(bench.path("log")).unwrap()
}

/// Demands of the table, with the program, that so many of its items are at target and open.
fn verify(bench: &Bench, code: i32, text: &str) {
    bench.reseal("verify --job job.toml").expect(code, &[text]);
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_reported_alone_and_the_rest_is_done() {
    let (bench, stream) = world(8).await;
    let strange: Item = order(3).into_iter().chain(item(&[("surprise", s("of an application"))])).collect();
    bench.put(&strange).await;
    let gone = order(9);
    let mut poison = put(&stream, 105, &order(5));
    poison["dynamodb"]["NewImage"]["amount"] = json!({ "N": "twelve fifty" });
    let records = [
        put(&stream, 101, &order(0)),
        put(&stream, 102, &order(1)),
        // Twice in the batch: reported by its first record.
        put(&stream, 103, &order(3)),
        // Without an image: it is read by its key.
        record(&stream, "104", "MODIFY", &order(4), None),
        poison,
        put(&stream, 106, &strange),
        // Deleted since: it stays so.
        put(&stream, 107, &gone),
        record(&stream, "108", "REMOVE", &gone, None),
        put(&stream, 109, &order(7)),
    ];
    let mut function = Function::start(&bench).await;
    assert_eq!(function.work(&records, PLENTY).await, ["103", "105"]);
    verify(&bench, 4, "8 items: 4 at target and opened, 0 stale, 4 in plaintext, 0 broken");
    let items = bench.items().await;
    let sealed: Vec<&str> =
        items.iter().filter(|(_, item)| item.contains_key(bench::HEAD)).map(|(k, _)| &*k.1).collect();
    assert_eq!(sealed, ["order-00000", "order-00007", "order-00001", "order-00004"]);

    // From the lowest on they come again, with their old images; then our own writes come by. Neither is written, and what
    // is at target costs no key.
    assert_eq!(function.work(&records[2..], PLENTY).await, ["103", "105"]);
    assert_eq!(bench.items().await, items);
    bench.stand_ins.kms().forget_requests();
    let ours = items.values().filter(|item| item.contains_key(bench::HEAD)).zip(200..);
    let ours = ours.map(|(item, sequence)| record(&stream, &sequence.to_string(), "MODIFY", item, Some(item)));
    let ours: Vec<Json> = ours.collect();
    assert_eq!(function.work(&ours, PLENTY).await, [""; 0]);
    assert_eq!((bench.items().await, bench.stand_ins.kms().requests().len()), (items, 0));

    let log = log(&bench);
    for text in
        ["unknown-attribute", "surprise", "\"sequence\":\"105\"", "dynamodb.NewImage: amount: not a decimal number"]
    {
        assert!(log.contains(text), "no {text:?} in {log}");
    }
    for value in ["of an application", "twelve fifty", "ring twice", "7.50"] {
        assert!(!log.contains(value), "{value:?} in {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_the_run_is_reported_from_the_first_record_on() {
    let (bench, stream) = world(3).await;
    let records: Vec<Json> = (0..3).map(|i| put(&stream, 100 + i, &order(i))).collect();
    let mut function = Function::start(&bench).await;
    let denied = |operation: &str| Denial { operation: Some(operation.to_owned()), ..Denial::default() };
    for operation in ["GenerateDataKey", "Decrypt"] {
        bench.stand_ins.kms().deny(denied(operation)).unwrap();
        assert_eq!(function.work(&records, PLENTY).await, ["100", "101", "102"], "{operation}");
        assert_eq!(bench.sealed().await, 0, "{operation}");
        let log = log(&bench);
        assert!(log.contains(&format!("allow kms:{operation}")), "{log}");
        // A few that are denied their keys may be all whom a policy means; a key that does not come back is nobody's.
        assert_eq!(log.contains("\"stopped\":\"fault\""), operation == "Decrypt", "{log}");
        bench.stand_ins.kms().allow_all();
    }
    // Allowed again, the same process goes on.
    assert_eq!(function.work(&records, PLENTY).await, [""; 0]);
    verify(&bench, 0, "3 items: 3 at target and opened");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_no_time_for_is_reported() {
    let (bench, stream) = world(3).await;
    let records: Vec<Json> = (0..3).map(|i| put(&stream, 100 + i, &order(i))).collect();
    let mut function = Function::start(&bench).await;
    // Before the seconds begin that are kept for the answer there is none.
    assert_eq!(function.work(&records, Duration::from_secs(2)).await, ["100", "101", "102"]);
    assert_eq!((bench.sealed().await, bench.stand_ins.kms().requests().get("GenerateDataKey")), (0, None));
    assert!(log(&bench).contains("\"stopped\":\"deadline\""), "{}", log(&bench));
    assert_eq!(function.work(&records, PLENTY).await, [""; 0]);
    verify(&bench, 0, "3 items: 3 at target and opened");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_can_be_told_of_is_an_error() {
    let (bench, stream) = world(2).await;
    let mut function = Function::start(&bench).await;
    let (kind, answer) = function.invoke(json!({ "detail": "ring twice" }), PLENTY).await;
    assert_eq!((kind.as_str(), &answer["errorType"]), ("error", &json!("NotAnEvent")), "{answer}");

    let mut nameless = put(&stream, 100, &order(0));
    nameless["dynamodb"].as_object_mut().unwrap().remove("SequenceNumber");
    let (kind, answer) = function.invoke(json!({ "Records": [nameless, put(&stream, 101, &order(1))] }), PLENTY).await;
    assert_eq!((kind.as_str(), &answer["errorType"]), ("error", &json!("MalformedRecord")), "{answer}");
    assert_eq!(bench.sealed().await, 1, "the other is done");

    let other = stream.replace(TABLE, "another-table");
    assert_eq!(function.work(&[put(&other, 102, &order(0))], PLENTY).await, ["102"]);
    assert_eq!(bench.sealed().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_is_refused_for_a_function_is() {
    let (bench, _) = world(1).await;
    let refused = |command: &mut Command, code, texts: &[&str]| {
        // Nobody listens there: a function that is refused does not ask for an event.
        ran(command.env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9")).expect(code, texts);
    };
    ran(&mut command(&bench)).expect(2, &["started by AWS Lambda only", "docs/LAMBDA.md"]);
    refused(command(&bench).env_remove("RESEAL_CONCURRENCY"), 2, &["RESEAL_CONCURRENCY", "reserved concurrency"]);
    refused(command(&bench).env("RESEAL_CONCURRENCY", "0"), 2, &["RESEAL_CONCURRENCY"]);
    refused(command(&bench).env("RESEAL_CONCURRENCY", "501"), 3, &["501 environments", "budget of KMS requests"]);
    refused(command(&bench).env("RESEAL_JOB", bench.path("absent.toml")), 2, &["absent.toml"]);
    bench.job(&[("readers = \"accept-both\"\n", "")]);
    refused(&mut command(&bench), 3, &["readers = \"accept-both\""]);
    bench.job(&[("sort_key = \"sk\"\n", "")]);
    refused(&mut command(&bench), 3, &["the table's key is pk and sk"]);
    let back = format!(
        "format = \"plaintext\"\n\n[[source.keyrings]]\n{}",
        RAW.trim_matches(['{', '}', ' ']).replace(", ", "\n")
    );
    let target = format!("format = \"dbesdk\"\nkeyring = {RAW}\n");
    bench.job(&[("formats = [\"plaintext\"]", "formats = [\"dbesdk\"]"), (&target, &back)]);
    refused(&mut command(&bench), 3, &["unencrypted", "RESEAL_I_UNDERSTAND_THIS_REMOVES_ENCRYPTION=yes"]);
    assert_eq!(bench.sealed().await, 0);
}
