//! Numbers about a connection.

use core::time::Duration;

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
    /// Packets received and authentic.
    pub packets_received: u64,
    /// Packets declared lost.
    pub packets_lost: u64,
    /// Packets declared lost that were acknowledged later.
    pub packets_lost_spuriously: u64,
    /// Received packets that were dropped: not authentic, duplicates, or without keys.
    pub packets_dropped: u64,
    /// Received DATAGRAM frames that the application did not read in time.
    pub datagram_frames_dropped: u64,
    /// Bytes of stream data sent again.
    pub retransmitted_bytes: u64,
    /// ACK frames sent.
    pub acks_sent: u64,
    /// ACK frames received.
    pub acks_received: u64,
    /// Times the congestion window was reduced.
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
}
