//! `two_connections` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| warpline_fuzz::two_connections(data));
