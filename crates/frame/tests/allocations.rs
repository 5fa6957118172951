//! After warm-up, a packet's life allocates nothing. Only the thread of the test is counted: the harness has one of its own.
#![cfg(not(loom))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use warpline_frame::{Chunk, Pool, PoolConfig};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn the_steady_state_allocates_nothing() {
    let mut pool = Pool::new(PoolConfig { frame_size: 65_536, frames: 8, huge_pages: false }).unwrap();
    let before = ALLOCATIONS.get();
    let mut held = [const { Chunk::new() }; 4];
    for round in 0..if cfg!(miri) { 20 } else { 1_000usize } {
        let mut frame = pool.take().unwrap();
        for packet in 0..40 {
            let mut datagram = frame.split_to(1_452);
            datagram[0] = packet;
            let chunk = datagram.freeze();
            held[round % 4] = chunk.slice(40..);
        }
        assert!(!pool.is_low());
    }
    drop(held);
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert_eq!(pool.available(), 8);
}
