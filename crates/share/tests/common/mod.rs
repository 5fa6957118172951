//! Hosts and receivers in one process, and trees to compare.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{SeekFrom, Timespec, Timestamps};
use warpline_share::{
    FileIo, GetOptions, GetReport, Host, HostOptions, JoinCode, NetOptions, Progress, ShareError, connect, get,
};

/// Ends a test that hangs; nothing depends on how long anything takes.
pub const GUARD: Duration = Duration::from_secs(60);

/// Runs a test on a runtime of its own, at most for [`GUARD`].
pub fn run<T>(test: impl Future<Output = T>) -> T {
    run_within(GUARD, test)
}

/// Runs a test that has more to do.
pub fn run_within<T>(guard: Duration, test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let outcome = runtime.block_on(async { tokio::time::timeout(guard, test).await });
    runtime.shutdown_timeout(Duration::from_secs(5));
    outcome.expect("the test hangs")
}

/// A directory for one test, with a source and room for targets.
pub struct Scene {
    pub dir: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("source")).unwrap();
        Self { dir }
    }

    pub fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    pub fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    /// A host of `root`, serving in the background.
    pub fn host(&self, root: &Path) -> Arc<Host> {
        self.host_by(root, FileIo::Auto)
    }

    /// The same, reading files in a certain way.
    pub fn host_by(&self, root: &Path, files: FileIo) -> Arc<Host> {
        let options = HostOptions {
            root: root.to_path_buf(),
            state_dir: self.dir.path().join("state"),
            bind: ([127, 0, 0, 1], 0).into(),
            net: NetOptions::default(),
            files,
        };
        let host = Arc::new(Host::open(&options).unwrap());
        let serving = host.clone();
        tokio::spawn(async move { serving.run().await });
        host
    }

    pub fn source_host(&self) -> Arc<Host> {
        self.host(&self.source())
    }

    pub async fn get(&self, code: &JoinCode) -> Result<GetReport, ShareError> {
        fetch(code, &self.target()).await
    }
}

/// Fetches what `code` stands for.
pub async fn fetch(code: &JoinCode, target: &Path) -> Result<GetReport, ShareError> {
    let (endpoint, connection) = connect(code, &NetOptions::default()).await?;
    let options = GetOptions { target: Some(target.to_path_buf()), ..GetOptions::default() };
    let outcome = get(&connection, code, &options, &Arc::new(Progress::default())).await;
    endpoint.shutdown(0, b"").await;
    outcome
}

/// Sets the time of change, links not followed.
pub fn set_mtime(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Bytes that repeat nowhere near.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// All that is compared of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub mode: u32,
    pub mtime: (i64, i64),
    pub size: u64,
    pub content: Content,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The first name of the same file.
    pub same_as: Vec<u8>,
    /// Where a file has data.
    pub map: Vec<(u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Directory,
    Link(PathBuf),
    File([u8; 32]),
    Other,
}

/// Everything below `root`, by path.
pub fn tree(root: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let mut out = BTreeMap::new();
    let mut first = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let full = if path.as_os_str().is_empty() { root.to_path_buf() } else { root.join(&path) };
        let meta = fs::symlink_metadata(&full).unwrap();
        let kind = meta.file_type();
        let mut map = Vec::new();
        let content = if kind.is_dir() {
            let mut names: Vec<_> = fs::read_dir(&full).unwrap().map(|e| path.join(e.unwrap().file_name())).collect();
            names.sort();
            waiting.extend(names.into_iter().rev());
            Content::Directory
        } else if kind.is_symlink() {
            Content::Link(fs::read_link(&full).unwrap())
        } else if kind.is_file() {
            map = data_map(&full, meta.len());
            let mut hasher = blake3::Hasher::new();
            io::copy(&mut fs::File::open(&full).unwrap(), &mut hasher).unwrap();
            Content::File(*hasher.finalize().as_bytes())
        } else {
            Content::Other
        };
        let bytes = path.as_os_str().as_bytes().to_vec();
        let same_as =
            if kind.is_dir() { bytes.clone() } else { first.entry(meta.ino()).or_insert(bytes.clone()).clone() };
        let mtime = (meta.mtime(), meta.mtime_nsec());
        let size = if kind.is_dir() { 0 } else { meta.len() };
        let xattrs = xattrs(&full);
        out.insert(bytes, Seen { mode: meta.mode(), mtime, size, content, xattrs, same_as, map });
    }
    out
}

fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut list = vec![0u8; 4096];
    let Ok(len) = rustix::fs::llistxattr(path, &mut list[..]) else { return Vec::new() };
    let mut out = Vec::new();
    for name in list[..len].split(|b| *b == 0).filter(|n| n.starts_with(b"user.")) {
        let mut value = vec![0u8; 4096];
        let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        out.push((name.to_vec(), value[..len].to_vec()));
    }
    out.sort();
    out
}

/// Where a file has data, as the file system tells.
fn data_map(path: &Path, size: u64) -> Vec<(u64, u64)> {
    let file = fs::File::open(path).unwrap();
    let mut out = Vec::new();
    let mut at = 0;
    while at < size {
        let Ok(data) = rustix::fs::seek(file.as_fd(), SeekFrom::Data(at)) else { break };
        let hole = rustix::fs::seek(file.as_fd(), SeekFrom::Hole(data)).unwrap();
        out.push((data, hole));
        at = hole;
    }
    out
}

/// Fails on the first difference.
pub fn assert_same_tree(source: &Path, target: &Path) {
    let (mut left, mut right) = (tree(source), tree(target));
    assert_eq!(
        left.keys().map(|k| warpline_share::display_path(k)).collect::<Vec<_>>(),
        right.keys().map(|k| warpline_share::display_path(k)).collect::<Vec<_>>()
    );
    while let (Some((path, a)), Some((_, b))) = (left.pop_first(), right.pop_first()) {
        assert_eq!(a, b, "{}", warpline_share::display_path(&path));
    }
}
