//! The cell of a fiber: everything about it that is not on its stack.

use crate::baton::Baton;
use crate::limits::INLINE_BYTES;
use crate::local::Locals;
use crate::stack::{FiberStack, StackClass};
use corosensei::{Coroutine, Yielder};
use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell, UnsafeCell};
use std::convert::Infallible;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::task::Waker;

/// It runs one fiber after the other ([`Strand`](crate::stack::Strand)) and never returns.
pub(crate) type Co = Coroutine<(), (), Infallible, FiberStack>;

/// What a fiber is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The cell has no fiber.
    Free,
    /// Spawned, in the run queue, without a stack.
    New,
    /// In a run queue, on the thread, or waiting ([`FiberCell::is_parked`]).
    Active,
    /// Its code has ended; the scheduler has still to take its stack.
    Ended,
    /// Ended; the cell is kept for whoever joins it.
    Done,
}

/// How a fiber ended, which is also what its payload holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has not, or the result was taken.
    None,
    /// The result.
    Value,
    /// What the panic carried, a [`PanicBox`].
    Panicked,
    /// Nothing.
    Cancelled,
    /// No stack could be mapped for it: the [`io::Error`].
    NoStack,
}

pub(crate) type PanicBox = Box<dyn Any + Send>;

/// Names a fiber: the cell and which of its fibers. Outlives it harmlessly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FiberKey {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// Cancellation was asked for.
pub(crate) const CANCEL: u8 = 1;
/// A join handle exists.
pub(crate) const HANDLE: u8 = 2;
/// Cancellation was held back at a wait because the thread was unwinding.
pub(crate) const DELAYED: u8 = 4;

/// Woken since the flag was last cleared, which a wait for a future does before it polls.
pub(crate) const WOKEN: u8 = 8;
/// It has a name.
pub(crate) const NAMED: u8 = 16;

/// In [`FiberCell::next`]: it waits, and is in no queue.
pub(crate) const PARKED: *const FiberCell = std::ptr::without_provenance(1);

/// First the closure, later what the [`Outcome`] says.
#[repr(C, align(16))]
pub(crate) struct Payload([MaybeUninit<u8>; INLINE_BYTES]);

/// See the module. Reached through raw pointers only; everything in it is for its own thread. What a switch touches comes
/// first and fills one cache line.
#[repr(C, align(64))]
pub(crate) struct FiberCell {
    pub(crate) state: Cell<State>,
    pub(crate) flags: Cell<u8>,
    /// How many sections that hold back cancellation the fiber is in.
    pub(crate) shields: Cell<u32>,
    /// The next cell of the run queue, or of the list of free cells; or [`PARKED`].
    pub(crate) next: Cell<*const FiberCell>,
    pub(crate) coroutine: UnsafeCell<Option<Co>>,
    pub(crate) seat: Seat,
    pub(crate) index: u32,
    pub(crate) generation: Cell<u32>,
    pub(crate) job: Cell<&'static Job>,
    pub(crate) joined: Baton,
    pub(crate) outcome: Cell<Outcome>,
    pub(crate) payload: UnsafeCell<Payload>,
    pub(crate) name: RefCell<Cow<'static, str>>,
    pub(crate) locals: Locals,
    pub(crate) waker: OnceCell<Waker>,
}

/// Where a fiber runs.
pub(crate) struct Seat {
    /// The way back to the scheduler, on the fiber's stack.
    pub(crate) yielder: Cell<*const Yielder<(), ()>>,
    /// The lowest address of the stack, where its guard begins.
    pub(crate) limit: Cell<usize>,
    pub(crate) class: Cell<StackClass>,
}

impl FiberCell {
    pub(crate) fn new(index: u32) -> FiberCell {
        FiberCell {
            index,
            generation: Cell::new(0),
            state: Cell::new(State::Free),
            flags: Cell::new(0),
            shields: Cell::new(0),
            seat: Seat { class: Cell::default(), limit: Cell::new(0), yielder: Cell::new(std::ptr::null()) },
            next: Cell::new(std::ptr::null()),
            coroutine: UnsafeCell::new(None),
            job: Cell::new(JobOf::<fn(), ()>::JOB),
            payload: UnsafeCell::new(Payload([MaybeUninit::uninit(); INLINE_BYTES])),
            outcome: Cell::new(Outcome::None),
            joined: Baton::new(),
            name: RefCell::new(Cow::Borrowed("")),
            locals: Locals::default(),
            waker: OnceCell::new(),
        }
    }

    /// Whether it waits and is in no queue. What wakes it is the first to write `next`.
    #[inline(always)]
    pub(crate) fn is_parked(&self) -> bool {
        self.next.get() == PARKED
    }

    pub(crate) fn key(&self) -> FiberKey {
        FiberKey { index: self.index, generation: self.generation.get() }
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags.get() & flag != 0
    }

    pub(crate) fn set(&self, flag: u8) {
        self.flags.set(self.flags.get() | flag);
    }

    pub(crate) fn clear(&self, flag: u8) {
        self.flags.set(self.flags.get() & !flag);
    }

    /// Whether a wait of this fiber ends by cancellation now.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.has(CANCEL) && self.shields.get() == 0
    }
}

/// What can be done with a payload without knowing its types.
pub(crate) struct Job {
    /// Takes the closure out, runs it and puts the result in.
    pub(crate) run: unsafe fn(*mut Payload),
    pub(crate) drop_closure: unsafe fn(*mut Payload),
    pub(crate) drop_result: unsafe fn(*mut Payload),
}

/// The [`Job`] of a closure `F` with result `T`.
pub(crate) struct JobOf<F, T>(PhantomData<(F, T)>);

impl<F: FnOnce() -> T, T> JobOf<F, T> {
    pub(crate) const JOB: &'static Job =
        &Job { run: Self::run, drop_closure: drop_payload::<F>, drop_result: drop_payload::<T> };

    /// # Safety
    /// The payload holds an `F`, and afterwards, if this returns, a `T`.
    unsafe fn run(payload: *mut Payload) {
        // SAFETY: the caller's promise.
        let closure = unsafe { take::<F>(payload) };
        let result = closure();
        // SAFETY: the payload has been empty since the closure was taken.
        unsafe { put(payload, result) };
    }
}

/// # Safety
/// The payload holds a `V`; afterwards it is empty.
unsafe fn drop_payload<V>(payload: *mut Payload) {
    // SAFETY: the caller's promise.
    drop(unsafe { take::<V>(payload) });
}

const fn fits<V>() -> bool {
    size_of::<V>() <= INLINE_BYTES && align_of::<V>() <= align_of::<Payload>()
}

/// Puts a value into an empty payload, in a box if it is large.
///
/// # Safety
/// The payload is valid, empty and used by nobody else.
pub(crate) unsafe fn put<V>(payload: *mut Payload, value: V) {
    if fits::<V>() {
        // SAFETY: the value fits, and the payload is the caller's.
        unsafe { payload.cast::<V>().write(value) };
    } else {
        // SAFETY: a pointer fits, and the payload is the caller's.
        unsafe { payload.cast::<*mut V>().write(Box::into_raw(Box::new(value))) };
    }
}

/// Takes the value out again.
///
/// # Safety
/// The payload holds a `V` that [`put`] wrote; afterwards it is empty.
pub(crate) unsafe fn take<V>(payload: *mut Payload) -> V {
    if fits::<V>() {
        // SAFETY: the caller's promise.
        unsafe { payload.cast::<V>().read() }
    } else {
        // SAFETY: the caller's promise: the payload holds the pointer of a box.
        let boxed = unsafe { payload.cast::<*mut V>().read() };
        // SAFETY: the pointer came from `Box::into_raw` and is taken once.
        *unsafe { Box::from_raw(boxed) }
    }
}

/// Cells in chunks that never move, with a list of the free ones.
pub(crate) struct Cells {
    chunks: RefCell<Vec<NonNull<FiberCell>>>,
    free: Cell<Option<NonNull<FiberCell>>>,
    max: usize,
}

impl Cells {
    pub(crate) fn new(max: usize) -> Cells {
        Cells { chunks: RefCell::default(), free: Cell::new(None), max }
    }

    /// A free cell, if the limit allows.
    #[inline]
    pub(crate) fn take(&self) -> Option<NonNull<FiberCell>> {
        let cell = match self.free.get() {
            Some(cell) => cell,
            None => self.grow()?,
        };
        // SAFETY: cells live as long as the slab.
        self.free.set(NonNull::new(unsafe { cell.as_ref() }.next.get().cast_mut()));
        Some(cell)
    }

    #[inline]
    pub(crate) fn put(&self, cell: &FiberCell) {
        cell.next.set(self.free.get().map_or(std::ptr::null(), |next| next.as_ptr().cast_const()));
        self.free.set(Some(NonNull::from(cell)));
    }

    #[cold]
    fn grow(&self) -> Option<NonNull<FiberCell>> {
        let mut chunks = self.chunks.borrow_mut();
        let first = chunks.len() * CHUNK;
        if first + CHUNK > self.max.max(CHUNK) {
            return None;
        }
        let cells: Box<[FiberCell]> = (first..first + CHUNK).map(|index| FiberCell::new(index as u32)).collect();
        let base = NonNull::from(Box::leak(cells)).cast::<FiberCell>();
        chunks.push(base);
        drop(chunks);
        for offset in (0..CHUNK).rev() {
            // SAFETY: the chunk has CHUNK cells.
            let cell = unsafe { base.add(offset) };
            // SAFETY: the chunk was made above and is shared by references only.
            self.put(unsafe { cell.as_ref() });
        }
        self.free.get()
    }

    /// The cell with this index, if it was made.
    #[inline]
    pub(crate) fn at(&self, index: u32) -> Option<&FiberCell> {
        let base = *self.chunks.borrow().get(index as usize / CHUNK)?;
        // SAFETY: every chunk has CHUNK cells.
        let cell = unsafe { base.add(index as usize % CHUNK) };
        // SAFETY: cells are only ever shared, and live as long as the slab.
        Some(unsafe { cell.as_ref() })
    }

    /// How many cells were made.
    pub(crate) fn len(&self) -> usize {
        self.chunks.borrow().len() * CHUNK
    }
}

const CHUNK: usize = crate::limits::FIBERS_PER_CHUNK;

impl Drop for Cells {
    fn drop(&mut self) {
        for base in self.chunks.get_mut().drain(..) {
            let chunk = std::ptr::slice_from_raw_parts_mut(base.as_ptr(), CHUNK);
            // SAFETY: the chunk was leaked by `grow` with this length, and nobody has a reference after the slab.
            drop(unsafe { Box::from_raw(chunk) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    fn fill<V>(payload: &mut Payload, value: V) {
        // SAFETY: the payload is empty here.
        unsafe { put(payload, value) };
    }

    fn empty<V>(payload: &mut Payload) -> V {
        // SAFETY: it was filled with this type here.
        unsafe { take(payload) }
    }

    fn run<T, F: FnOnce() -> T>(payload: &mut Payload, closure: F) -> T {
        fill(payload, closure);
        // SAFETY: the payload holds the closure.
        unsafe { (JobOf::<F, T>::JOB.run)(payload) };
        empty(payload)
    }

    /// Puts a value into a payload and takes it out, drops one in it, and runs a closure that makes one.
    fn there_and_back<V: Clone + PartialEq + std::fmt::Debug>(value: V) {
        let mut payload = Payload([MaybeUninit::uninit(); INLINE_BYTES]);
        let counted = Rc::new(());
        fill(&mut payload, value.clone());
        assert_eq!(empty::<V>(&mut payload), value);
        fill(&mut payload, (value.clone(), counted.clone()));
        // SAFETY: the payload holds this type.
        unsafe { drop_payload::<(V, Rc<()>)>(&mut payload) };
        assert_eq!(Rc::strong_count(&counted), 1);
        let inner = (value.clone(), counted.clone());
        assert_eq!(run(&mut payload, move || inner).0, value);
        assert_eq!(Rc::strong_count(&counted), 1);
    }

    #[test]
    fn payloads_hold_values_of_any_size_and_alignment() {
        #[derive(Clone, PartialEq, Debug)]
        #[repr(align(64))]
        struct Aligned(u8);
        there_and_back(());
        there_and_back(7u8);
        there_and_back(u128::MAX);
        there_and_back([3u8; INLINE_BYTES]);
        there_and_back([3u8; INLINE_BYTES + 1]);
        there_and_back([[9u64; 100]; 3]);
        there_and_back(Aligned(1));
        there_and_back(String::from("on the heap"));
    }

    #[test]
    fn free_cells_are_last_in_first_out_and_no_more_than_the_limit() {
        let cells = Cells::new(2 * CHUNK + 1);
        let taken: Vec<_> = std::iter::from_fn(|| cells.take()).collect();
        assert_eq!((taken.len(), cells.len()), (2 * CHUNK, 2 * CHUNK));
        // SAFETY: cells live as long as their slab.
        let of = |cell: &NonNull<FiberCell>| unsafe { &*cell.as_ptr() };
        for (index, cell) in taken.iter().enumerate() {
            assert_eq!(of(cell).index as usize, index);
            assert!(std::ptr::eq(cells.at(index as u32).expect("it was made"), of(cell)));
        }
        assert!(cells.at(2 * CHUNK as u32).is_none());
        for index in [5, 300, 17] {
            cells.put(of(&taken[index]));
        }
        let again: Vec<_> = std::iter::from_fn(|| cells.take()).map(|cell| of(&cell).index).collect();
        assert_eq!(again, [17, 300, 5]);
    }
}
