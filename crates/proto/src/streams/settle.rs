//! What becomes of frames that were sent: acknowledged, or lost.

use super::send::Fin;
use super::state::SendEvent;
use super::{Slot, Streams, Token, at};
use crate::event::Event;

impl Streams {
    /// The frame arrived.
    #[inline]
    pub(crate) fn on_acked(&mut self, token: &Token) {
        match *token {
            Token::Data { slot, offset, len, fin } => self.on_data_acked(slot, offset, u64::from(len), fin),
            Token::Reset(slot) => {
                if let Some(send) = self.at_slot(slot).and_then(|s| s.send.as_mut()) {
                    send.state = send.state.on(SendEvent::ResetAcked).unwrap_or(send.state);
                    self.maybe_free(slot.index);
                }
            }
            Token::ResetAt(slot, reliable) => self.on_reset_at_acked(slot, reliable),
            Token::MaxData | Token::MaxStreamData(_) | Token::MaxStreams(_) | Token::StopSending(_) => {}
        }
    }

    #[inline]
    fn on_data_acked(&mut self, slot: Slot, offset: u64, len: u64, fin: bool) {
        let Some(stream) = self.slab.get_mut(slot.index as usize).filter(|s| s.live && s.generation == slot.generation)
        else {
            return;
        };
        let id = stream.id;
        let Some(send) = stream.send.as_mut() else { return };
        if send.reset.is_some() {
            return;
        }
        let freed = send.on_acked(offset, len, &mut self.sending.spares);
        if fin {
            send.fin = Fin::Acked;
        }
        let mut over = false;
        let mut dropped = 0;
        if send.is_complete()
            && let Some(next) = send.state.on(SendEvent::AllAcked)
        {
            over = true;
            send.state = next;
            self.events.push_back(Event::Finished(id));
            dropped = send.drop_data(&mut self.sending.spares);
        }
        self.sending.buffered -= freed + dropped;
        if freed > 0 {
            self.wake_writer(slot.index);
            self.wake_blocked_writers();
        }
        if over {
            self.maybe_free(slot.index);
        }
    }

    /// RESET_STREAM_AT arrived: with the data before it the half is over.
    fn on_reset_at_acked(&mut self, slot: Slot, reliable: u64) {
        let Self { slab, sending, .. } = self;
        let stream = slab.get_mut(slot.index as usize).filter(|s| s.live && s.generation == slot.generation);
        let Some(stream) = stream else { return };
        let id = stream.id;
        let Some(send) = stream.send.as_mut().filter(|s| s.reset.is_none()) else { return };
        if let Some(reset) = send.reset_at.as_mut().filter(|r| r.reliable == reliable) {
            reset.acked = true;
        }
        if send.is_complete()
            && let Some(next) = send.state.on(SendEvent::AllAcked)
        {
            send.state = next;
            sending.buffered -= send.drop_data(&mut sending.spares);
            self.events.push_back(Event::Finished(id));
            self.wake_blocked_writers();
            self.maybe_free(slot.index);
        }
    }

    /// The frame did not arrive: what it said is said again, unless something newer did.
    pub(crate) fn on_lost(&mut self, token: &Token) {
        match *token {
            Token::Data { slot, offset, len, fin } => {
                let Some(send) = self.at_slot(slot).and_then(|s| s.send.as_mut()) else { return };
                if send.reset.is_some() {
                    return;
                }
                let again = send.on_lost(offset, u64::from(len));
                if fin && send.fin == Fin::Sent {
                    send.fin = Fin::ToSend;
                }
                self.sending.retransmitted += again;
                self.enqueue(slot.index);
            }
            Token::MaxData => self.control.max_data = true,
            Token::MaxStreams(dir) => self.control.max_streams[at(dir)] = true,
            Token::MaxStreamData(slot) => {
                if let Some(stream) = self.at_slot(slot) {
                    stream.pending.max_data = true;
                    self.list(slot.index);
                }
            }
            Token::Reset(slot) => {
                if let Some(stream) = self.at_slot(slot) {
                    stream.pending.reset = true;
                    self.list(slot.index);
                }
            }
            Token::ResetAt(slot, _) => {
                if let Some(stream) = self.at_slot(slot)
                    && stream.send.as_ref().is_some_and(|s| s.is_reset_at_due())
                {
                    stream.pending.reset_at = true;
                    self.list(slot.index);
                }
            }
            Token::StopSending(slot) => {
                if let Some(stream) = self.at_slot(slot).filter(|s| s.recv.as_ref().is_some_and(|r| r.can_stop())) {
                    stream.pending.stop = stream.recv.as_ref().and_then(|r| r.stop_code);
                    self.list(slot.index);
                }
            }
        }
    }
}
