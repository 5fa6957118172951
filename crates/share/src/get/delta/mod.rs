//! Files of which an older version is there under their name: what both versions hold is copied, only the rest is asked for.
//!
//! Both sides cut their version into chunks whose ends the content decides. The host sends the sums of its chunks; where the older
//! version has a chunk of the same sum, its bytes are copied to their new place in the partial file. Groups that consist of such bytes
//! are taken, all others are asked for as ever. That makes a file that goes on where an earlier run stopped: the hash of
//! the whole file tells whether all of it belongs to one version, and if not, the file is fetched whole. The older version stays as it
//! is until the new one takes its name.
//!
//! The planning thread hands jobs over, up to [`DELTAS_MAX`] threads work them off, the writing thread hands them the lists of chunks
//! that come and is told what was copied and asked for: it stays the only one that keeps the record of a file.

mod index;
mod job;

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use warpline_wire::Reader;

pub(super) use self::job::{Crew, Job};
use crate::chunks::{Lengths, Sum};
use crate::error::ShareError;
use crate::hash::Value;
use crate::limits::{CHUNKS_KEPT_MAX, DELTA_INCOMPLETE_MAX, DELTA_MEMORY_MAX, DELTAS_MAX};
use crate::message::take_chunk;

/// What a job tells the writing thread of its file.
pub(super) enum Step {
    /// So many wants for so many bytes are about to be sent.
    Asked { wants: u32, bytes: u64 },
    /// Groups of a part were copied from the older version.
    Copied { part: u64, groups: Groups },
    /// All that can be copied was copied, all else was asked for. The hash of the file, if the host has told it.
    Done(Option<Value>),
}

/// Values of the groups of a part that are there.
pub(super) type Groups = Box<[Option<Value>; super::GROUPS]>;

/// A list of chunks that comes from the host.
struct List {
    size: u64,
    lengths: Lengths,
    /// Where the next chunk begins.
    listed: u64,
    /// What has come and was not taken.
    chunks: Vec<(u32, Sum)>,
    end: End,
    /// Nobody needs what is still to come.
    is_ignored: bool,
}

/// How a list ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// More comes.
    Open,
    /// It was complete, and this is the file's hash.
    Complete(Value),
    /// It breaks off.
    Cut,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    workers: usize,
    under_way: u32,
    memory: u64,
    lists: HashMap<u64, List>,
    /// Parts that wait for groups from the host, by file.
    incomplete: HashMap<u64, usize>,
    stopped: bool,
}

/// What planning, writing and copying threads share of files with an older version.
#[derive(Default)]
pub(super) struct Deltas {
    state: Mutex<State>,
    changed: Condvar,
}

impl Deltas {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job; true when there should be one more thread for it.
    pub(super) fn submit(&self, job: Job) -> bool {
        let mut state = self.state();
        state.jobs.push_back(job);
        let more = state.workers < DELTAS_MAX;
        state.workers += usize::from(more);
        more
    }

    /// The next job; `None` ends the thread that asks. A job that needs more memory than is left waits for a thread that has some.
    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        let memory = state.memory;
        let fits = |job: &Job| memory + job.memory() <= DELTA_MEMORY_MAX;
        let is_next = !state.stopped && state.jobs.front().is_some_and(|job| state.under_way == 0 || fits(job));
        let job = if is_next { state.jobs.pop_front() } else { None };
        match &job {
            Some(job) => {
                state.under_way += 1;
                state.memory += job.memory();
            }
            None => state.workers -= 1,
        }
        job
    }

    fn finished(&self, job: &Job) {
        let mut state = self.state();
        state.under_way -= 1;
        state.memory -= job.memory();
        state.incomplete.remove(&job.id);
        // What still comes of its list is for nobody.
        if let Some(list) = state.lists.get_mut(&job.id) {
            (list.is_ignored, list.chunks) = (true, Vec::new());
            if list.end != End::Open {
                state.lists.remove(&job.id);
            }
        }
    }

    /// The chunks of a file are about to be asked for.
    fn expect(&self, job: &Job) {
        let (size, lengths) = (job.want.size, job.lengths);
        let list = List { size, lengths, listed: 0, chunks: Vec::new(), end: End::Open, is_ignored: false };
        self.state().lists.insert(job.id, list);
    }

    /// Takes chunks that the host sends.
    pub(super) fn chunks(&self, body: &[u8]) -> Result<(), ShareError> {
        let mut r = Reader::new(body);
        let id = r.varint().map_err(|_| ShareError::peer("chunks that cannot be read"))?;
        let mut state = self.state();
        let list = state.lists.get_mut(&id).filter(|list| list.end == End::Open);
        let list = list.ok_or_else(|| ShareError::peer("chunks of a file that nobody asked for"))?;
        while !r.is_empty() {
            let Some((len, sum)) = take_chunk(&mut r) else {
                return Err(ShareError::peer("chunks that cannot be read"));
            };
            list.push(len, sum)?;
        }
        self.changed.notify_all();
        Ok(())
    }

    /// Takes the end of a list.
    pub(super) fn compared(&self, body: &[u8]) -> Result<(), ShareError> {
        let mut r = Reader::new(body);
        let id = r.varint().map_err(|_| ShareError::peer("an end of chunks that cannot be read"))?;
        let root = if r.is_empty() { None } else { Some(r.array::<32>()) };
        let mut state = self.state();
        let list = state.lists.get_mut(&id).filter(|list| list.end == End::Open);
        let list = list.ok_or_else(|| ShareError::peer("an end of chunks that nobody asked for"))?;
        list.end = match root {
            None => End::Cut,
            Some(Ok(root)) if r.is_empty() && list.listed == list.size => End::Complete(root),
            Some(_) => return Err(ShareError::peer("chunks that do not make up their file")),
        };
        if list.is_ignored {
            state.lists.remove(&id);
        }
        self.changed.notify_all();
        Ok(())
    }

    /// Waits until more of a list has come and takes it; `None` when the transfer has stopped. A list that is ignored breaks off.
    fn take(&self, id: u64) -> Option<(Vec<(u32, Sum)>, End)> {
        let mut state = self.state();
        loop {
            if state.stopped {
                return None;
            }
            let Some(list) = state.lists.get_mut(&id).filter(|list| !list.is_ignored) else {
                return Some((Vec::new(), End::Cut));
            };
            if !list.chunks.is_empty() || list.end != End::Open {
                return Some((std::mem::take(&mut list.chunks), list.end));
            }
            state = self.wait(state);
        }
    }

    /// How many of the first chunks of a list `is_known` tells of, once it has come to `least`; with `wait`, that is waited for.
    /// `None` before.
    fn count(&self, id: u64, least: u64, wait: bool, is_known: impl Fn(&Sum) -> bool) -> Option<usize> {
        let mut state = self.state();
        loop {
            let stopped = state.stopped;
            let list = state.lists.get_mut(&id)?;
            if list.listed >= least || list.end != End::Open {
                return Some(list.chunks.iter().filter(|(_, sum)| is_known(sum)).count());
            }
            if !wait || stopped {
                return None;
            }
            state = self.wait(state);
        }
    }

    /// Waits until `parts` more parts of a file may wait for their groups; false when the transfer has stopped.
    fn wait_for_room(&self, id: u64, parts: usize) -> bool {
        let mut state = self.state();
        while !state.stopped && state.incomplete.get(&id).copied().unwrap_or(0) + parts > DELTA_INCOMPLETE_MAX {
            state = self.wait(state);
        }
        !state.stopped
    }

    /// So many more parts of a file wait for groups.
    fn begun(&self, id: u64, parts: usize) {
        *self.state().incomplete.entry(id).or_default() += parts;
    }

    /// A part that was copied in part is complete.
    pub(super) fn completed(&self, id: u64) {
        if let Some(count) = self.state().incomplete.get_mut(&id) {
            *count = count.saturating_sub(1);
        }
        self.changed.notify_all();
    }

    /// The host cannot serve the file: nothing is worth waiting for.
    pub(super) fn give_up(&self, id: u64) {
        self.state().incomplete.remove(&id);
        self.changed.notify_all();
    }

    /// The transfer ends: nobody waits any more.
    pub(super) fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.jobs.clear();
        drop(state);
        self.changed.notify_all();
    }
}

impl List {
    fn push(&mut self, len: u32, sum: Sum) -> Result<(), ShareError> {
        let end = self.listed + u64::from(len);
        let is_last = end == self.size;
        let too_short = (len as usize) < self.lengths.min() && !is_last;
        if len == 0 || len as usize > self.lengths.max() || too_short || end > self.size {
            return Err(ShareError::peer("chunks that nobody can have cut"));
        }
        self.listed = end;
        // A list that is far longer than usual breaks off here for who takes it.
        if self.chunks.len() >= CHUNKS_KEPT_MAX {
            (self.is_ignored, self.chunks) = (true, Vec::new());
        }
        if !self.is_ignored {
            self.chunks.push((len, sum));
        }
        Ok(())
    }
}
