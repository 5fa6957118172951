//! Persistent congestion: a run of lost packets that lasted too long (RFC 9002 section 7.6.2).

use core::time::Duration;

use crate::recovery::rtt::RttEstimator;
use crate::time::Instant;

/// A run of lost ack-eliciting packets with nothing acknowledged in between.
pub(super) struct LostRun {
    first_sample_at: Option<Instant>,
    period: Duration,
    since: Option<Instant>,
    persistent: bool,
}

impl LostRun {
    pub(super) fn new(rtt: &RttEstimator) -> Self {
        let (first_sample_at, period) = (rtt.first_sample_at(), rtt.persistent_congestion_period());
        Self { first_sample_at, period, since: None, persistent: false }
    }

    /// Passes a packet that is not lost now.
    #[inline]
    pub(super) fn on_settled(&mut self, acked: bool) {
        if acked {
            self.since = None;
        }
    }

    /// Passes a lost ack-eliciting packet. Those sent before the first RTT sample do not count: the period was a guess.
    #[inline]
    pub(super) fn on_lost(&mut self, sent_at: Instant) {
        if self.first_sample_at.is_none_or(|at| sent_at <= at) {
            return;
        }
        let since = *self.since.get_or_insert(sent_at);
        self.persistent |= sent_at - since > self.period;
    }

    pub(super) fn is_persistent(&self) -> bool {
        self.persistent
    }
}
