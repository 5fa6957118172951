//! What streams do, by scenario.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use warpline_peer_kit::{HEADER_LEN, REQUEST_LEN};

use super::load::{Load, Signal};
use super::session::Progress;
use crate::quic::{Stream, StreamEvent, StreamHandler};
use crate::sending::{IDEAL_FIRST, Sending};

/// A long transfer, and another one when it is done.
pub struct Bulk {
    load: &'static Load,
    sending: Sending,
    ended: bool,
}

impl Bulk {
    /// One that sends `up` bytes after the header.
    pub fn new(load: &'static Load, up: u64) -> Self {
        Self { load, sending: Sending::later(up), ended: false }
    }
}

impl StreamHandler for Bulk {
    fn event(&mut self, stream: &Stream<'_>, event: StreamEvent<'_>) {
        match event {
            StreamEvent::Received(received) => self.load.counters.add_bytes(received.len()),
            StreamEvent::Sent { bytes, canceled: false } => {
                self.load.counters.add_bytes(bytes.into());
                self.load.check(self.sending.sent(stream, bytes));
            }
            StreamEvent::Ideal(bytes) => self.load.check(self.sending.set_ideal(stream, bytes)),
            StreamEvent::Ended => self.ended = true,
            StreamEvent::Closed if self.ended && !self.load.is_over() => {
                let (handler, first) = self.load.bulk();
                self.load.check(stream.connection().open(handler, first));
            }
            StreamEvent::Aborted => self.load.fail("a transfer was aborted".to_owned()),
            StreamEvent::Sent { canceled: true, .. } | StreamEvent::Closed => {}
        }
    }
}

/// A request and its response.
pub struct Exchange {
    load: &'static Load,
    began: Instant,
    wanted: u64,
    received: u64,
    /// Of the connection that is there for this request alone; else another one follows.
    progress: Option<Arc<Mutex<Progress>>>,
}

impl Exchange {
    /// One that begins now and wants a response of `wanted` bytes.
    pub fn new(load: &'static Load, wanted: u64) -> Self {
        Self { load, began: Instant::now(), wanted, received: 0, progress: None }
    }

    /// The only one of its connection.
    pub fn of(self, progress: Arc<Mutex<Progress>>) -> Self {
        Self { progress: Some(progress), ..self }
    }

    fn ended(&self, stream: &Stream<'_>) {
        if self.received != self.wanted {
            return self.load.fail(format!("{} bytes came instead of {}", self.received, self.wanted));
        }
        if self.progress.is_some() || self.load.is_over() {
            return;
        }
        self.load.counters.latency.record(self.began.elapsed().as_nanos() as u64);
        self.load.counters.add_op(self.wanted);
        let (handler, first) = self.load.exchange(false);
        self.load.check(stream.connection().open(handler, first));
    }

    /// What was taken as early data is known now.
    fn closed(&self, stream: &Stream<'_>) {
        let Some(progress) = &self.progress else { return };
        if self.received == self.wanted && !self.load.is_over() {
            let early = stream.early_bytes().is_ok_and(|bytes| bytes >= REQUEST_LEN as u64);
            Progress::exchanged(progress, early);
            Progress::finish(progress, self.load, stream.connection());
        }
    }
}

impl StreamHandler for Exchange {
    fn event(&mut self, stream: &Stream<'_>, event: StreamEvent<'_>) {
        match event {
            StreamEvent::Received(received) => self.received += received.len(),
            StreamEvent::Ended => self.ended(stream),
            StreamEvent::Closed => self.closed(stream),
            StreamEvent::Aborted => self.load.fail("a request was aborted".to_owned()),
            StreamEvent::Sent { .. } | StreamEvent::Ideal(_) => {}
        }
    }
}

/// Messages without end, a send for each.
pub struct Messages {
    load: &'static Load,
    ideal: u64,
    outstanding: u64,
    began: bool,
}

impl Messages {
    /// A stream of them.
    pub fn new(load: &'static Load) -> Self {
        Self { load, ideal: IDEAL_FIRST, outstanding: 0, began: false }
    }

    fn pump(&mut self, stream: &Stream<'_>) {
        while self.began && self.outstanding < self.ideal {
            let length = self.load.args.bytes.max(1);
            self.outstanding += length;
            if let Err(error) = stream.send(self.load.message()) {
                return self.load.fail(error.to_string());
            }
        }
    }
}

impl StreamHandler for Messages {
    fn event(&mut self, stream: &Stream<'_>, event: StreamEvent<'_>) {
        match event {
            StreamEvent::Sent { canceled: false, .. } => {
                let length = self.load.args.bytes.max(1);
                if self.began {
                    self.load.counters.add_op(length);
                    self.outstanding = self.outstanding.saturating_sub(length);
                }
                // The first send was the header.
                self.began = true;
                self.pump(stream);
            }
            StreamEvent::Ideal(bytes) => {
                self.ideal = bytes;
                self.pump(stream);
            }
            StreamEvent::Aborted => self.load.fail("the messages were aborted".to_owned()),
            _ => {}
        }
    }
}

/// The question how many datagrams have come.
pub struct Query {
    load: &'static Load,
    answer: [u8; HEADER_LEN],
    have: usize,
}

impl Query {
    /// A question.
    pub fn new(load: &'static Load) -> Self {
        Self { load, answer: [0; HEADER_LEN], have: 0 }
    }
}

impl StreamHandler for Query {
    fn event(&mut self, _: &Stream<'_>, event: StreamEvent<'_>) {
        match event {
            StreamEvent::Received(received) => {
                for piece in received.pieces() {
                    let part = piece.len().min(HEADER_LEN - self.have);
                    self.answer[self.have..self.have + part].copy_from_slice(&piece[..part]);
                    self.have += part;
                }
            }
            StreamEvent::Ended if self.have == HEADER_LEN => {
                self.load.signal(Signal::Answer(u64::from_be_bytes(self.answer), Instant::now()));
            }
            StreamEvent::Ended | StreamEvent::Aborted => self.load.fail("no answer to a question".to_owned()),
            _ => {}
        }
    }
}
