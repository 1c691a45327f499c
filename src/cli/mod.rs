//! The command line: everything that a human or a script sees.

mod args;
#[cfg(feature = "local")]
mod demo;
mod doctor;
mod economics;
mod exit;
mod failure;
mod habits;
mod item;
pub mod job;
mod keyrings;
mod keystore;
#[cfg(feature = "lambda")]
pub mod lambda;
#[cfg(feature = "local")]
mod local;
mod log;
mod output;
mod permissions;
mod plan;
mod preflight;
mod progress;
mod report;
mod resolve;
mod run;
mod sample;
mod signals;
mod stream;
mod verify;

pub use args::Args;
pub use exit::Exit;
pub use failure::Failure;

use args::Command;

/// Runs a command and tells on standard error why it failed, if it did.
pub async fn run(args: Args) -> Exit {
    match dispatch(args.command).await {
        Ok(exit) => exit,
        Err(failure) => told(&failure),
    }
}

/// The end of a process whose runtime could not be started.
#[must_use]
pub fn no_runtime(error: &std::io::Error) -> Exit {
    let problem = format!("cannot start worker threads: {error}");
    told(&Failure::new(Exit::Fatal, problem, "raise the limits on threads and open files"))
}

fn told(failure: &Failure) -> Exit {
    output::tell(failure);
    failure.exit()
}

async fn dispatch(command: Command) -> Result<Exit, Failure> {
    log::begin()?;
    match command {
        Command::Plan(args) => run::plan(&args).await,
        Command::Run(args) => run::run(args).await,
        Command::Tail(args) => run::tail(args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Item(command) => item::run(command).await,
        Command::KeyStore(command) => keystore::run(command).await,
        #[cfg(feature = "local")]
        Command::Demo(args) => demo::run(args).await,
        #[cfg(feature = "local")]
        Command::Local(args) => {
            local::run(args, &mut std::io::stdout()).await?;
            Ok(Exit::Done)
        }
    }
}
