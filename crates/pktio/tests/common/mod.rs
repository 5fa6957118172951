//! What the stories share: making backends, sending trains, collecting datagrams.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use warpline_pktio::{Backend, Ecn, Io, IoConfig, Received, TxMeta};

/// How often a test looks before it gives up; each look sleeps at most this long.
pub const LOOKS: usize = 100;
pub const LOOK: Duration = Duration::from_millis(100);

/// Small pools, so that tests in parallel take little memory.
pub fn config() -> IoConfig {
    IoConfig { large_frames: 64, medium_frames: 32, small_frames: 256, ..IoConfig::default() }
}

pub fn addr(text: &str) -> SocketAddr {
    text.parse().expect("a literal")
}

/// A socket on the given backend, or `None` (said in one line) if the system lacks the address family or refuses rings.
pub fn socket(backend: Backend, text: &str) -> Option<Io> {
    if let Err(error) = std::net::UdpSocket::bind(text) {
        println!("skipped: no socket at {text}: {error}");
        return None;
    }
    unless_refused(Io::bind(addr(text), &IoConfig { backend, ..config() }))
}

/// What was made, or `None` (said in one line) where the kernel refuses rings to this process. With `CI` set that is a failure,
/// and whatever else is wrong with a ring is one anywhere.
pub fn unless_refused(made: io::Result<Io>) -> Option<Io> {
    // The words of `uring/setup.rs`, which `selection.rs` checks.
    let refusals = ["(ENOSYS)", "(EPERM)", "kernel.io_uring_disabled"];
    match made {
        Ok(io) => Some(io),
        Err(error)
            if refusals.iter().any(|refusal| error.to_string().contains(refusal))
                && std::env::var_os("CI").is_none() =>
        {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Tells each story once per backend.
#[macro_export]
macro_rules! on_each_backend {
    ($($story:ident,)*) => {
        mod udp {
            $(#[test] fn $story() { super::$story(warpline_pktio::Backend::Udp); })*
        }
        mod uring {
            $(#[test] fn $story() { super::$story(warpline_pktio::Backend::Uring); })*
        }
    };
}

/// Tells another thread that this one has ended, also by a panic, so that the other does not wait forever.
pub struct Ended<'a>(pub &'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Waits until there is a buffer for a train: what was sent before may still be with the kernel.
pub fn await_room(io: &mut Io) {
    for _ in 0..LOOKS {
        if io.tx_buffer().is_some() {
            return;
        }
        io.flush().expect("the socket is usable");
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the kernel gives no buffer back");
}

/// Queues a train of `len` bytes whose datagrams are filled with their number, counted from `first`.
pub fn train(io: &mut Io, remote: SocketAddr, len: usize, segment_size: usize, first: u8) {
    train_with(io, TxMeta { remote, local: None, ecn: None, segment_size, len }, first);
}

pub fn train_with(io: &mut Io, meta: TxMeta, first: u8) {
    let buffer = io.tx_buffer().expect("there is room");
    for (n, datagram) in buffer[..meta.len].chunks_mut(meta.segment_size).enumerate() {
        datagram.fill(first.wrapping_add(n as u8));
    }
    io.tx_commit(meta);
}

/// What is known of a datagram, its length and its filling.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Seen {
    pub remote: SocketAddr,
    pub local: Option<std::net::IpAddr>,
    pub ecn: Option<Ecn>,
    pub len: usize,
    pub fill: u8,
}

/// Receives until `count` datagrams are there.
pub fn collect(io: &mut Io, count: usize) -> Vec<Seen> {
    let (mut seen, mut batch) = (Vec::new(), Vec::new());
    for _ in 0..LOOKS {
        while io.recv(&mut batch).expect("the socket is usable") > 0 {
            seen.extend(batch.drain(..).flat_map(datagrams));
        }
        if seen.len() >= count {
            break;
        }
        io.wait(Some(LOOK)).expect("the socket is usable");
    }
    assert_eq!(seen.len(), count, "datagrams that arrived");
    seen
}

pub fn datagrams(received: Received) -> impl Iterator<Item = Seen> {
    let Received { remote, local, ecn, .. } = received;
    assert_eq!(received.count(), received.frame.len().div_ceil(received.segment_size));
    received.datagrams().map(move |datagram| {
        assert!(datagram.iter().all(|&byte| byte == datagram[0]), "a datagram is in one piece");
        Seen { remote, local, ecn, len: datagram.len(), fill: datagram[0] }
    })
}
