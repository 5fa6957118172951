//! QUIC on the wire: bytes to meaning and back, without I/O and without unsafe.
//!
//! # What it is
//! Formats of RFC 8999, 9000, 9001, 9369, 9221, 9287 and 9368 and of the extensions for acknowledgement frequency,
//! reliable reset and address discovery. Parsers take any bytes and never panic; what they return makes sense as far as
//! the format tells. Writers work in room that the caller has checked. Nothing on the path of a packet allocates; only
//! transport parameters and the Retry pseudo-packet, once a connection, use the heap.
//!
//! # What it is not
//! There is no state here: whether a frame is in its place is decided by `warpline-proto`.
//!
//! # Where to begin
//! [`header::parse`], [`frame::decode`] and [`TransportParameters`].
//!
//! ```
//! use warpline_wire::{Reader, frame::{self, Frame}};
//!
//! let payload = [0x01, 0x10, 0x44, 0x00];
//! let mut reader = Reader::new(&payload);
//! assert_eq!(frame::decode(&mut reader), Ok(Frame::Ping));
//! assert_eq!(frame::decode(&mut reader), Ok(Frame::MaxData(1024)));
//! assert!(reader.is_empty());
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod cid;
pub mod client_hello;
mod cursor;
mod error_code;
pub mod frame;
pub mod header;
mod ids;
pub mod net;
mod numbers;
mod params;
pub mod varint;

pub use cursor::{Reader, Truncated, Writer};
pub use error_code::TransportErrorCode;
pub use ids::{ConnectionId, ResetToken};
pub use numbers::{Dir, PacketNumber, Side, StreamId, Version};
pub use params::{PreferredAddress, TransportParameterError, TransportParameters, VersionInformation};
