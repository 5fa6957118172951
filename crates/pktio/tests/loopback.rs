//! The backends for sockets against the kernel's own loopback.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "the stories are told by tests")]

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use common::{addr, collect, config, socket, train, train_with};
use warpline_pktio::{Backend, Ecn, Io, IoConfig, IoKind, TxMeta};

on_each_backend! {
    another_socket_takes_over_between_two_calls,
    long_trains_arrive_intact,
    many_trains_leave_in_one_call,
    a_train_of_more_segments_than_the_kernel_takes_is_cut,
    without_offload_the_same_datagrams_arrive,
    ecn_codepoints_travel_both_ways,
    a_wildcard_socket_answers_from_the_address_that_was_asked,
    what_cannot_be_sent_is_counted_and_the_rest_goes_on,
    kept_datagrams_do_not_stop_reception,
    the_socket_reports_what_it_got,
    an_ipv6_address_is_not_dual_stack,
}

fn long_trains_arrive_intact(backend: Backend) {
    for text in ["127.0.0.1:0", "[::1]:0"] {
        let (Some(mut a), Some(mut b)) = (socket(backend, text), socket(backend, text)) else { continue };
        let (from, to) = (a.local_addr(), b.local_addr());
        for (len, segment_size) in [(65_340, 1452), (65_408, 1200), (64_000, 1000), (1, 1452), (60_000, 8972)] {
            train(&mut a, to, len, segment_size, 7);
            a.flush().unwrap();
            assert_eq!(a.tx_pending(), 0);
            let seen = collect(&mut b, len.div_ceil(segment_size));
            for (n, datagram) in seen.iter().enumerate() {
                assert_eq!((datagram.remote, datagram.local), (from, Some(to.ip())));
                assert_eq!(datagram.fill, 7 + n as u8);
                assert_eq!(datagram.len, segment_size.min(len - n * segment_size));
            }
        }
        let (sent, received) = (a.stats().snapshot(), b.stats().snapshot());
        assert_eq!((sent.tx_bytes, sent.tx_datagrams), (received.rx_bytes, received.rx_datagrams));
        if a.gso_segments_max() > 1 && b.gro() {
            assert_eq!((sent.tx_trains, sent.send_calls), (5, 5));
            assert!(received.rx_trains < received.rx_datagrams / 10, "trains stay together: {received:?}");
        }
    }
}

fn many_trains_leave_in_one_call(backend: Backend) {
    let (Some(mut a), Some(mut b)) = (socket(backend, "127.0.0.1:0"), socket(backend, "127.0.0.1:0")) else { return };
    let to = b.local_addr();
    for n in 0..64 {
        train(&mut a, to, 100 + usize::from(n), 1200, n);
    }
    a.flush().unwrap();
    assert_eq!(a.stats().snapshot().send_calls, 1);
    let seen = collect(&mut b, 64);
    assert!(seen.iter().enumerate().all(|(n, d)| (d.fill, d.len) == (n as u8, 100 + n)));
}

fn a_train_of_more_segments_than_the_kernel_takes_is_cut(backend: Backend) {
    let (Some(mut a), Some(mut b)) = (socket(backend, "127.0.0.1:0"), socket(backend, "127.0.0.1:0")) else { return };
    let to = b.local_addr();
    train(&mut a, to, 200 * 100, 100, 0);
    a.flush().unwrap();
    assert!(collect(&mut b, 200).iter().enumerate().all(|(n, d)| usize::from(d.fill) == n));
    assert_eq!(a.stats().snapshot().gso_refused, 0, "the probe told the limit");
}

fn without_offload_the_same_datagrams_arrive(backend: Backend) {
    let mut a = Io::bind(addr("127.0.0.1:0"), &IoConfig { gso: false, backend, ..config() }).unwrap();
    let Some(mut b) = socket(backend, "127.0.0.1:0") else { return };
    let to = b.local_addr();
    train(&mut a, to, 50_010, 1000, 0);
    a.flush().unwrap();
    let seen = collect(&mut b, 51);
    assert!(seen.iter().enumerate().all(|(n, d)| usize::from(d.fill) == n));
    assert_eq!((a.gso_segments_max(), a.stats().snapshot().tx_trains), (1, 51));
}

fn ecn_codepoints_travel_both_ways(backend: Backend) {
    // Same family, and IPv4 from and to a dual-stack socket.
    for (a, b) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:0", "[::1]:0"), ("127.0.0.1:0", "[::]:0")] {
        let (Some(mut a), Some(mut b)) = (socket(backend, a), socket(backend, b)) else { continue };
        let port = b.local_addr().port();
        let to_b = if b.local_addr().ip().is_unspecified() {
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
        } else {
            b.local_addr()
        };
        let to_a = a.local_addr();
        for ecn in [None, Some(Ecn::Ect0), Some(Ecn::Ect1), Some(Ecn::Ce)] {
            for (io, remote) in [(&mut a, to_b), (&mut b, to_a)] {
                let len = 3000;
                train_with(io, TxMeta { remote, local: None, ecn, segment_size: 1000, len }, 0);
                io.flush().unwrap();
            }
            assert!(collect(&mut b, 3).iter().all(|d| d.ecn == ecn && d.remote == to_a));
            assert!(collect(&mut a, 3).iter().all(|d| d.ecn == ecn && d.remote == to_b));
        }
    }
}

fn a_wildcard_socket_answers_from_the_address_that_was_asked(backend: Backend) {
    for (wildcard, asked) in [("0.0.0.0:0", "127.0.0.5"), ("[::]:0", "127.0.0.5"), ("[::]:0", "::1")] {
        let asked: IpAddr = asked.parse().unwrap();
        let client = if asked.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let (Some(mut server), Some(mut client)) = (socket(backend, wildcard), socket(backend, client)) else {
            continue;
        };
        let to = SocketAddr::new(asked, server.local_addr().port());
        train(&mut client, to, 2000, 1000, 0);
        client.flush().unwrap();
        let question = collect(&mut server, 2)[0];
        assert_eq!((question.local, question.remote), (Some(asked), client.local_addr()));
        let meta = TxMeta { remote: question.remote, local: question.local, ecn: None, segment_size: 1000, len: 2000 };
        train_with(&mut server, meta, 0);
        server.flush().unwrap();
        assert!(collect(&mut client, 2).iter().all(|d| d.remote == to));
    }
}

fn what_cannot_be_sent_is_counted_and_the_rest_goes_on(backend: Backend) {
    let (Some(mut a), Some(mut b)) = (socket(backend, "127.0.0.1:0"), socket(backend, "127.0.0.1:0")) else { return };
    let to = b.local_addr();
    train(&mut a, addr("[2001:db8::1]:9"), 3000, 1000, 0); // an IPv4 socket has no IPv6
    train(&mut a, to, 10, 10, 1);
    a.flush().unwrap();
    assert_eq!(collect(&mut b, 1)[0].fill, 1);
    assert_eq!(a.stats().snapshot().drop_tx_refused, 3);
    // Nobody listens on the discard port: the ICMP error must not disturb anything.
    for _ in 0..3 {
        train(&mut a, addr("127.0.0.1:9"), 10, 10, 0);
        train(&mut a, to, 10, 10, 2);
        a.flush().unwrap();
        assert_eq!(collect(&mut b, 1)[0].fill, 2);
        assert_eq!(a.recv(&mut Vec::new()).unwrap(), 0);
    }
}

fn kept_datagrams_do_not_stop_reception(backend: Backend) {
    let (Some(mut a), Some(mut b)) = (socket(backend, "127.0.0.1:0"), socket(backend, "127.0.0.1:0")) else { return };
    let (to, mut kept, mut batch) = (b.local_addr(), Vec::new(), Vec::new());
    let train_bytes = 45 * 1452;
    for _ in 0..200 {
        train(&mut a, to, train_bytes, 1452, 0);
        a.flush().unwrap();
        b.recv(&mut batch).unwrap();
        kept.append(&mut batch);
    }
    let stats = b.stats().snapshot();
    assert_eq!(stats.rx_datagrams + stats.drop_rx_no_memory, 200 * 45, "each is handed on or counted");
    assert!(stats.rx_copied > 0 && stats.rx_spilled > 0, "there are fewer frames than datagrams: {stats:?}");
    assert_eq!(stats.drop_rx_no_memory, 0, "the heap has room");
    assert!(stats.spilled_bytes > 0);
    drop(kept);
    assert_eq!(b.stats().snapshot().spilled_bytes, 0, "what was kept is gone");
    train(&mut a, to, train_bytes, 1452, 0);
    a.flush().unwrap();
    collect(&mut b, 45);
}

fn the_socket_reports_what_it_got(backend: Backend) {
    let Some(io) = socket(backend, "127.0.0.1:0") else { return };
    assert_eq!(io.kind(), if backend == Backend::Uring { IoKind::Uring } else { IoKind::Udp });
    assert_eq!(io.choice().why, "asked for");
    let (receive, send) = io.socket_buffers().expect("Linux says");
    assert!(receive > 0 && send > 0);
    assert!(io.gso_segments_max() >= 1);
    println!("buffers {receive}/{send}, GSO {}, GRO {}, {:?}", io.gso_segments_max(), io.gro(), io.pages());
    assert_eq!(io.local_addr().ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
    assert!(format!("{io:?}").contains(&format!("{:?}", io.kind())));
}

fn an_ipv6_address_is_not_dual_stack(backend: Backend) {
    let Some(io) = socket(backend, "[::1]:0") else { return };
    assert_eq!(io.local_addr().ip(), IpAddr::from(Ipv6Addr::LOCALHOST));
}

fn another_socket_takes_over_between_two_calls(backend: Backend) {
    let (Some(mut a), Some(mut b)) = (socket(backend, "127.0.0.1:0"), socket(backend, "127.0.0.1:0")) else { return };
    let to = b.local_addr();
    for round in 0..3 {
        let old = a.local_addr();
        // Queued before, sent from the new address; what waits at the old one is lost with it.
        train(&mut a, to, 3000, 1000, round);
        train(&mut b, old, 10, 10, 0xEE);
        b.flush().unwrap();
        a.rebind(addr("127.0.0.1:0"), &config()).unwrap();
        let new = a.local_addr();
        assert_ne!(new, old);
        a.flush().unwrap();
        assert!(collect(&mut b, 3).iter().all(|d| d.remote == new && d.fill < 10));
        train(&mut b, new, 2000, 1000, round);
        b.flush().unwrap();
        assert!(collect(&mut a, 2).iter().all(|d| d.fill != 0xEE));
    }
    assert_eq!(a.stats().snapshot().tx_datagrams, 9);
}
