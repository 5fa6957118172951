//! What time it is.

use std::cell::Cell;
use std::fmt;
use std::ops::{Add, Sub};
use std::rc::Rc;
use std::time::Duration;

/// A time of a scheduler's clock in nanoseconds since the clock was made. Times of different schedulers have nothing to do
/// with each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// So many nanoseconds after the clock was made.
    pub const fn from_nanos(nanos: u64) -> Instant {
        Instant(nanos)
    }

    /// Nanoseconds since the clock was made.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How much later this is than `earlier`; zero if it is not.
    pub const fn saturating_duration_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// Ends at the last time that there is, 584 years on.
    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

/// The clock of a scheduler.
///
/// The default reads the processor's time-stamp counter with the `quanta` crate, which calibrates it against the system's
/// clock once per process (some 10 ms, at most 200) and falls back to that clock where the counter is not steady. It is
/// not corrected afterwards, so it drifts from `CLOCK_MONOTONIC` by the error of the calibration; `docs/fibers.md` has the
/// measured cost and drift. Sleeps are given to the kernel as durations, so drift makes them longer or shorter by parts
/// in a million and does not add up.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    Counter { clock: quanta::Clock, start: quanta::Instant },
    Manual(ManualClock),
}

impl Clock {
    /// The current time.
    #[inline]
    pub fn now(&self) -> Instant {
        match &self.0 {
            Source::Counter { clock, start } => {
                let since = clock.now().saturating_duration_since(*start);
                Instant(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
            }
            Source::Manual(manual) => Instant(manual.0.get()),
        }
    }

    pub(crate) fn is_manual(&self) -> bool {
        matches!(self.0, Source::Manual(_))
    }
}

impl Default for Clock {
    fn default() -> Clock {
        let clock = quanta::Clock::new();
        let start = clock.now();
        Clock(Source::Counter { clock, start })
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("manual", &self.is_manual()).field("now", &self.now()).finish()
    }
}

/// A clock that only moves when it is told to: for tests and simulators. A scheduler with it never sleeps for a timer.
///
/// ```
/// use std::time::Duration;
/// use warpline_fiber::{Config, Scheduler, time::{ManualClock, sleep}};
/// let clock = ManualClock::default();
/// let scheduler = Scheduler::new(Config { clock: clock.clock(), ..Config::default() }).unwrap();
/// let fiber = scheduler.spawn(|| sleep(Duration::from_secs(3600)));
/// scheduler.turn(1);
/// clock.advance(Duration::from_secs(3601));
/// scheduler.turn(1);
/// assert!(fiber.is_finished());
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Rc<Cell<u64>>);

impl ManualClock {
    /// The clock to put into a configuration.
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(self.clone()))
    }

    /// Moves the time on.
    pub fn advance(&self, by: Duration) {
        self.0.set((Instant(self.0.get()) + by).0);
    }
}
