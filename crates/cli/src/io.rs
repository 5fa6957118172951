//! How packets reach the program: the same choice for every command that moves them.

use clap::{Args, ValueEnum};
use warpline::{Backend, IoConfig};

/// The back ends of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Name {
    /// The fastest that works here.
    #[default]
    Auto,
    /// A socket with the system's offloads.
    Udp,
    /// A socket behind an io_uring (Linux 6.1).
    Uring,
}

/// The choice of a back end.
#[derive(Debug, Clone, Copy, Args)]
pub struct IoArgs {
    /// How packets move; what is named outright is used or the command fails.
    #[arg(long = "io", value_enum, value_name = "BACKEND", default_value_t)]
    name: Name,
}

impl IoArgs {
    /// The settings of an endpoint.
    pub fn config(self) -> IoConfig {
        let backend = match self.name {
            Name::Auto => Backend::Auto,
            Name::Udp => Backend::Udp,
            Name::Uring => Backend::Uring,
        };
        IoConfig { backend, ..IoConfig::default() }
    }
}
