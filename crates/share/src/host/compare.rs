//! Tells receivers that have an older version of a file what the chunks of the present one are.
//!
//! One thread for each receiver that asks, one file at a time, beside the one that serves wants: a list is under way while other files
//! are sent. The file is read once, for the chunks, for the hash of the whole and for the values of the groups, which are remembered, so
//! that what is asked for afterwards is not hashed again.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use warpline_frame::Chunk;

use super::Shared;
use super::open::{Open, Stop};
use crate::chunks::{Chunker, METHOD};
use crate::error::display_path;
use crate::hash::{self, Combiner, Value};
use crate::limits::{LISTS_AHEAD, PART_LEN};
use crate::message::{Also, Compare, Want, kind, message, put_chunk, put_varint};

/// Chunks are sent in messages of about this length.
const BATCH_LEN: usize = 16 * 1024;

/// Files of whose chunks a receiver knows enough, the latest of them.
#[derive(Debug, Default)]
pub(super) struct Enough(Mutex<VecDeque<u64>>);

impl Enough {
    fn ids(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The receiver needs no more of the list with this number.
    pub(super) fn note(&self, id: u64) {
        let mut ids = self.ids();
        if ids.len() > LISTS_AHEAD {
            ids.pop_front();
        }
        ids.push_back(id);
    }

    fn contains(&self, id: u64) -> bool {
        self.ids().contains(&id)
    }

    fn forget(&self, id: u64) {
        self.ids().retain(|known| *known != id);
    }
}

/// Sends the chunks of a file and, if they are all of them, its hash.
pub(super) fn run(shared: &Shared, compare: Compare, enough: &Enough, to: &mpsc::Sender<Chunk>) {
    let id = compare.id;
    let root = match list(shared, compare, enough, to) {
        Ok(root) => root,
        Err(Stop::Gone) => return,
        // The receiver asks for the file then, and is told.
        Err(Stop::Failed(why)) => {
            tracing::debug!(id, why, "a file cannot be compared");
            None
        }
    };
    enough.forget(id);
    let end = message(kind::COMPARED, |out| {
        put_varint(out, id);
        out.extend_from_slice(root.as_ref().map_or(&[], |root| &root[..]));
    });
    // Who has gone needs no answer.
    let _ = to.blocking_send(Chunk::from(end));
}

/// The file's hash; `None` when the receiver wanted no more of the list.
fn list(shared: &Shared, compare: Compare, enough: &Enough, to: &mpsc::Sender<Chunk>) -> Result<Option<Value>, Stop> {
    let Compare { id, path, size, mtime, method, lengths } = compare;
    if method != METHOD {
        return Ok(None);
    }
    tracing::debug!(path = display_path(&path), size, "compared");
    let file = Open::of(shared, Want { id, path, size, mtime, start: 0, end: size, also: Also::default() })?;
    let mut chunker = Chunker::new(lengths);
    let mut combiner = Combiner::default();
    let mut gathered = Vec::with_capacity(BATCH_LEN + 1024);
    for start in (0..size).step_by(PART_LEN) {
        let len = (size - start).min(PART_LEN as u64) as usize;
        let extents = file.extents(start, len)?;
        let mut gather = |len, sum| put_chunk(&mut gathered, len, &sum);
        let values = if extents.is_empty() {
            chunker.skip(len as u64, &mut gather);
            file.values(start, len, &[], &[])
        } else {
            file.read_with_holes(start, &extents, chunker.room(len))?;
            let values = file.values(start, len, &[(0, len as u32)], chunker.last(len));
            chunker.cut(&mut gather);
            values
        };
        combiner.push(hash::part_value(&values, size <= PART_LEN as u64));
        if gathered.len() >= BATCH_LEN {
            send(id, &mut gathered, to)?;
        }
        if to.is_closed() {
            return Err(Stop::Gone);
        }
        if enough.contains(id) {
            return Ok(None);
        }
    }
    chunker.finish(&mut |len, sum| put_chunk(&mut gathered, len, &sum));
    send(id, &mut gathered, to)?;
    file.unchanged()?;
    Ok(Some(combiner.root()))
}

/// Waits while the receiver does not take what it asked for.
fn send(id: u64, gathered: &mut Vec<u8>, to: &mpsc::Sender<Chunk>) -> Result<(), Stop> {
    let whole = message(kind::CHUNKS, |out| {
        put_varint(out, id);
        out.append(gathered);
    });
    to.blocking_send(Chunk::from(whole)).map_err(|_| Stop::Gone)
}
