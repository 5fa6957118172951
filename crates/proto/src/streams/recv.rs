//! The receiving half of a stream.

use core::time::Duration;

use warpline_frame::Chunk;
use warpline_wire::TransportErrorCode;

use super::assembler::Assembler;
use super::error::StreamError;
use super::flow::ReceiveWindow;
use super::state::{RecvEvent, RecvState};
use crate::time::Instant;

/// Data and state of the receiving half.
#[derive(Debug)]
pub(super) struct RecvHalf {
    pub(super) state: RecvState,
    assembler: Assembler,
    pub(super) window: ReceiveWindow,
    /// The application has read up to here.
    read_at: u64,
    /// The highest offset received.
    highest: u64,
    final_size: Option<u64>,
    /// Code of the peer's RESET_STREAM.
    reset: Option<u64>,
    /// Code of the peer's RESET_STREAM_AT, and how far data is still delivered.
    reset_at: Option<(u64, u64)>,
    /// The application wants nothing more.
    pub(super) stopped: bool,
    /// The code it said so with.
    pub(super) stop_code: Option<u64>,
    /// A read said `Blocked`.
    pub(super) read_blocked: bool,
}

/// What reading gave.
pub(super) enum ReadOutcome {
    Data(Chunk),
    End,
    Reset(u64),
    Blocked,
}

impl RecvHalf {
    pub(super) fn new(window: u64, window_max: u64) -> Self {
        Self {
            state: RecvState::default(),
            assembler: Assembler::default(),
            window: ReceiveWindow::new(window, window_max),
            read_at: 0,
            highest: 0,
            final_size: None,
            reset: None,
            reset_at: None,
            stopped: false,
            stop_code: None,
            read_blocked: false,
        }
    }

    /// Back to a new stream's state; memory is kept.
    pub(super) fn recycle(&mut self, window: u64, window_max: u64) {
        let mut assembler = std::mem::take(&mut self.assembler);
        assembler.clear();
        *self = Self { assembler, ..Self::new(window, window_max) };
    }

    /// Checks an end of data against the window and the final size; returns how far the highest offset moves.
    #[inline]
    fn advance(&mut self, end: u64, fin: bool) -> Result<u64, StreamError> {
        if let Some(size) = self.final_size
            && (end > size || fin && end != size)
        {
            return Err(StreamError::new(TransportErrorCode::FINAL_SIZE_ERROR, "the stream's end moved"));
        }
        if fin && end < self.highest {
            return Err(StreamError::new(
                TransportErrorCode::FINAL_SIZE_ERROR,
                "the stream ends before data that came",
            ));
        }
        if end > self.window.granted() {
            return Err(StreamError::new(TransportErrorCode::FLOW_CONTROL_ERROR, "data beyond the stream's window"));
        }
        let more = end.saturating_sub(self.highest);
        self.highest += more;
        Ok(more)
    }

    /// Takes data. Returns the bytes that count against the connection's window, and those of them that nobody will read.
    #[inline]
    pub(super) fn on_data(&mut self, offset: u64, data: Chunk, fin: bool) -> Result<Counted, StreamError> {
        let end = offset + data.len() as u64;
        let new = self.advance(end, fin)?;
        if fin {
            self.final_size = Some(end);
            self.state = self.state.on(RecvEvent::Fin).unwrap_or(self.state);
        }
        if self.stopped || self.reset.is_some() {
            return Ok(Counted { new, unread: new });
        }
        let mut data = data;
        if let Some((_, reliable)) = self.reset_at
            && end > reliable
        {
            data = data.split_to(reliable.saturating_sub(offset).min(data.len() as u64) as usize);
        }
        self.assembler
            .insert(self.read_at, offset, data)
            .map_err(|_| StreamError::new(TransportErrorCode::INTERNAL_ERROR, "more gaps in a stream than are kept"))?;
        Ok(Counted { new, unread: 0 })
    }

    /// Takes RESET_STREAM.
    pub(super) fn on_reset(&mut self, code: u64, final_size: u64) -> Result<Counted, StreamError> {
        let new = self.advance(final_size, true)?;
        self.final_size = Some(final_size);
        self.check_code(code)?;
        if self.state.is_terminal() || self.reset.is_some() {
            return Ok(Counted { new, unread: new });
        }
        self.state = self.state.on(RecvEvent::Reset).unwrap_or(self.state);
        self.reset = Some(code);
        // All that the application has not read, it never will (RFC 9000 section 3.2).
        let unread = if self.stopped { new } else { self.owed_end() - self.read_at };
        self.assembler.clear();
        Ok(Counted { new, unread })
    }

    /// Takes RESET_STREAM_AT: what lies beyond `reliable` is not delivered (draft-ietf-quic-reliable-stream-reset).
    pub(super) fn on_reset_at(&mut self, code: u64, final_size: u64, reliable: u64) -> Result<Counted, StreamError> {
        let new = self.advance(final_size, true)?;
        self.final_size = Some(final_size);
        self.check_code(code)?;
        if self.stopped || self.state.is_terminal() || self.reset.is_some() {
            return Ok(Counted { new, unread: new });
        }
        let owed = self.owed_end();
        // Section 5.2: frames that would raise the size are late ones.
        if self.reset_at.is_none_or(|(_, known)| reliable < known) {
            self.reset_at = Some((code, reliable));
            self.state = self.state.on(RecvEvent::Fin).unwrap_or(self.state);
            self.assembler.truncate(reliable.max(self.read_at));
        }
        Ok(Counted { new, unread: owed - self.owed_end() })
    }

    /// The code of a reset never changes.
    fn check_code(&self, code: u64) -> Result<(), StreamError> {
        match self.reset_at {
            Some((known, _)) if known != code => {
                Err(StreamError::new(TransportErrorCode::STREAM_STATE_ERROR, "the code of a stream's reset changed"))
            }
            _ => Ok(()),
        }
    }

    /// Offset up to which the application may still read.
    fn owed_end(&self) -> u64 {
        self.reset_at.map_or(self.highest, |(_, reliable)| reliable.max(self.read_at))
    }

    /// The part of the stream that a RESET_STREAM_AT promised was read; the code.
    fn reset_reached(&self) -> Option<u64> {
        self.reset_at.filter(|(_, reliable)| self.read_at >= *reliable).map(|(code, _)| code)
    }

    /// The application wants nothing more. Returns the bytes it leaves unread.
    pub(super) fn stop(&mut self, code: u64) -> u64 {
        self.stopped = true;
        self.stop_code = Some(code);
        self.assembler.clear();
        if self.reset.is_some() { 0 } else { self.owed_end() - self.read_at }
    }

    /// Gaps in what was received.
    #[inline]
    pub(super) fn gaps(&self) -> usize {
        self.assembler.gaps()
    }

    /// True when a frame made the half worth reading that a reader waits for.
    #[inline]
    pub(super) fn is_readable(&self) -> bool {
        self.reset.is_some()
            || self.assembler.has(self.read_at)
            || self.final_size == Some(self.read_at)
            || self.reset_reached().is_some()
    }

    /// STOP_SENDING makes sense: the peer may still send.
    pub(super) fn can_stop(&self) -> bool {
        matches!(self.state, RecvState::Recv | RecvState::SizeKnown) && self.final_size.is_none_or(|s| s > self.highest)
    }

    #[inline]
    pub(super) fn read(&mut self, max: usize) -> ReadOutcome {
        if let Some(code) = self.reset {
            self.state = self.state.on(RecvEvent::ReadReset).unwrap_or(self.state);
            return ReadOutcome::Reset(code);
        }
        if let Some(code) = self.reset_reached() {
            self.state = self.state.on(RecvEvent::ReadAll).unwrap_or(self.state);
            return ReadOutcome::Reset(code);
        }
        if let Some(data) = self.assembler.read(self.read_at, max.max(1)) {
            self.read_at += data.len() as u64;
            return ReadOutcome::Data(data);
        }
        if self.final_size == Some(self.read_at) {
            self.state = self.state.on(RecvEvent::ReadAll).unwrap_or(self.state);
            return ReadOutcome::End;
        }
        self.read_blocked = true;
        ReadOutcome::Blocked
    }

    /// A stopped half is over once the size is known: nothing can be owed to the application.
    pub(super) fn settle_stopped(&mut self) {
        if self.stopped && self.final_size.is_some() {
            let event = if self.reset.is_some() { RecvEvent::ReadReset } else { RecvEvent::ReadAll };
            self.state = self.state.on(event).unwrap_or(self.state);
        }
    }

    /// Renews the window, which may grow to `cap`, after `bytes` were read; true when the peer should hear of it.
    #[inline]
    pub(super) fn renew(&mut self, bytes: u64, cap: u64, now: Instant, rtt: Duration) -> bool {
        self.final_size.is_none() && self.window.consume(bytes, self.read_at, cap, now, rtt)
    }
}

/// Bytes that came new, and how many of them count as consumed at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub(super) new: u64,
    pub(super) unread: u64,
}
