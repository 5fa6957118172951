//! Stacks: three sizes, each with a list of free ones.
//!
//! A stack is mapped when a fiber first runs and no free one is left, and it goes back to the list when the fiber
//! ends. The list is last in, first out: the stack used last is the one whose pages are in the cache. Free stacks beyond
//! [`limits::WARM_STACKS`] give their pages back to the kernel and keep only their addresses.

#[cfg(unix)]
mod map;
#[cfg(not(unix))]
#[path = "portable.rs"]
mod map;
#[cfg(unix)]
pub(crate) mod overflow;
mod place;

pub(crate) use map::FiberStack;
pub(crate) use place::Place;

use crate::limits;
use crate::sched::Co;
use map::Regions;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;

/// How large a fiber's stack is. Only pages that were touched take memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StackClass {
    /// 16 KiB unless configured: loops over a socket, nothing that formats or panics with a backtrace.
    Small,
    /// 128 KiB unless configured: ordinary code, backtraces included.
    #[default]
    Medium,
    /// 2 MiB unless configured, the size of a thread's: recursion, parsers, TLS handshakes.
    Large,
}

impl StackClass {
    const ALL: [StackClass; 3] = [StackClass::Small, StackClass::Medium, StackClass::Large];

    fn index(self) -> usize {
        self as usize
    }
}

/// Sizes of the three classes in bytes and how many free stacks of each stay warm.
#[derive(Clone, Copy, Debug)]
pub struct StackConfig {
    /// Usable bytes per class, without the guard; rounded up to pages, at least 8 KiB.
    pub bytes: [usize; 3],
    /// Free stacks per class that keep their pages.
    pub warm: usize,
}

impl Default for StackConfig {
    fn default() -> StackConfig {
        StackConfig { bytes: [16 << 10, 128 << 10, 2 << 20], warm: limits::WARM_STACKS }
    }
}

/// The stacks of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackStats {
    /// Usable bytes of one stack.
    pub bytes: usize,
    /// Stacks mapped since the start.
    pub mapped: usize,
    /// Stacks that a fiber has now.
    pub in_use: usize,
    /// The most that were in use at once.
    pub in_use_max: usize,
    /// Free stacks.
    pub free: usize,
    /// How often the pages of a free stack were given back.
    pub released: u64,
    /// The deepest use of any stack in bytes, by pages that were touched. Found by
    /// [`Scheduler::stats`](crate::Scheduler::stats) looking at the stacks, and when pages are given back: nothing is paid for it while
    /// fibers run. Zero where the platform does not tell (Windows).
    pub high_water: usize,
}

/// A stack without a fiber.
enum Free {
    /// With the coroutine that ran fibers on it and can run the next one.
    Warm(Co),
    /// Without: its pages were given back.
    Cold(FiberStack),
}

impl fmt::Debug for Free {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Free::Warm(_) => "Warm",
            Free::Cold(_) => "Cold",
        })
    }
}

#[derive(Debug)]
struct Class {
    free: RefCell<Vec<Free>>,
    regions: RefCell<Regions>,
    /// How many of `free`, from the top, still have their pages.
    warm: Cell<usize>,
    in_use: Cell<usize>,
    in_use_max: Cell<usize>,
    released: Cell<u64>,
    high_water: Cell<usize>,
}

/// All stacks of a scheduler.
#[derive(Debug)]
pub(crate) struct StackPool {
    classes: [Class; 3],
    warm_max: usize,
}

impl StackPool {
    pub(crate) fn new(config: &StackConfig) -> StackPool {
        let classes = StackClass::ALL.map(|class| Class {
            regions: RefCell::new(Regions::new(config.bytes[class.index()])),
            free: RefCell::default(),
            warm: Cell::new(0),
            in_use: Cell::new(0),
            in_use_max: Cell::new(0),
            released: Cell::new(0),
            high_water: Cell::new(0),
        });
        StackPool { classes, warm_max: config.warm }
    }

    /// A free coroutine, or one that is `made` on a stack. Fails as the kernel does when it has no more memory or mappings
    /// to give.
    #[inline]
    pub(crate) fn take(&self, class: StackClass, make: fn(FiberStack) -> Co) -> io::Result<Co> {
        let class = &self.classes[class.index()];
        let free = class.free.borrow_mut().pop();
        let coroutine = match free {
            Some(Free::Warm(coroutine)) => {
                class.warm.set(class.warm.get() - 1);
                coroutine
            }
            Some(Free::Cold(stack)) => make(stack),
            None => make(class.regions.borrow_mut().carve()?),
        };
        class.in_use.set(class.in_use.get() + 1);
        if class.in_use.get() > class.in_use_max.get() {
            class.in_use_max.set(class.in_use.get());
        }
        Ok(coroutine)
    }

    /// Takes a coroutine back that waits for its next fiber.
    #[inline]
    pub(crate) fn put(&self, class: StackClass, coroutine: Co) {
        let class = &self.classes[class.index()];
        class.in_use.set(class.in_use.get() - 1);
        class.free.borrow_mut().push(Free::Warm(coroutine));
        class.warm.set(class.warm.get() + 1);
        if class.warm.get() > self.warm_max {
            class.cool();
        }
    }

    /// The figures of every class; looks at the pages of all stacks.
    pub(crate) fn stats(&self) -> [StackStats; 3] {
        StackClass::ALL.map(|index| {
            let class = &self.classes[index.index()];
            let regions = class.regions.borrow();
            class.high_water.set(class.high_water.get().max(regions.touched_max()));
            StackStats {
                bytes: regions.stack_bytes(),
                mapped: regions.carved(),
                in_use: class.in_use.get(),
                in_use_max: class.in_use_max.get(),
                free: class.free.borrow().len(),
                released: class.released.get(),
                high_water: class.high_water.get(),
            }
        })
    }
}

impl Class {
    /// Gives the pages of a free stack back. The deepest warm one was used longest ago; the ones above it stay as they are.
    #[cold]
    fn cool(&self) {
        let mut free = self.free.borrow_mut();
        let coldest = free.len() - self.warm.get();
        if let Free::Warm(coroutine) = free.swap_remove(coldest) {
            let mut stack = end(coroutine);
            self.high_water.set(self.high_water.get().max(stack.touched()));
            stack.release();
            free.push(Free::Cold(stack));
        }
        let last = free.len() - 1;
        free.swap(coldest, last);
        self.warm.set(self.warm.get() - 1);
        self.released.set(self.released.get() + 1);
    }
}

/// Ends a coroutine that waits for its next fiber.
fn end(mut coroutine: Co) -> FiberStack {
    // SAFETY: such a coroutine has nothing on its stack that has a destructor (`sched::life`).
    unsafe { coroutine.force_reset() };
    coroutine.into_stack()
}

impl Drop for StackPool {
    fn drop(&mut self) {
        for class in &mut self.classes {
            for free in class.free.get_mut().drain(..) {
                if let Free::Warm(coroutine) = free {
                    end(coroutine);
                }
            }
        }
    }
}
