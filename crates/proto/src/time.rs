//! Time as the protocol sees it: a number that the caller reads from its clock, real or virtual.

use core::ops::{Add, AddAssign, Sub};
use core::time::Duration;

/// A moment in nanoseconds since an epoch of the caller's choice.
///
/// The protocol never reads a clock: whoever drives it passes the time in. That makes a run on virtual time
/// the same code as a run on a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// Further away than any timer; stands for "never" in comparisons.
    pub const FAR_FUTURE: Self = Self(u64::MAX);

    /// The moment `nanos` nanoseconds after the epoch.
    #[inline]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch.
    #[inline]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// `self - d`, or `None` before the epoch.
    #[inline]
    pub fn checked_sub(self, d: Duration) -> Option<Self> {
        self.0.checked_sub(nanos(d)).map(Self)
    }
}

#[inline]
fn nanos(d: Duration) -> u64 {
    d.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(d.subsec_nanos()))
}

impl Add<Duration> for Instant {
    type Output = Self;
    #[inline]
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(nanos(d)))
    }
}

impl AddAssign<Duration> for Instant {
    #[inline]
    fn add_assign(&mut self, d: Duration) {
        *self = *self + d;
    }
}

/// The time from `earlier` to `self`; zero when `earlier` is later.
impl Sub for Instant {
    type Output = Duration;
    #[inline]
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
