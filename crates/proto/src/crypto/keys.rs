//! Packet protection keys of a connection, per level, and key update (RFC 9001 sections 4.9 and 6).

use rustls::quic::{HeaderProtectionKey, PacketKey, PacketKeySet, Secrets};

use super::packet;
use crate::time::Instant;

/// Keys of one of the levels that are not updated: Initial and Handshake.
pub(crate) type LevelKeys = rustls::quic::Keys;

/// The keys that a connection holds.
#[derive(Default)]
pub(crate) struct Keys {
    pub(crate) initial: Option<Box<LevelKeys>>,
    pub(crate) handshake: Option<Box<LevelKeys>>,
    pub(crate) one_rtt: Option<Box<OneRttKeys>>,
    /// Packets that failed to open, over all keys (RFC 9001 section 6.6).
    pub(crate) failed_opens: u64,
}

/// What opening a 1-RTT packet brought.
pub(crate) struct Opened {
    /// Length of the payload, which starts behind the header.
    pub(crate) payload_len: usize,
    /// The peer used the next generation of keys: a key update happened.
    pub(crate) updated: bool,
}

/// 1-RTT keys: the current generation, the previous one for packets that were under way, and the next on demand.
pub(crate) struct OneRttKeys {
    pub(crate) local_header: Box<dyn HeaderProtectionKey>,
    pub(crate) remote_header: Box<dyn HeaderProtectionKey>,
    current: PacketKeySet,
    previous: Option<Previous>,
    /// Made when a packet first shows the other phase, or when this side is about to update: an idle connection
    /// need not hold a second set of keys.
    next: Option<PacketKeySet>,
    secrets: Secrets,
    phase: bool,
    /// Lowest packet number received in the current phase; `None` until one arrived.
    first_received: Option<u64>,
    /// First packet number sent in the current phase.
    first_sent: u64,
    sealed: u64,
    not_before: Instant,
}

struct Previous {
    remote: Box<dyn PacketKey>,
    /// Packets of the previous phase are below this number.
    end: u64,
}

impl OneRttKeys {
    pub(crate) fn new(keys: LevelKeys, secrets: Secrets) -> Self {
        Self {
            local_header: keys.local.header,
            remote_header: keys.remote.header,
            current: PacketKeySet { local: keys.local.packet, remote: keys.remote.packet },
            previous: None,
            next: None,
            secrets,
            phase: false,
            first_received: None,
            first_sent: 0,
            sealed: 0,
            not_before: Instant::default(),
        }
    }

    /// Key phase bit of packets sent now.
    #[inline]
    pub(crate) fn phase(&self) -> bool {
        self.phase
    }

    /// Seals a 1-RTT packet; see [`packet::seal`].
    #[inline]
    pub(crate) fn seal(&mut self, bytes: &mut [u8], pn_at: usize, pn: (u64, usize)) {
        self.sealed += 1;
        packet::seal(&*self.current.local, &*self.local_header, bytes, pn_at, pn);
    }

    /// Opens a packet whose header is unmasked. `None`: not authentic under the keys that its phase and number call for.
    #[inline]
    pub(crate) fn open(&mut self, phase: bool, bytes: &mut [u8], header_len: usize, number: u64) -> Option<Opened> {
        if phase == self.phase {
            let payload_len = packet::open(&*self.current.remote, bytes, header_len, number)?;
            if self.first_received.is_none_or(|first| number < first) {
                self.first_received = Some(number);
                if let Some(previous) = &mut self.previous {
                    previous.end = number;
                }
            }
            return Some(Opened { payload_len, updated: false });
        }
        // RFC 9001 section 6.5: a lower number than any of the current phase belongs to the previous one.
        if let Some(previous) = self.previous.as_ref().filter(|p| number < p.end) {
            let payload_len = packet::open(&*previous.remote, bytes, header_len, number)?;
            return Some(Opened { payload_len, updated: false });
        }
        if self.first_received.is_some_and(|first| number < first) {
            return None;
        }
        let next = self.next.get_or_insert_with(|| self.secrets.next_packet_keys());
        let payload_len = packet::open(&*next.remote, bytes, header_len, number)?;
        Some(Opened { payload_len, updated: true })
    }

    /// Moves to the next generation because the peer did, with packet `number`.
    ///
    /// Returns false when the peer updated again before this side's packets of the last phase were acknowledged, which is
    /// a KEY_UPDATE_ERROR (RFC 9001 section 6.2).
    pub(crate) fn follow(&mut self, number: u64, next_pn: u64, largest_acked: Option<u64>) -> bool {
        if self.phase_count_started() && !self.may_update(largest_acked) {
            return false;
        }
        self.advance(next_pn);
        self.first_received = Some(number);
        if let Some(previous) = &mut self.previous {
            previous.end = number;
        }
        true
    }

    /// Starts a key update with the next packet to send, `next_pn`, if RFC 9001 section 6.1 allows one now.
    pub(crate) fn initiate(&mut self, now: Instant, next_pn: u64, largest_acked: Option<u64>) -> bool {
        if now < self.not_before || self.previous.is_some() || !self.may_update(largest_acked) {
            return false;
        }
        self.advance(next_pn);
        self.first_received = None;
        true
    }

    /// True when a packet of the current phase was acknowledged (RFC 9001 section 6.1).
    fn may_update(&self, largest_acked: Option<u64>) -> bool {
        largest_acked.is_some_and(|acked| acked >= self.first_sent)
    }

    fn phase_count_started(&self) -> bool {
        self.first_sent > 0
    }

    fn advance(&mut self, next_pn: u64) {
        let next = self.next.take().unwrap_or_else(|| self.secrets.next_packet_keys());
        let old = std::mem::replace(&mut self.current, next);
        self.previous = Some(Previous { remote: old.remote, end: u64::MAX });
        self.phase = !self.phase;
        self.first_sent = next_pn;
        self.sealed = 0;
    }

    /// Drops the keys of the previous phase; no further update before `not_before`.
    pub(crate) fn forget_previous(&mut self, not_before: Instant) {
        self.previous = None;
        self.not_before = not_before;
    }

    /// True when so many packets were sealed that an update is due (RFC 9001 section 6.6), with room to spare.
    #[inline]
    pub(crate) fn update_due(&self) -> bool {
        self.sealed >= self.current.local.confidentiality_limit() / 2
    }

    /// True when no further packet may be sealed with these keys.
    pub(crate) fn exhausted(&self) -> bool {
        self.sealed >= self.current.local.confidentiality_limit()
    }

    /// Packets that may fail to open before the connection must end.
    pub(crate) fn integrity_limit(&self) -> u64 {
        self.current.remote.integrity_limit()
    }
}
