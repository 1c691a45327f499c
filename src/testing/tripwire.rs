//! Processes that die: every call to a wired port is a moment at which everything may end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::crypto::EncryptionContext;
use crate::item::{Item, Key};
use crate::keyring::{Keyring, KeyringCall, KeyringError, Secret, Wanted, WrappedKey, WrappedRef};
use crate::migration::{Failure, LineageRows, Rewrite};
use crate::store::{
    Checkpoint, Commit, Journal, JournalError, Listing, Page, Pass, Records, Scan, Shards, ShardsError, Start,
    StoreError, Table, Units, Update, Via,
};

/// Counts moments, two for each call: before it takes effect, and after that but before its answer. At one of them it
/// trips, and from then on nothing that is wired to it goes on.
#[derive(Debug)]
pub struct Tripwire {
    moments: AtomicU64,
    at: u64,
    tripped: CancellationToken,
}

impl Tripwire {
    /// Trips at this moment, from 0.
    #[must_use]
    pub fn at(moment: u64) -> Arc<Self> {
        Arc::new(Self { moments: AtomicU64::new(0), at: moment, tripped: CancellationToken::new() })
    }

    /// Moments so far.
    #[must_use]
    pub fn moments(&self) -> u64 {
        self.moments.load(Ordering::Relaxed)
    }

    /// Waits until it trips.
    pub async fn tripped(&self) {
        self.tripped.cancelled().await;
    }

    /// A port that ends when this trips.
    #[must_use]
    pub fn wire<P: ?Sized>(self: &Arc<Self>, port: Arc<P>) -> Arc<Wired<P>> {
        Arc::new(Wired { port, wire: Arc::clone(self) })
    }

    async fn moment(&self) {
        let moment = self.moments.fetch_add(1, Ordering::Relaxed);
        if moment >= self.at {
            self.tripped.cancel();
            std::future::pending::<()>().await;
        }
    }

    async fn around<T>(&self, call: impl Future<Output = T> + Send) -> T {
        self.moment().await;
        let answer = call.await;
        self.moment().await;
        answer
    }
}

/// A port that ends when its [`Tripwire`] trips.
#[derive(Debug)]
pub struct Wired<P: ?Sized> {
    wire: Arc<Tripwire>,
    port: Arc<P>,
}

#[async_trait]
impl<P: Table + ?Sized> Table for Wired<P> {
    async fn scan(&self, scan: &Scan) -> Result<Page, StoreError> {
        self.wire.around(self.port.scan(scan)).await
    }

    async fn get(&self, key: &Key) -> Result<(Option<Item>, Units), StoreError> {
        self.wire.around(self.port.get(key)).await
    }

    async fn update(&self, rewrites: &[Rewrite], via: Via) -> Update {
        self.wire.around(self.port.update(rewrites, via)).await
    }
}

#[async_trait]
impl<P: Journal + ?Sized> Journal for Wired<P> {
    async fn pass(&self) -> Result<Option<Pass>, JournalError> {
        self.wire.around(self.port.pass()).await
    }

    async fn begin_pass(&self, segments: u32) -> Result<Pass, JournalError> {
        self.wire.around(self.port.begin_pass(segments)).await
    }

    async fn commit(&self, commit: Commit) -> Result<(), JournalError> {
        self.wire.around(self.port.commit(commit)).await
    }

    async fn record(&self, failures: &[Failure], done: &[Key]) -> Result<(), JournalError> {
        self.wire.around(self.port.record(failures, done)).await
    }

    async fn lineage(&self) -> Result<Option<LineageRows>, JournalError> {
        self.wire.around(self.port.lineage()).await
    }

    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<(), JournalError> {
        self.wire.around(self.port.checkpoint(checkpoint)).await
    }

    async fn end_pass(&self) -> Result<(), JournalError> {
        self.wire.around(self.port.end_pass()).await
    }

    async fn open_failures(&self) -> Result<Vec<Failure>, JournalError> {
        self.wire.around(self.port.open_failures()).await
    }
}

#[async_trait]
impl<P: Shards + ?Sized> Shards for Wired<P> {
    fn arn(&self) -> &str {
        self.port.arn()
    }

    async fn list(&self, after: Option<&str>) -> Result<Listing, ShardsError> {
        self.wire.around(self.port.list(after)).await
    }

    async fn children(&self, parent: &str) -> Result<Option<Listing>, ShardsError> {
        self.wire.around(self.port.children(parent)).await
    }

    async fn iterator(&self, shard: &str, start: &Start) -> Result<String, ShardsError> {
        self.wire.around(self.port.iterator(shard, start)).await
    }

    async fn records(&self, iterator: &str) -> Result<Records, ShardsError> {
        self.wire.around(self.port.records(iterator)).await
    }
}

#[async_trait]
impl<P: Keyring + ?Sized> Keyring for Wired<P> {
    fn recipients(&self) -> &[Wanted] {
        self.port.recipients()
    }

    fn accepts(&self, found: WrappedRef<'_>) -> bool {
        self.port.accepts(found)
    }

    fn requests(&self, call: KeyringCall) -> u32 {
        self.port.requests(call)
    }

    fn looks_deeper(&self) -> bool {
        self.port.looks_deeper()
    }

    async fn is_current(&self, found: &[WrappedRef<'_>], context: &EncryptionContext) -> Result<bool, KeyringError> {
        self.wire.around(self.port.is_current(found, context)).await
    }

    async fn generate(&self, context: &EncryptionContext) -> Result<Vec<WrappedKey>, KeyringError> {
        self.wire.around(self.port.generate(context)).await
    }

    async fn unwrap(&self, found: WrappedRef<'_>, context: &EncryptionContext) -> Result<Secret, KeyringError> {
        self.wire.around(self.port.unwrap(found, context)).await
    }
}
