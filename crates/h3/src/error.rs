//! Errors of the transport in the terms of HTTP/3, and back (RFC 9114 section 8).

use std::sync::Arc;

use h3::error::Code;
use h3::quic::{ConnectionErrorIncoming, StreamErrorIncoming};
use warpline::{ConnectionError, OperationError, ReadError, WriteError};

/// The peer broke HTTP/3 in a way that this crate finds: the connection was closed with `code`.
///
/// Found inside `h3`'s errors as the source of [`ConnectionErrorIncoming::Undefined`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection error {code}: {reason}")]
pub struct Violation {
    /// What the connection was closed with.
    pub code: Code,
    /// What was wrong.
    pub reason: &'static str,
}

impl Violation {
    pub(crate) const fn new(code: Code, reason: &'static str) -> Self {
        Self { code, reason }
    }

    pub(crate) fn incoming(self) -> ConnectionErrorIncoming {
        ConnectionErrorIncoming::Undefined(Arc::new(self))
    }
}

/// The peer's request or response was malformed in a way that this crate finds: the stream was reset with H3_MESSAGE_ERROR
/// (RFC 9114 section 4.1.2).
///
/// Found inside `h3`'s errors in [`StreamErrorIncoming::Unknown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct Malformed(pub(crate) &'static str);

impl Malformed {
    pub(crate) fn incoming(self) -> StreamErrorIncoming {
        StreamErrorIncoming::Unknown(Box::new(self))
    }
}

/// The code of a connection's close as HTTP/3 understands it: codes that it does not know are equivalent to H3_NO_ERROR
/// (RFC 9114 section 8.1), among them the 0 of a transport that was closed without a word.
///
/// Codes of single streams are left as they are: extensions have their own.
#[must_use]
pub fn close_code(code: u64) -> Code {
    match code {
        0x33 | 0x100..=0x110 | 0x200..=0x202 => Code::from(code),
        _ => Code::H3_NO_ERROR,
    }
}

/// How a connection ended.
pub(crate) fn connection(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed { code, .. } => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close_code(code).value() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    }
}

/// Why an operation on a connection failed.
pub(crate) fn operation(error: OperationError) -> ConnectionErrorIncoming {
    match error {
        OperationError::Closed(error) => connection(error),
        engine @ OperationError::Engine(_) => ConnectionErrorIncoming::Undefined(Arc::new(engine)),
    }
}

/// Why a stream could not be read.
pub(crate) fn read(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(error_code) => StreamErrorIncoming::StreamTerminated { error_code },
        ReadError::Closed(error) => lost(connection(error)),
        engine @ ReadError::Engine(_) => lost(ConnectionErrorIncoming::Undefined(Arc::new(engine))),
        ended @ ReadError::Ended => StreamErrorIncoming::Unknown(Box::new(ended)),
    }
}

/// Why a stream could not be written.
pub(crate) fn write(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(error_code) => StreamErrorIncoming::StreamTerminated { error_code },
        WriteError::Closed(error) => lost(connection(error)),
        engine @ WriteError::Engine(_) => lost(ConnectionErrorIncoming::Undefined(Arc::new(engine))),
        misuse @ (WriteError::Ended | WriteError::Unsupported) => StreamErrorIncoming::Unknown(Box::new(misuse)),
    }
}

/// A stream is over because its connection is.
pub(crate) fn lost(connection_error: ConnectionErrorIncoming) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_close_codes_are_no_error_and_known_ones_stay() {
        for code in [0, 1, 0x34, 0xff, 0x111, 0x203, 1 << 40] {
            assert_eq!(close_code(code), Code::H3_NO_ERROR, "{code:#x}");
        }
        for code in (0x100..=0x110).chain(0x200..=0x202).chain([0x33]) {
            assert_eq!(close_code(code).value(), code);
        }
    }

    #[test]
    fn stream_codes_pass_in_both_directions() {
        let reset = read(ReadError::Reset(0x10c));
        assert!(matches!(reset, StreamErrorIncoming::StreamTerminated { error_code: 0x10c }), "{reset:?}");
        let stopped = write(WriteError::Stopped(0x52e4_a40f_a8db));
        assert!(
            matches!(stopped, StreamErrorIncoming::StreamTerminated { error_code: 0x52e4_a40f_a8db }),
            "{stopped:?}"
        );
        let timeout = read(ReadError::Closed(ConnectionError::TimedOut));
        assert!(
            matches!(
                timeout,
                StreamErrorIncoming::ConnectionErrorIncoming { connection_error: ConnectionErrorIncoming::Timeout }
            ),
            "{timeout:?}"
        );
    }
}
