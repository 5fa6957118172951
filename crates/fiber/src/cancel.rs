//! Cancellation: an unwinding that starts at a wait.

use crate::sched::Inner;
use std::panic::resume_unwind;

/// What a cancelled fiber unwinds with.
pub(crate) struct Cancelled;

/// Starts the unwinding, past the panic hook: nothing is printed.
#[cold]
pub(crate) fn unwind() -> ! {
    resume_unwind(Box::new(Cancelled))
}

/// Runs `f` as a section that cancellation does not interrupt: waits inside it go on, and the first wait after it
/// unwinds. Sections nest. Outside a fiber it only calls `f`.
///
/// ```
/// # let scheduler = warpline_fiber::Scheduler::new(Default::default()).unwrap();
/// let whole = scheduler.spawn(|| warpline_fiber::shield(|| { warpline_fiber::yield_now(); 7 }));
/// scheduler.turn(1);
/// whole.cancel();
/// assert_eq!(whole.join().unwrap(), 7);
/// ```
pub fn shield<R>(f: impl FnOnce() -> R) -> R {
    struct Section;
    impl Section {
        fn add(by: i32) {
            Inner::try_with(|inner| {
                if let Some(cell) = inner.current() {
                    cell.shields.set(cell.shields.get().wrapping_add_signed(by));
                }
            });
        }
    }
    impl Drop for Section {
        fn drop(&mut self) {
            Section::add(-1);
        }
    }
    Section::add(1);
    let section = Section;
    let result = f();
    drop(section);
    result
}

/// Whether somebody asked that the running fiber ends. A long computation without waits looks here.
pub fn is_cancelled() -> bool {
    Inner::try_with(|inner| inner.current().is_some_and(|cell| cell.has(crate::sched::CANCEL))).unwrap_or(false)
}

/// Ends the running fiber by unwinding if that was asked for: a point of cancellation without a wait.
pub fn check_cancelled() {
    let due = Inner::try_with(|inner| inner.current().is_some_and(|cell| inner.cancel_due(cell))).unwrap_or(false);
    if due {
        unwind();
    }
}
