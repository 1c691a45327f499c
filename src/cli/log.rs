//! Diagnostics on standard error, for whoever looks for a defect.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::exit::Exit;
use super::failure::Failure;

/// The environment variable that asks for diagnostics.
const VARIABLE: &str = "RESEAL_LOG";

/// Begins to log what [`VARIABLE`] asks for; nothing where it is not set.
///
/// Only reseal's own events are ever logged: at its finer levels the AWS SDK would print requests and answers, and with
/// them the values of items.
///
/// # Errors
/// [`Failure`] when the variable holds no level.
pub(super) fn begin() -> Result<(), Failure> {
    let Some(level) = std::env::var_os(VARIABLE) else { return Ok(()) };
    let level: LevelFilter = level.to_str().and_then(|level| level.parse().ok()).ok_or_else(|| {
        Failure::new(Exit::Usage, format!("{VARIABLE}: unknown level"), "use off, error, warn, info, debug or trace")
    })?;
    let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(stderr).with(Targets::new().with_target("reseal", level)).init();
    Ok(())
}
