//! CUBIC (RFC 9438), with HyStart++ in its first slow start.

use core::time::Duration;

use super::hystart::{CSS_GROWTH_DIVISOR, HyStart, Verdict};
use super::window::{self, Recovery};
use super::{AckSample, CongestionControl, LossSample, ResumeStep};
use crate::recovery::sent::LostPacket;
use crate::time::Instant;

#[cfg(test)]
mod tests;

/// `C` of RFC 9438 section 5.1, in datagrams per second cubed.
const C: f64 = 0.4;
/// `β_cubic` of RFC 9438 section 4.6.
const BETA: f64 = 0.7;
/// `α_cubic` of RFC 9438 section 4.3: with it the estimate grows as fast as Reno's average.
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// A stretch of congestion avoidance: the curve that the window follows. Windows are in datagrams here.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    /// `t_epoch`.
    start: Instant,
    /// `K`: seconds until the curve is at `w_max` again.
    k: f64,
    /// `W_est`: the window that Reno would have.
    w_est: f64,
    /// Since when the window went unused: that time does not count (RFC 9438 section 5.8).
    idle_since: Option<Instant>,
}

/// What to go back to when a loss turns out to be none (RFC 9438 section 4.9.2).
#[derive(Clone, Debug)]
struct Undo {
    window: f64,
    ssthresh: u64,
    w_max: f64,
    cwnd_prior: f64,
    epoch: Option<Epoch>,
    hystart: Option<Box<HyStart>>,
}

/// The CUBIC controller.
#[derive(Clone, Debug)]
pub struct Cubic {
    /// Datagrams; the fraction carries over from one acknowledgement to the next.
    window: f64,
    /// In bytes.
    ssthresh: u64,
    mtu: u16,
    w_max: f64,
    /// The window before the last reduction.
    cwnd_prior: f64,
    epoch: Option<Epoch>,
    recovery: Recovery,
    /// Of the first slow start only.
    hystart: Option<Box<HyStart>>,
    undo: Option<Box<Undo>>,
    /// Careful resume holds the window where it is.
    held: bool,
}

impl Cubic {
    /// A controller for datagrams of `mtu` bytes.
    pub fn new(mtu: u16) -> Self {
        Self {
            window: window::initial(mtu) as f64 / f64::from(mtu),
            ssthresh: u64::MAX,
            mtu,
            w_max: 0.0,
            cwnd_prior: 0.0,
            epoch: None,
            recovery: Recovery::default(),
            hystart: Some(Box::new(HyStart::new())),
            undo: None,
            held: false,
        }
    }

    #[inline]
    fn segments(&self, bytes: u64) -> f64 {
        bytes as f64 / f64::from(self.mtu)
    }

    fn slow_start(&mut self, ack: &AckSample) {
        let mut acked = self.segments(ack.acked_bytes);
        let verdict = self
            .hystart
            .as_deref_mut()
            .map_or(Verdict::SlowStart, |h| h.on_ack(ack.now, ack.newest_sent_at, ack.latest_rtt));
        match verdict {
            Verdict::SlowStart => {}
            Verdict::Conservative => acked /= CSS_GROWTH_DIVISOR as f64,
            Verdict::Exit => {
                self.ssthresh = self.window();
                self.hystart = None;
                return;
            }
        }
        self.window += acked;
    }

    /// The curve starts anew from the present window (RFC 9438 section 4.2).
    fn begin_epoch(&mut self, now: Instant) -> Epoch {
        if self.w_max < self.window {
            // No reduction led here, or the window has outgrown it (section 4.8).
            self.w_max = self.window;
        }
        let k = ((self.w_max - self.window) / C).cbrt();
        Epoch { start: now, k, w_est: self.window, idle_since: None }
    }

    fn avoid_congestion(&mut self, ack: &AckSample) {
        let mut epoch = match self.epoch {
            Some(epoch) => epoch,
            None => self.begin_epoch(ack.now),
        };
        if let Some(since) = epoch.idle_since.take() {
            epoch.start += ack.now - since;
        }
        let curve = |t: f64| {
            let d = t - epoch.k;
            C * d * d * d + self.w_max
        };
        let t = (ack.now - epoch.start).as_secs_f64();
        let acked = self.segments(ack.acked_bytes);
        let alpha = if epoch.w_est >= self.cwnd_prior { 1.0 } else { ALPHA };
        epoch.w_est += alpha * acked / self.window;
        if curve(t) < epoch.w_est {
            // Reno-friendly region (section 4.3).
            self.window = self.window.max(epoch.w_est);
        } else {
            let target = curve(t + ack.smoothed_rtt.as_secs_f64()).clamp(self.window, 1.5 * self.window);
            // Per datagram acknowledged; not past the target when one frame acknowledges more than a window.
            self.window += (target - self.window) * (acked / self.window).min(1.0);
        }
        self.epoch = Some(epoch);
    }

    fn reduce(&mut self, now: Instant) {
        self.undo = Some(Box::new(Undo {
            window: self.window,
            ssthresh: self.ssthresh,
            w_max: self.w_max,
            cwnd_prior: self.cwnd_prior,
            epoch: self.epoch,
            hystart: self.hystart.take(),
        }));
        self.recovery.enter(now);
        // Fast convergence (section 4.7): a window that did not get back to the old maximum leaves room for others.
        self.w_max = if self.window < self.w_max { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.cwnd_prior = self.window;
        self.window = (self.window * BETA).max(2.0);
        self.ssthresh = self.window();
        self.epoch = None;
    }
}

impl CongestionControl for Cubic {
    #[inline]
    fn on_sent(&mut self, _now: Instant, _bytes: u64, _in_flight: u64, _app_limited: bool) {}

    #[inline]
    fn on_ack(&mut self, ack: &AckSample) {
        if self.held || self.recovery.covers(ack.newest_sent_at) {
            return;
        }
        let in_slow_start = self.in_slow_start();
        if !window::was_used(ack, self.window(), in_slow_start, self.mtu) {
            if let Some(epoch) = &mut self.epoch {
                epoch.idle_since.get_or_insert(ack.now);
            }
            return;
        }
        if in_slow_start { self.slow_start(ack) } else { self.avoid_congestion(ack) }
    }

    #[inline]
    fn on_packet_lost(&mut self, _now: Instant, _packet: &LostPacket) {}

    fn on_congestion(&mut self, loss: &LossSample) {
        if !self.recovery.covers(loss.largest_lost_sent_at) {
            self.reduce(loss.now);
        }
        if loss.persistent {
            // RFC 9438 section 4.8: as Reno does, and the curve begins where slow start ends.
            self.window = 2.0;
            self.w_max = 0.0;
            self.epoch = None;
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
        let Some(undo) = self.undo.take() else { return };
        if undo.window <= self.window {
            return;
        }
        self.window = undo.window;
        self.ssthresh = undo.ssthresh;
        self.w_max = undo.w_max;
        self.cwnd_prior = undo.cwnd_prior;
        self.epoch = undo.epoch;
        self.hystart = undo.hystart;
        self.recovery.leave();
    }

    fn on_mtu(&mut self, mtu: u16) {
        // The window stays the same in bytes, the curve in time; only the unit changes.
        let scale = f64::from(self.mtu) / f64::from(mtu);
        self.mtu = mtu;
        self.window = (self.window * scale).max(2.0);
        self.w_max *= scale;
        self.cwnd_prior *= scale;
        if let Some(epoch) = &mut self.epoch {
            epoch.w_est *= scale;
            // `C` is in datagrams: the same curve in larger ones has another `K`, so it is drawn anew.
            epoch.k = ((self.w_max - self.window).max(0.0) / C).cbrt();
        }
        // Of another unit; losses that large datagrams take with them are no reason to go back.
        self.undo = None;
    }

    fn careful_resume(&mut self, now: Instant, step: ResumeStep) -> bool {
        self.held = matches!(step, ResumeStep::Jump { .. } | ResumeStep::Retreat { .. });
        match step {
            ResumeStep::Jump { window, .. } | ResumeStep::Validate { window } => self.window = self.segments(window),
            ResumeStep::Retreat { window } => {
                self.recovery.enter(now);
                self.window = self.segments(window).min(self.window).max(2.0);
                self.ssthresh = self.window();
                // The curve begins where slow start ends, and there is nothing to go back to: the window was not this
                // connection's own.
                (self.w_max, self.cwnd_prior, self.epoch) = (0.0, self.window, None);
                (self.hystart, self.undo) = (None, None);
            }
            ResumeStep::Recover { ssthresh } => self.ssthresh = ssthresh.max(window::minimum(self.mtu)),
            ResumeStep::Stop => {}
        }
        true
    }

    #[inline]
    fn window(&self) -> u64 {
        (self.window * f64::from(self.mtu)).round() as u64
    }

    #[inline]
    fn pacing_rate(&self, srtt: Duration) -> u64 {
        if self.held {
            return window::even_rate(self.window(), srtt);
        }
        window::pacing_rate(self.window(), srtt, self.in_slow_start())
    }

    #[inline]
    fn in_slow_start(&self) -> bool {
        self.window() < self.ssthresh
    }

    fn ssthresh(&self) -> u64 {
        self.ssthresh
    }

    fn state_name(&self) -> &'static str {
        match &self.hystart {
            _ if !self.in_slow_start() => "congestion_avoidance",
            Some(h) if h.is_conservative() => "conservative_slow_start",
            _ => "slow_start",
        }
    }
}
