//! `http3_stream` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| warpline_fuzz::http3_stream(data));
