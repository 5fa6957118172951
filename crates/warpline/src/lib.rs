//! A QUIC stack that runs at line rate.
//!
//! An [`Endpoint`] is a group of workers on one UDP address. A worker is a pinned thread that shares nothing with the
//! others: it owns a socket, the connections whose IDs lead to it, and the tasks that serve them. There are three ways
//! to use it:
//!
//! - **Inside a worker** ([`local`]): the program runs where the packets arrive. It reads them where they were
//!   decrypted and writes from where its data lies; nothing is copied and no thread is crossed. Futures need not be
//!   `Send`. Start with [`EndpointBuilder::serve_local`] or [`EndpointBuilder::run_local`].
//! - **The same in fibers** (`fiber`, a feature that is on by default): accepting, reading and writing are calls that
//!   return when they are done, with no `async` in sight. Start with `EndpointBuilder::serve_fibers` or `run_fiber`.
//! - **From anywhere** ([`Connection`], [`SendStream`], [`RecvStream`]): `Send` handles for threads of the program's
//!   own, under tokio or any other runtime, with `AsyncRead` and `AsyncWrite` (feature `tokio`, on by default). They
//!   talk to the worker through lock-free rings. Start with [`EndpointBuilder::start`].
//!
//! What it is not: a resolver of names, an HTTP library, a runtime for blocking code.
//!
//! Three types to read first: [`Endpoint`], [`Connection`], [`Chunk`].
//!
//! # An echo server and its client
//!
//! ```
//! use warpline::{ClientConfig, Endpoint, Identity, ServerConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let id = Identity::generate(["localhost"])?;
//! let server = ServerConfig::with_single_cert(vec![id.certificate.clone()], id.key(), &[b"echo"])?;
//! let server = Endpoint::builder().bind(([127, 0, 0, 1], 0)).server(server).serve_local(|connection| async move {
//!     while let Ok((mut send, mut recv)) = connection.accept_bi().await {
//!         while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX).await {
//!             let Ok(()) = send.write_chunk(chunk).await else { break };
//!         }
//!     }
//! })?;
//!
//! let (trusted, address) = (ClientConfig::with_pinned_fingerprint(&id.fingerprint().0, &[b"echo"])?, server.local_addr());
//! let answer = Endpoint::builder().bind(([127, 0, 0, 1], 0)).run_local(move |worker| async move {
//!     let connection = worker.connect(trusted.into(), address, "localhost").await?;
//!     let (mut send, mut recv) = connection.open_bi().await?;
//!     send.write_all(b"hello").await?;
//!     send.finish()?;
//!     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(recv.read_to_end(100).await?)
//! })?;
//! assert_eq!(answer.map_err(|error| error.to_string())?, b"hello");
//! # Ok(()) }
//! ```
//!
//! # Errors
//!
//! Each operation has its own error type, which keeps apart what the peer did, what the caller did and what the machine
//! did; `fault()` says which ([`engine::Fault`]). All convert to [`std::io::Error`]. Having nothing to do is never an
//! error.
//!
//! # Dropping
//!
//! | dropped | what happens |
//! |---|---|
//! | `SendStream` | finished: what was written is delivered, then the end. Reset if a panic drops it in a worker |
//! | `RecvStream` before its end | the peer is asked to stop, code 0 |
//! | the last handle of a connection and its streams | closed with code 0, once finished streams are delivered |
//! | the last `Endpoint` | all connections are closed with code 0, the workers end |

#![forbid(unsafe_code)]

mod builder;
mod endpoint;
#[cfg(feature = "fiber")]
pub mod fiber;
mod identity;
mod key_log;
pub mod limits;
mod memory_file;
mod remote;

pub use warpline_engine as engine;
pub use warpline_engine::local;

pub use builder::{EndpointBuilder, RunError};
pub use endpoint::Endpoint;
pub use engine::{
    ConnectError, EngineError, Fault, OperationError, ReadError, ReadExactError, ReadToEndError, RebindError,
    ScaleError, ScalingPolicy, StartError, WorkerStats, WriteError,
};
pub use identity::{Fingerprint, Identity};
pub use key_log::KeyLogFile;
pub use memory_file::{MemoryFile, MemoryFileError};
pub use remote::{Connection, RecvStream, SendDatagramError, SendStream};

pub use rustls::{CipherSuite, KeyLog, RootCertStore};
pub use rustls_pki_types::{CertificateDer, PrivateKeyDer};
pub use warpline_frame::Chunk;
pub use warpline_pktio::xdp::{
    InterfaceName, QueueSet, XdpChecksums, XdpConfig, XdpCounters, XdpFrames, XdpMode, XdpModes, XdpStatus, XdpWakeups,
};
pub use warpline_pktio::{Backend, Choice, IoConfig, IoKind, IoStats};
pub use warpline_proto::config::{
    AddressDiscovery, ClientAuth, ClientConfig, ClientMemory, Extensions, MemoryError, MemoryStats, PathMemory,
    PreferredAddress, QuicLb, RetryPolicy, ServerConfig, TlsOptions, TransportConfig, Trust,
};
pub use warpline_proto::congestion::{self, CongestionAlgorithm};
pub use warpline_proto::{
    ConfigError, ConnectionError, ConnectionStats, DeviceKey, DeviceTrial, EarlyData, EndpointStats, ExportError,
    FleetKeys, Job, PacketCrypto, PacketDevice, PacketDrops, TransportError, TrialError, install_device, provider,
    try_device,
};
pub use warpline_wire::{Dir, Side, StreamId, TransportErrorCode, Version};
