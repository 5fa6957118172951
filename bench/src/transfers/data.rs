//! The trees that are transferred, and how a copy is compared with its original.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use crate::Result;

/// Files of one directory of the tree of small files.
const PER_DIRECTORY: u32 = 1_000;
const SMALL: usize = 10 << 10;

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
    let mut file = BufWriter::with_capacity(1 << 20, File::create(dir.join("large.bin"))?);
    let (mut noise, mut room, mut left) = (Noise(1), vec![0; 1 << 20], bytes);
    while left > 0 {
        let len = left.min(room.len() as u64) as usize;
        noise.fill(&mut room[..len]);
        file.write_all(&room[..len])?;
        left -= len as u64;
    }
    Ok(file.flush()?)
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

/// The type of the file system that `dir` is on.
pub fn file_system(dir: &Path) -> Result<String> {
    let output = Command::new("stat").args(["-f", "-c", "%T"]).arg(dir).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
