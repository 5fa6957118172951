//! Why there is no ring, in words.

use std::fs;
use std::io::{self, ErrorKind};

/// What the error of a set-up call means.
pub(crate) fn explain(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => {
            io::Error::new(ErrorKind::Unsupported, "this kernel has no io_uring, or a seccomp filter hides it (ENOSYS)")
        }
        Some(libc::EPERM | libc::EACCES) => io::Error::new(ErrorKind::PermissionDenied, forbidden()),
        Some(libc::ENOMEM) => io::Error::new(ErrorKind::OutOfMemory, too_little_memory()),
        Some(libc::EINVAL) => too_old(),
        Some(libc::EEXIST) => wrong_thread(),
        _ => error,
    }
}

/// The kernel lacks what this backend is made of.
pub(crate) fn too_old() -> io::Error {
    io::Error::new(ErrorKind::Unsupported, "io_uring here lacks deferred task work or what came before it: Linux 6.1")
}

/// Somebody used the ring of another thread.
pub(crate) fn wrong_thread() -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, "an io_uring is used by the thread that used it first, and by no other")
}

/// Who forbids it.
fn forbidden() -> String {
    let setting = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match setting.trim() {
        "1" => "io_uring is for a privileged group here: kernel.io_uring_disabled is 1".into(),
        "2" => "io_uring is switched off: kernel.io_uring_disabled is 2".into(),
        _ => "io_uring is forbidden, by a seccomp filter or a security module (EPERM)".into(),
    }
}

fn too_little_memory() -> String {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let limit = limit.map_or("unlimited".into(), |bytes| format!("{} KiB", bytes / 1024));
    format!("no memory for an io_uring: RLIMIT_MEMLOCK is {limit}, which many kernels count it against (ENOMEM)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_named() {
        let told = |code| explain(io::Error::from_raw_os_error(code)).to_string();
        assert!(told(libc::ENOSYS).contains("no io_uring"));
        assert!(told(libc::EPERM).contains("io_uring"));
        assert!(told(libc::ENOMEM).contains("RLIMIT_MEMLOCK"));
        assert!(told(libc::EINVAL).contains("Linux 6.1"));
        assert_eq!(explain(io::Error::from_raw_os_error(libc::EMFILE)).raw_os_error(), Some(libc::EMFILE));
    }
}
