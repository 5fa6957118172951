//! The server's side of the `perf` protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use warpline_peer_kit::{COUNT_QUERY, DATAGRAM_SINK, HEADER_LEN, Result, ServerArgs, announce, hold_until_stdin_eof};

use crate::quic::{Connection, ConnectionEvent, ConnectionHandler, Endpoint, Received, Setup, Stream};
use crate::quic::{StreamEvent, StreamHandler};
use crate::sending::Sending;

/// Serves until standard input closes.
pub fn run(args: &ServerArgs) -> Result<()> {
    let ServerArgs { bind, payload, window, congestion, .. } = *args;
    let setup = Setup { address: bind, payload, window, congestion };
    let endpoint = Endpoint::server(&setup, &args.cert, &args.key)?;
    let listening = endpoint.listen(bind, Client::default)?;
    announce(listening.address()?)?;
    hold_until_stdin_eof();
    Ok(())
}

/// A client's connection.
#[derive(Default)]
struct Client {
    datagrams: Arc<AtomicU64>,
}

impl ConnectionHandler for Client {
    type Stream = Answer;

    /// What fails here shows at the client, which reports it.
    fn event(&mut self, connection: &Connection<'_>, event: ConnectionEvent<'_>) {
        let done = match event {
            ConnectionEvent::Connected { .. } => connection.send_ticket(),
            ConnectionEvent::Datagram(datagram) => {
                self.datagrams.fetch_add(1, Ordering::Relaxed);
                if datagram.first().is_some_and(|&first| first != DATAGRAM_SINK) {
                    // An echo that msquic does not take, as before it knows the path's size, is lost, as datagrams are.
                    let _ = connection.send_datagram_copy(datagram);
                }
                Ok(())
            }
            _ => Ok(()),
        };
        if done.is_err() {
            connection.close();
        }
    }

    fn accept(&mut self) -> Option<Answer> {
        Some(Answer {
            datagrams: self.datagrams.clone(),
            header: [0; HEADER_LEN],
            have: 0,
            sending: Sending::nothing(),
        })
    }
}

/// The answer to a stream.
struct Answer {
    datagrams: Arc<AtomicU64>,
    header: [u8; HEADER_LEN],
    have: usize,
    sending: Sending,
}

impl StreamHandler for Answer {
    fn event(&mut self, stream: &Stream<'_>, event: StreamEvent<'_>) {
        let done = match event {
            StreamEvent::Received(received) if self.have < HEADER_LEN => self.begin(stream, received),
            StreamEvent::Ended if self.have < HEADER_LEN => stream.abort(),
            StreamEvent::Sent { bytes, canceled: false } => self.sending.sent(stream, bytes),
            StreamEvent::Ideal(bytes) => self.sending.set_ideal(stream, bytes),
            StreamEvent::Aborted => stream.abort(),
            _ => Ok(()),
        };
        if done.is_err() {
            stream.connection().close();
        }
    }
}

impl Answer {
    /// Reads of the header what has come, and answers when it is whole.
    fn begin(&mut self, stream: &Stream<'_>, received: Received<'_>) -> Result<()> {
        for piece in received.pieces() {
            let part = piece.len().min(HEADER_LEN - self.have);
            self.header[self.have..self.have + part].copy_from_slice(&piece[..part]);
            self.have += part;
        }
        if self.have < HEADER_LEN {
            return Ok(());
        }
        match u64::from_be_bytes(self.header) {
            COUNT_QUERY => stream.send_last(&self.datagrams.load(Ordering::Relaxed).to_be_bytes()),
            0 => stream.end(),
            length => self.sending.start(stream, length),
        }
    }
}
