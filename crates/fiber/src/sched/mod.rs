//! The scheduler: one per thread, its run queues, and the switch between it and its fibers.

mod cell;
mod config;
mod join;
mod shutdown;
mod spawn;

pub(crate) use cell::{CANCEL, FiberCell, FiberKey, WOKEN};
pub use config::{Config, SetupError, Stats, Turn};
pub use join::{JoinError, JoinHandle};
pub use spawn::{Builder, SpawnError, spawn};

use crate::hog::Watch;
use crate::limits;
use crate::reactor::Reactor;
use crate::remote::{FiberWaker, Injected, Notifier, Remote, Shared};
use crate::stack::StackPool;
use crate::time::{Clock, Instant, Timers};
use cell::{Cells, Co, DELAYED, HANDLE, Outcome, Queue, State};
use corosensei::CoroutineResult;
use corosensei::stack::Stack as _;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;
use warpline_ring::WakeSet;
use warpline_ring::mailbox::Receiver;

thread_local! {
    /// The scheduler of this thread, or null. It holds a count of its own until the scheduler ends.
    static CURRENT: Cell<*const Inner> = const { Cell::new(std::ptr::null()) };
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
    cells: Cells,
    ready: Queue,
    ready_io: Queue,
    current: Cell<Option<NonNull<FiberCell>>>,
    stacks: StackPool,
    shared: Arc<Shared>,
    injected: RefCell<Receiver<Injected>>,
    wake_sets: RefCell<Vec<Arc<WakeSet>>>,
    clock: Clock,
    timers: Timers,
    reactor: Option<Reactor>,
    watch: Option<Watch>,
    counts: Counts,
    /// Whom to wake when a fiber becomes ready, while an executor of which this is a [`Guest`](crate::Guest) sleeps.
    host: Cell<Option<Waker>>,
    /// It does sleep.
    host_sleeps: Cell<bool>,
    /// The fiber that last did I/O without having to wait, and how often in a row.
    streak: Cell<(u32, u32)>,
    /// A turn is running: a second one inside it would run fibers on top of each other.
    in_turn: Cell<bool>,
}

#[derive(Default)]
struct Counts {
    live: Cell<usize>,
    live_max: Cell<usize>,
    spawned: Cell<u64>,
    panics: Cell<u64>,
    /// Fibers that were ever made ready, and those of them that were run: what lies between them is ready. The second
    /// is written once per turn, so that a switch does not wait for the counter's own last value.
    queued: Cell<u64>,
    ran: Cell<u64>,
    /// Fibers parked in the middle of an unwinding.
    unwinding: Cell<u32>,
    /// Cancellations were held back because of that.
    delayed: Cell<bool>,
}

impl Scheduler {
    /// Makes the calling thread's scheduler.
    ///
    /// Fails if the thread has one already, if it cannot be pinned as asked, or if the guard handler cannot be set up.
    pub fn new(config: Config) -> Result<Scheduler, SetupError> {
        if !CURRENT.get().is_null() {
            return Err(SetupError::SecondScheduler);
        }
        if let Some(core) = config.core {
            crate::affinity::pin(core)?;
        }
        #[cfg(unix)]
        crate::stack::overflow::install().map_err(SetupError::GuardHandler)?;
        let reactor = Reactor::new(&config.reactor)?;
        let notifier = match (config.notify, &reactor) {
            (Some(notify), _) => Notifier::Call(notify),
            (None, Some(reactor)) => reactor.notifier(),
            (None, None) => Notifier::Thread(thread::current()),
        };
        let (shared, injected) = Shared::new(notifier);
        let inner = Rc::new(Inner {
            cells: Cells::new(config.fibers_max),
            ready: Queue::default(),
            ready_io: Queue::default(),
            current: Cell::new(None),
            stacks: StackPool::new(&config.stacks),
            shared,
            injected: RefCell::new(injected),
            wake_sets: RefCell::default(),
            clock: config.clock,
            timers: Timers::default(),
            reactor,
            watch: config.hog.map(Watch::start).transpose().map_err(SetupError::Watch)?,
            counts: Counts::default(),
            host: Cell::new(None),
            host_sleeps: Cell::new(false),
            streak: Cell::new((0, 0)),
            in_turn: Cell::new(false),
        });
        CURRENT.set(Rc::into_raw(inner.clone()));
        Ok(Scheduler { inner })
    }

    /// Starts a fiber. See [`Builder`] for a name or another stack.
    ///
    /// # Panics
    /// If there are [`Config::fibers_max`] fibers.
    #[inline]
    pub fn spawn<T: 'static>(&self, f: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
        Builder::new().spawn_on(&self.inner, f).expect("a fiber was spawned beyond the configured limit")
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
        self.inner.host_sleeps.set(false);
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
        inner.host_sleeps.set(true);
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
        f.debug_struct("Scheduler").field("fibers", &self.inner.counts.live.get()).finish_non_exhaustive()
    }
}

/// Lets the other fibers that are ready run first. A point of cancellation.
///
/// Outside a fiber one turn of the thread's scheduler runs.
// Inlined for the same reason as `Baton::wait`.
#[inline(always)]
pub fn yield_now() {
    match Inner::running() {
        Some((inner, cell)) if !cell.is_cancelled() => inner.requeue(cell),
        _ => yield_slow(),
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
        unsafe { CURRENT.get().as_ref() }.map(f)
    }

    /// The scheduler of this thread and the running fiber, for those who wait at once: both outlive the wait.
    #[inline(always)]
    pub(crate) fn running<'a>() -> Option<(&'a Inner, &'a FiberCell)> {
        // SAFETY: as in `try_with`; the running fiber's scheduler lives as long as the fiber.
        let inner = unsafe { CURRENT.get().as_ref() }?;
        Some((inner, inner.current()?))
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
        let pointer = CURRENT.get();
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
        // SAFETY: cells live as long as the scheduler.
        self.current.get().map(|cell| unsafe { cell.as_ref() })
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

    /// Makes a fiber ready if it is parked.
    #[inline]
    pub(crate) fn wake(&self, key: FiberKey, io: bool) {
        match self.cells.at(key.index) {
            Some(cell) if cell.generation.get() == key.generation => self.wake_cell(cell, io),
            _ => {}
        }
    }

    /// Makes whatever fiber is in a cell ready if it is parked.
    pub(crate) fn wake_index(&self, index: u32) {
        if let Some(cell) = self.cells.at(index) {
            self.wake_cell(cell, false);
        }
    }

    #[inline]
    pub(crate) fn wake_cell(&self, cell: &FiberCell, io: bool) {
        cell.set(WOKEN);
        if cell.state.get() == State::Parked {
            cell.state.set(State::Queued);
            self.enqueue(cell, io);
        }
    }

    #[inline]
    fn enqueue(&self, cell: &FiberCell, io: bool) {
        self.counts.queued.set(self.counts.queued.get() + 1);
        if io {
            self.ready_io.push(cell)
        } else {
            self.ready.push(cell)
        }
        if self.host_sleeps.get() {
            self.wake_host();
        }
    }

    #[cold]
    fn wake_host(&self) {
        self.host_sleeps.set(false);
        if let Some(waker) = self.host.take() {
            waker.wake();
        }
    }

    /// Switches away from the running fiber until somebody wakes it. It may be woken without reason.
    #[inline(always)]
    pub(crate) fn park(&self, cell: &FiberCell) {
        cell.state.set(State::Parked);
        // Whose unwinding it is cannot be known while another fiber is parked in the middle of one; then nothing is
        // counted, and cancellations wait a little longer (`cancel_due`).
        if thread::panicking() && self.counts.unwinding.get() == 0 {
            self.park_unwinding(cell);
        } else {
            self.switch(cell);
        }
    }

    #[cold]
    fn park_unwinding(&self, cell: &FiberCell) {
        self.counts.unwinding.set(1);
        self.switch(cell);
        self.counts.unwinding.set(0);
        self.deliver_delayed();
    }

    /// Switches away from the running fiber and leaves it ready.
    #[inline(always)]
    pub(crate) fn requeue(&self, cell: &FiberCell) {
        cell.state.set(State::Queued);
        self.enqueue(cell, false);
        self.switch(cell);
    }

    #[inline(always)]
    fn switch(&self, cell: &FiberCell) {
        debug_assert!(self.current.get() == Some(NonNull::from(cell)), "only the running fiber switches away");
        // SAFETY: the yielder lies at the base of the running fiber's stack, for as long as the fiber.
        let yielder = unsafe { &*cell.seat.yielder.get() };
        yielder.suspend(());
    }

    /// Whether the running fiber is to unwind at this wait. Not while it unwinds already: an unwinding out of a
    /// destructor would end the process.
    #[inline]
    pub(crate) fn cancel_due(&self, cell: &FiberCell) -> bool {
        if !cell.is_cancelled() {
            return false;
        }
        let unwinding = thread::panicking();
        if unwinding {
            cell.set(DELAYED);
            self.counts.delayed.set(true);
        }
        !unwinding
    }

    /// Before I/O that may be done at once: a point of cancellation, and the end of a fiber's turn if it did a lot already.
    pub(crate) fn pace(&self) {
        let Some(cell) = self.current() else { return };
        let (index, count) = self.streak.get();
        let count = if index == cell.index { count + 1 } else { 0 };
        self.streak.set((cell.index, count));
        if count >= limits::AT_ONCE_MAX {
            self.streak.set((cell.index, 0));
            yield_now();
        } else if self.cancel_due(cell) {
            crate::cancel::unwind();
        }
    }

    /// Wakes the fibers whose cancellation was held back.
    #[cold]
    fn deliver_delayed(&self) {
        if self.counts.delayed.replace(false) {
            for cell in (0..self.cells.len() as u32).filter_map(|index| self.cells.at(index)) {
                if cell.has(DELAYED) {
                    cell.clear(DELAYED);
                    self.wake_cell(cell, false);
                }
            }
        }
    }

    pub(crate) fn turn(&self, budget: usize) -> Turn {
        assert!(self.current.get().is_none(), "a fiber cannot run a turn of its scheduler: wait instead");
        assert!(!self.in_turn.replace(true), "a callback cannot run a turn of its scheduler");
        struct Reset<'a>(&'a Cell<bool>);
        impl Drop for Reset<'_> {
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        let reset = Reset(&self.in_turn);
        if self.shared.bell.take() {
            self.take_remote();
        }
        if !self.timers.is_empty() {
            self.timers.fire(self.clock.now());
        }
        if let Some(reactor) = &self.reactor {
            reactor.poll();
        }
        let ran = self.run_ready(budget);
        if let Some(watch) = &self.watch {
            watch.idle();
        }
        self.counts.ran.set(self.counts.ran.get() + ran as u64);
        drop(reset);
        Turn { ran, ready: self.ready_count(), live: self.counts.live.get() }
    }

    /// Runs up to `budget` ready fibers and says how many.
    fn run_ready(&self, budget: usize) -> usize {
        let mut ran = 0;
        let mut io_in_a_row = 0;
        while ran < budget {
            let next = if self.ready_io.is_empty() || (io_in_a_row >= limits::IO_SHARE && !self.ready.is_empty()) {
                io_in_a_row = 0;
                self.ready.pop()
            } else {
                io_in_a_row += 1;
                self.ready_io.pop()
            };
            let Some(cell) = next else { break };
            // SAFETY: cells live as long as the scheduler.
            self.run_fiber(unsafe { cell.as_ref() });
            ran += 1;
        }
        ran
    }

    /// Fibers that are ready, between turns.
    fn ready_count(&self) -> usize {
        (self.counts.queued.get() - self.counts.ran.get()) as usize
    }

    #[inline(always)]
    fn run_fiber(&self, cell: &FiberCell) {
        if cell.state.get() == State::New && !self.prepare(cell) {
            return;
        }
        cell.state.set(State::Running);
        self.current.set(Some(NonNull::from(cell)));
        if let Some(watch) = &self.watch {
            watch.enter(cell);
        }
        // SAFETY: only this function and `prepare` touch the coroutine, and a fiber cannot run a turn.
        let slot = unsafe { &mut *cell.coroutine.get() };
        let coroutine = slot.as_mut().expect("a fiber that is ready has a coroutine");
        let result = coroutine.resume(());
        self.current.set(None);
        if let CoroutineResult::Return(()) = result {
            self.retire(cell);
        }
    }

    /// Takes the stack of a fiber that has returned.
    #[inline(never)]
    fn retire(&self, cell: &FiberCell) {
        // SAFETY: as in `run_fiber`, which is done with it.
        let slot = unsafe { &mut *cell.coroutine.get() };
        if let Some(coroutine) = slot.take() {
            self.stacks.put(cell.seat.class.get(), coroutine.into_stack());
        }
        self.finish(cell);
    }

    /// Gives a new fiber its stack. `false` if it ended without having run.
    #[inline(never)]
    fn prepare(&self, cell: &FiberCell) -> bool {
        let outcome = if cell.is_cancelled() {
            Outcome::Cancelled
        } else {
            match self.stacks.take(cell.seat.class.get()) {
                Ok(stack) => {
                    cell.seat.limit.set(stack.limit().get());
                    let pointer = NonNull::from(cell);
                    let coroutine = Co::with_stack(stack, move |yielder, ()| {
                        // SAFETY: cells live as long as the scheduler, and it runs this closure.
                        let cell = unsafe { pointer.as_ref() };
                        cell.seat.yielder.set(yielder);
                        fiber_main(cell);
                    });
                    // SAFETY: only this function and `run_fiber` touch the coroutine.
                    unsafe { *cell.coroutine.get() = Some(coroutine) };
                    return true;
                }
                Err(error) => Outcome::NoStack(error),
            }
        };
        *cell.outcome.borrow_mut() = outcome;
        let drop_closure = cell.job.get().drop_closure;
        // SAFETY: the fiber never ran, so the closure is in the payload. Its destructor's panic ends with it.
        let _ = catch_unwind(AssertUnwindSafe(|| unsafe { drop_closure(cell.payload.get()) }));
        self.finish(cell);
        false
    }

    fn finish(&self, cell: &FiberCell) {
        self.counts.live.set(self.counts.live.get() - 1);
        if matches!(*cell.outcome.borrow(), Outcome::Panicked(_)) {
            self.counts.panics.set(self.counts.panics.get() + 1);
        }
        cell.state.set(State::Done);
        if cell.has(HANDLE) {
            cell.joined.post();
        } else {
            self.release(cell);
        }
    }

    /// Takes the cell of a fiber that is done and that nobody will join.
    fn release(&self, cell: &FiberCell) {
        drop(cell.outcome.replace(Outcome::None));
        cell.generation.set(cell.generation.get().wrapping_add(1));
        cell.state.set(State::Free);
        self.cells.put(cell);
    }

    /// Takes what other threads sent.
    fn take_remote(&self) {
        for set in 0..self.wake_sets.borrow().len() {
            let wakes = self.wake_sets.borrow()[set].clone();
            wakes.drain(|member| self.wake_index((set * WakeSet::CAPACITY + member) as u32));
        }
        let mut injected = self.injected.borrow_mut();
        for closure in injected.drain() {
            if let Some(inner) = Self::counted()
                && Builder::new().spawn_on(&inner, closure).is_err()
            {
                tracing::warn!("a closure from another thread was dropped: there are too many fibers");
            }
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.ready_io.is_empty()
    }

    /// Sleeps until something rings or the next timer is due, at most for `at_most`.
    fn sleep(&self, at_most: Option<Duration>) {
        let timer = self.next_timer().filter(|_| !self.clock.is_manual());
        let at_most = at_most.into_iter().chain(timer).min();
        if at_most == Some(Duration::ZERO) {
            return;
        }
        if self.shared.bell.prepare_sleep() {
            match (&self.reactor, at_most) {
                (Some(reactor), at_most) => reactor.sleep(at_most),
                (None, Some(duration)) => thread::park_timeout(duration),
                (None, None) => thread::park(),
            }
            if !self.shared.bell.wake() {
                return;
            }
        }
        self.take_remote();
    }

    /// Runs fibers on the thread's own stack until `done`.
    pub(crate) fn drive(&self, mut done: impl FnMut() -> bool) {
        while !done() {
            self.turn(limits::TURN_BUDGET);
            if done() {
                return;
            }
            if self.is_idle() {
                self.sleep(None);
            }
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(crate) fn reactor(&self) -> Option<&Reactor> {
        self.reactor.as_ref()
    }

    /// For setting and ending timers. A host that sleeps looks again how long it may.
    pub(crate) fn timers(&self) -> &Timers {
        if self.host_sleeps.get() {
            self.wake_host();
        }
        &self.timers
    }

    /// How long until the next timer is due.
    fn next_timer(&self) -> Option<Duration> {
        let due = self.timers.next_due()?;
        Some(due.saturating_duration_since(self.clock.now()))
    }

    pub(crate) fn block_on<F: Future>(&self, mut future: Pin<&mut F>) -> F::Output {
        assert!(self.current.get().is_none(), "block_on inside a fiber: use Wait::wait");
        let waker = Waker::from(self.shared.clone());
        let mut context = Context::from_waker(&waker);
        let mut output = None;
        self.shared.root_woken.store(true, Ordering::Relaxed);
        self.drive(|| {
            if self.shared.root_woken.swap(false, Ordering::Acquire)
                && let Poll::Ready(value) = future.as_mut().poll(&mut context)
            {
                output = Some(value);
            }
            output.is_some()
        });
        output.expect("the loop ends with an output")
    }

    fn stats(&self) -> Stats {
        Stats {
            live: self.counts.live.get(),
            live_max: self.counts.live_max.get(),
            ready: self.ready.len() + self.ready_io.len(),
            spawned: self.counts.spawned.get(),
            switches: self.counts.ran.get(),
            panics: self.counts.panics.get(),
            timers: self.timers.len(),
            reactor: self.reactor.as_ref().map(Reactor::stats),
            stacks: self.stacks.stats(),
        }
    }
}

/// What runs on a fiber's stack.
fn fiber_main(cell: &FiberCell) {
    let run = cell.job.get().run;
    // SAFETY: the payload holds the closure that the job belongs to.
    let outcome = match catch_unwind(AssertUnwindSafe(|| unsafe { run(cell.payload.get()) })) {
        Ok(()) => Outcome::Value,
        Err(panic) if panic.is::<crate::cancel::Cancelled>() => Outcome::Cancelled,
        Err(panic) => Outcome::Panicked(panic),
    };
    *cell.outcome.borrow_mut() = outcome;
    let _ = catch_unwind(AssertUnwindSafe(|| cell.locals.clear()));
    if !cell.has(HANDLE) && matches!(cell.outcome.replace(Outcome::None), Outcome::Value) {
        let drop_result = cell.job.get().drop_result;
        // SAFETY: the outcome says that the payload holds the result; it said so for the last time.
        let _ = catch_unwind(AssertUnwindSafe(|| unsafe { drop_result(cell.payload.get()) }));
    }
}
