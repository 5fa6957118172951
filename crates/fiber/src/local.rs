//! Fiber-local storage.

use crate::sched::Inner;
use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// The values of one fiber. Usually none or very few, so a list is searched.
#[derive(Default)]
pub(crate) struct Locals(RefCell<Vec<(usize, Rc<dyn Any>)>>);

impl Locals {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Drops all values; destructors may use the storage again, so this goes on until it is empty.
    pub(crate) fn clear(&self) {
        while let Some(value) = { self.0.borrow_mut().pop() } {
            drop(value);
        }
    }
}

/// A value of which every fiber has its own, made when the fiber first asks for it and dropped on the fiber's own
/// stack when it ends. Made with [`fiber_local!`](crate::fiber_local).
///
/// ```
/// warpline_fiber::fiber_local! {
///     /// How often this fiber asked.
///     static ASKED: std::cell::Cell<u32> = std::cell::Cell::new(0);
/// }
/// # let scheduler = warpline_fiber::Scheduler::new(Default::default()).unwrap();
/// let ask = || ASKED.with(|asked| { asked.set(asked.get() + 1); asked.get() });
/// let twice = scheduler.spawn(move || ask() + ask());
/// let once = scheduler.spawn(ask);
/// assert_eq!((twice.join().unwrap(), once.join().unwrap()), (3, 1));
/// ```
pub struct FiberLocal<T: 'static> {
    make: fn() -> T,
}

impl<T: 'static> FiberLocal<T> {
    /// Use [`fiber_local!`](crate::fiber_local): the address of the key is its identity, so it has to be a static.
    #[doc(hidden)]
    pub const fn new(make: fn() -> T) -> FiberLocal<T> {
        FiberLocal { make }
    }

    /// Calls `f` with the running fiber's value. The first call allocates.
    ///
    /// # Panics
    /// Outside a fiber.
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        let id = std::ptr::from_ref(self) as usize;
        let value = Inner::with_fiber(|_, cell| {
            let found = cell.locals.0.borrow().iter().find(|(key, _)| *key == id).map(|(_, value)| value.clone());
            found.unwrap_or_else(|| {
                // Nothing is borrowed while the value is made: making it may use other locals.
                let value: Rc<dyn Any> = Rc::new((self.make)());
                cell.locals.0.borrow_mut().push((id, value.clone()));
                value
            })
        });
        f(value.downcast_ref().expect("a key has one type"))
    }
}

impl<T> fmt::Debug for FiberLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FiberLocal").finish_non_exhaustive()
    }
}

/// Declares [`FiberLocal`] statics, written like `thread_local!`.
#[macro_export]
macro_rules! fiber_local {
    ($($(#[$attr:meta])* $vis:vis static $name:ident: $type:ty = $init:expr;)+) => {
        $($(#[$attr])* $vis static $name: $crate::FiberLocal<$type> = $crate::FiberLocal::new(|| $init);)+
    };
}
