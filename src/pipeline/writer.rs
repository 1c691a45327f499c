//! The batch writer: conditional rewrites under the write budget, every answer accounted for (rules W, P, R).

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use futures::stream::{FuturesUnordered, StreamExt as _};

use super::engine::{Drift, Engine, RunError};
use super::event::Event;
use super::retry::Tries;
use crate::item::{Item, write_units};
use crate::migration::{Expected, Rewrite};
use crate::store::{Answer, StoreClass, StoreError, Via};

/// Statements in one `BatchExecuteStatement` (API reference).
pub(super) const BATCH_MAX: usize = 25;
/// Bytes of items in one batch at most: old and new values travel both, and a request holds 16 MB.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Transaction conflicts with one item before it goes to the ledger.
const CONFLICTS: u32 = 20;
/// Probes of an item that came back without it although it is there, before the service is blamed for that.
const VANISHED: u32 = 2;

/// What became of a rewrite in the end.
#[derive(Debug)]
pub(super) enum Sent {
    /// Applied.
    Written,
    /// The condition did not hold; the item as it is now, if the service returned it.
    ConditionFailed(Option<Box<Item>>),
    /// The service refuses to write this item.
    Rejected(String),
    /// Transactions of others were in the way, again and again.
    Contended(String),
}

impl Engine {
    /// Sends rewrites of distinct keys and waits for all their outcomes, in their order. `None` when nothing was sent
    /// because every item was gone before the ground could be proved. `drift` is that of the clocks before the items were
    /// read.
    pub(super) async fn send(&self, rewrites: &[Rewrite], drift: Drift) -> Result<Option<Vec<Sent>>, RunError> {
        let Some(via) = self.ground(rewrites).await? else { return Ok(None) };
        let mut queue = self.batches(rewrites).into_iter();
        let mut flight = FuturesUnordered::new();
        let mut sent: Vec<Option<Sent>> = rewrites.iter().map(|_| None).collect();
        loop {
            while flight.len() < self.settings.writes_in_flight.max(1)
                && let Some(range) = queue.next()
            {
                flight.push(async move {
                    let outcomes = self.send_batch(&rewrites[range.clone()], via, drift).await?;
                    Ok::<_, RunError>((range, outcomes))
                });
            }
            let Some(done) = flight.next().await else { break };
            let (range, outcomes) = done?;
            for (slot, outcome) in sent[range].iter_mut().zip(outcomes) {
                *slot = Some(outcome);
            }
        }
        Ok(Some(sent.into_iter().map(|outcome| outcome.expect("every rewrite is in one batch")).collect()))
    }

    /// One rewrite by a single update, after a probe of it: the second opinion when a condition seems defective.
    pub(super) async fn send_single(&self, rewrite: &Rewrite, drift: Drift) -> Result<Sent, RunError> {
        let rewrite = std::slice::from_ref(rewrite);
        match self.probe(rewrite, Via::Single).await? {
            Probe::Honoured => {
                let mut sent = self.send_batch(rewrite, Via::Single, drift).await?;
                Ok(sent.pop().expect("one outcome per rewrite"))
            }
            Probe::AllGone => Ok(Sent::ConditionFailed(None)),
            Probe::Refused(why) => Ok(Sent::Rejected(format!("single updates do not honour conditions ({why})"))),
        }
    }

    /// Sends one batch until each of its rewrites has an outcome. What is sent again is the same bytes under the same
    /// condition, so a write that was applied although its answer was lost fails its condition and is recognised.
    async fn send_batch(&self, rewrites: &[Rewrite], mut via: Via, drift: Drift) -> Result<Vec<Sent>, RunError> {
        let mut sent: Vec<Option<Sent>> = rewrites.iter().map(|_| None).collect();
        let mut tries = Tries::default();
        loop {
            let open: Vec<usize> = (0..sent.len()).filter(|i| sent[*i].is_none()).collect();
            if open.is_empty() {
                return Ok(sent.into_iter().flatten().collect());
            }
            // Nearly always all are open, and nothing need be copied.
            let batch: Cow<'_, [Rewrite]> = if open.len() == rewrites.len() {
                rewrites.into()
            } else {
                open.iter().map(|i| rewrites[*i].clone()).collect()
            };
            let answers = self.update(&batch, via, drift).await;
            let mut worst: Option<StoreError> = None;
            for (i, answer) in open.into_iter().zip(answers) {
                sent[i] = match answer {
                    Answer::Written => Some(Sent::Written),
                    Answer::ConditionFailed(current) => Some(Sent::ConditionFailed(current)),
                    Answer::Failed(error) => match error.class {
                        StoreClass::Item => Some(Sent::Rejected(error.to_string())),
                        StoreClass::Conflict if tries.conflicts >= CONFLICTS => {
                            Some(Sent::Contended(error.to_string()))
                        }
                        _ => {
                            worst = Some(worse(worst, error));
                            None
                        }
                    },
                };
            }
            match worst {
                Some(error) if error.class == StoreClass::Denied && via == Via::Batch => {
                    self.fall_back(&error.to_string()).await;
                    match self.ground(rewrites).await? {
                        Some(proved) => via = proved,
                        // All are gone: nothing is left to write, and nothing is proved.
                        None => {
                            for slot in &mut sent {
                                slot.get_or_insert(Sent::ConditionFailed(None));
                            }
                        }
                    }
                }
                Some(error) => self.again(error, &mut tries).await?,
                None => {}
            }
        }
    }

    /// Waits as an error asks for, or gives up.
    async fn again(&self, error: StoreError, tries: &mut Tries) -> Result<(), RunError> {
        match &error.class {
            StoreClass::Throttled { reason } => self.slow_down(&self.write, tries, reason),
            StoreClass::Conflict => {
                self.back_off(tries.conflicts).await;
                tries.conflicts += 1;
            }
            StoreClass::Unknown if self.silent(tries).await => {}
            StoreClass::Credentials => self.hold(tries, &error.to_string()).await,
            StoreClass::Unknown | StoreClass::Item | StoreClass::Denied | StoreClass::Fatal => return Err(error.into()),
        }
        Ok(())
    }

    /// One call under the write budget. If the wall clock has jumped since the items were read, nothing is sent, and it is
    /// as if their conditions had failed: they are read again first.
    async fn update(&self, batch: &[Rewrite], via: Via, drift: Drift) -> Vec<Answer> {
        let estimate: f64 = batch.iter().map(|rewrite| f64::from(self.units(rewrite))).sum();
        let taken = self.write.acquire(estimate).await;
        if self.jumped_since(drift) {
            self.write.settle(taken, Some(0.0));
            return batch.iter().map(|_| Answer::ConditionFailed(None)).collect();
        }
        let update = self.ports.table.update(batch, via).await;
        let lost = |answer: &Answer| matches!(answer, Answer::Failed(error) if error.class == StoreClass::Unknown);
        let actual = update.units.unwrap_or(0.0) + update.unreported;
        // What may have been applied is not given back.
        self.write.settle(taken, (!update.answers.iter().any(lost)).then_some(actual));
        if !update.answers.iter().any(|answer| matches!(answer, Answer::Failed(_))) {
            self.write.satisfied();
        }
        update.answers
    }

    /// Write units that a rewrite will consume, in the table and in the indexes that may project the item.
    fn units(&self, rewrite: &Rewrite) -> u32 {
        write_units(rewrite.bytes).saturating_mul(self.settings.write_copies.max(1))
    }

    /// Cuts rewrites into batches: by count, by bytes, and so that none consumes more at once than the budget allows in
    /// a second (rule B), an item that alone does aside.
    fn batches(&self, rewrites: &[Rewrite]) -> Vec<Range<usize>> {
        let units_max = self.settings.write_units.map_or(u32::MAX, std::num::NonZeroU32::get);
        // Old and new values both travel.
        batches(rewrites.iter().map(|rewrite| (2 * rewrite.bytes, self.units(rewrite))), units_max)
    }

    /// How to write, after it was proved that conditions are honoured that way (rule P).
    pub(super) async fn ground(&self, rewrites: &[Rewrite]) -> Result<Option<Via>, RunError> {
        let mut ground = self.ground.lock().await;
        if ground.is_some() {
            return Ok(*ground);
        }
        let batch = self.settings.writer == Via::Batch && !self.single_only.load(Ordering::Acquire);
        let ways: &[Via] = if batch { &[Via::Batch, Via::Single] } else { &[Via::Single] };
        let mut refused = String::new();
        for &via in ways {
            match self.probe(rewrites, via).await? {
                Probe::Honoured => {
                    *ground = Some(via);
                    let writer = if via == Via::Batch { "batch" } else { "update-item" };
                    self.tell(&Event::GroundProved { writer });
                    return Ok(Some(via));
                }
                Probe::AllGone => return Ok(None),
                Probe::Refused(why) => {
                    if via == Via::Batch {
                        self.single_only.store(true, Ordering::Release);
                        self.tell(&Event::FellBack { reason: why.clone() });
                    }
                    refused = why;
                }
            }
        }
        Err(RunError::Ground(format!(
            "the service at this endpoint does not honour conditions ({refused}); nothing was written. Check the endpoint \
             and any proxy in front of it"
        )))
    }

    /// Gives up the batch writer, once: what replaces it is proved before it is used.
    async fn fall_back(&self, reason: &str) {
        let mut ground = self.ground.lock().await;
        if !self.single_only.swap(true, Ordering::AcqRel) {
            *ground = None;
            self.tell(&Event::FellBack { reason: reason.to_owned() });
        }
    }

    /// Asks to remove an attribute that does not exist, on condition that it exists, from the first of the items that
    /// is still there: harmless, and refused by every service that honours conditions.
    async fn probe(&self, rewrites: &[Rewrite], via: Via) -> Result<Probe, RunError> {
        let mut bytes = [0_u8; 24];
        (self.settings.entropy)(&mut bytes);
        let name = format!("reseal-probe-{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes));
        for Rewrite { key, bytes, .. } in rewrites {
            let probe = Rewrite {
                key: key.clone(),
                set: Vec::new(),
                remove: vec![name.clone()],
                condition: vec![(name.clone(), Expected::Exists)],
                // A failed condition is charged like a write of the item.
                bytes: *bytes,
            };
            let (mut tries, mut vanished) = (Tries::default(), 0);
            loop {
                let answer = self.update(std::slice::from_ref(&probe), via, self.drift()).await.pop();
                match answer.expect("one answer per rewrite") {
                    Answer::ConditionFailed(Some(_)) => return Ok(Probe::Honoured),
                    Answer::ConditionFailed(None) if self.read_one(key).await?.is_none() => break,
                    // It may have been made anew just after the probe.
                    Answer::ConditionFailed(None) if vanished < VANISHED => vanished += 1,
                    Answer::ConditionFailed(None) => {
                        return Ok(Probe::Refused("it does not return the item with a failed condition".to_owned()));
                    }
                    Answer::Written => {
                        return Ok(Probe::Refused("it accepted a write whose condition was false".to_owned()));
                    }
                    Answer::Failed(error) if error.class == StoreClass::Denied && via == Via::Batch => {
                        return Ok(Probe::Refused(error.to_string()));
                    }
                    Answer::Failed(error) if error.class == StoreClass::Item => {
                        return Ok(Probe::Refused(error.to_string()));
                    }
                    Answer::Failed(error) => self.again(error, &mut tries).await?,
                }
            }
        }
        Ok(Probe::AllGone)
    }
}

/// What a probe of the ground showed.
enum Probe {
    Honoured,
    AllGone,
    Refused(String),
}

/// Cuts rewrites, given by their bytes on the way and their write units, into batches.
fn batches(rewrites: impl Iterator<Item = (usize, u32)>, units_max: u32) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let (mut bytes, mut units) = (0, 0_u32);
    for (i, (its_bytes, its_units)) in rewrites.enumerate() {
        (bytes, units) = (bytes + its_bytes, units.saturating_add(its_units));
        match ranges.last_mut() {
            Some(batch) if batch.len() < BATCH_MAX && bytes <= BATCH_BYTES_MAX && units <= units_max => batch.end += 1,
            _ => {
                (bytes, units) = (its_bytes, its_units);
                ranges.push(i..i + 1);
            }
        }
    }
    ranges
}

/// Of two errors in one batch, the one that decides how to go on: what stops the run before what waits.
fn worse(first: Option<StoreError>, second: StoreError) -> StoreError {
    let rank = |error: &StoreError| match error.class {
        StoreClass::Item => 0,
        StoreClass::Conflict => 1,
        StoreClass::Unknown => 2,
        StoreClass::Throttled { .. } => 3,
        StoreClass::Credentials => 4,
        StoreClass::Denied => 5,
        StoreClass::Fatal => 6,
    };
    match first {
        Some(first) if rank(&first) >= rank(&second) => first,
        _ => second,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_cut_by_count_by_bytes_and_by_units() {
        let check = |rewrites: Vec<(usize, u32)>, units_max, expected: &[usize]| {
            let lengths: Vec<usize> = batches(rewrites.into_iter(), units_max).iter().map(Range::len).collect();
            assert_eq!(lengths, expected);
        };
        check(vec![], 10, &[]);
        check(vec![(100, 1); 51], 100, &[25, 25, 1]);
        check(vec![(800 << 10, 1); 11], 100, &[5, 5, 1]);
        check(vec![(6 << 20, 1), (1, 1)], 100, &[1, 1]);
        check(vec![(100, 3); 7], 10, &[3, 3, 1]);
        check(vec![(100, 30), (100, 1), (100, 30)], 10, &[1, 1, 1]);
    }
}
