//! `connection_frames` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| warpline_fuzz::connection_frames(data));
