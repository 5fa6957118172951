//! What every endpoint of the interop matrix shares, so that each stack's program holds only that stack's calls.
//!
//! - [`args`]: the command line, the same for every stack;
//! - [`hq`]: the file transfer of the public interop suite, which is HTTP/0.9 on streams;
//! - [`client`]: in which order connections are opened and files fetched, over two small traits;
//! - [`report`]: what programs print, one JSON object a line, for the matrix to read;
//! - `http3` (feature of that name): HTTP/3 over the transport traits of the `h3` crate;
//! - `tls` (feature `rustls`): the configuration of stacks that take rustls.
//!
//! A program must refuse an option that its stack cannot honour ([`args::ClientArgs::refuse`]): the matrix knows
//! what each stack lacks, and an option that is passed over in silence would make a case pass that never ran.
#![forbid(unsafe_code)]

pub mod args;
pub mod client;
pub mod hq;
#[cfg(feature = "http3")]
pub mod http3;
pub mod report;
#[cfg(feature = "rustls")]
pub mod tls;

/// What goes wrong in a program of the matrix is only ever printed.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// With [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
