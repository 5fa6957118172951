//! `share_messages` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| warpline_fuzz::share_messages(data));
