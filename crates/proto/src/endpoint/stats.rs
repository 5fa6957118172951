//! Counters of an endpoint, and what it keeps.

/// What happened to datagrams. A datagram that is not delivered to a connection is counted by the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointStats {
    /// Datagrams handed in.
    pub datagrams_received: u64,
    /// Datagrams of connections given out.
    pub datagrams_sent: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Dropped: too short or not a QUIC header.
    pub dropped_malformed: u64,
    /// Dropped: for no connection of this endpoint.
    pub dropped_unknown_cid: u64,
    /// Dropped: an Initial in a datagram below 1,200 bytes (RFC 9000 section 14.1).
    pub dropped_small_initial: u64,
    /// Dropped: an Initial that was not authentic.
    pub dropped_bad_initial: u64,
    /// Dropped: no room, or no time, for more handshakes.
    pub dropped_overload: u64,
    /// Dropped: the source has too many handshakes open.
    pub dropped_source_limit: u64,
    /// Dropped: this endpoint accepts no connections.
    pub dropped_not_server: u64,
    /// Answered with Version Negotiation.
    pub version_negotiations: u64,
    /// Answered with Retry.
    pub retries: u64,
    /// Refused for a token that does not fit (RFC 9000 section 8.1.3).
    pub invalid_tokens: u64,
    /// Answered with a stateless reset.
    pub stateless_resets_sent: u64,
    /// Connections that ended by a stateless reset of the peer.
    pub stateless_resets_received: u64,
    /// Connections given up after a panic in their code.
    pub panics: u64,
}

/// What an endpoint keeps for connections, open, closing and draining ones. Nothing is left of a connection that it has forgotten,
/// but deadlines, which go when they pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Connections.
    pub connections: usize,
    /// Those of clients whose handshake is not done, as they count for the limits.
    pub half_open: usize,
    /// Connection IDs that packets are routed by, those included that clients chose for their first packets.
    pub ids: usize,
    /// Stateless reset tokens of peers.
    pub reset_tokens: usize,
    /// Entries in the queues of deadlines.
    pub deadlines: usize,
}
