//! The life of frames: out of the pool, cut up, home again in any order and from any thread.
#![cfg(not(loom))]

use std::collections::HashSet;
use std::sync::mpsc;
use std::thread;

use warpline_frame::{Chunk, Frame, Pages, Pool, PoolConfig};

fn pool(frames: usize, frame_size: usize) -> Pool {
    Pool::new(PoolConfig { frame_size, frames, huge_pages: false }).expect("a small pool can be mapped")
}

#[test]
fn frames_are_distinct_aligned_and_do_not_overlap() {
    for size in [1, 63, 64, 2048, 4096, 65_536] {
        let mut pool = pool(33, size);
        let frames: Vec<Frame> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(frames.len(), 33);
        let mut ranges: Vec<_> = frames.iter().map(|f| (f.as_ptr() as usize, f.len())).collect();
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "frames overlap");
            let apart = (pair[1].0 - pair[0].0) % 4096;
            assert!((64..=4032).contains(&apart), "starts {apart} bytes apart modulo 4,096");
        }
        assert!(ranges.iter().all(|r| r.0 % 64 == 0 && r.1 == size));
    }
}

#[test]
fn every_order_of_dropping_brings_the_frame_home_once() {
    const ORDERS: [[usize; 4]; 6] =
        [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1], [0, 3, 1, 2], [3, 0, 2, 1]];
    for order in ORDERS {
        let mut pool = pool(2, 2048);
        let mut rest = pool.take().unwrap();
        rest[..6].copy_from_slice(b"abcdef");
        let first = rest.split_to(3).freeze();
        let second = rest.split_to(3).freeze();
        assert_eq!(second, b"def");
        let mut parts = [Some(first.clone()), Some(first.slice(1..2)), Some(second), Some(rest.freeze())];
        drop(first);
        for (done, part) in order.into_iter().enumerate() {
            assert_eq!(pool.available(), 1, "home after {done} of 4 drops");
            parts[part] = None;
        }
        assert_eq!(pool.available(), 2);
    }
}

#[test]
fn an_empty_pool_says_none_and_recovers() {
    let mut pool = pool(3, 64);
    let mut frames: Vec<Frame> = std::iter::from_fn(|| pool.take()).collect();
    assert_eq!((frames.len(), pool.available()), (3, 0));
    assert!(pool.take().is_none());
    frames.pop();
    assert!(pool.take().is_some());
    assert!(format!("{pool:?}").contains("capacity: 3"));
}

#[test]
fn the_low_mark_is_an_eighth() {
    let mut pool = pool(16, 64);
    let mut frames: Vec<Frame> = (0..14).map(|_| pool.take().unwrap()).collect();
    assert!(!pool.is_low(), "2 of 16 are free");
    frames.push(pool.take().unwrap());
    assert!(pool.is_low(), "1 of 16 is free");
    drop(frames);
    assert!(!pool.is_low(), "what came back counts without a take");
}

#[test]
fn memory_outlives_the_pool() {
    let mut pool = pool(4, 2048);
    let mut frame = pool.take().unwrap();
    frame.truncate(4);
    frame.copy_from_slice(b"last");
    let other = pool.take().unwrap();
    let chunk = frame.freeze();
    drop(pool);
    drop(other);
    let bytes = chunk.clone().into_bytes();
    drop(chunk);
    let copy = bytes.slice(1..3);
    drop(bytes);
    assert_eq!(&copy[..], b"as");
}

#[test]
fn frames_dropped_by_other_threads_come_home() {
    const FRAMES: usize = 64;
    const ROUNDS: usize = if cfg!(miri) { 100 } else { 20_000 };
    let mut pool = pool(FRAMES, 256);
    let mut senders = Vec::new();
    let mut threads = Vec::new();
    for _ in 0..3 {
        let (send, receive) = mpsc::sync_channel::<(usize, Chunk)>(FRAMES);
        senders.push(send);
        threads.push(thread::spawn(move || {
            for (value, chunk) in receive {
                assert!(chunk.iter().all(|&b| b == value as u8), "somebody else wrote to the frame");
            }
        }));
    }
    let mut round = 0;
    while round < ROUNDS {
        let Some(mut frame) = pool.take() else {
            thread::yield_now();
            continue;
        };
        frame.fill(round as u8);
        for sender in &senders {
            let part = frame.split_to(64).freeze();
            sender.send((round, part)).unwrap();
        }
        round += 1;
    }
    drop(senders);
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(pool.available(), FRAMES);
    let addresses: HashSet<usize> =
        std::iter::from_fn(|| pool.take()).map(|f| (f.as_ptr() as usize, std::mem::forget(f)).0).collect();
    assert_eq!(addresses.len(), FRAMES, "a frame is in the list twice");
}

#[test]
fn the_pool_may_go_while_others_drop() {
    for _ in 0..if cfg!(miri) { 10 } else { 300 } {
        let mut pool = pool(8, 64);
        let chunks: Vec<Chunk> = std::iter::from_fn(|| pool.take()).map(Frame::freeze).collect();
        let (left, right) = (chunks[..4].to_vec(), chunks);
        let a = thread::spawn(move || drop(left));
        let b = thread::spawn(move || drop(right));
        drop(pool);
        a.join().unwrap();
        b.join().unwrap();
    }
}

#[test]
#[cfg_attr(miri, ignore = "Miri maps no huge pages")]
fn huge_pages_fall_back_and_say_so() {
    let mut pool = Pool::new(PoolConfig { frame_size: 65_536, frames: 40, huge_pages: true }).unwrap();
    let pages = pool.pages();
    assert!(matches!(pages, Pages::Huge | Pages::Transparent | Pages::Base), "{pages:?}");
    let mut frame = pool.take().unwrap();
    frame.fill(7);
    assert_eq!(frame.len(), 65_536);
}

#[test]
fn impossible_shapes_are_refused() {
    for (frame_size, frames) in [(0, 1), (1, 0), (usize::MAX, 1), (1 << 31, usize::MAX), (64, u32::MAX as usize)] {
        let error = Pool::new(PoolConfig { frame_size, frames, huge_pages: false }).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{frame_size} × {frames}");
    }
}

#[test]
fn lengths_move_within_the_capacity() {
    let mut frame = Frame::from_vec(b"0123456789".to_vec());
    frame.truncate(4);
    assert_eq!((&frame[..], frame.capacity()), (&b"0123"[..], 10));
    frame.truncate(9);
    assert_eq!(frame.len(), 4);
    frame.set_len(6);
    assert_eq!(&frame[..], b"012345");
    let front = frame.split_to(2);
    assert_eq!((front.capacity(), frame.capacity(), frame.len()), (2, 8, 4));
    frame.advance(1);
    assert_eq!((&frame[..], frame.capacity()), (&b"345"[..], 7));
}

#[test]
fn chunks_of_every_kind_behave_alike() {
    let kinds = [
        Chunk::from_static(b"kind"),
        Chunk::copy_from_slice(b"kind"),
        Chunk::from(b"kind".to_vec()),
        Chunk::from(bytes::Bytes::from(b"a kind".to_vec()).slice(2..)),
        Frame::from_vec(b"kind".to_vec()).freeze(),
    ];
    for mut chunk in kinds {
        assert_eq!(chunk, b"kind");
        assert_eq!(chunk.slice(1..=2), b"in");
        assert_eq!(chunk.slice(4..), Chunk::new());
        assert_eq!(format!("{chunk:?}"), "Chunk(4 bytes, b\"kind\")");
        assert_eq!(chunk.split_to(1), b"k");
        chunk.truncate(2);
        assert_eq!(&chunk.into_bytes()[..], b"in");
    }
    assert!(Chunk::copy_from_slice(b"").is_empty() && Chunk::default().into_bytes().is_empty());
}

#[test]
fn bytes_pass_through_without_another_owner() {
    let bytes = bytes::Bytes::from(vec![1, 2, 3, 4]);
    let chunk = Chunk::from(bytes.clone()).slice(1..3);
    let back = chunk.into_bytes();
    assert_eq!(back.as_ptr(), bytes[1..].as_ptr());
    assert_eq!(&back[..], [2, 3]);
}

#[test]
#[should_panic(expected = "split beyond the end")]
fn a_split_beyond_the_end_panics() {
    let _ = Frame::from_vec(vec![0; 3]).split_to(4);
}

#[test]
#[should_panic(expected = "length beyond the capacity")]
fn growth_beyond_the_capacity_panics() {
    let mut frame = Frame::from_vec(vec![0; 8]);
    let mut front = frame.split_to(4);
    front.set_len(5);
}

#[cfg(target_os = "linux")]
#[test]
#[cfg_attr(miri, ignore = "Miri has no nodes")]
fn memory_comes_from_the_node_that_was_named_or_not_at_all() {
    for huge_pages in [false, true] {
        let mut pool = Pool::new(PoolConfig { frame_size: 1 << 21, frames: 2, huge_pages }).expect("there is memory");
        match pool.place_on(0) {
            Ok(()) => pool.take().expect("the pool is fresh").fill(1),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::Unsupported, "{error}");
                return println!("skipped: this kernel has no nodes: {error}");
            }
        }
        for node in [1023, 1024, u32::MAX] {
            let error = pool.place_on(node).expect_err("no machine has so many");
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&format!("no NUMA node {node}")), "{error}");
        }
    }
}

#[test]
fn what_no_pool_has_room_for_goes_to_the_heap_within_a_bound() {
    let spill = warpline_frame::Spill::new(4_000);
    let mut first = spill.copy(&[1; 1500]).expect("there is room");
    let second = spill.copy(&[2; 1500]).expect("there is room");
    let used = spill.used();
    assert!(used > 3000 && used <= spill.bound());
    assert!(spill.copy(&[3; 1500]).is_none(), "the bound counts");
    assert!(spill.copy(&[]).is_none() && spill.copy(&[0; 4_000]).is_none());
    assert_eq!(spill.used(), used, "what was refused is not counted");
    first[0] = 9;
    let front = first.split_to(1).freeze();
    drop(first);
    assert_eq!(spill.used(), used, "a part is held still");
    std::thread::spawn(move || assert_eq!(&front[..], [9])).join().expect("the bytes are right");
    drop(second);
    assert_eq!(spill.used(), 0);
}
