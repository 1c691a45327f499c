//! See `reseal_fuzz::targets::edks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| reseal_fuzz::run(reseal_fuzz::targets::edks, input));
