//! The server: verifies what comes, answers with as much as was asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use warpline_frame::Chunk;
use warpline_proto::{Connection, ConnectionError, Dir, Event, StreamId};
use warpline_wire::TransportErrorCode;

use super::stream::{InEnd, Incoming, OutEnd, Outgoing};
use super::{App, CLOSE_CODE, RESET_CODE};
use crate::check::Pattern;
use crate::workers::{ConnectionKey, Workers};
use crate::{Instant, Report, Tally};

/// The server's answer to a stream that ended before its header.
const NO_HEADER_CODE: u64 = 0x1_0010;

/// The server application.
#[derive(Debug)]
pub struct Server {
    chunk_max: usize,
    /// Looked up by key only, never iterated: the order of a hash map must not matter.
    connections: HashMap<ConnectionKey, Serving>,
    tally: Tally,
    faults: Vec<String>,
}

#[derive(Debug, Default)]
struct Serving {
    early: bool,
    connected: bool,
    streams: BTreeMap<StreamId, Stream>,
    datagrams: BTreeSet<u64>,
}

#[derive(Debug)]
struct Stream {
    dir: Dir,
    incoming: Incoming,
    outgoing: Option<Outgoing>,
}

impl Server {
    /// A server that reads and writes at most `chunk_max` bytes a call.
    pub fn new(chunk_max: usize) -> Self {
        Self { chunk_max, connections: HashMap::new(), tally: Tally::default(), faults: Vec::new() }
    }

    fn accept(&mut self, now: Instant, connection: &mut Connection, key: ConnectionKey, dir: Dir) {
        while let Some(id) = connection.accept(dir) {
            let stream = Stream { dir, incoming: Incoming::with_header(self.chunk_max), outgoing: None };
            if self.connections.entry(key).or_default().streams.insert(id, stream).is_some() {
                self.faults.push(format!("stream {id:?} was accepted twice"));
            }
            self.pump(now, connection, key, id);
        }
    }

    /// Moves one stream as far as it goes.
    fn pump(&mut self, now: Instant, connection: &mut Connection, key: ConnectionKey, id: StreamId) {
        let Some(serving) = self.connections.get_mut(&key) else { return };
        let Some(stream) = serving.streams.get_mut(&id) else { return };
        let before = stream.incoming.verified();
        stream.incoming.pump(now, connection, id, u64::MAX);
        self.tally.delivered_bytes += stream.incoming.verified() - before;
        if stream.dir == Dir::Bi && stream.outgoing.is_none() {
            stream.begin_answer(connection, id, self.chunk_max);
        }
        if let Some(outgoing) = &mut stream.outgoing {
            let before = outgoing.accepted;
            outgoing.pump(connection, id, u64::MAX);
            self.tally.accepted_bytes += outgoing.accepted - before;
            if let Some(OutEnd::Stopped(code)) = outgoing.end {
                // RFC 9000, section 3.5: a stopped stream is reset. The protocol may have done so already.
                let _ = connection.reset(id, code);
            }
        }
        match stream.incoming.end {
            Some(InEnd::Wrong(offset)) => self.faults.push(format!("wrong content at {offset} of {id:?}")),
            Some(InEnd::Closed) => self.faults.push(format!("{id:?} cannot be read any more")),
            Some(InEnd::Reset(code)) if code != RESET_CODE => {
                self.faults.push(format!("{id:?} was reset with {code}"));
            }
            _ => {}
        }
        if stream.is_over() {
            serving.streams.remove(&id);
            self.tally.completed += 1;
        }
    }

    fn take_datagrams(&mut self, connection: &mut Connection, key: ConnectionKey) {
        let serving = self.connections.entry(key).or_default();
        while let Some(datagram) = connection.recv_datagram() {
            match datagram_number(&datagram) {
                Some(number) if serving.datagrams.insert(number) => self.tally.completed += 1,
                Some(number) => self.faults.push(format!("datagram {number} came twice")),
                None => self.faults.push("a datagram with wrong content".into()),
            }
        }
    }
}

impl App for Server {
    fn handle_event(&mut self, now: Instant, workers: &mut Workers, key: ConnectionKey, event: Event) {
        if let Event::Closed(error) = &event {
            self.tally.closed += 1;
            let serving = self.connections.remove(&key).unwrap_or_default();
            if !serving.is_expected_end(error) {
                self.faults.push(format!("connection ended: {error}"));
            }
            return;
        }
        let Some(connection) = workers.connection(key) else { return };
        match event {
            Event::Connected => {
                self.connections.entry(key).or_default().connected = true;
                self.tally.connected += 1;
            }
            Event::EarlyData => self.connections.entry(key).or_default().early = true,
            Event::StreamOpened(dir) => self.accept(now, connection, key, dir),
            Event::Readable(id) | Event::Writable(id) | Event::Stopped(id, _) => {
                self.pump(now, connection, key, id);
            }
            Event::DatagramReceived => self.take_datagrams(connection, key),
            Event::Accepting
            | Event::AddressObserved
            | Event::StreamsAvailable(_)
            | Event::Finished(_)
            | Event::DatagramsUnblocked
            | Event::Closed(_) => {}
        }
    }

    fn is_done(&self) -> bool {
        self.connections.is_empty()
    }

    fn tally(&self) -> Tally {
        self.tally
    }

    fn report(&self) -> Report {
        Report { done: self.is_done(), tally: self.tally, faults: self.faults.clone() }
    }
}

impl Serving {
    /// The client closes with its code. A client that has closed and forgotten, and whose CONNECTION_CLOSE was lost, is
    /// noticed by the idle timeout. One whose early data was answered may be done before the server has its Finished; the
    /// packets that it closes with then are not for codes of applications (RFC 9000, section 10.2.3).
    fn is_expected_end(&self, error: &ConnectionError) -> bool {
        match error {
            ConnectionError::ApplicationClosed { code, .. } => *code == CLOSE_CODE,
            ConnectionError::ClosedByPeer { code, .. } => {
                self.early && !self.connected && *code == TransportErrorCode::APPLICATION_ERROR
            }
            error => *error == ConnectionError::TimedOut,
        }
    }
}

impl Stream {
    fn begin_answer(&mut self, connection: &mut Connection, id: StreamId, chunk_max: usize) {
        match (self.incoming.header(), self.incoming.end) {
            (Some(header), _) => {
                self.outgoing = Some(Outgoing::new(Chunk::new(), !header.key, header.download, chunk_max));
            }
            (None, Some(_)) => {
                let mut nothing = Outgoing::new(Chunk::new(), 0, 0, 1);
                nothing.end = Some(OutEnd::Closed);
                self.outgoing = Some(nothing);
                // The stream may have been stopped as well; then it is reset already.
                let _ = connection.reset(id, NO_HEADER_CODE);
            }
            (None, None) => {}
        }
    }

    fn is_over(&self) -> bool {
        let sent = self.dir == Dir::Uni || self.outgoing.as_ref().is_some_and(|outgoing| outgoing.end.is_some());
        sent && self.incoming.end.is_some()
    }
}

/// The number of a datagram whose content is right.
fn datagram_number(datagram: &[u8]) -> Option<u64> {
    let (number, content) = datagram.split_first_chunk::<8>()?;
    let number = u64::from_be_bytes(*number);
    Pattern::new(number).verify(content).ok().map(|()| number)
}
