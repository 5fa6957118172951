//! How a connection ends: idle, closed by either side, reset (RFC 9000 section 10).

use core::time::Duration;

use warpline_wire::TransportErrorCode;

use super::Connection;
use super::timers::Timer;
use crate::error::{ConnectionError, TransportError};
use crate::event::Event;
use crate::time::Instant;

/// What CONNECTION_CLOSE says.
#[derive(Clone, Debug)]
pub(super) enum CloseReason {
    Transport(TransportError),
    Application { code: u64, reason: Vec<u8> },
}

/// States of RFC 9000 section 10.
///
/// ```text
/// Open ──close──► Closing ──peer's close──► Draining ──3 PTO──► Closed
///   └───────────────peer's close, reset──────►┘         idle ──►┘
///
/// The peer's close is answered with one of ours, so that the side that closed knows that it need not wait for anything.
/// ```
#[derive(Debug)]
pub(super) enum State {
    Open,
    /// CONNECTION_CLOSE was or is to be sent; sent again for packets that go on coming, ever more seldom.
    Closing {
        why: Box<CloseReason>,
        to_send: bool,
        heard: u32,
        answer_at: u32,
        /// What comes before may have left the peer before ours could reach it, so it says nothing about its loss.
        crossing_until: Instant,
    },
    Draining {
        /// The one CONNECTION_CLOSE that answers the peer's is still to be sent.
        to_answer: bool,
    },
    Closed,
}

/// The state and the idle timeout.
#[derive(Debug)]
pub(super) struct Lifecycle {
    pub(super) state: State,
    idle_timeout: Option<Duration>,
    /// The idle timer was restarted by a packet of ours since something was last heard (RFC 9000 section 10.1).
    sent_since_heard: bool,
}

impl Lifecycle {
    pub(super) fn new(idle_timeout: Option<Duration>) -> Self {
        Self { state: State::Open, idle_timeout, sent_since_heard: false }
    }

    /// The smaller of both sides' timeouts counts; 0 ms from the peer means none.
    pub(super) fn negotiate_idle(&mut self, ours: Option<Duration>, peer_ms: u64) {
        let peer = (peer_ms > 0).then(|| Duration::from_millis(peer_ms));
        self.idle_timeout = match (ours, peer) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    #[inline]
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }
}

impl Connection {
    /// Starts the idle timer anew.
    #[inline]
    pub(super) fn restart_idle_timer(&mut self, now: Instant) {
        if let Some(timeout) = self.lifecycle.idle_timeout {
            // RFC 9000 section 10.1: never shorter than three probe timeouts.
            let at = now + timeout.max(self.pto_base() * 3);
            self.timers.set(Timer::Idle, at);
        }
    }

    /// A packet of the peer was processed.
    #[inline]
    pub(super) fn on_heard(&mut self, now: Instant) {
        self.lifecycle.sent_since_heard = false;
        self.restart_idle_timer(now);
        self.restart_keep_alive(now);
    }

    /// An ack-eliciting packet was sent.
    #[inline]
    pub(super) fn on_sent_eliciting(&mut self, now: Instant) {
        if !self.lifecycle.sent_since_heard {
            self.lifecycle.sent_since_heard = true;
            self.restart_idle_timer(now);
        }
        self.restart_keep_alive(now);
    }

    #[inline]
    fn restart_keep_alive(&mut self, now: Instant) {
        if let Some(interval) = self.config.keep_alive
            && self.progress.complete
        {
            self.timers.set(Timer::KeepAlive, now + interval);
        }
    }

    /// Closes because the peer violated the protocol or this side cannot go on.
    pub(super) fn close_with(&mut self, now: Instant, error: TransportError) {
        if !self.lifecycle.is_open() {
            return;
        }
        tracing::debug!(%error, remote = %self.paths.current.remote, "closing the connection");
        self.log_closed(now, false, &error.to_string());
        self.emit(Event::Closed(ConnectionError::Transport(error.clone())));
        self.start_closing(now, CloseReason::Transport(error));
    }

    /// Closes for the application.
    pub(super) fn close_application(&mut self, now: Instant, code: u64, reason: &[u8]) {
        if !self.lifecycle.is_open() {
            return;
        }
        self.log_closed(now, false, "closed by the application");
        self.emit(Event::Closed(ConnectionError::LocallyClosed));
        self.start_closing(now, CloseReason::Application { code, reason: reason.to_vec() });
    }

    /// Closes without blame: the two sides' settings do not go together.
    pub(super) fn close_unsettled(&mut self, now: Instant, error: ConnectionError) {
        let reason = error.to_string();
        self.log_closed(now, false, &reason);
        self.emit(Event::Closed(error));
        self.start_closing(now, CloseReason::Transport(TransportError::new(TransportErrorCode::NO_ERROR, reason)));
    }

    fn start_closing(&mut self, now: Instant, why: CloseReason) {
        self.resume_finish(now);
        let crossing_until = now + self.round_trip();
        self.lifecycle.state =
            State::Closing { why: Box::new(why), to_send: true, heard: 0, answer_at: 1, crossing_until };
        self.start_close_timer(now);
    }

    /// The state is kept for three probe timeouts so that late packets meet an answer (RFC 9000 section 10.2).
    fn start_close_timer(&mut self, now: Instant) {
        self.timers.set(Timer::Close, now + self.pto_base() * 3);
        self.keep_close_timer_only();
    }

    /// No other is looked at any more, and one that stays due would keep the worker awake.
    pub(super) fn keep_close_timer_only(&mut self) {
        self.timers.keep_only(Timer::Close);
    }

    /// The peer closed the connection. It hears that this side knows by a single CONNECTION_CLOSE (RFC 9000 section 10.2.2),
    /// unless the handshake is under way, where one packet may not be one that it can read.
    pub(super) fn on_peer_close(&mut self, now: Instant, error: ConnectionError) {
        let to_answer = self.progress.confirmed;
        self.start_draining(now, error, to_answer);
    }

    fn start_draining(&mut self, now: Instant, error: ConnectionError, to_answer: bool) {
        match self.lifecycle.state {
            State::Open => {
                self.resume_finish(now);
                self.log_closed(now, true, &error.to_string());
                self.emit(Event::Closed(error));
                self.lifecycle.state = State::Draining { to_answer };
                self.start_close_timer(now);
            }
            State::Closing { .. } => self.lifecycle.state = State::Draining { to_answer: false },
            State::Draining { .. } | State::Closed => {}
        }
    }

    /// Ends at once, without a word to the peer.
    pub(crate) fn abandon(&mut self, error: ConnectionError) {
        if self.lifecycle.is_open() {
            self.emit(Event::Closed(error));
        }
        self.lifecycle.state = State::Closed;
        self.timers = Default::default();
    }

    /// The peer lost its state: nothing more is sent (RFC 9000 section 10.3.1).
    pub(crate) fn on_stateless_reset(&mut self, now: Instant) {
        self.start_draining(now, ConnectionError::Reset, false);
    }

    /// A packet came in the closing state: the answer is repeated for the 1st, 2nd, 4th, 8th … of those that the peer can have
    /// sent in ignorance of the last one, a round trip after it and later (RFC 9000 section 10.2.1).
    pub(super) fn on_packet_while_closing(&mut self, now: Instant) {
        let round_trip = self.round_trip();
        if let State::Closing { to_send, heard, answer_at, crossing_until, .. } = &mut self.lifecycle.state
            && now >= *crossing_until
        {
            *heard += 1;
            if *heard >= *answer_at {
                *answer_at = answer_at.saturating_mul(2);
                *to_send = true;
                *crossing_until = now + round_trip;
            }
        }
    }

    /// The smoothed round trip; zero before there is a sample.
    fn round_trip(&self) -> Duration {
        let rtt = &self.paths.current.rtt;
        if rtt.has_sample() { rtt.smoothed() } else { Duration::ZERO }
    }

    pub(super) fn on_close_timer(&mut self) {
        self.lifecycle.state = State::Closed;
        self.timers = Default::default();
    }

    /// Whether the connection will never send anything again: it only waits for late packets to pass.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self.lifecycle.state, State::Draining { to_answer: false } | State::Closed)
    }

    /// True once nothing is left to do: the endpoint forgets the connection.
    pub(crate) fn is_drained(&self) -> bool {
        matches!(self.lifecycle.state, State::Closed)
    }

    /// What to say for an application's close in packets that an observer may read (RFC 9000 section 10.2.3).
    pub(super) fn veiled(why: &CloseReason) -> TransportError {
        match why {
            CloseReason::Transport(error) => error.clone(),
            CloseReason::Application { .. } => TransportError::new(TransportErrorCode::APPLICATION_ERROR, ""),
        }
    }
}
