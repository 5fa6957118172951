//! Streams: their data, states, windows, and who sends next (RFC 9000 sections 2 to 4).
//!
//! Streams live in a slab whose slots keep their buffers, so that a connection which opens a million streams one after the
//! other allocates for the first few only.

mod anew;
mod api;
mod assembler;
mod egress;
mod error;
mod flow;
mod ingress;
mod limits;
mod recv;
mod scheduler;
mod send;
mod settle;
mod state;

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use warpline_frame::prefetch;
use warpline_wire::{Dir, Side, StreamId, TransportParameters};

pub(crate) use self::error::StreamError;
pub use self::error::{ClosedStream, ReadError, ResetAtError, WriteError};
pub(crate) use self::flow::stream_share;
use self::flow::{ReceiveWindow, SendCredit};
use self::recv::RecvHalf;
use self::scheduler::Scheduler;
use self::send::{SendHalf, Spares};
use crate::config::TransportConfig;
use crate::event::Event;

/// What a packet carried of a stream. `slot` and `generation` name it: a token that outlives its stream means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// STREAM data, and perhaps the end.
    Data { slot: Slot, offset: u64, len: u16, fin: bool },
    /// MAX_DATA.
    MaxData,
    /// MAX_STREAM_DATA.
    MaxStreamData(Slot),
    /// MAX_STREAMS.
    MaxStreams(Dir),
    /// RESET_STREAM.
    Reset(Slot),
    /// RESET_STREAM_AT with this reliable size.
    ResetAt(Slot, u64),
    /// STOP_SENDING.
    StopSending(Slot),
}

/// A place in the slab, at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    index: u32,
    generation: u16,
}

/// One stream, or a free slot.
#[derive(Debug)]
struct Stream {
    id: StreamId,
    generation: u16,
    live: bool,
    send: Option<SendHalf>,
    recv: Option<RecvHalf>,
    priority: i32,
    /// Some of its data came as early data.
    early: bool,
    /// Stands in the scheduler.
    queued: bool,
    /// Stands among the starved; outlives the stream in its slot.
    starved: bool,
    pending: Pending,
}

/// Frames that are to be sent for a stream.
#[derive(Clone, Copy, Debug, Default)]
struct Pending {
    listed: bool,
    max_data: bool,
    reset: bool,
    reset_at: bool,
    /// Code of a STOP_SENDING.
    stop: Option<u64>,
}

/// Streams of one direction that one side opens.
#[derive(Debug, Default)]
struct Opened {
    /// Streams opened so far.
    count: u64,
    /// How many may be opened in all.
    max: u64,
}

/// Streams that the peer opens in one direction.
#[derive(Debug, Default)]
struct Accepted {
    opened: Opened,
    /// Streams handed to the application.
    accepted: u64,
    /// Streams that may be open at once.
    concurrent: u64,
    closed: u64,
    /// StreamOpened was emitted and `accept` has not yet said `None`.
    announced: bool,
}

/// The peer's limits for windows of new streams.
#[derive(Clone, Copy, Debug, Default)]
struct PeerWindows {
    bidi_local: u64,
    bidi_remote: u64,
    uni: u64,
    /// RESET_STREAM_AT is understood.
    reset_stream_at: bool,
}

/// All streams of a connection. First what every packet looks at, then what packets with stream data do, then what only the
/// opening and the end of streams need.
#[repr(C)]
pub(crate) struct Streams {
    control: Control,
    events: VecDeque<Event>,
    sending: Sending,
    last: Option<(StreamId, u32)>,
    slab: Vec<Stream>,
    window: ReceiveWindow,
    /// Sum of the highest offsets of all streams.
    received: u64,
    /// Gaps in the data of all streams, at least.
    gaps: usize,
    by_id: HashMap<u64, u32, FixedState>,
    free: Vec<u32>,
    /// Streams this side opens, by direction.
    local: [Opened; 2],
    local_blocked: [bool; 2],
    side: Side,
    remote: [Accepted; 2],
    peer: PeerWindows,
    config: Arc<TransportConfig>,
}

/// The sending side of all streams together.
#[derive(Default)]
#[repr(C)]
struct Sending {
    scheduler: Scheduler,
    credit: SendCredit,
    /// Streams with new data that only the connection's window holds back.
    starved: Vec<u32>,
    /// Bytes written and not acknowledged.
    buffered: u64,
    /// Streams whose write said `Blocked` for want of room in the connection's send buffer.
    blocked_writers: VecDeque<u32>,
    spares: Spares,
    retransmitted: u64,
}

/// Control frames to send.
#[derive(Default)]
struct Control {
    max_data: bool,
    max_streams: [bool; 2],
    /// Streams with `pending` frames.
    streams: VecDeque<u32>,
}

#[inline]
fn at(dir: Dir) -> usize {
    match dir {
        Dir::Bi => 0,
        Dir::Uni => 1,
    }
}

const DIRS: [Dir; 2] = [Dir::Bi, Dir::Uni];

impl Streams {
    /// None yet. `seed` keys the hash of the table.
    pub(crate) fn new(side: Side, config: &Arc<TransportConfig>, seed: u64) -> Self {
        let accepted =
            |concurrent| Accepted { opened: Opened { count: 0, max: concurrent }, concurrent, ..Accepted::default() };
        Self {
            side,
            config: Arc::clone(config),
            slab: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::with_hasher(FixedState::with_seed(seed)),
            last: None,
            local: Default::default(),
            local_blocked: [false; 2],
            remote: [accepted(config.max_concurrent_bidi), accepted(config.max_concurrent_uni)],
            window: ReceiveWindow::new(config.connection_window, config.connection_window_max),
            received: 0,
            gaps: 0,
            sending: Sending::default(),
            peer: PeerWindows::default(),
            control: Control::default(),
            events: VecDeque::new(),
        }
    }

    /// Bytes from the beginning that every packet looks at.
    pub(crate) const HEAD: usize =
        core::mem::offset_of!(Self, sending) + core::mem::offset_of!(Sending, scheduler) + size_of::<Scheduler>();

    /// Has what packets with stream data look at brought into the caches, with the stream that was used last, or its slot; if there was
    /// any stream lately.
    #[inline]
    pub(crate) fn prefetch(&self) {
        if self.slab.is_empty() {
            return;
        }
        prefetch(self);
        if let Some(stream) = self.last.and_then(|(_, at)| self.slab.get(at as usize)) {
            prefetch(stream);
        }
    }

    /// Takes the peer's limits; a second call may only raise them (RFC 9001 section 4.6.1).
    pub(crate) fn set_peer_params(&mut self, params: &TransportParameters) {
        self.peer = PeerWindows {
            bidi_local: params.initial_max_stream_data_bidi_local,
            bidi_remote: params.initial_max_stream_data_bidi_remote,
            uni: params.initial_max_stream_data_uni,
            reset_stream_at: params.reset_stream_at,
        };
        self.on_max_data(params.initial_max_data);
        self.raise_local(Dir::Bi, params.initial_max_streams_bidi);
        self.raise_local(Dir::Uni, params.initial_max_streams_uni);
        for index in 0..self.slab.len() as u32 {
            let (id, live) = (self.slab[index as usize].id, self.slab[index as usize].live);
            if live {
                let max = self.send_window_of(id);
                self.raise_stream(index, max);
            }
        }
    }

    /// The window that the peer gives a new stream.
    fn send_window_of(&self, id: StreamId) -> u64 {
        match (id.dir(), id.initiator() == self.side) {
            (Dir::Uni, _) => self.peer.uni,
            // "Local" and "remote" are the peer's words (RFC 9000 section 18.2).
            (Dir::Bi, true) => self.peer.bidi_remote,
            (Dir::Bi, false) => self.peer.bidi_local,
        }
    }

    #[inline]
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes of stream data that were sent again.
    pub(crate) fn retransmitted_bytes(&self) -> u64 {
        self.sending.retransmitted
    }

    #[inline]
    fn find(&mut self, id: StreamId) -> Option<u32> {
        if let Some((last, index)) = self.last
            && last == id
        {
            return Some(index);
        }
        let index = *self.by_id.get(&id.0)?;
        self.last = Some((id, index));
        Some(index)
    }

    #[inline]
    fn stream(&mut self, index: u32) -> &mut Stream {
        &mut self.slab[index as usize]
    }

    #[inline]
    fn at_slot(&mut self, slot: Slot) -> Option<&mut Stream> {
        self.slab.get_mut(slot.index as usize).filter(|s| s.live && s.generation == slot.generation)
    }

    #[inline]
    fn slot(&self, index: u32) -> Slot {
        Slot { index, generation: self.slab[index as usize].generation }
    }

    /// Makes the stream `id` in a free slot.
    fn insert(&mut self, id: StreamId) -> u32 {
        let mine = id.initiator() == self.side;
        let (sends, receives) = (id.dir() == Dir::Bi || mine, id.dir() == Dir::Bi || !mine);
        let max_data = self.send_window_of(id);
        let (window, window_max) = (self.config.first_stream_window(), self.config.stream_window_max);
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slab.push(Stream {
                    id,
                    generation: 0,
                    live: false,
                    send: None,
                    recv: None,
                    priority: 0,
                    early: false,
                    queued: false,
                    starved: false,
                    pending: Pending::default(),
                });
                (self.slab.len() - 1) as u32
            }
        };
        let stream = &mut self.slab[index as usize];
        stream.id = id;
        stream.live = true;
        stream.priority = 0;
        stream.early = false;
        match (&mut stream.send, sends) {
            (Some(send), true) => send.recycle(max_data, &mut self.sending.spares),
            (send, _) => *send = sends.then(|| SendHalf::new(max_data)),
        }
        match (&mut stream.recv, receives) {
            (Some(recv), true) => recv.recycle(window, window_max),
            (recv, _) => *recv = receives.then(|| RecvHalf::new(window, window_max)),
        }
        self.by_id.insert(id.0, index);
        index
    }

    /// Frees the slot of a stream whose halves are both over.
    #[inline]
    fn maybe_free(&mut self, index: u32) {
        let stream = &mut self.slab[index as usize];
        let sent = stream.send.as_ref().is_none_or(|s| s.state.is_terminal());
        let received = stream.recv.as_ref().is_none_or(|r| r.state.is_terminal());
        if !stream.live || !sent || !received || stream.queued || stream.pending.listed {
            return;
        }
        stream.live = false;
        stream.generation = stream.generation.wrapping_add(1);
        let id = stream.id;
        self.by_id.remove(&id.0);
        if self.last.is_some_and(|(last, _)| last == id) {
            self.last = None;
        }
        self.free.push(index);
        if id.initiator() != self.side {
            let remote = &mut self.remote[at(id.dir())];
            remote.closed += 1;
            let owed = remote.closed + remote.concurrent - remote.opened.max;
            // A peer that has used up its streams hears at once, any other in batches.
            if owed >= (remote.concurrent / 8).max(1) || remote.opened.count == remote.opened.max {
                self.control.max_streams[at(id.dir())] = true;
            }
        }
    }

    /// Puts a stream into the scheduler if it has something to send and is not there.
    #[inline]
    fn enqueue(&mut self, index: u32) {
        let credit = self.sending.credit.left();
        let stream = &mut self.slab[index as usize];
        let Some(send) = stream.send.as_ref() else { return };
        if stream.queued {
            return;
        }
        if send.is_sendable(credit) {
            stream.queued = true;
            self.sending.scheduler.push(index, stream.priority);
        } else if send.wants_credit() && !std::mem::replace(&mut stream.starved, true) {
            self.sending.starved.push(index);
        }
    }

    /// Whether there is memory that streams are in, or have left behind.
    #[inline]
    pub(crate) fn holds_slots(&self) -> bool {
        !self.slab.is_empty()
    }

    /// Gives back the memory that streams left behind. Only while nothing of a stream is under way: slots begin anew, and a token of
    /// an earlier time would name another stream.
    pub(crate) fn shrink(&mut self) {
        self.sending.spares = Spares::new();
        self.sending.starved.retain(|index| self.slab[*index as usize].live);
        self.sending.starved.shrink_to_fit();
        self.sending.blocked_writers.shrink_to_fit();
        self.control.streams.shrink_to_fit();
        self.events.shrink_to_fit();
        for stream in self.slab.iter_mut().filter(|s| !s.live) {
            (stream.send, stream.recv) = (None, None);
            stream.starved = false;
        }
        if self.by_id.is_empty() && self.slab.iter().all(|s| !s.live && !s.queued && !s.pending.listed) {
            self.sending.blocked_writers.clear();
            self.slab = Vec::new();
            self.free = Vec::new();
        }
        self.by_id.shrink_to_fit();
        self.sending.scheduler.shrink();
    }

    /// Lists a stream that has control frames to send.
    fn list(&mut self, index: u32) {
        let pending = &mut self.slab[index as usize].pending;
        if !pending.listed {
            pending.listed = true;
            self.control.streams.push_back(index);
        }
    }
}
