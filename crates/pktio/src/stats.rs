//! What a backend counts.

use std::sync::{Arc, OnceLock};

use warpline_frame::Spill;
use warpline_ring::{Counter, Counters, Lock};

use crate::kind::IoKind;
use crate::select::Choice;
use crate::xdp::{XdpCounters, XdpFrames, XdpStatus};

/// How many counters there are.
const COUNT: usize = 20;
/// Places of frames, in the order of [`XdpFrames`].
const PLACES: usize = 6;
/// What the kernel counts, in the order of [`XdpCounters`].
const KERNEL: usize = 4;

/// The counters, in the order of [`IoStats`].
#[derive(Clone, Copy)]
pub(crate) enum Stat {
    RecvCalls,
    SendCalls,
    WaitCalls,
    RxDatagrams,
    RxBytes,
    RxTrains,
    RxCopied,
    TxDatagrams,
    TxBytes,
    TxTrains,
    TxBlocked,
    GsoRefused,
    DropRxTruncated,
    DropRxNoMemory,
    DropTxTooBig,
    DropTxRefused,
    RxStarved,
    RxByKernel,
    TxByKernel,
    RxSpilled,
}

/// What one backend tells, to any thread: its counters and why it was taken.
#[derive(Debug, Clone)]
pub struct StatsHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    counters: Counters<COUNT>,
    kind: IoKind,
    why: OnceLock<String>,
    /// Where data goes that pools have no frame for, where there are pools.
    spill: OnceLock<Spill>,
    /// Of AF_XDP: how the interface is used now. Written when that changes, which is rare.
    xdp: Lock<Option<XdpStatus>>,
    /// Of AF_XDP: where the frames are. All zero for other back ends.
    frames: [Counter; PLACES],
    /// Of AF_XDP: what the kernel counted. All zero for other back ends.
    kernel: [Counter; KERNEL],
}

impl StatsHandle {
    pub(crate) fn new(kind: IoKind) -> StatsHandle {
        StatsHandle(Arc::new(Shared {
            counters: Counters::new(),
            kind,
            why: OnceLock::new(),
            spill: OnceLock::new(),
            xdp: Lock::default(),
            frames: Default::default(),
            kernel: Default::default(),
        }))
    }

    /// Counts what is in `spill`, too.
    pub(crate) fn watching(self, spill: &Spill) -> StatsHandle {
        self.0.spill.get_or_init(|| spill.clone());
        self
    }

    /// Says why the backend was taken; the first reason counts.
    #[cfg(target_os = "linux")]
    pub(crate) fn explain(&self, why: &str) {
        self.0.why.get_or_init(|| why.to_owned());
    }

    /// Says how the interface is used.
    #[cfg(target_os = "linux")]
    pub(crate) fn set_xdp_status(&self, status: &XdpStatus) {
        *self.0.xdp.lock() = Some(status.clone());
    }

    /// How AF_XDP uses its interface now; `None` for other backends.
    #[must_use]
    pub fn xdp_status(&self) -> Option<XdpStatus> {
        self.0.xdp.lock().clone()
    }

    /// Says where the frames are.
    #[cfg(target_os = "linux")]
    pub(crate) fn set_xdp_frames(&self, frames: &XdpFrames) {
        let XdpFrames { free, receiving, sending, kept, with_program, capacity } = *frames;
        for (gauge, value) in self.0.frames.iter().zip([free, receiving, sending, kept, with_program, capacity]) {
            gauge.set(value as u64);
        }
    }

    /// Where the frames of AF_XDP were when the worker last went to sleep or looked around (every 64th call); `None`
    /// for other backends. While the worker writes them they may not add up.
    #[must_use]
    pub fn xdp_frames(&self) -> Option<XdpFrames> {
        let [free, receiving, sending, kept, with_program, capacity] =
            std::array::from_fn(|place| self.0.frames[place].value() as usize);
        let frames = XdpFrames { free, receiving, sending, kept, with_program, capacity };
        (capacity > 0).then_some(frames)
    }

    /// Says what the kernel counted.
    #[cfg(target_os = "linux")]
    pub(crate) fn set_xdp_counters(&self, counters: &XdpCounters) {
        let XdpCounters { rx_dropped, rx_ring_full, fill_ring_empty, invalid_descriptors } = *counters;
        let values = [rx_dropped, rx_ring_full, fill_ring_empty, invalid_descriptors];
        self.0.kernel.iter().zip(values).for_each(|(gauge, value)| gauge.set(value));
    }

    /// What the kernel had counted on the queues of AF_XDP when the worker last looked, about a second ago while it works;
    /// zeros for other backends.
    #[must_use]
    pub fn xdp_counters(&self) -> XdpCounters {
        let [rx_dropped, rx_ring_full, fill_ring_empty, invalid_descriptors] =
            std::array::from_fn(|index| self.0.kernel[index].value());
        XdpCounters { rx_dropped, rx_ring_full, fill_ring_empty, invalid_descriptors }
    }

    /// Which backend it is, and why no faster one.
    #[must_use]
    pub fn choice(&self) -> Choice {
        Choice { kind: self.0.kind, why: self.0.why.get().map_or("asked for", String::as_str).to_owned() }
    }

    /// For the one writer, the backend.
    #[inline]
    pub(crate) fn add(&self, stat: Stat, n: usize) {
        self.0.counters.add(stat as usize, n as u64);
    }

    /// The values now.
    pub fn snapshot(&self) -> IoStats {
        let value = self.0.counters.snapshot();
        let of = |stat: Stat| value[stat as usize];
        IoStats {
            kind: self.0.kind,
            recv_calls: of(Stat::RecvCalls),
            send_calls: of(Stat::SendCalls),
            wait_calls: of(Stat::WaitCalls),
            rx_datagrams: of(Stat::RxDatagrams),
            rx_bytes: of(Stat::RxBytes),
            rx_trains: of(Stat::RxTrains),
            rx_copied: of(Stat::RxCopied),
            tx_datagrams: of(Stat::TxDatagrams),
            tx_bytes: of(Stat::TxBytes),
            tx_trains: of(Stat::TxTrains),
            tx_blocked: of(Stat::TxBlocked),
            gso_refused: of(Stat::GsoRefused),
            drop_rx_truncated: of(Stat::DropRxTruncated),
            drop_rx_no_memory: of(Stat::DropRxNoMemory),
            drop_tx_too_big: of(Stat::DropTxTooBig),
            drop_tx_refused: of(Stat::DropTxRefused),
            rx_starved: of(Stat::RxStarved),
            rx_by_kernel: of(Stat::RxByKernel),
            tx_by_kernel: of(Stat::TxByKernel),
            rx_spilled: of(Stat::RxSpilled),
            spilled_bytes: self.0.spill.get().map_or(0, Spill::used) as u64,
        }
    }
}

/// A snapshot of a backend's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoStats {
    /// Which backend it is.
    pub kind: IoKind,
    /// System calls that receive. On an io_uring a call does whatever there is to do, and is counted once, by what it
    /// was made for.
    pub recv_calls: u64,
    /// System calls that send.
    pub send_calls: u64,
    /// System calls that wait or look whether there is something.
    pub wait_calls: u64,
    /// Datagrams received and handed on.
    pub rx_datagrams: u64,
    /// Their bytes of UDP payload.
    pub rx_bytes: u64,
    /// Messages of the kernel that carried them: `rx_datagrams / rx_trains` is the average GRO train.
    pub rx_trains: u64,
    /// Messages that were copied out of large frames.
    pub rx_copied: u64,
    /// Datagrams sent.
    pub tx_datagrams: u64,
    /// Their bytes of UDP payload.
    pub tx_bytes: u64,
    /// Messages to the kernel that carried them: `tx_datagrams / tx_trains` is the average GSO train.
    pub tx_trains: u64,
    /// Send calls that found no room; what they had to send was kept.
    pub tx_blocked: u64,
    /// Trains that the kernel refused and that went out as single datagrams; see
    /// [`Io::gso_segments_max`](crate::Io::gso_segments_max) for whether GSO was given up.
    pub gso_refused: u64,
    /// Messages dropped because they did not fit the buffer, or were empty.
    pub drop_rx_truncated: u64,
    /// Datagrams dropped because no frame was free and the heap's share was used up: the program reads too slowly.
    pub drop_rx_no_memory: u64,
    /// Datagrams dropped because they exceed the interface's MTU (`EMSGSIZE`), as path MTU probes may.
    pub drop_tx_too_big: u64,
    /// Datagrams dropped because the system refuses to send them: no route, filtered, address gone.
    pub drop_tx_refused: u64,
    /// How often the kernel had no buffer left to receive into and was given new ones; nothing is lost by that unless
    /// the socket's buffer fills up meanwhile.
    pub rx_starved: u64,
    /// Of the datagrams received: those that on AF_XDP came by way of the kernel's socket.
    pub rx_by_kernel: u64,
    /// Datagrams that on AF_XDP were left to the kernel's socket to send.
    pub tx_by_kernel: u64,
    /// Datagrams that were copied to the heap because no frame was free: the program reads more slowly than peers send, or
    /// peers are slow to acknowledge what is sent from received data.
    pub rx_spilled: u64,
    /// Bytes of heap that such datagrams hold now, at most [`IoConfig::spill_bytes`](crate::IoConfig::spill_bytes).
    pub spilled_bytes: u64,
}

impl IoStats {
    /// All system calls of the backend.
    #[must_use]
    pub fn syscalls(&self) -> u64 {
        self.recv_calls + self.send_calls + self.wait_calls
    }
}
