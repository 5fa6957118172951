//! Persistent congestion (RFC 9002 section 7.6).

use core::time::Duration;

use super::{ACKED, ELICITING, Record};
use crate::recovery::rtt::RttEstimator;
use crate::time::Instant;

/// A run of lost packets with nothing acknowledged in between (RFC 9002 section 7.6.2).
pub(super) struct LostRun {
    first_sample_at: Option<Instant>,
    period: Duration,
    since: Option<Instant>,
    pub(super) persistent: bool,
}

impl LostRun {
    pub(super) fn new(rtt: &RttEstimator) -> Self {
        let (first_sample_at, period) = (rtt.first_sample_at(), rtt.persistent_congestion_period());
        Self { first_sample_at, period, since: None, persistent: false }
    }

    #[inline]
    pub(super) fn on_settled(&mut self, record: &Record) {
        if record.is(ACKED) && record.size > 0 {
            self.since = None;
        }
    }

    #[inline]
    pub(super) fn on_lost(&mut self, record: &Record) {
        if !record.is(ELICITING) || self.first_sample_at.is_none_or(|at| record.sent_at <= at) {
            return;
        }
        let since = *self.since.get_or_insert(record.sent_at);
        self.persistent |= record.sent_at - since > self.period;
    }
}
