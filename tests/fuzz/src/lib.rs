//! What a fuzz target needs besides the assertions in [`targets`]: a bound on the memory of one input.

pub mod targets;

use std::alloc::System;
use std::panic;
use std::sync::Once;

use cap::Cap;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// What one input may hold of the heap whatever its length: fixtures and caches that are filled once.
const HEAP_BYTES: usize = 1 << 20;
/// What it may hold for each of its bytes: a NULL in JSON is three allocations, and there are two copies to compare.
const HEAP_BYTES_PER_BYTE: usize = 256;

/// Runs one input under a bound on its memory. A length that is believed and not checked is a failed allocation here,
/// which ends the process and so is a finding.
pub fn run(target: fn(&[u8]), input: &[u8]) {
    static UNBOUND_PANICS: Once = Once::new();
    UNBOUND_PANICS.call_once(|| {
        // What a panic prints takes more memory than an input may.
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            bound(usize::MAX);
            hook(info);
        }));
    });
    bound(HEAP.allocated() + HEAP_BYTES + HEAP_BYTES_PER_BYTE * input.len());
    target(input);
    bound(usize::MAX);
}

fn bound(bytes: usize) {
    HEAP.set_limit(bytes).expect("no bound is below what is held");
}
