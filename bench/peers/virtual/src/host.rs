//! quinn, or noq, which has the same interface, as a node of the simulated network: an endpoint, and an application that downloads,
//! or sends as much as it can to whoever asks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use bytes::BytesMut;
use warpline_peer_kit::{SERVER_NAME, tls};
use warpline_proto::congestion::CongestionAlgorithm;
use warpline_sim::congestion::{Link, PAYLOAD, Place};
use warpline_sim::run::Identity;
use warpline_sim::{Codepoint, Instant, Node, Packet, Report, Tally, address};

use super::stack::congestion::{ControllerFactory, CubicConfig, NewRenoConfig};
use super::stack::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use super::stack::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, EcnCodepoint, Endpoint, EndpointConfig, Event,
    MtuDiscoveryConfig, ServerConfig, StreamEvent, StreamId, Transmit, TransportConfig, VarInt,
};

/// What the server writes at a time.
static CONTENT: [u8; 64 << 10] = [0x5a; 64 << 10];

/// An endpoint and its application.
pub struct Host {
    place: Place,
    /// The stack's clock at the start of the run.
    base: StdInstant,
    endpoint: Endpoint,
    /// What a client connects with; none once it has.
    dial: Option<ClientConfig>,
    connections: BTreeMap<ConnectionHandle, Connection>,
    /// Answers of the endpoint itself.
    answers: Vec<Packet>,
    buffer: Vec<u8>,
    delivered_bytes: u64,
    faults: Vec<String>,
    next_timeout: Option<Instant>,
}

impl Host {
    /// A node at `place` that uses `algorithm` and whose windows are those for `link`.
    ///
    /// # Errors
    ///
    /// If the stack refuses a setting.
    pub fn new(
        place: Place,
        link: &Link,
        algorithm: CongestionAlgorithm,
        identity: &Identity,
    ) -> warpline_peer_kit::Result<Self> {
        let transport = Arc::new(transport(link, algorithm)?);
        let (chain, key) = (vec![identity.certificate.clone()], identity.key.clone_key());
        let (mut dial, mut server) = (None, None);
        if place.starts_at.is_some() {
            let tls = QuicClientConfig::try_from(tls::client_config_of(chain, None)?)?;
            let mut config = ClientConfig::new(Arc::new(tls));
            config.transport_config(transport);
            dial = Some(config);
        } else {
            let tls = QuicServerConfig::try_from(tls::server_config_of(chain, key)?)?;
            let mut config = ServerConfig::with_crypto(Arc::new(tls));
            config.transport_config(transport);
            server = Some(Arc::new(config));
        }
        let mut config = EndpointConfig::default();
        config.max_udp_payload_size(PAYLOAD)?.rng_seed(Some(place.seed));
        Ok(Self {
            place,
            base: StdInstant::now(),
            endpoint: super::endpoint(Arc::new(config), server),
            dial,
            connections: BTreeMap::new(),
            answers: Vec::new(),
            buffer: Vec::new(),
            delivered_bytes: 0,
            faults: Vec::new(),
            next_timeout: None,
        })
    }

    /// The stack's time for one of the simulator's.
    fn at(&self, now: Instant) -> StdInstant {
        self.base + Duration::from_nanos(now.as_nanos())
    }

    fn connect(&mut self, now: Instant) {
        if self.place.starts_at.is_none_or(|at| now < at) {
            return;
        }
        let Some(config) = self.dial.take() else { return };
        match self.endpoint.connect(self.at(now), config, address::SERVER, SERVER_NAME) {
            Ok((handle, connection)) => drop(self.connections.insert(handle, connection)),
            Err(error) => self.faults.push(error.to_string()),
        }
    }

    fn accept(&mut self, now: Instant, incoming: super::stack::Incoming) {
        match self.endpoint.accept(incoming, self.at(now), &mut self.buffer, None) {
            Ok((handle, connection)) => {
                self.connections.insert(handle, connection);
                self.turn(handle);
            }
            Err(error) => self.faults.push(error.cause.to_string()),
        }
    }

    /// Lets a connection, the endpoint and the application talk until they have nothing more to say.
    fn turn(&mut self, handle: ConnectionHandle) {
        let Some(connection) = self.connections.get_mut(&handle) else { return };
        loop {
            if let Some(event) = connection.poll_endpoint_events() {
                if let Some(answer) = self.endpoint.handle_event(handle, event) {
                    connection.handle_event(answer);
                }
            } else if let Some(event) = connection.poll() {
                match event {
                    Event::Connected if self.place.starts_at.is_some() => ask(connection),
                    Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => {
                        while let Some(id) = connection.streams().accept(Dir::Bi) {
                            self.delivered_bytes += read(connection, id);
                            fill(connection, id);
                        }
                    }
                    Event::Stream(StreamEvent::Readable { id }) => self.delivered_bytes += read(connection, id),
                    Event::Stream(StreamEvent::Writable { id }) => fill(connection, id),
                    Event::ConnectionLost { reason } => self.faults.push(reason.to_string()),
                    _ => {}
                }
            } else {
                return;
            }
        }
    }

    /// When the stack or the application wants to be woken.
    fn earliest(&mut self) -> Option<Instant> {
        let timeouts = self.connections.values_mut().filter_map(super::poll_timeout);
        let timeouts = timeouts.map(|at| Instant::from_nanos(0) + at.saturating_duration_since(self.base));
        timeouts.chain(self.place.starts_at.filter(|_| self.dial.is_some())).min()
    }

    /// The datagrams of a transmission, which lies in the buffer.
    fn packets(&self, transmit: &Transmit, out: &mut Vec<Packet>) {
        let bytes = self.buffer.get(..transmit.size).unwrap_or_default();
        for datagram in bytes.chunks(transmit.segment_size.unwrap_or(transmit.size).max(1)) {
            out.push(Packet {
                src: self.place.address,
                dst: transmit.destination,
                ecn: transmit.ecn.map_or(Codepoint::NotEct, codepoint),
                payload: datagram.to_vec(),
            });
        }
    }
}

impl Node for Host {
    fn address(&self) -> SocketAddr {
        self.place.address
    }

    fn handle_datagram(&mut self, now: Instant, packet: Packet) {
        self.buffer.clear();
        let (ecn, data) = (EcnCodepoint::from_bits(packet.ecn as u8), BytesMut::from(&*packet.payload));
        let at = self.at(now);
        match super::handle(&mut self.endpoint, at, packet.src, ecn, data, &mut self.buffer) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(connection) = self.connections.get_mut(&handle) {
                    connection.handle_event(event);
                }
                self.turn(handle);
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.accept(now, incoming),
            Some(DatagramEvent::Response(transmit)) => {
                let mut answers = std::mem::take(&mut self.answers);
                self.packets(&transmit, &mut answers);
                self.answers = answers;
            }
            None => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.connect(now);
        let at = self.at(now);
        let handles: Vec<ConnectionHandle> = self.connections.keys().copied().collect();
        for handle in handles {
            if let Some(connection) = self.connections.get_mut(&handle) {
                connection.handle_timeout(at);
            }
            self.turn(handle);
        }
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Vec<Packet>) {
        out.append(&mut self.answers);
        let at = self.at(now);
        let mut connections = std::mem::take(&mut self.connections);
        for connection in connections.values_mut() {
            self.buffer.clear();
            if let Some(transmit) = super::poll_transmit(connection, at, &mut self.buffer) {
                self.packets(&transmit, out);
            }
        }
        self.connections = connections;
        let handles: Vec<ConnectionHandle> = self.connections.keys().copied().collect();
        handles.into_iter().for_each(|handle| self.turn(handle));
        self.next_timeout = self.earliest();
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.next_timeout
    }

    fn is_done(&self) -> bool {
        false
    }

    fn tally(&self) -> Tally {
        Tally { delivered_bytes: self.delivered_bytes, ..Tally::default() }
    }

    fn report(&self) -> Report {
        Report { done: false, tally: self.tally(), faults: self.faults.clone() }
    }
}

/// The client's request: a stream with a byte on it.
fn ask(connection: &mut Connection) {
    if let Some(id) = connection.streams().open(Dir::Bi) {
        let mut stream = connection.send_stream(id);
        // A fresh stream takes a byte and an end.
        let _ = stream.write(&CONTENT[..1]);
        let _ = stream.finish();
    }
}

/// Writes as much as the stream takes. A client's own stream is finished and takes nothing.
fn fill(connection: &mut Connection, id: StreamId) {
    while connection.send_stream(id).write(&CONTENT).is_ok_and(|written| written > 0) {}
}

/// Reads all that is there; how much it was.
fn read(connection: &mut Connection, id: StreamId) -> u64 {
    let mut bytes = 0;
    let mut stream = connection.recv_stream(id);
    if let Ok(mut chunks) = stream.read(true) {
        while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
            bytes += chunk.bytes.len() as u64;
        }
        let _ = chunks.finalize();
    }
    bytes
}

fn codepoint(ecn: EcnCodepoint) -> Codepoint {
    match ecn {
        EcnCodepoint::Ect0 => Codepoint::Ect0,
        EcnCodepoint::Ect1 => Codepoint::Ect1,
        EcnCodepoint::Ce => Codepoint::Ce,
    }
}

/// As shipped, but for the controller, windows that do not limit, and full packets from the first on.
fn transport(link: &Link, algorithm: CongestionAlgorithm) -> warpline_peer_kit::Result<TransportConfig> {
    let window = link.window();
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(PAYLOAD);
    let factory: Arc<dyn ControllerFactory + Send + Sync> = match algorithm {
        CongestionAlgorithm::NewReno => Arc::new(NewRenoConfig::default()),
        CongestionAlgorithm::Cubic => Arc::new(CubicConfig::default()),
        CongestionAlgorithm::Bbr => Arc::new(super::Bbr::default()),
    };
    let mut config = TransportConfig::default();
    config
        .initial_mtu(PAYLOAD)
        .mtu_discovery_config(Some(discovery))
        .stream_receive_window(VarInt::from_u64(window)?)
        .receive_window(VarInt::from_u64(2 * window)?)
        .send_window(window)
        .congestion_controller_factory(factory);
    Ok(config)
}
