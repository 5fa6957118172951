//! Connections.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use msquic::ffi::{self, HQUIC, QUIC_CONNECTION_EVENT, QUIC_HANDSHAKE_INFO, QUIC_STATUS};
use msquic::{Addr, CIPHER_SUITE_TLS_AES_128_GCM_SHA256};
use warpline_peer_kit::Result;

use super::data::Outgoing;
use super::stream::{self, First, StreamHandler};
use super::{Payload, TAKEN, UNWANTED, api, check};

/// What a connection's owner is told, one at a time and never while a handler of its streams runs.
pub trait ConnectionHandler: Send + 'static {
    /// Handler of the streams that the peer opens.
    type Stream: StreamHandler;

    /// Something has happened on `connection`.
    fn event(&mut self, connection: &Connection<'_>, event: ConnectionEvent<'_>);

    /// The peer has opened a stream; `None` refuses it.
    fn accept(&mut self) -> Option<Self::Stream>;
}

/// What can happen on a connection.
#[derive(Debug)]
pub enum ConnectionEvent<'a> {
    /// The handshake is complete.
    Connected {
        /// With a ticket.
        resumed: bool,
    },
    /// A ticket for another connection has come.
    Ticket(&'a [u8]),
    /// A datagram has come.
    Datagram(&'a [u8]),
    /// A datagram is not msquic's any more: it was sent, or given up.
    DatagramGone,
    /// It failed with this status and QUIC error code.
    Failed {
        /// msquic's.
        status: QUIC_STATUS,
        /// Of the transport, RFC 9000 section 20.1.
        code: u64,
    },
    /// The peer has closed it, with this code.
    ClosedByPeer(u64),
    /// It is over. Nothing comes after this.
    Closed,
}

/// A connection, where its handle is good.
#[derive(Debug, Clone, Copy)]
pub struct Connection<'a> {
    handle: HQUIC,
    scope: PhantomData<&'a ()>,
}

impl<'a> Connection<'a> {
    /// # Safety
    ///
    /// `handle` must be good for `'a`.
    pub(super) unsafe fn from_raw(handle: HQUIC, scope: PhantomData<&'a ()>) -> Self {
        Self { handle, scope }
    }

    /// Opens a bidirectional stream for `handler` and sends `first` on it, when the peer's limit allows.
    pub fn open<H: StreamHandler>(&self, handler: H, first: First) -> Result<()> {
        // SAFETY: the handle is good as long as this is there.
        unsafe { stream::open(self.handle, handler, first) }
    }

    /// Queues a datagram.
    pub fn send_datagram(&self, payload: &'static Payload) -> Result<()> {
        let none = ffi::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_NONE;
        // SAFETY: the handle is good as long as this is there; a payload lives for good.
        check("datagram", unsafe { api!(DatagramSend)(self.handle, payload.buffer(), 1, none, std::ptr::null_mut()) })
    }

    /// Queues a copy of `bytes` as a datagram.
    pub fn send_datagram_copy(&self, bytes: &[u8]) -> Result<()> {
        let (buffer, context) = Outgoing::copy(bytes).into_raw();
        let none = ffi::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_NONE;
        // SAFETY: the handle is good as long as this is there; the buffer stays until its context comes back.
        let sent = check("datagram", unsafe { api!(DatagramSend)(self.handle, buffer, 1, none, context) });
        if sent.is_err() {
            // SAFETY: msquic did not take it, so it will not give it back.
            unsafe { Outgoing::take_back(context) };
        }
        sent
    }

    /// Sends a ticket, the only one, so that what belongs to TLS can be freed.
    pub fn send_ticket(&self) -> Result<()> {
        let flags = ffi::QUIC_SEND_RESUMPTION_FLAGS_QUIC_SEND_RESUMPTION_FLAG_FINAL;
        // SAFETY: the handle is good as long as this is there; there are no bytes of the application's in the ticket.
        let status = unsafe { api!(ConnectionSendResumptionTicket)(self.handle, flags, 0, std::ptr::null()) };
        check("ticket", status)
    }

    /// Closes it with code 0.
    pub fn close(&self) {
        let none = ffi::QUIC_CONNECTION_SHUTDOWN_FLAGS_QUIC_CONNECTION_SHUTDOWN_FLAG_NONE;
        // SAFETY: the handle is good as long as this is there.
        unsafe { api!(ConnectionShutdown)(self.handle, none, 0) };
    }

    /// The cipher suite by its IANA name. Only in a callback of the connection: elsewhere this waits for msquic's thread.
    pub fn cipher(&self) -> Result<String> {
        // SAFETY: integers, for which all zeros are values.
        let mut info = unsafe { std::mem::zeroed::<QUIC_HANDSHAKE_INFO>() };
        let mut length = size_of::<QUIC_HANDSHAKE_INFO>() as u32;
        let value = (&raw mut info).cast();
        // SAFETY: the handle is good as long as this is there, and this parameter is of this type.
        let status = unsafe { api!(GetParam)(self.handle, ffi::QUIC_PARAM_TLS_HANDSHAKE_INFO, &raw mut length, value) };
        check("handshake info", status)?;
        Ok(match info.CipherSuite {
            CIPHER_SUITE_TLS_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256".to_owned(),
            other => format!("{other:#06x}"),
        })
    }

    /// The address that it is dialled from. As [`cipher`](Self::cipher), only in a callback.
    pub fn local_address(&self) -> Result<SocketAddr> {
        // SAFETY: an address of all zeros is the unspecified one.
        let mut address = unsafe { std::mem::zeroed::<Addr>() };
        let mut length = size_of::<Addr>() as u32;
        let value = (&raw mut address).cast();
        // SAFETY: the handle is good as long as this is there, and this parameter is of this type.
        let status = unsafe { api!(GetParam)(self.handle, ffi::QUIC_PARAM_CONN_LOCAL_ADDRESS, &raw mut length, value) };
        check("local address", status)?;
        address.as_socket().ok_or_else(|| "msquic: no local address".into())
    }
}

/// A connection for other threads than its callbacks'.
#[derive(Debug)]
pub struct Remote(Mutex<Option<Handle>>);

#[derive(Debug)]
struct Handle(HQUIC);

// SAFETY: msquic's calls may be made on any thread.
unsafe impl Send for Handle {}

impl Remote {
    /// Opens a stream as [`Connection::open`] does; nothing if the connection is over.
    pub fn open<H: StreamHandler>(&self, handler: H, first: First) -> Result<()> {
        self.with(|connection| connection.open(handler, first))
    }

    /// Queues a datagram as [`Connection::send_datagram`] does; nothing if the connection is over.
    pub fn send_datagram(&self, payload: &'static Payload) -> Result<()> {
        self.with(|connection| connection.send_datagram(payload))
    }

    /// `ask` must not wait for msquic's thread, which may be waiting for the lock to end the connection.
    fn with(&self, ask: impl FnOnce(&Connection<'_>) -> Result<()>) -> Result<()> {
        let handle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Handle(handle)) = *handle else { return Ok(()) };
        // SAFETY: it is closed only after the lock has been taken to remove it.
        ask(&unsafe { Connection::from_raw(handle, PhantomData) })
    }

    fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What msquic keeps for a connection.
struct Context<H> {
    handler: H,
    remote: Arc<Remote>,
}

/// A new connection of ours.
pub(super) struct Opened {
    /// Its handle.
    pub(super) handle: HQUIC,
    /// The same for other threads.
    pub(super) remote: Arc<Remote>,
}

/// Opens a connection for `handler`; it is not started.
///
/// # Safety
///
/// `registration` must be good.
pub(super) unsafe fn open<H: ConnectionHandler>(registration: HQUIC, handler: H) -> Result<Opened> {
    let remote = Arc::new(Remote(Mutex::new(None)));
    let context = Box::into_raw(Box::new(Context { handler, remote: remote.clone() }));
    let mut handle: HQUIC = std::ptr::null_mut();
    // SAFETY: the caller's promise; the context is of the callback's type.
    let opened = unsafe { api!(ConnectionOpen)(registration, Some(callback::<H>), context.cast(), &raw mut handle) };
    if let Err(error) = check("connection open", opened) {
        // SAFETY: it was made above, and msquic did not take it.
        drop(unsafe { Box::from_raw(context) });
        return Err(error);
    }
    *remote.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Handle(handle));
    Ok(Opened { handle, remote })
}

/// Gives a connection of a client's to `handler`.
///
/// # Safety
///
/// Only in the callback that tells of `handle`.
pub(super) unsafe fn accept<H: ConnectionHandler>(handle: HQUIC, handler: H) {
    let remote = Arc::new(Remote(Mutex::new(None)));
    let context = Box::into_raw(Box::new(Context { handler, remote }));
    let callback = callback::<H> as *mut c_void;
    // SAFETY: the caller's promise; the context is of the callback's type.
    unsafe { api!(SetCallbackHandler)(handle, callback, context.cast()) };
}

unsafe extern "C" fn callback<H: ConnectionHandler>(
    handle: HQUIC,
    context: *mut c_void,
    event: *mut QUIC_CONNECTION_EVENT,
) -> QUIC_STATUS {
    let context = context.cast::<Context<H>>();
    // SAFETY: msquic gives an event that is there for the call, and is its alone to write to here.
    let event = unsafe { &mut *event };
    if event.Type == ffi::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_PEER_STREAM_STARTED {
        // SAFETY: the variant is the type's.
        let started = unsafe { event.__bindgen_anon_1.PEER_STREAM_STARTED };
        // SAFETY: the context is of this type, was not freed yet, and callbacks come one at a time.
        let context = unsafe { &mut *context };
        let Some(stream) = context.handler.accept() else { return UNWANTED };
        // SAFETY: this is the callback that tells of it.
        unsafe { stream::accept(handle, started.Stream, stream) };
        return TAKEN;
    }
    // SAFETY: the event is one of msquic's, in its callback.
    let Some(told) = (unsafe { translate(event) }) else { return TAKEN };
    let last = matches!(told, ConnectionEvent::Closed);
    {
        // SAFETY: as above.
        let context = unsafe { &mut *context };
        // SAFETY: the handle is good in a callback.
        let connection = unsafe { Connection::from_raw(handle, PhantomData) };
        context.handler.event(&connection, told);
        if last {
            context.remote.forget();
        }
    }
    if last {
        // SAFETY: this was the last event, so that the variant is the type's.
        let shutdown = unsafe { event.__bindgen_anon_1.SHUTDOWN_COMPLETE };
        if shutdown.AppCloseInProgress() == 0 {
            // SAFETY: after its last event a connection may be closed, once; nobody else has the handle any more.
            unsafe { api!(ConnectionClose)(handle) };
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
unsafe fn translate(event: &mut QUIC_CONNECTION_EVENT) -> Option<ConnectionEvent<'_>> {
    let told = match event.Type {
        ffi::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_CONNECTED => {
            // SAFETY: the variant is the type's.
            let connected = unsafe { &event.__bindgen_anon_1.CONNECTED };
            ConnectionEvent::Connected { resumed: connected.SessionResumed != 0 }
        }
        ffi::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_RESUMPTION_TICKET_RECEIVED => {
            // SAFETY: the variant is the type's.
            let ticket = unsafe { &event.__bindgen_anon_1.RESUMPTION_TICKET_RECEIVED };
            let length = ticket.ResumptionTicketLength as usize;
            // SAFETY: msquic gives that many bytes, for the call; a ticket is not empty.
            ConnectionEvent::Ticket(unsafe { std::slice::from_raw_parts(ticket.ResumptionTicket, length) })
        }
        ffi::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_DATAGRAM_RECEIVED => {
            // SAFETY: the variant is the type's.
            let received = unsafe { event.__bindgen_anon_1.DATAGRAM_RECEIVED };
            // SAFETY: msquic gives a buffer, for the call.
            let buffer = unsafe { &*received.Buffer };
            // SAFETY: its bytes are there for the call.
            ConnectionEvent::Datagram(unsafe { stream::bytes(buffer) })
        }
        ffi::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_DATAGRAM_SEND_STATE_CHANGED => {
            // SAFETY: the variant is the type's.
            let changed = unsafe { &mut event.__bindgen_anon_1.DATAGRAM_SEND_STATE_CHANGED };
            if !matches!(
                changed.State,
                ffi::QUIC_DATAGRAM_SEND_STATE_QUIC_DATAGRAM_SEND_SENT
                    | ffi::QUIC_DATAGRAM_SEND_STATE_QUIC_DATAGRAM_SEND_CANCELED
            ) {
                return None; // its fate on the way
            }
            let context = std::mem::replace(&mut changed.ClientContext, std::ptr::null_mut());
            // SAFETY: contexts of datagrams are null or `Outgoing`; msquic keeps the null that stands there now.
            unsafe { Outgoing::take_back(context) };
            ConnectionEvent::DatagramGone
        }
        ffi::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_SHUTDOWN_INITIATED_BY_TRANSPORT => {
            // SAFETY: the variant is the type's.
            let failed = unsafe { &event.__bindgen_anon_1.SHUTDOWN_INITIATED_BY_TRANSPORT };
            ConnectionEvent::Failed { status: failed.Status, code: failed.ErrorCode }
        }
        ffi::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_SHUTDOWN_INITIATED_BY_PEER => {
            // SAFETY: the variant is the type's.
            let closed = unsafe { &event.__bindgen_anon_1.SHUTDOWN_INITIATED_BY_PEER };
            ConnectionEvent::ClosedByPeer(closed.ErrorCode)
        }
        ffi::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_SHUTDOWN_COMPLETE => ConnectionEvent::Closed,
        _ => return None,
    };
    Some(told)
}
