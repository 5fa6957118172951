//! Replays every corpus, and every prefix of every file in it: what fuzzing once found stays found.

#![allow(clippy::unwrap_used, reason = "a test: an error ends it")]

use std::fs;
use std::path::Path;

fn replay(name: &str, target: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files = 0;
    for file in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = file.expect("the corpus can be listed").path();
        let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for len in 0..=bytes.len() {
            target(&bytes[..len]);
        }
        files += 1;
    }
    assert!(files >= 5, "the corpus of {name} is gone");
}

#[test]
fn packet_header() {
    replay("packet_header", warpline_fuzz::packet_header);
}

#[test]
fn frames() {
    replay("frames", warpline_fuzz::frames);
}

#[test]
fn transport_parameters() {
    replay("transport_parameters", warpline_fuzz::transport_parameters);
}

#[test]
fn manifest() {
    replay("manifest", warpline_fuzz::manifest);
}
