//! The client: works through its workload, one connection after the other.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use warpline_frame::Chunk;
use warpline_proto::config::ClientConfig;
use warpline_proto::{Connection, ConnectionError, Dir, EarlyData, Event, MigrateError, SendDatagramError, StreamId};

use super::stream::{Header, InEnd, Incoming, OutEnd, Outgoing};
use super::{App, CLOSE_CODE, Ending, Exchange, Move, RESET_CODE, STOP_CODE, Workload};
use crate::check::Pattern;
use crate::workers::{ConnectionKey, Workers};
use crate::{Instant, Report, Rng, Tally, address};

/// Content bytes of a datagram: small enough for any path that QUIC allows.
const DATAGRAM_LEN: usize = 600;

/// After this long a move is tried again that was not possible.
const MOVE_AGAIN: Duration = Duration::from_millis(50);

/// The client application.
#[derive(Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    workload: Workload,
    rng: Rng,
    starts_at: Instant,
    connections_begun: u32,
    current: Option<Current>,
    moves: Moves,
    account: Account,
}

/// Where the client goes.
#[derive(Debug, Default)]
struct Moves {
    ahead: VecDeque<Move>,
    /// Where it is, if it has moved.
    at: Option<SocketAddr>,
    /// When a move that was not possible is tried again.
    again: Option<Instant>,
}

/// What happened, as it will be reported.
#[derive(Debug, Default)]
struct Account {
    tally: Tally,
    faults: Vec<String>,
}

/// The connection that is at work.
#[derive(Debug)]
struct Current {
    key: ConnectionKey,
    /// Index of the exchange that begins next.
    next_exchange: usize,
    /// When it may begin.
    begins_from: Instant,
    reads_from: Instant,
    streams: BTreeMap<StreamId, Stream>,
    datagrams_sent: u32,
    /// It begins before it is connected.
    early: bool,
    connected: bool,
    closing: bool,
}

#[derive(Debug)]
struct Stream {
    exchange: Exchange,
    outgoing: Outgoing,
    /// None on a unidirectional stream.
    incoming: Option<Incoming>,
    acknowledged: bool,
    /// The client has reset it or refused to read on, as planned.
    abandoned: bool,
}

impl Client {
    /// A client that has not begun, and will at `starts_at`.
    pub fn new(config: Arc<ClientConfig>, workload: Workload, rng: Rng, starts_at: Instant) -> Self {
        let moves = Moves { ahead: workload.moves.iter().copied().collect(), ..Moves::default() };
        let account = Account::default();
        Self { config, workload, rng, starts_at, connections_begun: 0, current: None, moves, account }
    }

    /// Moves if it is time for that. The handshake may not be confirmed yet, and no connection ID be left to move with.
    fn relocate(&mut self, now: Instant, workers: &mut Workers) {
        let Some(current) = self.current.as_ref().filter(|current| current.connected && !current.closing) else {
            return;
        };
        while let Some(Move { to, .. }) = self.moves.next(now) {
            match workers.migrate(now, current.key) {
                Ok(()) => {
                    self.moves.ahead.pop_front();
                    (self.moves.at, self.moves.again) = (Some(to), None);
                }
                Err(MigrateError::NoConnectionId) => {
                    // To the server it is the rebinding of a NAT then.
                    self.moves.ahead.pop_front();
                    (self.moves.at, self.moves.again) = (Some(to), None);
                    workers.connection(current.key).into_iter().for_each(Connection::ping);
                }
                Err(MigrateError::NotEstablished) => self.moves.again = Some(now + MOVE_AGAIN),
                Err(error) => {
                    self.account.faults.push(format!("cannot move to {to}: {error}"));
                    self.moves.ahead.clear();
                }
            }
        }
    }

    fn connect(&mut self, now: Instant, workers: &mut Workers) {
        if self.connections_begun == self.workload.connections {
            return;
        }
        self.connections_begun += 1;
        match workers.connect(now, &self.config, address::SERVER, "localhost") {
            Ok(key) => {
                let connection = workers.connection(key);
                let early = connection.is_some_and(|connection| connection.early_data() == EarlyData::Offered);
                self.current = Some(Current { early, ..Current::new(key, now) });
                self.advance(now, workers);
            }
            Err(error) => self.account.faults.push(format!("cannot connect: {error}")),
        }
    }

    /// Begins what may begin, and closes when all is done.
    fn advance(&mut self, now: Instant, workers: &mut Workers) {
        let Some(current) = self.current.as_mut().filter(|current| current.may_send()) else {
            return;
        };
        let Some(connection) = workers.connection(current.key) else { return };
        let Self { workload, rng, account, moves, .. } = self;
        current.send_datagrams(connection, workload.datagrams, account);
        while let Some(&exchange) = workload.exchanges.get(current.next_exchange)
            && current.streams.len() < workload.at_once
            && current.begins_from <= now
            && let Some(id) = connection.open(exchange.dir)
        {
            current.next_exchange += 1;
            let stream = Stream::new(exchange, rng.next_u64(), workload.chunk_max);
            if current.streams.insert(id, stream).is_some() {
                account.faults.push(format!("{id:?} was opened twice"));
            }
            current.pump(now, connection, id, account);
            if !workload.pause.is_zero() {
                current.begins_from = now + workload.pause;
            }
        }
        let done = current.next_exchange == workload.exchanges.len() && current.streams.is_empty();
        if current.connected && done && moves.ahead.is_empty() {
            current.closing = true;
            connection.close(now, CLOSE_CODE, b"done");
        }
    }

    fn handle_closed(&mut self, now: Instant, workers: &mut Workers, error: &ConnectionError) {
        self.account.tally.closed += 1;
        let finished = self.current.take().is_some_and(|current| current.closing);
        if finished && *error == ConnectionError::LocallyClosed {
            self.connect(now, workers);
        } else {
            self.account.faults.push(format!("connection ended: {error}"));
        }
    }
}

impl App for Client {
    fn start(&mut self, now: Instant, workers: &mut Workers) {
        if self.starts_at <= now {
            self.connect(now, workers);
        }
    }

    fn handle_event(&mut self, now: Instant, workers: &mut Workers, key: ConnectionKey, event: Event) {
        let Some(current) = self.current.as_mut().filter(|current| current.key == key) else { return };
        if let Event::Closed(error) = &event {
            return self.handle_closed(now, workers, error);
        }
        let Some(connection) = workers.connection(key) else { return };
        match event {
            Event::Connected => {
                current.connected = true;
                current.reads_from = now + self.workload.deaf_for;
                self.account.tally.connected += 1;
            }
            Event::Readable(id) | Event::Writable(id) | Event::Stopped(id, _) => {
                current.pump(now, connection, id, &mut self.account);
            }
            Event::Finished(id) => {
                if let Some(stream) = current.streams.get_mut(&id) {
                    if std::mem::replace(&mut stream.acknowledged, true) {
                        self.account.faults.push(format!("{id:?} was reported as finished twice"));
                    }
                    self.account.tally.acknowledged_bytes += stream.exchange.upload;
                }
                current.pump(now, connection, id, &mut self.account);
            }
            Event::StreamOpened(_) => self.account.faults.push("the server opened a stream".into()),
            Event::Accepting
            | Event::EarlyData
            | Event::AddressObserved
            | Event::StreamsAvailable(_)
            | Event::DatagramReceived
            | Event::DatagramsUnblocked
            | Event::Closed(_) => {}
        }
        self.advance(now, workers);
    }

    fn wake(&mut self, now: Instant, workers: &mut Workers) {
        if self.connections_begun == 0 && self.starts_at <= now {
            return self.connect(now, workers);
        }
        if let Some(current) = &mut self.current
            && current.connected
            && current.reads_from <= now
            && let Some(connection) = workers.connection(current.key)
        {
            let ids: Vec<StreamId> = current.streams.keys().copied().collect();
            for id in ids {
                current.pump(now, connection, id, &mut self.account);
            }
            current.reads_from = Instant::from_nanos(0);
        }
        self.relocate(now, workers);
        self.advance(now, workers);
    }

    fn address(&self) -> Option<SocketAddr> {
        self.moves.at
    }

    fn next_wake(&self) -> Option<Instant> {
        if self.connections_begun == 0 {
            return Some(self.starts_at);
        }
        let current = self.current.as_ref().filter(|current| current.connected && !current.closing)?;
        let deaf = (current.reads_from > Instant::from_nanos(0)).then_some(current.reads_from);
        let waits = current.next_exchange < self.workload.exchanges.len()
            && current.streams.len() < self.workload.at_once
            && !self.workload.pause.is_zero();
        let begins = waits.then_some(current.begins_from);
        deaf.into_iter().chain(begins).chain(self.moves.next_time()).min()
    }

    fn is_done(&self) -> bool {
        self.current.is_none() && self.connections_begun == self.workload.connections
    }

    fn tally(&self) -> Tally {
        self.account.tally
    }

    fn report(&self) -> Report {
        Report { done: self.is_done(), tally: self.tally(), faults: self.account.faults.clone() }
    }
}

impl Moves {
    /// When the next move is to be tried.
    fn next_time(&self) -> Option<Instant> {
        self.ahead.front().map(|next| self.again.unwrap_or(next.at))
    }

    /// The move that is due.
    fn next(&self, now: Instant) -> Option<Move> {
        self.ahead.front().copied().filter(|_| self.next_time().is_some_and(|at| at <= now))
    }
}

impl Current {
    fn new(key: ConnectionKey, now: Instant) -> Self {
        Self {
            key,
            next_exchange: 0,
            begins_from: now,
            reads_from: now,
            streams: BTreeMap::new(),
            datagrams_sent: 0,
            early: false,
            connected: false,
            closing: false,
        }
    }

    fn may_send(&self) -> bool {
        (self.connected || self.early) && !self.closing
    }

    /// Moves one stream as far as it goes, and forgets it when it is over.
    fn pump(&mut self, now: Instant, connection: &mut Connection, id: StreamId, account: &mut Account) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.write(connection, id, account);
        if now >= self.reads_from {
            stream.read(now, connection, id, account);
        }
        if stream.is_over() {
            self.streams.remove(&id);
            account.tally.completed += 1;
        }
    }

    fn send_datagrams(&mut self, connection: &mut Connection, count: u32, account: &mut Account) {
        while self.datagrams_sent < count {
            let number = u64::from(self.datagrams_sent);
            let mut datagram = number.to_be_bytes().to_vec();
            datagram.extend(Pattern::new(number).generate(DATAGRAM_LEN));
            match connection.send_datagram(Chunk::from(datagram)) {
                Ok(()) => self.datagrams_sent += 1,
                Err(SendDatagramError::Blocked) => return,
                Err(error) => {
                    account.faults.push(format!("cannot send a datagram: {error}"));
                    self.datagrams_sent = count;
                }
            }
        }
    }
}

impl Stream {
    fn new(exchange: Exchange, key: u64, chunk_max: usize) -> Self {
        let Exchange { dir, upload, download, .. } = exchange;
        let download = if dir == Dir::Bi { download } else { 0 };
        let header = Header { key, download }.encode();
        Self {
            exchange,
            outgoing: Outgoing::new(header, key, upload, chunk_max),
            incoming: (dir == Dir::Bi).then(|| Incoming::content(!key, chunk_max)),
            acknowledged: false,
            abandoned: false,
        }
    }

    fn write(&mut self, connection: &mut Connection, id: StreamId, account: &mut Account) {
        let limit = match self.exchange.ending {
            Ending::ResetAfter(limit) => limit,
            Ending::Whole | Ending::StopAfter(_) => u64::MAX,
        };
        let before = self.outgoing.accepted;
        self.outgoing.pump(connection, id, limit);
        account.tally.accepted_bytes += self.outgoing.accepted - before;
        if let Some(OutEnd::Stopped(_) | OutEnd::Closed) = self.outgoing.end
            && !self.abandoned
        {
            account.faults.push(format!("{id:?} takes no more: {:?}", self.outgoing.end));
        }
        if self.outgoing.end.is_none() && self.outgoing.accepted >= limit && !self.abandoned {
            self.abandoned = true;
            self.outgoing.end = Some(OutEnd::Closed);
            if connection.reset(id, RESET_CODE).is_err() {
                account.faults.push(format!("{id:?} cannot be reset"));
            }
        }
    }

    fn read(&mut self, now: Instant, connection: &mut Connection, id: StreamId, account: &mut Account) {
        let Some(incoming) = &mut self.incoming else { return };
        let limit = match self.exchange.ending {
            Ending::StopAfter(limit) => limit,
            Ending::Whole | Ending::ResetAfter(_) => u64::MAX,
        };
        let (before, had_ended) = (incoming.verified(), incoming.end.is_some());
        incoming.pump(now, connection, id, limit);
        account.tally.delivered_bytes += incoming.verified() - before;
        if had_ended {
            return;
        }
        match incoming.end {
            None if incoming.verified() >= limit => {
                self.abandoned = true;
                incoming.end = Some(InEnd::Closed);
                if connection.stop_sending(id, STOP_CODE).is_err() {
                    account.faults.push(format!("{id:?} cannot be stopped"));
                }
            }
            None => {}
            Some(InEnd::Finished) => {
                let whole = incoming.verified() == self.exchange.download;
                if !whole && !self.abandoned {
                    account.faults.push(format!("{id:?} ended after {} bytes", incoming.verified()));
                }
            }
            Some(InEnd::Reset(_)) if self.abandoned => {}
            Some(end) => account.faults.push(format!("{id:?} cannot be read on: {end:?}")),
        }
    }

    fn is_over(&self) -> bool {
        let sent = self.acknowledged || self.outgoing.end.is_some_and(|end| end != OutEnd::Finished);
        sent && self.incoming.as_ref().is_none_or(|incoming| incoming.end.is_some())
    }
}
