//! QUIC without I/O: no clock, no socket, no thread, no unsafe.
//!
//! # What it is
//! RFC 8999, 9000, 9001 and 9002 as a state machine. [`Endpoint`] holds all connections of one worker: it routes datagrams to
//! them by connection ID, accepts new ones, answers what belongs to none, and knows when the next deadline is. Datagrams
//! go in as [`warpline_frame::Frame`]s and are opened where they lie; what the application reads is a
//! [`warpline_frame::Chunk`] of that same memory. Datagrams come out as GSO trains, written and sealed in the buffer
//! that the caller gives.
//!
//! # What it is not
//! It opens no socket, reads no clock and starts no thread: `warpline-engine` does, and the simulator puts virtual time in their
//! place. The same seed and the same input give the same output, byte for byte.
//!
//! # Where to begin
//! [`Endpoint`], whose documentation gives the order of calls; [`Connection`], for what an application can do;
//! [`TransportConfig`](config::TransportConfig), for what can be set.
//!
//! ```
//! use std::sync::Arc;
//! use warpline_proto::{Endpoint, Instant, config::{ClientConfig, EndpointConfig}};
//!
//! let config = Arc::new(EndpointConfig::new(&[7; 32]));
//! let mut client = Endpoint::new(config, None, [1; 32]);
//! let tls = ClientConfig::insecure(&[b"echo"]).unwrap();
//! let handle = client.connect(Instant::default(), &tls, "192.0.2.1:4433".parse().unwrap(), "localhost").unwrap();
//! let mut buf = [0; 2048];
//! let first = client.poll_transmit(Instant::default(), &mut buf).unwrap();
//! assert_eq!(first.len, 1200); // the first Initial, padded (RFC 9000 section 14.1)
//! assert!(client.peek(handle).unwrap().is_handshaking());
//! ```
#![forbid(unsafe_code)]

pub mod config;
pub mod congestion;
mod connection;
mod crypto;
mod cx;
pub mod datagram;
mod datagram_meta;
pub mod ecn;
mod endpoint;
mod error;
mod event;
mod few;
mod ids;
pub mod limits;
pub mod mtu;
pub mod pacing;
mod path;
mod qlog;
mod ranges;
pub mod recovery;
mod resume;
mod rng;
mod sent_frame;
mod space;
pub mod streams;
mod time;

pub use connection::{Connection, ConnectionStats, EarlyData, PacketDrops};
pub use crypto::{
    BATCH_MAX, DeviceKey, DeviceTrial, FleetKeys, Job, PacketCrypto, PacketDevice, ResetKey, TokenKey, TrialError,
    install_device, provider, try_device,
};
pub use datagram::SendDatagramError;
pub use datagram_meta::{DatagramMeta, Transmit};
pub use ecn::Ecn;
pub use endpoint::{ConnectionHandle, Detached, Endpoint, EndpointStats, Fetch, Kept, Pressure, RouteChange};
pub use error::{ConfigError, ConnectError, ConnectionError, ExportError, MigrateError, TransportError};
pub use event::Event;
pub use qlog::LogPiece;
pub use streams::{ClosedStream, ReadError, ResetAtError, WriteError};
pub use time::Instant;
pub use warpline_wire::{Dir, ResetToken, Side, StreamId, TransportErrorCode, Version};
