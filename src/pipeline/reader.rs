//! Strongly consistent reads under the read budget, retried where that can help.

use std::sync::atomic::Ordering;

use super::engine::{Engine, RunError};
use super::retry::Tries;
use super::throttle::{Taken, Throttle};
use crate::item::{Item, Key, read_units};
use crate::store::{Page, Scan, StoreClass, StoreError};

impl Engine {
    /// One page of a scan. `estimate` is what it is expected to consume, in read units.
    pub(super) async fn read_page(&self, scan: &Scan, estimate: f64) -> Result<Page, RunError> {
        let mut tries = Tries::default();
        loop {
            let taken = self.read.acquire(estimate).await;
            match self.ports.table.scan(scan).await {
                Ok(page) => {
                    self.read.settle(taken, page.units);
                    self.read.satisfied();
                    return Ok(page);
                }
                Err(error) => self.read_again(error, taken, &mut tries).await?,
            }
        }
    }

    /// One item, or nothing where there is none.
    pub(super) async fn read_one(&self, key: &Key) -> Result<Option<Item>, RunError> {
        // The size is unknown before the read: it will be about that of the one before, and is settled as what it was.
        let mut tries = Tries::default();
        loop {
            let taken = self.read.acquire(f64::from(self.item_units.load(Ordering::Relaxed))).await;
            match self.ports.table.get(key).await {
                Ok((item, units)) => {
                    let size = read_units(item.as_ref().map_or(0, Item::size));
                    self.item_units.store(size, Ordering::Relaxed);
                    self.read.settle(taken, units.or_else(|| Some(f64::from(size))));
                    self.read.satisfied();
                    return Ok(item);
                }
                Err(error) => self.read_again(error, taken, &mut tries).await?,
            }
        }
    }

    async fn read_again(&self, error: StoreError, taken: Taken, tries: &mut Tries) -> Result<(), RunError> {
        // A throttled read consumed nothing; of one without an answer nobody knows.
        let throttled = matches!(error.class, StoreClass::Throttled { .. });
        self.read.settle(taken, throttled.then_some(0.0));
        self.wait_out(error, &self.read, tries).await
    }

    /// Waits as an error of a read asks for before it is made again.
    ///
    /// # Errors
    /// The error, where that cannot help.
    pub(super) async fn wait_out(
        &self,
        error: StoreError,
        throttle: &Throttle,
        tries: &mut Tries,
    ) -> Result<(), RunError> {
        match &error.class {
            StoreClass::Throttled { reason } => self.slow_down(throttle, tries, reason),
            StoreClass::Conflict | StoreClass::Unknown if self.silent(tries).await => {}
            StoreClass::Credentials => self.hold(tries, &error.to_string()).await,
            _ => return Err(error.into()),
        }
        Ok(())
    }
}
