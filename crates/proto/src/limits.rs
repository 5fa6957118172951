//! Every bound on what a peer can make this endpoint hold or do, with its reason.

use core::time::Duration;

/// Bytes of CRYPTO data buffered ahead of the read position, per packet number space. RFC 9000 section 7.5 asks for at
/// least 4,096; a certificate chain with post-quantum signatures needs up to 40 KiB.
pub const CRYPTO_BUFFER_MAX: u64 = 64 * 1024;

/// Pieces of CRYPTO data that wait for what is before them, per packet number space. A first flight of 64 KiB is some 50 packets,
/// and clients that scatter their ClientHello on purpose make a dozen pieces of one; each costs 16 bytes here, and the work of
/// putting it in its place.
pub const CRYPTO_PIECES_MAX: usize = 512;

/// Bytes of CRYPTO data accepted in total per space. A handshake is below 64 KiB and a server sends a few tickets;
/// a peer that goes on is flooding.
pub const CRYPTO_TOTAL_MAX: u64 = 512 * 1024;

/// Ranges of received packet numbers that are remembered and reported. Past it the oldest are forgotten: packets in
/// them will be retransmitted, which is the price of a path that loses every other packet (RFC 9000 section 13.2.3).
pub const ACK_RANGES_MAX: usize = 64;

/// Connection IDs of the peer that are kept at once; advertised as `active_connection_id_limit`. Enough for
/// one path, one being probed, and a spare for each (RFC 9000 section 5.1.1 asks for at least 2).
pub const REMOTE_CIDS_MAX: u64 = 5;

/// Connection IDs of ours that are live at once, whatever the peer would take: it bounds the routing table.
pub const LOCAL_CIDS_MAX: u64 = 4;

/// RETIRE_CONNECTION_ID frames that may be outstanding. A peer that raises `retire_prior_to` faster than it
/// acknowledges is attacking (RFC 9000 section 5.1.2; CVE-2025-7054 is the loop this bound excludes).
pub const RETIRE_PENDING_MAX: usize = 16;

/// Ranges of sequence numbers of retired connection IDs that are remembered. A peer that counts as it must (RFC 9000 section 5.1.1)
/// leaves a gap for each ID in use and for each that is still under way; of one that does not, the oldest gaps count as retired.
pub const RETIRED_RANGES_MAX: usize = 16;

/// Shortest delay of acknowledgements that a peer may ask for (`min_ack_delay`): finer than this no timer of a busy worker
/// is (draft-ietf-quic-ack-frequency section 3).
pub const MIN_ACK_DELAY: Duration = Duration::from_millis(1);

/// PATH_RESPONSE frames queued at once: the oldest is dropped, since each answers a probe that the peer repeats.
pub const PATH_RESPONSES_MAX: usize = 4;

/// Bytes a server sends to an unvalidated address, as a multiple of the bytes received (RFC 9000 section 8.1).
pub const AMPLIFICATION_FACTOR: u64 = 3;

/// Smallest UDP payload that carries an ack-eliciting Initial packet (RFC 9000 section 14.1).
pub const INITIAL_DATAGRAM_MIN: usize = 1200;

/// Largest UDP payload ever sent or asked for.
pub const DATAGRAM_MAX: u16 = 65_527;

/// Segments in one GSO train: the kernel's UDP_MAX_SEGMENTS before 6.9.
pub const TRAIN_SEGMENTS_MAX: usize = 64;

/// Connections whose handshake has not completed, per worker. Beyond half of it a server answers with Retry, beyond
/// all of it drops the Initial.
pub const HALF_OPEN_MAX: usize = 4_096;

/// Handshakes of one source, an IPv4 address or an IPv6 network of 64 bits, that may be open at a worker, unless a server's
/// configuration says otherwise. Beyond half of it the source must prove its addresses, beyond all of it its Initials are dropped. A quarter of
/// what a worker takes in all: large networks hide behind one address.
pub const HALF_OPEN_PER_SOURCE: usize = HALF_OPEN_MAX / 4;

/// Buckets in which sources are counted: 8 KiB per worker. With as many as handshakes there may be, hardly any source
/// shares its limit with a busy one.
pub const SOURCE_BUCKETS: usize = 4_096;

/// Datagrams buffered for poll_transmit that belong to no connection (version negotiation, Retry, stateless reset,
/// refusals); more are dropped: each answers a datagram that its sender repeats.
pub const STATELESS_REPLIES_MAX: usize = 256;

/// A stateless reset is sent for one datagram in this many milliseconds per worker, on average (RFC 9000 section 10.3
/// asks to limit the rate).
pub const STATELESS_RESETS_PER_SECOND: u32 = 1_000;

/// Datagrams in a second that may be the reset of a connection at another endpoint of this address, and are told on
/// ([`Endpoint::poll_unclaimed_reset`](crate::Endpoint::poll_unclaimed_reset)); the rest are dropped, as what an attacker makes up is.
pub const UNCLAIMED_RESETS_PER_SECOND: usize = 1_000;

/// Shortest time between two key updates that this endpoint starts or accepts, in multiples of the PTO
/// (RFC 9001 section 6.5).
pub const KEY_UPDATE_PTOS: u32 = 3;

/// Datagrams that are looked through for the peer's CONNECTION_CLOSE after ours was sent: one that says nothing else is
/// shorter, and a peer that goes on sending data does not make this side decrypt it.
pub const CLOSE_ANSWER_LEN_MAX: usize = 256;

/// How long an address validation token from Retry is good for: a handshake's first round trips.
pub const RETRY_TOKEN_LIFETIME: Duration = Duration::from_secs(15);

/// How long a NEW_TOKEN token is good for.
pub const NEW_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Bytes of 0-RTT packets that wait for the rest of a ClientHello that they overtook, per connection: a first flight
/// (RFC 9002 section 7.2), so that reordering costs no round trip.
pub const EARLY_BYTES_MAX: usize = 16 * 1024;

/// Datagrams of 0-RTT packets that wait for their connection's first Initial, per worker. It comes at once or is lost.
pub const EARLY_DATAGRAMS_MAX: usize = 64;

/// How long they wait.
pub const EARLY_WAIT: Duration = Duration::from_millis(500);

/// Largest token stored or sent back. Tokens of known servers are below 256 bytes.
pub const TOKEN_LEN_MAX: usize = 512;

/// Secrets of a fleet that are known at once: the current one, the next, and those before it. Each costs one trial
/// per token shown.
pub const FLEET_SECRETS_MAX: usize = 4;

/// Servers and sessions that a client remembers unless it is told otherwise; about 2 KiB each, and 1 to 4 KiB more for those
/// that outlive the process.
pub const CLIENT_SESSIONS: usize = 10_000;

/// Sessions that a client keeps of one server: as many as it may open connections at once and resume each.
pub const SESSIONS_PER_SERVER: usize = 8;

/// Longest NewSessionTicket message of a session that outlives the process. Tickets of known servers are below 512 bytes, and
/// some 2 KiB where they hold a client's certificates. The session of a longer one lives as long as the process.
pub const TICKET_MESSAGE_MAX: usize = 4096;

/// Longest transport parameters of such a session, which early data obeys; those of known servers are below 256 bytes.
pub const SESSION_PARAMS_MAX: usize = 1024;

/// Certificates and their bytes that are kept of a server with such a session; chains are of two to four, of 1 to 2 KiB each.
pub const CERTIFICATES_MAX: usize = 10;

/// See [`CERTIFICATES_MAX`].
pub const CHAIN_LEN_MAX: usize = 16 << 10;

/// How long a session is good for, whatever the server says: a week (RFC 8446 section 4.6.1).
pub const SESSION_LIFETIME_SECS_MAX: u64 = 7 * 24 * 3600;

/// How far a clock may have been set back since a session came. One from further in the future has no age that can be told.
pub const SESSION_CLOCK_SKEW_SECS: u64 = 60;

/// Bytes of a file of remembered servers: room for [`CLIENT_SESSIONS`] sessions of 5,000 servers with usual chains, with twice
/// as much to spare. What was not used for longest is left out beyond that.
pub const MEMORY_BYTES_MAX: usize = 64 << 20;

/// Address tokens that a client keeps of one server. Each is used once (RFC 9000 section 8.1.3).
pub const TOKENS_PER_SERVER: usize = 4;

/// Bytes of a connection's log that are handed out at once: few writes, and little is lost if the process dies.
pub const QLOG_PIECE: usize = 16 << 10;

/// Bytes of a connection's log that wait to be taken; what comes then is counted and not logged. A caller that takes it every
/// turn never gets there.
pub const QLOG_BUFFER_MAX: usize = 1 << 20;

/// Sessions that a server remembers for clients that come back, unless it is told otherwise; about 0.5 KiB each, more with
/// client certificates.
pub const SERVER_SESSIONS: usize = 10_000;

/// `max_datagram_frame_size` that is announced: any that a UDP datagram carries (RFC 9221 section 3).
pub const DATAGRAM_FRAME_MAX: u64 = 65_535;

/// Paths whose capacity is remembered for careful resume; about 100 bytes each.
pub const PATHS_REMEMBERED: usize = 10_000;

/// A round-trip time more than so many times what it was is another path's (draft-ietf-tsvwg-careful-resume section 4.2.1).
pub const RESUME_RTT_GROWTH: u32 = 10;

/// Initial windows that a path must have carried in a round trip to be remembered: below it a jump gains nothing
/// (draft-ietf-tsvwg-careful-resume section 3.1).
pub const RESUME_WINDOWS_MIN: u64 = 4;
