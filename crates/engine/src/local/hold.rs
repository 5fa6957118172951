//! Whether a handle keeps its connection on its worker.

use std::marker::PhantomData;
use std::rc::Rc;

mod sealed {
    pub trait Sealed {}
}

/// What kind of handle it is: [`Pinned`] or [`Roaming`].
pub trait Hold: sealed::Sealed + 'static {
    /// Whether the handle keeps its connection on its worker.
    const PINNED: bool;
}

/// The usual kind. It may be held by futures that are not `Send`, so while there is such a handle its connection stays
/// on its worker, also when the worker gives its slots away: packets are then passed on to it.
#[derive(Debug)]
pub struct Pinned(PhantomData<Rc<()>>);

/// A handle in a [task that roams](crate::local::spawn_roaming) with its connection. It names the connection wherever
/// it is; used on another worker, operations fail as if the connection had ended.
#[derive(Debug)]
pub struct Roaming(());

impl sealed::Sealed for Pinned {}
impl sealed::Sealed for Roaming {}

impl Hold for Pinned {
    const PINNED: bool = true;
}

impl Hold for Roaming {
    const PINNED: bool = false;
}
