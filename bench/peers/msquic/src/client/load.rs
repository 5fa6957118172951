//! What all sessions of a run share.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Instant;

use warpline_peer_kit::{
    COUNT_QUERY, ClientArgs, Counters, DATAGRAM_ECHO, DATAGRAM_SINK, HEADER_LEN, REQUEST_LEN, RESPONSE_LEN, Result,
    Scenario, header,
};

use super::datagrams::Pause;
use super::streams::{Bulk, Exchange, Messages, Query};
use crate::quic::{Connection, First, Payload};

/// What callbacks tell the thread that dials and keeps the time.
#[derive(Debug)]
pub enum Signal {
    /// A connection is there.
    Connected,
    /// A connection has done its work; this is its ticket.
    Done(Option<Vec<u8>>),
    /// How many datagrams the server has received, and when it said so.
    Answer(u64, Instant),
    /// The run cannot go on.
    Failed(String),
}

/// The common part of a run's sessions. It lives as long as the process, as callbacks may.
#[derive(Debug)]
pub struct Load {
    /// What to do.
    pub args: ClientArgs,
    /// What was done.
    pub counters: Counters,
    /// Of `datagram`.
    pub pause: Pause,
    signals: Sender<Signal>,
    over: AtomicBool,
    cipher: OnceLock<String>,
    local: OnceLock<SocketAddr>,
    /// How every stream of the scenario begins.
    opening: &'static Payload,
    /// A message or a datagram.
    message: &'static Payload,
    question: &'static Payload,
}

impl Load {
    /// The load of `args`.
    pub fn leak(args: ClientArgs, signals: Sender<Signal>) -> &'static Self {
        let mut message = Vec::new();
        if matches!(args.scenario, Scenario::SmallMsg | Scenario::Datagram | Scenario::DatagramEcho) {
            message.resize(args.bytes.max(1) as usize, 0x5a);
        }
        match args.scenario {
            Scenario::Datagram => message[0] = DATAGRAM_SINK,
            Scenario::DatagramEcho => message[0] = DATAGRAM_ECHO,
            _ => {}
        }
        let (wanted, length) = match args.scenario {
            Scenario::Download | Scenario::Bidi => (args.bytes, HEADER_LEN),
            Scenario::Churn => (1, HEADER_LEN + 1),
            Scenario::ReqResp | Scenario::ZeroRtt => (RESPONSE_LEN, REQUEST_LEN),
            _ => (0, HEADER_LEN),
        };
        let mut opening = header(wanted).to_vec();
        opening.resize(length, 0x5a);
        Box::leak(Box::new(Self {
            args,
            counters: Counters::default(),
            pause: Pause::default(),
            signals,
            over: AtomicBool::new(false),
            cipher: OnceLock::new(),
            local: OnceLock::new(),
            opening: Payload::new(opening),
            message: Payload::new(message),
            question: Payload::new(header(COUNT_QUERY).to_vec()),
        }))
    }

    /// Tells the other thread. Nobody may listen any more, which is no error.
    pub fn signal(&self, signal: Signal) {
        let _ = self.signals.send(signal);
    }

    /// Ends the run with an error, unless it has ended.
    pub fn fail(&self, error: String) {
        if !self.is_over() {
            self.signal(Signal::Failed(error));
        }
    }

    /// Ends the run with the error of what was `done`, if it is one.
    pub fn check(&self, done: Result<()>) {
        if let Err(error) = done {
            self.fail(error.to_string());
        }
    }

    /// Nothing new is begun, and connections may end.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether the run has ended.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Whether other threads than msquic's have something to do on the connections.
    pub fn keeps_remotes(&self) -> bool {
        matches!(self.args.scenario, Scenario::Datagram | Scenario::DatagramEcho)
    }

    /// The cipher suite of the first connection.
    pub fn cipher(&self) -> Option<String> {
        self.cipher.get().cloned()
    }

    /// The address of the first connection's socket, which the others share.
    pub fn local(&self) -> Option<SocketAddr> {
        self.local.get().copied()
    }

    /// Notes what is the same for all connections, once.
    pub fn note(&self, connection: &Connection<'_>) -> Result<()> {
        if self.cipher.get().is_none() {
            let _ = self.cipher.set(connection.cipher()?);
            let _ = self.local.set(connection.local_address()?);
        }
        Ok(())
    }

    /// A message or a datagram.
    pub fn message(&self) -> &'static Payload {
        self.message
    }

    /// A transfer.
    pub fn bulk(&'static self) -> (Bulk, First) {
        let up = if self.args.scenario == Scenario::Download { 0 } else { self.args.bytes };
        (Bulk::new(self, up), First { payload: self.opening, end: up == 0, early: false })
    }

    /// A request, as early data if it may be.
    pub fn exchange(&'static self, early: bool) -> (Exchange, First) {
        let wanted = if self.args.scenario == Scenario::Churn { 1 } else { RESPONSE_LEN };
        (Exchange::new(self, wanted), First { payload: self.opening, end: true, early })
    }

    /// A stream of messages.
    pub fn messages(&'static self) -> (Messages, First) {
        (Messages::new(self), First { payload: self.opening, end: false, early: false })
    }

    /// The question how many datagrams have come.
    pub fn query(&'static self) -> (Query, First) {
        (Query::new(self), First { payload: self.question, end: true, early: false })
    }
}
