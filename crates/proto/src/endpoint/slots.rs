//! The slab of connections.

use warpline_frame::prefetch;

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

#[derive(Default)]
struct Slot {
    generation: u32,
    flags: Flags,
    connection: Option<Box<Connection>>,
}

/// Connections by index, with a free list.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    len: usize,
    /// How many of them are silent.
    silent: usize,
}

impl Slots {
    /// Takes a slot for a connection that is being made; `fill` or `release` follows.
    pub(super) fn reserve(&mut self) -> ConnectionHandle {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        ConnectionHandle { index, generation: self.slots[index as usize].generation }
    }

    pub(super) fn fill(&mut self, handle: ConnectionHandle, connection: Connection) {
        self.fill_boxed(handle, Box::new(connection));
    }

    pub(super) fn fill_boxed(&mut self, handle: ConnectionHandle, connection: Box<Connection>) {
        let slot = &mut self.slots[handle.index as usize];
        debug_assert!(slot.connection.is_none() && slot.generation == handle.generation);
        slot.connection = Some(connection);
        self.len += 1;
    }

    pub(super) fn release(&mut self, handle: ConnectionHandle) {
        let slot = &mut self.slots[handle.index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.silent -= usize::from(slot.flags.silent);
        slot.flags = Flags::default();
        self.free.push(handle.index);
    }

    pub(super) fn remove(&mut self, handle: ConnectionHandle) -> Option<Box<Connection>> {
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
        self.slot_mut(handle)?.connection.as_deref_mut()
    }

    #[inline]
    pub(super) fn prefetch(&self, handle: ConnectionHandle) {
        if let Some(slot) = self.slots.get(handle.index as usize) {
            prefetch(slot);
        }
    }

    #[inline]
    pub(super) fn find(&self, handle: ConnectionHandle) -> Option<&Connection> {
        let slot = self.slots.get(handle.index as usize).filter(|s| s.generation == handle.generation)?;
        slot.connection.as_deref()
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
