//! The worker's side of a connection that is used on other threads: one task that holds the connection for them, brings
//! what the peer opens and sends, and takes what they want of it.

use crate::limits::{ACCEPT_STREAMS, RECV_DATAGRAMS, SEND_DATAGRAMS};
use crate::local;
use crate::remote::{RecvStream, SendStream, recv, send};
use crate::sync::{FanIn, Inlet, WaitList, fan_in};
use crate::{Chunk, ConnectionError};
use futures_util::task::AtomicWaker;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use warpline_ring::mailbox;

/// No datagram can be sent.
const NO_DATAGRAMS: usize = 0;

/// What the keeper and the handles share.
#[derive(Default)]
pub(super) struct Shared {
    /// Wakes the keeper when any of the following changes.
    keeper: AtomicWaker,
    /// Nobody holds a handle any more.
    released: AtomicBool,
    /// What to close the connection with, once that was asked for.
    close: OnceLock<(u64, Vec<u8>)>,
    /// Whether anybody has asked for bidirectional streams, unidirectional streams, datagrams.
    wanted: [AtomicBool; 3],
    /// How the connection ended.
    ended: OnceLock<ConnectionError>,
    ending: WaitList,
    /// The longest datagram that can be sent, in bytes.
    datagram_max: AtomicUsize,
    /// For room in the mailbox of datagrams.
    room: WaitList,
}

/// What the peer may bring; an index of `Shared::wanted`.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Bi,
    Uni,
    Datagram,
}

impl Shared {
    pub(super) fn release(&self) {
        self.released.store(true, Ordering::Release);
        self.keeper.wake();
    }

    pub(super) fn close(&self, code: u64, reason: &[u8]) {
        // The first request counts.
        let _ = self.close.set((code, reason.to_vec()));
        self.keeper.wake();
    }

    pub(super) fn want(&self, kind: Kind) {
        let wanted = &self.wanted[kind as usize];
        if !wanted.load(Ordering::Relaxed) {
            wanted.store(true, Ordering::Release);
            self.keeper.wake();
        }
    }

    pub(super) fn ended(&self) -> Option<&ConnectionError> {
        self.ended.get()
    }

    pub(super) fn poll_ended(&self, cx: &Context<'_>) -> Poll<ConnectionError> {
        self.ending.poll(cx, || self.ended.get().cloned())
    }

    pub(super) fn datagram_max(&self) -> Option<usize> {
        match self.datagram_max.load(Ordering::Relaxed) {
            NO_DATAGRAMS => None,
            max => Some(max),
        }
    }

    /// Calls `attempt` until it gives something; while it does not, waits for room.
    pub(super) fn poll_room<R>(&self, cx: &Context<'_>, attempt: impl FnMut() -> Option<R>) -> Poll<R> {
        self.room.poll(cx, attempt)
    }

    /// There is something in the mailbox of datagrams.
    pub(super) fn wake_keeper(&self) {
        self.keeper.wake();
    }

    fn end(&self, error: ConnectionError) {
        // The first to say it is right.
        let _ = self.ended.set(error);
        self.ending.notify();
        self.room.notify();
    }
}

/// The handles' ends of the queues.
pub(super) struct Outlets {
    pub(super) bi: FanIn<(SendStream, RecvStream)>,
    pub(super) uni: FanIn<RecvStream>,
    pub(super) datagrams: FanIn<Chunk>,
    pub(super) outbox: mailbox::Sender<Chunk>,
}

/// A queue to the handles, and what did not fit.
struct Feed<T: Send> {
    /// `None` once nothing more will come.
    inlet: Option<Inlet<T>>,
    held: Option<T>,
}

impl<T: Send> Feed<T> {
    fn new(capacity: usize) -> (Self, FanIn<T>) {
        let (mut inlets, outlet) = fan_in(1, capacity);
        (Self { inlet: inlets.pop(), held: None }, outlet)
    }

    /// Moves what there is; stops when there is nothing, when there is no room, or for good.
    fn pump(&mut self, cx: &Context<'_>, mut next: impl FnMut(&Context<'_>) -> Poll<Option<T>>) {
        while let Some(inlet) = &mut self.inlet {
            if inlet.poll_send(cx, &mut self.held).is_pending() {
                return;
            }
            match next(cx) {
                Poll::Ready(Some(item)) => self.held = Some(item),
                Poll::Ready(None) => self.inlet = None,
                Poll::Pending => return,
            }
        }
    }
}

/// The task.
struct Keeper {
    conn: local::Connection,
    shared: Arc<Shared>,
    bi: Feed<(SendStream, RecvStream)>,
    uni: Feed<RecvStream>,
    datagrams: Feed<Chunk>,
    outbox: mailbox::Receiver<Chunk>,
    /// Taken from the outbox and not yet sent.
    unsent: VecDeque<Chunk>,
}

/// Starts the keeper of a connection, on its worker.
pub(super) fn start(conn: local::Connection, shared: Arc<Shared>) -> Result<Outlets, crate::engine::EngineError> {
    let (bi, bi_outlet) = Feed::new(ACCEPT_STREAMS);
    let (uni, uni_outlet) = Feed::new(ACCEPT_STREAMS);
    let (datagrams, datagram_outlet) = Feed::new(RECV_DATAGRAMS);
    let (sender, outbox) = mailbox::mailbox(SEND_DATAGRAMS);
    shared.datagram_max.store(conn.max_datagram_size().unwrap_or(NO_DATAGRAMS), Ordering::Relaxed);
    let mut keeper = Keeper { conn, shared, bi, uni, datagrams, outbox, unsent: VecDeque::new() };
    local::spawn_detached(poll_fn(move |cx| keeper.poll(cx)))?;
    Ok(Outlets { bi: bi_outlet, uni: uni_outlet, datagrams: datagram_outlet, outbox: sender })
}

impl Keeper {
    /// Ready when nobody holds a handle any more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.keeper.register(cx.waker());
        if self.shared.released.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        if self.shared.ended.get().is_none() {
            if let Some((code, reason)) = self.shared.close.get() {
                self.conn.close(*code, reason);
            }
            if let Poll::Ready(error) = self.conn.poll_closed(cx) {
                self.shared.end(error);
            }
        }
        self.send_datagrams(cx);
        let conn = &self.conn;
        if self.wanted(Kind::Bi) {
            self.bi.pump(cx, |cx| conn.poll_accept_bi(cx).map(|pair| export_pair(pair.ok()?)));
        }
        if self.wanted(Kind::Uni) {
            self.uni.pump(cx, |cx| conn.poll_accept_uni(cx).map(|stream| recv::export(stream.ok()?).ok()));
        }
        if self.wanted(Kind::Datagram) {
            self.datagrams.pump(cx, |cx| conn.poll_recv_datagram(cx).map(Result::ok));
        }
        Poll::Pending
    }

    fn wanted(&self, kind: Kind) -> bool {
        self.shared.wanted[kind as usize].load(Ordering::Acquire)
    }

    fn send_datagrams(&mut self, cx: &Context<'_>) {
        loop {
            while let Some(datagram) = self.unsent.front() {
                match self.conn.poll_send_datagram(cx, datagram) {
                    // What has become too long for the path is lost, as datagrams may be.
                    Poll::Ready(_) => drop(self.unsent.pop_front()),
                    Poll::Pending => return,
                }
            }
            self.unsent.extend(self.outbox.drain());
            if self.unsent.is_empty() {
                return;
            }
            let max = self.conn.max_datagram_size().unwrap_or(NO_DATAGRAMS);
            self.shared.datagram_max.store(max, Ordering::Relaxed);
            self.shared.room.notify();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.end(self.conn.close_reason().unwrap_or(ConnectionError::LocallyClosed));
    }
}

/// The handles of a stream for other threads; `None` only when the worker is ending.
pub(super) fn export_pair(pair: (local::SendStream, local::RecvStream)) -> Option<(SendStream, RecvStream)> {
    Some((send::export(pair.0).ok()?, recv::export(pair.1).ok()?))
}
