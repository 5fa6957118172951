//! Sent packets against a plain model, and the rules of loss detection.

use core::time::Duration;

use proptest::prelude::*;

use super::*;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn info(ms: u64, size: u16) -> SentInfo {
    SentInfo { now: at(ms), size, ack_eliciting: true, in_flight: true }
}

/// `count` packets of 1,000 bytes, one a millisecond, each with its number as token.
fn sent(count: u64) -> SentPackets<u64> {
    let mut packets = SentPackets::default();
    for pn in 0..count {
        packets.push_token(pn);
        packets.on_sent(pn, &info(pn, 1000));
    }
    packets
}

fn rtt() -> RttEstimator {
    let mut rtt = RttEstimator::new(Duration::from_millis(100));
    rtt.update(at(0), Duration::from_millis(50), Duration::ZERO, None);
    rtt
}

#[test]
fn three_later_acknowledgements_or_time_make_a_loss() {
    let mut packets = sent(5);
    let mut acked = Vec::new();
    packets.on_ack([3..=3].into_iter(), at(10), &mut |t| acked.push(*t)).unwrap();
    let mut lost = Vec::new();
    let outcome = packets.detect_lost(at(10), &rtt(), &mut |t| lost.push(*t));
    assert_eq!((acked, lost, outcome.lost_bytes), (vec![3], vec![0], 1000));
    let due = packets.loss_time().expect("packets 1 and 2 wait for their time");
    let mut lost = Vec::new();
    packets.detect_lost(due, &rtt(), &mut |t| lost.push(*t));
    assert_eq!(lost.first(), Some(&1));
}

#[test]
fn a_late_acknowledgement_of_a_loss_is_spurious_and_settles_once() {
    let mut packets = sent(5);
    let mut settled = Vec::new();
    packets.on_ack([4..=4].into_iter(), at(10), &mut |t| settled.push(*t)).unwrap();
    packets.detect_lost(at(10), &rtt(), &mut |t| settled.push(*t));
    let outcome = packets.on_ack([0..=4].into_iter(), at(11), &mut |t| settled.push(*t)).unwrap();
    assert_eq!(outcome.spurious_losses, 2);
    settled.sort_unstable();
    assert_eq!(settled, [0, 1, 2, 3, 4]);
}

/// An optimistic acknowledgement covers what was never sent.
#[test]
fn numbers_never_sent_are_an_error() {
    assert!(sent(5).on_ack([0..=5].into_iter(), at(10), &mut |_| {}).is_err());
    let mut packets: SentPackets<u64> = SentPackets::default();
    packets.on_sent(0, &info(0, 1000));
    packets.on_sent(2, &info(0, 1000));
    assert!(packets.on_ack([1..=1].into_iter(), at(10), &mut |_| {}).is_err(), "a skipped number");
}

proptest! {
    #[test]
    fn bytes_and_tokens_add_up(acks in prop::collection::vec((0u64..60, 0u64..10), 1..40)) {
        let mut packets = sent(60);
        let mut open = vec![true; 60];
        for (i, (from, len)) in acks.into_iter().enumerate() {
            let to = (from + len).min(59);
            let now = at(60 + i as u64);
            let mut settled = Vec::new();
            packets.on_ack([from..=to].into_iter(), now, &mut |t| settled.push(*t)).unwrap();
            for pn in from..=to {
                prop_assert_eq!(settled.contains(&pn), open[pn as usize]);
                open[pn as usize] = false;
            }
            packets.detect_lost(now, &rtt(), &mut |t| settled.push(*t));
            for pn in &settled {
                open[*pn as usize] = false;
            }
            prop_assert_eq!(packets.bytes_in_flight(), open.iter().filter(|o| **o).count() as u64 * 1000);
        }
        let mut left = Vec::new();
        packets.discard_all(&mut |t| left.push(*t));
        let expected: Vec<u64> = (0..60).filter(|pn| open[*pn as usize]).collect();
        prop_assert_eq!(left, expected);
    }
}
