//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz deaggregate`

#![no_main]

#[path = "../laws/deaggregate.rs"]
mod law;

libfuzzer_sys::fuzz_target!(|input: &[u8]| law::holds(input));
