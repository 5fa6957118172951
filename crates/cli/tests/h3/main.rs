//! `warpline h3`: the two ends towards each other, and towards other implementations of HTTP/3.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aioquic_peer;
mod chromium;
mod command;
mod quinn_peer;
mod site;
