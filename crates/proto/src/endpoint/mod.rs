//! All connections of one worker: routing, accepting, stateless replies, timers, and the five verbs that drive them.

mod accept;
mod ahead;
mod deadlines;
mod early;
mod gradual;
mod half_open;
mod moving;
mod routes;
mod slots;
mod stateless;
mod stats;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::ServerName;
use warpline_frame::Frame as Memory;
use warpline_wire::{Version, cid, header};

use self::accept::Unclaimed;
pub use self::ahead::Fetch;
use self::deadlines::Deadlines;
use self::early::EarlyDatagrams;
use self::half_open::HalfOpen;
pub use self::moving::{Detached, RouteChange};
pub(crate) use self::routes::Routes;
pub use self::slots::ConnectionHandle;
use self::slots::Slots;
use self::stateless::StatelessReplies;
pub use self::stats::{EndpointStats, Kept};
use crate::config::{ClientConfig, EndpointConfig, ServerConfig};
use crate::connection::{Connection, Opening, PacketDrops};
use crate::cx::Cx;
use crate::datagram_meta::{DatagramMeta, Transmit};
use crate::error::{ConfigError, ConnectError, MigrateError};
use crate::event::Event;
use crate::ids::{self, CidGenerator, QuicLb};
use crate::qlog::LogPiece;
use crate::resume::ServerKey;
use crate::rng::Rng;
use crate::sent_frame::SentFrame;
use crate::time::Instant;

/// How hard it is to keep up with what arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is time for everything.
    #[default]
    None,
    /// Clients must prove their addresses before they get anything, unless the configuration forbids to ask.
    Validate,
    /// No connection is accepted: Initials that begin one are dropped unread. Those that there are get everything.
    Shed,
}

/// All connections of one worker.
///
/// Five verbs drive it, and nothing else makes it act: [`handle_datagram`](Self::handle_datagram),
/// [`handle_timeout`](Self::handle_timeout), [`poll_transmit`](Self::poll_transmit), [`poll_event`](Self::poll_event),
/// [`next_timeout`](Self::next_timeout). A turn of a worker hands in all datagrams that arrived, handles the timeouts that
/// are due, polls the events, lets the application act, and then polls transmits until there are none; only then does
/// `next_timeout` say how long to sleep.
pub struct Endpoint {
    config: Arc<EndpointConfig>,
    server: Option<Arc<ServerConfig>>,
    rng: Rng,
    routes: Routes,
    slots: Slots,
    deadlines: Deadlines,
    /// Connections that may have something to send.
    sendable: VecDeque<u32>,
    /// Connections that may have events.
    eventful: VecDeque<u32>,
    replies: StatelessReplies,
    unclaimed: Unclaimed,
    /// Parts of logs, to be taken.
    logs: VecDeque<LogPiece>,
    early: EarlyDatagrams,
    half_open: HalfOpen,
    /// How hard it is to keep up.
    pressure: Pressure,
    closing: bool,
    /// Slots for the IDs of connections that this endpoint opens; any slot if empty.
    own_slots: Vec<u16>,
    /// The connection whose code runs, for the time of the call.
    active: Option<ConnectionHandle>,
    stats: EndpointStats,
    /// Of connections that have gone.
    drops: PacketDrops,
    /// See [`Cx`].
    settled: Vec<SentFrame>,
}

impl Endpoint {
    /// An endpoint; with `server` it accepts connections. Randomness comes from `seed`: secret in production.
    pub fn new(config: Arc<EndpointConfig>, server: Option<Arc<ServerConfig>>, seed: [u8; 32]) -> Self {
        let mut rng = Rng::new(seed);
        let half_open = HalfOpen::new(rng.u64());
        let routes = Routes::new(rng.u64(), CidGenerator::new(config.quic_lb.clone(), config.mark));
        Self {
            config,
            server,
            rng,
            routes,
            slots: Slots::default(),
            deadlines: Deadlines::default(),
            sendable: VecDeque::new(),
            eventful: VecDeque::new(),
            replies: StatelessReplies::default(),
            unclaimed: Unclaimed::default(),
            logs: VecDeque::new(),
            early: EarlyDatagrams::default(),
            half_open,
            pressure: Pressure::None,
            closing: false,
            own_slots: Vec::new(),
            active: None,
            stats: EndpointStats::default(),
            drops: PacketDrops::default(),
            settled: Vec::new(),
        }
    }

    /// Handles one datagram, opened in the memory it arrived in. Whatever of it the application will read stays there.
    #[inline]
    pub fn handle_datagram(&mut self, now: Instant, meta: &DatagramMeta, memory: &mut Memory) {
        self.stats.datagrams_received += 1;
        let found = match header::short_dcid(memory, self.routes.cid_len()) {
            Some(dcid) => self.routes.find(dcid),
            None => self.find_by_long_header(memory),
        };
        match found {
            Some(handle) => self.deliver(now, meta, std::slice::from_mut(memory), handle),
            None => self.handle_unrouted(now, meta, memory),
        }
    }

    /// Handles datagrams that arrived together, each as [`handle_datagram`](Self::handle_datagram) does; packets of one connection that
    /// follow one another are opened at once. All have come from the same place, and each value is exactly one datagram.
    #[inline]
    pub fn handle_datagrams(&mut self, now: Instant, meta: &DatagramMeta, together: &mut [Memory]) {
        let mut rest = together;
        while let Some((first, others)) = rest.split_first() {
            let dcid = |memory| header::short_dcid(memory, self.routes.cid_len());
            let same = match dcid(first) {
                Some(id) => others.iter().take_while(|other| dcid(other) == Some(id)).count(),
                None => 0,
            };
            let found = dcid(first).filter(|_| same > 0).and_then(|id| self.routes.find(id));
            let (run, behind) = rest.split_at_mut(1 + same);
            rest = behind;
            match found {
                Some(handle) => {
                    self.stats.datagrams_received += run.len() as u64;
                    self.deliver(now, meta, run, handle);
                }
                None => run.iter_mut().for_each(|memory| self.handle_datagram(now, meta, memory)),
            }
        }
    }

    fn find_by_long_header(&mut self, datagram: &[u8]) -> Option<ConnectionHandle> {
        let len = self.routes.cid_len();
        let dcid = header::peek_dcid(datagram, len)?;
        if let Some(handle) = self.routes.find(dcid).filter(|_| dcid.len() == len) {
            return Some(handle);
        }
        self.routes.find_initial(&warpline_wire::ConnectionId::new(dcid)?)
    }

    #[inline]
    fn deliver(&mut self, now: Instant, meta: &DatagramMeta, together: &mut [Memory], handle: ConnectionHandle) {
        self.touch(handle);
        let Self { slots, rng, config, routes, settled, .. } = self;
        if let Some(connection) = slots.find_mut(handle) {
            let mut cx = Cx { now, rng, config, routes, handle, settled };
            self.active = Some(handle);
            connection.handle_datagrams(&mut cx, meta, together);
            self.active = None;
        }
    }

    /// Queues the connection for events and transmission.
    #[inline]
    fn touch(&mut self, handle: ConnectionHandle) {
        let Some(flags) = self.slots.flags_mut(handle) else { return };
        if !flags.sendable {
            flags.sendable = true;
            self.sendable.push_back(handle.index);
        }
        if !flags.eventful {
            flags.eventful = true;
            self.eventful.push_back(handle.index);
        }
    }

    /// Handles every deadline that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(handle) = self.deadlines.pop_due(now, &mut self.slots) {
            self.touch(handle);
            let Self { slots, rng, config, routes, settled, .. } = self;
            if let Some(connection) = slots.find_mut(handle) {
                let mut cx = Cx { now, rng, config, routes, handle, settled };
                self.active = Some(handle);
                connection.handle_timeout(&mut cx);
                self.active = None;
            }
        }
    }

    /// Writes the next train of datagrams into `buf` (64 KiB let trains be as long as the kernel takes them). Call until `None`.
    pub fn poll_transmit(&mut self, now: Instant, buf: &mut [u8]) -> Option<Transmit> {
        if let Some(transmit) = self.replies.pop(buf) {
            return Some(transmit);
        }
        while let Some(index) = self.sendable.pop_front() {
            let Some(handle) = self.slots.handle_at(index) else { continue };
            let Self { slots, rng, config, routes, settled, .. } = self;
            let Some(connection) = slots.find_mut(handle) else { continue };
            let mut cx = Cx { now, rng, config, routes, handle, settled };
            self.active = Some(handle);
            let transmit = connection.poll_transmit(&mut cx, buf);
            self.active = None;
            if let Some(transmit) = transmit {
                // Takes turns with the others, train by train.
                self.sendable.push_back(index);
                self.stats.datagrams_sent += transmit.len.div_ceil(transmit.segment_size) as u64;
                return Some(transmit);
            }
            self.settle(now, handle);
        }
        None
    }

    /// The connection has nothing more to send: schedule its next deadline, or forget it when it is drained.
    fn settle(&mut self, now: Instant, handle: ConnectionHandle) {
        let Some(flags) = self.slots.flags_mut(handle) else { return };
        flags.sendable = false;
        let eventful = flags.eventful;
        self.update_half_open(handle);
        let Some(connection) = self.slots.find_mut(handle) else { return };
        let silent = connection.is_silent();
        // What comes from here on is not worth waiting for.
        self.logs.extend(connection.take_log(silent));
        if connection.is_drained() {
            if !eventful {
                self.forget(handle);
            }
            return;
        }
        let due = connection.next_timeout();
        self.deadlines.schedule(now, handle, due, &mut self.slots);
        if silent {
            self.slots.note_silent(handle);
        }
    }

    fn update_half_open(&mut self, handle: ConnectionHandle) {
        let Some(connection) = self.slots.find_mut(handle) else { return };
        let open = !connection.is_handshaking() || connection.is_closed();
        if let Some(flags) = self.slots.flags_mut(handle)
            && open
            && let Some(source) = flags.half_open.take()
        {
            self.half_open.remove(source);
        }
    }

    /// Counts the handshake of a connection that is in the slab.
    fn note_half_open(&mut self, handle: ConnectionHandle) {
        let Some(connection) = self.slots.find(handle) else { return };
        let source = self.half_open.source(connection.remote());
        self.half_open.add(source);
        if let Some(flags) = self.slots.flags_mut(handle) {
            flags.half_open = Some(source);
        }
    }

    /// How hard it is for the caller to keep up, from now on: under pressure those suffer who are not there yet.
    pub fn set_pressure(&mut self, pressure: Pressure) {
        self.pressure = pressure;
    }

    fn forget(&mut self, handle: ConnectionHandle) {
        self.update_half_open(handle);
        if let Some(mut connection) = self.slots.remove(handle) {
            self.logs.extend(connection.take_log(true));
            self.drops.add(&connection.drops());
            connection.remove_routes(&mut self.routes);
        }
    }

    /// The next event of any connection. Call until `None`.
    pub fn poll_event(&mut self) -> Option<(ConnectionHandle, Event)> {
        while let Some(index) = self.eventful.front().copied() {
            if let Some(handle) = self.slots.handle_at(index) {
                if let Some(event) = self.slots.find_mut(handle).and_then(Connection::poll_event) {
                    return Some((handle, event));
                }
                let drained = self.slots.find_mut(handle).is_some_and(|c| c.is_drained());
                if let Some(flags) = self.slots.flags_mut(handle) {
                    flags.eventful = false;
                    if drained && !flags.sendable {
                        self.forget(handle);
                    }
                }
            }
            self.eventful.pop_front();
        }
        None
    }

    /// The next part of any connection's log ([`EndpointConfig::qlog`]); call until `None`, every turn. A log comes in parts of
    /// 16 KiB and more, and the rest of it when the connection has gone.
    pub fn poll_log(&mut self) -> Option<LogPiece> {
        self.logs.pop_front()
    }

    /// Makes all that was logged so far available to [`poll_log`](Self::poll_log): the endpoint is about to end.
    pub fn flush_logs(&mut self) {
        for handle in self.slots.handles() {
            let piece = self.slots.find_mut(handle).and_then(|connection| connection.take_log(true));
            self.logs.extend(piece);
        }
    }

    /// Packets that the connections of this endpoint have dropped so far, by reason. Looks at every connection.
    pub fn packet_drops(&self) -> PacketDrops {
        let mut drops = self.drops;
        for connection in self.slots.handles().into_iter().filter_map(|handle| self.slots.find(handle)) {
            drops.add(&connection.drops());
        }
        drops
    }

    /// The earliest moment at which `handle_timeout` has something to do.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Starts a connection to `remote`. What the server must prove is in `config`; `server_name` is sent to it (SNI).
    ///
    /// # Errors
    /// A name that is no DNS name or address, an address that cannot be sent to, or a TLS configuration without QUIC.
    pub fn connect(
        &mut self,
        now: Instant,
        config: &ClientConfig,
        remote: SocketAddr,
        server_name: &str,
    ) -> Result<ConnectionHandle, ConnectError> {
        if self.closing {
            return Err(ConnectError::Closing);
        }
        if remote.port() == 0 || remote.ip().is_unspecified() {
            return Err(ConnectError::InvalidRemote(remote));
        }
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| ConnectError::InvalidServerName(server_name.to_owned()))?;
        let key = self.own_partition_key();
        let handle = self.slots.reserve();
        let local_cid = self.routes.issue(&mut self.rng, key, handle);
        let dcid = ids::guess(&mut self.rng);
        let version = self.first_version(config, &name, remote.port());
        let token = config.memory.take_token(&ServerKey::new(&name, remote.port(), version));
        let opening = Opening {
            version,
            remote,
            local: None,
            local_cid,
            key,
            remote_cid: dcid,
            original_dcid: dcid,
            initial_dcid: dcid,
            validated: true,
            token: token.unwrap_or_default(),
        };
        let Self { rng, config: endpoint_config, routes, settled, .. } = self;
        let mut cx = Cx { now, rng, config: endpoint_config, routes, handle, settled };
        match Connection::client(&mut cx, config, name, opening) {
            Ok(connection) => {
                self.slots.fill(handle, connection);
                self.touch(handle);
                Ok(handle)
            }
            Err(error) => {
                self.routes.remove(&local_cid);
                self.slots.release(handle);
                Err(ConnectError::Tls(error.to_string()))
            }
        }
    }

    /// The version to begin with: one that the server gave a session for saves the most.
    fn first_version(&self, config: &ClientConfig, name: &ServerName<'_>, port: u16) -> Version {
        let spoken = &self.config.versions;
        let known = |v: &&Version| config.memory.has_session(&ServerKey::new(name, port, **v));
        let found = config.original_version.or_else(|| spoken.iter().find(known).copied());
        found.or_else(|| spoken.first().copied()).unwrap_or(Version::V1)
    }

    /// A partition key that leads to this worker.
    fn own_partition_key(&mut self) -> u16 {
        let slots = u32::from(cid::PARTITION_SLOTS);
        let slot = match u32::try_from(self.own_slots.len()) {
            Ok(0) | Err(_) => self.rng.below(slots),
            Ok(count) => u32::from(self.own_slots[self.rng.below(count) as usize]),
        };
        let keys = (u32::from(u16::MAX) - slot) / slots + 1;
        (slot + slots * self.rng.below(keys)) as u16
    }

    /// The connection of `handle`, to act on; it is queued for events and transmission.
    #[inline]
    pub fn connection(&mut self, handle: ConnectionHandle) -> Option<&mut Connection> {
        self.touch(handle);
        self.slots.find_mut(handle)
    }

    /// The connection of `handle`, to look at.
    #[inline]
    pub fn peek(&self, handle: ConnectionHandle) -> Option<&Connection> {
        self.slots.find(handle)
    }

    /// The caller sends from another address from now on: moves a connection of a client over, under a new connection ID and with
    /// nothing assumed of the new path (RFC 9000 section 9.2).
    ///
    /// # Errors
    /// [`MigrateError`]; the connection is as it was then.
    pub fn migrate(&mut self, now: Instant, handle: ConnectionHandle) -> Result<(), MigrateError> {
        self.touch(handle);
        let Self { slots, rng, config, routes, settled, .. } = self;
        let connection = slots.find_mut(handle).ok_or(MigrateError::NotEstablished)?;
        connection.migrate(&mut Cx { now, rng, config, routes, handle, settled })
    }

    /// The caller's socket was replaced: moves every connection of a client. One that cannot be moved sends something from the
    /// new address at once, which its server takes for the rebinding of a NAT. Returns how many were moved.
    pub fn migrate_all(&mut self, now: Instant) -> usize {
        let mut moved = 0;
        for handle in self.slots.handles() {
            match self.migrate(now, handle) {
                Ok(()) => moved += 1,
                Err(_) => self.slots.find_mut(handle).into_iter().for_each(Connection::ping),
            }
        }
        moved
    }

    /// From now on IDs are made by another configuration of the load balancers; open connections get new IDs and are asked to
    /// retire the others (config rotation).
    ///
    /// # Errors
    /// Without a configuration from the start, or with one whose IDs have another layout: all IDs of an endpoint are alike.
    pub fn rotate_quic_lb(&mut self, now: Instant, config: QuicLb) -> Result<(), ConfigError> {
        if self.config.quic_lb.is_none() || config.layout() != self.routes.cids.layout() {
            return Err(ConfigError::OutOfRange { name: "quic_lb", why: "must keep the layout of the IDs in use" });
        }
        self.routes.cids = CidGenerator::new(Some(config), None);
        for handle in self.slots.handles() {
            self.touch(handle);
            let Self { slots, rng, config, routes, settled, .. } = self;
            if let Some(connection) = slots.find_mut(handle) {
                connection.renew_cids(&mut Cx { now, rng, config, routes, handle, settled });
            }
        }
        Ok(())
    }

    /// Closes every connection and accepts none any more.
    pub fn close_all(&mut self, now: Instant, code: u64, reason: &[u8]) {
        self.closing = true;
        for handle in self.slots.handles() {
            if let Some(connection) = self.connection(handle) {
                connection.close(now, code, reason);
            }
        }
    }

    /// True when no connection is left, not even a draining one, and nothing waits to be sent.
    pub fn is_idle(&self) -> bool {
        self.slots.is_empty() && self.replies.is_empty()
    }

    /// Whether all connections have ended and the peers know it: no packet will be sent any more unless one comes. An
    /// endpoint whose socket is about to be closed need not wait longer (RFC 9000 section 10.2).
    pub fn is_silent(&self) -> bool {
        self.slots.are_silent() && self.replies.is_empty()
    }

    /// Connections that are open, closing or draining.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Connections of clients whose handshake is not done.
    pub fn half_open(&self) -> usize {
        self.half_open.total()
    }

    /// True when there is no connection.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What is kept for connections. A number that stays up while there are none is a leak.
    pub fn kept(&self) -> Kept {
        Kept {
            connections: self.slots.len(),
            half_open: self.half_open.total(),
            ids: self.routes.ids_len(),
            reset_tokens: self.routes.reset_tokens_len(),
            deadlines: self.deadlines.len(),
        }
    }

    /// Bytes that no connection has been in of the blocks of 2 MiB that connections lie in: allocated, but not touched.
    pub fn untouched_bytes(&self) -> usize {
        self.slots.untouched_bytes()
    }

    /// Counters.
    pub fn stats(&self) -> &EndpointStats {
        &self.stats
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("connections", &self.slots.len()).finish_non_exhaustive()
    }
}
