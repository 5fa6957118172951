//! `client_hello` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| warpline_fuzz::client_hello(data));
