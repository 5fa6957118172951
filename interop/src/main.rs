//! Other QUIC implementations as peers.

fn main() {}
