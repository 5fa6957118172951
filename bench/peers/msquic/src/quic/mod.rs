//! A safe layer over msquic's C interface, as thin as can be: what the roles do in a callback is a static call away from
//! msquic's own thread.
//!
//! - [`Endpoint`]: the library, set up for one role; [`Endpoint::dial`] and [`Endpoint::listen`] make connections.
//! - [`Connection`] with [`ConnectionHandler`], [`Stream`] with [`StreamHandler`]: what can be asked of a connection or a
//!   stream, and what is told about it. Handlers belong to their object and are dropped with it.
//! - [`Remote`]: a connection for other threads.
//!
//! The crate has wrappers of its own for this. They are not used for connections and streams because they box each
//! callback twice, panic at events that are newer than they are, and cannot tell one sent buffer from another.
//!
//! What all `unsafe` here rests on: msquic calls the callbacks of a connection and of all its streams one at a time; a
//! handle is good until it is closed, which happens here only in the callback for the object's last event; and a
//! callback's context is freed at the same place.

mod connection;
mod data;
mod endpoint;
mod setup;
mod stream;

use msquic::Status;
use msquic::ffi::QUIC_STATUS;
use warpline_peer_kit::Result;

pub use connection::{Connection, ConnectionEvent, ConnectionHandler, Remote};
pub use data::{FILLER_MAX, Payload};
pub use endpoint::Endpoint;
pub use setup::{Setup, payload_counts};
pub use stream::{First, Received, Stream, StreamEvent, StreamHandler};

/// A function of msquic's table.
macro_rules! api {
    ($function:ident) => {
        msquic::Api::get_ffi().$function.expect("msquic fills the whole of its table")
    };
}
use api;

/// What a callback returns for an event that it took.
const TAKEN: QUIC_STATUS = msquic::ffi::QUIC_STATUS_SUCCESS;
/// What a callback returns for an object that it does not want.
const UNWANTED: QUIC_STATUS = msquic::ffi::QUIC_STATUS_NOT_SUPPORTED;

/// The error of the call `what`, if it failed.
fn check(what: &str, status: QUIC_STATUS) -> Result<()> {
    Status::ok_from_raw(status).map_err(|status| format!("msquic: {what}: {status}").into())
}
