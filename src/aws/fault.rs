//! What went wrong in a call of a service, and the one table that says what it means.

use std::error::Error;
use std::fmt;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use serde_json::Value as Json;

/// Where a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before anything was sent: the request could not be built.
    Construction,
    /// No credentials to sign with.
    Credentials,
    /// No answer, or none that can be read; the request may have been carried out.
    Transport,
    /// The service answered with an error.
    Service,
}

/// A failed call, without its types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    place: Place,
    /// The service's name for the error; empty if it gave none.
    code: String,
    /// The HTTP status; 0 if there was none.
    status: u16,
    message: String,
    /// `reason resource` of each `ThrottlingReasons` entry.
    reasons: Vec<String>,
}

/// What an error means, whatever the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Not done, for lack of capacity or because of a quota.
    Throttled,
    /// Not done, because somebody else is at work on the same item.
    Conflict,
    /// No answer, or none that tells whether it was done.
    Unavailable,
    /// Not done: credentials are missing, wrong or expired.
    Credentials,
    /// Not done, for what the request holds: another request may succeed.
    Item,
    /// Not done: the caller may not.
    Denied,
    /// Not done, and nothing like it will be: no such table, the key is disabled, the endpoint is wrong.
    Fatal,
}

/// The error codes of the data operations of DynamoDB, its Streams and KMS, sorted by meaning. Sources: the API
/// references' lists of each operation, "Common errors", the developer guide's "Error handling with DynamoDB", and
/// `BatchStatementError` for the codes of single statements, which are spelled differently. A failed condition is an
/// answer, not an error.
const CODES: [(Meaning, &[&str]); 7] = [
    (
        Meaning::Throttled,
        &[
            "LimitExceededException",
            "ProvisionedThroughputExceeded",
            "ProvisionedThroughputExceededException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "SlowDown",
            "Throttling",
            "ThrottlingError",
            "ThrottlingException",
            "TooManyRequestsException",
        ],
    ),
    (
        Meaning::Conflict,
        &[
            "ReplicatedWriteConflictException",
            "TransactionConflict",
            "TransactionConflictException",
            "TransactionInProgressException",
        ],
    ),
    (
        Meaning::Unavailable,
        &[
            "DependencyTimeoutException",
            "InternalFailure",
            "InternalServerError",
            "KMSInternalException",
            "KeyUnavailableException",
            "RequestTimeout",
            "RequestTimeoutException",
            "ServiceUnavailable",
            "ServiceUnavailableException",
        ],
    ),
    (
        Meaning::Credentials,
        &[
            "ExpiredToken",
            "ExpiredTokenException",
            "IncompleteSignature",
            "IncompleteSignatureException",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "RequestExpired",
            "UnrecognizedClientException",
        ],
    ),
    (
        Meaning::Item,
        &[
            "DuplicateItem",
            "DuplicateItemException",
            "ExpiredIteratorException",
            "IncorrectKeyException",
            "InvalidCiphertextException",
            "ItemCollectionSizeLimitExceeded",
            "ItemCollectionSizeLimitExceededException",
            "SerializationException",
            "TrimmedDataAccessException",
            "ValidationError",
            "ValidationException",
        ],
    ),
    (Meaning::Denied, &["AccessDenied", "AccessDeniedException", "NotAuthorized", "OptInRequired"]),
    (
        Meaning::Fatal,
        &[
            "DisabledException",
            "DryRunOperationException",
            "InvalidArnException",
            "InvalidEndpointException",
            "InvalidGrantTokenException",
            "InvalidKeyUsageException",
            "KMSInvalidStateException",
            "NotFoundException",
            "ResourceInUseException",
            "ResourceNotFound",
            "ResourceNotFoundException",
            "UnknownOperationException",
            "UnsupportedOperationException",
        ],
    ),
];

impl Fault {
    /// What went wrong in a call.
    pub(crate) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let status = error.raw_response().map_or(0, |raw| raw.status().as_u16());
        if let SdkError::ServiceError(answer) = error {
            let message = answer.err().message().unwrap_or("the service gave no message").to_owned();
            let body = error.raw_response().and_then(|raw| raw.body().bytes()).unwrap_or_default();
            let code = answer.err().code().unwrap_or_default().to_owned();
            return Self { place: Place::Service, code, status, message, reasons: throttling_reasons(body) };
        }
        let place = match error {
            _ if because_of::<CredentialsError>(error) => Place::Credentials,
            SdkError::ConstructionFailure(_) => Place::Construction,
            SdkError::DispatchFailure(failure) if failure.is_user() => Place::Construction,
            _ => Place::Transport,
        };
        Self { place, code: String::new(), status, message: chain(error), reasons: Vec::new() }
    }

    /// What went wrong in one statement of a batch.
    pub(crate) fn of_statement(code: &str, message: Option<&str>) -> Self {
        Self {
            place: Place::Service,
            code: code.to_owned(),
            status: 0,
            message: message.unwrap_or("the service gave no message").to_owned(),
            reasons: Vec::new(),
        }
    }

    /// The service's name for the error; empty if it gave none.
    pub(crate) fn code(&self) -> &str {
        &self.code
    }

    /// The service's words.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The fault without the service's words, for when they repeat what must not be repeated.
    pub(crate) fn without_message(mut self) -> Self {
        "the service's message is withheld because it repeats a value of the item".clone_into(&mut self.message);
        self
    }

    /// `reason resource` of each reason that a throttling answer gave.
    pub(crate) fn throttling_reasons(&self) -> &[String] {
        &self.reasons
    }

    /// What it means.
    pub(crate) fn meaning(&self) -> Meaning {
        match self.place {
            Place::Construction => Meaning::Fatal,
            Place::Credentials => Meaning::Credentials,
            Place::Transport => Meaning::Unavailable,
            Place::Service => known(&self.code).unwrap_or(match self.status {
                429 => Meaning::Throttled,
                401 => Meaning::Credentials,
                403 => Meaning::Denied,
                // An answer that says neither success nor failure, or none from the service itself.
                200..=399 | 408 | 500.. => Meaning::Unavailable,
                _ => Meaning::Fatal,
            }),
        }
    }
}

fn known(code: &str) -> Option<Meaning> {
    CODES.iter().find(|(_, codes)| codes.contains(&code)).map(|(meaning, _)| *meaning)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code.as_str(), self.status) {
            ("", 0) => {}
            ("", status) => write!(f, "HTTP {status}: ")?,
            (code, 0) => write!(f, "{code}: ")?,
            (code, status) => write!(f, "{code} (HTTP {status}): ")?,
        }
        f.write_str(&self.message)?;
        if self.place == Place::Credentials {
            f.write_str(" (are there credentials, and have they expired? `aws sts get-caller-identity` shows)")?;
        }
        Ok(())
    }
}

/// `reason resource` of each entry. Read from the body, because not every operation's error type carries them.
fn throttling_reasons(body: &[u8]) -> Vec<String> {
    let Ok(Json::Object(body)) = serde_json::from_slice::<Json>(body) else {
        return Vec::new();
    };
    let entries = body.get("ThrottlingReasons").or_else(|| body.get("throttlingReasons")).and_then(Json::as_array);
    let text = |entry: &Json, name: &str| entry.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
    let line = |entry: &Json| format!("{} {}", text(entry, "reason"), text(entry, "resource")).trim().to_owned();
    entries.into_iter().flatten().map(line).collect()
}

/// Whether the error, or what it was caused by, is a `T`.
fn because_of<T: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(<dyn Error>::is::<T>)
}

/// The error and its causes in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::error::ConnectorError;
    use aws_sdk_dynamodb::error::ErrorMetadata;
    use aws_sdk_dynamodb::operation::update_item::UpdateItemError;

    fn of(code: &str, status: u16) -> Fault {
        Fault { status, ..Fault::of_statement(code, None) }
    }

    #[test]
    fn every_documented_code_of_dynamodb() {
        use Meaning::{Conflict, Credentials, Denied, Fatal, Item, Throttled, Unavailable};
        let cases = [
            // Operations (Scan, GetItem, UpdateItem, BatchExecuteStatement, DescribeTable).
            ("ProvisionedThroughputExceededException", Throttled),
            ("ThrottlingException", Throttled),
            ("RequestLimitExceeded", Throttled),
            ("LimitExceededException", Throttled),
            ("TransactionConflictException", Conflict),
            ("ReplicatedWriteConflictException", Conflict),
            ("InternalServerError", Unavailable),
            ("ServiceUnavailable", Unavailable),
            ("ItemCollectionSizeLimitExceededException", Item),
            ("ValidationException", Item),
            ("SerializationException", Item),
            ("AccessDeniedException", Denied),
            ("ResourceNotFoundException", Fatal),
            ("ResourceInUseException", Fatal),
            ("UnknownOperationException", Fatal),
            ("InvalidEndpointException", Fatal),
            ("ExpiredTokenException", Credentials),
            ("UnrecognizedClientException", Credentials),
            ("MissingAuthenticationTokenException", Credentials),
            ("IncompleteSignatureException", Credentials),
            ("InvalidSignatureException", Credentials),
            // Statements of a batch.
            ("ItemCollectionSizeLimitExceeded", Item),
            ("ValidationError", Item),
            ("DuplicateItem", Item),
            ("ProvisionedThroughputExceeded", Throttled),
            ("ThrottlingError", Throttled),
            ("TransactionConflict", Conflict),
            ("ResourceNotFound", Fatal),
            ("AccessDenied", Denied),
        ];
        for (code, expected) in cases {
            assert_eq!(of(code, 400).meaning(), expected, "{code}");
        }
    }

    #[test]
    fn every_documented_code_of_streams() {
        use Meaning::{Fatal, Item, Throttled, Unavailable};
        let cases = [
            ("ExpiredIteratorException", Item),
            ("TrimmedDataAccessException", Item),
            ("LimitExceededException", Throttled),
            ("ResourceNotFoundException", Fatal),
            ("InternalServerError", Unavailable),
        ];
        for (code, expected) in cases {
            assert_eq!(of(code, 400).meaning(), expected, "{code}");
        }
    }

    #[test]
    fn every_documented_code_of_kms() {
        use Meaning::{Credentials, Denied, Fatal, Item, Throttled, Unavailable};
        let cases = [
            ("InvalidCiphertextException", Item),
            ("IncorrectKeyException", Item),
            ("ValidationException", Item),
            ("DisabledException", Fatal),
            ("KMSInvalidStateException", Fatal),
            ("NotFoundException", Fatal),
            ("InvalidKeyUsageException", Fatal),
            ("InvalidGrantTokenException", Fatal),
            ("InvalidArnException", Fatal),
            ("DryRunOperationException", Fatal),
            ("UnsupportedOperationException", Fatal),
            ("AccessDeniedException", Denied),
            ("KeyUnavailableException", Unavailable),
            ("DependencyTimeoutException", Unavailable),
            ("KMSInternalException", Unavailable),
            ("ThrottlingException", Throttled),
            ("RequestLimitExceeded", Throttled),
            ("ExpiredTokenException", Credentials),
            ("UnrecognizedClientException", Credentials),
        ];
        for (code, expected) in cases {
            assert_eq!(of(code, 400).meaning(), expected, "{code}");
        }
    }

    #[test]
    fn unknown_codes_go_by_the_status() {
        use Meaning::{Credentials, Denied, Fatal, Throttled, Unavailable};
        for (status, expected) in [
            (0, Fatal),
            (200, Unavailable),
            (400, Fatal),
            (401, Credentials),
            (403, Denied),
            (404, Fatal),
            (408, Unavailable),
            (429, Throttled),
            (500, Unavailable),
            (503, Unavailable),
        ] {
            assert_eq!(of("SomethingNew", status).meaning(), expected, "{status}");
        }
    }

    #[test]
    fn a_code_has_one_meaning() {
        let mut codes: Vec<&str> = CODES.iter().flat_map(|(_, codes)| codes.iter().copied()).collect();
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count);
    }

    fn response(status: u16, body: &'static str) -> HttpResponse {
        HttpResponse::new(status.try_into().unwrap(), body.into())
    }

    #[test]
    fn the_ways_a_call_fails() {
        type E = UpdateItemError;
        let io = || ConnectorError::io("connection reset".into());
        let metadata = |code: &str| E::generic(ErrorMetadata::builder().code(code).message("slow").build());
        let no_credentials = CredentialsError::not_loaded("no providers in chain provided credentials");
        let cases: [(SdkError<E, HttpResponse>, Meaning); 7] = [
            (SdkError::construction_failure("bad endpoint"), Meaning::Fatal),
            (SdkError::timeout_error("20 s"), Meaning::Unavailable),
            (SdkError::dispatch_failure(io()), Meaning::Unavailable),
            (SdkError::dispatch_failure(ConnectorError::user("no such scheme".into())), Meaning::Fatal),
            (SdkError::dispatch_failure(ConnectorError::other(no_credentials.into(), None)), Meaning::Credentials),
            (SdkError::response_error("not JSON", response(200, "<html>")), Meaning::Unavailable),
            (SdkError::service_error(metadata("ValidationException"), response(400, "{}")), Meaning::Item),
        ];
        for (error, expected) in cases {
            assert_eq!(Fault::of(&error).meaning(), expected, "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_client_without_credentials_says_so() {
        use aws_credential_types::credential_fn::provide_credentials_fn;
        let expired = || async { Err(CredentialsError::provider_error("the session has expired")) };
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version_latest()
            .region(aws_sdk_dynamodb::config::Region::new("eu-central-1"))
            .credentials_provider(provide_credentials_fn(expired))
            .endpoint_url("http://127.0.0.1:1")
            .build();
        let client = aws_sdk_dynamodb::Client::from_conf(config);
        let error = client.get_item().table_name("t").send().await.unwrap_err();
        let fault = Fault::of(&error);
        assert_eq!(fault.meaning(), Meaning::Credentials, "{fault}");
        assert!(fault.to_string().contains("the session has expired"), "{fault}");
    }

    #[test]
    fn throttling_reasons_are_told() {
        let metadata =
            |code: &str| UpdateItemError::generic(ErrorMetadata::builder().code(code).message("slow").build());
        for (code, body) in [
            (
                "ThrottlingException",
                r#"{"throttlingReasons":[{"reason":"IndexWriteKeyRangeThroughputExceeded","resource":"arn:i"},{"reason":"X"}]}"#,
            ),
            (
                "ProvisionedThroughputExceededException",
                r#"{"ThrottlingReasons":[{"reason":"IndexWriteKeyRangeThroughputExceeded","resource":"arn:i"},{"reason":"X"}]}"#,
            ),
        ] {
            let fault = Fault::of(&SdkError::service_error(metadata(code), response(400, body)));
            assert_eq!(fault.meaning(), Meaning::Throttled);
            assert_eq!(fault.throttling_reasons(), ["IndexWriteKeyRangeThroughputExceeded arn:i", "X"]);
            assert_eq!(fault.to_string(), format!("{code} (HTTP 400): slow"));
        }
        for body in ["", "[]", r#"{"ThrottlingReasons":7}"#, r#"{"ThrottlingReasons":[7]}"#] {
            let fault = Fault::of(&SdkError::service_error(metadata("ThrottlingException"), response(400, body)));
            assert!(fault.throttling_reasons().iter().all(String::is_empty), "{body}");
        }
    }
}
