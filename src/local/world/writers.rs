//! Applications at work: they put whole plaintext items, change an unsigned attribute, delete, and create again.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Bulk, Oracle, TABLE, WorldError, customer, key_of};
use crate::item::{Key, Number, Value};
use crate::store::{item_to, key_to};

/// What the writers did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Whole items, in plaintext.
    pub puts: u64,
    /// Changes of an unsigned attribute.
    pub changes: u64,
    /// Deletions.
    pub deletes: u64,
}

/// Writers at work until they are stopped. Each has customers of its own, so that the oracle knows the order of the
/// writes of every item.
#[derive(Debug)]
pub struct Writers {
    stop: CancellationToken,
    tasks: JoinSet<Result<Written, WorldError>>,
}

/// One writer.
struct Writer {
    client: Client,
    oracle: Arc<Oracle>,
    seed: u64,
    rng: StdRng,
    written: Written,
}

impl Writers {
    /// Starts so many writers over so many customers; each writes once per `pace`.
    #[must_use]
    pub fn start(
        client: &Client,
        oracle: &Arc<Oracle>,
        seed: u64,
        customers: u64,
        writers: u64,
        pace: Duration,
    ) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for index in 0..writers {
            let mut writer = Writer {
                client: client.clone(),
                oracle: Arc::clone(oracle),
                seed,
                rng: StdRng::seed_from_u64(seed.wrapping_add(index)),
                written: Written::default(),
            };
            let stop = stop.clone();
            tasks.spawn(async move {
                let mut ticks = interval(pace);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
                let mut version = 0;
                while stop.run_until_cancelled(ticks.tick()).await.is_some() {
                    version += 1;
                    let number = writer.rng.random_range(0..customers.div_ceil(writers)) * writers + index;
                    if number < customers && Bulk::of(number) == Bulk::Usual {
                        writer.write(number, version).await?;
                    }
                }
                Ok(writer.written)
            });
        }
        Self { stop, tasks }
    }

    /// Lets every writer finish its present write, and stops.
    ///
    /// # Errors
    /// [`WorldError`] when one of them had failed.
    pub async fn stop(mut self) -> Result<Written, WorldError> {
        self.stop.cancel();
        let mut sum = Written::default();
        while let Some(writer) = self.tasks.join_next().await {
            let written = writer.map_err(WorldError::build)??;
            sum.puts += written.puts;
            sum.changes += written.changes;
            sum.deletes += written.deletes;
        }
        Ok(sum)
    }
}

impl Writer {
    async fn write(&mut self, number: u64, version: u64) -> Result<(), WorldError> {
        let item = customer(self.seed, number, version);
        let key = key_of(&item).map_err(WorldError::build)?;
        match (self.oracle.get(&key), self.rng.random_range(0..10)) {
            (Some(_), 0) => self.delete(key).await,
            (Some(_), 1..=4) => self.visit(key, version).await,
            _ => {
                let request = self.client.put_item().table_name(TABLE).set_item(Some(item_to(&item)));
                request.send().await.map_err(|error| WorldError::sdk("PutItem")(&error))?;
                self.oracle.put(key, item);
                self.written.puts += 1;
                Ok(())
            }
        }
    }

    async fn delete(&mut self, key: Key) -> Result<(), WorldError> {
        let request = self.client.delete_item().table_name(TABLE).set_key(Some(key_to(&key)));
        request.send().await.map_err(|error| WorldError::sdk("DeleteItem")(&error))?;
        self.oracle.delete(&key);
        self.written.deletes += 1;
        Ok(())
    }

    async fn visit(&mut self, key: Key, visits: u64) -> Result<(), WorldError> {
        let request = self
            .client
            .update_item()
            .table_name(TABLE)
            .set_key(Some(key_to(&key)))
            .update_expression("SET visits = :visits")
            .expression_attribute_values(":visits", AttributeValue::N(visits.to_string()));
        request.send().await.map_err(|error| WorldError::sdk("UpdateItem")(&error))?;
        let number = Number::parse(&visits.to_string()).map_err(WorldError::build)?;
        self.oracle.change(&key, |item| drop(item.insert("visits", Value::Number(number))));
        self.written.changes += 1;
        Ok(())
    }
}
