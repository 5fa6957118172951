//! How hosts and receivers use the network.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use warpline::{
    ClientConfig, Endpoint, EndpointBuilder, IoConfig, KeyLogFile, PacketCrypto, ServerConfig, TransportConfig,
};

/// Settings of the network that hosts and receivers have in common.
#[derive(Clone, Debug, Default)]
pub struct NetOptions {
    /// Settings of the transport.
    pub transport: TransportConfig,
    /// How packets move.
    pub io: IoConfig,
    /// Who seals packets.
    pub crypto: PacketCrypto,
    /// A directory into which each connection writes what it does, as qlog.
    pub qlog: Option<PathBuf>,
    /// Where the secrets of connections are written for Wireshark and its like.
    pub key_log: Option<Arc<KeyLogFile>>,
}

impl NetOptions {
    /// An endpoint of one worker that sleeps when it has nothing to do: files are read and written beside it.
    pub(crate) fn endpoint(&self) -> EndpointBuilder {
        let builder = Endpoint::builder().workers(1).spin(Duration::ZERO).io(self.io);
        match &self.qlog {
            Some(folder) => builder.qlog(folder),
            None => builder,
        }
    }

    /// The same client with these settings; an error says which setting is out of range.
    pub(crate) fn client(&self, config: ClientConfig) -> Result<ClientConfig, warpline::ConfigError> {
        let config = config.transport(self.transport.clone())?;
        Ok(match &self.key_log {
            Some(log) => config.key_log(log.clone()),
            None => config,
        })
    }

    /// The same server with these settings; an error says which setting is out of range.
    pub(crate) fn server(&self, config: ServerConfig) -> Result<ServerConfig, warpline::ConfigError> {
        let config = config.transport(self.transport.clone())?;
        Ok(match &self.key_log {
            Some(log) => config.key_log(log.clone()),
            None => config,
        })
    }
}
