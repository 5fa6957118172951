//! Frames of streams and flow control that arrive.

use warpline_frame::Chunk;
use warpline_wire::frame::ResetStreamAt;
use warpline_wire::{Dir, StreamId, TransportErrorCode};

use super::limits::GAPS_MAX;
use super::recv::Counted;
use super::state::SendEvent;
use super::{StreamError, Streams, at};
use crate::event::Event;

impl Streams {
    /// The stream that a frame is for; `None` for one that is over. A stream that the peer opens is made here, with all before it.
    #[inline]
    fn locate(&mut self, id: StreamId) -> Result<Option<u32>, StreamError> {
        if let Some(index) = self.find(id) {
            return Ok(Some(index));
        }
        let dir = at(id.dir());
        if id.initiator() == self.side {
            if id.index() >= self.local[dir].count {
                return Err(StreamError::new(TransportErrorCode::STREAM_STATE_ERROR, "a stream that was never opened"));
            }
            return Ok(None);
        }
        if id.index() < self.remote[dir].opened.count {
            return Ok(None);
        }
        if id.index() >= self.remote[dir].opened.max {
            return Err(StreamError::new(TransportErrorCode::STREAM_LIMIT_ERROR, "more streams than allowed"));
        }
        let first = self.remote[dir].opened.count;
        self.remote[dir].opened.count = id.index() + 1;
        for index in first..=id.index() {
            self.insert(StreamId::new(!self.side, id.dir(), index));
        }
        if !self.remote[dir].announced {
            self.remote[dir].announced = true;
            self.events.push_back(Event::StreamOpened(id.dir()));
        }
        Ok(self.find(id))
    }

    /// The stream whose receiving half a frame is for.
    #[inline]
    fn locate_receiver(&mut self, id: StreamId) -> Result<Option<u32>, StreamError> {
        if id.dir() == Dir::Uni && id.initiator() == self.side {
            return Err(StreamError::new(TransportErrorCode::STREAM_STATE_ERROR, "data on a stream that only sends"));
        }
        self.locate(id)
    }

    /// The stream whose sending half a frame is for.
    fn locate_sender(&mut self, id: StreamId) -> Result<Option<u32>, StreamError> {
        if id.dir() == Dir::Uni && id.initiator() != self.side {
            return Err(StreamError::new(
                TransportErrorCode::STREAM_STATE_ERROR,
                "credit for a stream that only receives",
            ));
        }
        self.locate(id)
    }

    /// STREAM.
    #[inline]
    pub(crate) fn on_stream(&mut self, id: StreamId, offset: u64, fin: bool, data: Chunk) -> Result<(), StreamError> {
        let Some(index) = self.locate_receiver(id)? else { return Ok(()) };
        let Some(recv) = self.slab[index as usize].recv.as_mut() else { return Ok(()) };
        let gaps_before = recv.gaps();
        let counted = recv.on_data(offset, data, fin)?;
        let more_gaps = recv.gaps().saturating_sub(gaps_before);
        recv.settle_stopped();
        if recv.read_blocked && recv.is_readable() {
            recv.read_blocked = false;
            self.events.push_back(Event::Readable(id));
        }
        let over = recv.state.is_terminal();
        self.count(counted)?;
        if more_gaps > 0 {
            self.count_gaps(more_gaps)?;
        }
        if over {
            self.maybe_free(index);
        }
        Ok(())
    }

    /// Bounds the gaps of all streams together. The running count only goes up, and is set right when it reaches the bound: gaps
    /// are closed in too many ways to follow each.
    #[cold]
    fn count_gaps(&mut self, more: usize) -> Result<(), StreamError> {
        self.gaps += more;
        if self.gaps <= GAPS_MAX {
            return Ok(());
        }
        let receivers = self.slab.iter().filter(|s| s.live).filter_map(|s| s.recv.as_ref());
        self.gaps = receivers.map(|r| r.gaps()).sum();
        // Well below, or the sum would be made for every frame.
        if self.gaps > GAPS_MAX / 4 * 3 {
            return Err(StreamError::new(TransportErrorCode::INTERNAL_ERROR, "more gaps in streams than are kept"));
        }
        Ok(())
    }

    /// Counts received bytes against the connection's window.
    #[inline]
    fn count(&mut self, counted: Counted) -> Result<(), StreamError> {
        self.received += counted.new;
        if self.received > self.window.granted() {
            return Err(StreamError::new(
                TransportErrorCode::FLOW_CONTROL_ERROR,
                "data beyond the connection's window",
            ));
        }
        if counted.unread > 0 {
            self.control.max_data |= self.window.discard(counted.unread, self.received);
        }
        Ok(())
    }

    /// RESET_STREAM.
    pub(crate) fn on_reset_stream(&mut self, id: StreamId, code: u64, final_size: u64) -> Result<(), StreamError> {
        let Some(index) = self.locate_receiver(id)? else { return Ok(()) };
        let Some(recv) = self.slab[index as usize].recv.as_mut() else { return Ok(()) };
        let counted = recv.on_reset(code, final_size)?;
        recv.settle_stopped();
        if std::mem::take(&mut recv.read_blocked) {
            self.events.push_back(Event::Readable(id));
        }
        self.count(counted)?;
        self.maybe_free(index);
        Ok(())
    }

    /// RESET_STREAM_AT.
    pub(crate) fn on_reset_stream_at(&mut self, frame: &ResetStreamAt) -> Result<(), StreamError> {
        let Some(index) = self.locate_receiver(frame.id)? else { return Ok(()) };
        let Some(recv) = self.slab[index as usize].recv.as_mut() else { return Ok(()) };
        let counted = recv.on_reset_at(frame.code, frame.final_size, frame.reliable_size)?;
        recv.settle_stopped();
        if recv.read_blocked && recv.is_readable() {
            recv.read_blocked = false;
            self.events.push_back(Event::Readable(frame.id));
        }
        self.count(counted)?;
        self.maybe_free(index);
        Ok(())
    }

    /// STOP_SENDING: answered with RESET_STREAM of the same code (RFC 9000 section 3.5).
    pub(crate) fn on_stop_sending(&mut self, id: StreamId, code: u64) -> Result<(), StreamError> {
        let Some(index) = self.locate_sender(id)? else { return Ok(()) };
        let Some(send) = self.stream(index).send.as_mut() else { return Ok(()) };
        if send.stopped.is_some() || send.state.on(SendEvent::Reset).is_none() {
            return Ok(());
        }
        send.stopped = Some(code);
        self.events.push_back(Event::Stopped(id, code));
        self.abandon(index, code);
        Ok(())
    }

    /// MAX_DATA.
    pub(crate) fn on_max_data(&mut self, max: u64) {
        if !self.sending.credit.raise(max) {
            return;
        }
        for index in std::mem::take(&mut self.sending.starved) {
            self.slab[index as usize].starved = false;
            self.enqueue(index);
        }
    }

    /// MAX_STREAM_DATA.
    pub(crate) fn on_max_stream_data(&mut self, id: StreamId, max: u64) -> Result<(), StreamError> {
        if let Some(index) = self.locate_sender(id)? {
            self.raise_stream(index, max);
        }
        Ok(())
    }

    pub(super) fn raise_stream(&mut self, index: u32, max: u64) {
        if let Some(send) = self.stream(index).send.as_mut()
            && max > send.max_data
        {
            send.max_data = max;
            self.enqueue(index);
        }
    }

    /// MAX_STREAMS.
    pub(crate) fn on_max_streams(&mut self, dir: Dir, max: u64) {
        self.raise_local(dir, max);
    }

    pub(super) fn raise_local(&mut self, dir: Dir, max: u64) {
        let local = &mut self.local[at(dir)];
        if max > local.max {
            local.max = max;
            if std::mem::take(&mut self.local_blocked[at(dir)]) {
                self.events.push_back(Event::StreamsAvailable(dir));
            }
        }
    }

    /// STREAM_DATA_BLOCKED: only checked; credit is given as data is consumed, not on request.
    pub(crate) fn on_stream_data_blocked(&mut self, id: StreamId) -> Result<(), StreamError> {
        self.locate_receiver(id).map(|_| ())
    }
}
