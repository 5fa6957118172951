//! Settings of the transport, the same for both roles.

use core::time::Duration;
use std::sync::Arc;

use warpline_wire::varint;

use crate::congestion::{CongestionAlgorithm, CustomCongestion};
use crate::error::ConfigError;
use crate::limits::{DATAGRAM_MAX, INITIAL_DATAGRAM_MIN};
use crate::resume::PathMemory;
use crate::streams::stream_share;

/// Settings of the transport. The defaults fill a path of 1 Gbit/s and 100 ms without any setting.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// The connection ends when nothing is heard for this long; `None` for never. The smaller of both sides' counts.
    pub max_idle_timeout: Option<Duration>,
    /// A PING is sent after this long without a packet, so that neither the idle timeout nor a NAT ends the connection.
    pub keep_alive: Option<Duration>,
    /// UDP payload that is sent before path MTU discovery found a larger one, in bytes: 1,200 to `mtu_ceiling`. A value above
    /// 1,200 is a promise that the path carries it.
    pub initial_mtu: u16,
    /// Largest UDP payload that path MTU discovery tries, in bytes, at most 65,527.
    pub mtu_ceiling: u16,
    /// Largest UDP payload that this side takes, in bytes (`max_udp_payload_size`).
    pub receive_mtu: u16,
    /// Bytes that the peer may send on a stream before the application has read any. Grows to `stream_window_max` as the path
    /// needs it. No stream has more than two thirds of the connection's window, so that one which nobody reads leaves
    /// credit to the others.
    pub stream_window: u64,
    /// The bound of that growth. Equal to `stream_window`: no growth.
    pub stream_window_max: u64,
    /// The same for all streams of a connection together.
    pub connection_window: u64,
    /// The bound of that growth.
    pub connection_window_max: u64,
    /// Bidirectional streams that the peer may have open at once.
    pub max_concurrent_bidi: u64,
    /// Unidirectional streams that the peer may have open at once.
    pub max_concurrent_uni: u64,
    /// Bytes that the application may have written on a connection and the peer not yet acknowledged.
    pub send_buffer: u64,
    /// Bytes of received datagrams that wait for the application; `None` refuses DATAGRAM frames (RFC 9221).
    pub datagram_receive_buffer: Option<usize>,
    /// Bytes of datagrams that wait to be sent.
    pub datagram_send_buffer: usize,
    /// The congestion controller.
    pub congestion: CongestionAlgorithm,
    /// Controllers from outside; they take the place of [`congestion`](Self::congestion).
    pub custom_congestion: Option<CustomCongestion>,
    /// What paths are remembered in, so that later connections begin with half of what they carried
    /// (draft-ietf-tsvwg-careful-resume). `None`, the default, for no careful resume. Wants [`pacing`](Self::pacing).
    pub careful_resume: Option<Arc<PathMemory>>,
    /// RTT that is assumed before one was measured (RFC 9002 section 6.2.2).
    pub initial_rtt: Duration,
    /// Longest time between two probes of a peer that does not answer, unless the path itself is slower: one that has come back is not
    /// noticed any later. RFC 9002 section 6.2.1 doubles it without end, as `Duration::MAX` does here.
    pub pto_max: Duration,
    /// Longest time an acknowledgement is held back, below 2^14 ms.
    pub max_ack_delay: Duration,
    /// Marks packets ECT(0) while the path passes the marks (RFC 9000 section 13.4).
    pub ecn: bool,
    /// Spreads packets over the round trip rather than sending a window at once.
    pub pacing: bool,
    /// Clears the fixed bit of packets at random where the peer allows it (RFC 9287).
    pub grease_quic_bit: bool,
    /// Packets that are sealed under one key before this side moves on to the next, at least 16; half of what the cipher allows at
    /// most (RFC 9001 section 6.6), and by default.
    pub packets_per_key: Option<u64>,
    /// Packets that may fail to open before the connection ends, at least 1; what the cipher allows at most (RFC 9001
    /// section 6.6), and by default.
    pub forgeries_max: Option<u64>,
    /// Extensions that are announced to the peer.
    pub extensions: Extensions,
}

/// Extensions of the transport. Each is used only where the peer announces it as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extensions {
    /// Lets the peer say how often it wants its packets acknowledged, and says so to a peer that lets this side
    /// (draft-ietf-quic-ack-frequency).
    pub ack_frequency: bool,
    /// Understands resets that keep the front of a stream (draft-ietf-quic-reliable-stream-reset).
    pub reset_stream_at: bool,
    /// Tells peers the address they are seen at, asks for one's own (draft-ietf-quic-address-discovery).
    pub address_discovery: AddressDiscovery,
}

impl Default for Extensions {
    fn default() -> Self {
        Self { ack_frequency: true, reset_stream_at: true, address_discovery: AddressDiscovery::default() }
    }
}

/// What an endpoint does about observed addresses. The default tells those who ask and asks nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressDiscovery {
    /// Peers that ask are told the address they are seen at. Not for hosts that see their peers behind a proxy.
    pub provide: bool,
    /// Peers are asked. What they say is their word: it takes several of them to be believed.
    pub request: bool,
}

impl Default for AddressDiscovery {
    fn default() -> Self {
        Self { provide: true, request: false }
    }
}

impl AddressDiscovery {
    /// The value of the transport parameter, if one is sent.
    pub(crate) fn parameter(self) -> Option<u64> {
        match (self.provide, self.request) {
            (true, false) => Some(0),
            (false, true) => Some(1),
            (true, true) => Some(2),
            (false, false) => None,
        }
    }
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            max_idle_timeout: Some(Duration::from_secs(30)),
            keep_alive: None,
            initial_mtu: INITIAL_DATAGRAM_MIN as u16,
            mtu_ceiling: 1452,
            receive_mtu: DATAGRAM_MAX,
            stream_window: 1 << 20,
            stream_window_max: 32 << 20,
            connection_window: 3 << 19,
            connection_window_max: 48 << 20,
            max_concurrent_bidi: 100,
            max_concurrent_uni: 100,
            send_buffer: 16 << 20,
            datagram_receive_buffer: Some(1 << 20),
            datagram_send_buffer: 1 << 20,
            congestion: CongestionAlgorithm::default(),
            custom_congestion: None,
            careful_resume: None,
            initial_rtt: Duration::from_millis(333),
            pto_max: Duration::from_secs(3),
            max_ack_delay: Duration::from_millis(25),
            ecn: true,
            pacing: true,
            grease_quic_bit: true,
            packets_per_key: None,
            forgeries_max: None,
            extensions: Extensions::default(),
        }
    }
}

impl TransportConfig {
    /// The window that a new stream is announced with.
    pub(crate) fn first_stream_window(&self) -> u64 {
        self.stream_window.min(stream_share(self.connection_window))
    }

    /// Refuses values that the protocol or this implementation cannot honour.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = |ok: bool, name, why| if ok { Ok(()) } else { Err(ConfigError::OutOfRange { name, why }) };
        let base = INITIAL_DATAGRAM_MIN as u16;
        check(self.initial_mtu >= base, "initial_mtu", "QUIC needs a path of at least 1,200 bytes")?;
        check(self.mtu_ceiling >= self.initial_mtu, "mtu_ceiling", "is below initial_mtu")?;
        check(self.mtu_ceiling <= DATAGRAM_MAX, "mtu_ceiling", "exceeds a UDP payload's 65,527 bytes")?;
        check(self.receive_mtu >= base, "receive_mtu", "QUIC needs at least 1,200 bytes")?;
        check(self.stream_window_max >= self.stream_window, "stream_window_max", "is below stream_window")?;
        check(
            self.connection_window_max >= self.connection_window,
            "connection_window_max",
            "is below connection_window",
        )?;
        check(self.connection_window_max <= varint::MAX, "connection_window_max", "exceeds 2^62 - 1")?;
        check(self.stream_window_max <= varint::MAX, "stream_window_max", "exceeds 2^62 - 1")?;
        check(self.max_concurrent_bidi <= 1 << 60, "max_concurrent_bidi", "exceeds 2^60")?;
        check(self.max_concurrent_uni <= 1 << 60, "max_concurrent_uni", "exceeds 2^60")?;
        check(self.max_ack_delay < Duration::from_millis(1 << 14), "max_ack_delay", "must be below 2^14 ms")?;
        check(self.packets_per_key.is_none_or(|n| n >= 16), "packets_per_key", "must be at least 16")?;
        check(self.forgeries_max.is_none_or(|n| n >= 1), "forgeries_max", "must be at least 1")?;
        check(
            self.careful_resume.is_none() || self.pacing,
            "careful_resume",
            "wants pacing: what it sends must not leave at once",
        )?;
        check(!self.initial_rtt.is_zero(), "initial_rtt", "must not be zero")
    }
}
