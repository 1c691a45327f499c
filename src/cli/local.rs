//! `reseal local`: the stand-ins as a command.

use std::io::Write;
use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use crate::local::{self, LocalError, Options, StandIns};

/// Serves DynamoDB, DynamoDB Streams and KMS stand-ins on loopback until interrupted.
///
/// For development and tests: credentials are not checked, and keys lie in clear in the data directory.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct LocalArgs {
    /// Directory to keep tables and keys in; without it they live in memory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Port of DynamoDB and Streams; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    dynamodb_port: u16,
    /// Port of KMS; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    kms_port: u16,
    /// Region of the KMS keys
    #[arg(long, value_name = "REGION", default_value = "us-east-1")]
    region: String,
    /// Another Region of KMS, on a free port of its own; may be repeated
    #[arg(long = "kms-region", value_name = "REGION")]
    kms_regions: Vec<String>,
}

/// Starts the stand-ins, prints the lines that point a shell to them, and serves until SIGINT or SIGTERM.
///
/// # Errors
/// [`LocalError`] when they cannot start, or the lines cannot be printed.
pub(super) async fn run(args: LocalArgs, out: &mut impl Write) -> Result<(), LocalError> {
    // Before the lines are out: whoever has read them may send a signal.
    let (mut interrupt, mut terminate) = signal(SignalKind::interrupt())
        .and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?)))
        .map_err(LocalError::Signals)?;
    let LocalArgs { data, dynamodb_port, kms_port, region, kms_regions: more_kms_regions } = args;
    let stand_ins = local::start(Options { data, dynamodb_port, kms_port, region, more_kms_regions })?;
    print_exports(&stand_ins, out).map_err(LocalError::Print)?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    stand_ins.shutdown().await
}

/// Lines for a POSIX shell: AWS's variables, and `RESEAL_KMS_EU_WEST_1` for KMS in another Region, for which AWS has
/// none. The credentials are dummies, because clients refuse to start without any.
fn print_exports(stand_ins: &StandIns, out: &mut impl Write) -> std::io::Result<()> {
    let dynamodb = stand_ins.dynamodb_endpoint();
    for (name, value) in [
        ("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.as_str()),
        ("AWS_ENDPOINT_URL_DYNAMODB_STREAMS", &dynamodb),
        ("AWS_ENDPOINT_URL_KMS", &stand_ins.kms_endpoint()),
        ("AWS_REGION", stand_ins.region()),
        ("AWS_DEFAULT_REGION", stand_ins.region()),
        ("AWS_ACCESS_KEY_ID", "local"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
    ] {
        writeln!(out, "export {name}={value}")?;
    }
    for region in stand_ins.kms_regions().filter(|region| *region != stand_ins.region()) {
        let name = region.to_uppercase().replace('-', "_");
        writeln!(out, "export RESEAL_KMS_{name}={}", stand_ins.kms_endpoint_in(region).unwrap_or_default())?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn prints_lines_that_a_shell_can_source() {
        let options = Options { more_kms_regions: vec!["eu-west-1".to_owned()], ..Options::default() };
        let stand_ins = local::start(options).unwrap();
        let mut out = Vec::new();
        print_exports(&stand_ins, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let names: Vec<&str> =
            text.lines().map(|line| line.strip_prefix("export ").unwrap().split_once('=').unwrap().0).collect();
        assert_eq!(
            names,
            [
                "AWS_ENDPOINT_URL_DYNAMODB",
                "AWS_ENDPOINT_URL_DYNAMODB_STREAMS",
                "AWS_ENDPOINT_URL_KMS",
                "AWS_REGION",
                "AWS_DEFAULT_REGION",
                "AWS_ACCESS_KEY_ID",
                "AWS_SECRET_ACCESS_KEY",
                "RESEAL_KMS_EU_WEST_1",
            ]
        );
        assert!(text.contains(&format!("AWS_ENDPOINT_URL_KMS={}\n", stand_ins.kms_endpoint())), "{text}");
        stand_ins.shutdown().await.unwrap();
    }
}
