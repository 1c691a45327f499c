//! The command line: everything that a human or a script sees.

mod args;
mod exit;
mod failure;
mod item;
pub mod job;
mod keyrings;
#[cfg(feature = "local")]
mod local;
mod log;
mod output;

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
        Command::Plan(args) => unbuilt(&args.job),
        Command::Run(args) => unbuilt(&args.job),
        Command::Verify(args) => unbuilt(&args.job),
        Command::Item(command) => item::run(command).await,
        #[cfg(feature = "local")]
        Command::Local(args) => {
            local::run(args, &mut std::io::stdout()).await?;
            Ok(Exit::Done)
        }
    }
}

fn unbuilt(job: &std::path::Path) -> Result<Exit, Failure> {
    job::Job::read(job)?;
    Err(Failure::plain(Exit::Fatal, "not built yet"))
}
