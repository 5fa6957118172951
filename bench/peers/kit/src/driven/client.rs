//! The client's side: one session for each connection.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::link::{Link, Outgoing};
use super::plan::Plan;
use crate::{
    COUNT_QUERY, DATAGRAM_ECHO, DATAGRAM_SINK, HEADER_LEN, REQUEST_LEN, RESPONSE_LEN, Result, Scenario, header,
};

/// Echoes missing for this long are taken as lost, and their places in flight are given out again.
const LOST_AFTER: Duration = Duration::from_millis(20);
/// Messages or datagrams handed over before the stack gets to send.
const BURST: usize = 512;

/// What becomes of a connection after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It goes on.
    Keep,
    /// It has done its work: close it and open another, with its ticket if it has one.
    Replace,
}

/// One connection's work.
#[derive(Debug)]
pub struct ClientSession {
    plan: Rc<Plan>,
    began: Instant,
    streams: HashMap<u64, Stream>,
    established: bool,
    /// Whether the connection was opened with a ticket: one without is there to get one, and does not count.
    with_ticket: bool,
    /// Whether the request of `zerortt` went as early data.
    early: bool,
    exchanged: bool,
    echoes_missing: usize,
    last_echo: Instant,
    datagram: Vec<u8>,
}

#[derive(Debug)]
struct Stream {
    kind: Kind,
    out: Outgoing,
    began: Instant,
    received: u64,
    /// Whether the server has sent everything.
    ended: bool,
    first: [u8; HEADER_LEN],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bulk,
    Exchange,
    Messages,
    Query,
}

impl ClientSession {
    /// The session of a connection that is being opened.
    #[must_use]
    pub fn new(plan: Rc<Plan>, with_ticket: bool) -> Self {
        let now = Instant::now();
        let mut datagram = Vec::new();
        if matches!(plan.args.scenario, Scenario::Datagram | Scenario::DatagramEcho) {
            datagram.resize(plan.args.bytes.max(1) as usize, 0x5a);
            datagram[0] = if plan.args.scenario == Scenario::Datagram { DATAGRAM_SINK } else { DATAGRAM_ECHO };
        }
        Self {
            plan,
            began: now,
            streams: HashMap::new(),
            established: false,
            with_ticket,
            early: false,
            exchanged: false,
            echoes_missing: 0,
            last_echo: now,
            datagram,
        }
    }

    /// Something has happened on the connection, or it was just opened.
    ///
    /// # Errors
    ///
    /// If a stream or the connection has failed.
    pub fn step<L: Link>(&mut self, link: &mut L) -> Result<Step> {
        if self.plan.args.scenario == Scenario::ZeroRtt && !self.early && self.streams.is_empty() && !self.exchanged {
            if link.is_early() {
                self.early = true;
                self.exchange(link)?;
            } else if link.is_established() {
                self.exchange(link)?;
            }
        }
        if !self.established && link.is_established() {
            self.established = true;
            self.plan.count_established();
            self.begin(link)?;
        }
        let done = match self.plan.args.scenario {
            Scenario::Connect => self.established,
            Scenario::Resume => self.established && link.has_ticket(),
            Scenario::ZeroRtt => self.established && self.exchanged && link.has_ticket(),
            _ => false,
        };
        if !done {
            return Ok(Step::Keep);
        }
        let as_asked = match self.plan.args.scenario {
            Scenario::Connect => true,
            Scenario::Resume => link.is_resumed(),
            _ => self.early && link.early_accepted(),
        };
        if self.plan.args.scenario == Scenario::Connect || self.with_ticket {
            self.plan.counters.latency.record(self.began.elapsed().as_nanos() as u64);
            self.plan.counters.add_op(0);
            if !as_asked {
                self.plan.counters.add_fallback();
            }
        }
        Ok(Step::Replace)
    }

    fn begin<L: Link>(&mut self, link: &mut L) -> Result<()> {
        let args = &self.plan.args;
        let (bytes, streams) = (args.bytes, args.streams.max(1));
        let in_flight = args.in_flight.max(1).div_ceil(args.connections.max(1));
        match args.scenario {
            Scenario::Download => (0..streams).try_for_each(|_| self.bulk(link, bytes, 0)),
            Scenario::Upload => (0..streams).try_for_each(|_| self.bulk(link, 0, bytes)),
            Scenario::Bidi => (0..streams).try_for_each(|_| self.bulk(link, bytes, bytes)),
            Scenario::ReqResp | Scenario::Churn => (0..in_flight).try_for_each(|_| self.exchange(link)),
            Scenario::SmallMsg => self.start(link, Kind::Messages, Outgoing::new(header(0).to_vec(), u64::MAX)),
            _ => Ok(()),
        }
    }

    fn bulk<L: Link>(&mut self, link: &mut L, down: u64, up: u64) -> Result<()> {
        self.start(link, Kind::Bulk, Outgoing::new(header(down).to_vec(), up))
    }

    fn exchange<L: Link>(&mut self, link: &mut L) -> Result<()> {
        let (length, response) = match self.plan.args.scenario {
            Scenario::Churn => (HEADER_LEN + 1, 1),
            _ => (REQUEST_LEN, RESPONSE_LEN),
        };
        let mut request = header(response).to_vec();
        request.resize(length, 0x5a);
        self.start(link, Kind::Exchange, Outgoing::new(request, 0))
    }

    /// Asks the server how many datagrams have come.
    ///
    /// # Errors
    ///
    /// If the connection has failed.
    pub fn ask<L: Link>(&mut self, link: &mut L) -> Result<()> {
        self.start(link, Kind::Query, Outgoing::new(header(COUNT_QUERY).to_vec(), 0))
    }

    fn start<L: Link>(&mut self, link: &mut L, kind: Kind, out: Outgoing) -> Result<()> {
        let began = Instant::now();
        let stream = link.open()?.ok_or("the server allows too few streams")?;
        let state = Stream { kind, out, began, received: 0, ended: false, first: [0; HEADER_LEN] };
        self.streams.insert(stream, state);
        self.writable(link, stream)
    }

    /// There may be room to write on `stream`.
    ///
    /// # Errors
    ///
    /// If the stream or the connection has failed.
    pub fn writable<L: Link>(&mut self, link: &mut L, stream: u64) -> Result<()> {
        let Some(state) = self.streams.get_mut(&stream) else { return Ok(()) };
        if state.kind == Kind::Messages {
            return self.messages(link, stream).map(|_| ());
        }
        if !state.out.is_done() {
            let sent = state.out.pump(link, stream)?;
            if state.kind == Kind::Bulk {
                self.plan.counters.add_bytes(sent);
            }
        }
        if state.kind == Kind::Bulk && state.ended && state.out.is_done() {
            return self.next_bulk(link, stream);
        }
        Ok(())
    }

    /// Writes messages one by one while there is room; whether all of a burst went.
    fn messages<L: Link>(&mut self, link: &mut L, stream: u64) -> Result<bool> {
        let Some(state) = self.streams.get_mut(&stream) else { return Ok(false) };
        let length = self.plan.args.bytes;
        for _ in 0..BURST {
            if !state.out.pump_message(link, stream, length)? {
                return Ok(false);
            }
            self.plan.counters.add_op(length);
        }
        Ok(true)
    }

    /// Hands over more messages or datagrams. Whether any went: then let the stack send, and call again.
    ///
    /// # Errors
    ///
    /// If the stream or the connection has failed.
    pub fn pump<L: Link>(&mut self, link: &mut L) -> Result<bool> {
        if !self.established {
            return Ok(false);
        }
        let room = match self.plan.args.scenario {
            Scenario::SmallMsg => {
                let stream = self.streams.keys().next().copied();
                return stream.map_or(Ok(false), |stream| self.messages(link, stream));
            }
            Scenario::Datagram => BURST,
            Scenario::DatagramEcho => {
                if self.echoes_missing > 0 && self.last_echo.elapsed() > LOST_AFTER {
                    self.echoes_missing = 0;
                }
                self.plan.args.in_flight.max(1) - self.echoes_missing.min(self.plan.args.in_flight.max(1))
            }
            _ => return Ok(false),
        };
        let mut sent = 0;
        while sent < room && link.send_datagram(&self.datagram)? {
            sent += 1;
        }
        if self.plan.args.scenario == Scenario::DatagramEcho && sent > 0 {
            if self.echoes_missing == 0 {
                self.last_echo = Instant::now();
            }
            self.echoes_missing += sent;
        }
        Ok(sent > 0)
    }

    /// There may be datagrams.
    pub fn datagrams<L: Link>(&mut self, link: &mut L, buffer: &mut [u8]) {
        while let Some(length) = link.recv_datagram(buffer) {
            self.plan.counters.add_op(length as u64);
            self.echoes_missing = self.echoes_missing.saturating_sub(1);
            self.last_echo = Instant::now();
        }
    }

    /// There may be something to read on `stream`.
    ///
    /// # Errors
    ///
    /// If the stream or the connection has failed.
    pub fn readable<L: Link>(&mut self, link: &mut L, stream: u64, buffer: &mut [u8]) -> Result<()> {
        let Some(state) = self.streams.get_mut(&stream) else { return Ok(()) };
        while let Some((length, end)) = link.recv(stream, buffer)? {
            if state.kind == Kind::Query {
                let at = (state.received as usize).min(HEADER_LEN);
                let part = length.min(HEADER_LEN - at);
                state.first[at..at + part].copy_from_slice(&buffer[..part]);
            }
            state.received += length as u64;
            if state.kind == Kind::Bulk {
                self.plan.counters.add_bytes(length as u64);
            }
            if end {
                state.ended = true;
                break;
            }
        }
        if !state.ended {
            return Ok(());
        }
        match state.kind {
            // The answer to the header of the messages is empty.
            Kind::Messages => Ok(()),
            Kind::Bulk if !state.out.is_done() => Ok(()),
            Kind::Bulk => self.next_bulk(link, stream),
            Kind::Query => {
                self.plan.answer(u64::from_be_bytes(state.first));
                self.streams.remove(&stream);
                Ok(())
            }
            Kind::Exchange => self.exchanged(link, stream),
        }
    }

    /// Replaces a transfer that is done.
    fn next_bulk<L: Link>(&mut self, link: &mut L, stream: u64) -> Result<()> {
        self.streams.remove(&stream);
        let bytes = self.plan.args.bytes;
        match self.plan.args.scenario {
            Scenario::Download => self.bulk(link, bytes, 0),
            Scenario::Upload => self.bulk(link, 0, bytes),
            _ => self.bulk(link, bytes, bytes),
        }
    }

    fn exchanged<L: Link>(&mut self, link: &mut L, stream: u64) -> Result<()> {
        let Some(state) = self.streams.remove(&stream) else { return Ok(()) };
        let wanted = if self.plan.args.scenario == Scenario::Churn { 1 } else { RESPONSE_LEN };
        if state.received != wanted {
            return Err(format!("{} bytes came instead of {wanted}", state.received).into());
        }
        if self.plan.args.scenario == Scenario::ZeroRtt {
            self.exchanged = true;
            return Ok(());
        }
        self.plan.counters.latency.record(state.began.elapsed().as_nanos() as u64);
        self.plan.counters.add_op(wanted);
        self.exchange(link)
    }
}
