//! BBRv3 (draft-ietf-ccwg-bbr): a model of the path, made of its bandwidth, its round-trip time and the volume that it
//! takes without loss, and a cycle of phases that keeps measuring them.
//!
//! The names are the draft's, so that both can be read side by side. One file per topic: [`model`] holds what is known
//! of the path, [`startup`], [`probe_bw`] and [`probe_rtt`] the phases, [`loss`] the reactions to loss and marks, and
//! [`control`] turns the model into a window and a rate. All of it runs once per ACK frame, in the order of the
//! draft's section 5.2.3.
//!
//! Differences from the draft, all but the first two where it leaves the choice to the transport:
//! - The loss threshold has room for chance (`is_inflight_too_high`).
//! - The short-term bounds fall with what the path did not pass, not with what was not sent (`adapt_lower_bounds`).
//! - A CE mark counts as the loss of one datagram (RFC 3168 section 5), in Startup as well.
//! - Persistent congestion takes the place of TCP's retransmission timeout.
//! - Waiting times are randomised by hashing the moment and the bytes delivered: a run repeats from its inputs.

mod control;
mod filter;
mod loss;
mod model;
mod probe_bw;
mod probe_rtt;
mod resume;
mod startup;
#[cfg(test)]
mod tests;

use core::time::Duration;

use super::{AckSample, CongestionControl, LossSample, ResumeStep, window};
use crate::recovery::rate::RateSample;
use crate::recovery::sent::LostPacket;
use crate::time::Instant;

use control::Control;
use loss::{LossRound, Undo};
use model::{Aggregation, Bandwidth, Round, Volume};
use probe_bw::Probe;
use probe_rtt::MinRtt;
use resume::Resuming;
use startup::FullPipe;

/// `LossThresh`: the loss rate per round trip that is tolerated while probing.
const LOSS_THRESH: f64 = 0.02;
/// `Beta`: the multiplicative decrease per round trip with loss.
const BETA: f64 = 0.7;
/// No bound is known: the draft's `Infinity`.
const UNBOUNDED: u64 = u64::MAX;

/// What BBR is doing (section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Startup,
    Drain,
    ProbeBwDown,
    ProbeBwCruise,
    ProbeBwRefill,
    ProbeBwUp,
    ProbeRtt,
}

impl State {
    /// The table of section 5.6.1: pacing gain and window gain.
    const fn gains(self) -> (f64, f64) {
        match self {
            Self::Startup => (2.77, 2.0),
            Self::Drain => (0.5, 2.0),
            Self::ProbeBwDown => (0.9, 2.0),
            Self::ProbeBwCruise | Self::ProbeBwRefill => (1.0, 2.0),
            Self::ProbeBwUp => (1.25, 2.25),
            Self::ProbeRtt => (1.0, 0.5),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Drain => "drain",
            Self::ProbeBwDown => "probe_bw_down",
            Self::ProbeBwCruise => "probe_bw_cruise",
            Self::ProbeBwRefill => "probe_bw_refill",
            Self::ProbeBwUp => "probe_bw_up",
            Self::ProbeRtt => "probe_rtt",
        }
    }

    /// `IsInAProbeBWState`.
    const fn is_probe_bw(self) -> bool {
        matches!(self, Self::ProbeBwDown | Self::ProbeBwCruise | Self::ProbeBwRefill | Self::ProbeBwUp)
    }

    /// `IsProbingBW`: losses are what the phase looks for, not news of the path.
    const fn is_accelerating(self) -> bool {
        matches!(self, Self::Startup | Self::ProbeBwRefill | Self::ProbeBwUp)
    }
}

/// What one ACK frame says: the draft's `RS`, with the connection's state after it.
#[derive(Clone, Copy, Debug)]
struct Sample {
    now: Instant,
    /// Nanoseconds from sending the newest packet to now.
    rtt: u64,
    newly_acked: u64,
    /// Bytes delivered over the sample's interval.
    delivered: u64,
    /// Bytes per second; 0 without a usable sample.
    delivery_rate: u64,
    app_limited: bool,
    prior_delivered: u64,
    tx_in_flight: u64,
    lost: u64,
    /// The rate of delivery as a share of the rate of sending, 1 at most: what the path passed of what it was given.
    passed: f64,
}

/// The BBRv3 controller.
#[derive(Clone, Debug)]
pub struct Bbr {
    state: State,
    control: Control,
    round: Round,
    bandwidth: Bandwidth,
    volume: Volume,
    aggregation: Aggregation,
    full_pipe: FullPipe,
    probe: Probe,
    min_rtt: MinRtt,
    loss: LossRound,
    undo: Undo,
    /// `C.delivered`.
    delivered: u64,
    /// `C.inflight`.
    in_flight: u64,
    idle_restart: bool,
    /// Careful resume is under way: the draft's "carefully-resuming".
    resuming: Option<Resuming>,
    /// Set with the first packet.
    started: bool,
}

#[inline]
fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// `value` times `factor`, saturating.
#[inline]
fn scale(value: u64, factor: f64) -> u64 {
    (value as f64 * factor) as u64
}

/// What arrived of what was sent, by the time that each took. 0 without a usable interval.
fn passed(rate: &RateSample) -> f64 {
    let (delivered, lost) = (rate.delivered_bytes as f64, rate.lost_since_sent as f64);
    if rate.delivered_bytes == 0 || rate.interval.is_zero() {
        return 0.0;
    }
    delivered / (delivered + lost) * (rate.send_elapsed.as_secs_f64() / rate.interval.as_secs_f64())
}

impl Bbr {
    /// A controller for datagrams of `mtu` bytes.
    pub fn new(mtu: u16) -> Self {
        Self {
            state: State::Startup,
            control: Control::new(window::initial(mtu), mtu),
            round: Round::default(),
            bandwidth: Bandwidth::default(),
            volume: Volume::default(),
            aggregation: Aggregation::default(),
            full_pipe: FullPipe::default(),
            probe: Probe::default(),
            min_rtt: MinRtt::default(),
            loss: LossRound::default(),
            undo: Undo::default(),
            delivered: 0,
            in_flight: 0,
            idle_restart: false,
            resuming: None,
            started: false,
        }
    }

    /// The part of `OnInit` that needs to know the time.
    #[cold]
    fn start(&mut self, now: Instant) {
        self.started = true;
        self.min_rtt.start(now);
        self.aggregation.restart(now);
    }

    /// Bytes per second that the path is taken to carry: `BBR.bw`.
    pub fn bandwidth(&self) -> u64 {
        self.bandwidth.bw
    }

    /// `HandleRestartFromIdle` (section 5.4.1).
    #[cold]
    fn restart_from_idle(&mut self, now: Instant) {
        self.idle_restart = true;
        self.aggregation.restart(now);
        if self.state.is_probe_bw() {
            self.set_pacing_rate(1.0);
        } else if self.state == State::ProbeRtt {
            self.check_probe_rtt_done(now);
        }
    }

    fn sample(&self, ack: &AckSample) -> Sample {
        let rate = &ack.rate;
        // Section 4.1.2.3: an interval shorter than the path's round trip is no reliable sample.
        let is_reliable = rate.interval >= ack.min_rtt;
        Sample {
            now: ack.now,
            rtt: nanos(ack.newest_rtt()),
            newly_acked: ack.acked_bytes,
            delivered: rate.delivered_bytes,
            delivery_rate: rate.bytes_per_second().filter(|_| is_reliable && !self.is_tainted()).unwrap_or(0),
            app_limited: rate.app_limited || self.min_rtt.is_sample_limited(rate.prior_delivered),
            prior_delivered: rate.prior_delivered,
            tx_in_flight: rate.tx_in_flight,
            lost: rate.lost_since_sent,
            passed: passed(rate),
        }
    }

    /// `UpdateModelAndState`.
    fn update_model_and_state(&mut self, rs: &Sample) {
        self.update_latest_delivery_signals(rs);
        self.update_congestion_signals(rs);
        self.update_ack_aggregation(rs);
        self.check_full_bw_reached(rs);
        self.check_startup_done(rs);
        self.check_drain_done(rs);
        self.update_probe_bw_cycle_phase(rs);
        self.update_min_rtt(rs);
        self.check_probe_rtt(rs);
        self.advance_latest_delivery_signals(rs);
        self.update_resuming();
        self.bandwidth.bound();
    }
}

impl CongestionControl for Bbr {
    #[inline]
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64, app_limited: bool) {
        if !self.started {
            self.start(now);
        } else if in_flight == 0 && app_limited {
            self.restart_from_idle(now);
        }
        self.in_flight = in_flight + bytes;
        self.control.note_usage(self.in_flight);
    }

    fn on_ack(&mut self, ack: &AckSample) {
        let rs = self.sample(ack);
        self.delivered = ack.rate.total_delivered;
        self.in_flight = ack.in_flight();
        self.control.init_pacing_rate(ack.smoothed_rtt);
        self.update_model_and_state(&rs);
        self.update_control_parameters(&rs);
    }

    fn on_packet_lost(&mut self, now: Instant, packet: &LostPacket) {
        self.in_flight = self.in_flight.saturating_sub(u64::from(packet.size));
        self.handle_lost_packet(now, packet);
    }

    fn on_congestion(&mut self, loss: &LossSample) {
        if loss.persistent {
            self.enter_persistent_congestion();
        }
    }

    fn on_ecn_ce(&mut self, now: Instant, marks: u64, _sent_at: Instant) {
        self.handle_marks(now, marks);
    }

    fn on_spurious_loss(&mut self, now: Instant) {
        self.handle_spurious_loss(now);
    }

    fn on_mtu(&mut self, mtu: u16) {
        self.control.set_mtu(mtu);
    }

    fn careful_resume(&mut self, _now: Instant, step: ResumeStep) -> bool {
        self.handle_resume_step(step)
    }

    #[inline]
    fn window(&self) -> u64 {
        self.control.cwnd
    }

    #[inline]
    fn pacing_rate(&self, srtt: Duration) -> u64 {
        self.control.pacing_rate(srtt)
    }

    fn in_slow_start(&self) -> bool {
        self.state == State::Startup
    }

    fn ssthresh(&self) -> u64 {
        self.volume.longterm
    }

    fn state_name(&self) -> &'static str {
        self.state.name()
    }
}
