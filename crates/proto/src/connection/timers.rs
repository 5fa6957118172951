//! The deadlines of a connection.

use crate::time::Instant;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Loss detection: a packet counts as lost, or the probe timeout expires (RFC 9002 section 6).
    Loss = 0,
    /// An acknowledgement that was held back is due.
    Ack,
    /// Nothing was heard for too long.
    Idle,
    /// A PING keeps the connection alive.
    KeepAlive,
    /// The closing or draining period ends.
    Close,
    /// A path challenge is repeated or given up.
    Path,
    /// The keys of the previous phase are dropped.
    KeyDiscard,
    /// The pacer lets more out.
    Pacing,
    /// Path MTU discovery tries again.
    Mtu,
    /// Memory that a burst of work left behind is given back.
    Rest,
}

const COUNT: usize = 10;

/// The deadlines; an unset one lies in the far future.
#[derive(Debug)]
pub(super) struct Timers([Instant; COUNT]);

impl Default for Timers {
    fn default() -> Self {
        Self([Instant::FAR_FUTURE; COUNT])
    }
}

impl Timers {
    #[inline]
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = at;
    }

    #[inline]
    pub(super) fn set_opt(&mut self, timer: Timer, at: Option<Instant>) {
        self.0[timer as usize] = at.unwrap_or(Instant::FAR_FUTURE);
    }

    #[inline]
    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = Instant::FAR_FUTURE;
    }

    /// Stops all but `timer`.
    pub(super) fn keep_only(&mut self, timer: Timer) {
        let at = self.0[timer as usize];
        *self = Self::default();
        self.set(timer, at);
    }

    #[inline]
    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize] != Instant::FAR_FUTURE
    }

    /// Stops `timer` if it is due and says so.
    #[inline]
    pub(super) fn take_due(&mut self, timer: Timer, now: Instant) -> bool {
        let due = self.0[timer as usize] <= now;
        if due {
            self.stop(timer);
        }
        due
    }

    /// The earliest deadline.
    #[inline]
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().min().copied().filter(|at| *at != Instant::FAR_FUTURE)
    }
}
