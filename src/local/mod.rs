//! Embedded stand-ins for DynamoDB, DynamoDB Streams and KMS, served on loopback for development, tests and the demo.
//!
//! They are reached as the services are: through an SDK or a command line, over HTTP, with the endpoint set. Neither
//! checks credentials, and the local KMS keeps key material in clear ([`kms`]): nothing here is for data that matters.

mod dynamo;
pub mod kms;
pub mod world;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use kms::{KeyFileError, LocalKms, is_region_name};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a shutdown waits for requests that are being answered.
const DRAIN: Duration = Duration::from_secs(5);

/// How to start the stand-ins.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory for tables and keys, made if absent; `None` keeps everything in memory.
    pub data: Option<PathBuf>,
    /// Port of DynamoDB and Streams; 0 takes a free one.
    pub dynamodb_port: u16,
    /// Port of KMS; 0 takes a free one.
    pub kms_port: u16,
    /// Region that KMS is at home in: that of [`StandIns::kms_endpoint`].
    pub region: String,
    /// More Regions of KMS, each served on a free port of its own ([`StandIns::kms_endpoint_in`]).
    pub more_kms_regions: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { data: None, dynamodb_port: 0, kms_port: 0, region: "us-east-1".to_owned(), more_kms_regions: Vec::new() }
    }
}

/// The stand-ins cannot start, or one of them failed.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The file system refused.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process serves this directory.
    #[error("{} is in use by another `reseal local`; stop it, or give another --data directory", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A Region's name goes into ARNs and into a line for the shell.
    #[error("{region:?} is no Region name: lower case letters, digits and dashes, such as us-east-1")]
    Region {
        /// The name that was given.
        region: String,
    },
    /// The port cannot be had.
    #[error("cannot listen on 127.0.0.1:{port}: {source}; give another port, or 0 for a free one")]
    Port {
        /// The port that was asked for.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The keys of the local KMS cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The embedded DynamoDB does not start or stopped.
    #[error("the embedded DynamoDB failed: {problem}")]
    Database {
        /// What it said.
        problem: String,
    },
    /// The local KMS stopped.
    #[error("the local KMS failed: {problem}")]
    Kms {
        /// What it said.
        problem: String,
    },
    /// The system gives no signals.
    #[error("cannot wait for SIGINT and SIGTERM: {0}")]
    Signals(io::Error),
    /// The endpoints could not be printed.
    #[error("cannot print the endpoints: {0}")]
    Print(io::Error),
}

/// Running stand-ins. Dropping them stops them without waiting for requests that are being answered.
#[derive(Debug)]
pub struct StandIns {
    dynamodb: Server,
    kms: LocalKms,
    /// By Region.
    kms_servers: BTreeMap<String, Server>,
    /// Held as long as the directory is served.
    _lock: Option<File>,
}

impl StandIns {
    /// The endpoint of DynamoDB and of DynamoDB Streams.
    #[must_use]
    pub fn dynamodb_endpoint(&self) -> String {
        format!("http://{}", self.dynamodb.address)
    }

    /// The endpoint of KMS in its home Region.
    #[must_use]
    pub fn kms_endpoint(&self) -> String {
        self.kms_endpoint_in(self.region()).expect("the home Region is always served")
    }

    /// The endpoint of KMS in a Region; `None` for one that is not served.
    #[must_use]
    pub fn kms_endpoint_in(&self, region: &str) -> Option<String> {
        self.kms_servers.get(region).map(|server| format!("http://{}", server.address))
    }

    /// The Regions that KMS is served in, in order.
    pub fn kms_regions(&self) -> impl Iterator<Item = &str> {
        self.kms_servers.keys().map(String::as_str)
    }

    /// The local KMS itself, in its home Region: to make keys and to set rules without a client.
    #[must_use]
    pub const fn kms(&self) -> &LocalKms {
        &self.kms
    }

    /// The home Region of KMS.
    #[must_use]
    pub fn region(&self) -> &str {
        self.kms.region()
    }

    /// Stops listening, lets requests that are being answered finish for up to five seconds, and releases the ports.
    ///
    /// # Errors
    /// [`LocalError::Database`] or [`LocalError::Kms`] when one of them had failed before.
    pub async fn shutdown(self) -> Result<(), LocalError> {
        let kms = join_all(self.kms_servers.into_values().map(Server::stop));
        let (dynamodb, kms) = tokio::join!(self.dynamodb.stop(), kms);
        dynamodb.map_err(|problem| LocalError::Database { problem })?;
        kms.into_iter().collect::<Result<_, _>>().map_err(|problem| LocalError::Kms { problem })
    }
}

/// Starts both stand-ins on loopback, as tasks of the current tokio runtime; panics outside of one.
///
/// # Errors
/// [`LocalError`] when the directory or a port cannot be had, or what the directory holds cannot be used.
pub fn start(options: Options) -> Result<StandIns, LocalError> {
    let regions = || std::iter::once(&options.region).chain(&options.more_kms_regions);
    if let Some(region) = regions().find(|region| !is_region_name(region)) {
        return Err(LocalError::Region { region: region.clone() });
    }
    let lock = options.data.as_deref().map(claim).transpose()?;
    let file = |name| options.data.as_deref().map(|directory| directory.join(name));
    let kms = LocalKms::open(&options.region, file("kms.json").as_deref())?;
    let database = dynamo::open(file("dynamodb.sqlite").as_deref())?;
    let (listener, address) = listen(options.dynamodb_port)?;
    let dynamodb = Server::spawn(address, |stopped| {
        dynoxide::server::serve_with_shutdown(listener, database, stopped_by(stopped))
    });
    let mut kms_servers = BTreeMap::new();
    for region in regions() {
        if !kms_servers.contains_key(region) {
            let port = if *region == options.region { options.kms_port } else { 0 };
            kms_servers.insert(region.clone(), serve_kms(kms.in_region(region), port)?);
        }
    }
    Ok(StandIns { dynamodb, kms, kms_servers, _lock: lock })
}

fn serve_kms(kms: LocalKms, port: u16) -> Result<Server, LocalError> {
    let (listener, address) = listen(port)?;
    let service = axum::serve(listener, kms.router());
    Ok(Server::spawn(address, |stopped| async {
        service.with_graceful_shutdown(stopped_by(stopped)).await.map_err(|error| error.to_string())
    }))
}

/// Makes the directory, for this user only, and takes its lock.
fn claim(directory: &Path) -> Result<File, LocalError> {
    let failed = |source| LocalError::Io { path: directory.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    let lock = File::create(directory.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(LocalError::Locked { path: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Listens on loopback and nowhere else.
fn listen(port: u16) -> Result<(TcpListener, SocketAddr), LocalError> {
    let bind = || {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        // Accepted connections inherit it; small answers would wait for acknowledgements otherwise.
        socket.set_nodelay(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let listener = socket.listen(1024)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bind().map_err(|source| LocalError::Port { port, source })
}

/// A server in a task of its own; it stops when `stop` is dropped.
#[derive(Debug)]
struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), String>>,
}

impl Server {
    fn spawn<F>(address: SocketAddr, serve: impl FnOnce(oneshot::Receiver<()>) -> F) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        Self { address, stop, task: tokio::spawn(serve(stopped)) }
    }

    async fn stop(self) -> Result<(), String> {
        drop(self.stop);
        let mut task = self.task;
        match tokio::time::timeout(DRAIN, &mut task).await {
            Ok(ended) => ended.unwrap_or_else(|panicked| Err(panicked.to_string())),
            // A client that never ends its request must not hold the process.
            Err(_elapsed) => {
                task.abort();
                Ok(())
            }
        }
    }
}

async fn stopped_by(stop: oneshot::Receiver<()>) {
    // Nothing is ever sent: the sender is dropped.
    drop(stop.await);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(data: &Path) -> Options {
        Options { data: Some(data.to_owned()), ..Options::default() }
    }

    #[tokio::test]
    async fn a_directory_is_served_once_and_keeps_its_region() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("new");
        let first = start(options(&data)).unwrap();
        let arn = first.kms().create_key("").unwrap();
        assert!(matches!(start(options(&data)), Err(LocalError::Locked { .. })));
        first.shutdown().await.unwrap();

        let elsewhere = Options { region: "eu-west-1".to_owned(), ..options(&data) };
        assert!(matches!(start(elsewhere), Err(LocalError::Keys(KeyFileError::OtherRegion { .. }))));
        let again = start(options(&data)).unwrap();
        again.kms().call("DescribeKey", &serde_json::json!({ "KeyId": arn })).unwrap();
        again.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn only_this_user_can_read_the_directory() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("new");
        let stand_ins = start(options(&data)).unwrap();
        stand_ins.kms().create_key("").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data), 0o700);
        assert_eq!(mode(&data.join("kms.json")), 0o600);
        assert_eq!(mode(&data.join("dynamodb.sqlite")), 0o600);
        stand_ins.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let first = start(Options::default()).unwrap();
        let port = first.kms_servers["us-east-1"].address.port();
        let error = start(Options { kms_port: port, ..Options::default() }).unwrap_err().to_string();
        assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
    }

    #[tokio::test]
    async fn a_region_is_a_plain_name() {
        for region in ["", "us-east-1; true", "US-EAST-1", "a:b"] {
            let options = Options { region: region.to_owned(), ..Options::default() };
            assert!(matches!(start(options), Err(LocalError::Region { .. })), "{region}");
        }
    }
}
