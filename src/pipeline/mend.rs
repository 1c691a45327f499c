//! What earlier tails left in the ledger because nothing was to be repaired then: the stream is asked again how it came
//! about, as long as it knows.

use std::sync::Arc;

use super::engine::{Drift, Engine, RunError};
use super::page::PageDone;
use super::records;
use super::retry::Tries;
use super::tail::CALLS_PER_SECOND;
use super::throttle::Throttle;
use crate::migration::{OnMixed, StreamPlace};
use crate::store::{Journal, Record, Shards, ShardsError, Start, StoreClass};

/// Answers without records before it is believed that there are none.
const EMPTY: u32 = 10;

/// Repairs the items of open entries whose record the stream still has, with that record and those that came with it:
/// what was written later is seen when the condition fails. An entry that cannot be repaired stays.
pub(super) async fn mend(engine: &Arc<Engine>, shards: &dyn Shards, journal: &dyn Journal) -> Result<(), RunError> {
    if engine.settings.on_mixed == OnMixed::Quarantine {
        return Ok(());
    }
    for failure in journal.open_failures().await? {
        let Some(place) = &failure.record else { continue };
        let drift = engine.drift();
        let mut records = read(engine, shards, place).await?;
        records.retain(|record| record.key == failure.key);
        // Another stream may have a shard of the same name.
        if records.first().is_some_and(|first| first.sequence == place.sequence) {
            mend_one(engine, journal, place, records, drift).await?;
        }
    }
    Ok(())
}

async fn mend_one(
    engine: &Arc<Engine>,
    journal: &dyn Journal,
    place: &StreamPlace,
    records: Vec<Record>,
    drift: Drift,
) -> Result<(), RunError> {
    let PageDone { tally, failures, done, seen, .. } =
        records::process(engine, &place.shard, records, drift).await?.page;
    let done = engine.record(&failures, done, seen);
    journal.record(&failures, &done).await?;
    engine.page_done(None, Some(&place.shard), tally);
    Ok(())
}

/// The batch that begins with a record; nothing where the stream does not have it any more.
async fn read(engine: &Engine, shards: &dyn Shards, place: &StreamPlace) -> Result<Vec<Record>, RunError> {
    let throttle = Throttle::per_second(Some(CALLS_PER_SECOND));
    let (mut iterator, mut tries, mut empty) = (None::<String>, Tries::default(), 0);
    while empty < EMPTY {
        throttle.settle(throttle.acquire(1.0).await, None);
        let asked = match &iterator {
            None => shards.iterator(&place.shard, &Start::At(place.sequence.clone())).await.map(|first| (first, None)),
            Some(token) => shards.records(token).await.map(|read| (read.next.unwrap_or_default(), Some(read.records))),
        };
        match asked {
            Ok((_, Some(records))) if !records.is_empty() => return Ok(records),
            Ok((next, _)) if next.is_empty() => break,
            Ok((next, records)) => {
                iterator = Some(next);
                empty += u32::from(records.is_some());
            }
            Err(ShardsError::Expired(_) | ShardsError::Trimmed(_) | ShardsError::Gone(_)) => break,
            // The stream knows nothing like that any more.
            Err(ShardsError::Store(error)) if matches!(error.class, StoreClass::Item | StoreClass::Fatal) => break,
            Err(ShardsError::Store(error)) => engine.wait_out(error, &throttle, &mut tries).await?,
        }
    }
    Ok(Vec::new())
}
