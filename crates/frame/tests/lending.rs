//! Frames that a device has: lent once, taken back once, unreachable in between.
#![cfg(not(loom))]

use warpline_frame::{Frame, Pool, PoolConfig};

fn packed(frames: usize) -> Pool {
    Pool::packed(PoolConfig { frame_size: 2048, frames, huge_pages: false }).expect("a small pool can be mapped")
}

#[test]
fn packed_frames_lie_one_after_the_other_from_a_page_boundary() {
    let mut pool = packed(8);
    let (base, len) = pool.memory();
    assert_eq!((base.as_ptr() as usize % 4096, len, pool.stride()), (0, 8 * 2048, 2048));
    let mut held = Vec::new();
    for index in 0..8 {
        let frame = pool.take().expect("eight frames");
        assert_eq!(frame.as_ptr() as usize - base.as_ptr() as usize, index * 2048);
        held.push(frame);
    }
    for frame_size in [0, 32, 1000, 3000] {
        assert!(Pool::packed(PoolConfig { frame_size, frames: 8, huge_pages: false }).is_err());
    }
}

#[test]
fn a_frame_is_lent_once_and_taken_back_once() {
    let mut pool = packed(2);
    let mut frame = pool.take().expect("two frames");
    frame[..4].copy_from_slice(b"sent");
    // The range does not matter: the whole frame is lent, and the whole frame comes back.
    frame.advance(2);
    frame.truncate(1);
    let index = pool.lend(frame).expect("nobody else holds it");
    assert_eq!((pool.available(), pool.lent()), (1, 1));
    let back = pool.take_back(index).expect("it was lent");
    assert_eq!((&back[..4], back.len(), pool.lent()), (&b"sent"[..], 2048, 0));
    assert!(pool.take_back(index).is_none(), "it is not lent any more");
    assert!(pool.take_back(1).is_none() && pool.take_back(2).is_none() && pool.take_back(u32::MAX).is_none());
    drop(back);
    assert_eq!(pool.available(), 2);
}

#[test]
fn what_others_hold_or_own_is_not_lent() {
    let (mut pool, mut other) = (packed(2), packed(2));
    let mut frame = pool.take().expect("two frames");
    let part = frame.split_to(100).freeze();
    let frame = pool.lend(frame).expect_err("a part is held");
    drop(part);
    let frame = other.lend(frame).expect_err("it is another pool's");
    assert!(pool.lend(Frame::from_vec(vec![1])).is_err(), "it is on the heap");
    assert!(pool.lend(frame).is_ok());
    assert_eq!((pool.lent(), other.lent()), (1, 0));
    pool.take_back_all();
}

#[test]
fn every_frame_can_be_lent_and_all_come_home() {
    let mut pool = packed(5);
    let indices: Vec<u32> = std::iter::from_fn(|| pool.lend_free()).collect();
    assert_eq!((indices.len(), pool.available(), pool.lent()), (5, 0, 5));
    drop(pool.take_back(indices[3]));
    assert_eq!((pool.available(), pool.lent()), (1, 4));
    assert_eq!(pool.take_back_all(), 4);
    assert_eq!((pool.available(), pool.lent()), (5, 0));
}

#[test]
fn memory_outlives_a_pool_that_lent_it() {
    let mut pool = packed(2);
    let (base, _) = pool.memory();
    let index = pool.lend_free().expect("two frames");
    drop(pool);
    // SAFETY: the frame is in the region.
    let frame = unsafe { base.add(index as usize * 2048) };
    // SAFETY: a lent frame keeps the region mapped, and nobody else writes to it.
    unsafe { frame.write(7) };
}
