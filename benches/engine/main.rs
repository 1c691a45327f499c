//! What the engine costs beside the SDK and the format alone, and beside a loop in Python: `scripts/bench.sh`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what it measures is its result")]

mod compare;
mod items;
#[path = "../../tests/sealing/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest of it")]
mod sealing;
mod server;
mod workers;

/// As in the command.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    compare::main(|| None)
}
