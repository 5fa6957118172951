//! CONNECTION_CLOSE frames (RFC 9000 section 19.19).

use super::{FrameError, counted, kind};
use crate::{Reader, TransportErrorCode, Writer};

/// Why the connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionClose<'a> {
    /// The transport ends it.
    Transport {
        /// The code.
        code: TransportErrorCode,
        /// Type of the frame that caused it, 0 when unknown.
        frame_type: u64,
        /// For people; any bytes.
        reason: &'a [u8],
    },
    /// The application ends it.
    Application {
        /// The application's code.
        code: u64,
        /// For people; any bytes.
        reason: &'a [u8],
    },
}

pub(super) fn decode_transport<'a>(r: &mut Reader<'a>) -> Result<ConnectionClose<'a>, FrameError> {
    let code = TransportErrorCode(r.varint()?);
    let frame_type = r.varint()?;
    Ok(ConnectionClose::Transport { code, frame_type, reason: counted(r)? })
}

pub(super) fn decode_application<'a>(r: &mut Reader<'a>) -> Result<ConnectionClose<'a>, FrameError> {
    let code = r.varint()?;
    Ok(ConnectionClose::Application { code, reason: counted(r)? })
}

/// Writes a CONNECTION_CLOSE of the transport.
pub fn encode_transport_close(w: &mut Writer<'_>, code: TransportErrorCode, frame_type: u64, reason: &[u8]) {
    w.u8(kind::CONNECTION_CLOSE as u8);
    w.varint(code.0);
    w.varint(frame_type);
    w.varint(reason.len() as u64);
    w.slice(reason);
}

/// Writes a CONNECTION_CLOSE of the application.
pub fn encode_application_close(w: &mut Writer<'_>, code: u64, reason: &[u8]) {
    w.u8(kind::CONNECTION_CLOSE_APP as u8);
    w.varint(code);
    w.varint(reason.len() as u64);
    w.slice(reason);
}
