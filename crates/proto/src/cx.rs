//! What every part of a connection may need from around it, passed along instead of long argument lists.

use crate::config::EndpointConfig;
use crate::endpoint::{ConnectionHandle, Routes};
use crate::rng::Rng;
use crate::sent_frame::SentFrame;
use crate::time::Instant;

/// The moment, the randomness, and the endpoint's tables and memory.
pub(crate) struct Cx<'a> {
    pub(crate) now: Instant,
    pub(crate) rng: &'a mut Rng,
    pub(crate) config: &'a EndpointConfig,
    pub(crate) routes: &'a mut Routes,
    pub(crate) handle: ConnectionHandle,
    /// Frames whose fate an acknowledgement or a loss decides; empty between uses. One for all connections, so that none holds
    /// memory for it.
    pub(crate) settled: &'a mut Vec<SentFrame>,
}
