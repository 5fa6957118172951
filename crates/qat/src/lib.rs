//! Packets sealed and opened by Intel QAT cards (4xxx, 401xx, 402xx, 420xx), in batches, through the user-space library of the cards
//! (qatlib: `libqat.so.4` and `libusdm.so.0`), which is loaded when it is asked for and not needed otherwise.
//!
//! [`install`] does it all: it finds cards, loads the library, tries a card with known answers and beside the ciphers of the
//! processor, and makes it what [`PacketCrypto::Device`](warpline_proto::PacketCrypto::Device) means. [`Unavailable`] says what is
//! missing, and [`Unavailable::remedy`] the command that changes it. [`Qat`] is the driver itself.
//!
//! Each thread that makes keys is handed an instance (a pair of rings of a card, with pinned memory for one batch) and has it until it ends; no
//! lock is taken and nothing is allocated for packets. Packets are copied into that memory and back. A call waits until the card is
//! done. An instance that does not answer, or fails, is given up for good: the batch is as it was, and a library has it.
//!
//! It is not a driver for the kernel's side of the cards, and moves no handshakes to them.
//!
//! ```
//! use warpline_qat::{Places, When, install};
//!
//! match install(&Places::default(), When::Faster) {
//!     Ok(installed) => println!("{} ns a packet", installed.trial.device.as_nanos()),
//!     Err(why) => println!("no QAT: {why}"),
//! }
//! ```

mod answers;
mod cards;
mod error;
mod install;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod device;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod instance;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod library;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod limits;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod memory;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod session;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod sys;

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
#[path = "absent.rs"]
mod device;

use std::path::PathBuf;

pub use cards::{Card, Model, cards, check};
pub use device::Qat;
pub use error::Unavailable;
pub use install::{Installed, When, install};

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Where `/sys` and `/dev` are.
    pub root: PathBuf,
    /// The library of the cards: a path, or a name that the loader looks for.
    pub libqat: PathBuf,
    /// The library of pinned memory.
    pub libusdm: PathBuf,
}

impl Default for Places {
    /// Those of the system.
    fn default() -> Self {
        Self { root: "/".into(), libqat: "libqat.so.4".into(), libusdm: "libusdm.so.0".into() }
    }
}

/// What the instances of this process did and do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Instances that were started.
    pub instances: usize,
    /// Those that no thread has.
    pub idle: usize,
    /// Those that failed, and are not used any more.
    pub given_up: usize,
    /// Packets that the cards sealed or opened.
    pub packets: u64,
    /// Batches that came to an instance and were left to the library.
    pub batches_left: u64,
    /// Packets that are worth the way.
    pub batch_min: usize,
}
