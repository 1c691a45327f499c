//! The independent proof: every item of the table is read strongly consistently and opened with the target's keyring.

use std::sync::Arc;

use futures::StreamExt as _;
use serde::Serialize;
use tokio::task::JoinSet;

use super::engine::{Engine, Ports, RunError, Settings};
use super::{Panicked, Stop, lane};
use crate::format::dbesdk::Sealed;
use crate::item::Item;
use crate::migration::{Policy, Verdict};
use crate::store::Cursor;

/// What a table was found to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verification {
    /// Items read.
    pub scanned: u64,
    /// At target, and opened.
    pub current: u64,
    /// Sealed in another form than the target's.
    pub stale: u64,
    /// In plaintext although the target is not.
    pub plaintext: u64,
    /// Sealed, and not to be opened.
    pub broken: u64,
    /// Whether the whole table was read.
    pub complete: bool,
    /// The first items that are not at target.
    pub findings: Vec<Finding>,
}

/// One item that is not at target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The item's key, as DynamoDB JSON.
    pub key: String,
    /// What it is instead.
    pub kind: &'static str,
    /// Why, and the remedy.
    pub detail: String,
}

const STALE: &str = "the item is sealed in another form; run again";

/// Findings that are kept in words; all are counted.
const FINDINGS_MAX: usize = 100;

impl Verification {
    /// Whether the whole table was read and every item is at target and opens.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.complete && self.scanned == self.current
    }

    fn add(&mut self, other: Self) {
        self.scanned += other.scanned;
        self.current += other.current;
        self.stale += other.stale;
        self.plaintext += other.plaintext;
        self.broken += other.broken;
        self.findings.extend(other.findings);
        self.findings.truncate(FINDINGS_MAX);
    }
}

/// Opens every item of the table with the target's keyring; writes nothing.
///
/// # Errors
/// [`RunError`] when the table or a key cannot be used.
pub async fn verify(ports: Ports, policy: &Policy, settings: Settings, stop: &Stop) -> Result<Verification, RunError> {
    // Items are told apart here, not refused.
    let policy = Arc::new(Policy { accept_plaintext: true, accept_dbesdk: true, ..policy.clone() });
    let engine = Arc::new(Engine::new(ports, policy, settings));
    let mut lanes = JoinSet::new();
    for segment in 0..engine.settings.segments {
        let (engine, stop) = (Arc::clone(&engine), stop.gently.clone());
        lanes.spawn(async move {
            let mut sum = Verification::default();
            let mut pages = lane::work(
                &engine,
                segment,
                Cursor::Start,
                |engine, seen| Box::pin(examine(engine, seen.items)),
                &stop,
            );
            while let Some(page) = pages.next().await {
                let (page, cursor) = page?;
                sum.add(page);
                sum.complete = cursor == Cursor::End;
            }
            Ok::<_, RunError>(sum)
        });
    }
    let mut sum = Verification { complete: true, ..Verification::default() };
    loop {
        let lane = tokio::select! {
            biased;
            lane = lanes.join_next() => lane,
            () = stop.at_once.cancelled() => return Ok(Verification { complete: false, ..sum }),
        };
        let Some(lane) = lane else { return Ok(sum) };
        let lane = lane.map_err(|_| Panicked)??;
        sum.complete &= lane.complete;
        sum.add(lane);
    }
}

/// What an item was found to be, before any key is used.
enum Found {
    AtTarget(Item, Option<Box<Sealed>>),
    Not(Item, &'static str, String),
}

/// Examines one page.
async fn examine(engine: Arc<Engine>, items: Vec<Item>) -> Result<Verification, RunError> {
    let mut page = Verification { scanned: items.len() as u64, ..Verification::default() };
    let policy = Arc::clone(&engine.policy);
    let found =
        engine.settings.pool.run(move || items.into_iter().map(|item| look(&policy, item)).collect::<Vec<_>>()).await?;
    let mut wanted = Vec::new();
    for found in found {
        match found {
            Found::AtTarget(_, None) => page.current += 1,
            Found::AtTarget(item, Some(sealed)) => wanted.push((item, sealed)),
            Found::Not(item, kind, detail) => page.find(&engine.policy, &item, kind, detail),
        }
    }
    let wanted = page.look_deeper(&engine, wanted).await?;
    let keys =
        super::page::in_flight(&engine, wanted.iter().map(|(_, sealed)| engine.unwrap_by_target(sealed))).await?;
    let mut openable = Vec::with_capacity(wanted.len());
    for ((item, sealed), key) in wanted.into_iter().zip(keys) {
        match key {
            Ok((edk, key)) => openable.push((item, sealed, edk, key)),
            Err(refusal) => page.find(&engine.policy, &item, "broken", refusal.detail),
        }
    }
    let policy = Arc::clone(&engine.policy);
    let opened = engine
        .settings
        .pool
        .run(move || {
            openable
                .into_iter()
                .map(|(item, sealed, edk, key)| {
                    let opened = policy.open(&item, &sealed, edk, &key).map(drop);
                    (item, opened)
                })
                .collect::<Vec<_>>()
        })
        .await?;
    for (item, opened) in opened {
        match opened {
            Ok(()) => page.current += 1,
            Err(refusal) => page.find(&engine.policy, &item, "broken", refusal.detail),
        }
    }
    Ok(page)
}

/// Sorts an item by its bytes.
fn look(policy: &Policy, item: Item) -> Found {
    match policy.classify(&item) {
        Ok(Verdict::Current(sealed)) => Found::AtTarget(item, sealed),
        Ok(Verdict::Plain) => Found::Not(item, "plaintext", "the item is in plaintext; run again".to_owned()),
        Ok(Verdict::Sealed(_)) => Found::Not(item, "stale", STALE.to_owned()),
        Err(refusal) => Found::Not(item, "broken", refusal.detail),
    }
}

impl Verification {
    /// Sorts out what the target's keyring knows not to be at target, although its bytes say so.
    async fn look_deeper(
        &mut self,
        engine: &Engine,
        items: Vec<(Item, Box<Sealed>)>,
    ) -> Result<Vec<(Item, Box<Sealed>)>, RunError> {
        if !engine.looks_deeper() {
            return Ok(items);
        }
        let asked = items.iter().map(|(_, sealed)| engine.is_current(sealed));
        let answers = super::page::in_flight(engine, asked).await?;
        let mut kept = Vec::with_capacity(items.len());
        for ((item, sealed), answer) in items.into_iter().zip(answers) {
            match answer {
                Ok(true) => kept.push((item, sealed)),
                Ok(false) => self.find(&engine.policy, &item, "stale", STALE.to_owned()),
                Err(refusal) => self.find(&engine.policy, &item, "broken", refusal.detail),
            }
        }
        Ok(kept)
    }

    fn find(&mut self, policy: &Policy, item: &Item, kind: &'static str, detail: String) {
        match kind {
            "plaintext" => self.plaintext += 1,
            "stale" => self.stale += 1,
            _ => self.broken += 1,
        }
        if self.findings.len() < FINDINGS_MAX {
            let key = policy.key_of(item).map(|key| key.to_string()).unwrap_or_default();
            self.findings.push(Finding { key, kind, detail });
        }
    }
}
