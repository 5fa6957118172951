//! What commands can be asked to write down about their connections.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use warpline::{ClientConfig, EndpointBuilder, KeyLogFile, ServerConfig};

/// Logs for finding faults.
#[derive(Debug, Clone, Default, Args)]
pub struct TraceArgs {
    /// Write what each connection does into this directory, one .sqlog file each (qlog; qvis shows it). Slows transfers down.
    #[arg(long, value_name = "DIR")]
    pub qlog_dir: Option<PathBuf>,
    /// Append the secrets of all connections to this file, for Wireshark: who reads it reads all that they carry.
    #[arg(long, value_name = "FILE")]
    key_log: Option<PathBuf>,
}

impl TraceArgs {
    /// The same endpoint, with logs if they are wanted.
    pub fn endpoint(&self, builder: EndpointBuilder) -> EndpointBuilder {
        match &self.qlog_dir {
            Some(folder) => builder.qlog(folder),
            None => builder,
        }
    }

    /// The same client, with a key log if it is wanted.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn client(&self, config: ClientConfig) -> Result<ClientConfig, String> {
        Ok(match self.open()? {
            Some(log) => config.key_log(log),
            None => config,
        })
    }

    /// The same server, with a key log if it is wanted.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn server(&self, config: ServerConfig) -> Result<ServerConfig, String> {
        Ok(match self.open()? {
            Some(log) => config.key_log(log),
            None => config,
        })
    }

    /// The file for secrets, if there is to be one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(&self) -> Result<Option<Arc<KeyLogFile>>, String> {
        let Some(path) = &self.key_log else { return Ok(None) };
        let log = KeyLogFile::open(path).map_err(|error| format!("--key-log {}: {error}", path.display()))?;
        Ok(Some(Arc::new(log)))
    }
}
