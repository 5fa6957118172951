//! Kernels that refuse: `io_uring` forbidden by seccomp, and too little memory that may be locked. Each story runs in a
//! process of its own.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::on_ring;
use std::fmt::Write as _;
use std::process::Command;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span;
use warpline_fiber::reactor::{Backend, ReactorConfig, RegisteredBuffer, TcpListener, TcpStream, UringConfig};
use warpline_fiber::{Config, Scheduler, SetupError, spawn};

fn in_child(test: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stdout));
    text
}

/// Collects the text of every event.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
                write!(self.0, "{value:?}").unwrap();
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn echo_once(scheduler: &Scheduler) {
    scheduler.run(|| {
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let client = spawn(move || TcpStream::connect(address).unwrap().write_all(b"hello").unwrap());
        let mut buffer = [0; 5];
        listener.accept().unwrap().0.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"hello");
        client.join().unwrap();
    });
}

/// Makes `io_uring_setup` fail with EPERM for this process, as container runtimes do.
fn forbid_io_uring() {
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        step(LOAD_WORD, 0, 0, 0),
        step(JUMP_EQUAL, 0, 1, libc::SYS_io_uring_setup as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: sets a flag of the process.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program is valid and is copied by the kernel.
    let rc = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    assert_eq!(rc, 0);
}

#[test]
#[ignore = "forbids io_uring to its process: run by where_io_uring_is_forbidden_readiness_takes_over"]
fn child_forbidden() {
    forbid_io_uring();
    let lines = Lines::default();
    tracing::subscriber::set_global_default(lines.clone()).unwrap();
    let only = Config { reactor: ReactorConfig::Uring(UringConfig::default()), ..Config::default() };
    match Scheduler::new(only) {
        Err(SetupError::Reactor(error)) => assert_eq!(error.raw_os_error(), Some(libc::EPERM)),
        other => panic!("{other:?}"),
    }
    let auto = Config { reactor: ReactorConfig::Auto(UringConfig::default()), ..Config::default() };
    let scheduler = Scheduler::new(auto).unwrap();
    assert_eq!(scheduler.stats().reactor.unwrap().backend, Backend::Readiness);
    echo_once(&scheduler);
    let lines = lines.0.lock().unwrap();
    assert_eq!(lines.iter().filter(|line| line.contains("io_uring cannot be used here")).count(), 1, "{lines:?}");
}

#[test]
fn where_io_uring_is_forbidden_readiness_takes_over() {
    in_child("child_forbidden");
}

/// Gives up the right to lock more than so many bytes.
fn lock_at_most(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the structure is valid.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) }, 0);
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } == 0 {
        // Root may lock what it likes.
        // SAFETY: changes who this process is.
        assert_eq!(unsafe { libc::setresuid(65534, 65534, 65534) }, 0);
    }
}

#[test]
#[ignore = "gives up rights of its process: run by where_little_memory_may_be_locked_buffers_are_not_registered"]
fn child_little_lockable() {
    lock_at_most(512 << 10);
    let lines = Lines::default();
    tracing::subscriber::set_global_default(lines.clone()).unwrap();
    let Some(scheduler) = on_ring(UringConfig { buffers: (4, 1 << 20), ..UringConfig::default() }) else { return };
    echo_once(&scheduler);
    let taken = scheduler.run(|| RegisteredBuffer::take().is_some());
    let lines = lines.0.lock().unwrap();
    let told = lines.iter().any(|line| line.contains("raise RLIMIT_MEMLOCK"));
    assert!(!taken && told, "{taken} {lines:?}");
}

#[test]
fn where_little_memory_may_be_locked_buffers_are_not_registered() {
    in_child("child_little_lockable");
}

/// Kernels before 5.12 and newer ones again (6.18 does) count the ring itself.
#[test]
#[ignore = "gives up rights of its process: run by where_no_memory_may_be_locked_there_is_a_reactor_all_the_same"]
fn child_none_lockable() {
    lock_at_most(0);
    let lines = Lines::default();
    tracing::subscriber::set_global_default(lines.clone()).unwrap();
    let auto = Config { reactor: ReactorConfig::Auto(UringConfig::default()), ..Config::default() };
    let scheduler = Scheduler::new(auto).unwrap();
    echo_once(&scheduler);
    let told = lines.0.lock().unwrap().iter().filter(|line| line.contains("io_uring cannot be used here")).count();
    let backend = scheduler.stats().reactor.unwrap().backend;
    assert_eq!(told, usize::from(backend == Backend::Readiness), "one line, if it is not a ring");
}

#[test]
fn where_no_memory_may_be_locked_there_is_a_reactor_all_the_same() {
    in_child("child_none_lockable");
}
