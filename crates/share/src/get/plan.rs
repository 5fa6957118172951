//! The planning thread: takes the list of files, makes what needs no data, and asks for what is missing.

use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode, OFlags, openat, readlinkat};
use tokio::sync::mpsc;
use warpline_wire::Reader;

use super::delta::{Crew, Job};
use super::finish::Later;
use super::partial::Partial;
use super::pending::{Pending, Wanted};
use super::target::{LastParent, Target};
use crate::error::{ShareError, display_path};
use crate::limits::{PART_LEN, PATH_MAX};
use crate::manifest::{Entry, Kind, OrderCheck, decode_entry};
use crate::message::{Also, Want, kind, messages, take_bytes};

/// Requests are sent in pieces of this length, or when there is nothing else to do.
const WANTS_LEN: usize = 8 * 1024;

/// What the list came to.
pub(super) struct Planned {
    pub(super) entries: u64,
}

/// Works the list off; returns once all of it was seen and all files with an older version were compared with it.
pub(super) fn run(
    target: &Target,
    pending: &Pending,
    mut batches: mpsc::Receiver<Vec<u8>>,
    wants: &mpsc::Sender<Vec<u8>>,
    crew: Crew<'_>,
    whole_files: bool,
) -> Result<Planned, ShareError> {
    let later = Later::create(target)?;
    let outcome = std::thread::scope(|scope| {
        let hire = || {
            let thread = std::thread::Builder::new().name("compare".into());
            thread.spawn_scoped(scope, || crew.work()).map(drop)
        };
        let mut plan = Plan {
            target,
            pending,
            wants,
            hire: if whole_files { None } else { Some(&hire) },
            gathered: Vec::new(),
            later,
            order: OrderCheck::default(),
            previous: Vec::new(),
            parent: LastParent::default(),
            entries: 0,
        };
        let outcome = plan.run(&mut batches);
        if outcome.is_err() {
            pending.stop();
        }
        drop(plan);
        crew.wake_writer();
        outcome
    });
    // What went wrong there has stopped this thread, too.
    crew.into_outcome().and(outcome)
}

struct Plan<'a> {
    target: &'a Target,
    pending: &'a Pending,
    wants: &'a mpsc::Sender<Vec<u8>>,
    /// Starts a thread that compares files with their older versions; `None` when that is not wanted.
    hire: Option<&'a dyn Fn() -> std::io::Result<()>>,
    /// Requests that are not sent yet.
    gathered: Vec<u8>,
    later: Later,
    order: OrderCheck,
    previous: Vec<u8>,
    parent: LastParent,
    entries: u64,
}

impl Plan<'_> {
    fn run(&mut self, batches: &mut mpsc::Receiver<Vec<u8>>) -> Result<Planned, ShareError> {
        loop {
            let batch = match batches.try_recv() {
                Ok(batch) => batch,
                Err(_) => {
                    self.send_gathered()?;
                    batches.blocking_recv().ok_or_else(|| ShareError::connection("the list of files was cut off"))?
                }
            };
            for (what, body) in messages(&batch) {
                if let Some(planned) = self.message(what, body)? {
                    return Ok(planned);
                }
            }
        }
    }

    /// Works one message off; the last one of the list says what it came to.
    fn message(&mut self, what: u8, body: &[u8]) -> Result<Option<Planned>, ShareError> {
        let mut r = Reader::new(body);
        match what {
            kind::ENTRIES => {
                while !r.is_empty() {
                    let entry = decode_entry(&mut r, &self.previous)?;
                    self.order.check(&entry)?;
                    self.previous.clone_from(&entry.path);
                    self.entries += 1;
                    self.entry(entry)?;
                }
                Ok(None)
            }
            kind::SKIPPED => {
                let (path, why) = (take_bytes(&mut r, PATH_MAX), take_bytes(&mut r, 1024));
                let (Some(path), Some(why)) = (path, why) else {
                    return Err(ShareError::peer("a notice that cannot be read"));
                };
                self.pending.not_kept(path, String::from_utf8_lossy(why));
                Ok(None)
            }
            kind::LIST_END => {
                if r.varint() != Ok(self.entries) {
                    return Err(ShareError::peer("the list of files is incomplete"));
                }
                self.send_gathered()?;
                self.later.flush()?;
                self.pending.progress.listed.set();
                self.pending.set_planned();
                Ok(Some(Planned { entries: self.entries }))
            }
            _ => Err(ShareError::peer("a message that hosts do not send here")),
        }
    }

    fn entry(&mut self, entry: Entry) -> Result<(), ShareError> {
        match &entry.kind {
            Kind::Directory => {
                if !entry.path.is_empty() {
                    let (dir, name) = self.target.parent(&mut self.parent, &entry.path)?;
                    self.target.make_directory(dir, name, &entry)?;
                }
                self.later.push(&entry)
            }
            Kind::HardLink { .. } => self.later.push(&entry),
            Kind::Symlink { target } => {
                let (dir, name) = self.target.parent(&mut self.parent, &entry.path)?;
                let there = readlinkat(dir, name, Vec::new()).is_ok_and(|to| to.as_bytes() == target.as_slice());
                if !there {
                    self.target.make_symlink(dir, name, &entry, target)?;
                }
                self.target.set_link_attributes(dir, name, &entry, self.pending);
                Ok(())
            }
            Kind::File { size } => {
                let size = *size;
                self.file(entry, size)
            }
        }
    }

    fn file(&mut self, entry: Entry, size: u64) -> Result<(), ShareError> {
        let progress = &self.pending.progress;
        progress.files_total.add(1);
        progress.bytes_total.add(size);
        let (dir, name) = self.target.parent(&mut self.parent, &entry.path)?;
        let mut older = None;
        if let Some(stat) = self.target.stat(dir, name)? {
            if self.target.has_file(&stat, size, entry.mtime) {
                if (stat.st_mode & 0o7777) as u16 != entry.mode {
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                    let fd = openat(dir, name, flags, Mode::empty())
                        .map_err(|e| ShareError::io(self.target.shown(&entry.path), "cannot be opened", e))?;
                    self.target.set_attributes(fd.as_fd(), &entry, self.pending)?;
                }
                progress.bytes_reused.add(size);
                progress.bytes_done.add(size);
                progress.files_done.add(1);
                return Ok(());
            }
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    return Err(ShareError::Misuse {
                        path: self.target.shown(&entry.path).into(),
                        what: "is a directory where the share has a file; move it and run the command again".into(),
                    });
                }
                FileType::RegularFile => older = Some(stat.st_size as u64),
                _ => {}
            }
        }
        if size == 0 {
            return self.empty_file(&entry);
        }
        self.ask(entry, size, older.filter(|_| self.hire.is_some()))
    }

    fn empty_file(&mut self, entry: &Entry) -> Result<(), ShareError> {
        let temporary = self.target.temporary();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = openat(&self.target.partial, &temporary[..], flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| ShareError::io(self.target.shown(&entry.path), "cannot be made", e))?;
        self.target.set_attributes(fd.as_fd(), entry, self.pending)?;
        let (dir, name) = self.target.parent(&mut self.parent, &entry.path)?;
        self.target.place(&temporary, dir, name, entry)?;
        self.pending.progress.files_done.add(1);
        Ok(())
    }

    /// Asks for a file, or for the parts of it that are missing; has it compared with an older version of so many bytes, if there is one.
    fn ask(&mut self, entry: Entry, size: u64, older: Option<u64>) -> Result<(), ShareError> {
        let id = self.entries;
        let shown = display_path(&entry.path);
        let io = |e| ShareError::io(&shown, "what an earlier run left of it cannot be read", e);
        let (path, mtime, also) = (entry.path.clone(), entry.mtime, Also::default());
        let whole = Want { id, path, size, mtime, start: 0, end: size, also };
        let mut ranges = Vec::new();
        let mut partial = None;
        let mut reused = 0;
        let mut job = None;
        if size > PART_LEN as u64 {
            let mut opened = Partial::open(self.target, &entry, size)?;
            if opened.is_complete() {
                // It was not put into place: its last part comes once more and brings it to its end.
                opened.forget_last_part().map_err(io)?;
            }
            reused = opened.bytes_there().map_err(io)?;
            self.pending.progress.bytes_reused.add(reused);
            self.pending.progress.bytes_done.add(reused);
            let missing = opened.missing_parts().map_err(io)?;
            job = older.and_then(|older| Job::new(&whole, &missing, older, opened.data()));
            if job.is_none() {
                for (from, to) in missing {
                    let (start, end) = (from * PART_LEN as u64, (to * PART_LEN as u64).min(size));
                    ranges.push(Want { start, end, ..whole.clone() });
                }
            }
            if let Some(last) = ranges.last_mut() {
                last.also.root = reused > 0;
            }
            partial = Some(opened);
        } else {
            ranges.push(whole);
        }
        let owed = ranges.iter().map(|range| range.end - range.start).sum();
        let open_wants = ranges.len() as u32 + u32::from(job.is_some());
        let wanted = Wanted { entry, size, partial, open_wants, owed, reused };
        if self.pending.is_full(&wanted) {
            // What is waited for must have been asked for.
            self.send_gathered()?;
        }
        if !self.pending.add(id, wanted) {
            return Err(ShareError::connection("the transfer has stopped"));
        }
        if let Some(job) = job {
            return self.compare(job);
        }
        for range in ranges {
            self.gathered.extend_from_slice(&range.encode());
        }
        if self.gathered.len() >= WANTS_LEN { self.send_gathered() } else { Ok(()) }
    }

    /// Hands a job over, to one thread more if there may be more.
    fn compare(&self, job: Job) -> Result<(), ShareError> {
        match self.hire {
            Some(hire) if self.pending.deltas.submit(job) => {
                hire().map_err(|e| ShareError::io("a thread", "cannot be started", e))
            }
            _ => Ok(()),
        }
    }

    fn send_gathered(&mut self) -> Result<(), ShareError> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let wants = std::mem::take(&mut self.gathered);
        self.wants.blocking_send(wants).map_err(|_| ShareError::connection("the host has gone"))
    }
}
