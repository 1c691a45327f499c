//! What is made of the answers of AWS Secrets Manager. `scripts/secrets.sh` asks a whole stand-in.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use reseal::aws::AwsConfig;
use reseal::keyring::{SecretError, SecretValue, read_secret};
use serde_json::{Value, json};

async fn answer(State((status, body)): State<(u16, &'static str)>, request: Bytes) -> impl IntoResponse {
    let asked: Value = serde_json::from_slice(&request).unwrap();
    assert_eq!(asked, json!({ "SecretId": "reseal/k1" }));
    (StatusCode::from_u16(status).unwrap(), [("content-type", "application/x-amz-json-1.1")], body)
}

/// What a service that answers this makes of reading a secret.
async fn read(status: u16, body: &'static str) -> Result<SecretValue, SecretError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = AwsConfig::stand_in(&format!("http://{}", listener.local_addr().unwrap()), "eu-west-1").unwrap();
    let router = Router::new().fallback(answer).with_state((status, body));
    tokio::spawn(async move { axum::serve(listener, router).await });
    read_secret(&config, "reseal/k1").await
}

#[tokio::test]
async fn bytes_and_text() {
    match read(200, r#"{"Name":"reseal/k1","SecretBinary":"AAEC"}"#).await.unwrap() {
        SecretValue::Binary(bytes) => assert_eq!(*bytes, [0, 1, 2]),
        text @ SecretValue::Text(_) => panic!("{text:?}"),
    }
    let value = read(200, r#"{"Name":"reseal/k1","SecretString":"top secret"}"#).await.unwrap();
    assert_eq!(format!("{value:?}"), "Text(..)");
    match value {
        SecretValue::Text(text) => assert_eq!(*text, "top secret"),
        binary @ SecretValue::Binary(_) => panic!("{binary:?}"),
    }
}

#[tokio::test]
async fn secrets_that_cannot_be_had() {
    for (status, body, expected) in [
        (200, r#"{"Name":"reseal/k1"}"#, "it is empty; put the key into it"),
        (
            400,
            r#"{"__type":"ResourceNotFoundException","Message":"m"}"#,
            "check name and Region: it was looked for in eu-west-1",
        ),
        (
            400,
            r#"{"__type":"AccessDeniedException","Message":"m"}"#,
            "allow secretsmanager:GetSecretValue on the secret, and kms:Decrypt on the key that it is encrypted with",
        ),
        (400, r#"{"__type":"DecryptionFailure","Message":"m"}"#, "allow kms:Decrypt on the key"),
        (400, r#"{"__type":"InvalidRequestException","Message":"m"}"#, "scheduled for deletion, restore it"),
        (
            500,
            r#"{"__type":"InternalServiceError","Message":"m"}"#,
            "GetSecretValue: InternalServiceError (HTTP 500): m",
        ),
    ] {
        let error = read(status, body).await.unwrap_err().to_string();
        assert!(error.starts_with("secret reseal/k1: ") && error.contains(expected), "{error}");
    }
}
