//! Sending no earlier than quiche's pacer wants.
//!
//! quiche gives out packets whenever it is asked and says when each should leave; a loop without a kernel queue that keeps release
//! times asks no earlier than that.

use std::time::Instant;

use quiche::Connection;
use warpline_peer_kit::Result;
use warpline_peer_kit::driven::{Train, Wire};

/// When the pacer lets the next packet go, if that is after `now` and the packet may not join the ones before it.
fn release(connection: &Connection, now: Instant) -> Option<Instant> {
    let decision = connection.get_next_release_time()?;
    decision.time(now).filter(|_| !decision.can_burst())
}

/// Sends what may leave now, in packets of `payload` bytes.
pub fn flush(connection: &mut Connection, wire: &Wire, train: &mut Train, payload: usize) -> Result<()> {
    wire.send_all(train, payload, |buffer| {
        if release(connection, Instant::now()).is_some() {
            return Ok(None);
        }
        match connection.send(buffer) {
            Ok((length, info)) => Ok(Some((length, info.to))),
            Err(quiche::Error::Done) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
}

/// When the connection wants to be called: for a timer of its own, or for the next packet.
pub fn deadline(connection: &Connection, now: Instant) -> Option<Instant> {
    connection.timeout_instant().into_iter().chain(release(connection, now)).min()
}
