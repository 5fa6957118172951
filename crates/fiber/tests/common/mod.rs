//! What the stories of the reactor share: making schedulers, running a story on each back end.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use warpline_fiber::reactor::{Backend, ReactorConfig, TcpListener, TcpStream, UringConfig, readable};
use warpline_fiber::{Config, Scheduler, SetupError, spawn, yield_now};

pub fn local() -> SocketAddr {
    "127.0.0.1:0".parse().expect("a literal")
}

pub fn scheduler(reactor: ReactorConfig) -> Scheduler {
    Scheduler::new(Config { reactor, ..Config::default() }).expect("it can be made everywhere")
}

/// A scheduler on a ring, or `None`, said in one line, where the kernel refuses rings to this process. With `CI` set that is
/// a failure, and whatever else is wrong with a ring is one anywhere.
pub fn on_ring(uring: UringConfig) -> Option<Scheduler> {
    match Scheduler::new(Config { reactor: ReactorConfig::Uring(uring), ..Config::default() }) {
        Ok(scheduler) => Some(scheduler),
        Err(SetupError::Reactor(error))
            if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) && std::env::var_os("CI").is_none() =>
        {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Runs a story on every kind of ring.
pub fn on_rings(story: impl Fn() + Clone + 'static) {
    let small = UringConfig { entries: 8, ..UringConfig::default() };
    let fixed = UringConfig { files: 64, buffers: (1, 4096), ..UringConfig::default() };
    let polled = UringConfig { sqpoll: Some(Duration::from_millis(5)), buffers: (1, 4096), ..UringConfig::default() };
    for scheduler in [small, fixed, polled].into_iter().filter_map(on_ring) {
        assert_eq!(scheduler.stats().reactor.expect("it has one").backend, Backend::Uring);
        scheduler.run(story.clone());
    }
}

/// Runs a story on every back end that this kernel has.
pub fn everywhere(story: impl Fn() + Clone + 'static) {
    on_rings(story.clone());
    on_readiness(story);
}

pub fn on_readiness(story: impl Fn() + 'static) {
    scheduler(ReactorConfig::Readiness).run(story);
}

/// Two ends of a connection, this one and the other.
pub fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(local()).expect("the loopback interface is there");
    let address = listener.local_addr().expect("it is bound");
    let client = spawn(move || TcpStream::connect(address).expect("it listens"));
    let (server, _) = listener.accept().expect("the client connects");
    (client.join().expect("it does not panic"), server)
}

/// The same, of which no scheduler knows yet.
pub fn std_pair() -> (std::net::TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind(local()).expect("the loopback interface is there");
    let near = std::net::TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    (near, listener.accept().expect("the client connects").0)
}

/// Returns when whatever the fibers asked for before has long been with the kernel: operations begin in order, and some
/// began and ended since.
pub fn settle() {
    let (ready, other) = UnixStream::pair().expect("the process may have two more descriptors");
    drop(other);
    for _ in 0..3 {
        yield_now();
        readable(&ready).expect("its end can be read");
    }
}
