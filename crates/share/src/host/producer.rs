//! Reads what receivers want, hashes it, and hands it to the transport: each byte is read once.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::fs::{FileType, SeekFrom, Stat, fstat, seek};
use rustix::io::{Errno, pread};
use tokio::sync::mpsc;
use warpline_frame::{Chunk, Frame, Pool, PoolConfig};

use super::Shared;
use super::outboard::Outboard;
use super::scan::mtime;
use crate::error::{ShareError, display_path};
use crate::hash::{self, Combiner, Value};
use crate::limits::{EXTENTS_MAX, GROUP_LEN, PART_LEN, PARTS_AHEAD};
use crate::message::{Want, kind, put_bytes, put_varint};

/// Messages are gathered in buffers of this size: one part with its values and extents, or hundreds of small files.
const BUFFER_LEN: usize = PART_LEN + 128 * 1024;
/// Buffers: those that wait for the transport, those that wait for acknowledgement, and the one being filled.
const BUFFERS: usize = PARTS_AHEAD + 8;

/// A file that is being served.
pub(super) struct Open<'a> {
    shared: &'a Shared,
    fd: OwnedFd,
    want: Want,
    /// What is remembered of it.
    outboard: Option<Outboard<'a>>,
    /// Values of the whole parts sent so far, from the want's first on.
    parts: Vec<Value>,
}

/// Serves wants until the receiver asks for no more.
pub(super) fn run(shared: &Shared, wants: &mut mpsc::Receiver<Vec<Want>>, parts: &mpsc::Sender<Chunk>) {
    let mut out = match Output::new(parts) {
        Ok(out) => out,
        Err(error) => return tracing::error!(%error, "no memory to read files into"),
    };
    loop {
        // What is gathered goes out before this thread waits for more.
        let batch = match wants.try_recv() {
            Ok(batch) => batch,
            Err(_) => {
                if out.flush().is_err() {
                    return;
                }
                match wants.blocking_recv() {
                    Some(batch) => batch,
                    None => return,
                }
            }
        };
        for want in batch {
            shared.counters().wants.fetch_add(1, Ordering::Relaxed);
            let id = want.id;
            let told = match serve(shared, want, &mut out) {
                Ok(root) => out.served(id, root),
                Err(Stop::Gone) => return,
                Err(Stop::Failed(why)) => out.failed(id, &why),
            };
            if told.is_err() {
                return;
            }
        }
    }
}

/// Why a want is not served to its end.
pub(super) enum Stop {
    /// The receiver has gone.
    Gone,
    /// The file cannot be read, or is not what the manifest said.
    Failed(String),
}

impl From<ShareError> for Stop {
    fn from(error: ShareError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Sends what is wanted of one file; returns the file's hash when all of it was read, or when that was asked for.
fn serve(shared: &Shared, want: Want, out: &mut Output<'_>) -> Result<Option<Value>, Stop> {
    let mut file = Open::of(shared, want)?;
    let (mut at, end) = (file.want.start, file.want.end);
    while at < end {
        let len = (end - at).min(PART_LEN as u64 - at % PART_LEN as u64) as usize;
        file.send_part(at, len, out)?;
        shared.counters().bytes.fetch_add(len as u64, Ordering::Relaxed);
        at += len as u64;
    }
    let whole = file.want.start == 0 && file.want.end == file.want.size;
    let root = if whole || file.want.also.root { Some(file.root(out)?) } else { None };
    file.unchanged()?;
    Ok(root)
}

/// The file must be the one of the manifest, before and after it was read.
fn unchanged(fd: &OwnedFd, want: &Want) -> Result<Stat, Stop> {
    let stat =
        fstat(fd).map_err(|e| ShareError::io(display_path(&want.path), "cannot be read", std::io::Error::from(e)))?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !regular || stat.st_size as u64 != want.size || mtime(&stat) != want.mtime {
        return Err(Stop::Failed("changed while it was being shared; run the same command again".into()));
    }
    Ok(stat)
}

impl<'a> Open<'a> {
    /// Opens the file of a want, which must be the one of the manifest.
    pub(super) fn of(shared: &'a Shared, want: Want) -> Result<Self, Stop> {
        let fd = shared.source.open_file(&want.path)?;
        let stat = unchanged(&fd, &want)?;
        let outboard = shared.outboards.of(&stat);
        Ok(Self { shared, fd, want, outboard, parts: Vec::new() })
    }

    /// It must be the one of the manifest after it was read, too.
    pub(super) fn unchanged(&self) -> Result<(), Stop> {
        unchanged(&self.fd, &self.want).map(drop)
    }

    /// The hash of the whole file. Parts that were not sent just now and are not remembered are read for it.
    fn root(&self, out: &Output<'_>) -> Result<Value, Stop> {
        let size = self.want.size;
        let first = self.want.start.div_ceil(PART_LEN as u64);
        let is_only_part = size <= PART_LEN as u64;
        let mut combiner = Combiner::default();
        let mut buffer = Vec::new();
        for part in 0..size.div_ceil(PART_LEN as u64) {
            let start = part * PART_LEN as u64;
            let len = (size - start).min(PART_LEN as u64) as usize;
            let sent = part.checked_sub(first).and_then(|i| self.parts.get(i as usize));
            combiner.push(match sent {
                Some(value) => *value,
                None => hash::part_value(&self.known_or_read(start, len, &mut buffer)?, is_only_part),
            });
            if out.is_closed() {
                return Err(Stop::Gone);
            }
        }
        Ok(combiner.root())
    }

    /// Values of a part that is not sent.
    fn known_or_read(&self, start: u64, len: usize, buffer: &mut Vec<u8>) -> Result<Vec<Value>, Stop> {
        if let Some(values) = self.outboard.as_ref().and_then(|outboard| outboard.values(start, len)) {
            return Ok(values);
        }
        let extents = self.extents(start, len)?;
        buffer.resize(extents.iter().map(|(_, len)| *len as usize).sum(), 0);
        self.read_extents(start, &extents, buffer)?;
        Ok(self.hash(start, len, &extents, buffer))
    }

    /// Values of the groups that hold `data`, remembered or computed.
    pub(super) fn values(&self, start: u64, len: usize, extents: &[(u32, u32)], data: &[u8]) -> Vec<Value> {
        let known = self.outboard.as_ref().filter(|_| !self.want.also.anew).and_then(|o| o.values(start, len));
        known.unwrap_or_else(|| self.hash(start, len, extents, data))
    }

    /// Values of the groups, computed and remembered.
    fn hash(&self, start: u64, len: usize, extents: &[(u32, u32)], data: &[u8]) -> Vec<Value> {
        let values = self.group_values(start, len, extents, data);
        self.shared.counters().hashed.fetch_add(len as u64, Ordering::Relaxed);
        if let Some(outboard) = &self.outboard {
            outboard.put(start, &values);
        }
        values
    }

    fn send_part(&mut self, start: u64, len: usize, out: &mut Output<'_>) -> Result<(), Stop> {
        let extents = self.extents(start, len)?;
        let data_len: usize = extents.iter().map(|(_, len)| *len as usize).sum();
        let groups = len.div_ceil(GROUP_LEN);
        let mut head = Vec::with_capacity(64 + groups * 32 + extents.len() * 6);
        head.extend_from_slice(&[0, 0, 0, 0, kind::PART]);
        put_varint(&mut head, self.want.id);
        put_varint(&mut head, start);
        put_varint(&mut head, len as u64);
        let values_at = head.len();
        head.resize(values_at + groups * 32, 0);
        put_varint(&mut head, extents.len() as u64);
        for (at, len) in &extents {
            put_varint(&mut head, u64::from(*at));
            put_varint(&mut head, u64::from(*len));
        }
        let message_len = (head.len() + data_len - 4) as u32;
        head[..4].copy_from_slice(&message_len.to_be_bytes());
        let room = out.room(head.len() + data_len).map_err(|()| Stop::Gone)?;
        let (head_room, data) = room.split_at_mut(head.len());
        self.read_extents(start, &extents, data)?;
        let values = self.values(start, len, &extents, data);
        for (slot, value) in head[values_at..].chunks_exact_mut(32).zip(&values) {
            slot.copy_from_slice(value);
        }
        head_room.copy_from_slice(&head);
        out.commit(head.len() + data_len);
        let is_whole_part =
            start.is_multiple_of(PART_LEN as u64) && (len == PART_LEN || start + len as u64 == self.want.size);
        if is_whole_part {
            self.parts.push(hash::part_value(&values, self.want.size <= PART_LEN as u64));
        }
        Ok(())
    }

    /// Where in the range the file has data. A file system that cannot tell has data everywhere.
    pub(super) fn extents(&self, start: u64, len: usize) -> Result<Vec<(u32, u32)>, Stop> {
        let end = start + len as u64;
        let mut out = Vec::new();
        let mut at = start;
        while at < end {
            let data = match seek(&self.fd, SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(Errno::NXIO) => break,
                Err(_) if at == start => return Ok(vec![(0, len as u32)]),
                Err(error) => return Err(self.failed(error)),
            };
            if data >= end {
                break;
            }
            let hole = seek(&self.fd, SeekFrom::Hole(data)).map_err(|e| self.failed(e))?.min(end);
            if out.len() == EXTENTS_MAX {
                // Blocks so small that the list of extents would be longer than what it saves.
                return Ok(vec![(0, len as u32)]);
            }
            out.push(((data - start) as u32, (hole - data) as u32));
            at = hole;
        }
        Ok(out)
    }

    fn failed(&self, error: Errno) -> Stop {
        ShareError::io(display_path(&self.want.path), "cannot be read", std::io::Error::from(error)).into()
    }

    /// Reads the extents one behind the other.
    fn read_extents(&self, start: u64, extents: &[(u32, u32)], mut out: &mut [u8]) -> Result<(), Stop> {
        for (at, len) in extents {
            let (target, rest) = out.split_at_mut(*len as usize);
            self.read(start + u64::from(*at), target)?;
            out = rest;
        }
        Ok(())
    }

    /// Reads the extents to where they are in the range, which is zeros so far.
    pub(super) fn read_with_holes(&self, start: u64, extents: &[(u32, u32)], out: &mut [u8]) -> Result<(), Stop> {
        for (at, len) in extents {
            let begin = *at as usize;
            self.read(start + u64::from(*at), &mut out[begin..begin + *len as usize])?;
        }
        Ok(())
    }

    fn read(&self, mut offset: u64, mut target: &mut [u8]) -> Result<(), Stop> {
        while !target.is_empty() {
            let n = pread(self.fd.as_fd(), &mut *target, offset).map_err(|e| self.failed(e))?;
            if n == 0 {
                return Err(Stop::Failed("became shorter while it was being shared".into()));
            }
            offset += n as u64;
            target = &mut target[n..];
        }
        Ok(())
    }

    /// Values of the groups, holes as the zeros that they are.
    fn group_values(&self, start: u64, len: usize, extents: &[(u32, u32)], data: &[u8]) -> Vec<Value> {
        let size = self.want.size;
        let value = |at: usize, group: &[u8]| hash::group_value(start + at as u64, group, size);
        if extents == [(0, len as u32)] {
            return data.chunks(GROUP_LEN).enumerate().map(|(i, group)| value(i * GROUP_LEN, group)).collect();
        }
        let mut whole = vec![0; len];
        let mut from = 0;
        for (at, extent) in extents {
            let (at, extent) = (*at as usize, *extent as usize);
            whole[at..at + extent].copy_from_slice(&data[from..from + extent]);
            from += extent;
        }
        whole.chunks(GROUP_LEN).enumerate().map(|(i, group)| value(i * GROUP_LEN, group)).collect()
    }
}

/// Messages on their way to the transport, gathered in frames that come back when they are acknowledged.
struct Output<'a> {
    pool: Pool,
    frame: Option<Frame>,
    filled: usize,
    parts: &'a mpsc::Sender<Chunk>,
}

impl<'a> Output<'a> {
    fn new(parts: &'a mpsc::Sender<Chunk>) -> std::io::Result<Self> {
        let pool = Pool::new(PoolConfig { frame_size: BUFFER_LEN, frames: BUFFERS, huge_pages: false })?;
        Ok(Self { pool, frame: None, filled: 0, parts })
    }

    /// `len` bytes to write to; `commit` makes them part of what is sent.
    fn room(&mut self, len: usize) -> Result<&mut [u8], ()> {
        if self.filled + len > BUFFER_LEN {
            self.flush()?;
        }
        if self.frame.is_none() {
            // The pool holds more frames than the channel and the transport's send buffer keep; should it be empty all the same,
            // memory of the heap takes a frame's place.
            let mut frame = self.pool.take().unwrap_or_else(|| Frame::from_vec(vec![0; BUFFER_LEN]));
            frame.set_len(BUFFER_LEN);
            self.frame = Some(frame);
        }
        let frame = self.frame.as_mut().ok_or(())?;
        Ok(&mut frame[self.filled..self.filled + len])
    }

    /// The receiver has gone.
    fn is_closed(&self) -> bool {
        self.parts.is_closed()
    }

    fn commit(&mut self, len: usize) {
        self.filled += len;
    }

    fn flush(&mut self) -> Result<(), ()> {
        let filled = std::mem::take(&mut self.filled);
        if filled == 0 {
            return Ok(());
        }
        let Some(mut frame) = self.frame.take() else { return Ok(()) };
        frame.truncate(filled);
        self.parts.blocking_send(frame.freeze()).map_err(|_| ())
    }

    fn served(&mut self, id: u64, root: Option<Value>) -> Result<(), ()> {
        self.push(&crate::message::message(kind::SERVED, |out| {
            put_varint(out, id);
            if let Some(root) = root {
                out.extend_from_slice(&root);
            }
        }))
    }

    fn failed(&mut self, id: u64, why: &str) -> Result<(), ()> {
        self.push(&crate::message::message(kind::FAILED, |out| {
            put_varint(out, id);
            put_bytes(out, why.as_bytes());
        }))
    }

    fn push(&mut self, message: &[u8]) -> Result<(), ()> {
        self.room(message.len())?.copy_from_slice(message);
        self.commit(message.len());
        Ok(())
    }
}
