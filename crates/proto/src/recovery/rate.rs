//! Delivery rate: how fast the path passed data lately (draft-ietf-ccwg-bbr section 4.1).

use core::time::Duration;

use crate::time::Instant;

/// What one acknowledgement says of the rate. All of it is about the packet among the newly acknowledged ones that was
/// sent last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateSample {
    /// Bytes delivered in `interval`: `RS.delivered`.
    pub delivered_bytes: u64,
    /// The longer of the time to send them and the time to have them acknowledged.
    pub interval: Duration,
    /// The time to send them: `RS.send_elapsed`.
    pub send_elapsed: Duration,
    /// The sender had nothing to send for a part of it: the path may be faster than the sample says.
    pub app_limited: bool,
    /// Bytes delivered on the path before the packet was sent: `RS.prior_delivered`.
    pub prior_delivered: u64,
    /// Bytes delivered on the path so far: `C.delivered`.
    pub total_delivered: u64,
    /// Bytes in flight when the packet was sent, its own included: `RS.tx_in_flight`.
    pub tx_in_flight: u64,
    /// Bytes declared lost since the packet was sent: `RS.lost`.
    pub lost_since_sent: u64,
}

impl RateSample {
    /// Bytes per second; `None` without a usable interval.
    #[inline]
    pub fn bytes_per_second(&self) -> Option<u64> {
        let nanos = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        if let Some(scaled) = self.delivered_bytes.checked_mul(1_000_000_000) {
            // Below 18 GB per sample, which is all of them: one division of 64 bits.
            return scaled.checked_div(nanos).filter(|r| *r > 0);
        }
        let rate = (u128::from(self.delivered_bytes) * 1_000_000_000).checked_div(u128::from(nanos))?;
        u64::try_from(rate).ok().filter(|r| *r > 0)
    }
}

/// The state of delivery when a packet was sent, kept with the packet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Snapshot {
    pub(super) delivered: u64,
    pub(super) delivered_at: Instant,
    pub(super) first_sent_at: Instant,
    pub(super) lost: u64,
    /// Saturates at 4 GiB, which is more than any window.
    pub(super) tx_in_flight: u32,
}

/// Delivery on one path. All packet number spaces share it: the rate is the path's.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeliveryRate {
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    lost: u64,
    /// Samples are limited by the application until this many bytes are delivered; 0 when they are not.
    app_limited_until: u64,
}

impl DeliveryRate {
    /// A packet of `size` bytes is about to be sent with `in_flight` bytes before it; returns what to keep with it.
    #[inline]
    pub(super) fn on_sent(&mut self, now: Instant, in_flight: u64, size: u16) -> Snapshot {
        if in_flight == 0 {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        Snapshot {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            lost: self.lost,
            tx_in_flight: u32::try_from(in_flight + u64::from(size)).unwrap_or(u32::MAX),
        }
    }

    /// `bytes` were acknowledged; the newest packet among them was sent at `sent_at` with `then` kept.
    #[inline]
    pub(super) fn on_acked(&mut self, now: Instant, bytes: u64, sent_at: Instant, then: &Snapshot) -> RateSample {
        self.delivered += bytes;
        self.delivered_at = now;
        self.first_sent_at = sent_at;
        if self.app_limited_until < self.delivered {
            self.app_limited_until = 0;
        }
        let send_elapsed = sent_at - then.first_sent_at;
        RateSample {
            delivered_bytes: self.delivered.saturating_sub(then.delivered),
            interval: send_elapsed.max(now - then.delivered_at),
            send_elapsed,
            app_limited: false,
            prior_delivered: then.delivered,
            total_delivered: self.delivered,
            tx_in_flight: u64::from(then.tx_in_flight),
            lost_since_sent: self.lost.saturating_sub(then.lost),
        }
    }

    /// Bytes that had been declared lost arrived after all; they make no sample.
    #[inline]
    pub(super) fn on_late(&mut self, bytes: u64) {
        self.delivered += bytes;
    }

    #[inline]
    pub(super) fn on_lost(&mut self, bytes: u64) {
        self.lost += bytes;
    }

    /// The application has nothing more to send although `in_flight` bytes leave room in the window: samples of what is
    /// in flight are a lower bound.
    #[inline]
    pub fn set_app_limited(&mut self, in_flight: u64) {
        self.app_limited_until = (self.delivered + in_flight).max(1);
    }

    /// True until all that was in flight when the application had nothing to send is delivered.
    #[inline]
    pub fn is_app_limited(&self) -> bool {
        self.app_limited_until != 0
    }

    /// Bytes acknowledged so far.
    #[inline]
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Bytes declared lost so far.
    #[inline]
    pub fn lost(&self) -> u64 {
        self.lost
    }
}
