//! What an AF_XDP backend is made with.

use std::fmt;
use std::io;
use std::ops::Add;

use crate::limits::{XDP_FRAMES, XDP_FRAMES_MAX, XDP_QUEUES_MAX, XDP_RING_LEN, XDP_TX_FRAMES};

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
    /// The queues that this worker owns; none if there are more workers than queues and another one receives and sends for
    /// it.
    pub queues: Vec<u32>,
    /// The number of the worker that does so.
    pub guest_of: Option<usize>,
    /// The mode; `None` while the interface does not exist and the kernel's socket does everything.
    pub mode: Option<XdpMode>,
    /// Why it is that mode.
    pub reason: String,
}

/// Where a worker's frames are, each place counted by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct XdpFrames {
    /// In the pool.
    pub free: usize,
    /// Lent to the kernel to receive into, or received and not looked at.
    pub receiving: usize,
    /// Lent to the kernel to be sent, or sent and not taken back.
    pub sending: usize,
    /// Kept for sending, being built, or waiting for a neighbour.
    pub kept: usize,
    /// Received data lies in them that the program has not let go of, or a worker without a queue of its own builds packets
    /// in them.
    pub with_program: usize,
    /// All frames.
    pub capacity: usize,
}

impl XdpFrames {
    /// Whether each frame is in one place: none is lost and none is counted twice.
    #[must_use]
    pub fn add_up(&self) -> bool {
        self.free + self.receiving + self.sending + self.kept + self.with_program == self.capacity
    }
}

impl Add for XdpFrames {
    type Output = XdpFrames;

    fn add(self, other: XdpFrames) -> XdpFrames {
        XdpFrames {
            free: self.free + other.free,
            receiving: self.receiving + other.receiving,
            sending: self.sending + other.sending,
            kept: self.kept + other.kept,
            with_program: self.with_program + other.with_program,
            capacity: self.capacity + other.capacity,
        }
    }
}

/// What the kernel counted on AF_XDP sockets (`XDP_STATISTICS`), since they were opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct XdpCounters {
    /// Packets dropped for other reasons than the next two.
    pub rx_dropped: u64,
    /// Packets dropped because the RX ring was full: the worker was away for too long.
    pub rx_ring_full: u64,
    /// How often the fill ring was found empty: the program holds too much.
    pub fill_ring_empty: u64,
    /// Descriptors that the kernel refused: a mistake here.
    pub invalid_descriptors: u64,
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

/// Who computes the UDP checksums of what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XdpChecksums {
    /// The device where it offers to (TX metadata, Linux 6.8), the worker otherwise.
    #[default]
    Best,
    /// The worker.
    Own,
    /// The device, or nothing: binding fails with `Unsupported` where it does not offer to.
    Device,
    /// The kernel, in software (`XDP_UMEM_TX_SW_CSUM`): the way of a device that computes checksums, on any interface, in
    /// copy mode only. Slower than `Own`; for tests, and for captures that have to be right.
    Kernel,
}

/// How a worker tells the kernel of packets to send, and how it sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XdpWakeups {
    /// A call for each turn with packets to send, and poll(2) to sleep.
    #[default]
    Send,
    /// poll(2) for both where the worker sleeps after its turn: the kernel sends what is in the ring when it is polled. A call of
    /// its own only for what cannot wait for that.
    Poll,
    /// A call for each turn with packets to send, and an io_uring to sleep, in which descriptors stay registered until
    /// something comes.
    Ring,
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
    /// How a worker wakes the kernel and is woken; with a `busy_poll_budget` it sends by calls in any case.
    pub wakeups: XdpWakeups,
    /// Frames per queue; at least half a fill ring and the sender's share, at most 2^20.
    pub frames: usize,
    /// Bytes per frame, 2,048 or 4,096. `None`: the smaller one if the interface's packets fit.
    pub frame_size: Option<usize>,
    /// Who computes UDP checksums.
    pub checksums: XdpChecksums,
    /// The queues to serve; `None` for all. What arrives on others is the kernel's.
    pub queues: Option<QueueSet>,
}

/// Queues of an interface, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSet(u128);

impl QueueSet {
    /// Fails with `InvalidInput` if there is none among them, or one of [`XDP_QUEUES_MAX`] or above.
    pub fn new(queues: impl IntoIterator<Item = u32>) -> io::Result<QueueSet> {
        let mut set = 0;
        for queue in queues {
            if queue >= XDP_QUEUES_MAX {
                let what = format!("queue {queue}: AF_XDP takes queues 0 to {}", XDP_QUEUES_MAX - 1);
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            set |= 1u128 << queue;
        }
        if set == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "AF_XDP needs a queue at least"));
        }
        Ok(QueueSet(set))
    }

    /// Their numbers, lowest first.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (0..XDP_QUEUES_MAX).filter(move |queue| self.0 >> queue & 1 == 1)
    }
}

impl XdpConfig {
    /// The usual sizes on an interface.
    pub fn new(interface: InterfaceName) -> XdpConfig {
        XdpConfig {
            interface,
            modes: XdpModes::Best,
            busy_poll_budget: 0,
            wakeups: XdpWakeups::default(),
            frames: XDP_FRAMES,
            frame_size: None,
            checksums: XdpChecksums::Best,
            queues: None,
        }
    }

    /// Refuses with `InvalidInput` what no interface honours.
    pub fn validate(&self) -> io::Result<()> {
        let least = XDP_RING_LEN as usize / 2 + XDP_TX_FRAMES;
        let refuse = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        if !(least..=XDP_FRAMES_MAX).contains(&self.frames) {
            return refuse(format!("AF_XDP takes {least} to {XDP_FRAMES_MAX} frames per queue"));
        }
        match self.frame_size {
            None | Some(2048 | 4096) => Ok(()),
            Some(other) => refuse(format!("AF_XDP takes frames of 2048 or 4096 bytes, not {other}")),
        }
    }
}
