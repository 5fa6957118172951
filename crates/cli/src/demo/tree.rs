//! A tree with everything that makes trees difficult.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Bytes that do not compress, from a seed.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, out: &mut [u8]) {
        for word in out.chunks_mut(8) {
            // SplitMix64.
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..word.len()]);
        }
    }
}

/// Makes the tree below `root`: `mib` MiB in large files, `files` small ones, and the odd cases.
pub fn make(root: &Path, mib: u64, files: u64) -> io::Result<()> {
    fs::create_dir_all(root)?;
    let mut noise = Noise(1);
    large(&root.join("large.bin"), mib * 3 / 4, &mut noise)?;
    large(&root.join("medium.bin"), mib / 4, &mut noise)?;
    text(&root.join("compressible.log"), mib.min(16))?;
    sparse(&root.join("sparse.img"), &mut noise)?;
    small(&root.join("small"), files, &mut noise)?;
    odd(&root.join("odd"), &mut noise)
}

fn large(path: &Path, mib: u64, noise: &mut Noise) -> io::Result<()> {
    let mut out = File::create(path)?;
    let mut block = vec![0; 1 << 20];
    for _ in 0..mib {
        noise.fill(&mut block);
        out.write_all(&block)?;
    }
    // Not a round size.
    out.write_all(b"end")
}

fn text(path: &Path, mib: u64) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    for line in 0..mib * 16_384 {
        writeln!(out, "{line:010} GET /index.html HTTP/3 200 1532 - Mozilla/5.0 (X11)")?;
    }
    out.flush()
}

fn sparse(path: &Path, noise: &mut Noise) -> io::Result<()> {
    let mut out = File::create(path)?;
    let mut block = vec![0; 12_288];
    for at in [0u64, 5 << 20, (5 << 20) + 65_536, 40 << 20] {
        noise.fill(&mut block);
        out.seek(SeekFrom::Start(at))?;
        out.write_all(&block)?;
    }
    out.set_len(64 << 20)
}

fn small(dir: &Path, files: u64, noise: &mut Noise) -> io::Result<()> {
    let mut bytes = vec![0; 24 * 1024];
    for i in 0..files {
        let folder = dir.join(format!("{:03}", i / 500));
        if i % 500 == 0 {
            fs::create_dir_all(&folder)?;
        }
        let len = (i * 7919 % 20_000) as usize;
        noise.fill(&mut bytes[..len]);
        fs::write(folder.join(format!("file-{i}")), &bytes[..len])?;
    }
    Ok(())
}

fn odd(dir: &Path, noise: &mut Noise) -> io::Result<()> {
    fs::create_dir_all(dir.join("empty directory"))?;
    let names: [&[u8]; 8] = [
        b"with space and \"quotes\"",
        b"new\nline",
        b"not-utf8-\xff\xfe",
        "combining-e\u{301}".as_bytes(),
        "precomposed-\u{e9}".as_bytes(),
        b"-rf",
        b"...",
        &[b'n'; 255],
    ];
    for name in names {
        let mut bytes = [0; 100];
        noise.fill(&mut bytes);
        fs::write(dir.join(OsStr::from_bytes(name)), bytes)?;
    }
    fs::write(dir.join("empty"), b"")?;
    for (name, mode) in [("read-only", 0o400), ("executable", 0o755), ("nobody", 0o000)] {
        let path = dir.join(name);
        fs::write(&path, name)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    symlink("../large.bin", dir.join("link"))?;
    symlink("/does/not/exist", dir.join("dangling"))?;
    symlink(".", dir.join("loop"))?;
    fs::write(dir.join("first name"), b"two names, one file")?;
    fs::hard_link(dir.join("first name"), dir.join("second name"))?;
    let old = File::options().write(true).open(dir.join("executable"))?;
    old.set_modified(SystemTime::UNIX_EPOCH - Duration::from_nanos(1_500_000_001))?;
    // Not every file system has attributes; where it has none, there are none to compare.
    let _ = rustix::fs::setxattr(dir.join("empty"), "user.note", b"\x00any\xffbytes", rustix::fs::XattrFlags::empty());
    fs::create_dir(dir.join("closed"))?;
    fs::write(dir.join("closed/inside"), b"inside a read-only directory")?;
    fs::set_permissions(dir.join("closed"), Permissions::from_mode(0o555))
}
