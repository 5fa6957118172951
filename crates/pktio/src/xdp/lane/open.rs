//! Making a queue's memory and its socket.

use std::io;
use std::sync::Arc;

use warpline_frame::Frame;

use super::super::checksums::{self, Demand, Offload};
use super::super::config::{XdpChecksums, XdpConfig, XdpMode, XdpModes};
use super::super::device::SINGLE_BUFFER_MTU;
use super::super::jumbo::Jumbo;
use super::super::socket::{BindTo, Socket, until_released};
use super::super::umem::{KERNEL_HEADROOM, Umem};
use super::Lane;
use crate::limits::{XDP_GUEST_FRAMES, XDP_RECV_BATCH, XDP_TX_FRAMES};

/// Packets that are handed to the kernel together when it polls busily.
const BUSY_POLL_USECS: u32 = 20;

/// What the memory of a queue is made for.
#[derive(Debug, Clone, Copy)]
pub(in crate::xdp) struct Plot {
    pub(in crate::xdp) queue: u32,
    /// Workers without a queue of their own, for which this queue's worker may have to send at a time.
    pub(in crate::xdp) guests: usize,
    /// The NUMA node to take memory from.
    pub(in crate::xdp) node: Option<u32>,
    pub(in crate::xdp) mtu: usize,
}

/// How a lane came to its mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::xdp) struct Opened {
    pub(in crate::xdp) mode: XdpMode,
    pub(in crate::xdp) why: String,
    /// Who computes checksums.
    pub(in crate::xdp) checksums: &'static str,
    /// What became of the wish for busy polling; `None` without one.
    pub(in crate::xdp) polling: Option<&'static str>,
}

impl Lane {
    /// Makes the memory of a queue, with frames for so many guests; there is no socket yet. Fails as mapping does.
    pub(in crate::xdp) fn new(plot: Plot, config: &XdpConfig) -> io::Result<Lane> {
        let Plot { queue, guests, node, mtu } = plot;
        // With two VLAN tags in front of it and the kernel's headroom; on virtual interfaces the kernel also needs room
        // for its own record (`skb_shared_info`, 320 bytes) behind it.
        let small = KERNEL_HEADROOM + 22 + mtu <= 2048;
        let frame_size = match config.frame_size {
            Some(2048) if !small => {
                let what = format!("frames of 2048 bytes are too small for an MTU of {mtu}: it takes 4096");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            Some(size) => size,
            None => {
                if small {
                    2048
                } else {
                    4096
                }
            }
        };
        let jumbo = (mtu > SINGLE_BUFFER_MTU).then(|| Jumbo::new(mtu, node)).transpose()?;
        // Guests build packets of several frames elsewhere.
        let lent = if jumbo.is_some() { 0 } else { guests * XDP_GUEST_FRAMES };
        let mut umem = Umem::new(frame_size, config.frames + lent, node)?;
        let tx_free: Vec<Frame> = std::iter::from_fn(|| umem.take()).take(XDP_TX_FRAMES + lent).collect();
        Ok(Lane {
            socket: None,
            umem,
            jumbo,
            partial: None,
            queue,
            tx_free,
            batch: Vec::with_capacity(XDP_RECV_BATCH),
            guests: Vec::with_capacity(guests),
            host: Arc::default(),
            guests_max: guests,
            owed: 0,
            busy_poll: false,
            blocked: false,
            starved: false,
            held_back: false,
        })
    }

    /// Binds a socket, zero-copy first if the modes allow it. Fails as bind(2) does.
    pub(in crate::xdp) fn open(&mut self, ifindex: u32, native: bool, config: &XdpConfig) -> io::Result<Opened> {
        let (queue, multi_buffer) = (self.queue, self.jumbo.is_some());
        let bind = |zero_copy| {
            let (interface, wanted) = (config.interface, config.checksums);
            let demand = Demand { interface, wanted, zero_copy, several_frames: multi_buffer };
            let (checksums, who) = checksums::choose(demand)?;
            let socket = Socket::new(&self.umem, BindTo { ifindex, queue, zero_copy, multi_buffer, checksums })?;
            let is_old = checksums != Offload::Own && !socket.finishes_checksums();
            if is_old && wanted != XdpChecksums::Best {
                return Err(checksums::refusal("the kernel is older than 6.8"));
            }
            let who = if is_old { "checksums computed here: the kernel is older than 6.8" } else { who };
            io::Result::Ok((socket, who))
        };
        let copy = if native { XdpMode::Copy } else { XdpMode::Generic };
        let ((socket, checksums), mode, why) = match config.modes {
            XdpModes::Best | XdpModes::ZeroCopy if native => match bind(true) {
                Ok(bound) => (bound, XdpMode::ZeroCopy, "the driver has zero-copy".to_owned()),
                Err(error) if config.modes == XdpModes::Best && lacks_zero_copy(&error) => {
                    // Until the socket of the first try is gone its memory counts against the limit, too.
                    let bound = until_released(|error| error.kind() == io::ErrorKind::OutOfMemory, || bind(false))?;
                    (bound, copy, format!("the driver has no zero-copy ({error})"))
                }
                Err(error) => return Err(error),
            },
            XdpModes::ZeroCopy => {
                let what = "zero-copy was asked for, and the program does not run in the driver";
                return Err(io::Error::new(io::ErrorKind::Unsupported, what));
            }
            XdpModes::Best | XdpModes::Generic => (bind(false)?, copy, String::new()),
            XdpModes::Copy => (bind(false)?, copy, "copy mode was asked for".to_owned()),
        };
        let mut polling = None;
        if config.busy_poll_budget > 0 {
            socket.prefer_busy_poll(BUSY_POLL_USECS, config.busy_poll_budget.into())?;
            self.busy_poll = true;
            polling = Some(if socket.can_poll_busily() {
                "busy polling"
            } else {
                "no busy polling yet: the driver does not say by which NAPI the queue runs (before Linux 6.14 packets do)"
            });
        }
        self.socket = Some(socket);
        self.blocked = false;
        self.refill();
        Ok(Opened { mode, why, checksums, polling })
    }
}

/// What drivers answer that have no zero-copy, or not for this size of frames or this queue; also that it would not come with
/// the checksums that were asked for.
fn lacks_zero_copy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENXIO | libc::ENOENT))
}
