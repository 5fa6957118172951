//! Extended attributes.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, lgetxattr, llistxattr, lsetxattr};

use crate::limits::XATTRS_LEN_MAX;

/// Names and values.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Attributes that describe this machine rather than the file: labels and access lists of the system, which others cannot set.
fn is_kept(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"security.capability") || name.starts_with(b"system.posix_acl")
}

/// A path that leads to `name` in `dir` without resolving anything above it. The kernel looks the descriptor up anew for
/// each call, which costs more than the rest of it.
fn path_of(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// The attributes of `name` in `dir`, a link's own for a link; none where the file system has none.
pub(crate) fn read_at(dir: BorrowedFd<'_>, name: &[u8]) -> Xattrs {
    read_path(&path_of(dir, name))
}

/// The attributes of what `path` names, a link's own for a link.
pub(crate) fn read_path(path: &[u8]) -> Xattrs {
    let mut list = [0u8; 4096];
    let listed = match llistxattr(path, &mut list[..]) {
        Ok(0) => return Vec::new(),
        Ok(len) => list[..len].to_vec(),
        Err(rustix::io::Errno::RANGE) => {
            let mut long = vec![0; XATTRS_LEN_MAX];
            let Ok(len) = llistxattr(path, &mut long[..]) else { return Vec::new() };
            long.truncate(len);
            long
        }
        Err(_) => return Vec::new(),
    };
    collect(&listed, |name, value| lgetxattr(path, name, value))
}

/// The attributes of an open file or directory.
pub(crate) fn read_fd(fd: impl AsFd) -> Xattrs {
    let mut list = vec![0; XATTRS_LEN_MAX];
    let Ok(len) = flistxattr(fd.as_fd(), &mut list[..]) else { return Vec::new() };
    collect(&list[..len], |name, value| fgetxattr(fd.as_fd(), name, value))
}

fn collect(list: &[u8], mut get: impl FnMut(&[u8], &mut [u8]) -> rustix::io::Result<usize>) -> Xattrs {
    let mut out: Xattrs = Vec::new();
    let mut total = 0;
    for name in list.split(|b| *b == 0).filter(|n| is_kept(n)) {
        let mut value = vec![0; XATTRS_LEN_MAX];
        let Ok(len) = get(name, &mut value) else { continue };
        value.truncate(len);
        total += name.len() + len + 1;
        if total > XATTRS_LEN_MAX {
            break;
        }
        out.push((name.to_vec(), value));
    }
    out.sort_unstable();
    out
}

/// Sets an attribute of `name` in `dir`, a link's own for a link.
pub(crate) fn set_at(dir: BorrowedFd<'_>, name: &[u8], key: &[u8], value: &[u8]) -> rustix::io::Result<()> {
    let path = CString::new(path_of(dir, name)).map_err(|_| rustix::io::Errno::INVAL)?;
    lsetxattr(path.as_c_str(), key, value, XattrFlags::empty())
}
