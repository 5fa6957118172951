//! The trees that are transferred, and how a copy is compared with its original.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::Result;

/// Files of one directory of the tree of small files.
const PER_DIRECTORY: u32 = 1_000;
const SMALL: usize = 10 << 10;
/// Name of the one file of a directory.
const LARGE: &str = "large.bin";

/// Bytes that do not compress, the same in every run.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, room: &mut [u8]) {
        for bytes in room.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let value = (z ^ (z >> 31)).to_le_bytes();
            bytes.copy_from_slice(&value[..bytes.len()]);
        }
    }
}

/// A directory with one file of `bytes`.
pub fn make_large(dir: &Path, bytes: u64) -> Result<()> {
    fs::create_dir(dir)?;
    let mut file = BufWriter::with_capacity(1 << 20, File::create(dir.join(LARGE))?);
    let (mut noise, mut room, mut left) = (Noise(1), vec![0; 1 << 20], bytes);
    while left > 0 {
        let len = left.min(room.len() as u64) as usize;
        noise.fill(&mut room[..len]);
        file.write_all(&room[..len])?;
        left -= len as u64;
    }
    Ok(file.flush()?)
}

/// How one version of a file differs from the one before.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// A tenth of its MiB are others, at any offset.
    Blocks,
    /// A hundred times 1 KiB is inserted.
    Insertions,
}

/// A directory with another version of the file of `older`.
pub fn make_changed(older: &Path, dir: &Path, change: Change) -> Result<()> {
    fs::create_dir(dir)?;
    let mut from = File::open(older.join(LARGE))?;
    let size = from.metadata()?.len();
    let (count, len) = match change {
        Change::Blocks => ((size >> 20).div_ceil(10), 1 << 20),
        Change::Insertions => (100, 1 << 10),
    };
    let mut to = BufWriter::with_capacity(1 << 20, File::create(dir.join(LARGE))?);
    let (mut noise, mut room) = (Noise(3), vec![0; len]);
    // One place in each of as many stretches, so that no two changes meet.
    let stretch = size / count;
    let mut at = 0;
    for nth in 0..count {
        noise.fill(&mut room[..8]);
        let random = room.first_chunk().copied().map_or(0, u64::from_le_bytes);
        let place = nth * stretch + random % stretch.saturating_sub(len as u64).max(1);
        io::copy(&mut (&mut from).take(place - at), &mut to)?;
        noise.fill(&mut room);
        to.write_all(&room)?;
        at = place;
        if let Change::Blocks = change {
            at = from.seek(SeekFrom::Current(len as i64))?;
        }
    }
    io::copy(&mut from, &mut to)?;
    Ok(to.flush()?)
}

/// Puts the older version of a file where a program is to find it.
pub fn put_older(older: &Path, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    fs::copy(older.join(LARGE), dir.join(LARGE))?;
    let long_ago = SystemTime::now() - Duration::from_secs(1_000_000);
    Ok(File::options().write(true).open(dir.join(LARGE))?.set_modified(long_ago)?)
}

/// A directory of directories with `files` files of 10 KiB.
pub fn make_small(dir: &Path, files: u32) -> Result<()> {
    fs::create_dir(dir)?;
    let (mut noise, mut room) = (Noise(2), vec![0; SMALL]);
    for nth in 0..files {
        let below = dir.join(format!("{:04}", nth / PER_DIRECTORY));
        if nth % PER_DIRECTORY == 0 {
            fs::create_dir(&below)?;
        }
        noise.fill(&mut room);
        fs::write(below.join(format!("{nth:06}")), &room)?;
    }
    Ok(())
}

/// Removes a tree if it is there.
pub fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Compares names and content of two trees.
pub fn compare(original: &Path, copy: &Path) -> Result<()> {
    let output = Command::new("diff").args(["-rq", "--no-dereference"]).arg(original).arg(copy).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Err(format!("the copy differs: {}", said.lines().next().unwrap_or_default()).into())
}

/// Has everything read from the disk anew.
pub fn empty_page_cache() -> Result<()> {
    rustix::fs::sync();
    let emptied = fs::write("/proc/sys/vm/drop_caches", "3");
    emptied.map_err(|error| format!("the page cache cannot be emptied, which only root may: {error}").into())
}

/// The type of the file system that `dir` is on.
pub fn file_system(dir: &Path) -> Result<String> {
    let output = Command::new("stat").args(["-f", "-c", "%T"]).arg(dir).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
