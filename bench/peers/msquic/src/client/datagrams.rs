//! `datagram` and `datagram-echo`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use warpline_peer_kit::Result;

use super::load::Load;
use crate::quic::{Connection, Remote};

/// Datagrams that wait in msquic. It walks the list of those that are new for each one that is added.
const QUEUE: usize = 128;
/// Echoes missing for this long are taken as lost, and their places in flight are given out again.
const LOST_AFTER: Duration = Duration::from_millis(20);

/// Fills the queue of a new connection.
pub fn fill(load: &Load, connection: &Connection<'_>) -> Result<()> {
    (0..QUEUE).try_for_each(|_| connection.send_datagram(load.message()))
}

/// Lets datagrams wait while a question is on its way: msquic sends them before any stream, as long as there are some.
#[derive(Debug, Default)]
pub struct Pause {
    asking: AtomicBool,
    owed: AtomicUsize,
}

impl Pause {
    /// One has gone, and another one takes its place.
    pub fn replace(&self, load: &Load, connection: &Connection<'_>) -> Result<()> {
        if load.is_over() {
            return Ok(());
        }
        self.owed.fetch_add(1, Ordering::Relaxed);
        if self.asking.load(Ordering::Relaxed) {
            return Ok(());
        }
        (0..self.owed.swap(0, Ordering::Relaxed)).try_for_each(|_| connection.send_datagram(load.message()))
    }

    /// Begins the pause.
    pub fn begin(&self) {
        self.asking.store(true, Ordering::Relaxed);
    }

    /// Ends the pause, and sends what there was no room for.
    pub fn end(&self, load: &Load, remote: &Remote) -> Result<()> {
        self.asking.store(false, Ordering::Relaxed);
        (0..self.owed.swap(0, Ordering::Relaxed)).try_for_each(|_| remote.send_datagram(load.message()))
    }
}

/// The echoes that a connection waits for.
#[derive(Debug, Default)]
pub struct Echoes {
    missing: AtomicUsize,
    /// Of the last one, in nanoseconds since the first was asked for.
    last: AtomicU64,
    began: OnceLock<Instant>,
}

impl Echoes {
    /// Sends until as many as there may be are in flight.
    pub fn fill(&self, load: &Load, connection: &Connection<'_>) -> Result<()> {
        self.began.get_or_init(Instant::now);
        while self.missing.load(Ordering::Relaxed) < load.args.in_flight.max(1) {
            self.missing.fetch_add(1, Ordering::Relaxed);
            connection.send_datagram(load.message())?;
        }
        Ok(())
    }

    /// An echo has come.
    pub fn came(&self, load: &Load, connection: &Connection<'_>) -> Result<()> {
        self.last.store(self.elapsed(), Ordering::Relaxed);
        // After a loss was assumed too early there may be more echoes than places.
        let one_less = |missing: usize| Some(missing.saturating_sub(1));
        let _ = self.missing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        if load.is_over() { Ok(()) } else { self.fill(load, connection) }
    }

    /// Takes those that are missing for long as lost, and sends others in their place.
    pub fn replace_lost(&self, load: &Load, remote: &Remote) -> Result<()> {
        let silent = self.elapsed().saturating_sub(self.last.load(Ordering::Relaxed));
        if silent < LOST_AFTER.as_nanos() as u64 {
            return Ok(());
        }
        self.last.store(self.elapsed(), Ordering::Relaxed);
        (0..self.missing.load(Ordering::Relaxed)).try_for_each(|_| remote.send_datagram(load.message()))
    }

    fn elapsed(&self) -> u64 {
        self.began.get().map_or(0, |began| began.elapsed().as_nanos() as u64)
    }
}
