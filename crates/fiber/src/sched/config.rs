//! What a scheduler is told, and what it tells.

use crate::hog::HogConfig;
use crate::limits;
use crate::reactor::{ReactorConfig, ReactorStats};
use crate::stack::{StackConfig, StackStats};
use crate::time::Clock;
use std::fmt;
use std::io;

/// How a [`Scheduler`](crate::Scheduler) is set up. The default pins nothing and watches nothing.
pub struct Config {
    /// The core that the thread is pinned to. Linux keeps it there; macOS takes it as a hint.
    pub core: Option<usize>,
    /// Stack sizes.
    pub stacks: StackConfig,
    /// Fibers at once; rounded down to chunks of 256, at least one chunk.
    pub fibers_max: usize,
    /// How fibers wait for the kernel. None unless asked for.
    pub reactor: ReactorConfig,
    /// What time it is: the processor's counter, or a clock that a test or a simulator moves.
    pub clock: Clock,
    /// Reports fibers that hold the thread.
    pub hog: Option<HogConfig>,
    /// Called by other threads when they wake a fiber while the thread sleeps: for a thread that sleeps in a loop of the
    /// program's own and not in the scheduler. Must not block.
    pub notify: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            core: None,
            stacks: StackConfig::default(),
            fibers_max: limits::FIBERS_MAX,
            reactor: ReactorConfig::default(),
            clock: Clock::default(),
            hog: None,
            notify: None,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("core", &self.core)
            .field("stacks", &self.stacks)
            .field("fibers_max", &self.fibers_max)
            .field("reactor", &self.reactor)
            .field("clock", &self.clock)
            .field("hog", &self.hog)
            .field("notify", &self.notify.is_some())
            .finish()
    }
}

/// Why a scheduler was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// A thread has one scheduler at most.
    #[error("this thread has a fiber scheduler already")]
    SecondScheduler,
    /// The core does not exist or is not allowed for this process.
    #[error("the thread cannot be pinned to core {0}")]
    Core(usize),
    /// The handler that reports stack overflows was refused.
    #[error("the handler for stack overflows cannot be installed: {0}")]
    GuardHandler(#[source] io::Error),
    /// The kernel interface that was asked for cannot be used.
    #[error("the reactor cannot be set up: {0}")]
    Reactor(#[source] io::Error),
    /// A guest of another executor waits for the kernel by that executor's means.
    #[error("a guest of another executor has no reactor")]
    GuestReactor,
    /// The watch for fibers that hold the thread could not start.
    #[error("the watch for fibers that hold the thread cannot be started: {0}")]
    Watch(#[source] io::Error),
}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Fibers that ran.
    pub ran: usize,
    /// Whether fibers are ready now.
    pub ready: bool,
    /// Fibers that have not ended.
    pub live: usize,
}

/// The figures of a scheduler.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Fibers that have not ended.
    pub live: usize,
    /// The most there were at once.
    pub live_max: usize,
    /// Fibers ready to run.
    pub ready: usize,
    /// Fibers spawned since the start.
    pub spawned: u64,
    /// How often a fiber was switched to.
    pub switches: u64,
    /// Fibers that ended by a panic.
    pub panics: u64,
    /// Timers that are set.
    pub timers: usize,
    /// The reactor, if there is one.
    pub reactor: Option<ReactorStats>,
    /// The stacks by class: small, medium, large.
    pub stacks: [StackStats; 3],
}
