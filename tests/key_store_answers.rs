//! What a key store makes of answers that the embedded services never give: throttling, denials, lost answers, and answers
//! to something that was not asked.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use reseal::aws::AwsConfig;
use reseal::crypto::EncryptionContext;
use reseal::keyring::{
    BranchKeyId, DiscoveryFilter, Hierarchy, KeepBranchKeys, KeyArn, KeyStore, KeyStoreAdmin, KeyStoreError,
    KeyStoreReaders, Keyring as _, KeyringClass,
};
use serde_json::{Value as Json, json};
use time::OffsetDateTime;

const ARN: &str = "arn:aws:kms:us-east-1:111122223333:key/a";
const OTHER: &str = "arn:aws:kms:us-east-1:111122223333:key/b";

/// Answers by operation: status and body. What was asked for, in its order.
#[derive(Clone, Default)]
struct Script {
    answers: Vec<(&'static str, u16, String)>,
    asked: Arc<Mutex<Vec<(String, Json)>>>,
}

async fn answer(State(script): State<Script>, headers: HeaderMap, request: Bytes) -> impl IntoResponse {
    let target = headers.get("x-amz-target").unwrap().to_str().unwrap();
    let operation = target.rsplit('.').next().unwrap().to_owned();
    // The last answer counts: what a case changes is added to what all share.
    let (_, status, body) = script.answers.iter().rfind(|(name, ..)| *name == operation).unwrap().clone();
    script.asked.lock().unwrap().push((operation, serde_json::from_slice(&request).unwrap()));
    (StatusCode::from_u16(status).unwrap(), [("content-type", "application/x-amz-json-1.0")], body)
}

/// A service that gives these answers, whatever it is asked, and otherwise has one branch key.
struct World {
    config: AwsConfig,
    script: Script,
}

impl World {
    async fn new(changes: &[(&'static str, u16, Json)]) -> Self {
        let blob = "Y2lwaGVydGV4dA==";
        let key = "a2V5LWtleS1rZXkta2V5LWtleS1rZXkta2V5LWtleS0=";
        let common = [
            ("GetItem", 200, json!({ "Item": active("orders") })),
            ("Query", 200, json!({ "Items": [active("orders")] })),
            ("Decrypt", 200, json!({ "KeyId": ARN, "Plaintext": key })),
            ("GenerateDataKeyWithoutPlaintext", 200, json!({ "KeyId": ARN, "CiphertextBlob": blob })),
            ("ReEncrypt", 200, json!({ "KeyId": ARN, "SourceKeyId": ARN, "CiphertextBlob": blob })),
            ("TransactWriteItems", 200, json!({})),
        ];
        let answers = common.into_iter().chain(changes.iter().cloned());
        let answers = answers.map(|(operation, status, body)| (operation, status, body.to_string())).collect();
        let script = Script { answers, ..Script::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = AwsConfig::stand_in(&format!("http://{}", listener.local_addr().unwrap()), "us-east-1").unwrap();
        let router = Router::new().fallback(answer).with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { config, script }
    }

    fn store(&self, readers: KeyStoreReaders) -> KeyStore {
        KeyStore::new(&self.config, &self.config, "t", "t", readers)
    }

    fn strict(&self) -> KeyStore {
        self.store(KeyStoreReaders::Strict(KeyArn::parse(ARN).unwrap()))
    }

    fn wrote(&self) -> bool {
        self.written().is_some()
    }

    /// The parts of the transaction, if there was one.
    fn written(&self) -> Option<Json> {
        let asked = self.script.asked.lock().unwrap();
        let found = asked.iter().find(|(operation, _)| operation == "TransactWriteItems");
        found.map(|(_, request)| request["TransactItems"].clone())
    }
}

fn active(id: &str) -> Json {
    json!({
        "branch-key-id": { "S": id },
        "type": { "S": "branch:ACTIVE" },
        "version": { "S": "branch:version:11111111-1111-4111-8111-111111111111" },
        "enc": { "B": "Y2lwaGVydGV4dA==" },
        "kms-arn": { "S": ARN },
        "create-time": { "S": "2026" },
        "hierarchy-version": { "N": "1" },
    })
}

fn error(code: &str) -> Json {
    json!({ "__type": code, "message": "said the service" })
}

fn cancelled(code: &str) -> Json {
    json!({
        "__type": "TransactionCanceledException",
        "message": "Transaction cancelled",
        "CancellationReasons": [{ "Code": "None" }, { "Code": code, "Message": "said the service" }],
    })
}

#[tokio::test]
async fn branch_keys_that_are_not_to_be_had() {
    let plaintext = |key_id: &str, text: &str| json!({ "KeyId": key_id, "Plaintext": text });
    let cases: [(&'static str, u16, Json, KeyringClass, &str); 11] = [
        (
            "GetItem",
            400,
            error("AccessDeniedException"),
            KeyringClass::Denied,
            "allow dynamodb:GetItem on the key store",
        ),
        ("GetItem", 400, error("ProvisionedThroughputExceededException"), KeyringClass::Throttled, "GetItem"),
        ("GetItem", 500, error("InternalServerError"), KeyringClass::Transient, "GetItem"),
        ("GetItem", 400, error("ExpiredTokenException"), KeyringClass::Credentials, "GetItem"),
        ("GetItem", 400, error("ValidationException"), KeyringClass::Key, "check that the table is a key store"),
        ("GetItem", 400, error("ResourceNotFoundException"), KeyringClass::Key, "table t does not exist"),
        ("GetItem", 200, json!({ "Item": active("other") }), KeyringClass::Key, "was answered with another row"),
        ("Decrypt", 400, error("ThrottlingException"), KeyringClass::Throttled, "Decrypt"),
        ("Decrypt", 500, error("KMSInternalException"), KeyringClass::Transient, "Decrypt"),
        ("Decrypt", 200, plaintext(OTHER, "a2V5"), KeyringClass::Key, "the answer is of another key"),
        ("Decrypt", 200, plaintext(ARN, "a2V5"), KeyringClass::Key, "the answer has no branch key of 32 bytes"),
    ];
    for (operation, status, body, class, words) in cases {
        let world = World::new(&[(operation, status, body)]).await;
        let keep = KeepBranchKeys { time_to_live: Duration::from_mins(10), most: 10 };
        let keyring = Hierarchy::new(world.strict(), BranchKeyId::Fixed("orders".to_owned()), keep);
        let refused = keyring.generate(&EncryptionContext::default()).await.unwrap_err();
        assert_eq!(refused.class, class, "{refused}");
        assert!(refused.problem.contains(words), "{refused}");
    }
}

#[tokio::test]
async fn transactions_that_are_not_done() {
    let service = |error: &KeyStoreError| match error {
        KeyStoreError::Service { class, .. } => Some(*class),
        KeyStoreError::Changed { .. } => None,
        other => panic!("{other}"),
    };
    let cases = [
        (400, cancelled("ConditionalCheckFailed"), None),
        (400, cancelled("TransactionConflict"), None),
        (400, cancelled("ThrottlingError"), Some(KeyringClass::Throttled)),
        (400, cancelled("ProvisionedThroughputExceeded"), Some(KeyringClass::Throttled)),
        (400, error("AccessDeniedException"), Some(KeyringClass::Denied)),
        (500, error("InternalServerError"), Some(KeyringClass::Transient)),
    ];
    for (status, body, expected) in cases {
        let world = World::new(&[("TransactWriteItems", status, body)]).await;
        let refused =
            KeyStoreAdmin::new(world.strict()).rotate("orders", OffsetDateTime::UNIX_EPOCH).await.unwrap_err();
        assert_eq!(service(&refused), expected, "{refused}");
        assert!(world.wrote());
    }
}

/// What is written takes the place of what was read, or of nothing.
#[tokio::test]
async fn each_write_is_conditional() {
    let old = |put: &Json| {
        let values = &put["ExpressionAttributeValues"];
        put["ConditionExpression"] == "#enc = :enc AND #arn = :arn"
            && put["ExpressionAttributeNames"] == json!({ "#enc": "enc", "#arn": "kms-arn" })
            && *values == json!({ ":enc": active("orders")["enc"], ":arn": { "S": ARN } })
    };
    let absent = |part: &Json| {
        part["ConditionExpression"] == "attribute_not_exists(#id)"
            && part["ExpressionAttributeNames"] == json!({ "#id": "branch-key-id" })
    };
    let key = KeyArn::parse(ARN).unwrap();
    let now = OffsetDateTime::UNIX_EPOCH;

    let world = World::new(&[]).await;
    KeyStoreAdmin::new(world.strict()).new_branch_key("orders", &key, &[].into(), now).await.unwrap();
    let parts = world.written().unwrap();
    let parts = parts.as_array().unwrap();
    assert!(parts.len() == 3 && parts.iter().all(|part| absent(&part["Put"])), "{parts:?}");

    let world = World::new(&[]).await;
    KeyStoreAdmin::new(world.strict()).rotate("orders", now).await.unwrap();
    let parts = world.written().unwrap();
    assert!(parts.as_array().unwrap().len() == 2 && absent(&parts[0]["Put"]) && old(&parts[1]["Put"]), "{parts}");

    let blob = json!({ "KeyId": OTHER, "SourceKeyId": ARN, "CiphertextBlob": "eA==" });
    let key = json!({ "KeyId": OTHER, "Plaintext": "a2V5LWtleS1rZXkta2V5LWtleS1rZXkta2V5LWtleS0=" });
    let world = World::new(&[("ReEncrypt", 200, blob), ("Decrypt", 200, key)]).await;
    let store =
        world.store(KeyStoreReaders::Discovery(DiscoveryFilter { partition: "aws".to_owned(), accounts: None }));
    KeyStoreAdmin::new(store).rewrap("orders", &KeyArn::parse(OTHER).unwrap()).await.unwrap();
    let parts = world.written().unwrap();
    let checks = [&parts[1]["ConditionCheck"], &parts[2]["ConditionCheck"]];
    assert!(parts.as_array().unwrap().len() == 3 && old(&parts[0]["Put"]) && checks.into_iter().all(absent), "{parts}");
    let kinds = checks.map(|check| check["Key"]["type"]["S"].as_str().unwrap());
    assert_eq!(kinds, ["branch:MUTATION_LOCK", "branch:MUTATION_COMMITMENT"]);
}

#[tokio::test]
async fn what_kms_was_not_asked_for_is_not_written() {
    let anybody = KeyStoreReaders::Discovery(DiscoveryFilter { partition: "aws".to_owned(), accounts: None });
    let moved = |source: &str, key: &str, blob: &str| {
        ("ReEncrypt", 200, json!({ "SourceKeyId": source, "KeyId": key, "CiphertextBlob": blob }))
    };
    let unwrapped = |key: &str| ("Decrypt", 200, json!({ "KeyId": key, "Plaintext": "a2V5" }));
    for (change, words) in [
        (moved(ARN, ARN, "eA=="), "ReEncrypt: the answer is not what was asked for"),
        (moved(OTHER, OTHER, "eA=="), "ReEncrypt: the answer is not what was asked for"),
        (moved(ARN, OTHER, ""), "ReEncrypt: the answer is not what was asked for"),
        (unwrapped(ARN), "Decrypt: the answer is of another key"),
        (unwrapped(OTHER), "Decrypt: the answer has no branch key of 32 bytes"),
        (("Decrypt", 400, error("InvalidCiphertextException")), "KMS refuses the row branch:ACTIVE"),
    ] {
        let world = World::new(&[moved(ARN, OTHER, "eA=="), change]).await;
        let to = KeyArn::parse(OTHER).unwrap();
        let refused = KeyStoreAdmin::new(world.store(anybody.clone())).rewrap("orders", &to).await.unwrap_err();
        assert!(refused.to_string().contains(words), "{refused}");
        assert!(!world.wrote(), "{words}");
    }
    let generated = json!({ "KeyId": OTHER, "CiphertextBlob": "eA==" });
    let world = World::new(&[("GenerateDataKeyWithoutPlaintext", 200, generated)]).await;
    let admin = KeyStoreAdmin::new(world.strict());
    let refused = admin.rotate("orders", OffsetDateTime::UNIX_EPOCH).await.unwrap_err();
    assert!(refused.to_string().contains("the answer is not what was asked for"), "{refused}");
    assert!(!world.wrote());
}
