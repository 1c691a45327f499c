//! The store behind a lock, a file and a port.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::routing::{get, post};
use rand::RngExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::exception::{Exception, KmsError};
use super::file::{self, KeyFileError};
use super::operation::Operation;
use super::rules::Denial;
use super::store::Store;

/// One Region of a running or not yet serving local KMS. Clones share its keys and rules.
#[derive(Debug, Clone)]
pub struct LocalKms {
    region: String,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug)]
struct Kept {
    store: Store,
    /// Where keys of the home Region and of all others are kept; `None` keeps them in memory.
    file: Option<PathBuf>,
    home: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Rate {
    requests_per_second: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Delay {
    milliseconds: u64,
}

impl LocalKms {
    /// A KMS at home in a Region, whose keys live in memory, or in a file that is made when the first key is.
    ///
    /// # Errors
    /// [`KeyFileError`] when the file is there and cannot be read, or holds keys of another Region.
    pub fn open(region: &str, file: Option<&Path>) -> Result<Self, KeyFileError> {
        let store = match file {
            Some(path) => file::load(path, region)?,
            None => Store::new(),
        };
        let kept = Kept { store, file: file.map(Path::to_owned), home: region.to_owned() };
        Ok(Self { region: region.to_owned(), kept: Arc::new(Mutex::new(kept)) })
    }

    /// Another Region of the same KMS: it has its own keys, aliases and rules, and replicas of multi-Region keys.
    #[must_use]
    pub fn in_region(&self, region: &str) -> Self {
        Self { region: region.to_owned(), kept: Arc::clone(&self.kept) }
    }

    /// The Region whose requests this answers.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Answers one request: operation and parameters as on the wire. A change of keys is on disk when this returns; it
    /// blocks for that long, which is rare enough for a stand-in.
    ///
    /// # Errors
    /// [`KmsError`] with KMS's exception name; `KMSInternalException` when the key file cannot be written, and then
    /// nothing has changed.
    pub fn call(&self, operation: &str, request: &Value) -> Result<Value, KmsError> {
        let answer = |store: &mut Store| store.call(&self.region, operation, request, now(), &mut rand::rng());
        if Operation::named(operation).is_some_and(Operation::changes_what_is_kept) {
            return self.change(answer);
        }
        answer(&mut self.lock().store)
    }

    /// Changes keys in memory and in the file, or in neither.
    fn change<T>(&self, change: impl FnOnce(&mut Store) -> Result<T, KmsError>) -> Result<T, KmsError> {
        let mut kept = self.lock();
        let Some(path) = &kept.file else { return change(&mut kept.store) };
        let mut changed = kept.store.clone();
        let answer = change(&mut changed);
        if answer.is_ok() {
            file::save(path, &kept.home, &changed)
                .map_err(|error| Exception::KmsInternal.because(error.to_string()))?;
        }
        kept.store = changed;
        answer
    }

    /// Makes a symmetric key and returns its ARN.
    ///
    /// # Errors
    /// As [`LocalKms::call`].
    pub fn create_key(&self, description: &str) -> Result<String, KmsError> {
        let answer = self.call("CreateKey", &json!({ "Description": description }))?;
        Ok(answer["KeyMetadata"]["Arn"].as_str().unwrap_or_default().to_owned())
    }

    /// Makes an RSA key of a pair that is known beforehand, given as PEM (`PRIVATE KEY`), and returns its ARN.
    ///
    /// # Errors
    /// As [`Store::import_rsa`].
    pub fn import_rsa(&self, pem: &str) -> Result<String, KmsError> {
        self.change(|store| store.import_rsa(&self.region, pem, now(), &mut rand::rng()))
    }

    /// Denies requests from now on.
    ///
    /// # Errors
    /// As [`Store::deny`].
    pub fn deny(&self, denial: Denial) -> Result<(), KmsError> {
        self.lock().store.deny(&self.region, denial)
    }

    /// Lifts all denials.
    pub fn allow_all(&self) {
        self.lock().store.rules(&self.region).allow_all();
    }

    /// Throttles cryptographic requests above a rate per second, with one second's worth (at least one request) at
    /// once; `None` lifts the limit.
    pub fn limit(&self, requests_per_second: Option<f64>) {
        self.lock().store.rules(&self.region).limit(requests_per_second, now());
    }

    /// Holds back each answer over HTTP for a while; zero lifts it.
    pub fn delay(&self, delay: Duration) {
        self.lock().store.rules(&self.region).hold_back(delay);
    }

    /// Requests received, by operation, refused ones too.
    #[must_use]
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.lock().store.rules(&self.region).requests().clone()
    }

    /// Counts requests from nought again.
    pub fn forget_requests(&self) {
        self.lock().store.rules(&self.region).forget_requests();
    }

    /// The HTTP service.
    pub(in crate::local) fn router(&self) -> Router {
        Router::new()
            .route("/", post(answer))
            .route("/_reseal/deny", post(deny).delete(allow_all))
            .route("/_reseal/rate", post(limit))
            .route("/_reseal/delay", post(delay))
            .route("/_reseal/requests", get(requests).delete(forget_requests))
            .with_state(self.clone())
    }

    /// A panic elsewhere leaves nothing half done in the store: it changes in single assignments.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

async fn answer(State(kms): State<LocalKms>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let Some(operation) = target.and_then(|target| target.strip_prefix("TrentService.")) else {
        return respond(Err(Exception::UnknownOperation.because("The header X-Amz-Target names no KMS operation.")));
    };
    let answer = respond(json_of(&body).and_then(|request: Value| kms.call(operation, &request)));
    let delay = kms.lock().store.rules(&kms.region).delay();
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    answer
}

async fn deny(State(kms): State<LocalKms>, body: Bytes) -> Response<Body> {
    respond(json_of(&body).and_then(|denial| kms.deny(denial)).map(|()| json!({})))
}

async fn allow_all(State(kms): State<LocalKms>) -> Response<Body> {
    kms.allow_all();
    respond(Ok(json!({})))
}

async fn limit(State(kms): State<LocalKms>, body: Bytes) -> Response<Body> {
    let set = |rate: Rate| kms.limit(rate.requests_per_second);
    respond(json_of(&body).map(set).map(|()| json!({})))
}

async fn delay(State(kms): State<LocalKms>, body: Bytes) -> Response<Body> {
    let set = |delay: Delay| kms.delay(Duration::from_millis(delay.milliseconds));
    respond(json_of(&body).map(set).map(|()| json!({})))
}

async fn requests(State(kms): State<LocalKms>) -> Response<Body> {
    respond(Ok(json!(kms.requests())))
}

async fn forget_requests(State(kms): State<LocalKms>) -> Response<Body> {
    kms.forget_requests();
    respond(Ok(json!({})))
}

/// The parser's message is not repeated: it may quote the body, which may hold a plaintext.
fn json_of<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, KmsError> {
    serde_json::from_slice(body)
        .map_err(|_| Exception::Serialization.because("The body is not the JSON that the request takes."))
}

fn respond(result: Result<Value, KmsError>) -> Response<Body> {
    let (status, body) = match result {
        Ok(answer) => (StatusCode::OK, answer),
        Err(error) => {
            let status = StatusCode::from_u16(error.exception.status()).unwrap_or(StatusCode::BAD_REQUEST);
            (status, json!({ "__type": error.exception.name(), "message": error.message }))
        }
    };
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/x-amz-json-1.1"));
    if let Ok(id) = format!("{:032x}", rand::rng().random::<u128>()).parse() {
        headers.insert("x-amzn-requestid", id);
    }
    response
}
