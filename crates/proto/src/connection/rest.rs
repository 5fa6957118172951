//! Giving back memory once a connection rests: rings and lists keep what they grew to while it works, so that nothing is
//! allocated per packet, and shrink when it has had nothing to do for a while.

use core::time::Duration;

use super::Connection;
use super::timers::Timer;
use crate::cx::Cx;
use crate::time::Instant;

/// A connection rests when it has sent nothing for this long and nothing is under way: longer than any round trip, so that a
/// pause between two requests is none, and long enough that where many connections take turns few come to rest in between.
/// Each rest touches memory that no cache has any more, and the next message allocates what was given back.
const REST_AFTER: Duration = Duration::from_secs(10);

/// Packets under way at a time that are little: records of so many are kept, some 500 bytes. Were they given back, a
/// connection with a message now and then would be visited for that once more after each, and allocate with the next.
const LITTLE: u64 = 4;

/// Frames that the endpoint keeps room for to note their fate in: as many as an ACK frame decides of a message or two.
const SETTLED_KEPT: usize = 32;

impl Connection {
    /// An acknowledgement has come, when `under_way` packets had been sent since the newest that was known to have arrived. If
    /// nothing is under way any more, and unless more is sent, it will be time to rest: after work that needed memory.
    #[inline]
    pub(super) fn rest_soon(&mut self, now: Instant, under_way: u64) {
        self.progress.rested &= under_way <= LITTLE
            && !self.streams.holds_slots()
            && !self.datagrams.holds_rings()
            && !self.spaces.data.acks.holds_long_list();
        if !self.progress.rested
            && !self.spaces.data.sent.has_ack_eliciting_in_flight()
            && !self.timers.is_set(Timer::Rest)
        {
            self.timers.set(Timer::Rest, now + REST_AFTER);
        }
    }

    /// The time is over: rest now, or try again after a pause that is one.
    #[cold]
    pub(super) fn rest(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        if self.pto.since + REST_AFTER > now {
            self.timers.set(Timer::Rest, self.pto.since + REST_AFTER);
            return;
        }
        // With something under way the next acknowledgement sets the timer again.
        if self.spaces.data.sent.has_ack_eliciting_in_flight() {
            return;
        }
        self.spaces.data.sent.shrink();
        self.streams.shrink();
        self.datagrams.shrink();
        self.spaces.data.acks.shrink();
        self.events.shrink_to_fit();
        cx.settled.shrink_to(SETTLED_KEPT);
        self.progress.rested = true;
    }
}
