//! A file that is being served: it is the one of the manifest from the first byte read to the last.

use std::io;
use std::sync::atomic::Ordering;

use rustix::fs::{FileType, SeekFrom, Stat, fstat, seek};
use rustix::io::Errno;

use super::Shared;
use super::outboard::Outboard;
use super::reading::Opened;
use super::scan::mtime;
use crate::error::{ShareError, display_path};
use crate::hash::{self, Combiner, Value};
use crate::limits::{EXTENTS_MAX, GROUP_LEN, PART_LEN};
use crate::message::Want;

/// A file that is being served.
pub(super) struct Open<'a> {
    shared: &'a Shared,
    file: Opened,
    pub(super) want: Want,
    /// What is remembered of it.
    outboard: Option<Outboard<'a>>,
    /// Values of the whole parts sent so far, from the want's first on.
    pub(super) parts: Vec<Value>,
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

/// Opens the file of a want, which must be the one of the manifest: as an operation of the fiber's ring, or by a call.
pub(super) fn open(shared: &Shared, want: &Want, ring: bool) -> Result<(Opened, Stat), Stop> {
    let file = shared.source.open_file(&want.path, ring)?;
    let stat = unchanged(&file, want)?;
    Ok((file, stat))
}

/// The file must be the one of the manifest, before and after it was read.
fn unchanged(file: &Opened, want: &Want) -> Result<Stat, Stop> {
    let stat = fstat(file).map_err(|error| unreadable(&want.path, error.into()))?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !regular || stat.st_size as u64 != want.size || mtime(&stat) != want.mtime {
        return Err(Stop::Failed("changed while it was being shared; run the same command again".into()));
    }
    Ok(stat)
}

fn unreadable(path: &[u8], error: io::Error) -> Stop {
    ShareError::io(display_path(path), "cannot be read", error).into()
}

/// What a read has brought, which must be something.
pub(super) fn some(read: io::Result<usize>, path: &[u8]) -> Result<usize, Stop> {
    match read {
        Ok(0) => Err(Stop::Failed("became shorter while it was being shared".into())),
        Ok(n) => Ok(n),
        Err(error) => Err(unreadable(path, error)),
    }
}

/// Where in the range a file has data. A file system that cannot tell has data everywhere.
pub(super) fn extents(file: &Opened, path: &[u8], start: u64, len: usize) -> Result<Vec<(u32, u32)>, Stop> {
    let end = start + len as u64;
    let mut out = Vec::new();
    let mut at = start;
    while at < end {
        let data = match seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => break,
            Err(_) if at == start => return Ok(vec![(0, len as u32)]),
            Err(error) => return Err(unreadable(path, error.into())),
        };
        if data >= end {
            break;
        }
        let hole = seek(file, SeekFrom::Hole(data)).map_err(|error| unreadable(path, error.into()))?.min(end);
        if out.len() == EXTENTS_MAX {
            // Blocks so small that the list of extents would be longer than what it saves.
            return Ok(vec![(0, len as u32)]);
        }
        out.push(((data - start) as u32, (hole - data) as u32));
        at = hole;
    }
    Ok(out)
}

impl<'a> Open<'a> {
    /// Opens the file of a want on a thread that may wait for the disk.
    pub(super) fn of(shared: &'a Shared, want: Want) -> Result<Self, Stop> {
        let (file, stat) = open(shared, &want, false)?;
        Ok(Self::new(shared, want, file, &stat))
    }

    /// A file that has been opened.
    pub(super) fn new(shared: &'a Shared, want: Want, file: Opened, stat: &Stat) -> Self {
        let outboard = shared.outboards.of(stat);
        Self { shared, file, want, outboard, parts: Vec::new() }
    }

    /// It must be the one of the manifest after it was read, too.
    pub(super) fn unchanged(&self) -> Result<(), Stop> {
        unchanged(&self.file, &self.want).map(drop)
    }

    /// The hash of the whole file. Parts that were not sent just now and are not remembered are read for it.
    pub(super) fn root(&self, is_gone: impl Fn() -> bool) -> Result<Value, Stop> {
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
            if is_gone() {
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

    /// Where in the range the file has data.
    pub(super) fn extents(&self, start: u64, len: usize) -> Result<Vec<(u32, u32)>, Stop> {
        extents(&self.file, &self.want.path, start, len)
    }

    /// Reads the extents one behind the other.
    pub(super) fn read_extents(&self, start: u64, extents: &[(u32, u32)], mut out: &mut [u8]) -> Result<(), Stop> {
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
            let n = some(self.file.read_at(target, offset), &self.want.path)?;
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
