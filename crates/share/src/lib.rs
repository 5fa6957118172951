//! Verified, resumable transfer of directories over QUIC.
//!
//! A [`Host`] serves a directory or a file to whoever holds its [`JoinCode`]; [`get`] fetches it, or what is missing of it;
//! [`ls`] lists it. Every byte is verified against BLAKE3 values as it comes, files get their final names only when they are
//! whole, and an interrupted transfer goes on where it stopped. The protocol is described in `docs/share-protocol.md`.
//!
//! This crate is no command: it prints nothing and decides no exit code. `warpline-cli` does.
//!
//! Where to begin: [`Host::open`], [`get`], and [`manifest`] for what is kept of a file.
//!
//! ```no_run
//! # async fn example() -> Result<(), warpline_share::ShareError> {
//! use std::sync::Arc;
//! use warpline_share::{GetOptions, JoinCode, Progress, connect, get};
//!
//! let code: JoinCode = "wl1…".parse().expect("a code that a host has printed");
//! let (_endpoint, connection) = connect(&code, &Default::default()).await?;
//! let report = get(&connection, &code, &GetOptions::default(), &Arc::new(Progress::default())).await?;
//! println!("{} files, {} bytes", report.files, report.bytes);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod auth;
mod chunks;
mod code;
mod error;
mod get;
mod hash;
mod host;
mod identity;
pub mod limits;
mod ls;
pub mod manifest;
#[doc(hidden)]
pub mod message;
mod net;
mod progress;
mod stream;
mod xattrs;

pub use code::{CodeError, JoinCode};
pub use error::{ShareError, display_path};
pub use get::{GetOptions, GetReport, connect, get};
pub use host::{FileIo, Host, HostCounters, HostOptions, Reading};
pub use identity::ShareIdentity;
pub use ls::{Listed, ls};
pub use net::NetOptions;
pub use progress::{Bottleneck, Flag, Gauge, Progress};
