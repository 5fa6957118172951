//! The writing thread: verifies what comes and puts it into place.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use tokio::sync::mpsc;
use warpline_wire::Reader;

use super::GROUPS;
use super::delta::{Groups, Step};
use super::pending::{Pending, Wanted};
use super::target::{LastParent, Target};
use crate::error::{ShareError, display_path};
use crate::hash::{self, Value};
use crate::limits::{GROUP_LEN, INCOMPLETE_PARTS_MAX, PART_LEN, REFETCHES_MAX};
use crate::message::{Also, Part, Want, kind, messages, take_bytes};

/// What the writing thread takes.
pub(super) enum Batch {
    /// Messages of the host.
    Messages(Vec<u8>),
    /// What is known of a file with an older version.
    Delta(u64, Step),
    /// The planning thread is done, so there may be nothing left to wait for.
    Wake,
}

/// What is there of a part that is not complete.
struct Known {
    /// Values of the groups, which are verified or copied.
    values: [Option<Value>; GROUPS],
    /// Bytes of it that were copied from an older version.
    copied: u64,
}

impl Default for Known {
    fn default() -> Self {
        Self { values: [None; GROUPS], copied: 0 }
    }
}

/// A file of which something has come.
struct Incoming {
    wanted: Wanted,
    /// For a file of one part: where it is written before it is placed.
    small: Option<(Vec<u8>, File)>,
    /// What is there of parts that are not complete.
    groups: HashMap<u64, Box<Known>>,
    /// The file's hash, for a file of one part.
    root: Option<Value>,
    /// The file's hash as the host has told it.
    expected: Option<Value>,
    /// Something was taken from an older version, and how much of it is in complete parts.
    copied: Option<u64>,
    /// How often groups of a part came wrong, by the part's number.
    tries: HashMap<u64, u32>,
    /// Why the host cannot serve it.
    failed: Option<String>,
}

/// Takes messages until every file that was asked for is in place.
pub(super) fn run(
    target: &Target,
    pending: &Pending,
    mut batches: mpsc::Receiver<Batch>,
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
        let taken = match batch {
            Batch::Messages(batch) => {
                let taken = messages(&batch).try_for_each(|(what, body)| writer.take(what, body));
                // Nobody takes the buffer back once the stream has ended, and then nobody needs to.
                let _ = spare.send(batch);
                taken
            }
            Batch::Delta(id, step) => writer.delta(id, step),
            Batch::Wake => Ok(()),
        };
        pending.progress.writing_nanos.add(began.elapsed().as_nanos() as u64);
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
            kind::CHUNKS => {
                self.pending.progress.bytes_listed.add(body.len() as u64);
                self.pending.deltas.chunks(body)
            }
            kind::COMPARED => self.pending.deltas.compared(body),
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
                expected: None,
                copied: None,
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
        let done = file.note(part, &verdicts).map_err(|e| file.io(target, e))?;
        done.count(part.id, pending);
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
            let also = Also { root: file.needs_root(), anew: true };
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
        self.one_less(id, root)
    }

    /// One request less is open, and the host may have told the file's hash; with the last one the file goes into place.
    fn one_less(&mut self, id: u64, root: Option<Value>) -> Result<(), ShareError> {
        let file = self.file(id)?;
        file.expected = root.or(file.expected);
        file.wanted.open_wants = file.wanted.open_wants.saturating_sub(1);
        if file.wanted.open_wants > 0 {
            return Ok(());
        }
        self.last_want_served(id)
    }

    /// Takes what a thread that compares a file with its older version has found.
    pub(super) fn delta(&mut self, id: u64, step: Step) -> Result<(), ShareError> {
        let (target, pending) = (self.target, self.pending);
        let file = self.file(id)?;
        match step {
            Step::Asked { wants, bytes } => {
                file.wanted.open_wants += wants;
                file.wanted.owed += bytes;
                Ok(())
            }
            Step::Copied { part, groups } => {
                file.copied.get_or_insert(0);
                let done = file.note_copied(part, &groups).map_err(|e| file.io(target, e))?;
                done.count(id, pending);
                Ok(())
            }
            Step::Done(root) => self.one_less(id, root),
        }
    }

    /// Nothing more comes for a file: it goes into place, is fetched once more, or is given up.
    fn last_want_served(&mut self, id: u64) -> Result<(), ShareError> {
        let Some(mut file) = self.incoming.remove(&id) else { return Ok(()) };
        match file.failed.take() {
            None if self.is_mixed(&file)? => {
                self.begin_anew(id, &mut file)?;
                self.incoming.insert(id, file);
                return Ok(());
            }
            None => self.place(&mut file)?,
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

    /// Whether what an earlier run left, what an older version has and what came now make no version of the file: it has changed behind
    /// its time of change, or the older version has changed meanwhile.
    fn is_mixed(&self, file: &Incoming) -> Result<bool, ShareError> {
        let is_made_up = file.wanted.reused > 0 || file.copied.is_some();
        let Some(partial) = file.wanted.partial.as_ref().filter(|p| p.is_complete() && is_made_up) else {
            return Ok(false);
        };
        let Some(expected) = file.expected else {
            if file.copied.is_some() {
                // The list of chunks broke off when nothing was left to ask for.
                return Ok(true);
            }
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
        file.copied = None;
        file.expected = None;
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
        self.pending.progress.bytes_copied.sub(file.copied.unwrap_or(0));
        file.groups.clear();
        Ok(())
    }

    fn place(&mut self, file: &mut Incoming) -> Result<(), ShareError> {
        let expected = file.expected;
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
            self.pending.deltas.give_up(id);
            return Ok(());
        }
        self.last_want_served(id)
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

    /// The hash of the whole must be asked for.
    fn needs_root(&self) -> bool {
        (self.wanted.reused > 0 || self.copied.is_some()) && self.expected.is_none()
    }

    /// Bytes of a part.
    fn part_len(&self, index: u64) -> usize {
        (self.wanted.size - index * PART_LEN as u64).min(PART_LEN as u64) as usize
    }

    /// Records what matched.
    fn note(&mut self, part: &Part<'_>, verdicts: &[bool]) -> std::io::Result<Done> {
        let index = part.start / PART_LEN as u64;
        if verdicts.len() == self.part_len(index).div_ceil(GROUP_LEN) && verdicts.iter().all(|good| *good) {
            self.groups.remove(&index);
            let values: Vec<Value> = hash::values(part.values).copied().collect();
            return self.complete(index, &values, 0);
        }
        let first = (part.start % PART_LEN as u64) as usize / GROUP_LEN;
        let good = hash::values(part.values).zip(verdicts).enumerate().filter(|(_, (_, good))| **good);
        self.add(index, good.map(|(i, (value, _))| (first + i, *value)), 0)
    }

    /// Records what was copied from an older version.
    fn note_copied(&mut self, index: u64, groups: &Groups) -> std::io::Result<Done> {
        let len = self.part_len(index);
        let group_len = |nth: usize| (len - nth * GROUP_LEN).min(GROUP_LEN) as u64;
        let found = || groups[..len.div_ceil(GROUP_LEN)].iter().enumerate().filter_map(|(nth, v)| v.map(|v| (nth, v)));
        self.add(index, found(), found().map(|(nth, _)| group_len(nth)).sum())
    }

    /// Adds groups of a part, of which `copied` bytes are from an older version.
    fn add(&mut self, index: u64, found: impl Iterator<Item = (usize, Value)>, copied: u64) -> std::io::Result<Done> {
        let groups = self.part_len(index).div_ceil(GROUP_LEN);
        if self.groups.len() >= INCOMPLETE_PARTS_MAX && !self.groups.contains_key(&index) {
            return Err(std::io::Error::other("too many of its parts came incomplete"));
        }
        let known = self.groups.entry(index).or_default();
        known.copied += copied;
        for (nth, value) in found {
            known.values[nth] = Some(value);
        }
        let copied = known.copied;
        let Some(complete) = known.values[..groups].iter().copied().collect::<Option<Vec<Value>>>() else {
            return Ok(Done::default());
        };
        self.groups.remove(&index);
        self.complete(index, &complete, copied)
    }

    /// All groups of a part are there.
    fn complete(&mut self, index: u64, values: &[Value], copied: u64) -> std::io::Result<Done> {
        let len = self.part_len(index) as u64;
        let fresh = match &mut self.wanted.partial {
            Some(partial) => partial.record(index, &hash::part_value(values, false))?,
            None => self.root.replace(hash::part_value(values, true)).is_none(),
        };
        if !fresh {
            return Ok(Done::default());
        }
        if copied > 0 {
            *self.copied.get_or_insert(0) += copied;
        }
        Ok(Done { bytes: len, copied, was_incomplete: copied > 0 && copied < len })
    }
}

/// What has become complete.
#[derive(Default)]
struct Done {
    /// Bytes of the file.
    bytes: u64,
    /// Those of them that were copied from an older version.
    copied: u64,
    /// The part was copied in part and has waited for the rest.
    was_incomplete: bool,
}

impl Done {
    fn count(&self, id: u64, pending: &Pending) {
        pending.progress.bytes_done.add(self.bytes);
        pending.progress.bytes_copied.add(self.copied);
        if self.was_incomplete {
            pending.deltas.completed(id);
        }
    }
}

#[cfg(test)]
mod tests;
