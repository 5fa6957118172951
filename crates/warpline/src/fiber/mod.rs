//! Straight-line programs inside a worker: connections and streams for [fibers](warpline_fiber).
//!
//! What [`local`] is for `async fn`s, this is for fibers: accepting, reading, writing and datagrams are
//! calls that return when they are done, and the fiber alone waits, not the worker. Every worker runs its fibers as one of its
//! tasks ([`warpline_fiber::Guest`]), so both kinds of programs can live on one worker, and a fiber can wait for any
//! local future ([`Wait`]). Start with [`EndpointBuilder::serve_fibers`](crate::EndpointBuilder::serve_fibers) or
//! [`EndpointBuilder::run_fiber`](crate::EndpointBuilder::run_fiber).
//!
//! Handles are those of `local` and dereference to them for everything that does not wait (`stats`, `close`, `finish`).
//! They stay on their worker. [`spawn`], [`sleep`](time::sleep), [`channel`](sync::channel) and the rest of
//! [`warpline_fiber`] work as anywhere, but there is no reactor: the worker waits for the kernel. Programs that also
//! talk to TCP sockets or files run on a scheduler of their own and use [`crate::Connection`], whose futures
//! they [`wait`](Wait::wait) for.
//!
//! ```
//! use warpline::{ClientConfig, Endpoint, Identity, ServerConfig};
//! use warpline::fiber::spawn;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let id = Identity::generate(["localhost"])?;
//! let server = ServerConfig::with_single_cert(vec![id.certificate.clone()], id.key(), &[b"echo"])?;
//! let server = Endpoint::builder().bind(([127, 0, 0, 1], 0)).server(server).serve_fibers(|connection| {
//!     while let Ok((mut send, mut recv)) = connection.accept_bi() {
//!         spawn(move || {
//!             while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX) {
//!                 let Ok(()) = send.write_chunk(chunk) else { break };
//!             }
//!         })
//!         .detach();
//!     }
//! })?;
//!
//! let (trusted, address) = (ClientConfig::with_pinned_fingerprint(&id.fingerprint().0, &[b"echo"])?, server.local_addr());
//! let answer = Endpoint::builder().bind(([127, 0, 0, 1], 0)).run_fiber(move |worker| {
//!     let connection = worker.connect(trusted, address, "localhost")?;
//!     let (mut send, mut recv) = connection.open_bi()?;
//!     send.write_all(b"hello")?;
//!     send.finish()?;
//!     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(recv.read_to_end(100)?)
//! })?;
//! assert_eq!(answer.map_err(|error| error.to_string())?, b"hello");
//! # Ok(()) }
//! ```
//!
//! The same server as `async fn`s, by [`serve_local`](crate::EndpointBuilder::serve_local):
//!
//! ```
//! use warpline::{Endpoint, Identity, ServerConfig, local};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let id = Identity::generate(["localhost"])?;
//! let server = ServerConfig::with_single_cert(vec![id.certificate.clone()], id.key(), &[b"echo"])?;
//! let server = Endpoint::builder().bind(([127, 0, 0, 1], 0)).server(server).serve_local(|connection| async move {
//!     while let Ok((mut send, mut recv)) = connection.accept_bi().await {
//!         let echo = async move {
//!             while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX).await {
//!                 let Ok(()) = send.write_chunk(chunk).await else { break };
//!             }
//!         };
//!         let _ = local::spawn_detached(echo);
//!     }
//! })?;
//! # drop(server);
//! # Ok(()) }
//! ```
//!
//! # Ends
//!
//! When the worker ends, the fibers that are left are cancelled: their waits unwind. A stream that an unwinding drops is
//! reset, as after a panic, so that its peer does not take half of something for the whole. When
//! [`run_fiber`](crate::EndpointBuilder::run_fiber)'s program returns, the fibers it leaves behind end the same way.

mod connection;
mod stream;
mod worker;

pub use connection::Connection;
pub use stream::{RecvStream, SendStream};
pub use warpline_fiber::{
    Baton, Builder, FiberLocal, JoinError, JoinHandle, Remote, StackClass, Wait, spawn, sync, time, yield_now,
};
pub use worker::Worker;

use crate::local;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use warpline_fiber::{Config, Guest};

type WorkerGuest = Guest<fn(Duration) -> local::Sleep, local::Sleep>;

/// The fibers of the calling thread's worker.
fn guest() -> WorkerGuest {
    let sleep: fn(Duration) -> local::Sleep = local::sleep;
    Guest::new(Config::default(), sleep)
        .expect("a worker's thread is new, so it has no scheduler, and guards can be set up")
}

/// Runs a program in a fiber, and fibers until none is left.
pub(crate) async fn run_all(worker: local::Worker, program: impl FnOnce(Worker) + 'static) {
    let guest = guest();
    let worker = Worker::new(worker);
    let first = Builder::new().name("program");
    let spawned = guest.scheduler().spawn_with(first, move || program(worker));
    spawned.expect("the first fiber is not beyond the limit").detach();
    guest.await;
}

/// Runs a program in a fiber and returns what it did, or goes on with its panic; other fibers are then ended.
pub(crate) async fn run_first<T: 'static>(worker: local::Worker, program: impl FnOnce(Worker) -> T + 'static) -> T {
    let mut guest = guest();
    let worker = Worker::new(worker);
    let first = Builder::new().name("program");
    let spawned = guest.scheduler().spawn_with(first, move || program(worker));
    let mut first = pin!(spawned.expect("the first fiber is not beyond the limit"));
    let result = poll_fn(|cx| {
        let fibers = pin!(&mut guest).poll(cx);
        // Without fibers the first one has ended.
        let first = first.as_mut().poll(cx);
        debug_assert!(fibers.is_pending() || first.is_ready(), "the last fiber tells that it ended");
        first
    })
    .await;
    match result {
        Ok(result) => result,
        Err(JoinError::Panicked(panic)) => std::panic::resume_unwind(panic),
        Err(error) => panic!("the program did not run to its end: {error}"),
    }
}

/// Accepts a worker's connections and runs a fiber for each.
pub(crate) fn serve<H>(worker: &Worker, handler: &Arc<H>)
where
    H: Fn(Connection) + 'static,
{
    while let Some(connection) = worker.accept() {
        let handler = Arc::clone(handler);
        // Beyond the limit of fibers the connection is dropped, and so closed.
        if let Ok(fiber) = Builder::new().name("connection").spawn(move || handler(connection)) {
            fiber.detach();
        }
    }
}
