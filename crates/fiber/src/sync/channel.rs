//! A bounded channel between fibers of one thread.

use super::list::{List, Node};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Makes a channel that holds up to `capacity` messages; its memory is allocated here.
///
/// ```
/// use warpline_fiber::{Scheduler, Wait, spawn, sync::channel};
/// let scheduler = Scheduler::new(Default::default()).unwrap();
/// let sum = scheduler.run(|| {
///     let (send, receive) = channel(2);
///     spawn(move || (1..=10).for_each(|n| send.send(n).wait().unwrap())).detach();
///     std::iter::from_fn(|| receive.recv().wait().ok()).sum::<u32>()
/// });
/// assert_eq!(sum, 55);
/// ```
///
/// # Panics
/// If the capacity is zero.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a channel holds at least one message");
    let shared = Rc::new(Shared {
        queue: RefCell::new(VecDeque::with_capacity(capacity)),
        capacity,
        senders: Cell::new(1),
        receivers: Cell::new(1),
        sending: List::default(),
        receiving: List::default(),
    });
    (Sender { shared: shared.clone() }, Receiver { shared })
}

struct Shared<T> {
    queue: RefCell<VecDeque<T>>,
    capacity: usize,
    senders: Cell<usize>,
    receivers: Cell<usize>,
    sending: List,
    receiving: List,
}

/// The sending side. The channel is closed when the last one is gone; what is in it can still be received.
pub struct Sender<T> {
    shared: Rc<Shared<T>>,
}

/// The receiving side. With several, each message goes to one of them.
pub struct Receiver<T> {
    shared: Rc<Shared<T>>,
}

/// All receivers are gone; this is the message.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody receives from the channel any more")]
pub struct SendClosed<T>(pub T);

impl<T> fmt::Debug for SendClosed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendClosed(..)")
    }
}

/// The channel is empty and all senders are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the channel is empty and nobody sends to it any more")]
pub struct Closed;

impl<T> Sender<T> {
    /// Sends a message, waiting while the channel is full. Fails with the message if nobody receives. Dropped before it is
    /// ready, the message is dropped too.
    pub fn send(&self, message: T) -> Send<'_, T> {
        Send { shared: &self.shared, message: Some(message), node: Node::new() }
    }
}

impl<T> Receiver<T> {
    /// Receives a message, waiting for one. Fails once the channel is empty and has no senders. Dropped before it is ready,
    /// no message is lost.
    pub fn recv(&self) -> Recv<'_, T> {
        Recv { shared: &self.shared, node: Node::new() }
    }

    /// A message, if there is one now.
    pub fn try_recv(&self) -> Option<T> {
        let message = self.shared.queue.borrow_mut().pop_front()?;
        self.shared.sending.post_first();
        Some(message)
    }

    /// Messages in the channel.
    pub fn len(&self) -> usize {
        self.shared.queue.borrow().len()
    }

    /// Whether the channel is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Waits in `list` until `ready`. A post says "look again": one message or one free place per post.
fn poll_in<R>(
    list: &List,
    node: Pin<&Node>,
    context: &mut Context<'_>,
    mut ready: impl FnMut() -> Option<R>,
) -> Poll<R> {
    loop {
        if let Some(result) = ready() {
            list.remove(&node);
            node.baton.reset();
            return Poll::Ready(result);
        }
        if !node.is_queued() {
            // A post was there, and another one took what it was for.
            node.baton.reset();
            list.push(node);
        }
        if node.baton.poll_wait(context).is_pending() {
            return Poll::Pending;
        }
    }
}

/// Gives up a place in a list, and hands on the post that came for it.
fn leave(list: &List, node: &Node) {
    if !list.remove(node) && node.baton.try_wait() {
        list.post_first();
    }
}

/// A message on its way into a channel.
#[must_use = "nothing happens until it is waited for"]
pub struct Send<'a, T> {
    shared: &'a Shared<T>,
    message: Option<T>,
    node: Node,
}

impl<T> Future for Send<'_, T> {
    type Output = Result<(), SendClosed<T>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the node is not moved; the message is not pinned.
        let this = unsafe { self.get_unchecked_mut() };
        let (shared, message) = (this.shared, &mut this.message);
        // SAFETY: the node is a field of a pinned future.
        let node = unsafe { Pin::new_unchecked(&this.node) };
        poll_in(&shared.sending, node, context, || {
            if shared.receivers.get() == 0 {
                return Some(message.take().map_or(Ok(()), |message| Err(SendClosed(message))));
            }
            let mut queue = shared.queue.borrow_mut();
            if queue.len() == shared.capacity {
                return None;
            }
            queue.extend(message.take());
            drop(queue);
            shared.receiving.post_first();
            Some(Ok(()))
        })
    }
}

impl<T> Drop for Send<'_, T> {
    fn drop(&mut self) {
        leave(&self.shared.sending, &self.node);
    }
}

/// A message on its way out of a channel.
#[must_use = "nothing happens until it is waited for"]
pub struct Recv<'a, T> {
    shared: &'a Shared<T>,
    node: Node,
}

impl<T> Future for Recv<'_, T> {
    type Output = Result<T, Closed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = self.shared;
        // SAFETY: the node is a field of a pinned future, which does not move it.
        let node = unsafe { self.as_ref().map_unchecked(|this| &this.node) };
        poll_in(&shared.receiving, node, context, || {
            if let Some(message) = shared.queue.borrow_mut().pop_front() {
                shared.sending.post_first();
                return Some(Ok(message));
            }
            (shared.senders.get() == 0).then_some(Err(Closed))
        })
    }
}

impl<T> Drop for Recv<'_, T> {
    fn drop(&mut self) {
        leave(&self.shared.receiving, &self.node);
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.shared.senders.set(self.shared.senders.get() + 1);
        Sender { shared: self.shared.clone() }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.shared.receivers.set(self.shared.receivers.get() + 1);
        Receiver { shared: self.shared.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.senders.set(self.shared.senders.get() - 1);
        if self.shared.senders.get() == 0 {
            while self.shared.receiving.post_first() {}
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.set(self.shared.receivers.get() - 1);
        if self.shared.receivers.get() == 0 {
            // Messages are dropped now: they may hold what their senders wait for.
            let messages = std::mem::take(&mut *self.shared.queue.borrow_mut());
            drop(messages);
            while self.shared.sending.post_first() {}
        }
    }
}

macro_rules! debug_as_name {
    ($($name:ident $(<$life:lifetime>)?),+) => {$(
        impl<$($life,)? T> fmt::Debug for $name<$($life,)? T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let len = self.shared.queue.borrow().len();
                f.debug_struct(stringify!($name)).field("len", &len).finish_non_exhaustive()
            }
        }
    )+};
}
debug_as_name!(Sender, Receiver, Send<'a>, Recv<'a>);
