//! `reseal verify`: the independent proof that every item is at target and opens.

use std::sync::Arc;

use super::args::VerifyArgs;
use super::exit::Exit;
use super::failure::Failure;
use super::output;
use super::progress::Progress;
use super::run::{standard_aws, target_keyring};
use super::signals;
use crate::cli::job::Job;
use crate::cli::resolve::Plan;
use crate::pipeline::{self, Ports, Verification};
use crate::store::DynamoTable;

/// Verifies the job's table. Exit 0 only when every item is at target and opens.
pub(super) async fn run(args: VerifyArgs) -> Result<Exit, Failure> {
    let job = Job::read(&args.job)?;
    let config = standard_aws().await?;
    let table = DynamoTable::read_only(&config, job.table.clone(), job.schema.keys.clone());
    let plan = Plan::resolve(job, &config).await?;
    let progress = Progress::start(plan.facts.items, args.json);
    let ports = Ports {
        table: Arc::new(table),
        target: target_keyring(&plan.job).await?,
        sources: Vec::new(),
        observer: progress.observer(),
    };
    let stop = signals::listen()?;
    let verification = pipeline::verify(ports, &plan.policy, plan.settings, &stop).await;
    progress.finish();
    let verification = verification?;
    if args.json {
        output::json(&verification)?;
    } else {
        output::line(text(&verification))?;
    }
    Ok(match (verification.complete, verification.holds()) {
        (true, true) => Exit::Done,
        (true, false) => Exit::FailedItems,
        (false, _) => Exit::Interrupted,
    })
}

fn text(verification: &Verification) -> String {
    let Verification { scanned, current, stale, plaintext, broken, findings, .. } = verification;
    let mut lines: Vec<String> = findings.iter().map(|f| format!("{} {}: {}", f.kind, f.key, f.detail)).collect();
    lines.push(format!(
        "{scanned} items: {current} at target and opened, {stale} stale, {plaintext} in plaintext, {broken} broken"
    ));
    lines.join("\n")
}
