//! Pacing: sending no faster than a rate, in trains (RFC 9002 section 7.7).
//!
//! Packets one by one would be smoothest, but a system call for each is what limits a sender above about 1 Gbit/s, and
//! timers wake up no finer than some tens of microseconds. So the sender sleeps until about a quarter of a millisecond's
//! worth may go, one GSO train at most, and one packet at least: at 400 kbit/s a packet every 24 ms, at 20 Gbit/s a
//! train every 26 us. What was not sent in time because the sleep was too long may go later, up to two milliseconds'
//! worth; without that credit the line would run empty for as long as every wake-up is late. Time in which something
//! else held the sender back, the window or the program, gives no more than one such train: its credit leaves in one
//! piece when an acknowledgement comes, and whatever the queue before a link holds less than that is lost over and over,
//! until the window is at its least. A tenth of a bandwidth-delay product is eight packets at 100 Mbit/s and 10 ms.
//!
//! The initial window goes at once, and so does as much after a pause: there is no rate to pace by before the first
//! round trip, what was measured before a pause is old, and RFC 9002 section 7.7 allows a burst of that size. A
//! window-based controller ([`Pacer::clocked`]) bursts only with all that there is ([`Pacer::spread`]): an answer within
//! the window ends sooner by it. One beyond it waits for acknowledgements, and its end comes no later when the first
//! window is spread over half a round trip; but a short queue that overflows ends slow start.
//!
//! Waiting for a window is a pause only for a model of the path, which finds the bandwidth by such a burst and loses no
//! more than a part of it. A window-based controller with a window of ten waits for its acknowledgements nearly a round
//! trip, and another burst of ten would overflow a short queue in every one.

use core::time::Duration;

use crate::time::Instant;

const NANOS: i64 = 1_000_000_000;
/// Packets that may go at once at the beginning and after a pause: the initial window.
const START_PACKETS: u64 = 10;
/// A pause is as long as the rate would need for so many times that.
const PAUSE_STARTS: u64 = 2;
/// Largest burst in bytes.
const BURST_MAX: u64 = 256 * 1024;
/// A burst is what the rate passes in this many microseconds, one packet at least, and with [`PAIR_MICROS`].
const BURST_MICROS: u64 = 250;
/// Two packets may go at once where the rate passes them in this many microseconds.
const PAIR_MICROS: u64 = 1_000;
/// As many microseconds' worth may go at once after a sleep that was too long.
const LATE_MICROS: u64 = 2_000;
/// Most bytes worth waking up for: one full GSO train.
const TRAIN: u64 = 64 * 1024;

/// A token bucket. Credit is counted in bytes times nanoseconds, which at a whole number of bytes per second leaves
/// nothing to round.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    credit: i64,
    refilled_at: Option<Instant>,
    /// When the bucket was last looked at before something was sent.
    used_at: Option<Instant>,
    /// The sender sleeps for want of credit.
    is_waiting: bool,
    /// The credit above a burst is what is left of a start.
    is_fresh: bool,
    /// Nothing larger than the initial window goes at once.
    is_cautious: bool,
    /// Acknowledgements let packets out.
    is_clocked: bool,
    /// The window was full when the sender looked last.
    is_held: bool,
}

/// Bytes that `rate` passes in so many microseconds.
#[inline]
fn passed(rate: u64, micros: u64) -> u64 {
    rate.saturating_mul(micros) / 1_000_000
}

#[inline]
fn scaled(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX).saturating_mul(NANOS)
}

impl Pacer {
    /// A pacer that lets a first burst of ten packets of `mtu` bytes go at once.
    pub fn new(mtu: u16) -> Self {
        let credit = scaled(START_PACKETS * u64::from(mtu));
        Self {
            credit,
            refilled_at: None,
            used_at: None,
            is_waiting: false,
            is_fresh: true,
            is_cautious: false,
            is_clocked: false,
            is_held: false,
        }
    }

    /// A pacer for a controller whose window, and not a model of the path, lets packets out.
    pub fn clocked(mtu: u16) -> Self {
        Self { is_clocked: true, ..Self::new(mtu) }
    }

    /// Whether bursts are no larger than the initial window, however fast the path (draft-ietf-tsvwg-careful-resume
    /// section 4.2.3).
    pub fn set_cautious(&mut self, is_cautious: bool) {
        self.is_cautious = is_cautious;
    }

    /// The window is full: until it opens a [clocked](Self::clocked) sender does not pause.
    #[inline]
    pub fn hold(&mut self) {
        self.is_held = self.is_clocked;
    }

    /// More waits than the window lets out: a [clocked](Self::clocked) sender gives up what is left of a start but for
    /// two packets, which a receiver acknowledges at once (RFC 9000 section 13.2.2). Returns the bytes that may be sent
    /// now.
    #[inline]
    pub fn spread(&mut self, rate: u64, mtu: u16) -> usize {
        if self.is_clocked && core::mem::take(&mut self.is_fresh) {
            self.credit = self.credit.min(scaled(self.burst(rate, mtu).max(2 * u64::from(mtu))));
        }
        usize::try_from(self.credit / NANOS).unwrap_or(0)
    }

    /// Bytes that may go at once, after a time in which something other than the pacer held the sender back.
    #[inline]
    fn burst(&self, rate: u64, mtu: u16) -> u64 {
        let mtu = u64::from(mtu);
        let pair = passed(rate, PAIR_MICROS).min(2 * mtu);
        passed(rate, BURST_MICROS).max(pair).min(self.most(mtu)).max(mtu)
    }

    /// The largest burst of all.
    #[inline]
    fn most(&self, mtu: u64) -> u64 {
        if self.is_cautious { START_PACKETS * mtu } else { BURST_MAX }
    }

    /// Bytes that may be sent now at `rate` bytes per second.
    #[inline]
    pub fn allow(&mut self, now: Instant, rate: u64, mtu: u16) -> usize {
        let elapsed = self.refilled_at.map_or(Duration::ZERO, |at| now - at);
        if elapsed.is_zero() && self.refilled_at.is_some() {
            // More of what was allowed at this time: a sender may ask anew for each train, or for each packet.
            return usize::try_from(self.credit / NANOS).unwrap_or(0);
        }
        let (start, usual) = (scaled(START_PACKETS * u64::from(mtu)), scaled(self.burst(rate, mtu)));
        self.refilled_at = Some(now);
        if core::mem::take(&mut self.is_held) {
            self.used_at = Some(now);
        }
        let elapsed = i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX);
        let gained = elapsed.saturating_mul(i64::try_from(rate).unwrap_or(i64::MAX));
        let most = if core::mem::take(&mut self.is_waiting) {
            scaled(passed(rate, LATE_MICROS).min(self.most(u64::from(mtu)))).max(usual).max(start)
        } else if self.is_fresh {
            // What is left of a start does not grow, nor is it taken back.
            usual.max(self.credit.min(start))
        } else {
            usual
        };
        self.credit = self.credit.saturating_add(gained).min(most);
        if self.is_rested(now, rate, mtu) {
            self.credit = self.credit.max(start);
            self.is_fresh = true;
        }
        self.is_fresh &= self.credit > usual;
        usize::try_from(self.credit / NANOS).unwrap_or(0)
    }

    /// Nothing was sent for long enough to begin anew.
    #[inline]
    fn is_rested(&self, now: Instant, rate: u64, mtu: u16) -> bool {
        let pause = self.used_at.map_or(Duration::ZERO, |at| now - at);
        let passed = u128::from(rate) * pause.as_nanos() / NANOS as u128;
        passed >= u128::from(PAUSE_STARTS * START_PACKETS * u64::from(mtu))
    }

    /// `len` bytes were sent. More than was allowed is a debt, paid before anything else goes.
    #[inline]
    pub fn on_sent(&mut self, len: usize) {
        self.credit = self.credit.saturating_sub(scaled(len as u64));
        self.used_at = self.refilled_at;
    }

    /// When there is something worth waking up for: a burst, up to a train of 64 KiB.
    /// `None` when as much may go already.
    #[inline]
    pub fn next_release(&mut self, now: Instant, rate: u64, mtu: u16) -> Option<Instant> {
        self.allow(now, rate, mtu);
        let target = self.burst(rate, mtu).min(TRAIN.max(u64::from(mtu)));
        let missing = u64::try_from(scaled(target).saturating_sub(self.credit)).ok().filter(|m| *m > 0)?;
        self.is_waiting = true;
        Some(now + Duration::from_nanos(missing.div_ceil(rate.max(1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as fast as the pacer lets it for `seconds`; returns bytes sent after the first burst and the times woken
    /// up.
    fn drive(rate: u64, mtu: u16, seconds: u64) -> (u64, u64) {
        let mut pacer = Pacer::new(mtu);
        let end = seconds * 1_000_000_000;
        let mut now = Instant::default();
        let (mut sent, mut wakes) = (0u64, 0);
        while now.as_nanos() < end {
            let mut allowed = pacer.allow(now, rate, mtu);
            while allowed >= usize::from(mtu) {
                pacer.on_sent(usize::from(mtu));
                sent += u64::from(mtu);
                allowed -= usize::from(mtu);
            }
            now = pacer.next_release(now, rate, mtu).unwrap();
            wakes += 1;
        }
        (sent - START_PACKETS * u64::from(mtu), wakes)
    }

    #[test]
    fn exact_at_400_kbit() {
        let (sent, wakes) = drive(50_000, 1200, 100);
        assert!(sent.abs_diff(5_000_000) <= 6_000, "{sent}");
        assert!(wakes < 4_300, "{wakes}");
    }

    #[test]
    fn exact_at_20_gbit() {
        let (sent, wakes) = drive(2_500_000_000, 1452, 1);
        assert!(sent.abs_diff(2_500_000_000) <= 2 * TRAIN, "{sent}");
        assert!(wakes < 45_000, "{wakes}");
    }

    #[test]
    fn sleeping_too_long_gives_more_than_waiting_for_the_window() {
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        // 1.2 packets a millisecond; the start is spent.
        let mut pacer = Pacer::new(1200);
        assert_eq!(pacer.allow(at(0), 1_440_000, 1200), 12_000);
        pacer.on_sent(12_000);
        // The window was full for ten milliseconds.
        assert_eq!(pacer.allow(at(10), 1_440_000, 1200), 1_440);
        pacer.on_sent(1_440);
        // The sender wanted to send after one, and woke up after ten.
        assert!(pacer.next_release(at(10), 1_440_000, 1200).is_some_and(|release| release < at(12)));
        assert_eq!(pacer.allow(at(20), 1_440_000, 1200), 12_000);
        // It is there for as many trains as it takes, but what is not used at once is not kept.
        pacer.on_sent(1_200);
        assert_eq!(pacer.allow(at(20), 1_440_000, 1200), 10_800);
        assert_eq!(pacer.allow(at(21), 1_440_000, 1200), 1_440);
    }

    #[test]
    fn a_burst_follows_the_rate_and_is_made_up_for_when_a_timer_is_late() {
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        // 10 Mbit/s, 100 Mbit/s, 1 Gbit/s, 20 Gbit/s: after the start, a window that was full for a while, then a timer
        // 5 ms late.
        for (rate, burst, late) in [
            (1_250_000, 1_452, 14_520),
            (12_500_000, 3_125, 25_000),
            (125_000_000, 31_250, 250_000),
            (2_500_000_000, 262_144, 262_144),
        ] {
            let mut pacer = Pacer::new(1_452);
            assert_eq!(pacer.allow(at(0), rate, 1_452), 14_520);
            pacer.on_sent(14_520);
            assert_eq!(pacer.allow(at(1), rate, 1_452).max(1_452), burst, "{rate}");
            pacer.on_sent(burst);
            assert!(pacer.next_release(at(1), rate, 1_452).is_some_and(|release| release < at(3)), "{rate}");
            assert_eq!(pacer.allow(at(15), rate, 1_452), late, "{rate}");
        }
    }

    #[test]
    fn a_full_window_is_no_pause_of_a_clocked_sender() {
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        for (mut pacer, after) in [(Pacer::new(1200), 12_000), (Pacer::clocked(1200), 1_200)] {
            pacer.on_sent(12_000);
            assert_eq!(pacer.allow(at(0), 1_000_000, 1200), 0);
            assert_eq!(pacer.allow(at(2), 1_000_000, 1200), 1_200);
            pacer.on_sent(1_200);
            pacer.hold();
            assert_eq!(pacer.allow(at(100), 1_000_000, 1200), after, "an acknowledgement opened it");
        }
        let mut pacer = Pacer::clocked(1200);
        pacer.allow(at(0), 1_000_000, 1200);
        pacer.on_sent(12_000);
        pacer.hold();
        assert_eq!(pacer.allow(at(123), 1_000_000, 1200), 1_200);
        assert_eq!(pacer.allow(at(146), 1_000_000, 1200), 1_200, "since it opened");
        assert_eq!(pacer.allow(at(147), 1_000_000, 1200), 12_000);
    }

    #[test]
    fn more_than_a_window_is_spread_from_its_first_packet_on() {
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        for (mut pacer, after) in [(Pacer::new(1200), 12_000), (Pacer::clocked(1200), 2_400)] {
            assert_eq!(pacer.allow(at(0), 100_000, 1200), 12_000, "what comes fits");
            assert_eq!(pacer.spread(100_000, 1200), after);
            assert_eq!(pacer.allow(at(0), 100_000, 1200), after);
            pacer.on_sent(after);
            assert_eq!(pacer.next_release(at(0), 100_000, 1200), Some(at(12)));
            // After a pause as well, and what is not left of a start is not lost.
            assert_eq!(pacer.allow(at(60_000), 100_000, 1200), 12_000);
            pacer.on_sent(11_400);
            assert_eq!(pacer.spread(100_000, 1200), 600);
        }
    }

    #[test]
    fn a_pause_gives_one_start_and_debt_is_paid() {
        let mut pacer = Pacer::new(1200);
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        assert_eq!(pacer.allow(at(0), 1_000_000, 1200), 12_000);
        pacer.on_sent(12_000);
        // 24 ms pass two starts; a little less gives a burst.
        assert_eq!(pacer.allow(at(23), 1_000_000, 1200), 1_200);
        assert_eq!(pacer.allow(at(60_000), 1_000_000, 1200), 12_000);
        pacer.on_sent(14_000);
        assert_eq!(pacer.allow(at(60_001), 1_000_000, 1200), 0);
        let release = Instant::from_nanos(60_003_200_000);
        assert_eq!(pacer.next_release(at(60_001), 1_000_000, 1200), Some(release));
        assert_eq!(pacer.allow(release, 1_000_000, 1200), 1_200);
        assert_eq!(pacer.next_release(release, 1_000_000, 1200), None);
        assert_eq!(Pacer::new(65_527).allow(at(0), u64::MAX, 65_527), 655_270);
    }
}
