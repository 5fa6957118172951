//! Keeping words of different writers on different cache lines.

use std::ops::{Deref, DerefMut};

/// A value on cache lines of its own. 128 bytes: x86-64 prefetches lines in pairs and some aarch64 cores have lines of
/// that size, so 64 would still make two writers disturb each other.
#[derive(Debug, Default, Clone, Copy)]
#[repr(align(128))]
pub struct CachePadded<T>(pub T);

impl<T> Deref for CachePadded<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for CachePadded<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
