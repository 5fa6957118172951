//! What can go wrong with streams: on the wire, and in the application's calls.

use warpline_wire::TransportErrorCode;

use crate::error::TransportError;

/// The peer broke a rule of streams or flow control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamError {
    pub(crate) code: TransportErrorCode,
    pub(crate) reason: &'static str,
}

impl StreamError {
    pub(super) const fn new(code: TransportErrorCode, reason: &'static str) -> Self {
        Self { code, reason }
    }

    pub(crate) fn into_transport(self, frame_type: u64) -> TransportError {
        TransportError::new(self.code, self.reason).in_frame(frame_type)
    }
}

/// Why nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// There is no room now; [`Event::Writable`](crate::Event::Writable) follows.
    #[error("no room in the send buffer")]
    Blocked,
    /// The peer will not read what is sent (STOP_SENDING with this code).
    #[error("the peer stopped reading (code {0})")]
    Stopped(u64),
    /// The stream was finished or reset, never existed, or its connection ended.
    #[error("the stream is closed")]
    ClosedStream,
}

/// Why nothing was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Nothing is there now; [`Event::Readable`](crate::Event::Readable) follows.
    #[error("nothing to read yet")]
    Blocked,
    /// The peer gave the stream up (RESET_STREAM with this code).
    #[error("the peer reset the stream (code {0})")]
    Reset(u64),
    /// The stream was read to its end or stopped, never existed, or its connection ended.
    #[error("the stream is closed")]
    ClosedStream,
}

/// Why a stream was not given up behind a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResetAtError {
    /// The peer does not understand RESET_STREAM_AT.
    #[error("the peer cannot take a reset that keeps a part of the stream")]
    Unsupported,
    /// The stream was reset before or is over, or never existed.
    #[error("the stream is closed")]
    ClosedStream,
}

/// The stream was finished or reset, or never existed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream is closed")]
pub struct ClosedStream;
