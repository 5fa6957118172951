//! One connection: the parts that own its concerns, and the five verbs that drive them.
//!
//! `ingress` takes datagrams, `egress` builds them, `timeout` handles deadlines, `lifecycle` ends the connection,
//! `handshake` moves keys and parameters between TLS and the rest, `api` is what the application calls.

mod ack_frequency;
mod address_discovery;
mod ahead;
mod api;
mod careful_resume;
mod close_frame;
mod control;
mod early;
mod egress;
mod frames;
mod handshake;
mod ingress;
mod ingress_batch;
mod lifecycle;
mod log;
mod loss;
mod migration;
mod open;
mod packet_builder;
mod rest;
mod retry;
mod stats;
mod timeout;
mod timers;
mod train;
mod versions;

use std::collections::VecDeque;
use std::sync::Arc;

use warpline_wire::{ConnectionId, Side, Version};

use self::address_discovery::AddressObservations;
pub use self::early::EarlyData;
use self::handshake::{Handshake, Progress};
use self::lifecycle::Lifecycle;
pub(crate) use self::open::Opening;
pub(crate) use self::packet_builder::{HeaderParts, PacketBuilder};
use self::stats::Counters;
pub use self::stats::{ConnectionStats, PacketDrops};
use self::timers::Timers;
use crate::config::TransportConfig;
use crate::crypto::{Keys, Level};
use crate::datagram::Datagrams;
use crate::endpoint::{ConnectionHandle, Routes};
use crate::event::Event;
use crate::ids::{LocalCids, RemoteCids};
use crate::path::{Path, Responses, Visitor};
use crate::qlog::Log;
use crate::recovery::frequency::AckFrequency;
use crate::space::PacketSpace;
use crate::streams::Streams;
use crate::time::Instant;

/// A QUIC connection without I/O. Made by an [`Endpoint`](crate::Endpoint), which drives it.
///
/// The application's methods are listed first in the documentation; all of them act at once on the connection's state and
/// never block. What they cause to be sent leaves with the endpoint's next `poll_transmit`.
//
// In the order of [`Connection::SHORT`]: what every packet touches lies between the keys and the streams.
#[repr(C)]
pub struct Connection {
    keys: Keys,
    identity: Identity,
    progress: Progress,
    /// Nothing of what [`control`] looks through has a frame to send.
    is_quiet: bool,
    config: Arc<TransportConfig>,
    spaces: Spaces,
    timers: Timers,
    lifecycle: Lifecycle,
    paths: Paths,
    remote_cids: RemoteCids,
    pto: PtoState,
    counters: Counters,
    events: VecDeque<Event>,
    /// What it did, if anybody wants to know.
    log: Option<Box<Log>>,
    handshake: Box<Handshake>,
    local_cids: Box<LocalCids>,
    datagrams: Datagrams,
    streams: Streams,
}

/// What a connection is.
struct Identity {
    side: Side,
    /// The version in use.
    version: Version,
}

/// The packet number spaces; those of the handshake go when their keys do.
struct Spaces {
    initial: Option<Box<PacketSpace>>,
    handshake: Option<Box<PacketSpace>>,
    data: PacketSpace,
}

impl Spaces {
    #[inline]
    fn at(&mut self, level: Level) -> Option<&mut PacketSpace> {
        match level {
            Level::Initial => self.initial.as_deref_mut(),
            Level::Handshake => self.handshake.as_deref_mut(),
            Level::OneRtt => Some(&mut self.data),
        }
    }

    #[inline]
    fn all(&self) -> impl Iterator<Item = &PacketSpace> {
        self.initial.as_deref().into_iter().chain(self.handshake.as_deref()).chain(Some(&self.data))
    }

    #[inline]
    fn bytes_in_flight(&self) -> u64 {
        self.all().map(|s| s.sent.bytes_in_flight()).sum()
    }
}

/// The paths (RFC 9000 section 9).
struct Paths {
    /// The one in use.
    current: Path,
    /// The one before it, while the peer's move is being checked.
    previous: Option<Box<Path>>,
    /// One that this side (a client) checks before it moves there.
    candidate: Option<Box<Path>>,
    /// One that the peer checks before it moves there.
    visitor: Option<Box<Visitor>>,
    responses: Responses,
    /// What each side sees of the other's address, if the peer takes part.
    discovery: Option<Box<AddressObservations>>,
    /// Length of the datagram that is being handled.
    arriving: usize,
    /// Counts the paths that were in use, so that fates of packets of earlier ones are told apart.
    generation: u16,
}

impl Paths {
    fn new(current: Path) -> Self {
        Self {
            current,
            previous: None,
            candidate: None,
            visitor: None,
            responses: Responses::default(),
            discovery: None,
            arriving: 0,
            generation: 0,
        }
    }
}

/// The probe timeout's state (RFC 9002 section 6.2).
#[derive(Default)]
struct PtoState {
    /// Consecutive probe timeouts.
    count: u32,
    /// When a packet was last sent or a probe timeout last expired: what a client's timeout counts from that has nothing in
    /// flight (RFC 9002 section 6.2.2.1).
    since: Instant,
    /// `max_ack_delay` of the peer, in force once the handshake is confirmed; while another is asked for the larger of both
    /// (draft-ietf-quic-ack-frequency section 7).
    peer_max_ack_delay: core::time::Duration,
    /// The peer's `ack_delay_exponent`.
    peer_ack_delay_exponent: u8,
    /// How often the peer is asked to acknowledge, if it takes such wishes.
    frequency: Option<Box<AckFrequency>>,
    /// The peer was asked for something.
    has_wished: bool,
}

impl Connection {
    fn emit(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// True once an authentic packet of the peer was processed.
    pub(crate) fn has_heard(&self) -> bool {
        self.progress.heard
    }

    /// The partition key that all of the connection's IDs carry.
    pub(crate) fn partition_key(&self) -> u16 {
        self.local_cids.key()
    }

    /// Whether packets to the ID that the client chose first still lead here.
    fn has_initial_route(&self) -> bool {
        self.identity.side == Side::Server && !self.progress.confirmed
    }

    /// The IDs that lead here: those issued, and during a server's handshake the one that the client chose.
    pub(crate) fn route_ids(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        let initial = self.has_initial_route().then_some(self.handshake.origin.initial_dcid);
        self.local_cids.active().copied().chain(initial)
    }

    /// Enters the connection's IDs and tokens into an endpoint's tables, as another endpoint's had them.
    pub(crate) fn add_routes(&self, routes: &mut Routes, handle: ConnectionHandle) {
        for cid in self.local_cids.active() {
            routes.insert(cid, handle);
        }
        if self.has_initial_route() {
            routes.insert_initial(self.handshake.origin.initial_dcid, handle);
        }
        if let Some(token) = self.remote_cids.reset_token() {
            routes.insert_reset_token(token, handle);
        }
    }

    /// Takes the connection's IDs and tokens out of the endpoint's tables.
    pub(crate) fn remove_routes(&self, routes: &mut Routes) {
        for cid in self.local_cids.active() {
            routes.remove(cid);
        }
        routes.remove_initial(&self.handshake.origin.first_dcid);
        routes.remove_initial(&self.handshake.origin.initial_dcid);
        if let Some(token) = self.remote_cids.reset_token() {
            routes.remove_reset_token(token);
        }
    }

    /// Something happened that the application may want to know; call until `None`.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| self.streams.poll_event()).or_else(|| self.datagrams.poll_event())
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("side", &self.identity.side)
            .field("remote", &self.paths.current.remote)
            .finish_non_exhaustive()
    }
}
