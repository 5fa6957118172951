//! The slab of connections.
//!
//! A connection lies in its slot with all that every packet looks at, so that its address follows from its index, and on huge pages where there
//! are many ([`Blocks`]).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use warpline_frame::Blocks;

use super::deadlines::{Mark, Marks};
use super::half_open::Source;
use crate::connection::Connection;

/// Names a connection of one endpoint; never names another one, even after the connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionHandle {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl ConnectionHandle {
    /// Position in the slab: small, reused after the connection is gone.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// In which queues of the endpoint a connection stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    pub(super) sendable: bool,
    pub(super) eventful: bool,
    pub(super) half_open: Option<Source>,
    /// It will send nothing any more ([`Connection::is_silent`]).
    silent: bool,
}

/// A place for a connection. What is not the connection's own is on one cache line before it.
#[repr(C, align(64))]
struct Slot {
    generation: u32,
    flags: Flags,
    mark: Mark,
    connection: Option<Connection>,
}

/// Bytes of a cache line.
const LINE: usize = 64;

const _: () = assert!(std::mem::offset_of!(Slot, connection) <= LINE);

/// Connections by index, with a list of free places.
#[derive(Default)]
pub(super) struct Slots {
    slots: Blocks<Slot>,
    /// The lowest is taken first, so that the last blocks get empty when most connections have gone.
    free: BinaryHeap<Reverse<u32>>,
    /// Slots in use, of each block.
    used: Vec<usize>,
    /// What slots that are made begin with: more than those had that were given back.
    generation: u32,
    len: usize,
    /// How many of them are silent.
    silent: usize,
}

impl Slots {
    /// Takes a slot for a connection that is being made; `fill` or `release` follows.
    pub(super) fn reserve(&mut self) -> ConnectionHandle {
        let index = match self.free.pop() {
            Some(Reverse(index)) => index,
            None => {
                let generation = self.generation;
                self.slots.push(Slot { generation, flags: Flags::default(), mark: Mark::default(), connection: None });
                (self.slots.len() - 1) as u32
            }
        };
        let block = index as usize / Blocks::<Slot>::ROOM;
        if block == self.used.len() {
            self.used.push(0);
        }
        self.used[block] += 1;
        ConnectionHandle { index, generation: self.slots.get(index as usize).map_or(0, |slot| slot.generation) }
    }

    pub(super) fn fill(&mut self, handle: ConnectionHandle, connection: Connection) {
        let Some(slot) = self.slot_mut(handle) else { return };
        debug_assert!(slot.connection.is_none());
        slot.connection = Some(connection);
        self.len += 1;
    }

    pub(super) fn release(&mut self, handle: ConnectionHandle) {
        let Some(slot) = self.slot_mut(handle) else { return };
        slot.generation = slot.generation.wrapping_add(1);
        slot.mark = Mark::default();
        let flags = std::mem::take(&mut slot.flags);
        self.silent -= usize::from(flags.silent);
        self.free.push(Reverse(handle.index));
        self.used[handle.index as usize / Blocks::<Slot>::ROOM] -= 1;
        self.give_back();
    }

    /// Gives back the last blocks if they are empty. One of them stays, so that a single connection that comes and goes moves nothing.
    fn give_back(&mut self) {
        let mut blocks = self.used.len();
        while let [.., 0, 0] = self.used[..blocks] {
            blocks -= 1;
        }
        if blocks == self.used.len() {
            return;
        }
        let kept = blocks * Blocks::<Slot>::ROOM;
        let gone = (kept..self.slots.len()).filter_map(|index| self.slots.get(index)).map(|slot| slot.generation);
        self.generation = gone.fold(self.generation, u32::max).wrapping_add(1);
        self.used.truncate(blocks);
        self.slots.truncate(kept);
        self.free.retain(|Reverse(index)| (*index as usize) < kept);
    }

    pub(super) fn remove(&mut self, handle: ConnectionHandle) -> Option<Connection> {
        let connection = self.slot_mut(handle)?.connection.take()?;
        self.len -= 1;
        self.release(handle);
        Some(connection)
    }

    #[inline]
    fn slot_mut(&mut self, handle: ConnectionHandle) -> Option<&mut Slot> {
        self.slots.get_mut(handle.index as usize).filter(|s| s.generation == handle.generation)
    }

    #[inline]
    pub(super) fn find_mut(&mut self, handle: ConnectionHandle) -> Option<&mut Connection> {
        self.slot_mut(handle)?.connection.as_mut()
    }

    /// Has what stands before the connection brought into the caches.
    #[inline]
    pub(super) fn prefetch(&self, handle: ConnectionHandle) {
        self.slots.prefetch(handle.index(), 0);
    }

    /// Has what a packet touches of the connection brought into the caches; nothing of it need be there yet.
    #[inline]
    pub(super) fn prefetch_connection(&self, handle: ConnectionHandle) {
        let from = std::mem::offset_of!(Slot, connection);
        for bytes in Connection::SHORT {
            let lines = (from + bytes.start) / LINE..(from + bytes.end).div_ceil(LINE);
            lines.for_each(|line| self.slots.prefetch(handle.index(), line * LINE));
        }
    }

    #[inline]
    pub(super) fn find(&self, handle: ConnectionHandle) -> Option<&Connection> {
        let slot = self.slots.get(handle.index as usize).filter(|s| s.generation == handle.generation)?;
        slot.connection.as_ref()
    }

    #[inline]
    pub(super) fn flags_mut(&mut self, handle: ConnectionHandle) -> Option<&mut Flags> {
        self.slot_mut(handle).filter(|s| s.connection.is_some()).map(|s| &mut s.flags)
    }

    /// The handle of the connection at `index`, if there is one.
    #[inline]
    pub(super) fn handle_at(&self, index: u32) -> Option<ConnectionHandle> {
        let slot = self.slots.get(index as usize).filter(|s| s.connection.is_some())?;
        Some(ConnectionHandle { index, generation: slot.generation })
    }

    pub(super) fn handles(&self) -> Vec<ConnectionHandle> {
        (0..self.slots.len() as u32).filter_map(|index| self.handle_at(index)).collect()
    }

    /// Bytes of the blocks in which there was no slot yet.
    pub(super) fn untouched_bytes(&self) -> usize {
        self.used.len() * Blocks::<Slot>::BYTES - self.slots.len() * Blocks::<Slot>::STRIDE
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Notes that a connection has fallen silent, which it stays.
    pub(super) fn note_silent(&mut self, handle: ConnectionHandle) {
        if let Some(flags) = self.flags_mut(handle)
            && !std::mem::replace(&mut flags.silent, true)
        {
            self.silent += 1;
        }
    }

    pub(super) fn are_silent(&self) -> bool {
        self.silent == self.len
    }
}

impl Marks for Slots {
    #[inline]
    fn mark(&mut self, handle: ConnectionHandle) -> Option<&mut Mark> {
        self.slot_mut(handle).map(|slot| &mut slot.mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = Blocks::<Slot>::ROOM;

    #[test]
    fn the_lowest_place_is_taken_first_and_never_named_as_before() {
        let mut slots = Slots::default();
        let handles: Vec<_> = (0..10).map(|_| slots.reserve()).collect();
        for at in [7, 3, 5] {
            slots.release(handles[at]);
            slots.release(handles[at]);
            assert!(slots.mark(handles[at]).is_none() && slots.flags_mut(handles[at]).is_none());
        }
        let again: Vec<_> = (0..4).map(|_| slots.reserve()).collect();
        assert_eq!(again.iter().map(|handle| handle.index).collect::<Vec<_>>(), [3, 5, 7, 10]);
        assert!(again.iter().all(|handle| !handles.contains(handle) && slots.mark(*handle).is_some()));
    }

    #[test]
    fn blocks_go_when_their_connections_have_gone_and_old_handles_name_nothing_in_new_ones() {
        let mut slots = Slots::default();
        let count = 3 * ROOM + 1;
        let handles: Vec<_> = (0..count).map(|_| slots.reserve()).collect();
        assert_eq!((slots.used.len(), slots.slots.len()), (4, count));
        // Twice, so that the places' generations differ.
        slots.release(handles[2 * ROOM]);
        let twice = slots.reserve();
        slots.release(twice);
        handles[ROOM..].iter().filter(|handle| handle.index != twice.index).for_each(|handle| slots.release(*handle));
        assert_eq!((slots.used.len(), slots.slots.len()), (2, 2 * ROOM), "one that is empty stays");
        let new: Vec<_> = (0..2 * ROOM + 1).map(|_| slots.reserve()).collect();
        let mut indices: Vec<_> = new.iter().map(|handle| handle.index()).collect();
        indices.sort_unstable();
        assert!(indices.into_iter().eq(ROOM..count), "each place is taken once");
        assert!(handles[ROOM..].iter().chain([&twice]).all(|old| slots.mark(*old).is_none() && !new.contains(old)));
        assert!(handles[..ROOM].iter().chain(&new).all(|handle| slots.mark(*handle).is_some()));
    }
}
