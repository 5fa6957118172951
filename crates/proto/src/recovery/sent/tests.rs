//! Sent packets against a plain model, and the rules of loss detection.

use core::time::Duration;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn info(ms: u64, size: u16) -> SentInfo {
    SentInfo { now: at(ms), size, ack_eliciting: true, in_flight: true }
}

/// An RTT of 50 ms: packets are lost by time after 56.25 ms, and remembered for another 150 ms.
fn rtt() -> RttEstimator {
    let mut rtt = RttEstimator::new(Duration::from_millis(100));
    rtt.update(at(0), Duration::from_millis(50), Duration::ZERO, None);
    rtt
}

/// The rings together with what they report to.
#[derive(Default)]
struct Bench {
    packets: SentPackets<u64>,
    delivery: DeliveryRate,
    settled: Vec<u64>,
    lost: Vec<LostPacket>,
}

impl Bench {
    /// `count` packets of 1,000 bytes, one a millisecond, each with its number as token.
    fn sent(count: u64) -> Self {
        let mut bench = Self::default();
        for pn in 0..count {
            bench.send(pn, pn);
        }
        bench
    }

    fn send(&mut self, pn: u64, ms: u64) {
        self.packets.push_token(pn);
        self.packets.on_sent(pn, &info(ms, 1000), &mut self.delivery);
    }

    fn ack(&mut self, ranges: &[RangeInclusive<u64>], ms: u64) -> Result<AckOutcome, AckError> {
        self.settled.clear();
        self.packets.on_ack(ranges.iter().cloned(), at(ms), &mut self.delivery, &mut |t| self.settled.push(*t))
    }

    fn detect(&mut self, ms: u64) -> LossOutcome {
        self.settled.clear();
        self.lost.clear();
        let (lost, settled) = (&mut self.lost, &mut self.settled);
        let packets = &mut self.packets;
        packets.detect_lost(at(ms), &rtt(), &mut self.delivery, &mut |p| lost.push(*p), &mut |t| settled.push(*t))
    }
}

#[test]
fn three_later_acknowledgements_or_time_make_a_loss() {
    let mut b = Bench::sent(5);
    b.ack(&[3..=3], 10).unwrap();
    assert_eq!(b.settled, [3]);
    let outcome = b.detect(10);
    assert_eq!((b.settled.as_slice(), outcome.lost_bytes, outcome.lost_packets), ([0].as_slice(), 1000, 1));
    assert_eq!((b.lost[0].tx_in_flight, b.lost[0].lost_since_sent), (1000, 1000));
    // Packet 1 was sent at 1 ms: 9/8 of 50 ms later it is lost.
    assert_eq!(b.packets.loss_time(), Some(Instant::from_nanos(57_250_000)));
    assert_eq!(b.detect(57).lost_packets, 0);
    assert_eq!(b.detect(58).lost_packets, 1);
    assert_eq!(b.settled, [1]);
    assert_eq!(b.packets.loss_time(), Some(Instant::from_nanos(58_250_000)));
    b.detect(59);
    assert_eq!((b.packets.loss_time(), b.packets.bytes_in_flight()), (None, 1000));
}

#[test]
fn a_late_acknowledgement_of_a_loss_is_spurious_and_settles_once() {
    let mut b = Bench::sent(6);
    b.ack(&[5..=5], 10).unwrap();
    assert_eq!(b.detect(10).lost_packets, 3);
    let outcome = b.ack(&[1..=5], 11).unwrap();
    assert_eq!((outcome.spurious_losses, outcome.all_losses_spurious, outcome.acked_bytes), (2, false, 2000));
    assert_eq!(b.settled, [4, 3]);
    let outcome = b.ack(&[0..=5], 12).unwrap();
    assert_eq!((outcome.spurious_losses, outcome.all_losses_spurious), (1, true));
    // All six were delivered in the end.
    assert_eq!(b.delivery.delivered(), 6_000);
}

#[test]
fn one_true_loss_makes_the_episode_real() {
    let mut b = Bench::sent(6);
    b.ack(&[5..=5], 10).unwrap();
    b.detect(10);
    // Packets 3 and 4 are lost by time. 150 ms after they were declared lost, packets 0 to 2 are forgotten.
    assert_eq!(b.detect(61).lost_packets, 2);
    b.detect(165);
    let outcome = b.ack(&[3..=5], 166).unwrap();
    assert_eq!((outcome.spurious_losses, outcome.all_losses_spurious), (2, false));
    // What was forgotten is beyond a late acknowledgement.
    assert_eq!(b.ack(&[0..=5], 163).unwrap().newly_acked_packets, 0);
}

/// RFC 9000 section 21.4: optimistic acknowledgements cover what was never sent.
#[test]
fn numbers_never_sent_are_an_error() {
    assert_eq!(Bench::sent(5).ack(&[0..=5], 10), Err(AckError));
    assert_eq!(Bench::default().ack(&[0..=0], 10), Err(AckError));
    let mut b = Bench::sent(5);
    b.send(6, 6);
    b.send(7, 7);
    assert_eq!(b.ack(&[6..=7, 0..=4], 10).map(|o| o.newly_acked_packets), Ok(7));
    let mut b = Bench::sent(5);
    b.send(6, 6);
    assert_eq!(b.ack(&[0..=6], 10), Err(AckError));
    // The gap outlives the packets before it until a later one is acknowledged.
    let mut b = Bench::sent(5);
    b.ack(&[0..=4], 10).unwrap();
    b.send(6, 11);
    b.send(7, 11);
    assert_eq!(b.ack(&[5..=7], 12), Err(AckError));
    let mut b = Bench::sent(5);
    b.ack(&[0..=4], 10).unwrap();
    b.send(6, 11);
    b.ack(&[6..=6, 0..=4], 12).unwrap();
    assert_eq!(b.packets.records.len(), 0);
}

#[test]
fn persistent_congestion_needs_an_unbroken_run() {
    // 3 * (50 + 4 * 25 + 25) ms = 525 ms.
    let run = |acked: Option<u64>| {
        let mut b = Bench::default();
        for (pn, ms) in [(0, 1), (1, 200), (2, 400), (3, 540), (4, 600), (5, 601), (6, 602)] {
            b.send(pn, ms);
        }
        let mut ranges = vec![6..=6];
        ranges.extend(acked.map(|pn| pn..=pn));
        b.ack(&ranges, 650).unwrap();
        b.detect(650).persistent
    };
    assert!(run(None));
    assert!(!run(Some(2)));
}

#[test]
fn probes_and_packets_that_are_not_in_flight_are_no_sign_of_congestion() {
    let mut b = Bench::default();
    b.packets.stage_mtu_probe();
    b.send(0, 0);
    b.packets.on_sent(1, &SentInfo { now: at(0), size: 50, ack_eliciting: false, in_flight: false }, &mut b.delivery);
    for pn in 2..7 {
        b.send(pn, 1);
    }
    assert_eq!(b.packets.bytes_in_flight(), 6_000);
    b.ack(&[6..=6], 10).unwrap();
    let outcome = b.detect(10);
    assert_eq!((outcome.lost_packets, b.lost.len(), b.settled.as_slice()), (2, 2, [0, 2, 3].as_slice()));
    assert_eq!(b.packets.bytes_in_flight(), 2_000);
    assert_eq!(b.delivery.lost(), 2_000);
}

#[test]
fn rate_sample_is_of_the_newest_packet() {
    let mut b = Bench::sent(10);
    let outcome = b.ack(&[0..=4], 50).unwrap();
    // Five packets sent in 4 ms, delivered within 50 ms of the first.
    assert_eq!((outcome.rate.delivered_bytes, outcome.rate.interval), (5_000, Duration::from_millis(50)));
    assert_eq!(outcome.rate.bytes_per_second(), Some(100_000));
    assert_eq!((outcome.rate.tx_in_flight, outcome.rate.app_limited), (5_000, false));
    b.delivery.set_app_limited(b.packets.bytes_in_flight());
    b.send(10, 51);
    assert!(!b.ack(&[5..=9], 55).unwrap().rate.app_limited);
    let outcome = b.ack(&[10..=10], 101).unwrap();
    assert_eq!(
        (outcome.rate.app_limited, outcome.rate.prior_delivered, outcome.rate.total_delivered),
        (true, 5_000, 11_000)
    );
    assert!(!b.delivery.is_app_limited());
}

#[test]
fn memory_follows_the_window() {
    let mut b = Bench::default();
    for pn in 0..10_000 {
        b.send(pn, pn);
        if pn >= 100 {
            b.ack(&[pn - 100..=pn - 100], pn).unwrap();
        }
    }
    assert_eq!((b.packets.records.len(), b.packets.tokens.len()), (100, 100));
    assert!(b.packets.records.capacity() <= 256);
    // An endpoint that only acknowledges never hears of its packets.
    let mut b = Bench::default();
    for pn in 0..10_000 {
        let info = SentInfo { now: at(pn), size: 40, ack_eliciting: false, in_flight: false };
        b.packets.on_sent(pn, &info, &mut b.delivery);
    }
    assert!(b.packets.records.len() <= UNANSWERED_MAX);
}

/// The same rules over a map, with none of the short cuts.
#[derive(Default)]
struct Model {
    open: BTreeMap<u64, u64>,
    lost: BTreeMap<u64, u64>,
    skipped: Vec<u64>,
    next: u64,
    largest_acked: Option<u64>,
}

impl Model {
    /// Newly acknowledged and late packets, descending; `None` for an acknowledgement of what was not sent.
    fn ack(&mut self, ranges: &[RangeInclusive<u64>], ms: u64) -> Option<(Vec<u64>, usize)> {
        if *ranges.first()?.end() >= self.next {
            return None;
        }
        // A gap is forgotten once a later packet was acknowledged and all before it has settled, so whether an
        // acknowledgement of an old one is noticed is left open: the test never sends it.
        self.largest_acked = self.largest_acked.max(Some(*ranges.first()?.end()));
        let mut acked = Vec::new();
        let mut late = 0;
        for pn in ranges.iter().flat_map(|r| r.clone().rev()) {
            if self.open.remove(&pn).is_some() {
                acked.push(pn);
            } else if self.lost.get(&pn).is_some_and(|lost_at| ms < lost_at + 150) {
                self.lost.remove(&pn);
                late += 1;
            }
        }
        Some((acked, late))
    }

    fn detect(&mut self, ms: u64) -> Vec<u64> {
        let Some(largest) = self.largest_acked else { return Vec::new() };
        let is_lost = |pn: u64, sent: u64| pn < largest && (largest >= pn + 3 || ms * 1_000 >= sent * 1_000 + 56_250);
        let lost: Vec<u64> = self.open.iter().filter(|(pn, sent)| is_lost(**pn, **sent)).map(|(pn, _)| *pn).collect();
        for pn in &lost {
            self.open.remove(pn);
            self.lost.insert(*pn, ms);
        }
        lost
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send(u64),
    Skip,
    Wait(u64),
    /// Ranges as distances below the largest number sent: (gap, length).
    Ack(Vec<(u64, u64)>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u64..8).prop_map(Step::Send),
        1 => Just(Step::Skip),
        3 => (1u64..40).prop_map(Step::Wait),
        4 => prop::collection::vec((0u64..6, 0u64..6), 1..5).prop_map(Step::Ack),
    ]
}

fn ranges(model: &Model, shape: &[(u64, u64)]) -> Vec<RangeInclusive<u64>> {
    let mut ranges = Vec::new();
    let mut top = model.next;
    for (gap, len) in shape {
        let Some(end) = top.checked_sub(gap + 1) else { break };
        let start = end.saturating_sub(*len);
        // An honest peer leaves skipped numbers out.
        let mut from = None;
        for pn in (start..=end).rev() {
            match (model.skipped.contains(&pn), from) {
                (false, None) => from = Some(pn),
                (true, Some(to)) => {
                    ranges.push(pn + 1..=to);
                    from = None;
                }
                _ => {}
            }
        }
        ranges.extend(from.map(|to| start..=to));
        top = start.saturating_sub(1);
        if start < 2 {
            break;
        }
    }
    ranges
}

proptest! {
    #[test]
    fn rings_agree_with_a_map(steps in prop::collection::vec(step(), 1..120)) {
        let mut b = Bench::default();
        let mut model = Model::default();
        let mut ms = 1;
        for step in steps {
            match step {
                Step::Send(count) => for _ in 0..count {
                    b.send(model.next, ms);
                    model.open.insert(model.next, ms);
                    model.next += 1;
                },
                Step::Skip => {
                    model.skipped.push(model.next);
                    model.next += 1;
                    b.send(model.next, ms);
                    model.open.insert(model.next, ms);
                    model.next += 1;
                }
                Step::Wait(time) => ms += time,
                Step::Ack(shape) => {
                    let ranges = ranges(&model, &shape);
                    if ranges.is_empty() {
                        continue;
                    }
                    let outcome = b.ack(&ranges, ms).unwrap();
                    let (acked, late) = model.ack(&ranges, ms).unwrap();
                    prop_assert_eq!(&b.settled, &acked);
                    prop_assert_eq!(outcome.acked_bytes, acked.len() as u64 * 1000);
                    // Whether a loss is remembered past its time depends on what is before it in the ring.
                    prop_assert!(outcome.spurious_losses as usize >= late);
                    let lost = model.detect(ms);
                    let outcome = b.detect(ms);
                    prop_assert_eq!(&b.settled, &lost);
                    prop_assert_eq!(outcome.lost_packets as usize, lost.len());
                }
            }
            prop_assert_eq!(b.packets.bytes_in_flight(), model.open.len() as u64 * 1000);
            prop_assert_eq!(b.packets.has_ack_eliciting_in_flight(), !model.open.is_empty());
            let mut oldest = Vec::new();
            b.packets.oldest_unacked(2, &mut |t| oldest.push(*t));
            prop_assert_eq!(oldest, model.open.keys().take(2).copied().collect::<Vec<_>>());
        }
        let mut left = Vec::new();
        b.packets.discard_all(&mut |t| left.push(*t));
        prop_assert_eq!(left, model.open.keys().copied().collect::<Vec<_>>());
        prop_assert_eq!(b.packets.bytes_in_flight(), 0);
    }
}

/// A peer that has this side acknowledge packet after packet, and itself acknowledges none, must not make the record grow for
/// ever; one that only never acknowledges acknowledgements is nothing special.
#[test]
fn a_flood_of_packets_that_nothing_is_owed_for_is_noticed() {
    let ack_only = SentInfo { now: at(1), size: 40, ack_eliciting: false, in_flight: false };
    let mut bench = Bench::default();
    for pn in 0..200_000 {
        bench.packets.on_sent(pn, &ack_only, &mut bench.delivery);
    }
    assert!(!bench.packets.is_flooded() && bench.packets.records.len() <= UNANSWERED_MAX);
    bench.send(200_000, 2);
    let noticed = (200_001..300_000).find(|pn| {
        bench.packets.on_sent(*pn, &ack_only, &mut bench.delivery);
        bench.packets.is_flooded()
    });
    assert!(noticed.is_some_and(|pn| pn < 200_001 + UNANSWERED_FLOOD as u64));
    // A large window of real packets is none.
    let mut bench = Bench::sent(3 * UNANSWERED_FLOOD as u64);
    bench.send(3 * UNANSWERED_FLOOD as u64, 100_000);
    assert!(!bench.packets.is_flooded());
}

/// RFC 9000 section 9.4: what is in flight when the path changes says nothing of the new one, but is not lost sight of.
#[test]
fn leaving_a_path_takes_packets_out_of_flight_and_keeps_them() {
    let mut bench = Bench::sent(10);
    bench.packets.leave_path();
    assert_eq!(bench.packets.bytes_in_flight(), 0);
    assert!(bench.packets.has_ack_eliciting_in_flight());
    bench.send(10, 20);
    let outcome = bench.ack(&[5..=10], 60).unwrap();
    assert_eq!((outcome.acked_bytes, outcome.newly_acked_packets), (1_000, 6));
    let lost = bench.detect(60);
    assert_eq!((lost.lost_packets, lost.persistent), (0, false), "their loss is no sign of congestion");
    assert_eq!(bench.settled, [0, 1, 2, 3, 4], "but they are made good");
    let mut bench = Bench::sent(3);
    bench.packets.leave_path();
    assert_eq!(bench.ack(&[0..=2], 50).unwrap().largest_sent_at, None, "nor is it a sample of the round trip");
}

/// What an ACK frame costs: the packets that it acknowledges for the first time and its ranges, however often they come again
/// and however they are cut.
#[test]
fn a_flood_of_ranges_costs_no_more_than_its_bytes() {
    const PACKETS: u64 = 4_096;
    let mut sent = SentPackets::<u64>::default();
    let mut delivery = DeliveryRate::default();
    for pn in 0..PACKETS {
        sent.push_token(pn);
        sent.on_sent(pn, &info(0, 1_200), &mut delivery);
    }
    let held = sent.records.capacity();
    let singles: Vec<_> = (1..PACKETS / 2).rev().map(|n| n * 2 + 1..=n * 2 + 1).collect();
    let pairs: Vec<_> = (1..PACKETS / 4).rev().map(|n| n * 4..=n * 4 + 1).collect();
    // The first packet is never acknowledged: all of them stay.
    let whole = vec![1..=PACKETS - 1];
    let (mut acknowledged, mut settled, mut ranges) = (0, 0, 0);
    for round in 0..300 {
        for frame in [&singles, &pairs, &whole] {
            // First one after the other, then mixed.
            if round < 100 && frame.len() != singles.len() || (100..200).contains(&round) && frame.len() == 1 {
                continue;
            }
            let out = sent.on_ack(frame.iter().cloned(), at(10), &mut delivery, &mut |_| settled += 1).unwrap();
            acknowledged += out.newly_acked_packets as usize;
            ranges += frame.len();
        }
    }
    // Each packet once, and once more when a range first covers neighbours that were acknowledged apart.
    let visited = sent.visited;
    assert!(visited <= 2 * PACKETS as usize + ranges, "{visited} for {ranges} ranges");
    assert_eq!((acknowledged, settled), (PACKETS as usize - 1, PACKETS as usize - 1), "once each");
    assert_eq!((sent.records.len(), sent.records.capacity()), (PACKETS as usize, held));
}
