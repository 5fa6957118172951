//! After warm-up, sending and receiving allocate nothing. Alone in its file, since the allocator counts all threads.
#![cfg(target_os = "linux")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{addr, config, train};
use warpline_pktio::{Backend, Io, IoConfig, Received};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is passed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
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
    let here = addr("127.0.0.1:0");
    let bound = |backend| move || Io::bind(here, &IoConfig { backend, ..config() });
    let makers: [&dyn Fn() -> std::io::Result<Io>; 3] =
        [&bound(Backend::Udp), &bound(Backend::Uring), &|| Io::portable(here, &config())];
    for make in makers {
        let (mut a, mut b) = (make().unwrap(), make().unwrap());
        let (to, bell) = (b.local_addr(), b.doorbell());
        let mut batch: Vec<Received> = Vec::with_capacity(64);
        let mut before = 0;
        for round in 0..200 {
            if round == 20 {
                before = ALLOCATIONS.load(Ordering::Relaxed);
            }
            // Full trains, trains that are copied, single datagrams.
            for len in [60_000, 9_000, 1_200, 30] {
                train(&mut a, to, len, 1_200, 0);
            }
            a.flush().unwrap();
            bell.ring();
            b.wait(Some(Duration::ZERO)).unwrap();
            while b.recv(&mut batch).unwrap() > 0 {
                for received in batch.drain(..) {
                    received.datagrams().for_each(drop);
                }
            }
            b.wait(Some(Duration::from_micros(1))).unwrap();
        }
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
        assert!(b.stats().snapshot().rx_datagrams > 10_000);
    }
}
