//! The writing thread: verifies what comes and puts it into place.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use tokio::sync::mpsc;
use warpline_wire::Reader;

use super::pending::{Pending, Wanted};
use super::target::{LastParent, Target};
use crate::error::{ShareError, display_path};
use crate::hash::{self, Value};
use crate::limits::{GROUP_LEN, INCOMPLETE_PARTS_MAX, PART_LEN, REFETCHES_MAX};
use crate::message::{Also, Part, Want, kind, messages, take_bytes};

/// No message of the host: the planning thread is done, so there may be nothing left to wait for.
pub(super) const WAKE: Vec<u8> = Vec::new();

/// Groups in a part.
const GROUPS: usize = PART_LEN / GROUP_LEN;

/// A file of which something has come.
struct Incoming {
    wanted: Wanted,
    /// For a file of one part: where it is written before it is placed.
    small: Option<(Vec<u8>, File)>,
    /// Values of verified groups of parts that are not complete.
    groups: HashMap<u64, Box<[Option<Value>; GROUPS]>>,
    /// The file's hash, for a file of one part.
    root: Option<Value>,
    /// How often groups of a part came wrong, by the part's number.
    tries: HashMap<u64, u32>,
    /// Why the host cannot serve it.
    failed: Option<String>,
}

/// Takes messages until every file that was asked for is in place.
pub(super) fn run(
    target: &Target,
    pending: &Pending,
    mut batches: mpsc::Receiver<Vec<u8>>,
    wants: &mpsc::Sender<Vec<u8>>,
    spare: &std::sync::mpsc::Sender<Vec<u8>>,
) -> Result<(), ShareError> {
    let mut writer = Writer::new(target, pending, wants);
    let outcome = loop {
        if pending.is_done() {
            break Ok(());
        }
        if pending.is_stopped() {
            break Err(ShareError::connection("the transfer has stopped"));
        }
        let Some(batch) = batches.blocking_recv() else {
            break Err(ShareError::connection("the files were cut off"));
        };
        let began = Instant::now();
        let taken = messages(&batch).try_for_each(|(what, body)| writer.take(what, body));
        pending.progress.writing_nanos.add(began.elapsed().as_nanos() as u64);
        // Nobody takes the buffer back once the stream has ended, and then nobody needs to.
        let _ = spare.send(batch);
        if let Err(error) = taken {
            break Err(error);
        }
    };
    if outcome.is_err() {
        pending.stop()
    } else {
        pending.end()
    }
    outcome
}

/// Puts files into place, message by message.
pub(super) struct Writer<'a> {
    target: &'a Target,
    pending: &'a Pending,
    wants: &'a mpsc::Sender<Vec<u8>>,
    incoming: HashMap<u64, Incoming>,
    parent: LastParent,
}

impl<'a> Writer<'a> {
    pub(super) fn new(target: &'a Target, pending: &'a Pending, wants: &'a mpsc::Sender<Vec<u8>>) -> Self {
        Self { target, pending, wants, incoming: HashMap::new(), parent: LastParent::default() }
    }

    /// Takes one message of the host.
    pub(super) fn take(&mut self, what: u8, body: &[u8]) -> Result<(), ShareError> {
        match what {
            kind::PART => self.part(&Part::decode(body)?),
            kind::SERVED => self.served(body),
            kind::FAILED => self.failed(body),
            _ => Err(ShareError::peer("a message that hosts do not send here")),
        }
    }

    /// The file that `id` stands for.
    fn file(&mut self, id: u64) -> Result<&mut Incoming, ShareError> {
        if !self.incoming.contains_key(&id) {
            let wanted =
                self.pending.take(id).ok_or_else(|| ShareError::peer("bytes of a file that nobody asked for"))?;
            let incoming = Incoming {
                wanted,
                small: None,
                groups: HashMap::new(),
                root: None,
                tries: HashMap::new(),
                failed: None,
            };
            self.incoming.insert(id, incoming);
        }
        self.incoming.get_mut(&id).ok_or_else(|| ShareError::peer("bytes of no file"))
    }

    fn part(&mut self, part: &Part<'_>) -> Result<(), ShareError> {
        let (target, pending, wants) = (self.target, self.pending, self.wants);
        let file = self.file(part.id)?;
        let end = part.start + part.len as u64;
        if end > file.wanted.size || (!end.is_multiple_of(GROUP_LEN as u64) && end != file.wanted.size) {
            return Err(ShareError::peer("bytes beyond the end of a file"));
        }
        let Some(owed) = file.wanted.owed.checked_sub(part.len as u64) else {
            return Err(ShareError::peer("more bytes of a file than were asked for"));
        };
        file.wanted.owed = owed;
        pending.progress.bytes_received.add(part.data.len() as u64);
        let verdicts = verify(part, file.wanted.size);
        file.write(target, part, &verdicts)?;
        let good = file.note(part, &verdicts).map_err(|e| file.io(target, e))?;
        pending.progress.bytes_done.add(good);
        let wrong = wrong_ranges(part, &verdicts);
        if wrong.is_empty() {
            return Ok(());
        }
        let tries = file.tries.entry(part.start / PART_LEN as u64).or_default();
        *tries += 1;
        if *tries > REFETCHES_MAX {
            let (tries, path) = (*tries, display_path(&file.wanted.entry.path));
            return Err(ShareError::Corrupt { path, start: part.start, end, tries });
        }
        for (start, end) in wrong {
            let entry = &file.wanted.entry;
            tracing::warn!(path = display_path(&entry.path), start, end, "came wrong, asking again");
            let also = Also { root: file.wanted.reused > 0, anew: true };
            let (path, size, mtime) = (entry.path.clone(), file.wanted.size, entry.mtime);
            let want = Want { id: part.id, path, size, mtime, start, end, also };
            file.wanted.open_wants += 1;
            file.wanted.owed += end - start;
            pending.progress.refetched.add(1);
            wants.blocking_send(want.encode()).map_err(|_| ShareError::connection("the host has gone"))?;
        }
        Ok(())
    }

    /// A request was served to its end; with the last one the file goes into place.
    fn served(&mut self, body: &[u8]) -> Result<(), ShareError> {
        let mut r = Reader::new(body);
        let id = r.varint().map_err(|_| ShareError::peer("a notice that cannot be read"))?;
        let root = r.array::<32>().ok();
        let file = self.file(id)?;
        file.wanted.open_wants = file.wanted.open_wants.saturating_sub(1);
        if file.wanted.open_wants > 0 {
            return Ok(());
        }
        self.last_want_served(id, root)
    }

    /// Nothing more comes for a file: it goes into place, is fetched once more, or is given up.
    fn last_want_served(&mut self, id: u64, root: Option<Value>) -> Result<(), ShareError> {
        let Some(mut file) = self.incoming.remove(&id) else { return Ok(()) };
        match file.failed.take() {
            None if self.is_mixed(&file, root)? => {
                self.begin_anew(id, &mut file)?;
                self.incoming.insert(id, file);
                return Ok(());
            }
            None => self.place(&mut file, root)?,
            Some(why) => {
                if let Some((name, _)) = &file.small {
                    let _ = unlinkat(&self.target.partial, &name[..], AtFlags::empty());
                }
                // What came may be of different versions of the file.
                self.forget(&mut file)?;
                self.pending.not_kept(&file.wanted.entry.path, why);
            }
        }
        self.pending.complete(&file.wanted);
        Ok(())
    }

    /// Whether what an earlier run left and what came now make no version of the file: it has changed behind its time of change.
    fn is_mixed(&self, file: &Incoming, expected: Option<Value>) -> Result<bool, ShareError> {
        let Some(partial) = file.wanted.partial.as_ref().filter(|p| p.is_complete() && file.wanted.reused > 0) else {
            return Ok(false);
        };
        let Some(expected) = expected else {
            return Err(ShareError::peer("a file is served without the hash that was asked for"));
        };
        Ok(partial.root().map_err(|e| file.io(self.target, e))? != expected)
    }

    /// Drops all that is there of a file and asks for the whole.
    fn begin_anew(&self, id: u64, file: &mut Incoming) -> Result<(), ShareError> {
        self.forget(file)?;
        let (entry, size) = (&file.wanted.entry, file.wanted.size);
        tracing::warn!(path = display_path(&entry.path), "has changed since the last run, asking for all of it");
        self.pending.progress.bytes_reused.sub(file.wanted.reused);
        file.wanted.reused = 0;
        file.wanted.open_wants = 1;
        file.wanted.owed = size;
        file.tries.clear();
        let (path, mtime) = (entry.path.clone(), entry.mtime);
        let want = Want { id, path, size, mtime, start: 0, end: size, also: Also::default() };
        self.wants.blocking_send(want.encode()).map_err(|_| ShareError::connection("the host has gone"))
    }

    /// Drops what is there of a file of several parts.
    fn forget(&self, file: &mut Incoming) -> Result<(), ShareError> {
        let io = |e| ShareError::io(self.target.shown(&file.wanted.entry.path), "cannot be written", e);
        if let Some(partial) = &mut file.wanted.partial {
            self.pending.progress.bytes_done.sub(partial.bytes_there().map_err(io)?);
            partial.forget().map_err(io)?;
        }
        file.groups.clear();
        Ok(())
    }

    fn place(&mut self, file: &mut Incoming, expected: Option<Value>) -> Result<(), ShareError> {
        let entry = &file.wanted.entry;
        let io = |e| ShareError::io(self.target.shown(&entry.path), "cannot be written", e);
        let (temporary, root) = match (&file.small, &file.wanted.partial) {
            (Some((name, _)), _) => (name.clone(), file.root),
            (None, Some(partial)) if partial.is_complete() => (partial.data_name(), Some(partial.root().map_err(io)?)),
            _ => return Err(ShareError::peer("a file is served without all of its bytes")),
        };
        if root.is_none() {
            return Err(ShareError::peer("a file is served without all of its bytes"));
        }
        if file.tries.is_empty() && expected.is_some() && expected != root {
            // Every group matched its value and the values do not match the hash: the host contradicts itself.
            return Err(ShareError::Corrupt {
                path: display_path(&entry.path),
                start: 0,
                end: file.wanted.size,
                tries: 1,
            });
        }
        let handle = match (&file.small, &file.wanted.partial) {
            (Some((_, handle)), _) => handle,
            (None, Some(partial)) => partial.data(),
            (None, None) => return Err(ShareError::peer("a file without bytes")),
        };
        self.target.set_attributes(handle.as_fd(), entry, self.pending)?;
        let (dir, name) = self.target.parent(&mut self.parent, &entry.path)?;
        self.target.place(&temporary, dir, name, entry)?;
        if let Some(partial) = &file.wanted.partial {
            partial.remove_record(self.target);
        }
        self.pending.progress.files_done.add(1);
        Ok(())
    }

    /// The host cannot serve a file: it changed, or cannot be read. The others go on.
    fn failed(&mut self, body: &[u8]) -> Result<(), ShareError> {
        let mut r = Reader::new(body);
        let id = r.varint().map_err(|_| ShareError::peer("a notice that cannot be read"))?;
        let why = String::from_utf8_lossy(take_bytes(&mut r, 4096).unwrap_or_default()).into_owned();
        let file = self.file(id)?;
        file.wanted.open_wants = file.wanted.open_wants.saturating_sub(1);
        file.failed = Some(why);
        if file.wanted.open_wants > 0 {
            return Ok(());
        }
        self.last_want_served(id, None)
    }
}

/// Whether each group of a part matches its value. Holes are zeros.
fn verify(part: &Part<'_>, size: u64) -> Vec<bool> {
    let check = |bytes: &[u8]| {
        bytes
            .chunks(GROUP_LEN)
            .zip(hash::values(part.values))
            .enumerate()
            .map(|(i, (group, value))| hash::group_value(part.start + (i * GROUP_LEN) as u64, group, size) == *value)
            .collect()
    };
    if part.data.len() == part.len {
        return check(part.data);
    }
    let mut whole = vec![0; part.len];
    let mut from = 0;
    for (at, len) in &part.extents {
        let (at, len) = (*at as usize, *len as usize);
        whole[at..at + len].copy_from_slice(&part.data[from..from + len]);
        from += len;
    }
    check(&whole)
}

/// Runs of groups that did not match, as ranges of the file.
fn wrong_ranges(part: &Part<'_>, verdicts: &[bool]) -> Vec<(u64, u64)> {
    let mut out: Vec<(u64, u64)> = Vec::new();
    for (i, _) in verdicts.iter().enumerate().filter(|(_, good)| !**good) {
        let start = part.start + (i * GROUP_LEN) as u64;
        let end = (start + GROUP_LEN as u64).min(part.start + part.len as u64);
        match out.last_mut() {
            Some((_, last)) if *last == start => *last = end,
            _ => out.push((start, end)),
        }
    }
    out
}

impl Incoming {
    fn io(&self, target: &Target, error: std::io::Error) -> ShareError {
        ShareError::io(target.shown(&self.wanted.entry.path), "cannot be written", error)
    }

    /// Writes the data of groups that matched.
    fn write(&mut self, target: &Target, part: &Part<'_>, verdicts: &[bool]) -> Result<(), ShareError> {
        if self.wanted.partial.is_none() && self.small.is_none() {
            let name = target.temporary();
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let fd = openat(&target.partial, &name[..], flags, Mode::RUSR | Mode::WUSR)
                .map_err(|e| self.io(target, e.into()))?;
            let file = File::from(fd);
            if part.data.len() as u64 != self.wanted.size {
                file.set_len(self.wanted.size).map_err(|e| self.io(target, e))?;
            }
            self.small = Some((name, file));
        }
        let all_good = verdicts.iter().all(|good| *good);
        let mut from = 0;
        for (at, len) in &part.extents {
            let data = &part.data[from..from + *len as usize];
            from += *len as usize;
            if all_good {
                self.write_at(part.start + u64::from(*at), data).map_err(|e| self.io(target, e))?;
                continue;
            }
            // An extent may reach over groups of either kind.
            let mut offset = *at as usize;
            let mut rest = data;
            while !rest.is_empty() {
                let take = rest.len().min(GROUP_LEN - offset % GROUP_LEN);
                if verdicts[offset / GROUP_LEN] {
                    self.write_at(part.start + offset as u64, &rest[..take]).map_err(|e| self.io(target, e))?;
                }
                offset += take;
                rest = &rest[take..];
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        match (&self.small, &self.wanted.partial) {
            (Some((_, file)), _) => file.write_all_at(data, offset),
            (None, Some(partial)) => partial.write(offset, data),
            (None, None) => Ok(()),
        }
    }

    /// Records what matched; returns how many bytes of the file that completes.
    fn note(&mut self, part: &Part<'_>, verdicts: &[bool]) -> std::io::Result<u64> {
        let index = part.start / PART_LEN as u64;
        let part_len = (self.wanted.size - index * PART_LEN as u64).min(PART_LEN as u64) as usize;
        let groups = part_len.div_ceil(GROUP_LEN);
        let first = (part.start % PART_LEN as u64) as usize / GROUP_LEN;
        let values: Vec<Value> = if verdicts.len() == groups && verdicts.iter().all(|good| *good) {
            self.groups.remove(&index);
            hash::values(part.values).copied().collect()
        } else {
            if self.groups.len() >= INCOMPLETE_PARTS_MAX && !self.groups.contains_key(&index) {
                return Err(std::io::Error::other("too many of its parts came incomplete"));
            }
            let known = self.groups.entry(index).or_insert_with(|| Box::new([None; GROUPS]));
            for (i, (value, good)) in hash::values(part.values).zip(verdicts).enumerate() {
                if *good {
                    known[first + i] = Some(*value);
                }
            }
            let Some(complete) = known[..groups].iter().copied().collect::<Option<Vec<Value>>>() else { return Ok(0) };
            self.groups.remove(&index);
            complete
        };
        match &mut self.wanted.partial {
            Some(partial) => {
                let fresh = partial.record(index, &hash::part_value(&values, false))?;
                Ok(if fresh { part_len as u64 } else { 0 })
            }
            None => {
                let fresh = self.root.replace(hash::part_value(&values, true)).is_none();
                Ok(if fresh { part_len as u64 } else { 0 })
            }
        }
    }
}

#[cfg(test)]
mod tests;
