//! One connection that gets any frames.

use std::time::Duration;

use warpline_frame::Chunk;
use warpline_proto::{Connection, ConnectionHandle, Dir, Event, Side, StreamId};

use super::ends::Ends;
use super::plain::TAG_LEN;
use super::script::Script;

/// Length of the connection IDs of both endpoints.
const CID_LEN: usize = 8;

/// An established connection is fed packets with any frames, in any order with the passing of time and what its own program does.
/// It never panics, never sends or is due without end, and is forgotten in the end.
pub fn connection_frames(data: &[u8]) {
    let mut script = Script::new(data);
    let victim = if script.byte() & 1 == 0 { Side::Server } else { Side::Client };
    let mut forged = Forged::new(victim);
    while !script.is_over() {
        match script.byte() {
            0..160 => {
                let len = usize::from(script.short() % 1_400);
                forged.packet(script.bytes(len));
            }
            160..192 => forged.wait(Duration::from_millis(u64::from(script.short()))),
            what => forged.act(what, &mut script),
        }
        forged.settle();
    }
    forged.ends.abandon(victim);
}

/// The connection under test, and what is needed to write packets in its peer's name.
struct Forged {
    ends: Ends,
    victim: Side,
    handle: ConnectionHandle,
    dcid: [u8; CID_LEN],
    next_number: u32,
}

impl Forged {
    /// Two endpoints shake hands; then the peer of `victim` falls silent.
    fn new(victim: Side) -> Self {
        let (mut ends, client) = Ends::new();
        let mut dcid = None;
        let mut server = None;
        for _ in 0..8 {
            for (from, to) in [(Side::Client, Side::Server), (Side::Server, Side::Client)] {
                for datagram in ends.outgoing(from) {
                    let is_short = datagram[0] & 0x80 == 0;
                    if is_short && to == victim {
                        dcid = datagram.get(1..=CID_LEN).and_then(|bytes| bytes.try_into().ok());
                    }
                    ends.deliver(to, datagram);
                }
                let connected = ends.events(to).into_iter().find(|(_, event)| *event == Event::Connected);
                server = server.or(connected.filter(|_| to == Side::Server).map(|(handle, _)| handle));
            }
            if dcid.is_none() && server.is_some() {
                // Whoever is to be heard of has nothing to say by itself.
                let handle = if victim == Side::Server { Some(client) } else { server };
                if let Some(peer) = handle.and_then(|handle| ends.end(other(victim)).connection(handle)) {
                    peer.ping();
                }
            }
        }
        let handle = match victim {
            Side::Client => client,
            Side::Server => server.expect("a handshake without losses completes"),
        };
        Self { ends, victim, handle, dcid: dcid.expect("both sides have sent short headers"), next_number: 1_000 }
    }

    /// A packet with these frames arrives.
    fn packet(&mut self, frames: &[u8]) {
        let mut packet = vec![0x43];
        packet.extend_from_slice(&self.dcid);
        packet.extend_from_slice(&self.next_number.to_be_bytes());
        packet.extend_from_slice(frames);
        packet.extend_from_slice(&[0; TAG_LEN]);
        self.next_number += 1;
        self.ends.deliver(self.victim, packet);
    }

    fn wait(&mut self, time: Duration) {
        self.ends.now += time;
        self.ends.meet_deadlines(self.victim);
    }

    fn settle(&mut self) {
        self.ends.outgoing(self.victim);
        self.ends.events(self.victim);
        assert!(self.ends.end(self.victim).len() <= 1, "one connection became several");
    }

    /// The victim's program does something.
    fn act(&mut self, what: u8, script: &mut Script<'_>) {
        let now = self.ends.now;
        let Some(connection) = self.ends.end(self.victim).connection(self.handle) else { return };
        let id = StreamId(u64::from(script.byte()));
        match what % 12 {
            0 => write_new(connection, Dir::Bi, usize::from(script.short())),
            1 => write_new(connection, Dir::Uni, usize::from(script.short())),
            2 => while connection.accept(Dir::Bi).is_some() || connection.accept(Dir::Uni).is_some() {},
            3 | 4 => while let Ok(Some(_)) = connection.read(now, id, 1 << 16) {},
            5 => drop(connection.finish(id)),
            6 => drop(connection.reset(id, 7)),
            7 => drop(connection.stop_sending(id, 7)),
            8 => drop(connection.reset_at(id, 7, u64::from(script.byte()))),
            9 => drop(connection.send_datagram(Chunk::from(vec![1; usize::from(script.byte())]))),
            10 => while connection.recv_datagram().is_some() {},
            _ if script.byte() == 0 => connection.close(now, 1, b"enough"),
            _ => connection.ping(),
        }
    }
}

fn other(side: Side) -> Side {
    if side == Side::Client { Side::Server } else { Side::Client }
}

fn write_new(connection: &mut Connection, dir: Dir, len: usize) {
    let Some(id) = connection.open(dir) else { return };
    // It takes what it has room for.
    let _ = connection.write(id, &mut Chunk::from(vec![2; len]));
}
