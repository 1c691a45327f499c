use std::path::Path;

use reseal::cli::job::{Job, JobError};
use reseal::crypto::Suite;
use reseal::format::dbesdk;
use reseal::item::{Item, Value};

/// The bytes are a job file: then an item that has every attribute of the job can be sealed as the job says. Otherwise
/// the refusal names a line of the file and a remedy.
pub fn job(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Job::parse(text, Path::new("folder/job.toml")) {
        Ok(job) => accepted(&job),
        Err(error) => refused(&error, text),
    }
}

fn accepted(job: &Job) {
    drop((job.policy(), job.readiness(), job.kms_requests(), format!("{job:?}")));
    let item: Item = job.schema.actions.keys().map(|name| (name.clone(), Value::from("x"))).collect();
    let prepared = dbesdk::prepare(&job.schema, Suite::HmacSha384, &item);
    assert!(
        prepared.is_ok(),
        "the job was accepted, but: {}",
        prepared.err().map_or_else(String::new, |e| e.to_string())
    );
}

fn refused(error: &JobError, text: &str) {
    let line = match error {
        JobError::Read { .. } => panic!("nothing was read from a file"),
        JobError::Syntax { line, .. } => *line,
        JobError::Refused { place, .. } => place.line,
    };
    assert!((1..=text.matches('\n').count() + 1).contains(&line), "line {line} is not in the file");
    assert!(!error.to_string().is_empty() && !error.remedy().is_empty());
}
