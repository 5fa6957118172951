//! The slab in which a worker keeps its tasks.

use crate::exec::queue::{TaskHeader, TaskKey};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use warpline_frame::prefetch;

/// A future that may go on another thread.
pub(crate) type RoamingFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a task runs.
pub(super) enum Work {
    /// Stays on its thread.
    Pinned(Pin<Box<dyn Future<Output = ()>>>),
    /// Belongs to the connection with this ID and goes where it goes.
    Roaming(u64, RoamingFuture),
}

impl Work {
    #[inline]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Pinned(future) => future.as_mut().poll(cx),
            Self::Roaming(_, future) => future.as_mut().poll(cx),
        }
    }
}

/// A task at rest.
pub(super) struct Task {
    pub(super) work: Work,
    pub(super) waker: Waker,
    pub(super) header: Arc<TaskHeader>,
}

enum Slot {
    /// No task; the next free slot, if any.
    Free { next: Option<u32> },
    /// A task that is not being polled.
    Idle(Task),
    /// The task is being polled: the poller holds it.
    Running { aborted: bool },
}

/// What became of a task after its poll.
pub(super) enum Put {
    /// It waits in its slot.
    Kept,
    /// It was aborted meanwhile and has to be dropped.
    Aborted(Task),
}

/// Tasks by key.
#[derive(Default)]
pub(super) struct TaskSlab {
    slots: Vec<(u32, Slot)>,
    free: Option<u32>,
    len: usize,
}

impl fmt::Debug for TaskSlab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskSlab").field("len", &self.len).finish_non_exhaustive()
    }
}

impl TaskSlab {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, make: impl FnOnce(TaskKey) -> Task) -> TaskKey {
        self.len += 1;
        if let Some(index) = self.free
            && let Some((generation, slot)) = self.slots.get_mut(index as usize)
            && let Slot::Free { next } = *slot
        {
            let key = TaskKey { index, generation: *generation };
            self.free = next;
            *slot = Slot::Idle(make(key));
            return key;
        }
        let index = u32::try_from(self.slots.len()).expect("a worker's memory ends long before 2^32 tasks");
        let key = TaskKey { index, generation: 0 };
        self.slots.push((0, Slot::Idle(make(key))));
        key
    }

    fn slot(&mut self, key: TaskKey) -> Option<&mut Slot> {
        let (generation, slot) = self.slots.get_mut(key.index as usize)?;
        (*generation == key.generation).then_some(slot)
    }

    /// Has the task's place in the slab brought into the caches.
    #[inline]
    pub(super) fn prefetch_slot(&self, key: TaskKey) {
        if let Some(slot) = self.slots.get(key.index as usize) {
            prefetch(slot);
        }
    }

    /// Has what the task's place points to brought into the caches, its future and its header.
    #[inline]
    pub(super) fn prefetch_task(&self, key: TaskKey) {
        if let Some((_, Slot::Idle(task))) = self.slots.get(key.index as usize) {
            prefetch(&*task.header);
            match &task.work {
                Work::Pinned(future) => prefetch(&**future),
                Work::Roaming(_, future) => prefetch(&**future),
            }
        }
    }

    /// Takes a task out to poll it. `None` if it has ended, or is being polled.
    pub(super) fn take(&mut self, key: TaskKey) -> Option<Task> {
        let slot = self.slot(key)?;
        if !matches!(slot, Slot::Idle(_)) {
            return None;
        }
        match std::mem::replace(slot, Slot::Running { aborted: false }) {
            Slot::Idle(task) => Some(task),
            Slot::Free { .. } | Slot::Running { .. } => None,
        }
    }

    /// Puts a task back after a poll that did not finish it.
    pub(super) fn put_back(&mut self, key: TaskKey, task: Task) -> Put {
        match self.slot(key) {
            Some(slot @ Slot::Running { aborted: false }) => {
                *slot = Slot::Idle(task);
                Put::Kept
            }
            _ => {
                self.remove(key);
                Put::Aborted(task)
            }
        }
    }

    /// Frees the slot of a task that the caller holds.
    pub(super) fn remove(&mut self, key: TaskKey) {
        let next = self.free;
        if let Some(slot) = self.slot(key)
            && !matches!(slot, Slot::Free { .. })
        {
            *slot = Slot::Free { next };
            self.slots[key.index as usize].0 = key.generation.wrapping_add(1);
            self.free = Some(key.index);
            self.len -= 1;
        }
    }

    /// Ends a task: the caller drops what comes back.
    pub(super) fn abort(&mut self, key: TaskKey) -> Option<Task> {
        if let Some(Slot::Running { aborted }) = self.slot(key) {
            *aborted = true;
            return None;
        }
        let task = self.take(key);
        if task.is_some() {
            self.remove(key);
        }
        task
    }

    /// Keys of all tasks.
    pub(super) fn keys(&self) -> impl Iterator<Item = TaskKey> + '_ {
        self.slots.iter().enumerate().filter(|(_, (_, slot))| !matches!(slot, Slot::Free { .. })).map(
            |(index, (generation, _))| TaskKey {
                index: u32::try_from(index).unwrap_or(u32::MAX),
                generation: *generation,
            },
        )
    }

    /// Takes out the tasks of all connections that `leaves` names, each with its connection's ID.
    pub(super) fn take_roaming(&mut self, mut leaves: impl FnMut(u64) -> bool) -> Vec<(u64, RoamingFuture)> {
        let mut taken = Vec::new();
        for index in 0..self.slots.len() {
            let (generation, slot) = &self.slots[index];
            let leaving = matches!(slot, Slot::Idle(Task { work: Work::Roaming(id, _), .. }) if leaves(*id));
            let key = TaskKey { index: u32::try_from(index).unwrap_or(u32::MAX), generation: *generation };
            if leaving && let Some(Task { work: Work::Roaming(id, future), .. }) = self.take(key) {
                self.remove(key);
                taken.push((id, future));
            }
        }
        taken
    }

    /// How many slots there are, free ones included.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Ends the task in a slot, if there is one.
    pub(super) fn abort_at(&mut self, index: usize) -> Option<Task> {
        let (generation, _) = self.slots.get(index)?;
        let generation = *generation;
        self.abort(TaskKey { index: u32::try_from(index).ok()?, generation })
    }
}
