//! What the window-based controllers have in common (RFC 9002 section 7).

use core::time::Duration;

use super::AckSample;
use crate::time::Instant;

/// Packets that a window may be short of being full and still count as full: what a delayed acknowledgement and one
/// packet that did not fit leave open.
const SLACK_PACKETS: u64 = 3;

/// The initial window: ten datagrams, 14,720 bytes at most unless two datagrams need more (RFC 9002 section 7.2).
pub(super) fn initial(mtu: u16) -> u64 {
    let mtu = u64::from(mtu);
    (10 * mtu).min(14_720.max(2 * mtu))
}

/// The minimum window: two datagrams (RFC 9002 section 7.2).
pub(super) fn minimum(mtu: u16) -> u64 {
    2 * u64::from(mtu)
}

/// Whether the window was what limited the sender, so that it may grow (RFC 9002 section 7.8).
///
/// A sender that had data all the time was stopped by the window or by pacing, which follows from the window. A sender
/// that ran dry may still have used the window enough: all of it, or half of it in slow start, where the window
/// outgrows what is in flight before the next packet can leave.
pub(super) fn was_used(ack: &AckSample, window: u64, in_slow_start: bool, mtu: u16) -> bool {
    if !ack.rate.app_limited {
        return true;
    }
    if in_slow_start {
        return ack.in_flight_before.saturating_mul(2) >= window;
    }
    ack.in_flight_before + SLACK_PACKETS * u64::from(mtu) >= window
}

/// The pacing rate of a window in bytes per second: twice the window per round trip in slow start, so that pacing does
/// not hold the doubling back, and 1.25 times it afterwards (RFC 9002 section 7.7).
pub(super) fn pacing_rate(window: u64, srtt: Duration, in_slow_start: bool) -> u64 {
    let per_round = if in_slow_start { window.saturating_mul(2) } else { window.saturating_add(window / 4) };
    even_rate(per_round, srtt)
}

/// The rate at which a window leaves within a round trip, as what a path has not validated must
/// (draft-ietf-tsvwg-careful-resume section 3.3).
pub(super) fn even_rate(window: u64, rtt: Duration) -> u64 {
    let nanos = u128::from(u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX).max(1));
    u64::try_from(u128::from(window) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// The recovery period (RFC 9002 section 7.3.2): one reaction for all that was sent before it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recovery {
    since: Option<Instant>,
}

impl Recovery {
    /// True for packets that were sent before the last reaction.
    #[inline]
    pub(crate) fn covers(&self, sent_at: Instant) -> bool {
        self.since.is_some_and(|since| sent_at <= since)
    }

    pub(crate) fn enter(&mut self, now: Instant) {
        self.since = Some(now);
    }

    pub(crate) fn leave(&mut self) {
        self.since = None;
    }
}
