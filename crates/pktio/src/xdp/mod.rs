//! AF_XDP: packets between an interface's queue and memory of our own, past the kernel's network stack.
//!
//! - A program that this crate assembles takes the packets of our UDP port and addresses out of the stream
//!   and leaves everything else to the kernel. It goes when the process does.
//! - Each worker owns one or more queues of the interface: their memory, rings and socket (`lane`).
//! - Received packets are parsed where they lie and lent to the program as [frames](warpline_frame::Frame); packets to
//!   send are built and sealed in frames of the same memory.
//! - Routes, source addresses and neighbours come from the kernel (`router`), kept current by netlink.
//! - Beside the queues there is an ordinary UDP socket on the same port. It reserves the port, receives what
//!   the program leaves to the kernel (fragments, other interfaces, loopback, ICMP errors) and sends what does not leave
//!   by this interface. While the interface is down or gone, it is all there is.

mod config;

pub use config::{
    InterfaceName, QueueSet, XdpChecksums, XdpConfig, XdpCounters, XdpFrames, XdpMode, XdpModes, XdpStatus, XdpWakeups,
};

#[cfg(target_os = "linux")]
mod asm;
#[cfg(target_os = "linux")]
mod backend;
#[cfg(target_os = "linux")]
mod bpf;
#[cfg(target_os = "linux")]
mod checksums;
#[cfg(target_os = "linux")]
mod device;
#[cfg(target_os = "linux")]
pub mod ethtool;
#[cfg(target_os = "linux")]
mod features;
#[cfg(target_os = "linux")]
mod group;
#[cfg(target_os = "linux")]
mod guest;
#[cfg(target_os = "linux")]
mod inlet;
#[cfg(target_os = "linux")]
mod jumbo;
#[cfg(target_os = "linux")]
mod lane;
#[cfg(all(test, target_os = "linux"))]
mod listing;
#[cfg(target_os = "linux")]
mod netlink;
#[cfg(target_os = "linux")]
mod outlet;
#[cfg(target_os = "linux")]
mod program;
#[cfg(target_os = "linux")]
mod reception;
#[cfg(target_os = "linux")]
mod rings;
#[cfg(target_os = "linux")]
mod router;
#[cfg(target_os = "linux")]
mod sleep;
#[cfg(target_os = "linux")]
mod socket;
#[cfg(target_os = "linux")]
mod trial;
#[cfg(target_os = "linux")]
mod umem;
#[cfg(target_os = "linux")]
mod wait;
#[cfg(target_os = "linux")]
mod waiting;

#[cfg(target_os = "linux")]
pub use backend::Xdp;
#[cfg(target_os = "linux")]
pub use features::{Features, features};
#[cfg(target_os = "linux")]
pub use group::Group;
