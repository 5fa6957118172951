//! Delivery rate: how fast the path passed data lately (draft-ietf-ccwg-bbr section 4.1).

use core::time::Duration;

use crate::time::Instant;

/// What one acknowledgement says of the rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateSample {
    /// Bytes delivered in `interval`.
    pub delivered_bytes: u64,
    /// The longer of the time to send them and the time to have them acknowledged.
    pub interval: Duration,
    /// The sender had nothing to send for a part of it: the path may be faster than the sample says.
    pub app_limited: bool,
}

impl RateSample {
    /// Bytes per second; `None` without a usable interval.
    pub fn bytes_per_second(&self) -> Option<u64> {
        let nanos = self.interval.as_nanos();
        let rate = (u128::from(self.delivered_bytes) * 1_000_000_000).checked_div(nanos)?;
        u64::try_from(rate).ok().filter(|r| *r > 0)
    }
}

/// The state of delivery when a packet was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Snapshot {
    pub(super) delivered: u64,
    pub(super) delivered_at: Instant,
    pub(super) first_sent_at: Instant,
}

/// Delivery in one packet number space.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivery {
    now: Snapshot,
    /// Samples are limited by the application until this many bytes are delivered; 0 when they are not.
    app_limited_until: u64,
}

impl Delivery {
    /// A packet is about to be sent; returns what to keep with it.
    #[inline]
    pub(super) fn on_sent(&mut self, now: Instant, idle: bool) -> Snapshot {
        if idle {
            self.now.first_sent_at = now;
            self.now.delivered_at = now;
        }
        self.now
    }

    #[inline]
    pub(super) fn is_app_limited(&self) -> bool {
        self.app_limited_until != 0
    }

    #[inline]
    pub(super) fn set_app_limited(&mut self, in_flight: u64) {
        self.app_limited_until = (self.now.delivered + in_flight).max(1);
    }

    /// `bytes` were acknowledged; the newest packet among them was sent at `sent_at` with `then` kept.
    #[inline]
    pub(super) fn on_acked(&mut self, now: Instant, bytes: u64, sent_at: Instant, then: &Snapshot) -> RateSample {
        self.now.delivered += bytes;
        self.now.delivered_at = now;
        self.now.first_sent_at = sent_at;
        if self.app_limited_until < self.now.delivered {
            self.app_limited_until = 0;
        }
        RateSample {
            delivered_bytes: self.now.delivered - then.delivered,
            interval: (sent_at - then.first_sent_at).max(now - then.delivered_at),
            app_limited: false,
        }
    }
}
