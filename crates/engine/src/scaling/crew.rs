//! The workers that there are.

use crate::counters::WorkerStats;
use crate::engine::WorkerHandle;
use crate::scaling::Role;
use std::sync::MutexGuard;
use std::thread::JoinHandle;
use warpline_ring::Lock;

#[derive(Debug, Default)]
struct Members {
    /// In the order of their numbers.
    active: Vec<WorkerHandle>,
    /// Those that finish what they have.
    leaving: Vec<WorkerHandle>,
    readers: Vec<WorkerHandle>,
    threads: Vec<(usize, JoinHandle<()>)>,
    /// What workers that are gone had counted.
    gone: WorkerStats,
}

impl Members {
    fn all(&self) -> impl Iterator<Item = &WorkerHandle> {
        self.active.iter().chain(&self.leaving).chain(&self.readers)
    }
}

/// The workers of an engine, for everybody but the workers. The lock is not on the packet path.
#[derive(Debug, Default)]
pub(crate) struct Crew(Lock<Members>);

impl Crew {
    fn lock(&self) -> MutexGuard<'_, Members> {
        self.0.lock()
    }

    /// A worker that was started.
    pub(crate) fn join(&self, worker: WorkerHandle, thread: JoinHandle<()>, role: Role) {
        let mut members = self.lock();
        members.threads.push((worker.index(), thread));
        if role == Role::Reader {
            members.readers.push(worker);
            return;
        }
        members.active.push(worker);
        members.active.sort_by_key(WorkerHandle::index);
    }

    /// The worker is to finish what it has.
    pub(crate) fn dismiss(&self, worker: usize) {
        let mut members = self.lock();
        if let Some(at) = members.active.iter().position(|handle| handle.index() == worker) {
            let handle = members.active.remove(at);
            members.leaving.push(handle);
        }
    }

    /// The worker's thread is about to end, or has.
    pub(crate) fn remove(&self, worker: usize) {
        let mut members = self.lock();
        let Members { active, leaving, readers, gone, threads } = &mut *members;
        for list in [active, leaving, readers] {
            list.retain(|handle| {
                let stays = handle.index() != worker;
                if !stays {
                    let mut stats = handle.stats();
                    stats.forget_now();
                    *gone += stats;
                }
                stays
            });
        }
        let at = threads.iter().position(|(index, _)| *index == worker);
        let thread = at.map(|at| threads.swap_remove(at).1);
        drop(members);
        if let Some(Err(_)) = thread.map(JoinHandle::join) {
            tracing::error!(worker, "a worker panicked");
        }
    }

    pub(crate) fn active(&self) -> Vec<WorkerHandle> {
        self.lock().active.clone()
    }

    /// All whose threads run, in no order.
    pub(crate) fn all(&self) -> Vec<WorkerHandle> {
        let members = self.lock();
        members.all().cloned().collect()
    }

    /// The counters of all that there are and were.
    pub(crate) fn stats(&self) -> WorkerStats {
        let members = self.lock();
        let mut sum = members.gone;
        members.all().for_each(|worker| sum += worker.stats());
        sum
    }

    pub(crate) fn take_threads(&self) -> Vec<(usize, JoinHandle<()>)> {
        std::mem::take(&mut self.lock().threads)
    }
}
