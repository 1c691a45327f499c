//! The table's stream, as a run or a tail follows it: adopted as it is, or made if that was asked for.

use std::sync::Arc;
use std::time::Duration;

use super::args::Origin;
use super::exit::Exit;
use super::failure::Failure;
use super::output;
use super::resolve::Plan;
use crate::aws::AwsConfig;
use crate::migration::From;
use crate::pipeline::{Follow, Until};
use crate::store::{self, DynamoShards, Journal, Shards as _, ShardsError, StoreClass, StreamFacts, TableFacts};

/// What was asked for on the command line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// Where to begin if the stream was never followed.
    pub(super) from: Option<Origin>,
    pub(super) until: Until,
    /// Make a stream if there is none.
    pub(super) create: bool,
}

/// How often, and how many times, the service is asked whether a stream that was just enabled is there.
const ENABLED_EVERY: Duration = Duration::from_secs(2);
const ENABLED_TRIES: u32 = 150;

/// The stream as it may be followed. Exit 3 when there is none and none is to be made, or when it may not be read.
pub(super) async fn follow(
    plan: &mut Plan,
    config: &AwsConfig,
    journal: &dyn Journal,
    asked: Asked,
) -> Result<Follow, Failure> {
    if asked.from.is_some() && journal.lineage().await?.is_some() {
        return Err(Failure::new(
            Exit::Refused,
            "--from: this job has followed the stream before, and goes on from its checkpoint",
            "leave --from out; another place to begin would leave a gap",
        ));
    }
    if enabled(&plan.facts).is_none() {
        if !asked.create {
            return Err(Failure::new(
                Exit::Refused,
                format!("the table {} has no stream to follow", plan.facts.name),
                format!("add --create-stream: {WHAT_IT_MEANS}"),
            ));
        }
        output::note(&format!("enabling a stream: {WHAT_IT_MEANS}"));
        store::enable_stream(config, &plan.job.table).await?;
        for tries in 1.. {
            plan.facts = store::describe(config, &plan.job.table).await?;
            if plan.facts.status == "ACTIVE" && enabled(&plan.facts).is_some() {
                break;
            }
            if tries == ENABLED_TRIES {
                let problem = "the stream was enabled, and the table is not ACTIVE after five minutes";
                return Err(Failure::new(
                    Exit::Fatal,
                    problem,
                    "wait until it is, and run again without --create-stream",
                ));
            }
            tokio::time::sleep(ENABLED_EVERY).await;
        }
    }
    let no_arn = || {
        let problem = format!("the service names no ARN for the stream of {}", plan.facts.name);
        Failure::new(Exit::Refused, problem, "check the endpoint")
    };
    let stream = enabled(&plan.facts).ok_or_else(no_arn)?;
    if let Some(blind) = unseen(stream) {
        output::note(&format!("the stream's view is {}: {blind}", stream.view.as_deref().unwrap_or("unknown")));
    }
    let arn = stream.arn.clone().ok_or_else(no_arn)?;
    let shards = DynamoShards::new(config, arn, plan.job.schema.keys.clone());
    // Refused before anything is written, not after.
    shards.list(None).await.map_err(|error| match error {
        ShardsError::Store(error) if error.class == StoreClass::Denied => Failure::plain(Exit::Refused, error),
        ShardsError::Store(error)
        | ShardsError::Expired(error)
        | ShardsError::Trimmed(error)
        | ShardsError::Gone(error) => error.into(),
    })?;
    let from = match asked.from {
        Some(Origin::TrimHorizon) => From::TrimHorizon,
        Some(Origin::Now) | None => From::Now,
    };
    Ok(Follow { shards: Arc::new(shards), from, until: asked.until })
}

const WHAT_IT_MEANS: &str = "its view will be NEW_AND_OLD_IMAGES. DynamoDB then keeps every change of an item for 24 hours, \
                             old and new values, plaintext included. Each call for records is billed as a streams read \
                             request: per shard one every two seconds, and up to five a second while records come. It \
                             wakes nobody until a consumer is attached; switch it off when the last tail has ended";

/// The stream, if there is one that gets records.
pub(super) fn enabled(facts: &TableFacts) -> Option<&StreamFacts> {
    facts.stream.as_ref().filter(|stream| stream.enabled)
}

/// What cannot be seen in a stream of this view, and what that costs; nothing where it has everything.
pub(super) fn unseen(stream: &StreamFacts) -> Option<&'static str> {
    match stream.view.as_deref() {
        Some("NEW_AND_OLD_IMAGES") => None,
        Some("NEW_IMAGE") => Some(
            "enough to follow every change, but not to see every partial update of a sealed item; verify finds those",
        ),
        _ => Some(
            "each changed item is read by its key besides, and not every partial update of a sealed item shows; verify \
             finds those",
        ),
    }
}
