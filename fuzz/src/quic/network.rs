//! Two connections with a hostile network between them.

use std::collections::VecDeque;
use std::time::Duration;

use warpline_frame::Chunk;
use warpline_proto::{ConnectionHandle, Dir, Event, Instant, Side, StreamId};

use super::ends::Ends;
use super::script::Script;

/// Bytes of the transfer.
const BYTES: usize = 40_000;
/// One way.
const DELAY: Duration = Duration::from_millis(5);
/// How long a network that has become honest may take to deliver everything: the idle timeout, and some.
const PATIENCE: Duration = Duration::from_secs(60);
/// Datagrams after which a run is over: more than the transfer can need.
const DATAGRAMS_MAX: usize = 5_000;

/// A network that does with every datagram what the script says: deliver, drop, repeat, delay, damage, cut. Nobody panics; as long
/// as nothing was damaged, what is read is what was written; and in the end both sides have forgotten everything.
pub fn two_connections(data: &[u8]) {
    let (ends, client) = Ends::new();
    let mut network = Network {
        ends,
        script: Script::new(data),
        flying: VecDeque::new(),
        seen: Vec::new(),
        honest: true,
        carried: 0,
        transfer: Transfer { client, stream: None, written: 0, finished: false, server: None, read: 0 },
    };
    network.run();
    for side in [Side::Client, Side::Server] {
        network.ends.abandon(side);
    }
}

struct Flying {
    at: Instant,
    to: Side,
    datagram: Vec<u8>,
}

struct Network<'a> {
    ends: Ends,
    script: Script<'a>,
    flying: VecDeque<Flying>,
    /// Some datagrams of the past, to be replayed.
    seen: Vec<(Side, Vec<u8>)>,
    /// Nothing was damaged, which without packet protection nobody would notice.
    honest: bool,
    carried: usize,
    transfer: Transfer,
}

impl Network<'_> {
    fn run(&mut self) {
        let until = self.ends.now + PATIENCE;
        while self.ends.now < until && self.carried < DATAGRAMS_MAX {
            let now = self.ends.now;
            while let Some(position) = self.flying.iter().position(|f| f.at <= now) {
                if let Some(Flying { to, datagram, .. }) = self.flying.remove(position) {
                    self.ends.deliver(to, datagram);
                }
            }
            for side in [Side::Client, Side::Server] {
                for (handle, event) in self.ends.events(side) {
                    if side == Side::Server && event == Event::Connected {
                        self.transfer.server = Some(handle);
                    }
                }
                let sent = self.ends.meet_deadlines(side);
                sent.into_iter().for_each(|datagram| self.carry(side, datagram));
            }
            self.transfer.pump(&mut self.ends, self.honest);
            for side in [Side::Client, Side::Server] {
                let sent = self.ends.outgoing(side);
                sent.into_iter().for_each(|datagram| self.carry(side, datagram));
            }
            let deadlines = [Side::Client, Side::Server].map(|side| self.ends.end(side).next_timeout());
            let next = deadlines.into_iter().flatten().chain(self.flying.iter().map(|f| f.at)).min();
            let Some(at) = next else { return };
            self.ends.now = self.ends.now.max(at);
        }
    }

    /// The network's decision about one datagram.
    fn carry(&mut self, from: Side, mut datagram: Vec<u8>) {
        let to = if from == Side::Client { Side::Server } else { Side::Client };
        self.carried += 1;
        let mut at = self.ends.now + DELAY;
        match self.script.byte() {
            0..150 => {}
            150..175 => return,
            175..190 => self.flying.push_back(Flying { at: at + DELAY, to, datagram: datagram.clone() }),
            190..210 => at += Duration::from_millis(u64::from(self.script.byte())),
            210..235 => {
                let position = usize::from(self.script.short()) % datagram.len();
                datagram[position] = self.script.byte();
                self.honest = false;
            }
            235..245 => {
                let len = usize::from(self.script.short()) % datagram.len() + 1;
                datagram.truncate(len);
                self.honest = false;
            }
            245..250 => self.seen.push((to, datagram.clone())),
            _ => {
                if let Some((to, datagram)) = self.seen.pop() {
                    self.flying.push_back(Flying { at, to, datagram });
                }
            }
        }
        self.flying.push_back(Flying { at, to, datagram });
    }
}

/// Bytes from the client to the server on one stream.
struct Transfer {
    client: ConnectionHandle,
    stream: Option<StreamId>,
    written: usize,
    finished: bool,
    server: Option<ConnectionHandle>,
    read: usize,
}

fn pattern(i: usize) -> u8 {
    (i.wrapping_mul(2_654_435_761) >> 13) as u8
}

impl Transfer {
    fn pump(&mut self, ends: &mut Ends, honest: bool) {
        let now = ends.now;
        if let Some(sender) = ends.end(Side::Client).connection(self.client)
            && let Some(id) = self.stream.or_else(|| sender.open(Dir::Uni))
        {
            self.stream = Some(id);
            while self.written < BYTES {
                let mut chunk = Chunk::from((self.written..BYTES).map(pattern).collect::<Vec<u8>>());
                match sender.write(id, &mut chunk) {
                    Ok(n) => self.written += n,
                    Err(_) => break,
                }
            }
            if self.written == BYTES && !self.finished {
                self.finished = sender.finish(id).is_ok();
            }
        }
        let Some(receiver) = self.server.and_then(|handle| ends.end(Side::Server).connection(handle)) else { return };
        while let Some(id) = receiver.accept(Dir::Uni) {
            self.stream = self.stream.or(Some(id));
        }
        let Some(id) = self.stream else { return };
        loop {
            match receiver.read(now, id, 1 << 16) {
                Ok(Some(chunk)) => {
                    let right = chunk.iter().zip(self.read..).all(|(byte, i)| *byte == pattern(i));
                    assert!(right || !honest, "wrong bytes from {}", self.read);
                    self.read += chunk.len();
                }
                Ok(None) => {
                    assert!(self.read == BYTES || !honest, "the end came at {}", self.read);
                    return;
                }
                Err(_) => return,
            }
        }
    }
}
