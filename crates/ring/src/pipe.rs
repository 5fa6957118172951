//! A bounded stream of items from one task to another, on whatever threads they are: a ring, and a waker on each side.

use std::fmt;
use std::task::{Context, Poll};

use crate::spsc::{self, Consumer, Producer};
use crate::sync::{Arc, AtomicU8, AtomicWaker, Ordering};

const SENDER_GONE: u8 = 1;
const RECEIVER_GONE: u8 = 2;

struct Shared {
    gone: AtomicU8,
    sender: AtomicWaker,
    receiver: AtomicWaker,
}

/// The side that sends.
pub struct Sender<T: Send> {
    ring: Producer<T>,
    /// Items pushed since the receiver was woken.
    quiet: usize,
    shared: Arc<Shared>,
}

/// The side that receives.
pub struct Receiver<T: Send> {
    ring: Consumer<T>,
    /// Items taken since the sender was woken, and after how many it is: half the ring.
    taken: usize,
    wake_after: usize,
    shared: Arc<Shared>,
}

/// A pipe with room for at least `capacity` items.
pub fn pipe<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (producer, consumer) = spsc::channel(capacity);
    let shared = Arc::new(Shared { gone: AtomicU8::new(0), sender: AtomicWaker::new(), receiver: AtomicWaker::new() });
    let wake_after = (producer.capacity() / 2).max(1);
    let sender = Sender { ring: producer, quiet: 0, shared: Arc::clone(&shared) };
    (sender, Receiver { ring: consumer, taken: 0, wake_after, shared })
}

impl<T: Send> Sender<T> {
    /// Pushes the item in `item`, without waking the receiver: [`flush`](Self::flush) does, and so does a ring that is
    /// full. Pending, with the item still there, while there is no room.
    pub fn poll_push(&mut self, cx: &Context<'_>, item: &mut Option<T>) -> Poll<()> {
        if item.is_none() {
            return Poll::Ready(());
        }
        self.poll_push_with(cx, || item.take())
    }

    /// The same with an item that is made only if there is room.
    pub fn poll_push_with(&mut self, cx: &Context<'_>, mut make: impl FnMut() -> Option<T>) -> Poll<()> {
        if self.push(&mut make) {
            return Poll::Ready(());
        }
        self.flush();
        self.shared.sender.register(cx.waker());
        if self.push(&mut make) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn push(&mut self, make: &mut impl FnMut() -> Option<T>) -> bool {
        let pushed = self.ring.push_batch(&mut std::iter::from_fn(make).take(1));
        self.quiet += pushed;
        pushed > 0
    }

    /// Wakes the receiver if something was pushed since the last time.
    pub fn flush(&mut self) {
        if std::mem::take(&mut self.quiet) > 0 {
            self.shared.receiver.wake();
        }
    }

    /// Has the task woken when the receiver makes room or goes away.
    pub fn register(&self, cx: &Context<'_>) {
        self.shared.sender.register(cx.waker());
    }

    /// Whether nobody receives any more.
    pub fn is_closed(&self) -> bool {
        self.shared.gone.load(Ordering::Acquire) & RECEIVER_GONE != 0
    }
}

impl<T: Send> Receiver<T> {
    /// The next item; `None` once the sender is gone and everything was taken.
    pub fn poll_pop(&mut self, cx: &Context<'_>) -> Poll<Option<T>> {
        if let Some(item) = self.pop() {
            return Poll::Ready(Some(item));
        }
        self.shared.receiver.register(cx.waker());
        // The sender pushes first and goes after: seen gone, all it pushed is seen too.
        let gone = self.shared.gone.load(Ordering::Acquire) & SENDER_GONE != 0;
        match self.pop() {
            Some(item) => Poll::Ready(Some(item)),
            None if gone => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// The next item if one is there. The sender is woken when half of the ring was taken or nothing is left, so that
    /// it fills many places at a time.
    pub fn pop(&mut self) -> Option<T> {
        let item = self.ring.pop();
        self.taken += usize::from(item.is_some());
        if self.taken >= self.wake_after || (item.is_none() && self.taken > 0) {
            self.taken = 0;
            self.shared.sender.wake();
        }
        item
    }
}

impl<T: Send> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.gone.fetch_or(SENDER_GONE, Ordering::Release);
        self.shared.receiver.wake();
    }
}

impl<T: Send> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.gone.fetch_or(RECEIVER_GONE, Ordering::Release);
        self.shared.sender.wake();
    }
}

impl<T: Send> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("ring", &self.ring).finish_non_exhaustive()
    }
}

impl<T: Send> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("ring", &self.ring).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn items_come_in_order_through_a_small_ring() {
        let (mut sender, mut receiver) = pipe(4);
        let task = tokio::spawn(async move {
            for i in 0..20_000_u32 {
                let mut item = Some(i);
                poll_fn(|cx| sender.poll_push(cx, &mut item)).await;
                if i % 3 == 0 {
                    sender.flush();
                }
            }
        });
        for i in 0..20_000 {
            assert_eq!(poll_fn(|cx| receiver.poll_pop(cx)).await, Some(i));
        }
        assert_eq!(poll_fn(|cx| receiver.poll_pop(cx)).await, None);
        task.await.expect("the sender does not panic");
    }

    #[tokio::test]
    async fn a_sender_learns_that_the_receiver_is_gone() {
        let (sender, receiver) = pipe::<u32>(4);
        assert!(!sender.is_closed());
        let wait = tokio::spawn(poll_fn(move |cx| {
            sender.register(cx);
            if sender.is_closed() { Poll::Ready(()) } else { Poll::Pending }
        }));
        tokio::task::yield_now().await;
        drop(receiver);
        wait.await.expect("the waiter does not panic");
    }
}
