//! What a capture means.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use warpline_sim::Codepoint;
use warpline_sim::hop::Direction;

use super::capture::{Datagram, Point};
use super::frames::{Frame, frames};
use super::keys::{KeyLog, Keys};
use super::packet::{Kind, Packet, Reader, packets};

/// TLS extension `pre_shared_key` (RFC 8446 section 4.2): in a ServerHello, the session was resumed.
const PRE_SHARED_KEY: usize = 41;

/// One direction.
#[derive(Debug, Default)]
pub struct Way {
    /// Datagrams.
    pub datagrams: u64,
    /// Datagrams that bear ECT(0), ECT(1) or CE.
    pub marked: u64,
    /// Packets by kind.
    pub initials: u64,
    /// Initial packets with a token.
    pub tokens: u64,
    /// 0-RTT packets.
    pub zero_rtt: u64,
    /// Handshake packets.
    pub handshakes: u64,
    /// Retry packets.
    pub retries: u64,
    /// Version negotiation packets.
    pub version_negotiations: u64,
    /// Versions of long headers.
    pub versions: BTreeSet<u32>,
    /// 1-RTT packets that could be opened, by generation of the keys.
    pub generations: Vec<u64>,
    /// 1-RTT packets that could not be opened.
    pub unopened: u64,
    /// ACK frames with ECN counts.
    pub ecn_acks: u64,
    /// PATH_CHALLENGE frames.
    pub path_challenges: u64,
    /// PATH_RESPONSE frames.
    pub path_responses: u64,
    /// Streams that carried data.
    pub streams: BTreeSet<u64>,
}

/// A handshake.
#[derive(Debug, Default)]
pub struct Handshake {
    /// Initial packets that carried the beginning of a ClientHello.
    pub client_hellos: u64,
    /// The cipher suite of the ServerHello.
    pub suite: Option<u16>,
    /// The ServerHello took a session up.
    pub resumed: bool,
}

/// Everything about a capture.
#[derive(Debug, Default)]
pub struct Trace {
    /// From client to server.
    pub up: Way,
    /// From server to client.
    pub down: Way,
    /// In the order of their beginning.
    pub handshakes: Vec<Handshake>,
    /// The most that the server sent, as a multiple of what it had received, to an address that was not validated.
    pub amplification: f64,
}

impl Trace {
    /// Reads a capture with what the key log holds.
    pub fn read(capture: &[Datagram], key_log: &str) -> Self {
        let mut reading = Reading { log: KeyLog::parse(key_log), ..Reading::default() };
        for datagram in capture.iter().filter(|datagram| datagram.point == Point::Sent) {
            reading.datagram(datagram);
        }
        let handshakes = reading.connections.into_iter().map(|connection| connection.handshake).collect();
        Self { handshakes, amplification: amplification(capture), ..reading.trace }
    }
}

/// RFC 9000 section 8.1: an address is validated once a Handshake packet, or a token, has come from it.
fn amplification(capture: &[Datagram]) -> f64 {
    let mut received: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    let mut sent: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    let mut validated = BTreeSet::new();
    let mut worst = 0.0_f64;
    for datagram in capture {
        let client = datagram.client;
        match (datagram.point, datagram.direction) {
            (Point::Delivered, Direction::Up) => {
                *received.entry(client).or_default() += datagram.payload.len();
                let proves = |packet: &Packet<'_>| packet.kind == Kind::Handshake || packet.has_token;
                if packets(&datagram.payload).iter().any(proves) {
                    validated.insert(client);
                }
            }
            (Point::Sent, Direction::Down) if !validated.contains(&client) => {
                let sent = sent.entry(client).or_default();
                *sent += datagram.payload.len();
                let received = received.get(&client).copied().unwrap_or_default();
                worst = worst.max(*sent as f64 / received.max(1) as f64);
            }
            _ => {}
        }
    }
    worst
}

/// A trace under construction.
#[derive(Default)]
struct Reading {
    trace: Trace,
    connections: Vec<Connection>,
    log: KeyLog,
}

/// What has to be known of a connection to read on.
#[derive(Default)]
struct Connection {
    handshake: Handshake,
    client_cid: Vec<u8>,
    /// Empty until the server has answered.
    server_cid: Vec<u8>,
    /// What the keys of Initial packets are made from: the client's first destination, or that of a Retry.
    key_cid: Vec<u8>,
    version: u32,
    crypto: [Crypto; 2],
    client_random: Vec<u8>,
    one_rtt: [Option<OneRtt>; 2],
}

/// CRYPTO data of Initial packets, by offset.
#[derive(Default)]
struct Crypto(BTreeMap<u64, Vec<u8>>);

struct OneRtt {
    secret: Vec<u8>,
    current: Keys,
    next: Option<Keys>,
    generation: usize,
    expected: u64,
}

impl Reading {
    fn datagram(&mut self, datagram: &Datagram) {
        let way = self.way(datagram.direction);
        way.datagrams += 1;
        way.marked += u64::from(datagram.ecn != Codepoint::NotEct);
        for packet in packets(&datagram.payload) {
            self.packet(datagram.direction, &packet);
        }
    }

    fn way(&mut self, direction: Direction) -> &mut Way {
        match direction {
            Direction::Up => &mut self.trace.up,
            Direction::Down => &mut self.trace.down,
        }
    }

    fn packet(&mut self, direction: Direction, packet: &Packet<'_>) {
        let way = self.way(direction);
        if packet.version != 0 {
            way.versions.insert(packet.version);
        }
        match packet.kind {
            Kind::Initial => {
                way.initials += 1;
                way.tokens += u64::from(packet.has_token);
                self.initial(direction, packet);
            }
            Kind::ZeroRtt => way.zero_rtt += 1,
            Kind::Handshake => way.handshakes += 1,
            Kind::VersionNegotiation => way.version_negotiations += 1,
            Kind::Retry => {
                way.retries += 1;
                let known = self.connections.iter_mut().rev().find(|known| known.client_cid == packet.dcid);
                if let Some(connection) = known {
                    connection.key_cid = packet.scid.to_vec();
                }
            }
            Kind::Short => self.short(direction, packet.bytes),
        }
    }

    fn initial(&mut self, direction: Direction, packet: &Packet<'_>) {
        let client_cid = if direction == Direction::Up { packet.scid } else { packet.dcid };
        let open = |key_cid: &[u8]| {
            let keys = Keys::initial(packet.version, key_cid, direction == Direction::Up)?;
            keys.open(packet.bytes, packet.pn_at, 0)
        };
        let known = self.connections.iter().enumerate().rev().filter(|(_, known)| known.client_cid == client_cid);
        let opened = known.map(|(index, known)| (index, open(&known.key_cid))).find(|(_, opened)| opened.is_some());
        let (index, payload) = match opened {
            Some((index, Some((.., payload)))) => (index, payload),
            _ => {
                // Not of a connection that is known: a new one if it opens with its own destination.
                let Some((.., payload)) = open(packet.dcid).filter(|_| direction == Direction::Up) else { return };
                let (client_cid, key_cid) = (packet.scid.to_vec(), packet.dcid.to_vec());
                self.connections.push(Connection { client_cid, key_cid, ..Connection::default() });
                (self.connections.len() - 1, payload)
            }
        };
        self.connections[index].initial(direction, packet, &payload, &self.log);
    }

    fn short(&mut self, direction: Direction, bytes: &[u8]) {
        let opened = self.connections.iter_mut().rev().find_map(|connection| connection.short(direction, bytes));
        let way = self.way(direction);
        let Some((generation, payload)) = opened else {
            way.unopened += 1;
            return;
        };
        way.generations.resize(way.generations.len().max(generation + 1), 0);
        way.generations[generation] += 1;
        for frame in frames(&payload) {
            match frame {
                Frame::AckEcn(_) => way.ecn_acks += 1,
                Frame::PathChallenge => way.path_challenges += 1,
                Frame::PathResponse => way.path_responses += 1,
                Frame::Stream(id) => drop(way.streams.insert(id)),
                Frame::Crypto { .. } | Frame::Ack | Frame::Other => {}
            }
        }
    }
}

impl Connection {
    fn initial(&mut self, direction: Direction, packet: &Packet<'_>, payload: &[u8], log: &KeyLog) {
        if direction == Direction::Down {
            self.server_cid = packet.scid.to_vec();
            self.version = packet.version;
        }
        for frame in frames(payload) {
            if let Frame::Crypto { offset, data } = frame {
                self.handshake.client_hellos += u64::from(direction == Direction::Up && offset == 0);
                self.crypto[direction.index()].0.insert(offset, data.to_vec());
            }
        }
        if direction == Direction::Up {
            self.client_hello();
        } else {
            self.server_hello(log);
        }
    }

    fn client_hello(&mut self) {
        let Some((1, hello)) = self.crypto[Direction::Up.index()].last_message() else { return };
        // The version comes before the random.
        if let Some(random) = hello.get(2..34) {
            self.client_random = random.to_vec();
        }
    }

    fn server_hello(&mut self, log: &KeyLog) {
        let Some((2, hello)) = self.crypto[Direction::Down.index()].last_message() else { return };
        let Some((suite, resumed)) = parse_server_hello(&hello) else { return };
        self.handshake.suite = Some(suite);
        self.handshake.resumed = resumed;
        for (direction, label) in [(Direction::Up, "CLIENT"), (Direction::Down, "SERVER")] {
            let secret = log.secret(&format!("{label}_TRAFFIC_SECRET_0"), &self.client_random);
            let keys = secret.and_then(|secret| Some((secret.to_vec(), Keys::new(suite, self.version, secret)?)));
            let place = &mut self.one_rtt[direction.index()];
            if let (None, Some((secret, current))) = (&place, keys) {
                *place = Some(OneRtt { secret, current, next: None, generation: 0, expected: 0 });
            }
        }
    }

    /// Opens a 1-RTT packet of this connection; returns the generation of its keys.
    fn short(&mut self, direction: Direction, bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
        let receiver = if direction == Direction::Up { &self.server_cid } else { &self.client_cid };
        let pn_at = 1 + receiver.len();
        self.one_rtt[direction.index()].as_mut()?.open(bytes, pn_at)
    }
}

impl OneRtt {
    fn open(&mut self, bytes: &[u8], pn_at: usize) -> Option<(usize, Vec<u8>)> {
        if let Some((_, number, payload)) = self.current.open(bytes, pn_at, self.expected) {
            self.expected = self.expected.max(number + 1);
            return Some((self.generation, payload));
        }
        if self.next.is_none() {
            self.next = self.current.next(&self.secret);
        }
        let (_, number, payload) = self.next.as_ref()?.open(bytes, pn_at, self.expected)?;
        self.expected = self.expected.max(number + 1);
        self.current = self.next.take()?;
        self.generation += 1;
        Some((self.generation, payload))
    }
}

impl Crypto {
    /// The last complete TLS message that begins the stream or follows others: a HelloRetryRequest comes before the
    /// ServerHello that counts.
    fn last_message(&self) -> Option<(u8, Vec<u8>)> {
        let mut stream: Vec<u8> = Vec::new();
        for (&offset, data) in &self.0 {
            let known = (stream.len() as u64).checked_sub(offset)?;
            stream.extend(data.iter().skip(usize::try_from(known).ok()?));
        }
        let mut reader = Reader { bytes: &stream, at: 0 };
        let mut last = None;
        while let (Some(kind), Some(len)) = (reader.number(1), reader.number(3)) {
            let Some(message) = reader.take(len) else { break };
            last = Some((u8::try_from(kind).ok()?, message.to_vec()));
        }
        last
    }
}

/// The suite, and whether a session was taken up.
fn parse_server_hello(hello: &[u8]) -> Option<(u16, bool)> {
    let mut reader = Reader { bytes: hello, at: 34 };
    let session_len = reader.number(1)?;
    reader.take(session_len)?;
    let suite = u16::try_from(reader.number(2)?).ok()?;
    // The compression method and the length of the extensions.
    reader.take(3)?;
    let mut resumed = false;
    while let (Some(kind), Some(len)) = (reader.number(2), reader.number(2)) {
        resumed |= kind == PRE_SHARED_KEY;
        reader.take(len)?;
    }
    Some((suite, resumed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(point: Point, direction: Direction, payload: Vec<u8>) -> Datagram {
        Datagram { point, direction, client: ([127, 0, 0, 1], 9).into(), ecn: Codepoint::NotEct, payload }
    }

    fn initial(len: usize) -> Vec<u8> {
        let mut payload = vec![0xc0, 0, 0, 0, 1, 0, 0, 0, 0x44, 0];
        payload.resize(len, 0);
        payload
    }

    #[test]
    fn amplification_counts_what_arrived_and_ends_with_validation() {
        let up = |point| datagram(point, Direction::Up, initial(1_200));
        let down = |len| datagram(Point::Sent, Direction::Down, initial(len));
        assert_eq!(amplification(&[up(Point::Sent), up(Point::Delivered), down(1_200), down(1_200)]), 2.0);
        assert!(amplification(&[up(Point::Sent), down(1_200)]) > 3.0, "what was lost gives no allowance");
        let handshake = datagram(Point::Delivered, Direction::Up, vec![0xe0, 0, 0, 0, 1, 0, 0, 1, 0]);
        assert_eq!(amplification(&[up(Point::Delivered), down(1_200), handshake, down(60_000)]), 1.0);
    }

    #[test]
    fn the_last_hello_counts() {
        let mut crypto = Crypto::default();
        crypto.0.insert(5, vec![2, 0, 0, 1, 9]);
        assert_eq!(crypto.last_message(), None, "a gap");
        crypto.0.insert(0, vec![2, 0, 0, 1, 8]);
        assert_eq!(crypto.last_message(), Some((2, vec![9])));
    }
}
