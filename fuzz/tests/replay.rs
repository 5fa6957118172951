//! Replays every corpus, and for parsers every prefix of every file in it: what fuzzing once found stays found.

#![allow(clippy::unwrap_used, reason = "a test: an error ends it")]

use std::fs;
use std::path::Path;

fn replay(name: &str, prefixes: bool, target: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files = 0;
    for file in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = file.expect("the corpus can be listed").path();
        let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let first = if prefixes { 0 } else { bytes.len() };
        for len in first..=bytes.len() {
            target(&bytes[..len]);
        }
        files += 1;
    }
    assert!(files >= 5, "the corpus of {name} is gone");
}

#[test]
fn packet_header() {
    replay("packet_header", true, warpline_fuzz::packet_header);
}

#[test]
fn frames() {
    replay("frames", true, warpline_fuzz::frames);
}

#[test]
fn transport_parameters() {
    replay("transport_parameters", true, warpline_fuzz::transport_parameters);
}

#[test]
fn client_hello() {
    replay("client_hello", true, warpline_fuzz::client_hello);
}

#[test]
fn manifest() {
    replay("manifest", true, warpline_fuzz::manifest);
}

#[test]
fn net_headers() {
    replay("net_headers", true, warpline_fuzz::net_headers);
}

#[test]
fn http3_stream() {
    replay("http3_stream", true, warpline_fuzz::http3_stream);
}

#[test]
fn share_messages() {
    replay("share_messages", true, warpline_fuzz::share_messages);
}

#[test]
fn client_memory() {
    replay("client_memory", true, warpline_fuzz::client_memory);
}

#[test]
fn connection_frames() {
    replay("connection_frames", false, warpline_fuzz::connection_frames);
}

#[test]
fn two_connections() {
    replay("two_connections", false, warpline_fuzz::two_connections);
}
