//! Careful resume (draft-ietf-tsvwg-careful-resume): a connection begins with half of what its path carried lately, and takes back
//! what that did if it was too much.
//!
//! It goes beside the path's controller and tells it what to do in a [`ResumeStep`]. The phases, and what leads from one to the next:
//!
//! | from | to | when |
//! |---|---|---|
//! | reconnaissance | unvalidated | a first window arrived, nothing was lost, more waits, the path is known and has the round-trip time it had |
//! | reconnaissance | normal | loss or a mark, another round-trip time, nothing known |
//! | unvalidated | validating | the window is full, or the first packet of it is acknowledged, or a round trip is over |
//! | unvalidated | normal | the same, but no more is in flight than arrived: the application had too little to send |
//! | unvalidated, validating | safe retreat | loss or a mark |
//! | validating | normal | the last packet of the jump is acknowledged |
//! | safe retreat | normal | the same |
//!
//! In reconnaissance and in normal operation it observes what the path carries.

use core::time::Duration;
use std::sync::Arc;

use super::{AckSample, Controller, window};
use crate::limits::RESUME_WINDOWS_MIN;
use crate::resume::{PathKey, PathMemory, Refusal, SavedPath};
use crate::time::Instant;

/// What careful resume asks of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeStep {
    /// Unvalidated: the window is `window` bytes, no acknowledgement raises it, and it leaves over `rtt`.
    Jump {
        /// Bytes.
        window: u64,
        /// The present round-trip time.
        rtt: Duration,
    },
    /// Validating: the window is `window` bytes, from where it grows as usual.
    Validate {
        /// Bytes.
        window: u64,
    },
    /// Safe retreat: the window is `window` bytes at most, and no acknowledgement raises it.
    Retreat {
        /// Bytes.
        window: u64,
    },
    /// The jump's packets have left the path: as usual, with slow start up to `ssthresh` bytes at most.
    Recover {
        /// Bytes.
        ssthresh: u64,
    },
    /// As usual.
    Stop,
}

/// A phase of careful resume (section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumePhase {
    /// The path is looked at; nothing is different yet.
    Reconnaissance,
    /// The window was raised, and what that allows is being sent.
    Unvalidated,
    /// It was sent, and its acknowledgements are awaited.
    Validating,
    /// It was too much.
    SafeRetreat,
    /// As any connection.
    Normal,
}

impl ResumePhase {
    /// Its name in logs (draft-ietf-tsvwg-careful-resume-qlog).
    pub fn name(self) -> &'static str {
        match self {
            Self::Reconnaissance => "reconnaissance",
            Self::Unvalidated => "unvalidated",
            Self::Validating => "validating",
            Self::SafeRetreat => "safe_retreat",
            Self::Normal => "normal",
        }
    }
}

/// Where careful resume stands on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumeState {
    /// The phase.
    pub phase: ResumePhase,
    /// Bytes that the path was remembered to carry (`saved_cwnd`); 0 before it is used.
    pub saved_window: u64,
    /// Bytes that the window was raised to (`jump_cwnd`); 0 without a jump.
    pub jump_window: u64,
    /// Bytes that were shown to arrive (`PipeSize`).
    pub pipe_size: u64,
}

/// A change of phase, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    pub(crate) old: ResumePhase,
    pub(crate) new: ResumePhase,
    pub(crate) trigger: Option<&'static str>,
}

/// What congestion showed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Congestion {
    Loss { persistent: bool },
    Marks,
}

/// What the connection knows beside a packet sent or acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation {
    pub(crate) now: Instant,
    /// Bytes in flight.
    pub(crate) in_flight: u64,
    /// Largest packet number of the application's space that is acknowledged.
    pub(crate) largest_acked: Option<u64>,
    /// The number that the next packet of that space gets.
    pub(crate) next_number: u64,
    pub(crate) mtu: u16,
}

/// What the path carries: the most that was acknowledged per round trip without a queue.
#[derive(Clone, Copy, Debug, Default)]
struct Observation {
    window: u64,
    /// Of the present round.
    best: u64,
    app_limited: bool,
    round_ends: u64,
    rtt: Duration,
}

impl Observation {
    fn on_ack(&mut self, ack: &AckSample) {
        let rate = &ack.rate;
        if rate.prior_delivered >= self.round_ends {
            // Lower figures count where the path was the reason, and only bit by bit: one round says little.
            if self.best > self.window {
                self.window = self.best;
            } else if !self.app_limited {
                self.window = self.best.max(self.window - self.window / 8);
            }
            (self.best, self.app_limited, self.round_ends) = (0, rate.app_limited, rate.total_delivered);
        }
        let Some(per_second) = rate.bytes_per_second().filter(|_| rate.interval >= ack.min_rtt) else { return };
        let volume = u128::from(per_second) * ack.min_rtt.as_nanos() / 1_000_000_000;
        self.best = self.best.max(u64::try_from(volume).unwrap_or(u64::MAX));
        self.app_limited |= rate.app_limited;
        self.rtt = ack.min_rtt;
    }
}

/// Careful resume on one path.
#[derive(Debug)]
pub(crate) struct CarefulResume {
    memory: Arc<PathMemory>,
    key: PathKey,
    phase: ResumePhase,
    /// What is being used; nobody else has it meanwhile.
    saved: Option<SavedPath>,
    saved_window: u64,
    jump: u64,
    pipe_size: u64,
    /// Of the application's packet numbers.
    first_unvalidated: u64,
    last_unvalidated: u64,
    jumped_at: Instant,
    rtt: Duration,
    observation: Observation,
}

impl CarefulResume {
    pub(crate) fn new(memory: Arc<PathMemory>, key: PathKey) -> Self {
        Self {
            memory,
            key,
            phase: ResumePhase::Reconnaissance,
            saved: None,
            saved_window: 0,
            jump: 0,
            pipe_size: 0,
            first_unvalidated: 0,
            last_unvalidated: 0,
            jumped_at: Instant::default(),
            rtt: Duration::ZERO,
            observation: Observation::default(),
        }
    }

    pub(crate) fn state(&self) -> ResumeState {
        let Self { phase, saved_window, jump, pipe_size, .. } = *self;
        ResumeState { phase, saved_window, jump_window: jump, pipe_size }
    }

    /// The path's addresses, which a client does not know in full before it is answered.
    pub(crate) fn set_key(&mut self, key: PathKey) {
        if self.saved.is_none() {
            self.key = key;
        }
    }

    /// Numbers of the first and the last packet of the jump.
    pub(crate) fn unvalidated(&self) -> [u64; 2] {
        [self.first_unvalidated, self.last_unvalidated]
    }

    /// `saved_rtt` of what is being used.
    pub(crate) fn saved_rtt(&self) -> Option<Duration> {
        self.saved.map(|saved| saved.rtt)
    }

    #[inline]
    pub(crate) fn is_unvalidated(&self) -> bool {
        self.phase == ResumePhase::Unvalidated
    }

    fn enter(&mut self, new: ResumePhase, trigger: impl Into<Option<&'static str>>) -> Option<Transition> {
        let old = std::mem::replace(&mut self.phase, new);
        if new == ResumePhase::Normal
            && let Some(saved) = self.saved.take()
        {
            // It was not refuted.
            self.memory.give_back(self.key, saved);
        }
        Some(Transition { old, new, trigger: trigger.into() })
    }

    /// An ACK frame of the application's space took bytes out of flight; the controller has had it already.
    /// `may_jump`: all the first window is acknowledged, and the application has more than the window lets out.
    pub(crate) fn on_ack(
        &mut self,
        ack: &AckSample,
        at: &Situation,
        may_jump: bool,
        controller: &mut Controller,
    ) -> Option<Transition> {
        match self.phase {
            ResumePhase::Normal => self.observation.on_ack(ack),
            ResumePhase::Reconnaissance => {
                self.observation.on_ack(ack);
                if may_jump {
                    return self.try_jump(ack, at, controller);
                }
            }
            ResumePhase::Unvalidated => {
                self.pipe_size += ack.acked_bytes;
                return self.check_unvalidated(at, controller);
            }
            ResumePhase::Validating => {
                self.pipe_size += ack.acked_bytes;
                if at.largest_acked >= Some(self.last_unvalidated) {
                    return self.enter(ResumePhase::Normal, "last_unvalidated_packet_acknowledged");
                }
            }
            ResumePhase::SafeRetreat => {
                self.pipe_size += ack.acked_bytes;
                if at.largest_acked >= Some(self.last_unvalidated) {
                    controller.careful_resume(at.now, ResumeStep::Recover { ssthresh: self.pipe_size / 2 });
                    return self.enter(ResumePhase::Normal, "exit_recovery");
                }
            }
        }
        None
    }

    fn try_jump(&mut self, ack: &AckSample, at: &Situation, controller: &mut Controller) -> Option<Transition> {
        let saved = match self.memory.claim(&self.key, at.now, ack.min_rtt) {
            Ok(saved) => saved,
            Err(Refusal::Unknown) => return self.enter(ResumePhase::Normal, None),
            Err(Refusal::OtherRtt) => return self.enter(ResumePhase::Normal, "rtt_not_validated"),
        };
        self.saved = Some(saved);
        // Section 3.3: half of what was carried at most, so that others who came since have room.
        let jump = (saved.window / 2).min(self.memory.jump_max());
        let step = ResumeStep::Jump { window: jump, rtt: ack.smoothed_rtt.max(ack.min_rtt) };
        if jump <= controller.window() || !controller.careful_resume(at.now, step) {
            return self.enter(ResumePhase::Normal, None);
        }
        (self.saved_window, self.jump, self.pipe_size) = (saved.window, jump, at.in_flight);
        (self.first_unvalidated, self.last_unvalidated) = (at.next_number, at.next_number);
        (self.jumped_at, self.rtt) = (at.now, ack.smoothed_rtt.max(ack.min_rtt));
        self.enter(ResumePhase::Unvalidated, "congestion_window_limited")
    }

    /// A packet was sent in the unvalidated phase.
    pub(crate) fn on_sent(&mut self, at: &Situation, controller: &mut Controller) -> Option<Transition> {
        if self.is_unvalidated() { self.check_unvalidated(at, controller) } else { None }
    }

    /// Whether the jump is over, and if so whether it was one.
    fn check_unvalidated(&mut self, at: &Situation, controller: &mut Controller) -> Option<Transition> {
        let trigger = if at.largest_acked >= Some(self.first_unvalidated) {
            "first_unvalidated_packet_acknowledged"
        } else if at.in_flight + u64::from(at.mtu) > self.jump {
            "last_unvalidated_packet_sent"
        } else if at.now - self.jumped_at > self.rtt {
            "rtt_exceeded"
        } else {
            return None;
        };
        self.last_unvalidated = at.next_number.saturating_sub(1).max(self.first_unvalidated);
        let initial = window::initial(at.mtu);
        if at.in_flight < initial || at.in_flight <= self.pipe_size {
            controller.careful_resume(at.now, ResumeStep::Validate { window: self.pipe_size.max(initial) });
            controller.careful_resume(at.now, ResumeStep::Stop);
            return self.enter(ResumePhase::Normal, "rate_limited");
        }
        controller.careful_resume(at.now, ResumeStep::Validate { window: at.in_flight });
        self.enter(ResumePhase::Validating, trigger)
    }

    /// Losses or marks. True with a transition if it took the controller's place.
    pub(crate) fn on_congestion(
        &mut self,
        what: Congestion,
        at: &Situation,
        controller: &mut Controller,
    ) -> (bool, Option<Transition>) {
        let trigger = if what == Congestion::Marks { "ECN_CE" } else { "packet_loss" };
        let is_jump = matches!(self.phase, ResumePhase::Unvalidated | ResumePhase::Validating);
        if is_jump || self.phase == ResumePhase::SafeRetreat {
            // What was remembered is wrong, and what was seen since the jump says little.
            self.saved = None;
            self.observation = Observation::default();
        }
        match (self.phase, what) {
            (ResumePhase::Normal, _) => (false, None),
            (ResumePhase::Reconnaissance, _) => (false, self.enter(ResumePhase::Normal, trigger)),
            (_, Congestion::Loss { persistent: true }) => {
                controller.careful_resume(at.now, ResumeStep::Stop);
                (false, self.enter(ResumePhase::Normal, trigger))
            }
            (ResumePhase::SafeRetreat, _) => (false, None),
            (ResumePhase::Unvalidated | ResumePhase::Validating, _) => {
                if self.is_unvalidated() {
                    self.last_unvalidated = at.next_number.saturating_sub(1).max(self.first_unvalidated);
                }
                controller.careful_resume(at.now, ResumeStep::Retreat { window: self.pipe_size / 2 });
                (true, self.enter(ResumePhase::SafeRetreat, trigger))
            }
        }
    }

    /// The connection ended: what its path carried is remembered.
    pub(crate) fn finish(&mut self, now: Instant, mtu: u16) {
        let Observation { window, best, rtt, .. } = self.observation;
        let window = window.max(best);
        match self.phase {
            ResumePhase::Normal | ResumePhase::Reconnaissance
                if window >= RESUME_WINDOWS_MIN * window::initial(mtu) =>
            {
                self.memory.put(self.key, SavedPath { window, rtt, at: now });
            }
            _ => {
                if let Some(saved) = self.saved.take() {
                    self.memory.give_back(self.key, saved);
                }
            }
        }
        self.observation = Observation::default();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::CongestionAlgorithm;
    use super::*;
    use crate::recovery::rate::RateSample;

    const MTU: u16 = 1_200;
    const RTT: Duration = Duration::from_millis(100);
    const START: Instant = Instant::from_nanos(1_000_000_000);
    const KEY: PathKey = PathKey { local: None, remote: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST) };

    fn ack(bytes: u64) -> AckSample {
        AckSample {
            now: START,
            acked_bytes: bytes,
            in_flight_before: bytes,
            newest_sent_at: START,
            smoothed_rtt: RTT,
            min_rtt: RTT,
            latest_rtt: RTT,
            rate: RateSample::default(),
        }
    }

    fn at(in_flight: u64, acked: u64, next: u64) -> Situation {
        Situation { now: START, in_flight, largest_acked: Some(acked), next_number: next, mtu: MTU }
    }

    /// A connection that has jumped to 500,000 bytes with packet 10 as the first of the jump.
    fn jumped(algorithm: CongestionAlgorithm) -> (CarefulResume, Controller, Arc<PathMemory>) {
        let memory = Arc::new(PathMemory::default());
        memory.put(KEY, SavedPath { window: 1_000_000, rtt: RTT, at: START });
        let mut resume = CarefulResume::new(memory.clone(), KEY);
        let mut controller = Controller::new(algorithm, MTU);
        let transition = resume.on_ack(&ack(12_000), &at(6_000, 9, 10), true, &mut controller).unwrap();
        assert_eq!(transition.new, ResumePhase::Unvalidated);
        assert_eq!((resume.state().jump_window, resume.state().pipe_size), (500_000, 6_000));
        (resume, controller, memory)
    }

    #[test]
    fn the_jump_leaves_evenly_over_a_round_trip() {
        for algorithm in [CongestionAlgorithm::NewReno, CongestionAlgorithm::Cubic] {
            let (_, mut controller, _) = jumped(algorithm);
            assert!(controller.window().abs_diff(500_000) < 2, "{algorithm:?}");
            assert!(controller.pacing_rate(RTT).abs_diff(5_000_000) < 20, "{algorithm:?}");
            controller.on_ack(&ack(100_000));
            assert!(controller.window() < 500_002, "no acknowledgement raises it");
        }
    }

    #[test]
    fn a_mark_while_validating_is_a_retreat_until_the_jump_has_left_the_path() {
        let (mut resume, mut controller, memory) = jumped(CongestionAlgorithm::NewReno);
        let full = at(499_000, 9, 400);
        assert_eq!(resume.on_sent(&full, &mut controller).unwrap().trigger, Some("last_unvalidated_packet_sent"));
        assert_eq!((controller.window(), resume.unvalidated()), (499_000, [10, 399]));
        resume.on_ack(&ack(94_000), &at(405_000, 90, 410), false, &mut controller);
        let (handled, transition) = resume.on_congestion(Congestion::Marks, &at(405_000, 90, 410), &mut controller);
        assert_eq!((handled, transition.unwrap().trigger), (true, Some("ECN_CE")));
        assert_eq!(controller.window(), 50_000, "half of 6,000 and 94,000");
        assert_eq!(resume.on_ack(&ack(100_000), &at(300_000, 398, 420), false, &mut controller), None);
        assert_eq!(controller.window(), 50_000);
        let over = resume.on_ack(&ack(100_000), &at(200_000, 410, 420), false, &mut controller).unwrap();
        assert_eq!((over.new, over.trigger), (ResumePhase::Normal, Some("exit_recovery")));
        assert_eq!((controller.window(), controller.ssthresh()), (50_000, 150_000));
        assert!(memory.is_empty(), "what led to it is forgotten");
    }

    #[test]
    fn persistent_congestion_is_the_controllers_own() {
        let (mut resume, mut controller, memory) = jumped(CongestionAlgorithm::Cubic);
        let what = Congestion::Loss { persistent: true };
        let (handled, transition) = resume.on_congestion(what, &at(400_000, 9, 300), &mut controller);
        assert_eq!((handled, transition.unwrap().new), (false, ResumePhase::Normal));
        assert!(memory.is_empty());
        assert_eq!(resume.on_congestion(what, &at(0, 9, 300), &mut controller), (false, None));
    }

    #[test]
    fn a_round_trip_without_an_acknowledgement_ends_the_jump() {
        let (mut resume, mut controller, _) = jumped(CongestionAlgorithm::NewReno);
        let later = |ms| Situation { now: START + Duration::from_millis(ms), ..at(200_000, 9, 170) };
        assert_eq!(resume.on_sent(&later(100), &mut controller), None);
        assert_eq!(resume.on_sent(&later(101), &mut controller).unwrap().trigger, Some("rtt_exceeded"));
        assert_eq!(controller.window(), 200_000, "what is in flight");
    }

    #[test]
    fn loss_or_another_round_trip_time_before_it_is_the_end_of_it() {
        let memory = Arc::new(PathMemory::default());
        memory.put(KEY, SavedPath { window: 1_000_000, rtt: RTT * 3, at: START });
        let mut controller = Controller::new(CongestionAlgorithm::Cubic, MTU);
        let window = controller.window();
        let mut other = CarefulResume::new(memory.clone(), KEY);
        let transition = other.on_ack(&ack(12_000), &at(6_000, 9, 10), true, &mut controller).unwrap();
        assert_eq!((transition.new, transition.trigger), (ResumePhase::Normal, Some("rtt_not_validated")));
        let mut lossy = CarefulResume::new(memory.clone(), KEY);
        let (handled, transition) =
            lossy.on_congestion(Congestion::Loss { persistent: false }, &at(0, 9, 10), &mut controller);
        assert_eq!((handled, transition.unwrap().trigger), (false, Some("packet_loss")));
        assert_eq!((controller.window(), memory.len()), (window, 1), "both leave everything as it is");
    }
}
