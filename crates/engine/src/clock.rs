//! The only clock of the stack: nanoseconds of the machine's monotonic clock since a worker group started.

use std::time::Instant as StdInstant;
use warpline_proto::Instant;

/// Maps the monotonic clock to the protocol's [`Instant`]. All workers of an engine share one start, so their
/// instants compare.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: StdInstant,
}

/// What the first reading of every clock is. Not zero, so that subtracting a short time from an early instant does
/// not saturate.
const EPOCH_NS: u64 = 1_000_000_000;

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: StdInstant::now() }
    }

    /// Reads the clock: about 27 ns, which is why a worker does it once per turn.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Instant {
        let elapsed = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX - EPOCH_NS);
        Instant::from_nanos(EPOCH_NS + elapsed)
    }
}
