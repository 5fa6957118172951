//! Connections that move from one worker to another, whole: the protocol's state, what the handles share, and the tasks
//! that belong to the connection.

use crate::exec::{Executor, RoamingFuture};
use crate::worker::conns::{ConnSide, ConnectionKey};
use crate::worker::core::Core;
use std::collections::{HashMap, HashSet};
use warpline_proto::{ConnectionHandle, Detached, Instant};
use warpline_wire::cid;

/// A connection between two workers.
pub(crate) struct MovedConnection {
    /// The protocol's part; `None` if that is over and only handles are left.
    detached: Option<Detached>,
    /// The handles' part; `None` if the program does not know the connection yet.
    side: Option<Box<ConnSide>>,
    /// It waits to be accepted.
    waiting: bool,
    /// Until when it delivers finished streams without a handle.
    lingers: Option<Instant>,
    tasks: Vec<RoamingFuture>,
}

impl MovedConnection {
    /// The slot that its IDs lead to; none if nothing leads to it any more.
    pub(crate) fn slot(&self) -> Option<u16> {
        self.detached.as_ref().map(|detached| cid::slot(detached.partition_key()))
    }

    pub(crate) fn detached(&self) -> Option<&Detached> {
        self.detached.as_ref()
    }
}

/// What is to move: connections by handle, and entries whose connections are over.
#[derive(Default)]
pub(crate) struct Leaving {
    pub(crate) handles: Vec<ConnectionHandle>,
    pub(crate) entries: Vec<ConnectionKey>,
}

impl Core {
    /// Whether nothing keeps the connection on this thread.
    pub(crate) fn is_movable(&self, handle: ConnectionHandle) -> bool {
        let side = self.conns.key_of(handle).and_then(|key| self.conns.get(key));
        side.is_none_or(|side| side.pinned == 0)
    }

    /// The entries that only handles elsewhere keep alive: their connections are over.
    pub(crate) fn remains(&self) -> Vec<ConnectionKey> {
        let over = |handle: Option<ConnectionHandle>| handle.is_none_or(|handle| self.endpoint.peek(handle).is_none());
        self.conns.sides().filter(|side| side.pinned == 0 && over(side.handle)).map(|side| side.key).collect()
    }

    /// Takes connections out that are movable.
    pub(crate) fn take_out(&mut self, leaving: &Leaving, exec: &Executor, mut send: impl FnMut(MovedConnection)) {
        let keys: Vec<Option<ConnectionKey>> =
            leaving.handles.iter().map(|handle| self.conns.key_of(*handle)).collect();
        let ids: HashSet<u64> = keys.iter().flatten().chain(&leaving.entries).map(|key| key.id()).collect();
        let mut tasks: HashMap<u64, Vec<RoamingFuture>> = HashMap::new();
        for (id, task) in exec.take_roaming(|id| ids.contains(&id)) {
            tasks.entry(id).or_default().push(task);
        }
        let waiting = self.incoming.take_out(&ids);
        let mut lingering = self.take_lingering(&ids);
        let mut entry = |core: &mut Self, key: Option<ConnectionKey>, detached: Option<Detached>| {
            let mut side = key.and_then(|key| core.conns.remove(key)).map(Box::new);
            if let Some(side) = &mut side {
                // Wakers of this worker would gather, one a move, and keep its mailbox when it has long been removed. Whoever
                // waits within a task by a waker of its own looks again.
                side.wake_all(&mut core.wakes);
            }
            let id = key.map_or(u64::MAX, ConnectionKey::id);
            MovedConnection {
                detached,
                side,
                waiting: waiting.contains(&id),
                lingers: lingering.remove(&id),
                tasks: tasks.remove(&id).unwrap_or_default(),
            }
        };
        for (handle, key) in leaving.handles.iter().zip(keys) {
            // Detaching a connection that has just been forgotten gives nothing; its entry may still have handles.
            let detached = self.endpoint.detach(*handle);
            if detached.is_some() || key.is_some() {
                let moved = entry(self, key, detached);
                send(moved);
            }
        }
        for key in &leaving.entries {
            let moved = entry(self, Some(*key), None);
            send(moved);
        }
    }

    /// Takes a connection in. Its tasks are polled once, whatever they wait for: their wakers led to the other worker.
    pub(crate) fn take_in(&mut self, moved: MovedConnection, exec: &Executor) -> Option<ConnectionHandle> {
        let MovedConnection { detached, side, waiting, lingers, tasks } = moved;
        let handle = detached.map(|detached| self.endpoint.attach(detached));
        let key = side.map(|side| {
            let id = side.key.id();
            tasks.into_iter().for_each(|task| exec.spawn_roaming(id, task));
            self.conns.adopt(*side, handle)
        });
        if let Some(key) = key {
            if waiting {
                self.incoming.push(key, &mut self.wakes);
            }
            if let Some(until) = lingers {
                self.linger(until, key);
            }
        }
        if let Some((code, reason)) = self.farewell.clone() {
            match (key, handle.and_then(|handle| self.endpoint.connection(handle))) {
                (Some(key), _) => self.close(key, code, &reason),
                (None, Some(conn)) => conn.close(self.now, code, &reason),
                (None, None) => {}
            }
        }
        handle
    }
}
