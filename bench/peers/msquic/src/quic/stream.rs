//! Streams.

use std::ffi::c_void;
use std::marker::PhantomData;

use msquic::ffi::{self, HQUIC, QUIC_BUFFER, QUIC_STATUS, QUIC_STREAM_EVENT};
use warpline_peer_kit::Result;

use super::data::Outgoing;
use super::{Connection, Payload, TAKEN, api, check};

/// What a stream's owner is told, one at a time and never while its connection's handler runs.
pub trait StreamHandler: Send + 'static {
    /// Something has happened on `stream`.
    fn event(&mut self, stream: &Stream<'_>, event: StreamEvent<'_>);
}

/// What can happen on a stream.
#[derive(Debug)]
pub enum StreamEvent<'a> {
    /// Bytes have come.
    Received(Received<'a>),
    /// The peer has sent everything.
    Ended,
    /// The peer has acknowledged a send. `bytes` is its length, 0 for a [`Payload`].
    Sent {
        /// Length.
        bytes: u32,
        /// The stream ended before it could be sent.
        canceled: bool,
    },
    /// As many bytes of sends should wait in msquic, so that it never waits for them.
    Ideal(u64),
    /// The peer does not go on, in one of the directions.
    Aborted,
    /// It is over in both directions. Nothing comes after this.
    Closed,
}

/// Bytes that have come.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a>(&'a [QUIC_BUFFER]);

impl<'a> Received<'a> {
    /// How many.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|buffer| u64::from(buffer.Length)).sum()
    }

    /// The bytes, in pieces.
    pub fn pieces(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.0.iter().map(|buffer| {
            // SAFETY: in a receive event, which `'a` does not outlive, each buffer is `Length` readable bytes.
            unsafe { bytes(buffer) }
        })
    }
}

/// The bytes of a buffer.
///
/// # Safety
///
/// They must be there for `'a`.
pub(super) unsafe fn bytes<'a>(buffer: &QUIC_BUFFER) -> &'a [u8] {
    if buffer.Length == 0 {
        return &[];
    }
    // SAFETY: the caller's promise; an empty buffer, whose pointer may be null, does not come here.
    unsafe { std::slice::from_raw_parts(buffer.Buffer, buffer.Length as usize) }
}

/// The first send of a new stream.
#[derive(Debug, Clone, Copy)]
pub struct First {
    /// What is sent.
    pub payload: &'static Payload,
    /// Whether that is all.
    pub end: bool,
    /// Whether it may go as early data.
    pub early: bool,
}

/// A stream, in a callback of its own.
#[derive(Debug)]
pub struct Stream<'a> {
    handle: HQUIC,
    connection: Connection<'a>,
}

/// What msquic keeps for a stream.
struct Context<H> {
    connection: HQUIC,
    handler: H,
}

impl Stream<'_> {
    /// Its connection.
    pub fn connection(&self) -> &Connection<'_> {
        &self.connection
    }

    /// Sends `length` bytes of filler, at most [`FILLER_MAX`](super::FILLER_MAX), and the end after them if `end`.
    pub fn send_filler(&self, length: u32, end: bool) -> Result<()> {
        self.send_outgoing(Outgoing::filler(length), end)
    }

    /// Sends a copy of `bytes` and the end after them.
    pub fn send_last(&self, bytes: &[u8]) -> Result<()> {
        self.send_outgoing(Outgoing::copy(bytes), true)
    }

    fn send_outgoing(&self, outgoing: Box<Outgoing>, end: bool) -> Result<()> {
        let (buffer, context) = outgoing.into_raw();
        let sent = self.send_raw(buffer, flags(end), context);
        if sent.is_err() {
            // SAFETY: msquic did not take it, so it will not give it back.
            unsafe { Outgoing::take_back(context) };
        }
        sent
    }

    /// Sends `payload`.
    pub fn send(&self, payload: &'static Payload) -> Result<()> {
        self.send_raw(payload.buffer(), flags(false), std::ptr::null_mut())
    }

    fn send_raw(&self, buffer: *const QUIC_BUFFER, flags: ffi::QUIC_SEND_FLAGS, context: *mut c_void) -> Result<()> {
        // SAFETY: the handle is good in a callback; the buffer stays until its context comes back, or for good.
        check("send", unsafe { api!(StreamSend)(self.handle, buffer, 1, flags, context) })
    }

    /// Ends the sending direction without sending more.
    pub fn end(&self) -> Result<()> {
        self.shut_down(ffi::QUIC_STREAM_SHUTDOWN_FLAGS_QUIC_STREAM_SHUTDOWN_FLAG_GRACEFUL)
    }

    /// Gives it up in both directions.
    pub fn abort(&self) -> Result<()> {
        self.shut_down(ffi::QUIC_STREAM_SHUTDOWN_FLAGS_QUIC_STREAM_SHUTDOWN_FLAG_ABORT)
    }

    fn shut_down(&self, flags: ffi::QUIC_STREAM_SHUTDOWN_FLAGS) -> Result<()> {
        // SAFETY: the handle is good in a callback.
        check("stream shutdown", unsafe { api!(StreamShutdown)(self.handle, flags, 0) })
    }

    /// How many bytes from its beginning on the peer took as early data; known when the stream is closed.
    pub fn early_bytes(&self) -> Result<u64> {
        let (mut bytes, mut length) = (0_u64, size_of::<u64>() as u32);
        let value = (&raw mut bytes).cast();
        // SAFETY: the handle is good in a callback, and this parameter is 8 bytes.
        let status = unsafe { api!(GetParam)(self.handle, ffi::QUIC_PARAM_STREAM_0RTT_LENGTH, &raw mut length, value) };
        check("early data", status)?;
        Ok(bytes)
    }
}

fn flags(end: bool) -> ffi::QUIC_SEND_FLAGS {
    if end { ffi::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_FIN } else { ffi::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_NONE }
}

/// Opens a stream for `handler` and sends `first` on it.
///
/// # Safety
///
/// `connection` must be good.
pub(super) unsafe fn open<H: StreamHandler>(connection: HQUIC, handler: H, first: First) -> Result<()> {
    let context = Box::into_raw(Box::new(Context { connection, handler }));
    let mut handle: HQUIC = std::ptr::null_mut();
    let none = ffi::QUIC_STREAM_OPEN_FLAGS_QUIC_STREAM_OPEN_FLAG_NONE;
    // SAFETY: the caller's promise; the context is of the callback's type.
    let opened = unsafe { api!(StreamOpen)(connection, none, Some(callback::<H>), context.cast(), &raw mut handle) };
    if let Err(error) = check("stream open", opened) {
        // SAFETY: it was made above, and msquic did not take it.
        drop(unsafe { Box::from_raw(context) });
        return Err(error);
    }
    let mut flags = flags(first.end) | ffi::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_START;
    if first.early {
        flags |= ffi::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_ALLOW_0_RTT;
    }
    // SAFETY: the handle was just made; a payload lives for good.
    let sent = unsafe { api!(StreamSend)(handle, first.payload.buffer(), 1, flags, std::ptr::null_mut()) };
    check("first send", sent).inspect_err(|_| {
        // A failure ends the run, so that the context, which the callback may have freed or not, may be lost.
        // SAFETY: the handle was just made, and nobody else has it.
        unsafe { api!(StreamClose)(handle) };
    })
}

/// Gives a stream of the peer's to `handler`.
///
/// # Safety
///
/// Only in the callback that tells of `stream`, a stream of `connection`'s.
pub(super) unsafe fn accept<H: StreamHandler>(connection: HQUIC, stream: HQUIC, handler: H) {
    let context = Box::into_raw(Box::new(Context { connection, handler }));
    let callback = callback::<H> as *mut c_void;
    // SAFETY: the caller's promise; the context is of the callback's type.
    unsafe { api!(SetCallbackHandler)(stream, callback, context.cast()) };
}

unsafe extern "C" fn callback<H: StreamHandler>(
    handle: HQUIC,
    context: *mut c_void,
    event: *mut QUIC_STREAM_EVENT,
) -> QUIC_STATUS {
    // SAFETY: msquic gives an event that is there for the call.
    let event = unsafe { &*event };
    // SAFETY: the variant that the type names is the one that is there.
    let Some(told) = (unsafe { translate(event) }) else { return TAKEN };
    let context = context.cast::<Context<H>>();
    // SAFETY: the context is of this type, was not freed yet, and callbacks come one at a time; those that msquic makes
    // while a handler is in a call of its own, for a stream's start, end above.
    let Context { connection, handler } = unsafe { &mut *context };
    // SAFETY: a stream's connection is closed after its streams only.
    let connection = unsafe { Connection::from_raw(*connection, PhantomData) };
    let last = matches!(told, StreamEvent::Closed);
    handler.event(&Stream { handle, connection }, told);
    if last {
        // SAFETY: this is the last event, and the variant is the type's.
        let shutdown = unsafe { event.__bindgen_anon_1.SHUTDOWN_COMPLETE };
        if shutdown.AppCloseInProgress() == 0 {
            // SAFETY: after its last event a stream may be closed, once.
            unsafe { api!(StreamClose)(handle) };
        }
        // SAFETY: from `Box::into_raw`; no event comes any more.
        drop(unsafe { Box::from_raw(context) });
    }
    TAKEN
}

/// The event for the handler; `None` if it is not interested.
///
/// # Safety
///
/// The event must be one of msquic's, in its callback.
unsafe fn translate(event: &QUIC_STREAM_EVENT) -> Option<StreamEvent<'_>> {
    let told = match event.Type {
        ffi::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_RECEIVE => {
            // SAFETY: the variant is the type's.
            let received = unsafe { &event.__bindgen_anon_1.RECEIVE };
            if received.BufferCount == 0 {
                return None; // only an end, which has an event of its own
            }
            // SAFETY: msquic gives that many buffers, for the call.
            let buffers = unsafe { std::slice::from_raw_parts(received.Buffers, received.BufferCount as usize) };
            StreamEvent::Received(Received(buffers))
        }
        ffi::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_PEER_SEND_SHUTDOWN => StreamEvent::Ended,
        ffi::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SEND_COMPLETE => {
            // SAFETY: the variant is the type's.
            let sent = unsafe { &event.__bindgen_anon_1.SEND_COMPLETE };
            // SAFETY: contexts of sends are null or `Outgoing`, and come back once.
            let bytes = unsafe { Outgoing::take_back(sent.ClientContext) };
            StreamEvent::Sent { bytes, canceled: sent.Canceled != 0 }
        }
        ffi::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_IDEAL_SEND_BUFFER_SIZE => {
            // SAFETY: the variant is the type's.
            let ideal = unsafe { &event.__bindgen_anon_1.IDEAL_SEND_BUFFER_SIZE };
            StreamEvent::Ideal(ideal.ByteCount)
        }
        ffi::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_PEER_SEND_ABORTED
        | ffi::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_PEER_RECEIVE_ABORTED => StreamEvent::Aborted,
        ffi::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SHUTDOWN_COMPLETE => StreamEvent::Closed,
        _ => return None,
    };
    Some(told)
}
