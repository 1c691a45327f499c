//! What a fuzz target needs besides the assertions in [`targets`]: a bound on the memory of one input.

pub mod targets;

use std::alloc::System;

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
    HEAP.set_limit(HEAP.allocated() + HEAP_BYTES + HEAP_BYTES_PER_BYTE * input.len()).expect("more than is held");
    target(input);
    HEAP.set_limit(usize::MAX).expect("more than is held");
}
