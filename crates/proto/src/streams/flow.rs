//! Flow control windows that tune themselves (RFC 9000 section 4).

use core::time::Duration;

use crate::time::Instant;

/// What the peer may send: the credit given out, and how large a window it should have.
///
/// The window starts small and doubles whenever half of it is consumed within two round trips: then the window, not the
/// sender or the reader, is what limits the path. It never shrinks, and never exceeds its maximum.
#[derive(Debug)]
pub(super) struct ReceiveWindow {
    /// Offset up to which the peer may send.
    granted: u64,
    /// Offset up to which the application has consumed.
    consumed: u64,
    size: u64,
    size_max: u64,
    /// When credit was last given.
    renewed: Instant,
}

impl ReceiveWindow {
    pub(super) fn new(size: u64, size_max: u64) -> Self {
        Self { granted: size, consumed: 0, size, size_max: size_max.max(size), renewed: Instant::default() }
    }

    #[inline]
    pub(super) fn granted(&self) -> u64 {
        self.granted
    }

    /// The application consumed `bytes`. True when the peer should hear of more credit.
    #[inline]
    pub(super) fn consume(&mut self, bytes: u64, now: Instant, rtt: Duration) -> bool {
        self.consumed += bytes;
        if !self.is_renewal_due() {
            return false;
        }
        if now - self.renewed < rtt * 2 {
            self.size = (self.size * 2).min(self.size_max);
        }
        self.renewed = now;
        self.renew()
    }

    /// `bytes` were received that nobody will read: credit for them is given back, and the window does not grow.
    pub(super) fn discard(&mut self, bytes: u64) -> bool {
        self.consumed += bytes;
        self.is_renewal_due() && self.renew()
    }

    /// Credit is given for half a window at a time: an update costs a frame.
    #[inline]
    fn is_renewal_due(&self) -> bool {
        self.granted.saturating_sub(self.consumed) <= self.size / 2
    }

    fn renew(&mut self) -> bool {
        let granted = self.consumed + self.size;
        let more = granted > self.granted;
        self.granted = self.granted.max(granted);
        more
    }
}

/// What this side may send on the whole connection.
#[derive(Debug, Default)]
pub(super) struct SendCredit {
    max: u64,
    used: u64,
}

impl SendCredit {
    /// The peer gave credit; true when it is more than before.
    pub(super) fn raise(&mut self, max: u64) -> bool {
        let more = max > self.max;
        self.max = self.max.max(max);
        more
    }

    #[inline]
    pub(super) fn left(&self) -> u64 {
        self.max - self.used
    }

    #[inline]
    pub(super) fn spend(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.left(), "the writer asks for the credit first");
        self.used += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_window_that_limits_the_path_grows_to_fill_it() {
        // 1 Gbit/s and 100 ms: 12.5 MB. The reader consumes one window a round trip.
        let rtt = Duration::from_millis(100);
        let mut window = ReceiveWindow::new(1 << 20, 32 << 20);
        let mut now = 1_000;
        for _ in 0..10 {
            let size = window.size;
            for _ in 0..4 {
                window.consume(size / 4, at(now), rtt);
                now += 25;
            }
        }
        assert_eq!(window.size, 32 << 20);
    }

    #[test]
    fn a_slow_reader_keeps_its_window() {
        let mut window = ReceiveWindow::new(1 << 20, 32 << 20);
        for s in 0..100 {
            window.consume(1 << 19, at(1_000 + s * 1_000), Duration::from_millis(10));
        }
        assert_eq!(window.size, 1 << 20);
    }

    #[test]
    fn credit_is_given_half_a_window_at_a_time() {
        let mut window = ReceiveWindow::new(1000, 1000);
        assert!(!window.consume(499, at(0), Duration::ZERO));
        assert!(window.consume(1, at(0), Duration::ZERO));
        assert_eq!(window.granted(), 1500);
    }
}
