//! What connections do, by scenario.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use warpline_peer_kit::{Result, Scenario};

use super::datagrams::{self, Echoes};
use super::load::{Load, Signal};
use super::streams::Exchange;
use crate::quic::{Connection, ConnectionEvent, ConnectionHandler, First};

/// How far a connection is that is there for its handshake.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    /// Whether it was opened with a ticket: one without is there to get one, and does not count.
    with_ticket: bool,
    /// Since it is connected: whether with the ticket.
    resumed: Option<bool>,
    /// Since the response is there: whether the request went as early data.
    early: Option<bool>,
    ticket: Option<Vec<u8>>,
    finished: bool,
}

impl Progress {
    /// The response is there.
    pub fn exchanged(progress: &Mutex<Self>, early: bool) {
        progress.lock().unwrap_or_else(PoisonError::into_inner).early = Some(early);
    }

    /// Counts and closes the connection if it has done its work.
    pub fn finish(progress: &Mutex<Self>, load: &Load, connection: &Connection<'_>) {
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        let connect = load.args.scenario == Scenario::Connect;
        let request = load.args.scenario == Scenario::ZeroRtt && progress.with_ticket;
        let done = progress.resumed.is_some()
            && (connect || progress.ticket.is_some())
            && (!request || progress.early.is_some());
        if !done || progress.finished {
            return;
        }
        progress.finished = true;
        if connect || progress.with_ticket {
            load.counters.latency.record(progress.began.elapsed().as_nanos() as u64);
            load.counters.add_op(0);
            let as_asked = connect || progress.resumed == Some(true) && (!request || progress.early == Some(true));
            if !as_asked {
                load.counters.add_fallback();
            }
        }
        connection.close();
        load.signal(Signal::Done(progress.ticket.take()));
    }
}

/// A connection's work.
pub struct Session {
    load: &'static Load,
    progress: Arc<Mutex<Progress>>,
    echoes: Arc<Echoes>,
}

impl Session {
    /// The session of a connection that is dialled now.
    pub fn new(load: &'static Load, with_ticket: bool, echoes: Arc<Echoes>) -> Self {
        let progress =
            Progress { began: Instant::now(), with_ticket, resumed: None, early: None, ticket: None, finished: false };
        Self { load, progress: Arc::new(Mutex::new(progress)), echoes }
    }

    /// The request that goes as early data, if there is one.
    pub fn early(&self) -> Option<(Exchange, First)> {
        let with_ticket = self.progress.lock().unwrap_or_else(PoisonError::into_inner).with_ticket;
        (self.load.args.scenario == Scenario::ZeroRtt && with_ticket).then(|| {
            let (exchange, first) = self.load.exchange(true);
            (exchange.of(self.progress.clone()), first)
        })
    }

    fn connected(&self, connection: &Connection<'_>, resumed: bool) -> Result<()> {
        self.load.note(connection)?;
        let args = &self.load.args;
        // More than there are, spread over the connections.
        let in_flight = args.in_flight.max(1).div_ceil(args.connections.max(1));
        match args.scenario {
            Scenario::Connect | Scenario::Resume | Scenario::ZeroRtt => {
                self.progress.lock().unwrap_or_else(PoisonError::into_inner).resumed = Some(resumed);
                Progress::finish(&self.progress, self.load, connection);
                return Ok(());
            }
            Scenario::Download | Scenario::Upload | Scenario::Bidi => {
                for _ in 0..args.streams.max(1) {
                    let (handler, first) = self.load.bulk();
                    connection.open(handler, first)?;
                }
            }
            Scenario::ReqResp | Scenario::Churn => {
                for _ in 0..in_flight {
                    let (handler, first) = self.load.exchange(false);
                    connection.open(handler, first)?;
                }
            }
            Scenario::SmallMsg => {
                let (handler, first) = self.load.messages();
                connection.open(handler, first)?;
            }
            Scenario::Datagram => datagrams::fill(self.load, connection)?,
            Scenario::DatagramEcho => self.echoes.fill(self.load, connection)?,
            Scenario::Idle => {}
        }
        self.load.signal(Signal::Connected);
        Ok(())
    }

    fn ticket(&self, connection: &Connection<'_>, ticket: &[u8]) {
        if matches!(self.load.args.scenario, Scenario::Resume | Scenario::ZeroRtt) {
            self.progress.lock().unwrap_or_else(PoisonError::into_inner).ticket = Some(ticket.to_vec());
            Progress::finish(&self.progress, self.load, connection);
        }
    }

    fn datagram(&self, connection: &Connection<'_>, length: usize) -> Result<()> {
        self.load.counters.add_op(length as u64);
        self.echoes.came(self.load, connection)
    }
}

impl ConnectionHandler for Session {
    type Stream = Exchange;

    fn event(&mut self, connection: &Connection<'_>, event: ConnectionEvent<'_>) {
        let done = match event {
            ConnectionEvent::Connected { resumed } => self.connected(connection, resumed),
            ConnectionEvent::Ticket(ticket) => {
                self.ticket(connection, ticket);
                Ok(())
            }
            ConnectionEvent::Datagram(datagram) => self.datagram(connection, datagram.len()),
            ConnectionEvent::DatagramGone if self.load.args.scenario == Scenario::Datagram => {
                self.load.pause.replace(self.load, connection)
            }
            ConnectionEvent::Failed { status, code } => {
                Err(format!("connection lost: {}, error code {code:#x}", msquic::Status(status)).into())
            }
            ConnectionEvent::ClosedByPeer(code) => Err(format!("the server closed a connection, code {code}").into()),
            ConnectionEvent::DatagramGone | ConnectionEvent::Closed => Ok(()),
        };
        self.load.check(done);
    }

    fn accept(&mut self) -> Option<Exchange> {
        None
    }
}
