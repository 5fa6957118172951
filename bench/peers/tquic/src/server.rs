//! The server's loop.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tquic::{Connection, Endpoint, PacketInfo, TIMER_GRANULARITY, TransportHandler};
use warpline_peer_kit::driven::{Inbox, ServerSession, Wire};
use warpline_peer_kit::{Result, ServerArgs, announce, exit_on_stdin_eof};

use crate::config;
use crate::link::TquicLink;
use crate::sender::Sender;

/// Longest sleep: nothing but packets and timers ends one.
const PATIENCE: Duration = Duration::from_secs(1);
/// Batches read before answers go out.
const BATCHES: usize = 4;

/// Serves until the process ends.
pub fn run(args: &ServerArgs) -> Result<()> {
    let wire = Rc::new(Wire::bind(args.bind)?);
    let config = config::server(&args.cert, &args.key, args.payload, args.window)?;
    let sender = Rc::new(Sender::new(wire.clone(), args.payload));
    let handler = Handler { sessions: HashMap::new(), buffer: vec![0; 64 << 10] };
    let mut endpoint = Endpoint::new(Box::new(config), true, Box::new(handler), sender);
    let mut inbox = Inbox::default();
    exit_on_stdin_eof();
    announce(wire.local())?;
    loop {
        wait(&wire, &endpoint, PATIENCE)?;
        read(&wire, &mut inbox, &mut endpoint)?;
        endpoint.on_timeout(Instant::now());
        endpoint.process_connections()?;
    }
}

/// Sleeps until there is something to do.
pub fn wait(wire: &Wire, endpoint: &Endpoint, limit: Duration) -> Result<()> {
    // That exact time is tquic's word for work that is left.
    match endpoint.timeout() {
        Some(TIMER_GRANULARITY) => Ok(()),
        Some(timeout) => wire.wait(timeout.min(limit)),
        None => wire.wait(limit),
    }
}

/// Reads what there is.
pub fn read(wire: &Wire, inbox: &mut Inbox, endpoint: &mut Endpoint) -> Result<()> {
    let (dst, time) = (wire.local(), Instant::now());
    for _ in 0..BATCHES {
        // A packet that its connection does not want is dropped.
        let more = wire.recv(inbox, |packet, src| drop(endpoint.recv(packet, &PacketInfo { src, dst, time })))?;
        if !more {
            break;
        }
    }
    Ok(())
}

struct Handler {
    sessions: HashMap<u64, ServerSession>,
    buffer: Vec<u8>,
}

impl Handler {
    /// Closes a connection whose session has failed: the client sees that, and reports it.
    fn check(connection: &mut Connection, outcome: Result<()>) {
        if outcome.is_err() {
            // It may be closed already.
            let _ = connection.close(true, 1, b"");
        }
    }
}

impl TransportHandler for Handler {
    fn on_conn_created(&mut self, connection: &mut Connection) {
        if let Some(index) = connection.index() {
            self.sessions.insert(index, ServerSession::default());
        }
    }

    fn on_conn_established(&mut self, _: &mut Connection) {}

    fn on_conn_closed(&mut self, connection: &mut Connection) {
        if let Some(index) = connection.index() {
            self.sessions.remove(&index);
        }
    }

    fn on_stream_created(&mut self, connection: &mut Connection, stream: u64) {
        // Nothing to write before there is a request.
        let _ = connection.stream_want_write(stream, false);
    }

    fn on_stream_readable(&mut self, connection: &mut Connection, stream: u64) {
        let session = connection.index().and_then(|index| self.sessions.get_mut(&index));
        if let Some(session) = session {
            let outcome = session.readable(&mut TquicLink(connection), stream, &mut self.buffer);
            Self::check(connection, outcome);
        }
    }

    fn on_stream_writable(&mut self, connection: &mut Connection, stream: u64) {
        let session = connection.index().and_then(|index| self.sessions.get_mut(&index));
        if let Some(session) = session {
            let outcome = session.writable(&mut TquicLink(connection), stream);
            Self::check(connection, outcome);
        }
    }

    fn on_stream_closed(&mut self, _: &mut Connection, _: u64) {}

    fn on_new_token(&mut self, _: &mut Connection, _: Vec<u8>) {}
}
