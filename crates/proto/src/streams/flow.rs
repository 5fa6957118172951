//! Flow control windows that tune themselves (RFC 9000 section 4).

use core::time::Duration;

use crate::time::Instant;

/// Of data that is read as it comes so much may be unread: half a train. A reader that has more to catch up with is what limits the
/// path, and a larger window would only fill the memory that packets are received in.
const UNREAD_MAX: u64 = 32 << 10;

/// What the peer may send: the credit given out, and how large a window it should have.
///
/// The window starts small and doubles whenever half of it is consumed within two round trips, or less by half of what is still
/// unread of the packets that came together, as long as that is little: then the window, not the sender or the reader, is what limits the path. It never shrinks, and never exceeds its maximum; a stream's grows no
/// further than its share of the connection's.
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

    /// The most that one stream's window may grow to while this is the connection's: a stream whose reader has stalled
    /// leaves the rest of the credit to the others.
    #[inline]
    pub(super) fn stream_share(&self) -> u64 {
        stream_share(self.size)
    }

    /// The application consumed `bytes`; growth ends at `cap`. `received` is the highest offset that the peer has used, by
    /// which it is known how much it has left. True when the peer should hear of more credit.
    #[inline]
    pub(super) fn consume(&mut self, bytes: u64, received: u64, cap: u64, now: Instant, rtt: Duration) -> bool {
        self.consumed += bytes;
        if !self.is_renewal_due(received) {
            return false;
        }
        // Credit is due at half of what unread data leaves of the window.
        let is_read_as_it_comes = self.gain() >= (self.size - UNREAD_MAX.min(self.size / 4)) / 2;
        if is_read_as_it_comes && now - self.renewed < rtt * 2 {
            self.size = (self.size * 2).min(self.size_max).min(cap).max(self.size);
        }
        self.renewed = now;
        self.renew()
    }

    /// `bytes` were received that nobody will read: credit for them is given back, and the window does not grow.
    pub(super) fn discard(&mut self, bytes: u64, received: u64) -> bool {
        self.consumed += bytes;
        self.is_renewal_due(received) && self.renew()
    }

    /// Credit that could be given now.
    #[inline]
    fn gain(&self) -> u64 {
        (self.consumed + self.size).saturating_sub(self.granted)
    }

    /// Credit is given for half a window at a time, since an update costs a frame: half of what unread data leaves of it.
    /// A peer that has nothing left hears of every byte.
    #[inline]
    fn is_renewal_due(&self, received: u64) -> bool {
        let (gain, left) = (self.gain(), self.granted.saturating_sub(received));
        gain >= left.max(self.size / 16) || left == 0 && gain > 0
    }

    fn renew(&mut self) -> bool {
        let granted = self.consumed + self.size;
        let more = granted > self.granted;
        self.granted = self.granted.max(granted);
        more
    }
}

/// A stream's share of a connection's window of `connection` bytes: two thirds. One stream alone still keeps the path
/// full, since the connection's window grows with what the stream consumes.
pub(crate) const fn stream_share(connection: u64) -> u64 {
    connection / 3 * 2 + connection % 3 * 2 / 3
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

    /// Consumes data as it comes in.
    fn consume(window: &mut ReceiveWindow, bytes: u64, now: Instant, rtt: Duration) -> bool {
        window.consume(bytes, window.consumed + bytes, u64::MAX, now, rtt)
    }

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
                consume(&mut window, size / 4, at(now), rtt);
                now += 25;
            }
        }
        assert_eq!(window.size, 32 << 20);
    }

    /// Packets arrive eleven at a time, and each is read by itself.
    #[test]
    fn a_window_grows_though_its_data_comes_in_lumps() {
        let rtt = Duration::from_millis(100);
        let mut window = ReceiveWindow::new(96_000, 32 << 20);
        let mut received = 0;
        for ms in 0..100 {
            received = (received + 11_000).min(window.granted());
            while window.consumed < received {
                window.consume((received - window.consumed).min(1_000), received, u64::MAX, at(1_000 + ms), rtt);
            }
        }
        assert!(window.size > 300_000, "{}", window.size);
    }

    #[test]
    fn a_slow_reader_keeps_its_window() {
        let mut window = ReceiveWindow::new(1 << 20, 32 << 20);
        for s in 0..100 {
            consume(&mut window, 1 << 19, at(1_000 + s * 1_000), Duration::from_millis(10));
        }
        assert_eq!(window.size, 1 << 20);
    }

    /// Unread data of one stream holds two thirds of the window; what goes through the rest must be renewed all the same.
    #[test]
    fn what_unread_data_leaves_of_a_window_stays_usable() {
        let mut window = ReceiveWindow::new(90_000, 90_000);
        let held = 60_000;
        for i in 0..100u64 {
            let received = held + window.consumed + 10_000;
            assert!(received <= window.granted(), "stuck at {i}");
            window.consume(10_000, received, u64::MAX, at(i), Duration::ZERO);
        }
        assert_eq!(window.size, 90_000);
    }

    #[test]
    fn a_stream_grows_to_two_thirds_of_the_connection_and_no_further() {
        let rtt = Duration::from_millis(100);
        let mut connection = ReceiveWindow::new(1_500_000, 6_000_000);
        let mut stream = ReceiveWindow::new(1_000_000, u64::MAX);
        for i in 0..1_000 {
            consume(&mut connection, 100_000, at(1_000 + i), rtt);
            let received = stream.consumed + 100_000;
            stream.consume(100_000, received, connection.stream_share(), at(1_000 + i), rtt);
            assert!(stream.size <= connection.size / 3 * 2, "{} of {}", stream.size, connection.size);
        }
        assert_eq!((stream.size, connection.size), (4_000_000, 6_000_000));
    }

    #[test]
    fn credit_is_given_half_a_window_at_a_time() {
        let mut window = ReceiveWindow::new(1000, 1000);
        assert!(!consume(&mut window, 499, at(0), Duration::ZERO));
        assert!(consume(&mut window, 1, at(0), Duration::ZERO));
        assert_eq!(window.granted(), 1500);
    }
}
