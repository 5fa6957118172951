//! One file with an older version: reads that, has the host list the chunks of the new one, copies what both have, and asks for the rest.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use tokio::sync::mpsc;

use super::super::pending::Pending;
use super::super::target::{LastParent, Target};
use super::super::writer::Batch;
use super::super::{GROUPS, StopOnPanic};
use super::index::{Index, Match, Matcher, sample};
use super::{End, Groups, Step};
use crate::chunks::{Lengths, METHOD, Sum};
use crate::error::{ShareError, display_path};
use crate::hash;
use crate::limits::{GROUP_LEN, PART_LEN};
use crate::message::{Compare, Want, kind, message, put_varint};

/// Parts that are asked for, and copied, at once.
const WINDOW: usize = 64;
/// Wants are sent in pieces of this length.
const WANTS_LEN: usize = 8 * 1024;
/// Zeros of this length and alignment stay holes.
const BLOCK: usize = 4096;
/// Of an older version so many times as long as the new one is read at most: reading shall not cost more than it can save.
const OLD_LEN_FACTOR: u64 = 4;
/// An older version that is this many times shorter than what is missing is not worth a look.
const MISSING_FACTOR: u64 = 8;
/// After one part of so many of the list there must be some chunk of the sample.
const VERDICT_SHARE: u64 = 8;
/// Chunks of the sample that there must be: a sixteenth of what a version that has not changed shows there, about.
const VERDICT_MIN: usize = 6;

/// A file to be brought up to date from its older version.
pub(in super::super) struct Job {
    pub(super) id: u64,
    /// All of it, as it would be asked for.
    pub(super) want: Want,
    pub(super) lengths: Lengths,
    /// So much of the older version is read.
    old_len: u64,
    /// What is known of the new one is written here.
    data: File,
    /// Nothing was written there yet, so zeros need not be written.
    is_blank: bool,
    /// An earlier run has left some of it.
    is_resumed: bool,
    /// Runs of parts that are missing: first, and the one after the last.
    missing: Vec<(u64, u64)>,
}

impl Job {
    /// A job for the file of `want`, of which `missing` parts are not there, with an older version of `old_len` bytes; `None`
    /// where asking for what is missing costs less.
    pub(in super::super) fn new(want: &Want, missing: &[(u64, u64)], old_len: u64, data: &File) -> Option<Self> {
        let parts: u64 = missing.iter().map(|(from, to)| to - from).sum();
        let lacks = parts * PART_LEN as u64;
        let old_len = old_len.min(want.size.saturating_mul(OLD_LEN_FACTOR));
        let is_worth_it = old_len > PART_LEN as u64
            && lacks.saturating_mul(MISSING_FACTOR) >= want.size
            && old_len.saturating_mul(MISSING_FACTOR) >= lacks;
        let lengths = Lengths::for_size(want.size.max(old_len)).filter(|_| is_worth_it)?;
        let data = data.try_clone().ok()?;
        let is_blank = data.metadata().ok()?.blocks() == 0;
        let is_resumed = lacks < want.size;
        let (want, missing) = (want.clone(), missing.to_vec());
        Some(Self { id: want.id, want, lengths, old_len, data, is_blank, is_resumed, missing })
    }

    /// What it takes of memory, about.
    pub(super) fn memory(&self) -> u64 {
        let chunks = (self.old_len.max(self.want.size) >> self.lengths.bits()) + 1;
        // The index, the list while it waits, and the bytes that are being cut.
        chunks * (24 + 20) + (self.lengths.max() * 5 / 4 + 2 * PART_LEN) as u64
    }
}

/// What the threads work with.
pub(in super::super) struct Crew<'a> {
    target: &'a Target,
    pending: &'a Pending,
    wants: &'a mpsc::Sender<Vec<u8>>,
    writer: &'a mpsc::WeakSender<Batch>,
    /// What went wrong first.
    error: Mutex<Option<ShareError>>,
}

impl<'a> Crew<'a> {
    pub(in super::super) fn new(
        target: &'a Target,
        pending: &'a Pending,
        wants: &'a mpsc::Sender<Vec<u8>>,
        writer: &'a mpsc::WeakSender<Batch>,
    ) -> Self {
        Self { target, pending, wants, writer, error: Mutex::new(None) }
    }

    /// Works jobs off until there is none; for a thread.
    pub(in super::super) fn work(&self) {
        let _guard = StopOnPanic(self.pending);
        while let Some(job) = self.pending.deltas.next() {
            let outcome = self.run(&job);
            self.pending.deltas.finished(&job);
            if let Err(error) = outcome {
                self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                self.pending.stop();
            }
        }
    }

    /// Has the writing thread look whether anything is left to wait for. Should it be gone, so is the need. Nobody here holds a sender
    /// while he works: the end of the stream must reach the writer, which then stops the others.
    pub(in super::super) fn wake_writer(&self) {
        if let Some(writer) = self.writer.upgrade() {
            let _ = writer.blocking_send(Batch::Wake);
        }
    }

    /// What went wrong, once all threads have ended.
    pub(in super::super) fn into_outcome(self) -> Result<(), ShareError> {
        self.error.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn run(&self, job: &Job) -> Result<(), ShareError> {
        let mut copy = Copy::new(self, job);
        let Some(old) = self.open(job) else {
            copy.advance(None, &mut Matcher::new(Index::empty()), End::Cut)?;
            return self.tell(job, Step::Done(None));
        };
        self.pending.deltas.expect(job);
        let Want { id, path, size, mtime, .. } = job.want.clone();
        self.ask(Compare { id, path, size, mtime, method: METHOD, lengths: job.lengths }.encode())?;
        let sampled = sample(&old, job.old_len, size, job.lengths);
        let mut verdict = None;
        let looks_alike = |wait: bool, verdict: &mut Option<bool>| {
            let Some(sums) = &sampled else { return true };
            if verdict.is_none() {
                let known = |sum: &Sum| sums.contains(sum);
                let count = self.pending.deltas.count(job.id, size / VERDICT_SHARE, wait, known);
                *verdict = count.map(|count| count >= VERDICT_MIN);
            }
            verdict.unwrap_or(true)
        };
        let go_on = || looks_alike(false, &mut verdict) && !self.pending.is_stopped();
        let index = Index::of(&old, job.old_len, job.lengths, go_on);
        let index = index.filter(|_| looks_alike(true, &mut verdict));
        if self.pending.is_stopped() {
            return Err(stopped());
        }
        let Some(index) = index else {
            tracing::debug!(path = display_path(&job.want.path), "has nothing in common with its older version");
            self.enough(job)?;
            copy.advance(None, &mut Matcher::new(Index::empty()), End::Cut)?;
            return self.tell(job, Step::Done(None));
        };
        let mut matcher = Matcher::new(index);
        let end = loop {
            let (chunks, end) = self.pending.deltas.take(job.id).ok_or_else(stopped)?;
            chunks.iter().for_each(|(len, sum)| matcher.push(*len, sum));
            copy.advance(Some(&old), &mut matcher, end)?;
            if end != End::Open {
                break end;
            }
        };
        match end {
            End::Complete(root) => self.tell(job, Step::Done(Some(root))),
            End::Open | End::Cut => {
                self.enough(job)?;
                self.tell(job, Step::Done(None))
            }
        }
    }

    /// The older version, if it is a file that can be read. No link is followed.
    fn open(&self, job: &Job) -> Option<File> {
        let mut parent = LastParent::default();
        let (dir, name) = self.target.parent(&mut parent, &job.want.path).ok()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let old = openat(dir, name, flags, Mode::empty()).and_then(|fd| Ok((fstat(&fd)?, fd)));
        match old {
            Ok((stat, fd)) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Some(File::from(fd)),
            Ok(_) => None,
            Err(error) => {
                let path = display_path(&job.want.path);
                tracing::debug!(path, %error, "an older version cannot be read; the file is fetched whole");
                None
            }
        }
    }

    fn ask(&self, wants: Vec<u8>) -> Result<(), ShareError> {
        self.wants.blocking_send(wants).map_err(|_| ShareError::connection("the host has gone"))
    }

    fn enough(&self, job: &Job) -> Result<(), ShareError> {
        self.ask(message(kind::ENOUGH, |out| put_varint(out, job.id)))
    }

    fn tell(&self, job: &Job, step: Step) -> Result<(), ShareError> {
        let writer = self.writer.upgrade().ok_or_else(stopped)?;
        writer.blocking_send(Batch::Delta(job.id, step)).map_err(|_| stopped())
    }
}

fn stopped() -> ShareError {
    ShareError::connection("the transfer has stopped")
}

/// A missing part, and what the older version has of it.
struct Part {
    number: u64,
    /// Groups that are copied.
    there: u64,
    /// Where their bytes are, in order.
    from: Vec<Match>,
}

/// The way through the missing parts of a file.
struct Copy<'a> {
    crew: &'a Crew<'a>,
    job: &'a Job,
    missing: VecDeque<(u64, u64)>,
    has_copied: bool,
    buffer: Vec<u8>,
}

impl<'a> Copy<'a> {
    fn new(crew: &'a Crew<'a>, job: &'a Job) -> Self {
        Self { crew, job, missing: job.missing.iter().copied().collect(), has_copied: false, buffer: Vec::new() }
    }

    /// Copies and asks for the parts that the list has come to, all that are left with its end.
    fn advance(&mut self, old: Option<&File>, matcher: &mut Matcher, end: End) -> Result<(), ShareError> {
        let size = self.job.want.size;
        let reached = if end == End::Open { matcher.listed / PART_LEN as u64 } else { size.div_ceil(PART_LEN as u64) };
        loop {
            let mut window = Vec::new();
            while window.len() < WINDOW {
                let Some((from, to)) = self.missing.front_mut().filter(|(from, _)| *from < reached) else { break };
                let number = *from;
                *from += 1;
                if *from == *to {
                    self.missing.pop_front();
                }
                window.push(self.part(number, &mut matcher.found));
            }
            if window.is_empty() {
                return Ok(());
            }
            self.work_off(old, &window, end)?;
        }
    }

    /// What the older version has of a part.
    fn part(&self, number: u64, found: &mut VecDeque<Match>) -> Part {
        let (start, end) = self.bounds(number);
        let (mut there, mut from) = (0u64, Vec::new());
        let mut run: Option<(u64, u64)> = None;
        while let Some(next) = found.front().copied() {
            let (at, until) = (next.at.max(start), (next.at + next.len).min(end));
            if at >= end {
                break;
            }
            if at < until {
                from.push(Match { at, len: until - at, from: next.from.map(|place| place + (at - next.at)) });
                run = match run {
                    Some((begin, last)) if last == at => Some((begin, until)),
                    other => {
                        there |= other.map_or(0, |run| self.groups_of(run, start, end));
                        Some((at, until))
                    }
                };
            }
            if next.at + next.len > end {
                break;
            }
            found.pop_front();
        }
        there |= run.map_or(0, |run| self.groups_of(run, start, end));
        Part { number, there, from }
    }

    /// Groups of the part from `start` to `end` that are wholly in a run of bytes.
    fn groups_of(&self, (from, to): (u64, u64), start: u64, end: u64) -> u64 {
        let group = GROUP_LEN as u64;
        let first = (from - start).div_ceil(group);
        let last = if to == end { (to - start).div_ceil(group) } else { (to - start) / group };
        if first >= last { 0 } else { mask((last - first) as usize) << first }
    }

    fn bounds(&self, part: u64) -> (u64, u64) {
        let start = part * PART_LEN as u64;
        (start, (start + PART_LEN as u64).min(self.job.want.size))
    }

    fn groups(&self, part: u64) -> usize {
        let (start, end) = self.bounds(part);
        ((end - start) as usize).div_ceil(GROUP_LEN)
    }

    /// Asks for what is missing of the parts, and copies what is there while it comes.
    fn work_off(&mut self, old: Option<&File>, window: &[Part], end: End) -> Result<(), ShareError> {
        let id = self.job.id;
        let deltas = &self.crew.pending.deltas;
        let incomplete = |part: &&Part| part.there != 0 && part.there != mask(self.groups(part.number));
        let incomplete = window.iter().filter(incomplete).count();
        if !deltas.wait_for_room(id, incomplete) {
            return Err(stopped());
        }
        deltas.begun(id, incomplete);
        self.has_copied |= window.iter().any(|part| part.there != 0);
        self.ask_for_missing(window, end)?;
        let Some(old) = old else { return Ok(()) };
        for part in window.iter().filter(|part| part.there != 0) {
            let groups = self.copy(old, part)?;
            self.crew.tell(self.job, Step::Copied { part: part.number, groups })?;
            if self.crew.pending.is_stopped() {
                return Err(stopped());
            }
        }
        Ok(())
    }

    fn ask_for_missing(&self, window: &[Part], end: End) -> Result<(), ShareError> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for part in window {
            let (start, part_end) = self.bounds(part.number);
            for group in (0..self.groups(part.number)).filter(|group| part.there >> group & 1 == 0) {
                let from = start + (group * GROUP_LEN) as u64;
                let to = (from + GROUP_LEN as u64).min(part_end);
                match runs.last_mut() {
                    Some((_, last)) if *last == from => *last = to,
                    _ => runs.push((from, to)),
                }
            }
        }
        if runs.is_empty() {
            return Ok(());
        }
        let bytes = runs.iter().map(|(from, to)| to - from).sum();
        self.crew.tell(self.job, Step::Asked { wants: runs.len() as u32, bytes })?;
        // A complete list tells the hash; without one the last want asks for it.
        let needs_root = end == End::Cut && self.missing.is_empty() && (self.job.is_resumed || self.has_copied);
        let mut wants = Vec::new();
        for (nth, (start, end)) in runs.iter().copied().enumerate() {
            let mut want = Want { start, end, ..self.job.want.clone() };
            want.also.root = needs_root && nth + 1 == runs.len();
            wants.extend_from_slice(&want.encode());
            if wants.len() >= WANTS_LEN || nth + 1 == runs.len() {
                self.crew.ask(std::mem::take(&mut wants))?;
            }
        }
        Ok(())
    }

    /// Copies groups of a part to their place and computes their values.
    fn copy(&mut self, old: &File, part: &Part) -> Result<Groups, ShareError> {
        let (start, end) = self.bounds(part.number);
        self.buffer.clear();
        self.buffer.resize((end - start) as usize, 0);
        for piece in &part.from {
            let Some(from) = piece.from else { continue };
            let at = (piece.at - start) as usize;
            // What has changed since it was read is found by the hash of the whole, and so is what cannot be read any more.
            if let Err(error) = old.read_exact_at(&mut self.buffer[at..at + piece.len as usize], from) {
                tracing::debug!(%error, "an older version cannot be read any more");
            }
        }
        let mut groups: Groups = Box::new([None; GROUPS]);
        for (nth, bytes) in self.buffer.chunks(GROUP_LEN).enumerate().filter(|(nth, _)| part.there >> nth & 1 == 1) {
            let offset = start + (nth * GROUP_LEN) as u64;
            groups[nth] = Some(hash::group_value(offset, bytes, self.job.want.size));
        }
        let io = |e| ShareError::io(self.crew.target.shown(&self.job.want.path), "cannot be written", e);
        for (from, to) in runs_of(&self.buffer, part.there, self.job.is_blank) {
            self.job.data.write_all_at(&self.buffer[from..to], start + from as u64).map_err(io)?;
        }
        Ok(groups)
    }
}

/// So many ones.
fn mask(groups: usize) -> u64 {
    if groups >= 64 { u64::MAX } else { (1 << groups) - 1 }
}

/// What of a part is written: the groups of `there`, with `sparse` without blocks of zeros.
fn runs_of(bytes: &[u8], there: u64, sparse: bool) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (nth, block) in bytes.chunks(BLOCK).enumerate() {
        let from = nth * BLOCK;
        if there >> (from / GROUP_LEN) & 1 == 0 || sparse && block.iter().all(|byte| *byte == 0) {
            continue;
        }
        match runs.last_mut() {
            Some((_, to)) if *to == from => *to = from + block.len(),
            _ => runs.push((from, from + block.len())),
        }
    }
    runs
}

const _: () = assert!(GROUPS == 64, "the groups of a part are the bits of a number");
