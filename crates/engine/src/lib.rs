//! Share-nothing workers that run the protocol on packets.
//!
//! An [`Engine`] is a group of workers on one UDP address. A worker is a thread that owns everything it touches: a
//! socket, the protocol's endpoint with the connections whose IDs lead here, frame pools, timers, and the tasks of the
//! program. A packet's whole life happens on that thread: it is received into a frame, opened there, read there by the
//! program, and what comes of it is written into a transmit buffer and sent, all in one turn of the worker's loop.
//!
//! What workers share: rings between each two of them, for datagrams that arrived at the wrong one, and per-worker
//! counters that anybody may read. No locks, and no allocation per packet once buffers have grown to what the traffic
//! needs.
//!
//! What it is not: a runtime for anything but connections. Programs that block a worker's thread block its connections.
//!
//! Three types to read first: [`Engine`], [`local::Worker`], [`local::Connection`]. Handles for other threads and
//! runtimes are built on this crate's [`WorkerHandle::post`] by the crate `warpline`.
//!
//! ```
//! use std::sync::mpsc;
//! use warpline_engine::{Engine, EngineConfig};
//!
//! let mut config = EngineConfig::new()?;
//! config.bind = ([127, 0, 0, 1], 0).into();
//! config.workers = 2;
//! let (sender, receiver) = mpsc::channel();
//! let engine = Engine::start(config, move |worker| {
//!     let sender = sender.clone();
//!     async move { drop(sender.send(worker.index())) }
//! })?;
//! let mut indices = [receiver.recv()?, receiver.recv()?];
//! indices.sort();
//! assert_eq!(indices, [0, 1]);
//! engine.shutdown(0, b"done")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A turn
//!
//! Receive a batch, hand over what is another worker's, take what others handed over, carry out commands, fire timers,
//! run tasks that became ready, transmit, publish counters; then sleep until something arrives, is due, or the doorbell
//! rings. Bounds in [`limits`] keep each part from starving the others.

#![forbid(unsafe_code)]

mod bind;
mod clock;
mod config;
mod counters;
mod cx;
mod engine;
mod error;
mod exec;
pub mod limits;
pub mod local;
mod mailbox;
mod pages;
mod partition;
mod pin;
#[cfg(target_os = "linux")]
mod restart;
mod scaling;
mod stop;
mod timers;
mod worker;

pub use clock::Clock;
pub use config::EngineConfig;
pub use counters::WorkerStats;
pub use engine::{Engine, WorkerHandle};
pub use error::{
    ConnectError, EngineError, Fault, OperationError, ReadError, ReadExactError, ReadToEndError, RebindError,
    ScaleError, StartError, WriteError, connection_fault,
};
pub use local::ConnectionKey;
pub use mailbox::{Command, Rejected};
pub use scaling::{Ports, ScalingPolicy};
