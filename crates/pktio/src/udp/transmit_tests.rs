//! A kernel that refuses: every way in which sending can fail, in any order.

use super::*;
use crate::meta::{Ecn, TxMeta};
use crate::stats::IoStats;

struct Bench {
    sender: Sender,
    queue: TxQueue,
    stats: StatsHandle,
}

impl Bench {
    fn new(segments_max: usize) -> Bench {
        Bench {
            sender: Sender::new(Family::V4, true, segments_max),
            queue: TxQueue::new(None).expect("the arena can be mapped"),
            stats: StatsHandle::new(crate::IoKind::Udp),
        }
    }

    /// Queues a train whose bytes say in which datagram they are.
    fn train(&mut self, len: usize, segment_size: usize) {
        let buffer = self.queue.buffer().expect("there is room");
        buffer[..len].iter_mut().enumerate().for_each(|(n, byte)| *byte = (n / segment_size) as u8);
        let remote = ([127, 0, 0, 1], 9).into();
        let local = Some([127, 0, 0, 2].into());
        self.queue.commit(TxMeta { remote, local, ecn: Some(Ecn::Ect0), segment_size, len });
    }

    fn flush(&mut self, send: impl FnMut(&mut [libc::mmsghdr]) -> io::Result<usize>) -> io::Result<()> {
        self.sender.flush(&mut self.queue, &self.stats, send)
    }

    fn stats(&self) -> IoStats {
        self.stats.snapshot()
    }
}

fn errno(code: i32) -> io::Result<usize> {
    Err(io::Error::from_raw_os_error(code))
}

/// The lengths of the messages in a batch.
fn lens(batch: &[libc::mmsghdr]) -> Vec<usize> {
    // SAFETY: the sender pointed each header to its vector.
    batch.iter().map(|message| unsafe { (*message.msg_hdr.msg_iov).iov_len }).collect()
}

#[test]
fn trains_go_out_in_one_call_and_long_ones_are_cut() {
    let mut bench = Bench::new(64);
    bench.train(65_000, 500);
    bench.train(900, 1200);
    bench.train(65_408, 65_408);
    let mut calls = Vec::new();
    bench
        .flush(|batch| {
            calls.push(lens(batch));
            Ok(batch.len())
        })
        .unwrap();
    assert_eq!(calls, [vec![32_000, 32_000, 1_000, 900, 65_408]]);
    let stats = bench.stats();
    assert_eq!((stats.tx_datagrams, stats.tx_trains, stats.tx_bytes, stats.send_calls), (132, 5, 131_308, 1));
    assert!(bench.queue.is_empty());
}

#[test]
fn a_full_socket_keeps_the_rest_in_order() {
    let mut bench = Bench::new(64);
    for n in 0..5 {
        bench.train(1000 + n, 500);
    }
    let mut answers = vec![errno(libc::EAGAIN), Ok(2)];
    bench.flush(|_| answers.pop().unwrap()).unwrap();
    assert_eq!((bench.queue.pending().len(), bench.sender.blocked()), (3, Blocked::Socket));
    bench.flush(|_| errno(libc::EAGAIN)).unwrap();
    let mut sent = Vec::new();
    bench
        .flush(|batch| {
            sent.push(lens(batch)[0]);
            Ok(1)
        })
        .unwrap();
    assert_eq!(sent, [1002, 1003, 1004]);
    assert_eq!((bench.sender.blocked(), bench.stats().tx_blocked, bench.stats().tx_trains), (Blocked::No, 2, 5));
}

#[test]
fn a_full_device_is_told_apart_from_a_full_socket() {
    let mut bench = Bench::new(64);
    bench.train(100, 100);
    bench.flush(|_| errno(libc::ENOBUFS)).unwrap();
    assert_eq!((bench.sender.blocked(), bench.queue.pending().len()), (Blocked::Device, 1));
}

#[test]
fn without_segmentation_trains_go_out_as_single_datagrams_from_then_on() {
    for code in [libc::EIO, libc::EINVAL] {
        let mut bench = Bench::new(64);
        bench.train(2500, 1000);
        bench.train(2000, 1000);
        let mut sent: Vec<usize> = Vec::new();
        bench
            .flush(|batch| match lens(batch)[0] {
                1001.. => errno(code),
                _ => {
                    let first: Vec<usize> = lens(batch).into_iter().take_while(|&len| len <= 1000).collect();
                    sent.extend(&first);
                    Ok(first.len())
                }
            })
            .unwrap();
        assert_eq!(sent, [1000, 1000, 500, 1000, 1000]);
        assert_eq!((bench.stats().gso_refused, bench.sender.segments_max()), (1, 1), "refused once, then given up");
        assert_eq!((bench.stats().tx_datagrams, bench.stats().drop_tx_too_big), (5, 0));
    }
}

#[test]
fn datagrams_above_the_mtu_are_dropped_and_segmentation_is_kept() {
    for code in [libc::EINVAL, libc::EMSGSIZE] {
        let mut bench = Bench::new(64);
        bench.train(4000, 2000);
        bench.train(1200, 1200);
        bench
            .flush(|batch| match lens(batch)[0] {
                2001.. => errno(code),
                1201.. => errno(libc::EMSGSIZE),
                _ => Ok(1),
            })
            .unwrap();
        let stats = bench.stats();
        assert_eq!((stats.drop_tx_too_big, stats.tx_datagrams, stats.gso_refused), (2, 1, 1));
        assert_eq!(bench.sender.segments_max(), 64);
    }
}

#[test]
fn what_the_network_refuses_is_counted_and_does_not_stop_the_others() {
    let mut bench = Bench::new(64);
    for code in [libc::ECONNREFUSED, libc::ENETUNREACH, libc::EPERM, libc::EADDRNOTAVAIL] {
        bench.train(3000, 1000);
        bench.train(10, 10);
        let mut answers = vec![Ok(1), errno(code), errno(libc::EINTR)];
        bench.flush(|_| answers.pop().unwrap()).unwrap();
        assert!(bench.queue.is_empty());
    }
    assert_eq!((bench.stats().drop_tx_refused, bench.stats().tx_datagrams), (12, 4));
}

#[test]
fn an_error_of_the_socket_is_reported() {
    let mut bench = Bench::new(64);
    bench.train(10, 10);
    assert_eq!(bench.flush(|_| errno(libc::EBADF)).unwrap_err().raw_os_error(), Some(libc::EBADF));
}

#[test]
fn many_single_datagrams_take_several_calls() {
    let mut bench = Bench::new(1);
    bench.train(65_000, 500);
    let mut calls = Vec::new();
    bench
        .flush(|batch| {
            calls.push(batch.len());
            Ok(batch.len())
        })
        .unwrap();
    assert_eq!(calls, [64, 64, 2]);
}

#[test]
fn the_arena_is_packed_bounded_and_reused() {
    let mut bench = Bench::new(64);
    let front = bench.queue.buffer().expect("there is room").as_ptr() as usize;
    assert_eq!(front % 64, 0);
    bench.train(100, 100);
    assert_eq!(bench.queue.buffer().expect("there is room").as_ptr() as usize, front + 128);
    while bench.queue.buffer().is_some() {
        bench.train(100, 100);
    }
    assert_eq!(bench.queue.pending().len(), TX_TRAINS_MAX);
    bench.flush(|batch| Ok(batch.len())).unwrap();
    assert_eq!(bench.queue.buffer().expect("there is room").as_ptr() as usize, front);
    for _ in 0..3 {
        bench.train(65_408, 1452);
    }
    bench.train(40_000, 1000);
    assert!(bench.queue.buffer().is_none(), "less than a train is left");
}
