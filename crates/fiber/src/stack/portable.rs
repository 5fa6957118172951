//! Stacks as `corosensei` makes them, for systems that manage stacks themselves (Windows).

use corosensei::stack::{DefaultStack, Stack, StackPointer, StackTebFields};
use std::io;

/// One stack.
pub(crate) struct FiberStack {
    stack: DefaultStack,
    bytes: usize,
}

impl std::fmt::Debug for FiberStack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FiberStack").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

// SAFETY: every method passes on to a type that keeps the contract.
unsafe impl Stack for FiberStack {
    fn base(&self) -> StackPointer {
        self.stack.base()
    }

    fn limit(&self) -> StackPointer {
        self.stack.limit()
    }

    fn teb_fields(&self) -> StackTebFields {
        self.stack.teb_fields()
    }

    fn update_teb_fields(&mut self, stack_limit: usize, guaranteed_stack_bytes: usize) {
        self.stack.update_teb_fields(stack_limit, guaranteed_stack_bytes);
    }
}

impl FiberStack {
    /// The system commits pages as they are touched and keeps them.
    pub(crate) fn release(&mut self) {}

    /// Not known here.
    pub(crate) fn touched(&self) -> usize {
        0
    }
}

/// The stacks of one class.
#[derive(Debug)]
pub(crate) struct Regions {
    stack_bytes: usize,
    carved: usize,
}

impl Regions {
    pub(crate) fn new(bytes: usize) -> Regions {
        Regions { stack_bytes: bytes.max(8 << 10).next_multiple_of(4096), carved: 0 }
    }

    pub(crate) fn stack_bytes(&self) -> usize {
        self.stack_bytes
    }

    pub(crate) fn carved(&self) -> usize {
        self.carved
    }

    pub(crate) fn carve(&mut self) -> io::Result<FiberStack> {
        let stack = DefaultStack::new(self.stack_bytes)?;
        self.carved += 1;
        Ok(FiberStack { stack, bytes: self.stack_bytes })
    }

    pub(crate) fn touched_max(&self) -> usize {
        0
    }
}
