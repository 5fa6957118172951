//! Frames of streams and flow control that are sent.

use warpline_wire::frame::{self, StreamHeader};
use warpline_wire::{StreamId, Writer, varint};

use super::send::Fin;
use super::{DIRS, Streams, Token, at};

/// A STREAM frame is begun in no less room: a header of full size and some data.
const DATA_ROOM_MIN: usize = 32;
/// Room that any control frame of a stream fits: type and three integers.
const CONTROL_ROOM: usize = 25;

impl Streams {
    /// A control frame waits.
    #[inline]
    pub(crate) fn has_control(&self) -> bool {
        self.control.max_data || !self.control.streams.is_empty() || self.control.max_streams != [false; 2]
    }

    /// Stream data waits that may be sent now.
    #[inline]
    pub(crate) fn has_data(&self) -> bool {
        !self.sending.scheduler.is_empty()
    }

    /// Bytes written, sent or not, that were not acknowledged.
    #[inline]
    pub(crate) fn unacknowledged(&self) -> u64 {
        self.sending.buffered
    }

    /// Writes as many control frames as fit.
    pub(crate) fn write_control(&mut self, w: &mut Writer<'_>, sink: &mut impl FnMut(Token)) {
        if self.control.max_data && w.remaining() >= CONTROL_ROOM {
            self.control.max_data = false;
            frame::encode_max_data(w, self.window.granted());
            sink(Token::MaxData);
        }
        for dir in DIRS {
            if self.control.max_streams[at(dir)] && w.remaining() >= CONTROL_ROOM {
                self.control.max_streams[at(dir)] = false;
                let remote = &mut self.remote[at(dir)];
                remote.opened.max = remote.closed + remote.concurrent;
                frame::encode_max_streams(w, dir, remote.opened.max);
                sink(Token::MaxStreams(dir));
            }
        }
        while w.remaining() >= CONTROL_ROOM * 3 {
            let Some(index) = self.control.streams.pop_front() else { break };
            self.write_stream_control(index, w, sink);
        }
    }

    fn write_stream_control(&mut self, index: u32, w: &mut Writer<'_>, sink: &mut impl FnMut(Token)) {
        let slot = self.slot(index);
        let stream = &mut self.slab[index as usize];
        let pending = std::mem::take(&mut stream.pending);
        let id = stream.id;
        if let Some(recv) = stream.recv.as_ref() {
            if pending.max_data && !recv.stopped && !recv.state.is_terminal() {
                frame::encode_max_stream_data(w, id, recv.window.granted());
                sink(Token::MaxStreamData(slot));
            }
            if let Some(code) = pending.stop.filter(|_| recv.can_stop()) {
                frame::StopSending { id, code }.encode(w);
                sink(Token::StopSending(slot));
            }
        }
        if let Some(send) = stream.send.as_ref().filter(|s| pending.reset_at && s.reset.is_none())
            && let Some(reset) = send.reset_at
        {
            let (code, reliable_size) = (reset.code, reset.reliable);
            frame::ResetStreamAt { id, code, final_size: send.end, reliable_size }.encode(w);
            sink(Token::ResetAt(slot, reliable_size));
        }
        if let Some(send) = stream.send.as_ref().filter(|_| pending.reset)
            && let Some(code) = send.reset
        {
            frame::ResetStream { id, code, final_size: send.next }.encode(w);
            sink(Token::Reset(slot));
        }
        self.maybe_free(index);
    }

    /// Fills the packet with STREAM frames.
    #[inline]
    pub(crate) fn write_data(&mut self, w: &mut Writer<'_>, sink: &mut impl FnMut(Token)) {
        while w.remaining() >= DATA_ROOM_MIN {
            let Some(index) = self.sending.scheduler.front() else { break };
            let written = self.write_one(index, w, sink);
            let credit = self.sending.credit.left();
            let stream = &mut self.slab[index as usize];
            let Some(send) = stream.send.as_ref() else { break };
            if send.is_sendable(credit) {
                self.sending.scheduler.spend(written);
                // Acknowledgements free nothing while a loss at the front is repaired: a fast path would run dry by then.
                self.wake_writer(index);
                continue;
            }
            self.sending.scheduler.pop();
            stream.queued = false;
            if send.wants_credit() && !std::mem::replace(&mut stream.starved, true) {
                self.sending.starved.push(index);
            }
            self.wake_writer(index);
            self.maybe_free(index);
        }
    }

    /// Writes one STREAM frame of the stream; returns its bytes of data.
    #[inline]
    fn write_one(&mut self, index: u32, w: &mut Writer<'_>, sink: &mut impl FnMut(Token)) -> usize {
        let slot = self.slot(index);
        let credit = self.sending.credit.left();
        let stream = &mut self.slab[index as usize];
        let id = stream.id;
        let Some(send) = stream.send.as_mut().filter(|s| s.reset.is_none()) else { return 0 };
        let again = send.lost.first().cloned();
        let (offset, available) = match &again {
            Some(range) => (range.start, range.end - range.start),
            None => (send.next, send.end.min(send.max_data).saturating_sub(send.next).min(credit)),
        };
        let wants_fin = |end: u64| send.fin == Fin::ToSend && end == send.end;
        if available == 0 && !wants_fin(offset) {
            return 0;
        }
        let (header, len) = fit(id, offset, available, w.remaining());
        // The end does not go with bytes that go again. To whoever has them the frame would bring nothing but the end, and quiche 0.30
        // and tquic 1.6 never tell their application of such an end; with a frame of its own they do.
        let fin = (again.is_none() || len == 0) && wants_fin(offset + len as u64);
        StreamHeader { fin, ..header }.encode(w);
        send.copy(w, offset, len);
        let end = offset + len as u64;
        match again {
            Some(_) => send.lost.remove_below(end),
            None => {
                send.next = end;
                self.sending.credit.spend(len as u64);
            }
        }
        if fin {
            send.fin = Fin::Sent;
        }
        if again.is_none() && send.is_reset_at_due() {
            stream.pending.reset_at = true;
            self.list(index);
        }
        sink(Token::Data { slot, offset, len: len as u16, fin });
        len
    }
}

/// The frame's header and the bytes of data that go with it. Without a length field where the data reaches the packet's end.
#[inline]
fn fit(id: StreamId, offset: u64, available: u64, room: usize) -> (StreamHeader, usize) {
    let open = StreamHeader { id, offset, fin: false, len: None };
    let to_end = room - open.encoded_len();
    if available >= to_end as u64 {
        return (open, to_end);
    }
    let available = available as usize;
    let len = available.min(to_end.saturating_sub(varint::len(available as u64)));
    (StreamHeader { len: Some(len), ..open }, len)
}
