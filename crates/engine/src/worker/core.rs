//! What a worker's handles and its loop both work on: the protocol endpoint, the side table, the timers of tasks.

use crate::error::OperationError;
use crate::limits::LINGER;
use crate::timers::Timers;
use crate::worker::conns::{ConnSide, ConnTable, ConnectionKey, Phase, SendPhase};
use crate::worker::leftovers::Leftovers;
use crate::worker::rebind::Rebind;
use crate::worker::waiters::WakerSet;
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::task::Waker;
use warpline_proto::{Connection, ConnectionError, ConnectionHandle, Endpoint, Event, Instant};
use warpline_wire::StreamId;

/// Error code and reason with which a connection is closed that nobody accepts in time.
const BACKLOG_FULL: (u64, &[u8]) = (0, b"accept queue full");

/// Connections whose handshake is done and that the program has not accepted.
#[derive(Debug)]
pub(crate) struct Incoming {
    queue: VecDeque<ConnectionKey>,
    capacity: usize,
    pub(crate) waiters: WakerSet,
    pub(crate) closed: bool,
}

impl Incoming {
    pub(crate) fn push(&mut self, key: ConnectionKey, wakes: &mut Vec<Waker>) {
        self.queue.push_back(key);
        self.waiters.drain(wakes);
    }

    /// Takes out the connections with these IDs, and says which of them waited here.
    pub(crate) fn take_out(&mut self, ids: &HashSet<u64>) -> HashSet<u64> {
        let waiting = self.queue.iter().map(|key| key.id()).filter(|id| ids.contains(id)).collect();
        self.queue.retain(|key| !ids.contains(&key.id()));
        waiting
    }
}

/// The state of a worker that is not I/O.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) endpoint: Endpoint,
    pub(crate) conns: ConnTable,
    pub(crate) timers: Timers,
    pub(crate) incoming: Incoming,
    /// Time of the current turn.
    pub(crate) now: Instant,
    /// Wakers to wake once nothing is borrowed any more: a waker may run code of the program.
    pub(crate) wakes: Vec<Waker>,
    /// Connections without handles that still deliver finished streams, and until when. In order of time.
    lingering: VecDeque<(Instant, ConnectionKey)>,
    pub(crate) refused: u64,
    /// Other sockets that tasks want the worker to go over to.
    pub(crate) rebinds: Vec<Rc<Rebind>>,
    /// A connection has lost its last handle that could not leave this thread.
    pub(crate) unpinned: bool,
    /// What connections are closed with, once the end was asked for.
    pub(crate) farewell: Option<(u64, Vec<u8>)>,
}

/// One connection: both halves of its state.
pub(crate) struct Both<'a> {
    pub(crate) conn: &'a mut Connection,
    pub(crate) side: &'a mut ConnSide,
    pub(crate) wakes: &'a mut Vec<Waker>,
    pub(crate) now: Instant,
}

impl Core {
    pub(crate) fn new(endpoint: Endpoint, now: Instant, accept_backlog: usize) -> Self {
        Self {
            endpoint,
            conns: ConnTable::default(),
            timers: Timers::default(),
            incoming: Incoming {
                queue: VecDeque::new(),
                capacity: accept_backlog,
                waiters: WakerSet::default(),
                closed: false,
            },
            now,
            wakes: Vec::new(),
            lingering: VecDeque::new(),
            refused: 0,
            rebinds: Vec::new(),
            unpinned: false,
            farewell: None,
        }
    }

    /// Both halves of a connection that has not ended. The error is boxed: it is rare, and large enough that carrying room for
    /// it costs those calls that succeed.
    #[inline]
    pub(crate) fn both(&mut self, key: ConnectionKey) -> Result<Both<'_>, Box<OperationError>> {
        let Some(side) = self.conns.get_mut(key) else { return Err(ended(None)) };
        if let Phase::Closed(error) = &side.phase {
            return Err(ended(Some(error)));
        }
        let Some(conn) = side.handle.and_then(|handle| self.endpoint.connection(handle)) else {
            return Err(ended(None));
        };
        Ok(Both { conn, side, wakes: &mut self.wakes, now: self.now })
    }

    /// A connection that has not ended, to look at: unlike [`both`](Self::both) this gives it nothing to do.
    pub(crate) fn look(&mut self, key: ConnectionKey) -> Result<&Connection, OperationError> {
        let side = self.conns.get_mut(key).ok_or(ConnectionError::LocallyClosed)?;
        if let Phase::Closed(error) = &side.phase {
            return Err(error.clone().into());
        }
        Ok(side.handle.and_then(|handle| self.endpoint.peek(handle)).ok_or(ConnectionError::LocallyClosed)?)
    }

    /// Takes in everything that the protocol has to tell.
    pub(crate) fn dispatch_events(&mut self) {
        while let Some((handle, event)) = self.endpoint.poll_event() {
            match self.conns.key_of(handle) {
                Some(key) => self.dispatch(key, event),
                None => match event {
                    Event::Connected => self.announce(handle, Phase::Established),
                    // What the client asks for can be answered at once.
                    Event::EarlyData => self.announce(handle, Phase::Handshaking),
                    _ => {}
                },
            }
        }
    }

    /// A connection that the table does not know is connected, or sends early data: a client's, for the program to accept; or one that
    /// the program gave up during its handshake, which is over already.
    fn announce(&mut self, handle: ConnectionHandle, phase: Phase) {
        let now = self.now;
        let Some(conn) = self.endpoint.connection(handle) else { return };
        if conn.is_closed() {
            return;
        }
        if self.incoming.closed || self.incoming.queue.len() >= self.incoming.capacity {
            conn.close(now, BACKLOG_FULL.0, BACKLOG_FULL.1);
            self.refused += 1;
            return;
        }
        let key = self.conns.insert(handle, phase);
        self.incoming.push(key, &mut self.wakes);
    }

    fn dispatch(&mut self, key: ConnectionKey, event: Event) {
        let Some(side) = self.conns.get_mut(key) else { return };
        let wakes = &mut self.wakes;
        match event {
            Event::Connected => {
                if matches!(side.phase, Phase::Handshaking) {
                    side.phase = Phase::Established;
                }
                side.waiters.phase.drain(wakes);
            }
            Event::Accepting | Event::EarlyData | Event::AddressObserved => {}
            Event::Closed(error) => {
                if !side.is_closed()
                    && let Some(conn) = side.handle.and_then(|handle| self.endpoint.connection(handle))
                {
                    side.leftovers = Leftovers::collect(conn, &side.streams, self.now);
                }
                self.ended(key, error);
            }
            Event::StreamOpened(dir) => side.waiters.accept[dir as usize].drain(wakes),
            Event::StreamsAvailable(dir) => side.waiters.open[dir as usize].drain(wakes),
            Event::Readable(id) => {
                if let Some(stream) = side.streams.get_mut(&id.0) {
                    wakes.extend(stream.recv_waker.take());
                }
            }
            Event::Writable(id) => {
                if let Some(stream) = side.streams.get_mut(&id.0) {
                    wakes.extend(stream.send_waker.take());
                }
            }
            Event::Finished(id) => self.send_settled(key, id, SendPhase::Acknowledged),
            Event::Stopped(id, code) => self.send_settled(key, id, SendPhase::Stopped(code)),
            Event::DatagramReceived => side.waiters.datagram_in.drain(wakes),
            Event::DatagramsUnblocked => side.waiters.datagram_out.drain(wakes),
        }
    }

    fn send_settled(&mut self, key: ConnectionKey, id: StreamId, phase: SendPhase) {
        if let Some(side) = self.conns.get_mut(key) {
            side.set_send(id, phase, &mut self.wakes);
        }
        self.close_if_unused(key);
    }

    /// The connection is over: everybody who waits learns of it, and the entry goes once the last handle does.
    pub(crate) fn ended(&mut self, key: ConnectionKey, error: ConnectionError) {
        let Some(side) = self.conns.get_mut(key) else { return };
        if !side.is_closed() {
            side.phase = Phase::Closed(error);
        }
        side.wake_all(&mut self.wakes);
        if side.refs == 0 {
            self.conns.remove(key);
        }
    }

    /// Closes a connection at the program's wish.
    pub(crate) fn close(&mut self, key: ConnectionKey, code: u64, reason: &[u8]) {
        match self.both(key) {
            Ok(Both { conn, now, .. }) => conn.close(now, code, reason),
            Err(_) => return,
        }
        self.ended(key, ConnectionError::LocallyClosed);
    }

    /// One handle fewer, which was a pinned one or not. The last one closes the connection, once its finished streams
    /// are delivered.
    pub(crate) fn release(&mut self, key: ConnectionKey, pinned: bool) {
        let Some(side) = self.conns.get_mut(key) else { return };
        side.refs -= 1;
        side.pinned -= u32::from(pinned);
        self.unpinned |= pinned && side.pinned == 0;
        if side.refs > 0 {
            return;
        }
        if side.is_closed() {
            self.conns.remove(key);
        } else if side.finishing > 0 {
            self.linger(self.now + LINGER, key);
        } else {
            self.close(key, 0, b"");
        }
    }

    fn close_if_unused(&mut self, key: ConnectionKey) {
        if let Some(side) = self.conns.get_mut(key)
            && side.refs == 0
            && side.finishing == 0
            && side.accepted
            && !side.is_closed()
        {
            self.close(key, 0, b"");
        }
    }

    /// Takes the next connection to accept, as one more handle to it. Those that ended while they waited are skipped.
    /// The handle is a pinned one.
    pub(crate) fn accept(&mut self) -> Option<ConnectionKey> {
        loop {
            let key = self.incoming.queue.pop_front()?;
            if let Some(side) = self.conns.get_mut(key) {
                side.refs += 1;
                side.pinned += 1;
                side.accepted = true;
                return Some(key);
            }
        }
    }

    /// The connection has until then to deliver its finished streams.
    pub(crate) fn linger(&mut self, until: Instant, key: ConnectionKey) {
        self.lingering.push_back((until, key));
    }

    /// Takes out the connections with these IDs.
    pub(crate) fn take_lingering(&mut self, ids: &HashSet<u64>) -> HashMap<u64, Instant> {
        let taken =
            self.lingering.iter().filter(|(_, key)| ids.contains(&key.id())).map(|(until, key)| (key.id(), *until));
        let taken = taken.collect();
        self.lingering.retain(|(_, key)| !ids.contains(&key.id()));
        taken
    }

    /// Number of connections that wait to be accepted.
    pub(crate) fn accept_queue_len(&self) -> usize {
        self.incoming.queue.len()
    }

    /// Fires the timers of tasks, and gives up connections that linger too long.
    pub(crate) fn fire_timers(&mut self) {
        let now = self.now;
        self.timers.fire(now, &mut self.wakes);
        while let Some(&(until, key)) = self.lingering.front() {
            let lingers = self.conns.get_mut(key).is_some_and(|side| side.refs == 0);
            if lingers && until > now {
                break;
            }
            self.lingering.pop_front();
            if lingers {
                self.close(key, 0, b"");
            }
        }
    }

    /// When this has to be called next although nothing happens.
    pub(crate) fn next_timeout(&mut self) -> Option<Instant> {
        let lingering = self.lingering.front().map(|&(until, _)| until);
        [self.endpoint.next_timeout(), self.timers.next(), lingering].into_iter().flatten().min()
    }

    /// No further connection will be accepted; those that wait are closed.
    pub(crate) fn stop_accepting(&mut self) {
        self.incoming.closed = true;
        self.incoming.waiters.drain(&mut self.wakes);
        while let Some(key) = self.incoming.queue.pop_front() {
            self.close(key, 0, b"");
        }
    }

    /// The worker cannot go on: everybody learns why, the peers excepted.
    pub(crate) fn fail_all(&mut self, why: &str) {
        self.incoming.closed = true;
        self.incoming.waiters.drain(&mut self.wakes);
        let keys: Vec<_> = self.conns.keys().collect();
        for key in keys {
            self.ended(key, ConnectionError::Failed(why.to_owned()));
        }
    }

    /// A connection is gone that can tell nothing any more.
    pub(crate) fn lost(&mut self, handle: ConnectionHandle, why: &str) {
        if let Some(key) = self.conns.key_of(handle) {
            self.ended(key, ConnectionError::Failed(why.to_owned()));
        }
    }

    /// Closes every connection.
    pub(crate) fn close_all(&mut self, code: u64, reason: &[u8]) {
        self.stop_accepting();
        self.farewell = Some((code, reason.to_vec()));
        self.endpoint.close_all(self.now, code, reason);
        let keys: Vec<_> = self.conns.keys().collect();
        for key in keys {
            self.ended(key, ConnectionError::LocallyClosed);
        }
    }
}

/// Why a connection cannot be used.
#[cold]
fn ended(error: Option<&ConnectionError>) -> Box<OperationError> {
    Box::new(error.cloned().unwrap_or(ConnectionError::LocallyClosed).into())
}
