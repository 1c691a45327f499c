//! Standard output for results, standard error for everything else.

use std::io::{self, Write as _};

use super::failure::Failure;

/// Prints one line of result.
///
/// # Errors
/// [`Failure::ReaderGone`] when whoever read has gone, another [`Failure`] when the line cannot be written.
pub(super) fn line(text: impl std::fmt::Display) -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "{text}").map_err(|error| Failure::of_output(&error))
}

/// Prints one JSON value on a line of its own.
///
/// # Errors
/// [`Failure`] as [`line`].
pub(super) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    line(serde_json::to_string(value).expect("events and results are made of texts, numbers and lists"))
}

/// Says something on standard error that is no failure.
pub(super) fn note(text: &str) {
    // There is nobody left to tell when even this fails.
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Tells of a failure on standard error: what happened, and what to do about it.
pub(super) fn tell(failure: &Failure) {
    let Failure::Told { problem, remedy, .. } = failure else { return };
    // There is nobody left to tell when this fails.
    let mut stderr = io::stderr().lock();
    drop(writeln!(stderr, "error: {problem}"));
    if let Some(remedy) = remedy {
        drop(writeln!(stderr, "remedy: {remedy}"));
    }
}
