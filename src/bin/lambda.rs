//! The `reseal-lambda` function: what a zip for AWS Lambda calls `bootstrap`.

use std::process::ExitCode;

use reseal::cli;

/// As in the command.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(cli::lambda::serve()),
        Err(error) => cli::no_runtime(&error),
    }
    .into()
}
