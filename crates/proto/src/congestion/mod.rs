//! Congestion control: how many bytes may be in flight, and how fast they may leave.
//!
//! A controller takes numbers and gives two: [`Controller::window`] and [`Controller::pacing_rate`]. It never sees the
//! connection, a clock or a source of randomness. Which one runs is chosen by [`CongestionAlgorithm`];
//! [`CongestionControl`] is for controllers from outside.
//!
//! | event | call |
//! |---|---|
//! | a packet that counts as in flight was sent | [`Controller::on_sent`] |
//! | the CE count went up | [`Controller::on_ecn_ce`] |
//! | a packet was declared lost | [`Controller::on_packet_lost`], once per packet |
//! | losses were declared | [`Controller::on_congestion`], once after the packets |
//! | bytes in flight were acknowledged | [`Controller::on_ack`], once per ACK frame, after the losses that it showed |
//! | all losses of an episode turned out to be none | [`Controller::on_spurious_loss`] |
//! | the path was taken before, and careful resume is on | [`Controller::careful_resume`], which takes the place of `on_congestion` where what it did was too much |

mod bbr;
mod careful_resume;
mod cubic;
mod hystart;
mod new_reno;
mod sample;
mod window;

use core::fmt::Debug;
use core::time::Duration;
use std::sync::Arc;

pub use bbr::Bbr;
pub(crate) use careful_resume::{CarefulResume, Congestion, Situation, Transition};
pub use careful_resume::{ResumePhase, ResumeState, ResumeStep};
pub use cubic::Cubic;
pub use new_reno::NewReno;
pub use sample::{AckSample, LossSample};
pub(crate) use window::Recovery;

use crate::recovery::sent::LostPacket;
use crate::time::Instant;

/// The initial window of RFC 9002 section 7.2 in bytes, for datagrams of `mtu` bytes.
pub(crate) fn initial_window(mtu: u16) -> u64 {
    window::initial(mtu)
}

/// Which controller a connection uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CongestionAlgorithm {
    /// RFC 9002 section 7: halves on loss, grows by one packet per round trip.
    NewReno,
    /// RFC 9438 with HyStart++ (RFC 9406).
    #[default]
    Cubic,
    /// BBRv3 (draft-ietf-ccwg-bbr): a model of the path rather than a reaction to loss.
    Bbr,
}

/// Makes controllers of one's own, one for each path: from the size of datagrams in bytes.
#[derive(Clone)]
pub struct CustomCongestion(Arc<dyn Fn(u16) -> Box<dyn CongestionControl> + Send + Sync>);

impl CustomCongestion {
    /// Controllers are what `make` gives for a path that carries datagrams of so many bytes.
    pub fn new(make: impl Fn(u16) -> Box<dyn CongestionControl> + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }
}

impl Debug for CustomCongestion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("CustomCongestion")
    }
}

/// A congestion controller.
///
/// All byte counts are of UDP payload. Calls come in the order of the table in the [module's documentation](self).
pub trait CongestionControl: Debug + Send {
    /// `bytes` were sent at `now` with `in_flight` bytes in flight before them. `app_limited` tells that the
    /// application had nothing to send at some time in the last round trip.
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64, app_limited: bool);
    /// Bytes in flight were acknowledged.
    fn on_ack(&mut self, ack: &AckSample);
    /// One packet was declared lost.
    fn on_packet_lost(&mut self, now: Instant, packet: &LostPacket);
    /// Packets were declared lost.
    fn on_congestion(&mut self, loss: &LossSample);
    /// The peer counted `marks` more packets with a CE mark; the newest packet that it acknowledged with them was sent
    /// at `sent_at`.
    fn on_ecn_ce(&mut self, now: Instant, marks: u64, sent_at: Instant);
    /// Every packet of the last loss episode arrived after all.
    fn on_spurious_loss(&mut self, now: Instant);
    /// The largest datagram is now of `mtu` bytes.
    fn on_mtu(&mut self, mtu: u16);
    /// A step of careful resume. False from a controller that takes no part in it, as those that do not say otherwise; then
    /// nothing has changed.
    fn careful_resume(&mut self, _now: Instant, _step: ResumeStep) -> bool {
        false
    }
    /// Bytes that may be in flight.
    fn window(&self) -> u64;
    /// Bytes per second that may leave, at a smoothed round-trip time of `srtt`.
    fn pacing_rate(&self, srtt: Duration) -> u64;
    /// The window is still searched for exponentially.
    fn in_slow_start(&self) -> bool;
    /// The window at which slow start ends; `u64::MAX` while it is unknown.
    fn ssthresh(&self) -> u64;
    /// What the controller is doing, for logs.
    fn state_name(&self) -> &'static str;
}

/// The controller of one path.
#[derive(Debug)]
pub enum Controller {
    /// RFC 9002 section 7.
    NewReno(NewReno),
    /// RFC 9438.
    Cubic(Cubic),
    /// BBRv3.
    Bbr(Box<Bbr>),
    /// One from outside.
    Custom(Box<dyn CongestionControl>),
}

macro_rules! dispatch {
    ($self:expr, $controller:ident => $call:expr) => {
        match $self {
            Controller::NewReno($controller) => $call,
            Controller::Cubic($controller) => $call,
            Controller::Bbr($controller) => $call,
            Controller::Custom($controller) => $call,
        }
    };
}

impl Controller {
    /// The controller that `algorithm` names, for a path that carries datagrams of `mtu` bytes.
    pub fn new(algorithm: CongestionAlgorithm, mtu: u16) -> Self {
        match algorithm {
            CongestionAlgorithm::NewReno => Self::NewReno(NewReno::new(mtu)),
            CongestionAlgorithm::Cubic => Self::Cubic(Cubic::new(mtu)),
            CongestionAlgorithm::Bbr => Self::Bbr(Box::new(Bbr::new(mtu))),
        }
    }

    /// One from outside.
    pub fn custom(make: &CustomCongestion, mtu: u16) -> Self {
        Self::Custom((make.0)(mtu))
    }

    /// See [`CongestionControl::on_sent`].
    #[inline]
    pub fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64, app_limited: bool) {
        dispatch!(self, c => c.on_sent(now, bytes, in_flight, app_limited));
    }

    /// See [`CongestionControl::on_ack`].
    #[inline]
    pub fn on_ack(&mut self, ack: &AckSample) {
        dispatch!(self, c => c.on_ack(ack));
    }

    /// See [`CongestionControl::on_packet_lost`].
    #[inline]
    pub fn on_packet_lost(&mut self, now: Instant, packet: &LostPacket) {
        dispatch!(self, c => c.on_packet_lost(now, packet));
    }

    /// See [`CongestionControl::on_congestion`].
    pub fn on_congestion(&mut self, loss: &LossSample) {
        dispatch!(self, c => c.on_congestion(loss));
    }

    /// See [`CongestionControl::on_ecn_ce`].
    pub fn on_ecn_ce(&mut self, now: Instant, marks: u64, sent_at: Instant) {
        dispatch!(self, c => c.on_ecn_ce(now, marks, sent_at));
    }

    /// See [`CongestionControl::on_spurious_loss`].
    pub fn on_spurious_loss(&mut self, now: Instant) {
        dispatch!(self, c => c.on_spurious_loss(now));
    }

    /// See [`CongestionControl::on_mtu`].
    pub fn on_mtu(&mut self, mtu: u16) {
        dispatch!(self, c => c.on_mtu(mtu));
    }

    /// See [`CongestionControl::careful_resume`].
    pub fn careful_resume(&mut self, now: Instant, step: ResumeStep) -> bool {
        dispatch!(self, c => c.careful_resume(now, step))
    }

    /// Bytes that may be in flight.
    #[inline]
    pub fn window(&self) -> u64 {
        dispatch!(self, c => c.window())
    }

    /// Bytes per second that may leave, at a smoothed round-trip time of `srtt`.
    #[inline]
    pub fn pacing_rate(&self, srtt: Duration) -> u64 {
        dispatch!(self, c => c.pacing_rate(srtt))
    }

    /// The window is still searched for exponentially.
    pub fn in_slow_start(&self) -> bool {
        dispatch!(self, c => c.in_slow_start())
    }

    /// The window at which slow start ends; `u64::MAX` while it is unknown.
    pub fn ssthresh(&self) -> u64 {
        dispatch!(self, c => c.ssthresh())
    }

    /// Acknowledgements let packets out: the window limits what is in flight, rather than a model of the path and a rate.
    pub(crate) fn is_clocked(&self) -> bool {
        !matches!(self, Self::Bbr(_))
    }

    /// What the controller is doing, for logs.
    pub fn state_name(&self) -> &'static str {
        dispatch!(self, c => c.state_name())
    }
}
