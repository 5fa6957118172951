//! Many connections between one client and one server that take turns, with nothing between them: what a packet costs where
//! no cache has its connection any more.

use std::net::SocketAddr;
use std::time::Duration;

use warpline::Chunk;
use warpline_frame::{Frame, Pool, PoolConfig};
use warpline_proto::{ConnectionHandle, DatagramMeta, Dir, Endpoint, Event, Fetch, Instant};

use super::pair::{CLIENT, Configs, SERVER, endpoints};

/// Connections whose packets arrive together, as many as a worker looks ahead.
const TOGETHER: usize = 4;
const MESSAGE: [u8; 64] = [0x5a; 64];
/// How far the time goes on from one exchange to the next.
const STEP: Duration = Duration::from_micros(100);

/// What the connections do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Talk {
    /// A datagram and its echo.
    Messages,
    /// A stream with a few bytes each way.
    Requests,
}

/// Both ends of all connections.
pub(crate) struct Crowd {
    now: Instant,
    client: Endpoint,
    server: Endpoint,
    /// The client's handles.
    near: Vec<ConnectionHandle>,
    buffer: Vec<u8>,
    pool: Pool,
}

impl Crowd {
    /// So many connections, whose handshakes are done.
    pub(crate) fn new(configs: &Configs, count: usize) -> Self {
        let (client, server) = endpoints(configs);
        let pool = Pool::new(PoolConfig { frame_size: 2048, frames: 512, huge_pages: false }).expect("there is memory");
        let now = Instant::from_nanos(1_000_000_000);
        let mut crowd = Self { now, client, server, near: Vec::new(), buffer: vec![0; 65_536], pool };
        for _ in 0..count {
            let near = crowd.client.connect(crowd.now, &configs.client, SocketAddr::from(SERVER), "localhost");
            crowd.near.push(near.expect("it can be tried"));
            // The handshake, and what comes at once behind it.
            for _ in 0..12 {
                crowd.exchange();
            }
        }
        assert_eq!(crowd.server.len(), count, "all are connected");
        crowd
    }

    /// Each connection has a turn. What the server does for some of them goes through `serve`; how many turns it served.
    pub(crate) fn round(&mut self, talk: Talk, mut serve: impl FnMut(&mut dyn FnMut() -> u64) -> u64) -> u64 {
        let mut served = 0;
        for at in (0..self.near.len()).step_by(TOGETHER) {
            let together = at..(at + TOGETHER).min(self.near.len());
            for near in &self.near[together] {
                let connection = self.client.connection(*near).expect("it lives");
                match talk {
                    Talk::Messages => {
                        connection.send_datagram(Chunk::from_static(&MESSAGE)).expect("there is room");
                    }
                    Talk::Requests => {
                        let id = connection.open(Dir::Bi).expect("the server allows streams");
                        connection.write(id, &mut Chunk::from_static(&MESSAGE)).expect("there is room");
                        connection.finish(id).expect("it is open");
                        assert!(connection.read(self.now, id, 1 << 16).is_err(), "nothing has been answered");
                    }
                }
            }
            // The messages, the echoes, and the acknowledgements of these.
            for _ in 0..2 {
                let arrived = send(&mut self.client, self.now, &mut self.buffer, &mut self.pool);
                let mut out = Vec::new();
                let Self { server, now, buffer, pool, .. } = self;
                let mut arrived = Some(arrived);
                served += serve(&mut || {
                    let answers = handle(server, *now, arrived.take().unwrap_or_default());
                    out = send(server, *now, buffer, pool);
                    answers
                });
                self.deliver(out);
            }
        }
        served
    }

    /// What the server sent arrives, and is answered at once.
    fn deliver(&mut self, datagrams: Vec<(Frame, DatagramMeta)>) {
        for (mut datagram, meta) in datagrams {
            self.client.handle_datagram(self.now, &meta, &mut datagram);
        }
        while let Some((handle, event)) = self.client.poll_event() {
            let Some(connection) = self.client.connection(handle) else { continue };
            match event {
                Event::DatagramReceived => while connection.recv_datagram().is_some() {},
                Event::Readable(id) => while let Ok(Some(_)) = connection.read(self.now, id, 1 << 16) {},
                _ => {}
            }
        }
        self.now += STEP;
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
    }

    /// Both send what they have.
    fn exchange(&mut self) {
        let arrived = send(&mut self.client, self.now, &mut self.buffer, &mut self.pool);
        handle(&mut self.server, self.now, arrived);
        let out = send(&mut self.server, self.now, &mut self.buffer, &mut self.pool);
        self.deliver(out);
    }
}

/// A turn of the server's: as a worker does it, memory first. Returns how many it has answered.
fn handle(server: &mut Endpoint, now: Instant, mut arrived: Vec<(Frame, DatagramMeta)>) -> u64 {
    for batch in arrived.chunks_mut(TOGETHER) {
        batch.iter().for_each(|(datagram, _)| server.prefetch_route(datagram));
        let mut ahead = [None; TOGETHER];
        for (handle, (datagram, _)) in ahead.iter_mut().zip(batch.iter()) {
            *handle = server.foresee(datagram);
        }
        for step in Fetch::ALL {
            ahead.iter().flatten().for_each(|handle| server.fetch(*handle, step));
        }
        for (datagram, meta) in batch {
            server.handle_datagram(now, meta, datagram);
        }
    }
    let mut answers = 0;
    while let Some((handle, event)) = server.poll_event() {
        let Some(connection) = server.connection(handle) else { continue };
        match event {
            Event::DatagramReceived => {
                while let Some(message) = connection.recv_datagram() {
                    connection.send_datagram(message).expect("there is room");
                    answers += 1;
                }
            }
            Event::StreamOpened(dir) => {
                while let Some(id) = connection.accept(dir) {
                    while let Ok(Some(mut request)) = connection.read(now, id, 1 << 16) {
                        connection.write(id, &mut request).expect("there is room");
                    }
                    connection.finish(id).expect("it is open");
                    answers += 1;
                }
            }
            _ => {}
        }
    }
    answers
}

/// What an endpoint has to send now, a frame for each datagram, as it arrives at the other one.
fn send(endpoint: &mut Endpoint, now: Instant, buffer: &mut [u8], pool: &mut Pool) -> Vec<(Frame, DatagramMeta)> {
    let mut out = Vec::new();
    while let Some(train) = endpoint.poll_transmit(now, buffer) {
        let to_client = train.remote == SocketAddr::from(CLIENT);
        let (from, to) = if to_client { (SERVER, CLIENT) } else { (CLIENT, SERVER) };
        let meta = DatagramMeta { remote: from.into(), local: Some(SocketAddr::from(to).ip()), ecn: train.ecn };
        for datagram in buffer[..train.len].chunks(train.segment_size) {
            let mut frame = pool.take().expect("what arrived was read");
            frame.set_len(datagram.len());
            frame.copy_from_slice(datagram);
            out.push((frame, meta));
        }
    }
    out
}
