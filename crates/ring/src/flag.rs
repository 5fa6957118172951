//! One bit from any thread to one.

use crate::sync::{AtomicBool, Ordering};

/// "Something happened", said by any thread, taken by one.
///
/// Both are always read-modify-writes, so all of them have one order, and each synchronizes with those before it. That
/// decides both questions that such a bit has to answer:
///
/// - *What did those do who found it raised already?* Whoever takes it sees everything that was done before every raise
///   up to then, not only before the one that turned it.
/// - *Who looks last?* If one side raises and then looks, and the other one changes something and then takes, one of them
///   sees the other: a take after the raise finds it, and a raise after the take sees the change. With a store and a load
///   in place of these, both could miss (a store may wait in the processor while the load that follows it is done).
#[derive(Debug)]
pub struct Flag(AtomicBool);

impl Flag {
    /// A flag that is raised or not.
    pub fn new(raised: bool) -> Flag {
        Flag(AtomicBool::new(raised))
    }

    /// Raises it; whether it was not raised before.
    #[inline]
    pub fn raise(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Takes it; whether it was raised.
    #[inline]
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }

    /// Takes it if it seems to be raised: a load if it does not, which may come too early. For flags behind a
    /// [`Doorbell`](crate::Doorbell) that is rung after the raise: after the look that the ring brings about it is found.
    #[inline]
    pub fn take_if_seen(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.take()
    }

    /// Raises or lowers it without telling anybody, for who has it alone.
    #[inline]
    pub fn reset(&mut self, raised: bool) {
        *self = Flag::new(raised);
    }
}
