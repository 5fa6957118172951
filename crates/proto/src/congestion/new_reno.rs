//! NewReno, as RFC 9002 section 7 and appendix B describe it.

use core::time::Duration;

use super::window::{self, Recovery};
use super::{AckSample, CongestionControl, LossSample, ResumeStep};
use crate::recovery::sent::LostPacket;
use crate::time::Instant;

/// What to go back to when a loss turns out to be none.
#[derive(Clone, Copy, Debug)]
struct Undo {
    window: u64,
    ssthresh: u64,
}

/// The NewReno controller.
#[derive(Clone, Debug)]
pub struct NewReno {
    window: u64,
    ssthresh: u64,
    mtu: u16,
    recovery: Recovery,
    /// Bytes acknowledged since the window last grew in congestion avoidance.
    credit: u64,
    undo: Option<Undo>,
    /// Careful resume holds the window where it is.
    held: bool,
}

impl NewReno {
    /// A controller for datagrams of `mtu` bytes.
    pub fn new(mtu: u16) -> Self {
        Self {
            window: window::initial(mtu),
            ssthresh: u64::MAX,
            mtu,
            recovery: Recovery::default(),
            credit: 0,
            undo: None,
            held: false,
        }
    }

    fn reduce(&mut self, now: Instant) {
        self.undo = Some(Undo { window: self.window, ssthresh: self.ssthresh });
        self.recovery.enter(now);
        self.ssthresh = (self.window / 2).max(window::minimum(self.mtu));
        self.window = self.ssthresh;
        self.credit = 0;
    }
}

impl CongestionControl for NewReno {
    #[inline]
    fn on_sent(&mut self, _now: Instant, _bytes: u64, _in_flight: u64, _app_limited: bool) {}

    #[inline]
    fn on_ack(&mut self, ack: &AckSample) {
        if self.held || self.recovery.covers(ack.newest_sent_at) {
            return;
        }
        let in_slow_start = self.in_slow_start();
        if !window::was_used(ack, self.window, in_slow_start, self.mtu) {
            return;
        }
        if in_slow_start {
            self.window += ack.acked_bytes;
            return;
        }
        self.credit += ack.acked_bytes;
        // One datagram for every window acknowledged.
        while self.credit >= self.window {
            self.credit -= self.window;
            self.window += u64::from(self.mtu);
        }
    }

    #[inline]
    fn on_packet_lost(&mut self, _now: Instant, _packet: &LostPacket) {}

    fn on_congestion(&mut self, loss: &LossSample) {
        if !self.recovery.covers(loss.largest_lost_sent_at) {
            self.reduce(loss.now);
        }
        if loss.persistent {
            self.window = window::minimum(self.mtu);
            self.recovery.leave();
            self.undo = None;
        }
    }

    fn on_ecn_ce(&mut self, now: Instant, _marks: u64, sent_at: Instant) {
        if !self.recovery.covers(sent_at) {
            self.reduce(now);
            // The mark was real: there is nothing to undo.
            self.undo = None;
        }
    }

    fn on_spurious_loss(&mut self, _now: Instant) {
        if let Some(undo) = self.undo.take() {
            self.window = self.window.max(undo.window);
            self.ssthresh = undo.ssthresh;
            self.recovery.leave();
        }
    }

    fn on_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
        self.window = self.window.max(window::minimum(mtu));
    }

    fn careful_resume(&mut self, now: Instant, step: ResumeStep) -> bool {
        self.held = matches!(step, ResumeStep::Jump { .. } | ResumeStep::Retreat { .. });
        match step {
            ResumeStep::Jump { window, .. } | ResumeStep::Validate { window } => self.window = window,
            ResumeStep::Retreat { window } => {
                self.recovery.enter(now);
                self.window = window.min(self.window).max(window::minimum(self.mtu));
                self.ssthresh = self.window;
                self.credit = 0;
                // There is nothing to go back to: the window was not this connection's own.
                self.undo = None;
            }
            ResumeStep::Recover { ssthresh } => self.ssthresh = ssthresh.max(window::minimum(self.mtu)),
            ResumeStep::Stop => {}
        }
        true
    }

    #[inline]
    fn window(&self) -> u64 {
        self.window
    }

    #[inline]
    fn pacing_rate(&self, srtt: Duration) -> u64 {
        if self.held {
            return window::even_rate(self.window, srtt);
        }
        window::pacing_rate(self.window, srtt, self.in_slow_start())
    }

    #[inline]
    fn in_slow_start(&self) -> bool {
        self.window < self.ssthresh
    }

    fn ssthresh(&self) -> u64 {
        self.ssthresh
    }

    fn state_name(&self) -> &'static str {
        if self.in_slow_start() { "slow_start" } else { "congestion_avoidance" }
    }
}
