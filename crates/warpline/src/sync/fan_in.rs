//! Items from several workers, each by a ring of its own, to tasks of any number of threads.

use crate::sync::WaitList;
use futures_util::task::AtomicWaker;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use warpline_ring::spsc::{self, Consumer, Full, Producer};

struct Shared<T> {
    /// Used by the receiving tasks only.
    outlets: Mutex<Outlets<T>>,
    items: WaitList,
    /// Inlets that still exist.
    open: AtomicUsize,
    /// By inlet: woken when there may be room.
    room: Vec<AtomicWaker>,
}

struct Outlets<T> {
    rings: Vec<Consumer<T>>,
    /// Where to look first next time, so that all workers get their turn.
    next: usize,
}

/// The side of one worker.
pub(crate) struct Inlet<T: Send> {
    ring: Producer<T>,
    index: usize,
    shared: Arc<Shared<T>>,
}

/// The side of the receiving tasks.
pub(crate) struct FanIn<T>(Arc<Shared<T>>);

/// A fan-in of `inlets` rings with room for at least `capacity` items each.
pub(crate) fn fan_in<T: Send>(inlets: usize, capacity: usize) -> (Vec<Inlet<T>>, FanIn<T>) {
    let (producers, rings): (Vec<_>, Vec<_>) = (0..inlets).map(|_| spsc::channel(capacity)).unzip();
    let shared = Arc::new(Shared {
        outlets: Mutex::new(Outlets { rings, next: 0 }),
        items: WaitList::default(),
        open: AtomicUsize::new(inlets),
        room: (0..inlets).map(|_| AtomicWaker::new()).collect(),
    });
    let inlets = producers
        .into_iter()
        .enumerate()
        .map(|(index, ring)| Inlet { ring, index, shared: Arc::clone(&shared) })
        .collect();
    (inlets, FanIn(shared))
}

impl<T: Send> Inlet<T> {
    /// Sends the item in `item`; pending, with the item still there, while there is no room.
    pub(crate) fn poll_send(&mut self, cx: &Context<'_>, item: &mut Option<T>) -> Poll<()> {
        if self.push(item) {
            return Poll::Ready(());
        }
        self.shared.room[self.index].register(cx.waker());
        if self.push(item) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn push(&mut self, item: &mut Option<T>) -> bool {
        let Some(value) = item.take() else { return true };
        match self.ring.push(value) {
            Ok(()) => {
                self.shared.items.notify();
                true
            }
            Err(Full(value)) => {
                *item = Some(value);
                false
            }
        }
    }
}

impl<T: Send> Drop for Inlet<T> {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Release);
        self.shared.items.notify();
    }
}

impl<T: Send> FanIn<T> {
    /// The next item of any inlet; `None` once all inlets are gone and everything was taken.
    pub(crate) fn poll_recv(&self, cx: &Context<'_>) -> Poll<Option<T>> {
        self.0.items.poll(cx, || {
            // Inlets push first and go after: seen gone, all they pushed is seen too.
            let open = self.0.open.load(Ordering::Acquire) > 0;
            match self.try_recv() {
                None if open => None,
                item => Some(item),
            }
        })
    }

    fn try_recv(&self) -> Option<T> {
        let mut outlets = self.0.outlets.lock().unwrap_or_else(PoisonError::into_inner);
        let count = outlets.rings.len();
        for offset in 0..count {
            let index = (outlets.next + offset) % count;
            if let Some(item) = outlets.rings[index].pop() {
                outlets.next = (index + 1) % count;
                drop(outlets);
                self.0.room[index].wake();
                return Some(item);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::poll_fn;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_item_of_every_inlet_reaches_exactly_one_task() {
        const ITEMS: u64 = 3_000;
        let (inlets, outlet) = fan_in::<u64>(3, 4);
        let outlet = Arc::new(outlet);
        for mut inlet in inlets {
            tokio::spawn(async move {
                for i in 1..=ITEMS {
                    let mut item = Some(i);
                    poll_fn(|cx| inlet.poll_send(cx, &mut item)).await;
                }
            });
        }
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let outlet = Arc::clone(&outlet);
                tokio::spawn(async move {
                    let mut sum = 0;
                    while let Some(item) = poll_fn(|cx| outlet.poll_recv(cx)).await {
                        sum += item;
                    }
                    sum
                })
            })
            .collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.expect("no task panics");
        }
        assert_eq!(sum, 3 * ITEMS * (ITEMS + 1) / 2);
    }
}
