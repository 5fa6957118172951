//! The worker, for fibers.

use super::{Connection, Wait};
use crate::engine::{ConnectError, RebindError};
use crate::{ClientConfig, local};
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

/// The worker whose thread this is; see [`local::Worker`], to which it dereferences.
#[derive(Clone, Debug)]
pub struct Worker(local::Worker);

impl Worker {
    pub(super) fn new(worker: local::Worker) -> Self {
        Self(worker)
    }

    /// Waits for the next connection of a client whose handshake is done. `None` when the endpoint shuts down or this
    /// worker is removed.
    #[must_use]
    pub fn accept(&self) -> Option<Connection> {
        self.0.accept().wait().map(Connection::new)
    }

    /// Connects to a server and waits for the handshake; `server_name` is what its certificate is checked for.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(
        &self,
        config: impl Into<Arc<ClientConfig>>,
        remote: SocketAddr,
        server_name: &str,
    ) -> Result<Connection, ConnectError> {
        self.0.connect(config.into(), remote, server_name).wait().map(Connection::new)
    }

    /// Goes over to a new socket; see [`local::Worker::rebind`].
    ///
    /// # Errors
    /// As there.
    pub fn rebind(&self, address: SocketAddr) -> Result<SocketAddr, RebindError> {
        self.0.rebind(address).wait()
    }
}

impl Deref for Worker {
    type Target = local::Worker;

    fn deref(&self) -> &local::Worker {
        &self.0
    }
}
