//! The kernel sends each datagram to the socket that the arithmetic on its connection ID says.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "the stories are told by tests")]

mod common;

use common::{addr, collect, config, socket};
use warpline_pktio::udp::{Group, Neighbour, Steering};
use warpline_pktio::{Backend, Io, IoConfig, TxMeta};

on_each_backend! {
    every_key_goes_to_its_worker,
    short_payloads_go_to_the_first_worker,
    answers_come_from_the_shared_port,
    a_group_needs_workers_and_slots,
    a_table_is_replaced_while_packets_come,
    two_processes_share_a_port_by_a_mark_in_the_ids,
}

const STEERING: Steering = Steering { key_offset: 6, slots: 1021 };

fn worker(key: u16, workers: u16) -> usize {
    usize::from(key % STEERING.slots % workers)
}

fn send(io: &mut Io, remote: std::net::SocketAddr, payload: &[u8]) {
    let buffer = io.tx_buffer().expect("there is room");
    buffer[..payload.len()].copy_from_slice(payload);
    let len = payload.len();
    io.tx_commit(TxMeta { remote, local: None, ecn: None, segment_size: len, len });
    io.flush().expect("the socket is usable");
}

/// A payload with the key at `at`, and everything else such that a wrong place would show.
fn payload(first: u8, at: usize, key: u16) -> Vec<u8> {
    let mut payload = vec![0xEE; 40];
    payload[0] = first;
    payload[at..at + 2].copy_from_slice(&key.to_be_bytes());
    payload
}

/// Receives the datagrams of all workers: for each, how many.
fn counts(group: &mut [Io]) -> Vec<usize> {
    let mut batch = Vec::new();
    group
        .iter_mut()
        .map(|io| {
            let mut count = 0;
            while io.recv(&mut batch).expect("the socket is usable") > 0 {
                count += batch.iter().map(|r| r.count()).sum::<usize>();
            }
            count
        })
        .collect()
}

fn every_key_goes_to_its_worker(backend: Backend) {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Some(mut sender) = socket(backend, address) else { continue };
        let mut group = Io::bind_group(addr(address), 3, &IoConfig { backend, ..config() }, &STEERING).unwrap();
        let to = group[0].local_addr();
        assert!(group.iter().all(|io| io.local_addr() == to));
        let keys = (0..=u16::MAX).step_by(251).chain([0, 1, 2, 1020, 1021, 1022, 2042, u16::MAX]);
        for key in keys {
            for (first, at) in [(0xC3, 12), (0x80, 12), (0x43, 7), (0x7F, 7)] {
                send(&mut sender, to, &payload(first, at, key));
                let expected = worker(key, 3);
                let got = counts(&mut group);
                assert_eq!((got[expected], got.iter().sum::<usize>()), (1, 1), "key {key}, first octet {first:#x}");
            }
        }
    }
}

fn short_payloads_go_to_the_first_worker(backend: Backend) {
    let Some(mut sender) = socket(backend, "127.0.0.1:0") else { return };
    let mut group = Io::bind_group(addr("127.0.0.1:0"), 3, &IoConfig { backend, ..config() }, &STEERING).unwrap();
    let to = group[0].local_addr();
    for payload in [&payload(0x43, 7, 1)[..8], &payload(0xC3, 12, 1)[..13], &[0x43], &[0xC3]] {
        send(&mut sender, to, payload);
        assert_eq!(counts(&mut group), [1, 0, 0]);
    }
    // One byte more and the key counts.
    send(&mut sender, to, &payload(0x43, 7, 1)[..9]);
    send(&mut sender, to, &payload(0xC3, 12, 2)[..14]);
    assert_eq!(counts(&mut group), [0, 1, 1]);
}

fn answers_come_from_the_shared_port(backend: Backend) {
    let Some(mut client) = socket(backend, "127.0.0.1:0") else { return };
    let mut group = Io::bind_group(addr("0.0.0.0:0"), 2, &IoConfig { backend, ..config() }, &STEERING).unwrap();
    let port = group[0].local_addr().port();
    let remote = client.local_addr();
    for io in &mut group {
        common::train_with(
            io,
            TxMeta { remote, local: Some([127, 0, 0, 3].into()), ecn: None, segment_size: 9, len: 9 },
            1,
        );
        io.flush().unwrap();
    }
    let expected = std::net::SocketAddr::from(([127, 0, 0, 3], port));
    assert!(collect(&mut client, 2).iter().all(|d| d.remote == expected));
}

fn a_group_needs_workers_and_slots(backend: Backend) {
    let no_slots = Steering { slots: 0, ..STEERING };
    for (workers, steering) in [(0, STEERING), (2, no_slots)] {
        let error =
            Io::bind_group(addr("127.0.0.1:0"), workers, &IoConfig { backend, ..config() }, &steering).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}

fn a_table_is_replaced_while_packets_come(backend: Backend) {
    let Some(mut sender) = socket(backend, "127.0.0.1:0") else { return };
    let mut group = Group::new(addr("127.0.0.1:0"), &IoConfig { backend, ..config() }, STEERING);
    let mut sockets: Vec<Io> = (0..3).map(|number| group.open(number).expect("loopback is there")).collect();
    let to = sockets[0].local_addr();
    let tables: [fn(u16) -> u16; 4] = [|_| 0, |slot| slot / 400, |slot| slot % 3, |slot| 2 - slot % 2 * 2];
    for table in tables {
        let owners: Vec<u16> = (0..STEERING.slots).map(table).collect();
        group.steer(&owners).expect("the table names open sockets");
        for key in (0..=u16::MAX).step_by(977) {
            send(&mut sender, to, &payload(0x43, 7, key));
            let mut expected = vec![0; 3];
            expected[usize::from(table(key % STEERING.slots))] = 1;
            assert_eq!(counts(&mut sockets), expected, "key {key}");
        }
    }
    assert!(group.open(4).is_err(), "number 3 is the next");
    sockets.push(group.open(3).expect("loopback is there"));
    group.steer(&[3; 1021]).expect("there are four sockets");
    send(&mut sender, to, &payload(0xC3, 12, 5));
    assert_eq!(counts(&mut sockets), [0, 0, 0, 1]);
    // A socket outlives its back end, and so does what it has received.
    send(&mut sender, to, &payload(0xC3, 12, 6));
    sockets.pop();
    sockets.push(group.open(3).expect("it is there"));
    assert_eq!((counts(&mut sockets), group.opened()), (vec![0, 0, 0, 1], 4));
    for wrong in [&[4; 1021][..], &[0; 1020]] {
        assert_eq!(group.steer(wrong).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    }
}

fn two_processes_share_a_port_by_a_mark_in_the_ids(backend: Backend) {
    let Some(mut sender) = socket(backend, "127.0.0.1:0") else { return };
    let config = IoConfig { backend, ..config() };
    let mut first = Group::new(addr("127.0.0.1:0"), &config, STEERING);
    let mut ios: Vec<Io> = (0..2).map(|number| first.open(number).expect("loopback is there")).collect();
    first.steer(&(0..STEERING.slots).map(|slot| slot % 2).collect::<Vec<_>>()).unwrap();
    let (to, export) = (ios[0].local_addr(), first.export().unwrap());
    assert_eq!((export.sockets.len(), &export.used[..]), (2, &[0, 1][..]));

    // What would be another process joins with descriptors of its own.
    let mut second = Group::adopt(export.sockets, &config, STEERING).unwrap();
    let theirs = Neighbour { mark: false, table: export.table, used: export.used, takes_long: true };
    second.share(Some(theirs.clone())).unwrap();
    ios.extend((0..2).map(|number| second.open(number).expect("loopback is there")));
    let split = |key: u16| usize::from(key % STEERING.slots >= 500);
    let check = |ios: &mut [Io], sender: &mut Io, expected: &dyn Fn(bool, bool, u16) -> usize| {
        for key in (0..=u16::MAX).step_by(1_999) {
            for (long, at) in [(true, 12), (false, 7)] {
                for mark in [false, true] {
                    let mut packet = payload(if long { 0xC3 } else { 0x43 }, at, key);
                    packet[at - 1] = 0xA0 | u8::from(mark);
                    send(sender, to, &packet);
                    let mut counted = vec![0; 4];
                    counted[expected(long, mark, key)] = 1;
                    assert_eq!(counts(ios), counted, "long {long}, mark {mark}, key {key}");
                }
            }
        }
    };
    let old = |key: u16| usize::from(key % STEERING.slots % 2);
    check(&mut ios, &mut sender, &|_, _, key| old(key));
    let table: Vec<u16> = (0..STEERING.slots).map(|slot| split(slot) as u16).collect();
    second.steer(&table).unwrap();
    check(&mut ios, &mut sender, &|long, mark, key| if long || !mark { old(key) } else { 2 + split(key) });
    second.share(Some(Neighbour { takes_long: false, ..theirs })).unwrap();
    check(&mut ios, &mut sender, &|_, mark, key| if mark { 2 + split(key) } else { old(key) });
    // The first is gone; its sockets live on and are used again.
    let kept = ios.split_off(2);
    drop((ios, first));
    second.share(None).unwrap();
    let mut ios = kept;
    ios.extend((2..4).map(|number| second.open(number).expect("two are free")));
    assert_eq!(second.opened(), 4);
    check(&mut ios, &mut sender, &|_, _, key| split(key));
    second.steer(&[3; 1021]).unwrap();
    check(&mut ios, &mut sender, &|_, _, _| 3);
}
