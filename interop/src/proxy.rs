//! A UDP proxy that is a bad network.
//!
//! It stands between clients and one server and treats every datagram separately, also those that the kernel hands over
//! as one train (GRO) or takes as one (GSO). Delay, rate, queue, loss, reordering, duplication and damage are the hops of
//! [`warpline_sim::hop`], run on the real clock. All clients share one link, as behind one router. ECN codepoints are
//! carried over.
//!
//! A proxy has a thread of its own and stops when it is dropped.

mod config;
mod relay;
mod socket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

pub use config::Config;
use relay::Relay;

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// What the proxy's thread and its owner both see.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    received: AtomicU64,
    delivered: AtomicU64,
    dropped: AtomicU64,
    lost: AtomicU64,
    black_holed: AtomicU64,
    damaged: AtomicU64,
    marked: AtomicU64,
    rebinds: AtomicU64,
}

/// Counts of datagrams, both directions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Taken from clients and from the server.
    pub received: u64,
    /// Handed on. Duplicates count twice.
    pub delivered: u64,
    /// Dropped on purpose: lost, or found the queue full.
    pub dropped: u64,
    /// Of those, lost at random or by position.
    pub lost: u64,
    /// Of those, sent while nothing was let through.
    pub black_holed: u64,
    /// Handed on with other bytes than they came with.
    pub damaged: u64,
    /// Handed on with an ECN codepoint.
    pub marked: u64,
    /// Times that a client got a new address towards the server.
    pub rebinds: u64,
}

impl Proxy {
    /// Opens the listening socket and starts the thread.
    ///
    /// # Errors
    ///
    /// What the system says about the socket or the thread.
    pub fn start(config: Config) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let relay = Relay::new(config, Arc::clone(&shared))?;
        let address = relay.address();
        let thread = std::thread::Builder::new().name("proxy".into()).spawn(move || relay.run())?;
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Where clients send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Shared { received, delivered, dropped, lost, black_holed, damaged, marked, rebinds, .. } = &*self.shared;
        Stats {
            received: read(received),
            delivered: read(delivered),
            dropped: read(dropped),
            lost: read(lost),
            black_holed: read(black_holed),
            damaged: read(damaged),
            marked: read(marked),
            rebinds: read(rebinds),
        }
    }

    /// Waits until the thread ends, which it does by itself only on an error.
    ///
    /// # Errors
    ///
    /// The error that ended it.
    pub fn wait(mut self) -> io::Result<()> {
        match self.thread.take() {
            Some(thread) => thread.join().unwrap_or_else(|_| Err(io::Error::other("the proxy's thread panicked"))),
            None => Ok(()),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its error, if any, has shown as lost datagrams; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}
