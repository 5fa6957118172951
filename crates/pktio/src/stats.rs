//! What a backend counts.

use std::sync::Arc;

use warpline_ring::Counters;

/// How many counters there are.
const COUNT: usize = 16;

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
}

/// The counters of one backend, read from any thread.
#[derive(Debug, Clone, Default)]
pub struct StatsHandle(Arc<Counters<COUNT>>);

impl StatsHandle {
    /// For the one writer, the backend.
    #[inline]
    pub(crate) fn add(&self, stat: Stat, n: usize) {
        self.0.add(stat as usize, n as u64);
    }

    /// The values now.
    pub fn snapshot(&self) -> IoStats {
        let value = self.0.snapshot();
        let of = |stat: Stat| value[stat as usize];
        IoStats {
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
        }
    }
}

/// A snapshot of a backend's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoStats {
    /// System calls that receive.
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
    /// Datagrams dropped because no frame was free: the program reads too slowly.
    pub drop_rx_no_memory: u64,
    /// Datagrams dropped because they exceed the interface's MTU (`EMSGSIZE`), as path MTU probes may.
    pub drop_tx_too_big: u64,
    /// Datagrams dropped because the system refuses to send them: no route, filtered, address gone.
    pub drop_tx_refused: u64,
}
