//! What receivers want, in the order in which they asked: opened, and if it is small read, ahead of its turn.
//!
//! A disk is fastest when it has several things to do at once, and a tree of small files gives it one at a time if they are read one after
//! the other. So each of the next [`FILES_AHEAD`] wants has a fiber that opens its file and, if it is for no more than [`FILES_AHEAD_LEN`]
//! bytes, reads them into a buffer of the ring. Ranges that are longer are read when it is their turn, straight into what is sent; the kernel
//! reads those ahead by itself.

use std::collections::VecDeque;
use std::sync::Arc;

use rustix::fs::Stat;
use tokio::sync::mpsc;
use warpline_fiber::reactor::RegisteredBuffer;
use warpline_fiber::{JoinHandle, Wait, spawn};

use super::Shared;
use super::open::{self, Stop};
use super::reading::Opened;
use crate::limits::{FILES_AHEAD, FILES_AHEAD_LEN, PART_LEN};
use crate::message::Want;

/// The wants of one receiver.
pub(super) struct Ahead {
    shared: Arc<Shared>,
    wants: mpsc::Receiver<Vec<Want>>,
    batch: std::vec::IntoIter<Want>,
    /// Those that have begun, the next one first.
    begun: VecDeque<JoinHandle<Fetched>>,
    /// How many may have begun; 0 without a ring.
    depth: usize,
}

/// A want whose turn it is.
pub(super) struct Fetched {
    pub(super) want: Want,
    pub(super) file: Result<(Opened, Stat), Stop>,
    /// All that is wanted, if it has been read already.
    pub(super) content: Option<Content>,
}

/// Bytes that were read ahead.
pub(super) struct Content {
    /// Where in the range the file has data.
    pub(super) extents: Vec<(u32, u32)>,
    buffer: Buffer,
    len: usize,
}

enum Buffer {
    Registered(RegisteredBuffer),
    /// When none could be registered, since `RLIMIT_MEMLOCK` is too small.
    Heap(Vec<u8>),
}

impl Content {
    /// The data of the extents, one behind the other.
    pub(super) fn data(&self) -> &[u8] {
        match &self.buffer {
            Buffer::Registered(buffer) => &buffer.as_ref()[..self.len],
            Buffer::Heap(bytes) => &bytes[..self.len],
        }
    }
}

impl Ahead {
    pub(super) fn new(shared: Arc<Shared>, wants: mpsc::Receiver<Vec<Want>>) -> Self {
        let depth = if shared.reading.is_uring() { FILES_AHEAD } else { 0 };
        Self { shared, wants, batch: Vec::new().into_iter(), begun: VecDeque::with_capacity(depth), depth }
    }

    /// The next want, if the receiver has asked for one. Others begin.
    pub(super) fn next(&mut self) -> Option<Fetched> {
        while self.begun.len() < self.depth {
            let Some(want) = self.asked() else { break };
            let shared = self.shared.clone();
            self.begun.push_back(spawn(move || fetch(&shared, want)));
        }
        match self.begun.pop_front() {
            Some(fiber) => Some(fiber.join().expect("a fiber that reads ahead is neither cancelled nor does it panic")),
            None => self.asked().map(|want| fetch(&self.shared, want)),
        }
    }

    fn asked(&mut self) -> Option<Want> {
        loop {
            if let Some(want) = self.batch.next() {
                return Some(want);
            }
            self.batch = self.wants.try_recv().ok()?.into_iter();
        }
    }

    /// Parks until the receiver asks for more; `false` if it never will.
    pub(super) fn wait(&mut self) -> bool {
        match self.wants.recv().wait() {
            Some(batch) => {
                self.batch = batch.into_iter();
                true
            }
            None => false,
        }
    }
}

fn fetch(shared: &Shared, want: Want) -> Fetched {
    let opened = open::open(shared, &want, shared.reading.is_uring())
        .and_then(|(file, stat)| read(&file, &want).map(|content| ((file, stat), content)));
    match opened {
        Ok((file, content)) => Fetched { want, file: Ok(file), content },
        Err(stop) => Fetched { want, file: Err(stop), content: None },
    }
}

/// Reads the range if it is short.
fn read(file: &Opened, want: &Want) -> Result<Option<Content>, Stop> {
    let Opened::Ring(ring) = file else { return Ok(None) };
    let len = want.end - want.start;
    let is_one_part = want.start / PART_LEN as u64 == (want.end - 1) / PART_LEN as u64;
    if len > FILES_AHEAD_LEN as u64 || !is_one_part {
        return Ok(None);
    }
    let extents = open::extents(file, &want.path, want.start, len as usize)?;
    let data: usize = extents.iter().map(|(_, len)| *len as usize).sum();
    let mut buffer = match RegisteredBuffer::take() {
        Some(buffer) => Buffer::Registered(buffer),
        None => Buffer::Heap(vec![0; data]),
    };
    let mut filled = 0;
    for (at, len) in &extents {
        let end = filled + *len as usize;
        let mut offset = want.start + u64::from(*at);
        while filled < end {
            let read = match &mut buffer {
                Buffer::Registered(buffer) => ring.read_fixed(buffer, filled..end, offset),
                Buffer::Heap(bytes) => ring.read_at(&mut bytes[filled..end], offset),
            };
            let n = open::some(read, &want.path)?;
            filled += n;
            offset += n as u64;
        }
    }
    Ok(Some(Content { extents, buffer, len: filled }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs;
    use std::os::unix::fs::{FileExt, symlink};
    use std::path::Path;

    use super::super::outboard::Outboards;
    use super::super::reading::{FileIo, Reading};
    use super::super::scan::mtime;
    use super::super::source::Source;
    use super::*;
    use crate::message::Also;

    /// Files of `dir/tree` to be read by `io_uring`; `None`, with a word why, where that cannot be.
    fn shared(dir: &Path) -> Option<Arc<Shared>> {
        let reading = Reading::choose(FileIo::Uring).map_err(|why| eprintln!("skipped: {why}")).ok()?;
        let source = Source::open(&dir.join("tree")).unwrap();
        Some(Arc::new(Shared::new(source, Outboards::open(&dir.join("state")), reading, Default::default())))
    }

    fn want(root: &Path, id: u64, name: &str) -> Want {
        let stat = rustix::fs::stat(root.join(name)).unwrap();
        let size = stat.st_size as u64;
        let path = name.as_bytes().to_vec();
        Want { id, path, size, mtime: mtime(&stat), start: 0, end: size, also: Also::default() }
    }

    /// Asks for everything at once and takes what comes in a fiber.
    fn fetch_all<T: 'static>(
        shared: &Arc<Shared>,
        wants: Vec<Want>,
        take: impl FnMut(Fetched) -> T + 'static,
    ) -> Vec<T> {
        let (to, from) = mpsc::channel(1);
        to.try_send(wants).unwrap();
        drop(to);
        let mut ahead = Ahead::new(shared.clone(), from);
        let mut take = take;
        shared.reading.scheduler().unwrap().run(move || {
            let mut out = Vec::new();
            while let Some(fetched) = ahead.next() {
                out.push(take(fetched));
            }
            assert!(!ahead.wait(), "nobody can ask for more");
            out
        })
    }

    fn failure(fetched: &Fetched) -> Option<String> {
        match &fetched.file {
            Ok(_) => None,
            Err(Stop::Failed(why)) => Some(why.clone()),
            Err(Stop::Gone) => Some("gone".into()),
        }
    }

    #[test]
    fn wants_are_served_in_order_with_what_short_ones_ask_for() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        fs::create_dir(&root).unwrap();
        let Some(shared) = shared(dir.path()) else { return };
        let sizes = [1, 10_000, FILES_AHEAD_LEN - 1, FILES_AHEAD_LEN, FILES_AHEAD_LEN + 1, 3 * PART_LEN];
        let wants: Vec<_> = (0..10 * FILES_AHEAD)
            .map(|i| {
                let name = format!("{i}");
                fs::write(root.join(&name), vec![i as u8; sizes[i % sizes.len()]]).unwrap();
                want(&root, i as u64, &name)
            })
            .collect();
        let came = fetch_all(&shared, wants, |fetched| {
            assert_eq!(failure(&fetched), None);
            let bytes = fetched.content.map(|content| content.data().to_vec());
            (fetched.want.id, bytes)
        });
        assert_eq!(came.len(), 10 * FILES_AHEAD);
        for (i, (id, bytes)) in came.into_iter().enumerate() {
            let size = sizes[i % sizes.len()];
            assert_eq!(id, i as u64);
            assert_eq!(bytes, (size <= FILES_AHEAD_LEN).then(|| vec![i as u8; size]), "{size}");
        }
    }

    #[test]
    fn holes_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        fs::create_dir(&root).unwrap();
        let Some(shared) = shared(dir.path()) else { return };
        let file = fs::File::create(root.join("sparse")).unwrap();
        file.set_len(60_000).unwrap();
        file.write_all_at(&[7; 4096], 8192).unwrap();
        file.write_all_at(&[9; 4096], 40_960).unwrap();
        file.sync_all().unwrap();
        let wants = vec![want(&root, 1, "sparse")];
        let came = fetch_all(&shared, wants, |fetched| {
            let content = fetched.content.unwrap();
            (content.extents.clone(), content.data().to_vec())
        });
        let (extents, data) = &came[0];
        if extents == &[(0, 60_000)] {
            return eprintln!("skipped: this file system cannot tell holes from data");
        }
        assert_eq!(extents, &[(8192, 4096), (40_960, 4096)]);
        assert_eq!(data, &[vec![7; 4096], vec![9; 4096]].concat());
    }

    #[test]
    fn a_file_that_is_not_what_it_was_fails_alone() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        fs::create_dir(&root).unwrap();
        let Some(shared) = shared(dir.path()) else { return };
        let names = ["good", "removed", "grown", "a link now", "a directory now", "also good"];
        for name in names {
            fs::write(root.join(name), b"as it was").unwrap();
        }
        let mut wants: Vec<_> = names.iter().zip(0..).map(|(name, id)| want(&root, id, name)).collect();
        let outside = Want { id: 6, path: b"../state".to_vec(), ..wants[0].clone() };
        let impossible = Want { id: 7, path: b"a\0b".to_vec(), ..wants[0].clone() };
        wants.extend([outside, impossible]);
        for name in ["removed", "a link now", "a directory now"] {
            fs::remove_file(root.join(name)).unwrap();
        }
        fs::write(root.join("grown"), b"as it was and more").unwrap();
        symlink("good", root.join("a link now")).unwrap();
        fs::create_dir(root.join("a directory now")).unwrap();
        let came = fetch_all(&shared, wants, |fetched| {
            (failure(&fetched), fetched.content.map(|content| content.data().to_vec()))
        });
        let failed: Vec<_> = came.iter().map(|(failure, _)| failure.is_some()).collect();
        assert_eq!(failed, [false, true, true, true, true, false, true, true], "{came:?}");
        assert!(came.iter().all(|(failure, content)| failure.is_some() || content.as_deref() == Some(b"as it was")));
    }

    #[test]
    fn a_receiver_that_leaves_ends_what_has_begun() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        fs::create_dir(&root).unwrap();
        let Some(shared) = shared(dir.path()) else { return };
        fs::write(root.join("file"), vec![1; 50_000]).unwrap();
        let wants: Vec<_> = (0..100).map(|id| want(&root, id, "file")).collect();
        let (to, from) = mpsc::channel(1);
        to.try_send(wants).unwrap();
        let mut ahead = Ahead::new(shared.clone(), from);
        let scheduler = shared.reading.scheduler().unwrap();
        scheduler.run(move || assert!(ahead.next().is_some()));
        drop(scheduler);
        assert!(to.is_closed());
        // Neither a fiber nor a file is left.
        assert_eq!(Arc::strong_count(&shared), 1);
    }
}
