//! Which back end is taken: the one that was named or an error that says why not, and without a name what works.
//!
//! A process cannot leave a seccomp filter, so the stories about one run in a child: this same test binary with one test.
#![cfg(target_os = "linux")]

mod common;

use std::io::ErrorKind;
use std::process::Command;

use common::{addr, collect, config, train, unless_refused};
use warpline_pktio::{Backend, Io, IoConfig, IoKind};

/// Set in the child: what the filter answers to `io_uring_setup`.
const ERRNO: &str = "WARPLINE_TEST_URING_ERRNO";

fn bind(backend: Backend) -> std::io::Result<Io> {
    Io::bind(addr("127.0.0.1:0"), &IoConfig { backend, ..config() })
}

/// From now on the kernel answers `io_uring_setup` with `errno`, and everything else as before.
fn filter_uring(errno: u32) -> std::io::Result<()> {
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        // The number of the system call is the first word.
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_io_uring_setup as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: plain numbers.
    let ok = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } == 0
        // SAFETY: the program lives through the call; the kernel copies it.
        && unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } == 0;
    if ok { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Runs this binary's test `name` in a child with the filter; whether it passed and what it printed.
fn in_a_child(name: &str, errno: i32) {
    let this = std::env::current_exe().expect("a test has a path");
    let output = Command::new(this)
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(ERRNO, errno.to_string())
        .output()
        .expect("this binary can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "the child has run the test: {text}");
    text.lines().filter(|line| line.starts_with("skipped")).for_each(|line| println!("{line}"));
}

/// In the child: installs the filter; `None` if this is not the child, or it cannot be installed.
fn filtered() -> Option<i32> {
    let errno: i32 = std::env::var(ERRNO).ok()?.parse().expect("a number");
    match filter_uring(errno as u32) {
        Ok(()) => Some(errno),
        Err(error) => {
            println!("skipped: no seccomp filter: {error}");
            None
        }
    }
}

#[test]
fn a_ring_that_is_forbidden_is_an_error_that_says_so() {
    for errno in [libc::EPERM, libc::ENOSYS, libc::ENOMEM] {
        in_a_child("child_names_the_ring", errno);
    }
}

/// Does nothing but in a child.
#[test]
fn child_names_the_ring() {
    let Some(errno) = filtered() else { return };
    let error = bind(Backend::Uring).expect_err("the filter forbids it");
    let (kind, cause) = match errno {
        libc::EPERM => (ErrorKind::PermissionDenied, "seccomp filter or a security module (EPERM)"),
        libc::ENOSYS => (ErrorKind::Unsupported, "seccomp filter hides it (ENOSYS)"),
        _ => (ErrorKind::OutOfMemory, "RLIMIT_MEMLOCK"),
    };
    assert_eq!(error.kind(), kind);
    assert!(error.to_string().contains("back end uring") && error.to_string().contains(cause), "{error}");
}

#[test]
fn without_a_name_what_works_is_taken_and_the_rest_explained() {
    in_a_child("child_names_nothing", libc::EPERM);
}

/// Does nothing but in a child.
#[test]
fn child_names_nothing() {
    let Some(_) = filtered() else { return };
    let (mut a, mut b) = (bind(Backend::Auto).expect("UDP works"), bind(Backend::Auto).expect("UDP works"));
    let choice = a.choice();
    assert_eq!(choice.kind, IoKind::Udp);
    assert!(!choice.why.contains('\n') && !choice.why.is_empty());
    let to = b.local_addr();
    train(&mut a, to, 3000, 1000, 0);
    a.flush().expect("the socket is usable");
    collect(&mut b, 3);
}

#[test]
fn each_name_leads_to_its_back_end() {
    for (backend, kind) in [(Backend::Udp, IoKind::Udp), (Backend::Uring, IoKind::Uring)] {
        let Some(io) = unless_refused(bind(backend)) else { continue };
        assert_eq!((io.kind(), io.stats().snapshot().kind), (kind, kind));
    }
    let io = bind(Backend::Auto).expect("something works");
    println!("{}: {}", io.kind(), io.choice().why);
}

#[test]
fn names_are_read_and_written_alike() {
    for backend in Backend::ALL {
        assert_eq!(backend.to_string().parse(), Ok(backend));
    }
    assert!("dpdk".parse::<Backend>().is_err_and(|error| error.contains("dpdk") && error.contains("uring")));
}

#[test]
fn a_port_in_use_is_an_error_whatever_the_back_end() {
    for backend in Backend::ALL {
        let Ok(first) = bind(backend) else { continue };
        let again = Io::bind(first.local_addr(), &IoConfig { backend, ..config() });
        assert_eq!(again.err().map(|error| error.kind()), Some(ErrorKind::AddrInUse));
    }
}
