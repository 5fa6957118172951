//! What a worker's backend is made with.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::limits::SPILL_BYTES;
use crate::xdp::XdpConfig;

/// Which backend to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// The fastest that works here; [`Choice`](crate::Choice) tells which it is and why it is no faster one.
    #[default]
    Auto,
    /// A socket behind an io_uring, or an error.
    Uring,
    /// A plain socket with the system's offloads, or an error.
    Udp,
    /// The queues of the interface that [`IoConfig::xdp`] names, or an error.
    Xdp,
}

impl Backend {
    /// All of them.
    pub const ALL: [Backend; 4] = [Backend::Auto, Backend::Uring, Backend::Udp, Backend::Xdp];

    /// Its name in flags and configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Backend::Auto => "auto",
            Backend::Uring => "uring",
            Backend::Udp => "udp",
            Backend::Xdp => "xdp",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = String;

    /// Fails with the list of names.
    fn from_str(name: &str) -> Result<Backend, String> {
        let known = Backend::ALL.into_iter().find(|backend| backend.name() == name);
        known.ok_or_else(|| format!("there is no back end {name}: auto, uring, udp and xdp are"))
    }
}

/// Sizes and options of an [`Io`](crate::Io).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoConfig {
    /// Which backend to use.
    pub backend: Backend,
    /// The interface whose queues [`Backend::Xdp`] uses, and [`Backend::Auto`] if that works. It takes privileges.
    pub xdp: Option<XdpConfig>,
    /// Large frames (64 KiB). At least twice [`RECV_BATCH`](crate::limits::RECV_BATCH): one batch is always with the
    /// kernel. Memory is touched only as far as it is used.
    pub large_frames: usize,
    /// Medium frames (16 KiB).
    pub medium_frames: usize,
    /// Small frames (2 KiB).
    pub small_frames: usize,
    /// Bytes of heap that received data may take when no frame is free: readers that are slow together hold no more than
    /// the pools and this. Beyond it datagrams are dropped. AF_XDP, whose memory is the interface's, does without.
    pub spill_bytes: usize,
    /// Ask for 2 MiB pages for the large frames.
    pub huge_pages: bool,
    /// The NUMA node that all packet memory is taken from; refused if there is no such node. `None`: that of the network
    /// card for AF_XDP, and otherwise where each worker first touches it.
    pub numa_node: Option<u32>,
    /// Bytes to ask for as socket buffers; the system may grant less, see
    /// [`socket_buffers`](crate::Io::socket_buffers).
    pub recv_buffer: usize,
    /// As `recv_buffer`, for sending.
    pub send_buffer: usize,
    /// How long [`wait`](crate::Io::wait) polls before it sleeps. Costs a core while it lasts and saves a wake-up.
    pub busy_poll: Duration,
    /// With [`Backend::Uring`] only: a kernel thread per worker takes what is to be sent and receives what has arrived,
    /// and falls asleep after being idle for this long (in milliseconds; fractions count as one). Zero for no thread.
    pub sq_poll: Duration,
    /// Use segmentation offload for sending if the system has it.
    pub gso: bool,
}

impl Default for IoConfig {
    /// 16 + 4 + 4 MiB of frames, 256 MiB of heap when they run out, 4 MiB socket buffers, GSO, no polling.
    ///
    /// 4 MiB is about 3 ms at 10 Gbit/s: the longest a worker should be away in one turn.
    fn default() -> IoConfig {
        IoConfig {
            backend: Backend::Auto,
            xdp: None,
            large_frames: 256,
            medium_frames: 256,
            small_frames: 2048,
            spill_bytes: SPILL_BYTES,
            huge_pages: false,
            numa_node: None,
            recv_buffer: 4 << 20,
            send_buffer: 4 << 20,
            busy_poll: Duration::ZERO,
            sq_poll: Duration::ZERO,
            gso: true,
        }
    }
}
