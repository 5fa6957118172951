//! Items from several workers, each by a ring of its own, to tasks of any number of threads.
//!
//! The consuming ends of the rings are a [`Claim`]: one task at a time takes from them. Another one that comes meanwhile
//! does not wait for it; it is entered in the list of those who wait for items, and the task at the rings notifies that list
//! when it is through. New rings come by a mailbox, which the task at the rings empties first.

use std::fmt;
use std::task::{Context, Poll};

use crate::mailbox::{self, SendError};
use crate::spsc::{self, Consumer, Full, Producer};
use crate::sync::{Arc, AtomicUsize, AtomicWaker, Ordering};
use crate::{Claim, WaitList};

/// Inlets that may be added between two looks of receivers without a detour: far more than there are workers.
const ADDED: usize = 64;

struct Shared<T: Send> {
    outlets: Claim<Outlets<T>>,
    items: WaitList,
    /// Inlets and those who may add some.
    open: AtomicUsize,
}

/// The other end of an inlet.
struct Outlet<T> {
    ring: Consumer<T>,
    /// Wakes the inlet's task when there may be room.
    room: Arc<AtomicWaker>,
}

struct Outlets<T: Send> {
    outlets: Vec<Outlet<T>>,
    /// Those of inlets that were added since the last look; `None` if none can be.
    added: Option<mailbox::Receiver<Outlet<T>>>,
    /// Where to look first next time, so that all workers get their turn.
    next: usize,
}

/// Adds inlets. While it exists more items may come.
pub struct Inlets<T: Send> {
    capacity: usize,
    added: mailbox::Sender<Outlet<T>>,
    shared: Arc<Shared<T>>,
}

/// The side of one worker.
pub struct Inlet<T: Send> {
    ring: Producer<T>,
    room: Arc<AtomicWaker>,
    shared: Arc<Shared<T>>,
}

/// The side of the receiving tasks.
pub struct FanIn<T: Send>(Arc<Shared<T>>);

/// A fan-in whose inlets have room for at least `capacity` items each.
pub fn fan_in<T: Send>(capacity: usize) -> (Inlets<T>, FanIn<T>) {
    let (added, receiver) = mailbox::mailbox(ADDED);
    let shared = Shared::new(Vec::new(), Some(receiver));
    (Inlets { capacity, added, shared: shared.clone() }, FanIn(shared))
}

/// A fan-in with one inlet and never more.
pub fn single<T: Send>(capacity: usize) -> (Inlet<T>, FanIn<T>) {
    let (ring, room, outlet) = ends(capacity);
    let shared = Shared::new(vec![outlet], None);
    (Inlet { ring, room, shared: shared.clone() }, FanIn(shared))
}

/// Both ends of a ring with the waker of the first.
fn ends<T: Send>(capacity: usize) -> (Producer<T>, Arc<AtomicWaker>, Outlet<T>) {
    let (producer, ring) = spsc::channel(capacity);
    let room = Arc::new(AtomicWaker::new());
    (producer, room.clone(), Outlet { ring, room })
}

impl<T: Send> Inlets<T> {
    /// One more inlet.
    pub fn add(&self) -> Inlet<T> {
        let (ring, room, mut outlet) = ends(self.capacity);
        self.shared.open.fetch_add(1, Ordering::Relaxed);
        while let Err(SendError::Full(back) | SendError::Closed(back)) = self.added.send(outlet) {
            outlet = back;
            // As many were added, and nobody has received since. If somebody is at it right now, so is the next attempt.
            self.shared.try_with(Outlets::take_added);
        }
        Inlet { ring, room, shared: self.shared.clone() }
    }
}

impl<T: Send> Drop for Inlets<T> {
    fn drop(&mut self) {
        self.shared.close_one();
    }
}

impl<T: Send> Shared<T> {
    fn new(outlets: Vec<Outlet<T>>, added: Option<mailbox::Receiver<Outlet<T>>>) -> Arc<Shared<T>> {
        let outlets = Claim::new(Outlets { outlets, added, next: 0 });
        Arc::new(Shared { outlets, items: WaitList::default(), open: AtomicUsize::new(1) })
    }

    fn try_with<R>(&self, f: impl FnOnce(&mut Outlets<T>) -> R) -> Option<R> {
        self.outlets.try_with(f, || self.items.notify())
    }

    fn close_one(&self) {
        self.open.fetch_sub(1, Ordering::Release);
        self.items.notify();
    }
}

impl<T: Send> Outlets<T> {
    fn take_added(&mut self) {
        if let Some(added) = &mut self.added {
            self.outlets.extend(added.drain());
        }
    }

    /// An item, and whom to tell that there is room.
    fn pop(&mut self) -> Option<(T, Arc<AtomicWaker>)> {
        self.take_added();
        let count = self.outlets.len();
        for offset in 0..count {
            let index = (self.next + offset) % count;
            let outlet = &mut self.outlets[index];
            if let Some(item) = outlet.ring.pop() {
                self.next = (index + 1) % count;
                return Some((item, outlet.room.clone()));
            }
        }
        // Nobody else refers to the waker of an inlet that is gone; seen gone, all it pushed is seen too.
        self.outlets.retain_mut(|outlet| Arc::get_mut(&mut outlet.room).is_none() || !outlet.ring.is_empty());
        None
    }
}

impl<T: Send> Inlet<T> {
    /// Sends the item in `item`; pending, with the item still there, while there is no room.
    pub fn poll_send(&mut self, cx: &Context<'_>, item: &mut Option<T>) -> Poll<()> {
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
    pub fn poll_recv(&self, cx: &Context<'_>) -> Poll<Option<T>> {
        let shared = &*self.0;
        shared.items.poll(cx.waker(), || {
            // Inlets push first and go after: seen gone, all they pushed is seen too.
            let open = shared.open.load(Ordering::Acquire) > 0;
            match shared.try_with(Outlets::pop)? {
                Some((item, room)) => {
                    room.wake();
                    Some(Some(item))
                }
                None if open => None,
                None => Some(None),
            }
        })
    }
}

impl<T: Send> fmt::Debug for Inlets<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inlets").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

impl<T: Send> fmt::Debug for Inlet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inlet").field("ring", &self.ring).finish_non_exhaustive()
    }
}

impl<T: Send> fmt::Debug for FanIn<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FanIn").field("open", &self.0.open).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Waker;

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

    /// One look, by a task that nobody needs to wake.
    fn recv(outlet: &FanIn<u64>) -> Poll<Option<u64>> {
        outlet.poll_recv(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn inlets_that_come_and_go_unseen_lose_nothing() {
        let (inlets, outlet) = fan_in::<u64>(1);
        let count = 3 * ADDED as u64;
        for i in 0..count {
            let sent = inlets.add().poll_send(&Context::from_waker(Waker::noop()), &mut Some(i));
            assert!(sent.is_ready(), "a new ring has room");
        }
        let mut seen: Vec<_> = (0..count).map(|_| recv(&outlet)).collect();
        seen.sort_by_key(|item| match item {
            Poll::Ready(Some(item)) => *item,
            other => panic!("an item was lost: {other:?}"),
        });
        assert!(seen.iter().eq((0..count).map(|i| Poll::Ready(Some(i))).collect::<Vec<_>>().iter()));
        assert_eq!(recv(&outlet), Poll::Pending);
        assert_eq!(
            outlet.0.try_with(|outlets| outlets.outlets.len()),
            Some(0),
            "rings of inlets that are gone are kept"
        );
        drop(inlets);
        assert_eq!(recv(&outlet), Poll::Ready(None));
    }
}
