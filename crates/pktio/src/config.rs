//! What a worker's backend is made with.

use std::time::Duration;

/// Sizes and options of an [`Io`](crate::Io).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoConfig {
    /// Large frames (64 KiB). At least twice [`RECV_BATCH`](crate::limits::RECV_BATCH): one batch is always with the
    /// kernel. Memory is touched only as far as it is used.
    pub large_frames: usize,
    /// Medium frames (16 KiB).
    pub medium_frames: usize,
    /// Small frames (2 KiB).
    pub small_frames: usize,
    /// Ask for 2 MiB pages for the large frames.
    pub huge_pages: bool,
    /// Bytes to ask for as socket buffers; the system may grant less, see
    /// [`socket_buffers`](crate::Io::socket_buffers).
    pub recv_buffer: usize,
    /// As `recv_buffer`, for sending.
    pub send_buffer: usize,
    /// How long [`wait`](crate::Io::wait) polls before it sleeps. Costs a core while it lasts and saves a wake-up.
    pub busy_poll: Duration,
    /// Use segmentation offload for sending if the system has it.
    pub gso: bool,
}

impl Default for IoConfig {
    /// 16 + 4 + 4 MiB of frames, 4 MiB socket buffers, GSO, no polling.
    ///
    /// 4 MiB is about 3 ms at 10 Gbit/s: the longest a worker should be away in one turn.
    fn default() -> IoConfig {
        IoConfig {
            large_frames: 256,
            medium_frames: 256,
            small_frames: 2048,
            huge_pages: false,
            recv_buffer: 4 << 20,
            send_buffer: 4 << 20,
            busy_poll: Duration::ZERO,
            gso: true,
        }
    }
}
