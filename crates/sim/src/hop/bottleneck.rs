//! A link of limited rate with a queue before it: drop-tail, with ECN marks above a threshold.

use std::time::Duration;

use super::{Direction, Dropped, Hop, HopCx};
use crate::{Codepoint, Instant, Packet};

/// What a [`Bottleneck`] is like. Each direction has a queue of its own with these properties.
#[derive(Debug, Clone, Copy)]
pub struct BottleneckConfig {
    /// Bits per second, headers included.
    pub bits_per_s: u64,
    /// Most bytes that wait; a packet that would exceed it is dropped. A packet that finds the queue empty always fits.
    pub queue_bytes: u64,
    /// An ECN-capable packet that finds more than this many bytes waiting is marked CE.
    pub ce_above_bytes: Option<u64>,
}

/// Serializes packets at a fixed rate.
#[derive(Debug)]
pub struct Bottleneck {
    config: BottleneckConfig,
    /// When the link has sent all that was accepted, per direction.
    free_at: [Instant; 2],
}

impl Bottleneck {
    /// An idle link. A rate of 0 is taken as 1 bit/s.
    pub fn new(config: BottleneckConfig) -> Self {
        let config = BottleneckConfig { bits_per_s: config.bits_per_s.max(1), ..config };
        Self { config, free_at: [Instant::from_nanos(0); 2] }
    }

    fn serialization(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(self.config.bits_per_s);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn waiting_bytes(&self, backlog: Duration) -> u64 {
        let bytes = backlog.as_nanos() * u128::from(self.config.bits_per_s) / 8 / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl Hop for Bottleneck {
    fn forward(&mut self, cx: &mut HopCx<'_>, direction: Direction, mut packet: Packet) {
        let free_at = self.free_at[direction.index()].max(cx.now);
        let waiting = self.waiting_bytes(free_at - cx.now);
        let len = packet.wire_len() as u64;
        if waiting > 0 && waiting + len > self.config.queue_bytes {
            return cx.drop(Dropped::QueueFull, packet);
        }
        if packet.ecn.is_capable() && self.config.ce_above_bytes.is_some_and(|limit| waiting > limit) {
            packet.ecn = Codepoint::Ce;
        }
        let leaves = free_at + self.serialization(len);
        self.free_at[direction.index()] = leaves;
        cx.pass_at(leaves, packet);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Drive, packet};
    use super::*;

    /// 1,000 bytes on the wire take 8 ms at 1 Mbit/s.
    fn link(queue_bytes: u64, ce_above_bytes: Option<u64>) -> Drive<Bottleneck> {
        Drive::new(Bottleneck::new(BottleneckConfig { bits_per_s: 1_000_000, queue_bytes, ce_above_bytes }))
    }

    #[test]
    fn packets_leave_at_the_rate() {
        let mut drive = link(1 << 20, None);
        for _ in 0..3 {
            drive.give(Duration::ZERO, Direction::Up, packet(972));
        }
        drive.give(Duration::from_millis(100), Direction::Up, packet(972));
        assert_eq!(drive.times_ms(), [8, 16, 24, 108]);
    }

    #[test]
    fn a_full_queue_drops_and_the_other_direction_does_not_care() {
        let mut drive = link(2_500, None);
        for _ in 0..4 {
            drive.give(Duration::ZERO, Direction::Up, packet(972));
        }
        drive.give(Duration::ZERO, Direction::Down, packet(972));
        assert_eq!(drive.times_ms(), [8, 16, 8]);
        assert!(drive.dropped.iter().all(|(reason, _)| *reason == Dropped::QueueFull));
        assert_eq!(drive.dropped.len(), 2);
    }

    #[test]
    fn marks_begin_above_the_threshold_and_only_on_capable_packets() {
        let mut drive = link(1 << 20, Some(1_500));
        let plain = Packet { ecn: Codepoint::NotEct, ..packet(972) };
        for p in [packet(972), packet(972), packet(972), plain] {
            drive.give(Duration::ZERO, Direction::Up, p);
        }
        let marks: Vec<_> = drive.passed.iter().map(|(_, p)| p.ecn).collect();
        assert_eq!(marks, [Codepoint::Ect0, Codepoint::Ect0, Codepoint::Ce, Codepoint::NotEct]);
    }
}
