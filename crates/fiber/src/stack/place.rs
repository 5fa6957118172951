//! Where a fiber stands on its stack while it waits, so that those lines are on their way before it goes on.
//!
//! Whoever wakes a fiber finds its cell by what it waits for, in the cell where its stack is, and on the stack where it goes
//! on: each is a line in some further cache, and each has to be there before the next can be asked for. With the place
//! remembered beside the fiber's address the last two come side by side.

use std::ptr;

/// Bytes that a switch leaves below the stack pointer of who waits: two registers and where to go on (`corosensei`).
#[cfg(target_arch = "x86_64")]
const SAVED: usize = 24;

#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// An address for [`prefetch`](Self::prefetch), never to be read through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(*const u8);

impl Place {
    pub(crate) const UNKNOWN: Place = Place(ptr::null());

    /// Where the caller stands.
    #[inline(always)]
    pub(crate) fn here() -> Place {
        #[cfg(target_arch = "x86_64")]
        {
            let pointer;
            // SAFETY: it copies a register.
            unsafe {
                std::arch::asm!("mov {}, rsp", out(reg) pointer, options(nomem, nostack, preserves_flags));
            }
            Place(pointer)
        }
        // The only processor that is asked for lines.
        #[cfg(not(target_arch = "x86_64"))]
        Place::UNKNOWN
    }

    /// Asks for what the switch left there and for the line above, with which the frame begins. Only a hint.
    #[inline(always)]
    pub(crate) fn prefetch(self) {
        #[cfg(target_arch = "x86_64")]
        for above in [0, CACHE_LINE] {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let line = self.0.wrapping_sub(SAVED).wrapping_add(above);
            // SAFETY: a prefetch reads nothing as far as the program can tell, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
        }
    }
}

#[cfg(all(test, target_arch = "x86_64", not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_on_the_stack_of_who_asks() {
        let local = 0_u8;
        let (here, local) = (Place::here().0.addr(), ptr::from_ref(&local).addr());
        assert!((here..here + 4096).contains(&local), "{here:x} is not below a local of the same frame at {local:x}");
        Place::UNKNOWN.prefetch();
    }
}
