//! SIGINT and SIGTERM: the first stops gently, the second at once.

use tokio::signal::unix::{SignalKind, signal};

use super::exit::Exit;
use super::failure::Failure;
use crate::pipeline::Stop;

/// Listens for signals from now on.
///
/// # Errors
/// [`Failure`] when the system does not let the process listen.
pub(super) fn listen() -> Result<Stop, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Fatal, format!("cannot listen for signals: {error}"), "run where signals can be received")
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let stop = Stop::default();
    let told = stop.clone();
    tokio::spawn(async move {
        for token in [&told.gently, &told.at_once] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            token.cancel();
        }
    });
    Ok(stop)
}
