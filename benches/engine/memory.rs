//! The same as `engine`, with an allocator that counts: it costs time, so that nothing else is measured with it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what it measures is its result")]

mod compare;
mod items;
#[path = "../../tests/sealing/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest of it")]
mod sealing;
mod server;
mod workers;

#[global_allocator]
static ALLOCATOR: cap::Cap<tikv_jemallocator::Jemalloc> = cap::Cap::new(tikv_jemallocator::Jemalloc, usize::MAX);

fn main() -> std::process::ExitCode {
    compare::main(|| Some(ALLOCATOR.max_allocated()))
}
