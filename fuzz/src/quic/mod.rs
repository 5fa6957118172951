//! Whole connections, with no packet protection in the way: what the fuzzer changes reaches the code behind it.

mod ends;
mod frames;
mod network;
mod plain;
mod script;

pub use frames::connection_frames;
pub use network::two_connections;
