//! Path MTU discovery: probing for larger packets, and noticing that they no longer pass (RFC 8899, RFC 9000 section
//! 14.3).

use core::time::Duration;

use crate::time::Instant;

/// Every QUIC path carries UDP payloads of this size (RFC 9000 section 14).
const BASE: u16 = 1200;
/// Probes of one size that have to be lost: `MAX_PROBES` of RFC 8899 section 5.1.2.
const MAX_PROBES: u8 = 3;
/// The search ends when less than this is left to gain, in bytes.
const STEP: u16 = 20;
/// Time until a search that ended below the ceiling is repeated: `PMTU_RAISE_TIMER` of RFC 8899 section 5.1.1.
const RAISE_AFTER: Duration = Duration::from_secs(600);
/// Loss events of large packets, with no large packet acknowledged, after which the path is taken to be a black hole.
const BLACK_HOLE_EVENTS: u8 = 3;
/// Probe timeouts in a row after which the same is assumed: where nothing arrives, no loss is ever declared.
const BLACK_HOLE_TIMEOUTS: u32 = 2;

/// The search for the largest UDP payload that one path carries.
#[derive(Clone, Copy, Debug)]
pub struct Discovery {
    current: u16,
    ceiling: u16,
    /// Largest size not known to fail in this search.
    high: u16,
    /// The next probe tries `high` itself.
    try_high: bool,
    in_flight: Option<u16>,
    /// Probes of the size being tried that were lost.
    lost: u8,
    /// When the next probe may go; `None` before the start.
    next_at: Option<Instant>,
    black_hole_events: u8,
    /// When the newest packet that was acknowledged together with a large one was sent.
    passed_sent_at: Instant,
}

impl Discovery {
    /// A path assumed to carry `initial` bytes, searched up to `ceiling`. Equal values turn probing off.
    pub fn new(initial: u16, ceiling: u16) -> Self {
        let ceiling = ceiling.max(initial);
        Self {
            current: initial,
            ceiling,
            high: ceiling,
            try_high: true,
            in_flight: None,
            lost: 0,
            next_at: None,
            black_hole_events: 0,
            passed_sent_at: Instant::default(),
        }
    }

    /// Probing may begin: the handshake is confirmed, or the path is a new one.
    pub fn start(&mut self, now: Instant) {
        self.restart(now);
        self.high = self.ceiling;
        self.try_high = true;
    }

    /// The peer takes UDP payloads of `max` bytes at most (`max_udp_payload_size`).
    pub fn set_peer_max(&mut self, max: u16) {
        let max = max.max(BASE);
        self.ceiling = self.ceiling.min(max);
        self.high = self.high.min(max);
        self.current = self.current.min(max);
    }

    /// The size to send now, in bytes of UDP payload.
    #[inline]
    pub fn current(&self) -> u16 {
        self.current
    }

    /// The size of the probe to send now, if one is due.
    #[inline]
    pub fn next_probe(&mut self, now: Instant) -> Option<u16> {
        let at = self.next_at.filter(|_| self.in_flight.is_none() && self.current < self.ceiling)?;
        if now < at {
            return None;
        }
        if self.is_settled() {
            self.high = self.ceiling;
            self.try_high = true;
            self.lost = 0;
        }
        // Should this search end with this probe, the next begins so much later.
        self.next_at = Some(now);
        Some(self.candidate())
    }

    /// When [`Self::next_probe`] has to be asked; `None` while a probe is in flight or nothing is left to find.
    #[inline]
    pub fn next_probe_at(&self) -> Option<Instant> {
        self.next_at.filter(|_| self.in_flight.is_none() && self.current < self.ceiling)
    }

    /// A probe of `size` bytes was sent as packet `_pn`.
    pub fn on_probe_sent(&mut self, _pn: u64, size: u16) {
        self.in_flight = Some(size);
    }

    /// A probe arrived: the path carries `size` bytes.
    pub fn on_probe_acked(&mut self, size: u16) {
        if self.in_flight != Some(size) {
            // Of a search that was given up.
            return;
        }
        self.in_flight = None;
        self.current = self.current.max(size.min(self.ceiling));
        self.high = self.high.max(self.current);
        self.try_high = false;
        self.lost = 0;
        self.black_hole_events = 0;
        self.rest_if_settled();
    }

    /// A probe was lost. The third loss of a size makes it too large.
    pub fn on_probe_lost(&mut self, size: u16) {
        if self.in_flight != Some(size) {
            return;
        }
        self.in_flight = None;
        self.lost += 1;
        if self.lost >= MAX_PROBES {
            self.lost = 0;
            self.try_high = false;
            self.high = size.saturating_sub(1).max(self.current);
            self.rest_if_settled();
        }
    }

    /// Packets were acknowledged, the largest of `size` bytes, and the newest of them sent at `newest_sent_at`.
    #[inline]
    pub fn on_non_probe_acked(&mut self, size: u16, newest_sent_at: Instant) {
        if size > BASE {
            self.black_hole_events = 0;
            self.passed_sent_at = self.passed_sent_at.max(newest_sent_at);
        }
    }

    /// Packets were lost, the largest of `largest_size` bytes, and the newest of them sent at `newest_sent_at`. True when that
    /// shows a black hole: [`Self::current`] is 1200 then, and the search begins anew below the size that no longer passes.
    pub fn on_lost(&mut self, largest_size: u16, newest_sent_at: Instant, now: Instant) -> bool {
        // Larger than the current size: a probe, whose loss is nothing unusual.
        if largest_size <= BASE || largest_size > self.current {
            return false;
        }
        // Large packets that were sent later passed. A queue that overflowed shows in as many losses as its timers tell apart.
        if newest_sent_at <= self.passed_sent_at {
            return false;
        }
        self.black_hole_events += 1;
        if self.black_hole_events < BLACK_HOLE_EVENTS {
            return false;
        }
        self.high = self.current.saturating_sub(1).max(BASE);
        self.current = BASE;
        self.try_high = false;
        if self.next_at.is_some() {
            self.restart(now);
            self.rest_if_settled();
        }
        true
    }

    /// The probe timeout expired for the `count`-th time without an acknowledgement. True when [`Self::current`] fell
    /// back to 1200; the search then tries the old size first, since all that is known is that nothing arrives.
    pub fn on_probe_timeout(&mut self, count: u32, now: Instant) -> bool {
        if count < BLACK_HOLE_TIMEOUTS || self.current <= BASE {
            return false;
        }
        self.high = self.current;
        self.current = BASE;
        self.try_high = true;
        if self.next_at.is_some() {
            self.restart(now);
        }
        true
    }

    fn restart(&mut self, now: Instant) {
        self.next_at = Some(now);
        self.in_flight = None;
        self.lost = 0;
        self.black_hole_events = 0;
    }

    fn is_settled(&self) -> bool {
        !self.try_high && self.high - self.current < STEP
    }

    fn rest_if_settled(&mut self) {
        if self.is_settled() {
            self.next_at = self.next_at.map(|at| at + RAISE_AFTER);
        }
    }

    fn candidate(&self) -> u16 {
        if self.try_high { self.high } else { self.current + (self.high - self.current).div_ceil(2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Instant {
        Instant::from_nanos(s * 1_000_000_000)
    }

    /// Probes a path that carries `real` bytes until nothing is due; returns the number of probes.
    fn search(d: &mut Discovery, real: u16, now: Instant) -> u32 {
        let mut probes = 0;
        while let Some(size) = d.next_probe(now) {
            d.on_probe_sent(0, size);
            assert_eq!((d.next_probe(now), d.next_probe_at()), (None, None));
            if size <= real {
                d.on_probe_acked(size)
            } else {
                d.on_probe_lost(size)
            }
            probes += 1;
            assert!(probes < 100);
        }
        probes
    }

    #[test]
    fn ceiling_is_tried_first() {
        let mut d = Discovery::new(1200, 1452);
        assert_eq!((d.next_probe(at(0)), d.next_probe_at()), (None, None));
        d.start(at(1));
        assert_eq!(d.next_probe_at(), Some(at(1)));
        assert_eq!(search(&mut d, 9000, at(1)), 1);
        assert_eq!((d.current(), d.next_probe_at()), (1452, None));
        let mut off = Discovery::new(1400, 1400);
        off.start(at(0));
        assert_eq!((off.next_probe(at(0)), off.next_probe_at()), (None, None));
    }

    #[test]
    fn binary_search_then_rest() {
        for real in [1200, 1219, 1300, 1452, 4000, 8951, 8952] {
            let mut d = Discovery::new(1200, 8952);
            d.start(at(0));
            let probes = search(&mut d, real, at(0));
            assert!(d.current() <= real && real - d.current() < STEP, "{real}: {}", d.current());
            assert!(probes <= 32, "{real}: {probes}");
            if real < 8952 {
                assert_eq!(d.next_probe_at(), Some(at(600)));
                // The path grew in the meantime.
                search(&mut d, 9000, at(600));
                assert_eq!(d.current(), 8952);
            }
        }
    }

    #[test]
    fn peer_maximum_bounds_everything() {
        let mut d = Discovery::new(1400, 8952);
        d.set_peer_max(1300);
        d.start(at(0));
        assert_eq!((d.current(), d.next_probe(at(0))), (1300, None));
    }

    #[test]
    fn black_hole_falls_back_and_searches_below() {
        let mut d = Discovery::new(1200, 1452);
        d.start(at(0));
        search(&mut d, 1452, at(0));
        assert!(!d.on_lost(1452, at(1), at(1)));
        assert!(!d.on_lost(1452, at(1), at(1)));
        d.on_non_probe_acked(1452, at(1));
        assert!(!d.on_lost(1452, at(2), at(2)));
        assert!(!d.on_lost(1452, at(2), at(2)));
        d.on_non_probe_acked(1200, at(2));
        assert!(!d.on_lost(1200, at(2), at(2)));
        assert!(d.on_lost(1452, at(2), at(2)));
        assert_eq!(d.current(), 1200);
        search(&mut d, 1400, at(3));
        assert!((1381..=1400).contains(&d.current()));
    }

    /// A queue that overflows loses packets one by one, each found by a timer of its own, though later ones passed.
    #[test]
    fn losses_before_a_packet_that_passed_are_no_black_hole() {
        let mut d = Discovery::new(1452, 1452);
        d.on_non_probe_acked(1452, at(5));
        for sent in 1..=5 {
            assert!(!d.on_lost(1452, at(sent), at(6)));
        }
        assert!(!d.on_lost(1452, at(6), at(7)));
        assert!(!d.on_lost(1452, at(7), at(8)));
        assert!(d.on_lost(1452, at(8), at(9)));
        assert_eq!(d.current(), 1200);
    }

    #[test]
    fn silence_falls_back_and_tries_the_old_size_again() {
        let mut d = Discovery::new(1200, 1452);
        d.start(at(0));
        search(&mut d, 1452, at(0));
        assert!(!d.on_probe_timeout(1, at(1)));
        assert!(d.on_probe_timeout(2, at(1)));
        assert!(!d.on_probe_timeout(3, at(2)));
        assert_eq!((d.current(), d.next_probe(at(2))), (1200, Some(1452)));
        let mut shrunk = d;
        // It was an outage, or the path carries less now.
        assert_eq!((search(&mut d, 1452, at(3)), d.current()), (1, 1452));
        search(&mut shrunk, 1300, at(3));
        assert!((1281..=1300).contains(&shrunk.current()));
    }
}
