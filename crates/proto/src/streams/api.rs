//! What the application does with streams.

use core::time::Duration;

use warpline_frame::Chunk;
use warpline_wire::{Dir, StreamId};

use super::limits::UNSENT_MAX;
use super::recv::ReadOutcome;
use super::send::Fin;
use super::state::SendEvent;
use super::{ClosedStream, ReadError, ResetAtError, Streams, WriteError, at};
use crate::event::Event;
use crate::time::Instant;

impl Streams {
    /// Opens a stream if the peer allows one more.
    #[inline]
    pub(crate) fn open(&mut self, dir: Dir) -> Option<StreamId> {
        let local = &mut self.local[at(dir)];
        if local.count >= local.max {
            self.local_blocked[at(dir)] = true;
            return None;
        }
        let id = StreamId::new(self.side, dir, local.count);
        local.count += 1;
        self.insert(id);
        Some(id)
    }

    /// The next stream that the peer opened.
    #[inline]
    pub(crate) fn accept(&mut self, dir: Dir) -> Option<StreamId> {
        let remote = &mut self.remote[at(dir)];
        if remote.accepted == remote.opened.count {
            remote.announced = false;
            return None;
        }
        let id = StreamId::new(!self.side, dir, remote.accepted);
        remote.accepted += 1;
        Some(id)
    }

    /// Takes as much as fits from the front of `data`.
    #[inline]
    pub(crate) fn write(&mut self, id: StreamId, data: &mut Chunk) -> Result<usize, WriteError> {
        let index = self.find(id).ok_or(WriteError::ClosedStream)?;
        let room = self.config.send_buffer.saturating_sub(self.sending.buffered);
        let send = self.slab[index as usize].send.as_mut().ok_or(WriteError::ClosedStream)?;
        if let Some(code) = send.stopped {
            return Err(WriteError::Stopped(code));
        }
        if send.reset.is_some() || send.reset_at.is_some() || send.fin != Fin::Unwritten {
            return Err(WriteError::ClosedStream);
        }
        if data.is_empty() {
            return Ok(0);
        }
        let unsent = UNSENT_MAX.saturating_sub(send.end - send.next);
        let take = (data.len() as u64).min(room).min(unsent) as usize;
        if take == 0 {
            if !std::mem::replace(&mut send.write_blocked, true) && room == 0 {
                self.sending.blocked_writers.push_back(index);
            }
            return Err(WriteError::Blocked);
        }
        let piece = if take == data.len() { std::mem::take(data) } else { data.split_to(take) };
        send.push(piece, &mut self.sending.spares);
        self.sending.buffered += take as u64;
        self.enqueue(index);
        Ok(take)
    }

    /// Tells a writer that was told `Blocked` that there is room on its stream and on the connection.
    #[inline]
    pub(super) fn wake_writer(&mut self, index: u32) {
        let has_room = self.sending.buffered < self.config.send_buffer;
        let stream = &mut self.slab[index as usize];
        let Some(send) = stream.send.as_mut() else { return };
        if send.write_blocked && has_room && send.end - send.next <= UNSENT_MAX / 2 {
            send.write_blocked = false;
            self.events.push_back(Event::Writable(stream.id));
        }
    }

    /// Acknowledgements made room in the connection's send buffer.
    #[inline]
    pub(super) fn wake_blocked_writers(&mut self) {
        // A quarter of the buffer at a time: wake-ups are dearer than room.
        if self.sending.blocked_writers.is_empty() || self.sending.buffered > self.config.send_buffer / 4 * 3 {
            return;
        }
        while let Some(index) = self.sending.blocked_writers.pop_front() {
            let stream = &mut self.slab[index as usize];
            let Some(send) = stream.send.as_mut().filter(|_| stream.live) else { continue };
            if std::mem::take(&mut send.write_blocked) {
                self.events.push_back(Event::Writable(stream.id));
            }
        }
    }

    /// Ends the stream after what was written.
    #[inline]
    pub(crate) fn finish(&mut self, id: StreamId) -> Result<(), ClosedStream> {
        let index = self.find(id).ok_or(ClosedStream)?;
        let send = self.stream(index).send.as_mut().ok_or(ClosedStream)?;
        if send.reset.is_some() || send.reset_at.is_some() || send.fin != Fin::Unwritten {
            return Err(ClosedStream);
        }
        send.fin = Fin::ToSend;
        send.state = send.state.on(SendEvent::Finish).unwrap_or(send.state);
        self.enqueue(index);
        Ok(())
    }

    /// Gives the stream up.
    pub(crate) fn reset(&mut self, id: StreamId, code: u64) -> Result<(), ClosedStream> {
        let index = self.find(id).ok_or(ClosedStream)?;
        let send = self.stream(index).send.as_ref().ok_or(ClosedStream)?;
        if send.state.on(SendEvent::Reset).is_none() {
            return Err(ClosedStream);
        }
        self.abandon(index, code);
        Ok(())
    }

    /// Gives the stream up behind its first `reliable` bytes.
    pub(crate) fn reset_at(&mut self, id: StreamId, code: u64, reliable: u64) -> Result<(), ResetAtError> {
        if !self.peer.reset_stream_at {
            return Err(ResetAtError::Unsupported);
        }
        let index = self.find(id).ok_or(ResetAtError::ClosedStream)?;
        let Self { slab, sending, .. } = self;
        let stream = &mut slab[index as usize];
        let send = stream.send.as_mut().ok_or(ResetAtError::ClosedStream)?;
        if send.reset.is_some() || send.reset_at.is_some() || send.state.is_terminal() {
            return Err(ResetAtError::ClosedStream);
        }
        sending.buffered -= send.reset_at(code, reliable, &mut sending.spares);
        send.state = send.state.on(SendEvent::Finish).unwrap_or(send.state);
        if send.is_reset_at_due() {
            stream.pending.reset_at = true;
            self.list(index);
        }
        self.wake_blocked_writers();
        Ok(())
    }

    /// RESET_STREAM is to be sent; the data goes.
    pub(super) fn abandon(&mut self, index: u32, code: u64) {
        let Self { slab, sending, .. } = self;
        let stream = &mut slab[index as usize];
        let Some(send) = stream.send.as_mut() else { return };
        sending.buffered -= send.drop_data(&mut sending.spares);
        // A stream that was given up before keeps its code (draft-ietf-quic-reliable-stream-reset section 5.2).
        send.reset = Some(send.reset_at.map_or(code, |r| r.code));
        send.state = send.state.on(SendEvent::Reset).unwrap_or(send.state);
        stream.pending.reset = true;
        self.list(index);
        self.wake_blocked_writers();
    }

    /// Asks the peer to stop sending.
    pub(crate) fn stop_sending(&mut self, id: StreamId, code: u64) -> Result<(), ClosedStream> {
        let index = self.find(id).ok_or(ClosedStream)?;
        let stream = &mut self.slab[index as usize];
        let recv = stream.recv.as_mut().filter(|r| !r.stopped && !r.state.is_terminal()).ok_or(ClosedStream)?;
        let asks = recv.can_stop();
        let unread = recv.stop(code);
        recv.settle_stopped();
        if asks {
            stream.pending.stop = Some(code);
            self.list(index);
        }
        self.control.max_data |= self.window.discard(unread, self.received);
        self.maybe_free(index);
        Ok(())
    }

    /// Sets the priority of the stream's data that is not yet queued.
    pub(crate) fn set_priority(&mut self, id: StreamId, priority: i32) -> Result<(), ClosedStream> {
        let index = self.find(id).ok_or(ClosedStream)?;
        self.stream(index).priority = priority;
        Ok(())
    }

    /// Reads up to `max` bytes in order.
    #[inline]
    pub(crate) fn read(
        &mut self,
        id: StreamId,
        max: usize,
        now: Instant,
        rtt: Duration,
    ) -> Result<Option<Chunk>, ReadError> {
        let index = self.find(id).ok_or(ReadError::ClosedStream)?;
        let stream = &mut self.slab[index as usize];
        let recv =
            stream.recv.as_mut().filter(|r| !r.stopped && !r.state.is_terminal()).ok_or(ReadError::ClosedStream)?;
        match recv.read(max) {
            ReadOutcome::Data(data) => {
                let bytes = data.len() as u64;
                // The connection first: the stream's share is of what the connection's window has grown to.
                self.control.max_data |= self.window.consume(bytes, self.received, u64::MAX, now, rtt);
                if recv.renew(bytes, self.window.stream_share(), now, rtt) {
                    stream.pending.max_data = true;
                    self.list(index);
                }
                Ok(Some(data))
            }
            ReadOutcome::Blocked => Err(ReadError::Blocked),
            ReadOutcome::End => {
                self.maybe_free(index);
                Ok(None)
            }
            ReadOutcome::Reset(code) => {
                self.maybe_free(index);
                Err(ReadError::Reset(code))
            }
        }
    }
}
