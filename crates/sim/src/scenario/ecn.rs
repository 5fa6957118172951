//! Explicit congestion notification on the path.

use super::{Scenario, Setup, delay};
use crate::Rng;
use crate::app::Workload;
use crate::hop::{Bottleneck, BottleneckConfig, Direction, EcnBleach, Hop, Ways};

/// Senders that respond had up to 0.47 of their packets marked (300 seeds), senders of bulk data that do not 0.69 to 0.96 (the test
/// below).
const CE_SHARE_MAX: f64 = 0.6;

/// The bottleneck marks where others drop.
pub const MARKING: Scenario = Scenario {
    name: "ecn-marking",
    about: "the bottleneck marks CE above a threshold",
    build: |rng| {
        let setup = Setup::new(marking_link(rng), Workload::streams(4, 200_000, 800_000));
        Setup { ce_share_max: Some(CE_SHARE_MAX), ..setup }
    },
};

/// The same, and a router that clears the marks one way or both.
pub const BLEACHING: Scenario = Scenario {
    name: "ecn-bleaching",
    about: "a router clears ECN codepoints, one way or both",
    build: |rng| {
        let ways = match rng.below(3) {
            0 => Ways::Both,
            1 => Ways::Only(Direction::Up),
            _ => Ways::Only(Direction::Down),
        };
        let mut hops = marking_link(rng);
        hops.push(Box::new(EcnBleach::new(ways)));
        let setup = Setup::new(hops, Workload::streams(4, 100_000, 400_000));
        Setup { bleached: Some(ways), ..setup }
    },
};

fn marking_link(rng: &mut Rng) -> Vec<Box<dyn Hop>> {
    let config = BottleneckConfig {
        bits_per_s: rng.range(5, 50) * 1_000_000,
        queue_bytes: 300_000,
        ce_above_bytes: Some(rng.range(10_000, 60_000)),
    };
    vec![Box::new(Bottleneck::new(config)), delay(rng, 1, 40)]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use warpline_proto::congestion::{
        AckSample, CongestionAlgorithm, CongestionControl, Controller, CustomCongestion, LossSample,
    };
    use warpline_proto::recovery::sent::LostPacket;

    use super::*;
    use crate::Instant;
    use crate::run::build;

    /// Responds to losses as others do, and not to marks.
    #[derive(Debug)]
    struct Deaf(Controller);

    impl CongestionControl for Deaf {
        fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64, app_limited: bool) {
            self.0.on_sent(now, bytes, in_flight, app_limited);
        }

        fn on_ack(&mut self, ack: &AckSample) {
            self.0.on_ack(ack);
        }

        fn on_packet_lost(&mut self, now: Instant, packet: &LostPacket) {
            self.0.on_packet_lost(now, packet);
        }

        fn on_congestion(&mut self, loss: &LossSample) {
            self.0.on_congestion(loss);
        }

        fn on_ecn_ce(&mut self, _now: Instant, _marks: u64, _sent_at: Instant) {}

        fn on_spurious_loss(&mut self, now: Instant) {
            self.0.on_spurious_loss(now);
        }

        fn on_mtu(&mut self, mtu: u16) {
            self.0.on_mtu(mtu);
        }

        fn window(&self) -> u64 {
            self.0.window()
        }

        fn pacing_rate(&self, srtt: Duration) -> u64 {
            self.0.pacing_rate(srtt)
        }

        fn in_slow_start(&self) -> bool {
            self.0.in_slow_start()
        }

        fn ssthresh(&self) -> u64 {
            self.0.ssthresh()
        }

        fn state_name(&self) -> &'static str {
            self.0.state_name()
        }
    }

    #[test]
    fn a_sender_that_ignores_marks_is_noticed() {
        for seed in 0..10 {
            let mut rng = Rng::new(seed);
            let mut setup = (MARKING.build)(&mut rng);
            let deaf = |mtu| Box::new(Deaf(Controller::new(CongestionAlgorithm::Cubic, mtu))) as Box<_>;
            setup.server.custom_congestion = Some(CustomCongestion::new(deaf));
            let mut world = build(setup, &mut rng, false).expect("a world");
            world.run().expect("everything arrives all the same");
            let noticed = world.wind_down(world.now());
            assert!(noticed.as_ref().is_err_and(|what| what.contains("marked CE")), "seed {seed}: {noticed:?}");
        }
    }
}
