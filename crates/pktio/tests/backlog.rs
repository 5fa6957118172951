//! What a socket says of what waits in it.
#![cfg(target_os = "linux")]

mod common;

use std::net::UdpSocket;
use std::time::Duration;

use common::{LOOKS, socket};
use warpline_pktio::{Backend, Io, limits};

on_each_backend! {
    what_waits_is_at_least_what_is_received,
    messages_without_content_count,
    the_time_of_arrival_is_told_to_who_falls_behind,
}

/// Sends so many messages of 100 bytes, each by itself.
fn send(io: &Io, messages: usize) {
    let sender = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
    for _ in 0..messages {
        sender.send_to(&[7; 100], io.local_addr()).expect("loopback takes it");
    }
}

fn what_waits_is_at_least_what_is_received(backend: Backend) {
    let Some(mut io) = socket(backend, "127.0.0.1:0") else { return };
    assert_eq!(io.recv(&mut Vec::new()).expect("the socket is usable"), 0);
    assert_eq!(io.waiting_bytes(), Some(0));
    send(&io, 200);
    let (mut batch, mut waiting) = (Vec::new(), 200 * 100);
    for _ in 0..LOOKS {
        let told = io.waiting_bytes().expect("these sockets know");
        assert!(told >= waiting, "{told} of {waiting}");
        io.recv(&mut batch).expect("the socket is usable");
        waiting -= batch.iter().map(|received| received.frame.len()).sum::<usize>();
    }
    assert_eq!((waiting, io.waiting_bytes()), (0, Some(0)));
}

fn messages_without_content_count(backend: Backend) {
    let Some(mut io) = socket(backend, "127.0.0.1:0") else { return };
    let sender = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
    for _ in 0..200 {
        sender.send_to(&[], io.local_addr()).expect("loopback takes it");
    }
    let waiting = io.waiting_bytes().expect("these sockets know") as u64;
    assert!(waiting >= 200 * limits::MESSAGE_COST_MIN as u64, "{waiting}");
    // A request of io_uring ends with each of them.
    for _ in 0..4 * LOOKS {
        assert_eq!(io.recv(&mut Vec::new()).expect("the socket is usable"), 0, "there is nothing in them");
    }
    let taken = io.taken_bytes();
    assert!((200 * limits::MESSAGE_COST_MIN as u64..=waiting).contains(&taken), "{taken} of {waiting}");
    assert_eq!(io.waiting_bytes(), Some(0));
}

fn the_time_of_arrival_is_told_to_who_falls_behind(backend: Backend) {
    let Some(mut io) = socket(backend, "127.0.0.1:0") else { return };
    let mut batch = Vec::new();
    let mut look = |io: &mut Io| while io.recv(&mut batch).expect("the socket is usable") == 0 {};
    send(&io, 1);
    look(&mut io);
    assert_eq!(io.waited(), None, "nothing is noted yet");
    send(&io, 4 * limits::RECV_BATCH);
    // A look may bring less than there is.
    for _ in 0..4 * limits::LATE_LOOKS {
        send(&io, limits::RECV_BATCH);
        look(&mut io);
    }
    std::thread::sleep(Duration::from_millis(20));
    look(&mut io);
    let waited = io.waited().expect("the kernel notes it by now");
    assert!(waited >= Duration::from_millis(20), "{waited:?}");
    while io.waiting_bytes() != Some(0) {
        look(&mut io);
    }
    // Who keeps up again does without.
    for _ in 0..4 * limits::TIMELY_LOOKS {
        send(&io, 1);
        look(&mut io);
    }
    assert_eq!(io.waited(), None);
}
