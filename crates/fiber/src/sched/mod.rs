//! The scheduler: one per thread, its run queues, and the switch between it and its fibers.

mod cell;
mod config;
mod join;
mod life;
mod queue;
mod shutdown;
mod spawn;
mod switch;
mod turn;

pub(crate) use cell::{CANCEL, Co, FiberCell, FiberKey, WOKEN};
pub use config::{Config, SetupError, Stats, Turn};
pub use join::{JoinError, JoinHandle};
pub use spawn::{Builder, SpawnError, spawn};

use crate::hog::Watch;
use crate::limits;
use crate::reactor::Reactor;
use crate::remote::{FiberWaker, Injected, Notifier, Remote, Shared};
use crate::stack::StackPool;
use crate::time::{Clock, Instant, Timers};
use cell::Cells;
use life::Counts;
use queue::Hot;
pub(crate) use queue::seldom;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::thread;
use std::time::Duration;
use warpline_ring::WakeSet;
use warpline_ring::mailbox::Receiver;

thread_local! {
    static CURRENT: Current = const { Current::new() };
}

/// What a thread knows of its scheduler.
struct Current {
    /// The scheduler, or null. It holds a count of its own until the scheduler ends.
    inner: Cell<*const Inner>,
    /// The fiber that runs, or null. The scheduler's own loop leaves the last one here from switch to switch, and nothing
    /// when it calls code that is not its own.
    running: Cell<*const FiberCell>,
    /// A fiber that waits gives the thread back to whoever resumed it, because that is a fiber that runs others while it
    /// waits itself, or because such a thing is not wanted (`Inner::host`).
    nested: Cell<bool>,
}

impl Current {
    const fn new() -> Current {
        Current { inner: Cell::new(std::ptr::null()), running: Cell::new(std::ptr::null()), nested: Cell::new(false) }
    }

    /// Forgets the scheduler.
    fn clear(&self) -> *const Inner {
        self.nested.set(false);
        self.inner.replace(std::ptr::null())
    }
}

/// Runs the fibers of the thread that made it. A thread has one at most.
///
/// [`run`](Self::run) and [`block_on`](Self::block_on) own the thread until their work is done. A program with a loop of its
/// own drives the scheduler from there: [`turn`](Self::turn) runs what is ready, [`next_deadline`](Self::next_deadline) says
/// when the next timer is due, and [`Config::notify`] is called when another thread wakes a fiber.
///
/// Dropping it cancels all fibers and runs them to their end. A fiber that cannot end, because it holds back cancellation
/// and nobody will wake it, is reported and leaked together with the scheduler's memory.
pub struct Scheduler {
    inner: Rc<Inner>,
}

pub(crate) struct Inner {
    hot: Hot,
    cells: Cells,
    stacks: StackPool,
    counts: Counts,
    /// A fiber that ended just now: its stack is to be taken.
    ended: Cell<Option<NonNull<FiberCell>>>,
    shared: Arc<Shared>,
    injected: RefCell<Receiver<Injected>>,
    wake_sets: RefCell<Vec<Arc<WakeSet>>>,
    clock: Clock,
    timers: Timers,
    reactor: Option<Reactor>,
    watch: Option<Watch>,
    /// Whom to wake when a fiber becomes ready, while an executor of which this is a [`Guest`](crate::Guest) sleeps.
    host: Cell<Option<Waker>>,
    /// The fiber that last did I/O without having to wait, and how often in a row.
    streak: Cell<(u32, u32)>,
    /// What is true of the thread.
    modes: Modes,
}

#[derive(Default)]
struct Modes {
    /// A turn is running: a second one inside it would run fibers on top of each other.
    in_turn: Cell<bool>,
    /// Cancellations were held back because the thread was unwinding.
    delayed: Cell<bool>,
}

impl Scheduler {
    /// Makes the calling thread's scheduler.
    ///
    /// Fails if the thread has one already, if it cannot be pinned as asked, or if the guard handler cannot be set up.
    pub fn new(config: Config) -> Result<Scheduler, SetupError> {
        if CURRENT.with(|current| !current.inner.get().is_null()) {
            return Err(SetupError::SecondScheduler);
        }
        if let Some(core) = config.core {
            crate::affinity::pin(core)?;
        }
        // Miri knows neither signal stacks nor switches, but the rest of a scheduler.
        #[cfg(unix)]
        if !cfg!(miri) {
            crate::stack::overflow::install().map_err(SetupError::GuardHandler)?;
        }
        let reactor = Reactor::new(&config.reactor)?;
        let notifier = match (config.notify, &reactor) {
            (Some(notify), _) => Notifier::Call(notify),
            (None, Some(reactor)) => reactor.notifier(),
            (None, None) => Notifier::Thread(thread::current()),
        };
        let (shared, injected) = Shared::new(notifier);
        let inner = Rc::new(Inner {
            hot: Hot::default(),
            cells: Cells::new(config.fibers_max),
            stacks: StackPool::new(&config.stacks),
            counts: Counts::default(),
            ended: Cell::new(None),
            shared,
            injected: RefCell::new(injected),
            wake_sets: RefCell::default(),
            clock: config.clock,
            timers: Timers::default(),
            reactor,
            watch: config.hog.map(Watch::start).transpose().map_err(SetupError::Watch)?,
            host: Cell::new(None),
            streak: Cell::new((0, 0)),
            modes: Modes::default(),
        });
        CURRENT.with(|current| {
            current.inner.set(Rc::into_raw(inner.clone()));
            // What the watch reports is to be the fiber's own doing.
            current.nested.set(inner.watch.is_some());
        });
        Ok(Scheduler { inner })
    }

    /// Starts a fiber. See [`Builder`] for a name or another stack.
    ///
    /// # Panics
    /// If there are [`Config::fibers_max`] fibers.
    #[inline]
    pub fn spawn<T: 'static>(&self, f: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
        Builder::new().spawn(f).expect("a fiber was spawned beyond the configured limit")
    }

    /// Runs `f` in a fiber and everything else until it ends, and returns its result. Other fibers stay as they are.
    ///
    /// # Panics
    /// With `f`'s panic.
    pub fn run<T: 'static>(&self, f: impl FnOnce() -> T + 'static) -> T {
        match self.spawn(f).join() {
            Ok(result) => result,
            Err(JoinError::Panicked(panic)) => std::panic::resume_unwind(panic),
            Err(error) => panic!("the first fiber did not run: {error}"),
        }
    }

    /// Runs fibers until a future is ready. The future is polled on the thread's own stack.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.inner.block_on(std::pin::pin!(future))
    }

    /// Runs up to `budget` fibers that are ready, after looking once at timers, other threads and the kernel. Does not
    /// sleep.
    ///
    /// # Panics
    /// Inside a fiber or a timer's callback.
    pub fn turn(&self, budget: usize) -> Turn {
        self.inner.turn(budget)
    }

    /// Sleeps until a fiber may be ready: until another thread wakes one, the kernel completes an operation, a timer is
    /// due or `at_most` is over. Returns at once if one is ready.
    pub fn sleep_until_ready(&self, at_most: Option<Duration>) {
        if self.inner.is_idle() {
            self.inner.sleep(at_most);
        }
    }

    /// The executor of a [`Guest`](crate::Guest) polls; `asleep` if it was left with [`guest_end`](Self::guest_end).
    pub(crate) fn guest_begin(&self, asleep: bool) {
        self.inner.hot.host_sleeps.set(false);
        if asleep && self.inner.shared.bell.wake() {
            self.inner.take_remote();
        }
    }

    /// The executor may sleep until `waker` is used, or the notifier is called. `false` if there is something to do.
    pub(crate) fn guest_end(&self, waker: &Waker) -> bool {
        let inner = &self.inner;
        if !inner.shared.bell.prepare_sleep() {
            inner.take_remote();
            return false;
        }
        inner.host.set(Some(waker.clone()));
        inner.hot.host_sleeps.set(true);
        true
    }

    /// When the next timer is due: how long a loop of the program's own may sleep at most. May be early by what the
    /// timing wheel has to sort again on the way, never late.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.inner.timers.next_due()
    }

    /// The time of the scheduler's clock.
    pub fn now(&self) -> Instant {
        self.inner.now()
    }

    /// A handle for other threads.
    pub fn remote(&self) -> Remote {
        Remote::new(self.inner.shared.clone())
    }

    /// The figures so far. Looks at the pages of all stacks, so not for a fast path.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").field("fibers", &self.inner.counts.live()).finish_non_exhaustive()
    }
}

/// Lets the other fibers that are ready run first. A point of cancellation.
///
/// Outside a fiber one turn of the thread's scheduler runs.
// Inlined for the same reason as `Baton::wait`.
#[inline(always)]
pub fn yield_now() {
    match Inner::running() {
        // SAFETY: the fiber runs.
        Some(cell) if !cell.is_cancelled() => unsafe { Inner::of_fiber(cell) }.requeue(cell),
        _ => {
            seldom();
            yield_slow();
        }
    }
}

#[inline(never)]
fn yield_slow() {
    Inner::with(|inner| match inner.current() {
        Some(cell) => {
            if inner.cancel_due(cell) {
                crate::cancel::unwind();
            }
            inner.requeue(cell);
        }
        None => {
            inner.turn(limits::TURN_BUDGET);
        }
    });
}

/// The name of the running fiber; empty if it has none or no fiber runs.
pub fn current_name() -> String {
    let name = Inner::try_with(|inner| inner.current().map(|cell| cell.name.borrow().clone().into_owned()));
    name.flatten().unwrap_or_default()
}

impl Inner {
    /// The scheduler of this thread.
    #[inline]
    pub(crate) fn try_with<R>(f: impl FnOnce(&Inner) -> R) -> Option<R> {
        // SAFETY: the pointer holds a count until `Scheduler::drop` sets it to null, which no fiber and no callback can
        // reach while it uses the reference: they run inside the scheduler's own methods.
        unsafe { CURRENT.with(|current| current.inner.get()).as_ref() }.map(f)
    }

    /// The running fiber, for one that waits at once: its cell outlives the wait.
    #[inline(always)]
    pub(crate) fn running<'a>() -> Option<&'a FiberCell> {
        // SAFETY: cells live as long as their scheduler, and that as long as one of its fibers runs.
        unsafe { CURRENT.with(|current| current.running.get()).as_ref() }
    }

    /// The scheduler of a fiber.
    ///
    /// # Safety
    /// The fiber runs, or is parked.
    #[inline(always)]
    pub(crate) unsafe fn of_fiber<'a>(_: &FiberCell) -> &'a Inner {
        // SAFETY: such a fiber's scheduler is its thread's: one that ends has no fibers left, or has marked them.
        unsafe { &*CURRENT.with(|current| current.inner.get()) }
    }

    /// Says which fiber runs.
    #[inline(always)]
    fn set_running(cell: Option<&FiberCell>) {
        CURRENT.with(|current| current.running.set(cell.map_or(std::ptr::null(), std::ptr::from_ref)));
    }

    /// The same where there has to be one.
    #[inline]
    pub(crate) fn with<R>(f: impl FnOnce(&Inner) -> R) -> R {
        Self::try_with(f).expect("this thread has no fiber scheduler")
    }

    /// The scheduler and the running fiber.
    pub(crate) fn with_fiber<R>(f: impl FnOnce(&Inner, &FiberCell) -> R) -> R {
        Self::with(|inner| f(inner, inner.current().expect("this needs a running fiber")))
    }

    /// A count of the scheduler of this thread.
    fn counted() -> Option<Rc<Inner>> {
        let pointer = CURRENT.with(|current| current.inner.get());
        if pointer.is_null() {
            return None;
        }
        // SAFETY: the pointer came from `Rc::into_raw` and holds a count.
        unsafe { Rc::increment_strong_count(pointer) };
        // SAFETY: this takes the count added above.
        Some(unsafe { Rc::from_raw(pointer) })
    }

    #[inline]
    pub(crate) fn current(&self) -> Option<&FiberCell> {
        // SAFETY: cells live as long as the scheduler, and it is this thread's.
        unsafe { CURRENT.with(|current| current.running.get()).as_ref() }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The waker of whatever fiber is in the cell; made once.
    pub(crate) fn waker_of<'a>(&self, cell: &'a FiberCell) -> &'a Waker {
        let make = || {
            let mut sets = self.wake_sets.borrow_mut();
            let set = cell.index as usize / WakeSet::CAPACITY;
            while sets.len() <= set {
                sets.push(Arc::new(WakeSet::new(WakeSet::CAPACITY)));
            }
            Waker::from(FiberWaker::new(self.shared.clone(), sets[set].clone(), cell.index))
        };
        cell.waker.get_or_init(make)
    }

    /// The running fiber's key, if the waker is its own.
    pub(crate) fn owner_of(&self, waker: &Waker) -> Option<FiberKey> {
        let cell = self.current()?;
        (cell.waker.get()?.data() == waker.data()).then(|| cell.key())
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(crate) fn reactor(&self) -> Option<&Reactor> {
        self.reactor.as_ref()
    }

    /// For setting and ending timers. A host that sleeps looks again how long it may.
    pub(crate) fn timers(&self) -> &Timers {
        if self.hot.host_sleeps.get() {
            self.wake_host();
        }
        &self.timers
    }

    fn stats(&self) -> Stats {
        Stats {
            live: self.counts.live(),
            live_max: self.counts.live_max.get(),
            ready: self.hot.ready_count(),
            spawned: self.counts.spawned.get(),
            switches: self.counts.switches.get(),
            panics: self.counts.panics.get(),
            timers: self.timers.len(),
            reactor: self.reactor.as_ref().map(Reactor::stats),
            stacks: self.stacks.stats(),
        }
    }
}
