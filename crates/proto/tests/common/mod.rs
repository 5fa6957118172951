//! Two endpoints and a network between them, on virtual time.

#![allow(clippy::unwrap_used, dead_code, missing_docs, reason = "shared by test binaries, each of which uses a part")]

pub mod tamper;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use warpline_frame::{Chunk, Frame};
use warpline_proto::config::{ClientConfig, EndpointConfig, ServerConfig, TransportConfig};
use warpline_proto::{
    ConnectionHandle, DatagramMeta, Dir, Ecn, Endpoint, Event, Instant, ReadError, StreamId, Transmit, Version,
    WriteError,
};

pub const ALPN: &[u8] = b"test";

/// A server's configuration with a certificate of its own.
pub fn server_config(transport: &TransportConfig) -> ServerConfig {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let chain = vec![key.cert.der().clone()];
    ServerConfig::with_single_cert(chain, key.signing_key.serialize_der().try_into().unwrap(), &[ALPN])
        .unwrap()
        .transport(transport.clone())
        .unwrap()
}

/// A datagram under way.
#[derive(Clone)]
struct Flying {
    at: Instant,
    to_server: bool,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
    ecn: Option<Ecn>,
}

/// Decides about every datagram: number, to the server, bytes. `false` drops it.
type Filter = Box<dyn FnMut(u64, bool, &mut Vec<u8>) -> bool>;

/// What the client's program does at once when something happens, before anything is sent.
type Reaction = Box<dyn FnMut(&mut Endpoint, Instant, ConnectionHandle, &Event)>;
/// What the network makes of a datagram's codepoint: when it was sent, to the server, as it was sent.
type Marker = Box<dyn FnMut(Instant, bool, Option<Ecn>) -> Option<Ecn>>;
type Jitter = Box<dyn FnMut(u64, bool) -> Duration>;

pub struct Pair {
    pub now: Instant,
    pub client: Endpoint,
    pub server: Endpoint,
    pub client_addr: SocketAddr,
    pub server_addr: SocketAddr,
    pub delay: Duration,
    /// Decides about every datagram: number, to the server, bytes. `false` drops it.
    pub filter: Filter,
    /// Decides by where a datagram goes. `false` drops it.
    pub route_filter: Option<Box<dyn FnMut(SocketAddr) -> bool>>,
    pub reaction: Option<Reaction>,
    /// Time that a datagram takes beyond `delay`: number, to the server.
    pub jitter: Jitter,
    pub marker: Marker,
    /// What arrives at the same time from the same place is handed in together.
    pub together: bool,
    flying: VecDeque<Flying>,
    pub count: u64,
    pub client_events: Vec<(ConnectionHandle, Event)>,
    pub server_events: Vec<(ConnectionHandle, Event)>,
    pub client_config: ClientConfig,
    server_config: Arc<ServerConfig>,
}

/// Whether a datagram begins with an Initial packet of version 1 or 2 (RFC 9000 section 17.2.2, RFC 9369 section 3.2).
fn is_initial(datagram: &[u8]) -> bool {
    match (datagram[0] & 0xb0, &datagram[1..5]) {
        (0x80, [0, 0, 0, 1]) => true,
        (0x90, version) => version == Version::V2.0.to_be_bytes(),
        _ => false,
    }
}

impl Pair {
    pub fn new(transport: &TransportConfig) -> Self {
        Self::with_server(transport, server_config(transport))
    }

    /// Both sides keep logs.
    pub fn logged(transport: &TransportConfig) -> Self {
        let endpoint = || Arc::new(EndpointConfig { qlog: true, ..EndpointConfig::new(&[5; 32]) });
        let mut pair = Self::new(transport);
        pair.client = Endpoint::new(endpoint(), None, [1; 32]);
        pair.server = Endpoint::new(endpoint(), Some(pair.server_config.clone()), [2; 32]);
        pair
    }

    /// The server's endpoint is set up with `endpoint`.
    pub fn with_server_endpoint(transport: &TransportConfig, endpoint: EndpointConfig) -> Self {
        let mut pair = Self::new(transport);
        pair.server = Endpoint::new(Arc::new(endpoint), Some(pair.server_config.clone()), [2; 32]);
        pair
    }

    pub fn with_server(transport: &TransportConfig, server: ServerConfig) -> Self {
        let client_config = ClientConfig::insecure(&[ALPN]).unwrap().transport(transport.clone()).unwrap();
        let endpoint = || Arc::new(EndpointConfig::new(&[5; 32]));
        let server_config = Arc::new(server);
        Self {
            now: Instant::from_nanos(1_000_000_000),
            client: Endpoint::new(endpoint(), None, [1; 32]),
            server: Endpoint::new(endpoint(), Some(server_config.clone()), [2; 32]),
            client_addr: "192.0.2.1:1000".parse().unwrap(),
            server_addr: "192.0.2.2:4433".parse().unwrap(),
            delay: Duration::from_millis(10),
            filter: Box::new(|_, _, _| true),
            route_filter: None,
            reaction: None,
            jitter: Box::new(|_, _| Duration::ZERO),
            marker: Box::new(|_, _, ecn| ecn),
            together: true,
            flying: VecDeque::new(),
            count: 0,
            client_events: Vec::new(),
            server_events: Vec::new(),
            client_config,
            server_config,
        }
    }

    pub fn connect(&mut self) -> ConnectionHandle {
        self.client.connect(self.now, &self.client_config, self.server_addr, "localhost").unwrap()
    }

    /// The server's process is killed and starts again with the same secret: it knows of no connection.
    pub fn restart_server(&mut self) {
        let config = Arc::new(EndpointConfig::new(&[5; 32]));
        self.server = Endpoint::new(config, Some(self.server_config.clone()), [3; 32]);
    }

    fn send(&mut self, from_client: bool) -> bool {
        let mut buf = vec![0; 65_536];
        let mut any = false;
        loop {
            let endpoint = if from_client { &mut self.client } else { &mut self.server };
            let Some(Transmit { len, segment_size, ecn, remote, local }) = endpoint.poll_transmit(self.now, &mut buf)
            else {
                break;
            };
            // A server with several addresses answers from the one that it says.
            let from = match (from_client, local) {
                (true, _) => self.client_addr,
                (false, Some(ip)) => SocketAddr::new(ip, self.server_addr.port()),
                (false, None) => self.server_addr,
            };
            any = true;
            for datagram in buf[..len].chunks(segment_size) {
                let mut bytes = datagram.to_vec();
                self.count += 1;
                // RFC 9000 section 14.1. A server's that only acknowledge may be shorter.
                assert!(!from_client || !is_initial(datagram) || datagram.len() >= 1_200, "{} bytes", datagram.len());
                let passes = self.route_filter.as_mut().is_none_or(|passes| passes(remote));
                if passes && (self.filter)(self.count, from_client, &mut bytes) {
                    let at = self.now + self.delay + (self.jitter)(self.count, from_client);
                    let ecn = (self.marker)(self.now, from_client, ecn);
                    let place = self.flying.partition_point(|f| f.at <= at);
                    self.flying.insert(place, Flying { at, to_server: from_client, from, to: remote, bytes, ecn });
                }
            }
        }
        any
    }

    /// One step: everything that is due now, then on to the next moment. False when nothing will ever happen again.
    pub fn step(&mut self) -> bool {
        while self.flying.front().is_some_and(|f| f.at <= self.now) {
            let f = self.flying.pop_front().unwrap();
            let endpoint = if f.to_server { &mut self.server } else { &mut self.client };
            if !f.to_server && f.to != self.client_addr {
                // Nobody is there any more.
                continue;
            }
            let meta = DatagramMeta { remote: f.from, local: Some(f.to.ip()), ecn: f.ecn };
            let mut frames = vec![Frame::from_vec(f.bytes)];
            let is_alike = |other: &mut Flying| {
                other.at <= self.now && (other.from, other.to, other.ecn) == (meta.remote, f.to, meta.ecn)
            };
            while self.together
                && let Some(other) = self.flying.pop_front_if(is_alike)
            {
                frames.push(Frame::from_vec(other.bytes));
            }
            match frames.as_mut_slice() {
                [one] => endpoint.handle_datagram(self.now, &meta, one),
                several => endpoint.handle_datagrams(self.now, &meta, several),
            }
        }
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
        while let Some(e) = self.client.poll_event() {
            if let Some(react) = &mut self.reaction {
                react(&mut self.client, self.now, e.0, &e.1);
            }
            self.client_events.push(e);
        }
        while let Some(e) = self.server.poll_event() {
            self.server_events.push(e);
        }
        self.send(true);
        self.send(false);
        let next = [self.flying.front().map(|f| f.at), self.client.next_timeout(), self.server.next_timeout()];
        match next.into_iter().flatten().min() {
            Some(at) => {
                self.now = self.now.max(at);
                true
            }
            None => false,
        }
    }

    /// Gives back the memory of the network and of the events so far.
    pub fn tidy(&mut self) {
        self.flying.shrink_to_fit();
        self.client_events = Vec::new();
        self.server_events = Vec::new();
    }

    /// Steps until `done`, or panics after `limit` of virtual time.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.step() && self.now < end, "nothing happens any more, or too slowly ({:?})", self.now);
        }
    }

    /// Lets `time` pass, exactly.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let before = self.now;
            if !self.step() || self.now > end {
                // What comes later stays under way.
                self.now = end.max(before);
                return;
            }
        }
    }

    /// The client's versions from now on, most wanted first.
    pub fn client_speaks(&mut self, versions: &[Version]) {
        let config = EndpointConfig { versions: versions.to_vec(), ..EndpointConfig::new(&[5; 32]) };
        self.client = Endpoint::new(Arc::new(config), None, [3; 32]);
    }

    /// Connects anew, after earlier connections, until the client's handshake is complete.
    pub fn reconnected(&mut self) -> (ConnectionHandle, ConnectionHandle) {
        self.client_events.clear();
        self.server_events.clear();
        self.established()
    }

    /// Connects, lets tickets and tokens arrive, and closes.
    pub fn visit(&mut self) {
        let (client, _) = self.reconnected();
        self.run_for(Duration::from_millis(200));
        let now = self.now;
        self.client.connection(client).unwrap().close(now, 0, b"");
        self.run_for(Duration::from_secs(10));
        assert!(self.client.is_idle() && self.server.is_idle());
        self.client_events.clear();
        self.server_events.clear();
    }

    /// Connects and returns both handles.
    pub fn established(&mut self) -> (ConnectionHandle, ConnectionHandle) {
        let client = self.connect();
        self.run_until(Duration::from_secs(30), |p| {
            p.client_events.iter().any(|(_, e)| *e == Event::Connected)
                && p.server_events.iter().any(|(_, e)| *e == Event::Connected)
        });
        let server = self.server_events.iter().find(|(_, e)| *e == Event::Connected).unwrap().0;
        (client, server)
    }
}

/// Byte `i` of the pattern that transfers carry.
pub fn pattern(i: u64) -> u8 {
    (i.wrapping_mul(2_654_435_761) >> 13) as u8
}

/// Sends `total` bytes of pattern from one side on a new stream and checks them at the other.
pub struct Transfer {
    pub total: u64,
    pub written: u64,
    pub read: u64,
    pub id: StreamId,
    pub finished: bool,
    pub done: bool,
}

impl Transfer {
    pub fn open(endpoint: &mut Endpoint, handle: ConnectionHandle, total: u64) -> Self {
        let id = endpoint.connection(handle).unwrap().open(Dir::Uni).unwrap();
        Self { total, written: 0, read: 0, id, finished: false, done: false }
    }

    pub fn pump(
        &mut self,
        now: Instant,
        from: (&mut Endpoint, ConnectionHandle),
        to: (&mut Endpoint, ConnectionHandle),
    ) {
        if let Some(sender) = from.0.connection(from.1) {
            while self.written < self.total {
                let len = (self.total - self.written).min(50_000);
                let mut chunk = Chunk::from((self.written..self.written + len).map(pattern).collect::<Vec<u8>>());
                match sender.write(self.id, &mut chunk) {
                    Ok(n) => self.written += n as u64,
                    Err(WriteError::Blocked) => break,
                    Err(e) => panic!("write: {e}"),
                }
            }
            if self.written == self.total && !self.finished {
                sender.finish(self.id).unwrap();
                self.finished = true;
            }
        }
        if let Some(receiver) = to.0.connection(to.1) {
            while receiver.accept(Dir::Uni).is_some() {}
            while !self.done {
                match receiver.read(now, self.id, 1 << 20) {
                    Ok(Some(chunk)) => {
                        assert!(
                            chunk.iter().zip(self.read..).all(|(b, i)| *b == pattern(i)),
                            "wrong bytes at {}",
                            self.read
                        );
                        self.read += chunk.len() as u64;
                    }
                    Ok(None) => {
                        assert_eq!(self.read, self.total);
                        self.done = true;
                    }
                    Err(ReadError::Blocked | ReadError::ClosedStream) => break,
                    Err(e) => panic!("read: {e}"),
                }
            }
        }
    }
}

/// The records of each log, by name.
pub fn logs(endpoint: &mut Endpoint) -> BTreeMap<String, Vec<Value>> {
    endpoint.flush_logs();
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    while let Some(piece) = endpoint.poll_log() {
        texts.entry(piece.name).or_default().push_str(&piece.text);
    }
    texts.into_iter().map(|(name, text)| (name, parse(&text))).collect()
}

/// A JSON text sequence (RFC 7464).
fn parse(text: &str) -> Vec<Value> {
    assert!(text.ends_with('\n') && text.starts_with('\u{1e}'));
    text.split('\u{1e}').skip(1).map(|line| serde_json::from_str(line).expect(line)).collect()
}
