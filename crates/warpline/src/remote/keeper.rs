//! The worker's side of a connection that is used on other threads: one task that holds the connection for them, brings
//! what the peer opens and sends, and takes what they want of it. The task and those of its streams move with the
//! connection when that goes to another worker; the handles do not notice.

use crate::limits::{ACCEPT_STREAMS, ASKS, RECV_DATAGRAMS, SEND_DATAGRAMS};
use crate::local::{self, Roaming};
use crate::remote::connection::Facts;
use crate::remote::{RecvStream, SendStream, recv, send};
use crate::{Chunk, ConnectionError, EngineError, OperationError};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use warpline_ring::fan_in::{FanIn, Inlet, single};
use warpline_ring::mailbox;
use warpline_ring::oneshot::Reply;
use warpline_ring::{AtomicWaker, WaitList};

/// No datagram can be sent.
const NO_DATAGRAMS: usize = 0;

/// A look at the connection, where it is.
type Question = Box<dyn FnOnce(&local::Connection<Roaming>) + Send>;

/// Something that is asked of the connection once.
pub(super) enum Ask {
    OpenBi(Reply<Result<(SendStream, RecvStream), OperationError>>),
    OpenUni(Reply<Result<SendStream, OperationError>>),
    /// What the handshake settles, once it is complete.
    Handshake(Reply<Result<Facts, OperationError>>),
    /// Answered at once.
    Question(Question),
}

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
    /// For room in the mailboxes.
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
        self.ending.poll(cx.waker(), || self.ended.get().cloned())
    }

    pub(super) fn datagram_max(&self) -> Option<usize> {
        match self.datagram_max.load(Ordering::Relaxed) {
            NO_DATAGRAMS => None,
            max => Some(max),
        }
    }

    /// Calls `attempt` until it gives something; while it does not, waits for room.
    pub(super) fn poll_room<R>(&self, cx: &Context<'_>, attempt: impl FnMut() -> Option<R>) -> Poll<R> {
        self.room.poll(cx.waker(), attempt)
    }

    /// There is something in a mailbox.
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
    pub(super) asks: mailbox::Sender<Ask>,
}

/// A queue to the handles, and what did not fit.
struct Feed<T: Send> {
    /// `None` once nothing more will come.
    inlet: Option<Inlet<T>>,
    held: Option<T>,
}

impl<T: Send> Feed<T> {
    fn new(capacity: usize) -> (Self, FanIn<T>) {
        let (inlet, outlet) = single(capacity);
        (Self { inlet: Some(inlet), held: None }, outlet)
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
    conn: local::Connection<Roaming>,
    shared: Arc<Shared>,
    bi: Feed<(SendStream, RecvStream)>,
    uni: Feed<RecvStream>,
    datagrams: Feed<Chunk>,
    outbox: mailbox::Receiver<Chunk>,
    /// Taken from the outbox and not yet sent.
    unsent: VecDeque<Chunk>,
    asks: mailbox::Receiver<Ask>,
    /// Who waits for streams, first come first served.
    opening_bi: VecDeque<Reply<Result<(SendStream, RecvStream), OperationError>>>,
    opening_uni: VecDeque<Reply<Result<SendStream, OperationError>>>,
    /// Who waits for the handshake.
    awaiting: VecDeque<Reply<Result<Facts, OperationError>>>,
}

/// Starts the keeper of a connection, on its worker. It goes where the connection goes.
pub(super) fn start(conn: local::Connection, shared: Arc<Shared>) -> Result<Outlets, EngineError> {
    let (bi, bi_outlet) = Feed::new(ACCEPT_STREAMS);
    let (uni, uni_outlet) = Feed::new(ACCEPT_STREAMS);
    let (datagrams, datagram_outlet) = Feed::new(RECV_DATAGRAMS);
    let (sender, outbox) = mailbox::mailbox(SEND_DATAGRAMS);
    let (ask_sender, asks) = mailbox::mailbox(ASKS);
    shared.datagram_max.store(conn.max_datagram_size().unwrap_or(NO_DATAGRAMS), Ordering::Relaxed);
    let mut keeper = Keeper {
        conn: conn.into_roaming(),
        shared,
        bi,
        uni,
        datagrams,
        outbox,
        unsent: VecDeque::new(),
        asks,
        opening_bi: VecDeque::new(),
        opening_uni: VecDeque::new(),
        awaiting: VecDeque::new(),
    };
    local::spawn_roaming(keeper.conn.key(), poll_fn(move |cx| keeper.poll(cx)))?;
    Ok(Outlets { bi: bi_outlet, uni: uni_outlet, datagrams: datagram_outlet, outbox: sender, asks: ask_sender })
}

impl Keeper {
    /// Ready when nobody holds a handle any more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.keeper.register(cx.waker());
        let released = self.shared.released.load(Ordering::Acquire);
        if self.shared.ended.get().is_none() {
            // Also if the handle was dropped right after: what it said counts, not that it went.
            if let Some((code, reason)) = self.shared.close.get() {
                self.conn.close(*code, reason);
            }
            if let Poll::Ready(error) = self.conn.poll_closed(cx) {
                self.shared.end(error);
            }
        }
        if released {
            return Poll::Ready(());
        }
        self.send_datagrams(cx);
        self.answer(cx);
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

    /// Answers what can be answered now.
    fn answer(&mut self, cx: &Context<'_>) {
        let mut any = false;
        for ask in self.asks.drain() {
            any = true;
            match ask {
                Ask::OpenBi(reply) => self.opening_bi.push_back(reply),
                Ask::OpenUni(reply) => self.opening_uni.push_back(reply),
                Ask::Handshake(reply) => self.awaiting.push_back(reply),
                Ask::Question(question) => question(&self.conn),
            }
        }
        if any {
            self.shared.room.notify();
        }
        serve(&mut self.opening_bi, || {
            self.conn.poll_open_bi(cx).map(|pair| export_pair(pair?).ok_or(EngineError::Stopped.into()))
        });
        serve(&mut self.awaiting, || settled(&self.conn, cx));
        serve(&mut self.opening_uni, || self.conn.poll_open_uni(cx).map(|stream| Ok(send::export(stream?)?)));
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

/// What the handshake settled, once it is complete.
fn settled(conn: &local::Connection<Roaming>, cx: &Context<'_>) -> Poll<Result<Facts, OperationError>> {
    conn.poll_handshake(cx).map(|done| done.and_then(|()| Facts::of(conn)))
}

/// Serves those who wait, in their order, as long as there is something for them. Who has given up is left out.
fn serve<T: Send>(waiting: &mut VecDeque<Reply<T>>, mut next: impl FnMut() -> Poll<T>) {
    loop {
        while waiting.front().is_some_and(|reply| !reply.is_wanted()) {
            waiting.pop_front();
        }
        if waiting.is_empty() {
            return;
        }
        let Poll::Ready(item) = next() else { return };
        if let Some(reply) = waiting.pop_front() {
            reply.send(item);
        }
    }
}

/// The handles of a stream for other threads; `None` only when the worker is ending.
fn export_pair(pair: (local::SendStream<Roaming>, local::RecvStream<Roaming>)) -> Option<(SendStream, RecvStream)> {
    Some((send::export(pair.0).ok()?, recv::export(pair.1).ok()?))
}
