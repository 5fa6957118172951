//! Numbers about a connection.

use core::time::Duration;

use crate::congestion::ResumeState;
use crate::qlog::Trigger;

/// Counters and the state of the path. Bytes are UDP payload bytes unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionStats {
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets received, authentic and not dropped.
    pub packets_received: u64,
    /// Packets declared lost.
    pub packets_lost: u64,
    /// Packets declared lost that were acknowledged later.
    pub packets_lost_spuriously: u64,
    /// Received packets that were dropped, for whatever reason.
    pub packets_dropped: u64,
    /// The same by reason.
    pub drops: PacketDrops,
    /// Received DATAGRAM frames that the application did not read in time.
    pub datagram_frames_dropped: u64,
    /// Bytes of stream data sent again.
    pub retransmitted_bytes: u64,
    /// ACK frames sent.
    pub acks_sent: u64,
    /// ACK frames received.
    pub acks_received: u64,
    /// Times that losses or marks called for less: one for all packets that were under way (RFC 9002 section 7.3.2), and one
    /// for each persistent congestion.
    pub congestion_events: u64,
    /// Probe timeouts.
    pub probe_timeouts: u64,
    /// Key updates, started here or by the peer.
    pub key_updates: u64,
    /// Times that the path could have taken more but the application had nothing.
    pub app_limited: u64,
    /// Smoothed RTT.
    pub rtt: Duration,
    /// Smallest RTT.
    pub min_rtt: Duration,
    /// Congestion window in bytes.
    pub cwnd: u64,
    /// Bytes sent and neither acknowledged nor lost.
    pub bytes_in_flight: u64,
    /// UDP payload that the path carries, in bytes.
    pub mtu: u16,
    /// Where careful resume stands, if it is on.
    pub careful_resume: Option<ResumeState>,
}

/// What is counted of a connection.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) datagrams_sent: u64,
    pub(super) bytes_sent: u64,
    pub(super) datagrams_received: u64,
    pub(super) bytes_received: u64,
    pub(super) packets_sent: u64,
    pub(super) packets_received: u64,
    pub(super) acks_sent: u64,
    pub(super) acks_received: u64,
    pub(super) app_limited: u64,
    /// Away from what every packet counts.
    pub(super) rare: Box<RareCounters>,
}

/// What is counted now and then.
#[derive(Debug, Default)]
pub(super) struct RareCounters {
    pub(super) packets_lost: u64,
    pub(super) packets_lost_spuriously: u64,
    pub(super) packets_dropped: u64,
    pub(super) drops: PacketDrops,
    pub(super) congestion_events: u64,
    pub(super) probe_timeouts: u64,
    pub(super) key_updates: u64,
}

impl Counters {
    /// All that is counted here.
    pub(super) fn snapshot(&self) -> ConnectionStats {
        ConnectionStats {
            datagrams_sent: self.datagrams_sent,
            bytes_sent: self.bytes_sent,
            datagrams_received: self.datagrams_received,
            bytes_received: self.bytes_received,
            packets_sent: self.packets_sent,
            packets_received: self.packets_received,
            packets_lost: self.rare.packets_lost,
            packets_lost_spuriously: self.rare.packets_lost_spuriously,
            packets_dropped: self.rare.packets_dropped,
            drops: self.rare.drops,
            acks_sent: self.acks_sent,
            acks_received: self.acks_received,
            congestion_events: self.rare.congestion_events,
            probe_timeouts: self.rare.probe_timeouts,
            key_updates: self.rare.key_updates,
            app_limited: self.app_limited,
            ..ConnectionStats::default()
        }
    }
}

/// Received packets that were dropped, by reason; whole datagrams count as one. Datagrams that lead to no connection are in
/// [`EndpointStats`](crate::EndpointStats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketDrops {
    /// From an address that is not the peer's, during the handshake or where the peer must not move.
    pub foreign_address: u64,
    /// No packet, cut off, or with bits that no packet has.
    pub malformed: u64,
    /// Of a version that is not the connection's.
    pub unknown_version: u64,
    /// An Initial packet in a datagram that is too small (RFC 9000 section 14.1).
    pub small_initial: u64,
    /// Not at this moment, or not from this side: Retry and Version Negotiation that were not asked for, tokens of servers.
    pub unexpected: u64,
    /// Its keys are not there: not yet, or no more.
    pub no_keys: u64,
    /// Received before.
    pub duplicate: u64,
    /// It did not open: damaged, forged or of another connection.
    pub not_authentic: u64,
}

/// Why a packet is dropped.
#[derive(Clone, Copy, Debug)]
pub(super) enum DropReason {
    ForeignAddress,
    Malformed,
    UnknownVersion,
    SmallInitial,
    Unexpected,
    NoKeys,
    Duplicate,
    NotAuthentic,
}

impl DropReason {
    /// The name in a log (draft-ietf-quic-qlog-quic-events, "packet_dropped").
    pub(super) fn trigger(self) -> Trigger {
        match self {
            Self::ForeignAddress => "rejected",
            Self::Malformed | Self::SmallInitial => "invalid",
            Self::UnknownVersion => "unsupported_version",
            Self::Unexpected => "unexpected_packet",
            Self::NoKeys => "key_unavailable",
            Self::Duplicate => "duplicate",
            Self::NotAuthentic => "decryption_failure",
        }
    }
}

impl PacketDrops {
    /// Adds those of another connection.
    pub(crate) fn add(&mut self, other: &Self) {
        self.foreign_address += other.foreign_address;
        self.malformed += other.malformed;
        self.unknown_version += other.unknown_version;
        self.small_initial += other.small_initial;
        self.unexpected += other.unexpected;
        self.no_keys += other.no_keys;
        self.duplicate += other.duplicate;
        self.not_authentic += other.not_authentic;
    }

    pub(super) fn count(&mut self, reason: DropReason) {
        let counter = match reason {
            DropReason::ForeignAddress => &mut self.foreign_address,
            DropReason::Malformed => &mut self.malformed,
            DropReason::UnknownVersion => &mut self.unknown_version,
            DropReason::SmallInitial => &mut self.small_initial,
            DropReason::Unexpected => &mut self.unexpected,
            DropReason::NoKeys => &mut self.no_keys,
            DropReason::Duplicate => &mut self.duplicate,
            DropReason::NotAuthentic => &mut self.not_authentic,
        };
        *counter += 1;
    }
}
