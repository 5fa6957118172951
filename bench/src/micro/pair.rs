//! A client and a server that hand each other datagrams, with nothing between them, on a time of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use warpline::Chunk;
use warpline_frame::{Frame, Pool, PoolConfig};
use warpline_proto::config::{ClientConfig, EndpointConfig, ServerConfig, TlsOptions, TransportConfig, Trust};
use warpline_proto::{ConnectionHandle, DatagramMeta, Dir, Endpoint, Event, Instant, PacketCrypto, StreamId};

const ALPN: &[u8] = b"micro";
pub(super) const CLIENT: ([u8; 4], u16) = ([192, 0, 2, 1], 1000);
pub(super) const SERVER: ([u8; 4], u16) = ([192, 0, 2, 2], 4433);

/// How far the time goes on from one exchange to the next.
const STEP: Duration = Duration::from_micros(100);

/// A client's and a server's endpoint.
pub(super) fn endpoints(configs: &Configs) -> (Endpoint, Endpoint) {
    let endpoint = || Arc::new(EndpointConfig::new(&[5; 32]));
    let client = Endpoint::new(endpoint(), None, [1; 32]);
    (client, Endpoint::new(endpoint(), Some(Arc::clone(&configs.server)), [2; 32]))
}

/// Both sides of one connection.
pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) client: Endpoint,
    pub(super) server: Endpoint,
    pub(super) near: ConnectionHandle,
    pub(super) far: ConnectionHandle,
    buffer: Vec<u8>,
    /// Where datagrams arrive, as with workers: no part's count has the system's allocator in it.
    pool: Pool,
}

/// What both sides are set up with.
pub(crate) struct Configs {
    pub(super) client: ClientConfig,
    server: Arc<ServerConfig>,
}

impl Configs {
    /// With a certificate of its own.
    pub(super) fn new() -> Self {
        Self::with(PacketCrypto::AwsLc, TransportConfig::default().max_ack_delay)
    }

    /// Packets sealed by `crypto`, and a client that acknowledges at once: what arrives at the server does not depend on how
    /// long a connection pauses.
    pub(crate) fn prompt(crypto: PacketCrypto) -> Self {
        Self::with(crypto, Duration::ZERO)
    }

    fn with(crypto: PacketCrypto, client_ack_delay: Duration) -> Self {
        let transport = TransportConfig {
            initial_mtu: 1452,
            mtu_ceiling: 1452,
            stream_window: 1 << 24,
            stream_window_max: 1 << 24,
            connection_window: 1 << 26,
            connection_window_max: 1 << 26,
            max_concurrent_bidi: 10_000,
            ..TransportConfig::default()
        };
        let options = TlsOptions { crypto, ..TlsOptions::default() };
        let identity = warpline::Identity::generate(["localhost"]).expect("the name is fine");
        let (chain, key) = (vec![identity.certificate.clone()], identity.key());
        let server = ServerConfig::with_packet_crypto(crypto, chain, key, &[ALPN]);
        let server = server.and_then(|config| config.transport(transport.clone())).expect("the settings are in range");
        let client = ClientConfig::with_options(&Trust::Anyone, &[ALPN], &options, None);
        let transport = TransportConfig { max_ack_delay: client_ack_delay, ..transport };
        let client = client.and_then(|config| config.transport(transport)).expect("the settings are in range");
        Self { client, server: Arc::new(server) }
    }
}

impl Pair {
    /// A connection whose handshake is done, and what comes at once behind it.
    pub(super) fn connected() -> Self {
        let mut pair = Self::connect(&Configs::new());
        for _ in 0..20 {
            pair.exchange();
        }
        pair
    }

    /// Connects, until both sides know.
    pub(super) fn connect(configs: &Configs) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let (mut near_side, far_side) = endpoints(configs);
        let near =
            near_side.connect(now, &configs.client, SocketAddr::from(SERVER), "localhost").expect("it can be tried");
        let pool = Pool::new(PoolConfig { frame_size: 2048, frames: 512, huge_pages: false }).expect("there is memory");
        let buffer = vec![0; 65_536];
        let mut pair = Self { now, client: near_side, server: far_side, near, far: near, buffer, pool };
        let mut connected = 0;
        while connected < 2 {
            pair.exchange();
            connected += usize::from(pair.client_events().contains(&Event::Connected));
            while let Some((handle, event)) = pair.server.poll_event() {
                if event == Event::Connected {
                    (pair.far, connected) = (handle, connected + 1);
                }
            }
        }
        pair
    }

    fn client_events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.client.poll_event()).map(|(_, event)| event).collect()
    }

    /// What one side has to send now, a frame for each datagram; `build` does the sending.
    pub(super) fn datagrams(
        &mut self,
        from_client: bool,
        mut build: impl FnMut(&mut Endpoint, Instant, &mut [u8]) -> Option<warpline_proto::Transmit>,
    ) -> Vec<Frame> {
        let endpoint = if from_client { &mut self.client } else { &mut self.server };
        let mut out = Vec::new();
        while let Some(train) = build(endpoint, self.now, &mut self.buffer) {
            let datagrams = self.buffer[..train.len].chunks(train.segment_size);
            for datagram in datagrams {
                let mut frame = self.pool.take().expect("what arrived was read");
                frame.set_len(datagram.len());
                frame.copy_from_slice(datagram);
                out.push(frame);
            }
        }
        out
    }

    /// Where a datagram came from, as the receiver sees it.
    pub(super) fn meta(to_client: bool) -> DatagramMeta {
        let (from, to) = if to_client { (SERVER, CLIENT) } else { (CLIENT, SERVER) };
        DatagramMeta { remote: SocketAddr::from(from), local: Some(SocketAddr::from(to).ip()), ecn: None }
    }

    /// Both send what they have, and the time goes on.
    pub(super) fn exchange(&mut self) {
        for from_client in [true, false] {
            for mut datagram in self.datagrams(from_client, Endpoint::poll_transmit) {
                let receiver = if from_client { &mut self.server } else { &mut self.client };
                receiver.handle_datagram(self.now, &Self::meta(!from_client), &mut datagram);
            }
        }
        self.pass_time();
    }

    /// The time goes on, and what is due happens.
    pub(super) fn pass_time(&mut self) {
        self.now += STEP;
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
    }

    /// A stream of the server's for bulk data.
    pub(super) fn open(&mut self) -> StreamId {
        let connection = self.server.connection(self.far).expect("it lives");
        connection.open(Dir::Uni).expect("the client allows streams")
    }

    /// The server writes as much of `data` as the stream takes; how much that is.
    pub(super) fn write(&mut self, id: StreamId, data: &mut Chunk) -> usize {
        self.server.connection(self.far).and_then(|connection| connection.write(id, data).ok()).unwrap_or(0)
    }

    /// The client reads all that has come; how many chunks that is.
    pub(super) fn read(&mut self, id: StreamId) -> u64 {
        while self.client.poll_event().is_some() {}
        let now = self.now;
        let Some(connection) = self.client.connection(self.near) else { return 0 };
        while connection.accept(Dir::Uni).is_some() {}
        let mut chunks = 0;
        while let Ok(Some(_)) = connection.read(now, id, 1 << 20) {
            chunks += 1;
        }
        chunks
    }
}
