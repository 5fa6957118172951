//! A client and a server on virtual time.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use warpline_frame::Frame;
use warpline_proto::config::{ClientConfig, EndpointConfig, ServerConfig, TransportConfig};
use warpline_proto::{ConnectionHandle, DatagramMeta, Endpoint, Event, Instant, Side};

use super::plain;

/// Datagrams that an endpoint may want to send without anything happening: more is an endless loop.
const TRAINS_MAX: usize = 4_096;
/// Deadlines that may pass at one moment.
const TIMEOUTS_MAX: usize = 64;

static CLIENT: LazyLock<ClientConfig> = LazyLock::new(|| {
    ClientConfig::with_rustls(plain::client()).and_then(|c| c.transport(transport())).expect("it is valid")
});
static SERVER: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    Arc::new(ServerConfig::with_rustls(plain::server()).and_then(|c| c.transport(transport())).expect("it is valid"))
});

fn transport() -> TransportConfig {
    TransportConfig { max_idle_timeout: Some(Duration::from_secs(10)), ..TransportConfig::default() }
}

/// Both endpoints.
pub struct Ends {
    pub now: Instant,
    client: Endpoint,
    server: Endpoint,
    buf: Vec<u8>,
}

/// Where each side is.
pub fn address(side: Side) -> SocketAddr {
    match side {
        Side::Client => SocketAddr::from(([192, 0, 2, 1], 1000)),
        Side::Server => SocketAddr::from(([192, 0, 2, 2], 4433)),
    }
}

impl Ends {
    /// Endpoints of which the client has begun to connect.
    pub fn new() -> (Self, ConnectionHandle) {
        let config = || Arc::new(EndpointConfig::new(&[5; 32]));
        let mut ends = Self {
            now: Instant::from_nanos(1_000_000_000),
            client: Endpoint::new(config(), None, [1; 32]),
            server: Endpoint::new(config(), Some(Arc::clone(&SERVER)), [2; 32]),
            buf: vec![0; 65_536],
        };
        let handle =
            ends.client.connect(ends.now, &CLIENT, address(Side::Server), "localhost").expect("it is free to connect");
        (ends, handle)
    }

    pub fn end(&mut self, side: Side) -> &mut Endpoint {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// Everything that `side` wants to send now.
    pub fn outgoing(&mut self, side: Side) -> Vec<Vec<u8>> {
        let end = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        let mut datagrams = Vec::new();
        for _ in 0..TRAINS_MAX {
            let Some(train) = end.poll_transmit(self.now, &mut self.buf) else { return datagrams };
            assert!(train.len > 0 && train.segment_size > 0, "an empty train");
            datagrams.extend(self.buf[..train.len].chunks(train.segment_size).map(<[u8]>::to_vec));
        }
        panic!("{side:?} sends without end");
    }

    /// A datagram reaches `to`.
    pub fn deliver(&mut self, to: Side, datagram: Vec<u8>) {
        let remote = address(if to == Side::Client { Side::Server } else { Side::Client });
        let meta = DatagramMeta { remote, local: Some(address(to).ip()), ecn: None };
        let now = self.now;
        self.end(to).handle_datagram(now, &meta, &mut Frame::from_vec(datagram));
    }

    /// What happened at `side`.
    pub fn events(&mut self, side: Side) -> Vec<(ConnectionHandle, Event)> {
        std::iter::from_fn(|| self.end(side).poll_event()).collect()
    }

    /// Every deadline of `side` that has passed is met, and none stays due.
    pub fn meet_deadlines(&mut self, side: Side) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        for _ in 0..TIMEOUTS_MAX {
            let now = self.now;
            self.end(side).handle_timeout(now);
            sent.extend(self.outgoing(side));
            if self.end(side).next_timeout().is_none_or(|at| at > now) {
                return sent;
            }
        }
        panic!("{side:?} has a deadline that stays due");
    }

    /// `side` is left alone until it has forgotten everything, as it must.
    pub fn abandon(&mut self, side: Side) {
        self.meet_deadlines(side);
        for _ in 0..10_000 {
            self.events(side);
            let Some(at) = self.end(side).next_timeout() else { break };
            self.now = self.now.max(at);
            self.meet_deadlines(side);
        }
        self.events(side);
        assert!(self.end(side).is_idle(), "{side:?} never forgets a connection that nobody is interested in");
    }
}
