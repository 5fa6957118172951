//! What every part of a connection may need from around it, passed along instead of long argument lists.

use crate::config::EndpointConfig;
use crate::endpoint::{ConnectionHandle, Routes};
use crate::rng::Rng;
use crate::time::Instant;

/// The moment, the randomness, and the endpoint's tables.
pub(crate) struct Cx<'a> {
    pub(crate) now: Instant,
    pub(crate) rng: &'a mut Rng,
    pub(crate) config: &'a EndpointConfig,
    pub(crate) routes: &'a mut Routes,
    pub(crate) handle: ConnectionHandle,
}
