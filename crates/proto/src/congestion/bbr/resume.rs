//! Careful resume with BBR (draft-ietf-tsvwg-careful-resume, notes for BBR): Startup at no less than half the rate that the path
//! had, for two rounds, and Drain if that was too much.

use core::time::Duration;

use super::{Bbr, ResumeStep, State};
use crate::congestion::window;

/// Rounds after which everything of the first round is acknowledged.
const ROUNDS: u64 = 2;

/// The draft's "carefully-resuming" flag, and the rate that it stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resuming {
    /// Bytes per second.
    rate: u64,
    until_round: u64,
}

impl Bbr {
    pub(super) fn handle_resume_step(&mut self, step: ResumeStep) -> bool {
        match step {
            ResumeStep::Jump { window, rtt } => return self.start_resuming(window, rtt),
            // The rate is a model's own soon, and so is the end of Startup.
            ResumeStep::Validate { .. } | ResumeStep::Recover { .. } => {}
            ResumeStep::Retreat { window } => {
                if self.state == State::Startup {
                    (self.full_pipe.now, self.full_pipe.reached) = (true, true);
                    self.enter_drain();
                    self.control.cwnd = self.control.cwnd.min(window).max(self.control.min_pipe());
                    self.control.prior_cwnd = self.control.cwnd;
                }
            }
            ResumeStep::Stop => self.resuming = None,
        }
        true
    }

    /// Only in Startup, from the beginning of a round on.
    fn start_resuming(&mut self, window: u64, rtt: Duration) -> bool {
        if self.state != State::Startup || self.full_pipe.reached {
            return false;
        }
        self.start_round();
        self.resuming = Some(Resuming { rate: window::even_rate(window, rtt), until_round: self.round.count + ROUNDS });
        self.set_pacing_rate(State::Startup.gains().0);
        let (_, gain) = State::Startup.gains();
        self.control.cwnd = self.control.cwnd.max(self.bdp_multiple(self.probing_rate(), gain));
        true
    }

    /// Bytes per second that careful resume asks for; 0 without it.
    #[inline]
    pub(super) fn probing_rate(&self) -> u64 {
        match (&self.resuming, self.state) {
            (Some(resuming), State::Startup) => resuming.rate,
            _ => 0,
        }
    }

    /// The queue that the jump left behind is being drained: rates that are measured meanwhile are not the path's.
    #[inline]
    pub(super) fn is_tainted(&self) -> bool {
        self.resuming.is_some() && self.state == State::Drain
    }

    /// Ends with the second round, or with Drain.
    pub(super) fn update_resuming(&mut self) {
        let Some(resuming) = self.resuming else { return };
        let is_over = match self.state {
            State::Startup => self.round.count >= resuming.until_round,
            State::Drain => false,
            _ => true,
        };
        if is_over {
            self.resuming = None;
        }
    }
}
