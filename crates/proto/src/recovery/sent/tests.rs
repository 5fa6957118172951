use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn info(ms: u64) -> SentInfo {
    SentInfo { now: at(ms), size: 1000, ack_eliciting: true, in_flight: true }
}

fn rtt(ms: u64) -> RttEstimator {
    let mut rtt = RttEstimator::new(MS(100));
    rtt.update(at(0), MS(ms), MS(0), None);
    rtt
}

/// Packets 0 to `n` - 1, one a millisecond from 1 ms, each with its number as token.
fn sent(n: u64) -> SentPackets<u64> {
    let mut sent = SentPackets::default();
    for pn in 0..n {
        sent.push_token(pn);
        sent.on_sent(pn, &info(pn + 1));
    }
    sent
}

fn ack(sent: &mut SentPackets<u64>, ranges: &[RangeInclusive<u64>], ms: u64) -> (AckOutcome, Vec<u64>) {
    let mut settled = Vec::new();
    let out = sent.on_ack(ranges.iter().cloned(), at(ms), &mut |t| settled.push(*t)).unwrap();
    (out, settled)
}

fn lose(sent: &mut SentPackets<u64>, rtt: &RttEstimator, ms: u64) -> (LossOutcome, Vec<u64>) {
    let mut settled = Vec::new();
    let out = sent.detect_lost(at(ms), rtt, &mut |t| settled.push(*t));
    (out, settled)
}

#[test]
fn acknowledges_and_refuses_what_was_never_sent() {
    let mut s = sent(5);
    assert_eq!(s.on_ack([3..=5].into_iter(), at(10), &mut |_| ()), Err(AckError));
    assert_eq!(s.bytes_in_flight(), 5_000);
    let (out, settled) = ack(&mut s, &[3..=3, 0..=1], 10);
    assert_eq!(settled, [3, 1, 0]);
    assert_eq!((out.newly_acked_packets, out.acked_bytes, out.newly_acked_marked), (3, 3_000, 3));
    assert_eq!((out.largest_sent_at, out.newest_sent_at), (Some(at(4)), at(4)));
    assert!(out.is_newest && out.includes_ack_eliciting);
    let (again, settled) = ack(&mut s, &[3..=3, 0..=1], 11);
    assert_eq!((again, settled), (AckOutcome::default(), vec![]));
    // An older acknowledgement that comes late.
    let (out, _) = ack(&mut s, &[2..=2], 12);
    assert_eq!((out.is_newest, out.largest_sent_at), (false, Some(at(3))));
    assert_eq!((s.bytes_in_flight(), s.records.len()), (1_000, 1));
    assert_eq!(s.on_ack([9..=9].into_iter(), at(13), &mut |_| ()), Err(AckError));
}

#[test]
fn packet_and_time_thresholds() {
    let (mut s, rtt) = (sent(6), rtt(80));
    ack(&mut s, &[4..=4], 50);
    let (out, lost) = lose(&mut s, &rtt, 50);
    assert_eq!(lost, [0, 1]);
    assert_eq!((out.lost_packets, out.lost_bytes, out.largest_lost_sent_at), (2, 2_000, at(2)));
    // Packet 2 was sent at 3 ms; 9/8 of 80 ms are 90.
    assert_eq!(s.loss_time(), Some(at(93)));
    assert_eq!(lose(&mut s, &rtt, 92).1, []);
    assert_eq!(lose(&mut s, &rtt, 94).1, [2, 3]);
    assert_eq!(s.loss_time(), None, "packet 5 is later than the largest acknowledged");
    assert_eq!(s.bytes_in_flight(), 1_000);
}

#[test]
fn a_late_acknowledgement_is_spurious_loss_once() {
    let (mut s, rtt) = (sent(6), rtt(80));
    ack(&mut s, &[5..=5], 50);
    assert_eq!(lose(&mut s, &rtt, 50).1, [0, 1, 2]);
    let (out, settled) = ack(&mut s, &[5..=5, 0..=1], 60);
    assert_eq!((out.spurious_losses, out.newly_acked_packets, out.acked_bytes), (2, 2, 0));
    assert_eq!(settled, []);
    assert_eq!(ack(&mut s, &[5..=5, 0..=1], 61).0.spurious_losses, 0);
    // Long after, the record of packet 2 is gone.
    ack(&mut s, &[3..=5], 70);
    assert_eq!(s.records.len(), 4);
    lose(&mut s, &rtt, 5_000);
    assert_eq!((s.records.len(), s.tokens.len()), (0, 0));
    assert_eq!(ack(&mut s, &[0..=5], 5_001).0.spurious_losses, 0);
}

#[test]
fn persistent_congestion() {
    // smoothed 100, var 50: (100 + 200 + 25) * 3 = 975 ms.
    let rtt = rtt(100);
    for (gap, acked_between, expected) in [(976, false, true), (975, false, false), (2_000, true, false)] {
        let mut s = SentPackets::<u64>::default();
        for (pn, ms) in [(0, 10), (1, 20), (2, 10 + gap), (3, 11 + gap), (4, 5_000), (5, 5_000), (6, 5_000)] {
            s.on_sent(pn, &info(ms));
        }
        let ranges: &[_] = if acked_between { &[6..=6, 3..=3, 1..=1] } else { &[6..=6, 3..=3] };
        ack(&mut s, ranges, 5_100);
        assert_eq!(lose(&mut s, &rtt, 5_100).0.persistent, expected, "{gap}");
    }
}

#[test]
fn no_persistent_congestion_before_the_first_sample() {
    let mut s = SentPackets::<u64>::default();
    for (pn, ms) in [(0, 10), (1, 9_000), (2, 9_000), (3, 9_000), (4, 9_000)] {
        s.on_sent(pn, &info(ms));
    }
    ack(&mut s, &[4..=4], 9_100);
    let mut rtt = RttEstimator::new(MS(100));
    rtt.update(at(9_100), MS(100), MS(0), None);
    let (out, _) = lose(&mut s, &rtt, 9_100);
    assert_eq!((out.lost_packets, out.persistent), (2, false));
}

#[test]
fn probes_and_unmarked_packets_are_told_apart() {
    let mut s = sent(1);
    s.stage_mtu_probe();
    s.push_token(77);
    s.on_sent(1, &SentInfo { size: 9_000, ..info(2) });
    for pn in 2..6 {
        s.stage_unmarked();
        s.on_sent(pn, &info(3));
    }
    let (out, _) = ack(&mut s, &[2..=5, 0..=0], 50);
    assert_eq!((out.newly_acked_packets, out.newly_acked_marked, out.largest_acked_size), (5, 1, 1_000));
    let (out, lost) = lose(&mut s, &rtt(80), 50);
    assert_eq!((out, lost), (LossOutcome::default(), vec![77]));
    assert_eq!(s.bytes_in_flight(), 0);
}

#[test]
fn oldest_and_discard() {
    let mut s = sent(4);
    ack(&mut s, &[1..=1], 5);
    let mut seen = Vec::new();
    s.oldest_unacked(2, &mut |t| seen.push(*t));
    assert_eq!(seen, [0, 2]);
    seen.clear();
    s.discard_all(&mut |t| seen.push(*t));
    assert_eq!(seen, [0, 2, 3]);
    assert_eq!((s.bytes_in_flight(), s.has_ack_eliciting_in_flight(), s.loss_time()), (0, false, None));
    s.push_token(9);
    s.on_sent(4, &info(9));
    let (out, settled) = ack(&mut s, &[0..=4], 10);
    assert_eq!((out.newly_acked_packets, settled), (1, vec![9]));
}

#[test]
fn rate_of_a_steady_flow() {
    let mut s = SentPackets::<u64>::default();
    let mut last = RateSample::default();
    for ms in 1..500 {
        s.on_sent(ms - 1, &info(ms));
        if ms > 50 {
            last = ack(&mut s, &[0..=ms - 51], ms).0.rate;
        }
    }
    assert_eq!(last.bytes_per_second(), Some(1_000_000));
    assert!(!last.app_limited);
    s.set_app_limited();
    s.on_sent(499, &info(500));
    assert!(ack(&mut s, &[0..=499], 550).0.rate.app_limited);
    s.on_sent(500, &info(551));
    assert!(!ack(&mut s, &[0..=500], 600).0.rate.app_limited);
}

#[test]
fn packets_that_nobody_answers_are_forgotten() {
    let mut s = SentPackets::<u64>::default();
    for pn in 0..5_000 {
        s.push_token(pn);
        s.on_sent(pn, &SentInfo { ack_eliciting: false, in_flight: false, ..info(pn) });
    }
    assert!(s.records.len() <= UNANSWERED_MAX && s.tokens.len() <= UNANSWERED_MAX);
    assert_eq!(ack(&mut s, &[4_999..=4_999], 9_000).1, [4_999]);
}

#[test]
fn repeated_ranges_cost_nothing() {
    let mut s = sent(100_001);
    let mut steps = 0u64;
    // Packet 0 is missing, so nothing is popped, and every acknowledgement covers all that came before.
    for end in (10..=100_000).step_by(10) {
        let counted = [1..=end].into_iter().inspect(|_| steps += 1);
        let out = s.on_ack(counted, at(200_000), &mut |_| ()).unwrap();
        assert_eq!(out.newly_acked_packets, 10);
        assert_eq!(s.record(end).unwrap().then.delivered, 1);
    }
    assert_eq!((steps, s.records.len()), (10_000, 100_001));
}

#[derive(Clone, Debug)]
enum Op {
    Send { tokens: u8, eliciting: bool, in_flight: bool },
    Ack(Vec<(u8, u8)>),
    Lose,
    Wait(u8),
    Discard,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (0..4u8, any::<bool>(), any::<bool>())
            .prop_map(|(tokens, eliciting, in_flight)| Op::Send { tokens, eliciting, in_flight }),
        4 => prop::collection::vec((0..6u8, 0..6u8), 1..5).prop_map(Op::Ack),
        3 => Just(Op::Lose),
        3 => any::<u8>().prop_map(Op::Wait),
        1 => Just(Op::Discard),
    ]
}

#[derive(Clone, Debug)]
struct ModelPacket {
    sent_at: Instant,
    size: u64,
    tokens: Vec<u64>,
    eliciting: bool,
    in_flight: bool,
}

/// The same written without regard to cost: open packets only.
#[derive(Default)]
struct Model {
    open: BTreeMap<u64, ModelPacket>,
    largest: Option<u64>,
}

impl Model {
    fn ack(&mut self, ranges: &[RangeInclusive<u64>]) -> Vec<u64> {
        self.largest = self.largest.max(ranges.first().map(|r| *r.end()));
        let mut acked: Vec<u64> = Vec::new();
        for pn in ranges.iter().flat_map(|r| r.clone().rev()) {
            acked.extend(self.open.remove(&pn).into_iter().flat_map(|p| p.tokens));
        }
        acked
    }

    fn lose(&mut self, now: Instant, delay: Duration) -> (Vec<u64>, u64, Option<Instant>) {
        let (mut lost, mut bytes, mut timer) = (Vec::new(), 0, None);
        let largest = self.largest.unwrap_or(0);
        let older: Vec<u64> = self.open.range(..largest).map(|(pn, _)| *pn).collect();
        for pn in older {
            let p = &self.open[&pn];
            if pn + 3 <= largest || p.sent_at + delay <= now {
                let p = self.open.remove(&pn).unwrap();
                bytes += if p.in_flight { p.size } else { 0 };
                lost.extend(p.tokens);
            } else if p.in_flight && timer.is_none() {
                timer = Some(p.sent_at + delay);
            }
        }
        (lost, bytes, timer)
    }

    fn in_flight(&self) -> u64 {
        self.open.values().filter(|p| p.in_flight).map(|p| p.size).sum()
    }

    fn eliciting(&self) -> bool {
        self.open.values().any(|p| p.in_flight && p.eliciting)
    }
}

/// Ranges below `next` from gaps and lengths, largest first.
fn ranges(next: u64, shape: &[(u8, u8)]) -> Vec<RangeInclusive<u64>> {
    let mut out = Vec::new();
    let mut below = next;
    for &(gap, len) in shape {
        let Some(end) = below.checked_sub(1 + u64::from(gap)) else { break };
        let start = end.saturating_sub(u64::from(len));
        out.push(start..=end);
        let Some(under) = start.checked_sub(1) else { break };
        below = under;
    }
    out
}

proptest! {
    #[test]
    fn agrees_with_a_map(ops in prop::collection::vec(op(), 1..200)) {
        let rtt = rtt(40);
        let (mut s, mut model) = (SentPackets::<u64>::default(), Model::default());
        let (mut next, mut token, mut now) = (0u64, 0u64, 1u64);
        for op in ops {
            match op {
                Op::Send { tokens, eliciting, in_flight } => {
                    let size = 100 + (next % 900) as u16;
                    let eliciting = eliciting && in_flight;
                    let tokens: Vec<u64> = (0..u64::from(tokens)).map(|i| token + i).collect();
                    token += tokens.len() as u64;
                    tokens.iter().for_each(|t| s.push_token(*t));
                    s.on_sent(next, &SentInfo { now: at(now), size, ack_eliciting: eliciting, in_flight });
                    let size = u64::from(size);
                    model.open.insert(next, ModelPacket { sent_at: at(now), size, tokens, eliciting, in_flight });
                    next += 1;
                }
                Op::Ack(shape) => {
                    let ranges = ranges(next, &shape);
                    let open = model.open.len();
                    let (out, mut settled) = ack(&mut s, &ranges, now);
                    let mut expected = model.ack(&ranges);
                    // Within a packet the order is that of writing.
                    settled.sort_unstable();
                    expected.sort_unstable();
                    prop_assert_eq!(settled, expected);
                    // Late ones include packets that are not in flight, which count for nothing else.
                    prop_assert!(out.newly_acked_packets as usize >= open - model.open.len());
                }
                Op::Lose => {
                    let (out, settled) = lose(&mut s, &rtt, now);
                    let (expected, bytes, timer) = model.lose(at(now), rtt.loss_delay());
                    prop_assert_eq!(settled, expected);
                    prop_assert_eq!(out.lost_bytes, bytes);
                    prop_assert_eq!(s.loss_time(), timer);
                }
                Op::Wait(ms) => now += u64::from(ms),
                Op::Discard => {
                    let mut settled = Vec::new();
                    s.discard_all(&mut |t| settled.push(*t));
                    let open = std::mem::take(&mut model.open);
                    let expected: Vec<u64> = open.into_values().flat_map(|p| p.tokens).collect();
                    prop_assert_eq!(settled, expected);
                }
            }
            prop_assert_eq!(s.bytes_in_flight(), model.in_flight());
            prop_assert_eq!(s.has_ack_eliciting_in_flight(), model.eliciting());
            prop_assert!(s.open_from >= s.base && s.open_from <= s.next_pn());
        }
    }
}
