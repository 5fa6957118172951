//! How the commands that move files use the network.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use tokio::runtime::Runtime;
use warpline::TransportConfig;
use warpline_share::{JoinCode, NetOptions, ShareError};

use crate::crypto::{CryptoArgs, CryptoChoice};
use crate::io::IoArgs;
use crate::output;
use crate::trace::TraceArgs;

/// The settings that can be given.
#[derive(Debug, Clone, Args)]
pub struct NetArgs {
    #[command(flatten)]
    pub io: IoArgs,
    #[command(flatten)]
    crypto: CryptoArgs,
    #[command(flatten)]
    trace: TraceArgs,
}

impl NetArgs {
    /// The runtime for what is not the transport, on the cores that were named, as is what is started from it.
    ///
    /// # Errors
    /// There are no such cores, or no threads to be had.
    pub fn runtime(&self) -> Result<Runtime, ShareError> {
        let misuse = |what| ShareError::Misuse { path: "--cores".into(), what };
        self.io.keep_to_cores().map_err(misuse)?;
        output::runtime().map_err(|e| ShareError::Connection(format!("no threads: {e}")))
    }

    /// Who seals packets.
    ///
    /// # Errors
    /// Whoever was named does not work here.
    pub fn crypto(&self) -> Result<CryptoChoice, ShareError> {
        self.crypto.choose().map_err(|what| ShareError::Misuse { path: "--crypto".into(), what })
    }

    /// What they come to.
    ///
    /// # Errors
    /// The file for secrets cannot be written.
    pub fn options(&self, crypto: &CryptoChoice) -> Result<NetOptions, ShareError> {
        Ok(NetOptions {
            transport: transport(),
            io: self.io.config(),
            crypto: crypto.crypto,
            qlog: self.trace.qlog_dir.clone(),
            key_log: self.trace.open().map_err(ShareError::Connection)?,
        })
    }
}

/// Windows that fill 1 Gbit/s at 100 ms and stay within the memory of the commands; a host that is silent for this long is gone.
fn transport() -> TransportConfig {
    TransportConfig {
        stream_window: 2 << 20,
        stream_window_max: 24 << 20,
        connection_window: 3 << 20,
        connection_window_max: 32 << 20,
        send_buffer: 16 << 20,
        max_idle_timeout: Some(Duration::from_secs(30)),
        keep_alive: Some(Duration::from_secs(10)),
        mtu_ceiling: 8972,
        ..TransportConfig::default()
    }
}

/// The code from the command line, or from the file that a host wrote it to.
pub fn code(argument: Option<&str>, file: Option<&Path>) -> Result<JoinCode, ShareError> {
    let misuse = |path: &Path, what: String| ShareError::Misuse { path: path.into(), what };
    let text = match (argument, file) {
        (Some(text), _) => text.to_owned(),
        (None, Some(file)) => {
            std::fs::read_to_string(file).map_err(|e| misuse(file, format!("the code cannot be read: {e}")))?
        }
        (None, None) => String::new(),
    };
    text.parse().map_err(|e| misuse(Path::new("the join code"), format!("{e}")))
}
