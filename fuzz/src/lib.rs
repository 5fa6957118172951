//! Fuzz targets as plain functions.
//!
//! Each takes any bytes, must not panic, and checks a property of what became of them. The corpora under `fuzz/corpus` are
//! replayed by an ordinary test with an ordinary toolchain; `fuzz/libfuzzer` runs the same functions under coverage guidance
//! (nightly, with the flags in its README).
#![forbid(unsafe_code)]

mod files;
mod parsers;
mod quic;

pub use files::{client_memory, manifest, share_messages};
pub use parsers::{client_hello, frames, http3_stream, net_headers, packet_header, transport_parameters};
pub use quic::{connection_frames, two_connections};
