//! What an AF_XDP backend is made with.

use std::fmt;
use std::io;

use crate::limits::{XDP_FRAMES, XDP_RING_LEN, XDP_TX_FRAMES};

/// The name of a network interface: 1 to 15 bytes, as the kernel has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct InterfaceName {
    bytes: [u8; 15],
    len: u8,
}

impl InterfaceName {
    /// Fails with `InvalidInput` if no interface can have that name.
    pub fn new(name: &str) -> io::Result<InterfaceName> {
        let bad = name.is_empty()
            || name.len() > 15
            || matches!(name, "." | "..")
            || name.bytes().any(|byte| byte == b'/' || byte == b':' || byte.is_ascii_whitespace() || byte == 0);
        if bad {
            let what = format!("{name:?} is no name of a network interface");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let mut bytes = [0; 15];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(InterfaceName { bytes, len: name.len() as u8 })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len.into()]).expect("it was made from a string")
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// How a device and a socket exchange packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// The device reads and writes the frames itself.
    ZeroCopy,
    /// The driver hands packets over before the stack, and the kernel copies them to and from the frames.
    Copy,
    /// As `Copy`, but after the driver has built the kernel's own packet structure: any device, little gain.
    Generic,
}

impl XdpMode {
    /// Its name in output.
    pub fn name(self) -> &'static str {
        match self {
            XdpMode::ZeroCopy => "zero-copy",
            XdpMode::Copy => "copy",
            XdpMode::Generic => "generic",
        }
    }
}

/// How a worker uses its interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XdpStatus {
    /// The interface.
    pub interface: String,
    /// The queues that this worker owns.
    pub queues: Vec<u32>,
    /// The mode; `None` while the interface does not exist and the kernel's socket does everything.
    pub mode: Option<XdpMode>,
    /// Why it is that mode.
    pub reason: String,
}

/// Which modes are acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XdpModes {
    /// The fastest that the device has.
    #[default]
    Best,
    /// Zero-copy or nothing.
    ZeroCopy,
    /// Copy mode with the program in the driver, even if the device has zero-copy.
    Copy,
    /// The program behind the driver, on any interface.
    Generic,
}

/// How to use an interface with AF_XDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XdpConfig {
    /// The interface. VLAN interfaces on it are served too; name the lowest one.
    pub interface: InterfaceName,
    /// Which modes are acceptable.
    pub modes: XdpModes,
    /// How many packets a system call may let the device's queue handle while the worker looks for packets
    /// (`SO_PREFER_BUSY_POLL`); 0 leaves that to the kernel's own threads and interrupts. It pays where a worker has its
    /// core to itself.
    pub busy_poll_budget: u16,
    /// Frames per queue; at least the fill ring, the sender's share and one batch.
    pub frames: usize,
}

impl XdpConfig {
    /// The usual sizes on an interface.
    pub fn new(interface: InterfaceName) -> XdpConfig {
        XdpConfig { interface, modes: XdpModes::Best, busy_poll_budget: 0, frames: XDP_FRAMES }
    }

    #[cfg(target_os = "linux")]
    pub(super) fn validate(&self) -> io::Result<()> {
        let least = XDP_RING_LEN as usize / 2 + XDP_TX_FRAMES;
        if self.frames < least || self.frames > 1 << 20 {
            let what = format!("AF_XDP takes {least} to {} frames per queue", 1 << 20);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok(())
    }
}
