//! Items from several workers, each by a ring of its own, to tasks of any number of threads.

use futures_util::task::AtomicWaker;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll};
use warpline_ring::spsc::{self, Consumer, Full, Producer};
use warpline_ring::{Lock, WaitList};

struct Shared<T> {
    /// Used by the receiving tasks, and when an inlet is added: a worker does that once, before it begins.
    outlets: Lock<Outlets<T>>,
    items: WaitList,
    /// Inlets and those who may add some.
    open: AtomicUsize,
}

struct Outlets<T> {
    /// Each with the waker of its inlet, for when there may be room.
    rings: Vec<(Consumer<T>, Arc<AtomicWaker>)>,
    /// Where to look first next time, so that all workers get their turn.
    next: usize,
}

/// Adds inlets. While it exists more items may come.
pub(crate) struct Inlets<T: Send> {
    capacity: usize,
    shared: Arc<Shared<T>>,
}

/// The side of one worker.
pub(crate) struct Inlet<T: Send> {
    ring: Producer<T>,
    room: Arc<AtomicWaker>,
    shared: Arc<Shared<T>>,
}

/// The side of the receiving tasks.
pub(crate) struct FanIn<T>(Arc<Shared<T>>);

/// A fan-in whose inlets have room for at least `capacity` items each.
pub(crate) fn fan_in<T: Send>(capacity: usize) -> (Inlets<T>, FanIn<T>) {
    let shared = Arc::new(Shared {
        outlets: Lock::new(Outlets { rings: Vec::new(), next: 0 }),
        items: WaitList::default(),
        open: AtomicUsize::new(1),
    });
    (Inlets { capacity, shared: Arc::clone(&shared) }, FanIn(shared))
}

/// A fan-in with one inlet and never more. Takes no lock: workers make these.
pub(crate) fn single<T: Send>(capacity: usize) -> (Inlet<T>, FanIn<T>) {
    let (ring, consumer) = spsc::channel(capacity);
    let room = Arc::new(AtomicWaker::new());
    let shared = Arc::new(Shared {
        outlets: Lock::new(Outlets { rings: vec![(consumer, Arc::clone(&room))], next: 0 }),
        items: WaitList::default(),
        open: AtomicUsize::new(1),
    });
    (Inlet { ring, room, shared: Arc::clone(&shared) }, FanIn(shared))
}

impl<T: Send> Inlets<T> {
    /// One more inlet.
    pub(crate) fn add(&self) -> Inlet<T> {
        let (ring, consumer) = spsc::channel(self.capacity);
        let room = Arc::new(AtomicWaker::new());
        self.shared.open.fetch_add(1, Ordering::Relaxed);
        self.shared.lock().rings.push((consumer, Arc::clone(&room)));
        Inlet { ring, room, shared: Arc::clone(&self.shared) }
    }
}

impl<T: Send> Drop for Inlets<T> {
    fn drop(&mut self) {
        self.shared.close_one();
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Outlets<T>> {
        self.outlets.lock()
    }

    fn close_one(&self) {
        self.open.fetch_sub(1, Ordering::Release);
        self.items.notify();
    }
}

impl<T: Send> Inlet<T> {
    /// Sends the item in `item`; pending, with the item still there, while there is no room.
    pub(crate) fn poll_send(&mut self, cx: &Context<'_>, item: &mut Option<T>) -> Poll<()> {
        if self.push(item) {
            return Poll::Ready(());
        }
        self.room.register(cx.waker());
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
        self.shared.close_one();
    }
}

impl<T: Send> FanIn<T> {
    /// The next item of any inlet; `None` once all inlets are gone and everything was taken.
    pub(crate) fn poll_recv(&self, cx: &Context<'_>) -> Poll<Option<T>> {
        self.0.items.poll(cx.waker(), || {
            // Inlets push first and go after: seen gone, all they pushed is seen too.
            let open = self.0.open.load(Ordering::Acquire) > 0;
            match self.try_recv() {
                None if open => None,
                item => Some(item),
            }
        })
    }

    fn try_recv(&self) -> Option<T> {
        let mut outlets = self.0.lock();
        let count = outlets.rings.len();
        for offset in 0..count {
            let index = (outlets.next + offset) % count;
            let (ring, room) = &mut outlets.rings[index];
            if let Some(item) = ring.pop() {
                let room = Arc::clone(room);
                outlets.next = (index + 1) % count;
                drop(outlets);
                room.wake();
                return Some(item);
            }
        }
        // Nobody else refers to the waker of an inlet that is gone; seen gone, all it pushed is seen too.
        outlets.rings.retain_mut(|(ring, room)| Arc::get_mut(room).is_none() || !ring.is_empty());
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
        let (inlets, outlet) = fan_in::<u64>(4);
        let outlet = Arc::new(outlet);
        for _ in 0..3 {
            let mut inlet = inlets.add();
            tokio::spawn(async move {
                for i in 1..=ITEMS {
                    let mut item = Some(i);
                    poll_fn(|cx| inlet.poll_send(cx, &mut item)).await;
                }
            });
        }
        drop(inlets);
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
