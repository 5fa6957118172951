//! The command over AF_XDP: two network namespaces joined by a veth pair, the program in the driver at both ends or at one,
//! over IPv4, IPv6 and a VLAN. Needs root; without it each story says in one line that it was skipped.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod beside;
mod commands;
#[path = "../../../pktio/tests/common/netns.rs"]
mod netns;
mod quinn_peer;
mod settings;
mod stage;
