//! Datagrams that arrive together are opened together, and nothing else about them is different from one after the other.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Pair, Transfer};
use warpline_frame::{Chunk, Frame};
use warpline_proto::config::TransportConfig;
use warpline_proto::{BATCH_MAX, ConnectionHandle, DatagramMeta, Event};

/// A generator whose numbers decide about datagrams.
struct Fate(u64);

impl Fate {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Transfers over a bad link, both ways and with key updates. What came of it, packet by packet: every datagram's number, direction and
/// length, and the counters of both sides.
fn story(seed: u64, together: bool) -> (Vec<(u64, bool, usize)>, String) {
    let transport = TransportConfig { packets_per_key: Some(90), ..TransportConfig::default() };
    let mut pair = Pair::new(&transport);
    pair.together = together;
    let (client, server) = pair.established();
    let datagrams = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let (log, mut fate) = (datagrams.clone(), Fate(seed));
    pair.filter = Box::new(move |number, to_server, bytes| {
        log.borrow_mut().push((number, to_server, bytes.len()));
        match fate.below(60) {
            0 => return false,
            // In the last bytes: those before may be the sample, and what becomes of a header then depends on keys, which are others each time.
            1 => {
                let at = bytes.len() - 1 - fate.below(4) as usize;
                bytes[at] ^= 1 << fate.below(8);
            }
            _ => {}
        }
        true
    });
    let mut late = Fate(seed + 1);
    pair.jitter = Box::new(move |_, _| Duration::from_micros(if late.below(25) == 0 { late.below(4_000) } else { 0 }));
    for round in 0..4 {
        let (mut up, mut down) =
            (Transfer::open(&mut pair.client, client, 200_000), Transfer::open(&mut pair.server, server, 300_000));
        pair.run_until(Duration::from_secs(200), |p| {
            up.pump(p.now, (&mut p.client, client), (&mut p.server, server));
            down.pump(p.now, (&mut p.server, server), (&mut p.client, client));
            up.done && down.done
        });
        if round == 1 {
            pair.client.connection(client).unwrap().update_keys();
        }
        pair.run_for(Duration::from_millis(700));
    }
    let stats = |endpoint: &warpline_proto::Endpoint, handle| {
        let connection = endpoint.peek(handle).unwrap();
        format!("{:?} {:?}", connection.stats(), endpoint.packet_drops())
    };
    let counters = format!("{} {}", stats(&pair.client, client), stats(&pair.server, server));
    assert!(pair.client.peek(client).unwrap().stats().key_updates > 2);
    (datagrams.take(), counters)
}

#[test]
fn together_or_one_by_one_every_datagram_that_is_sent_is_the_same() {
    for seed in 1..8 {
        let (one_by_one, together) = (story(seed, false), story(seed, true));
        let differ = one_by_one.0.iter().zip(&together.0).find(|(one, other)| one != other);
        assert_eq!((differ, one_by_one.0.len()), (None, together.0.len()), "seed {seed}");
        assert_eq!(one_by_one.1, together.1, "seed {seed}");
    }
}

/// A connection, and a train of its client's with a DATAGRAM frame of `texts` in each datagram.
fn train(texts: &[&'static [u8]]) -> (Pair, ConnectionHandle, ConnectionHandle, Vec<Vec<u8>>) {
    let mut pair = Pair::new(&TransportConfig { pacing: false, ..TransportConfig::default() });
    let (client, server) = pair.established();
    pair.run_for(Duration::from_secs(1));
    let sent = more(&mut pair, client, texts);
    (pair, client, server, sent)
}

fn more(pair: &mut Pair, client: ConnectionHandle, texts: &[&'static [u8]]) -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    let mut buf = vec![0; 65_536];
    for text in texts {
        pair.client.connection(client).unwrap().send_datagram(Chunk::from_static(text)).unwrap();
        let transmit = pair.client.poll_transmit(pair.now, &mut buf).unwrap();
        assert_eq!(transmit.len, transmit.segment_size, "one datagram");
        sent.push(buf[..transmit.len].to_vec());
    }
    sent
}

/// Hands all to the server at once, and returns the texts that come out.
fn arrive(pair: &mut Pair, server: ConnectionHandle, datagrams: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let meta = DatagramMeta { remote: pair.client_addr, local: Some(pair.server_addr.ip()), ecn: None };
    let mut frames: Vec<_> = datagrams.iter().map(|bytes| Frame::from_vec(bytes.clone())).collect();
    pair.server.handle_datagrams(pair.now, &meta, &mut frames);
    while pair.server.poll_event().is_some() {}
    let mut texts = Vec::new();
    while let Some(text) = pair.server.connection(server).unwrap().recv_datagram() {
        texts.push(text.to_vec());
    }
    texts
}

#[test]
fn forged_and_repeated_packets_touch_none_of_the_others() {
    let (mut pair, _, server, mut sent) = train(&[b"one", b"two", b"three", b"four", b"five"]);
    sent.insert(2, sent[1].clone());
    *sent[3].last_mut().unwrap() ^= 1;
    sent.push(sent[0].clone());
    let forged_number = {
        let mut packet = sent[4].clone();
        packet[10] ^= 0xff;
        packet
    };
    sent.insert(4, forged_number);
    sent.insert(0, sent[0][..20].to_vec());
    let before = pair.server.packet_drops();
    assert_eq!(arrive(&mut pair, server, &sent), [&b"one"[..], b"two", b"four", b"five"]);
    let after = pair.server.packet_drops();
    let of = |drops: &warpline_proto::PacketDrops| (drops.duplicate, drops.not_authentic, drops.malformed);
    let (duplicates, forgeries, short) = of(&after);
    assert_eq!(
        (duplicates - of(&before).0, forgeries - of(&before).1, short - of(&before).2),
        (2, 2, 1),
        "two came twice, two were changed, one was cut"
    );
    assert_eq!(arrive(&mut pair, server, &sent), Vec::<Vec<u8>>::new(), "all of them are known now");
}

#[test]
fn more_than_a_batch_and_packets_of_others_between_them() {
    let texts: Vec<&'static [u8]> = (0..BATCH_MAX * 2 + 3).map(|_| &b"text"[..]).collect();
    let (mut pair, _, server, mut sent) = train(&texts);
    let (other, other_server) = pair.reconnected();
    pair.run_for(Duration::from_secs(1));
    let foreign = more(&mut pair, other, &[b"foreign", b"foreign"]);
    sent.splice(20..20, foreign);
    sent.insert(5, vec![0x5a; 40]);
    sent.insert(30, Vec::new());
    assert_eq!(arrive(&mut pair, server, &sent).len(), texts.len());
    let mut foreign = 0;
    while pair.server.connection(other_server).unwrap().recv_datagram().is_some() {
        foreign += 1;
    }
    assert_eq!(foreign, 2);
}

#[test]
fn keys_change_in_the_middle_of_what_came_together() {
    let (mut pair, client, server, mut sent) = train(&[b"old 1", b"old 2", b"old 3"]);
    // An acknowledgement of something in this phase allows the update.
    pair.run_for(Duration::from_secs(1));
    pair.client.connection(client).unwrap().update_keys();
    let new = more(&mut pair, client, &[b"new 1", b"new 2", b"new 3"]);
    assert_eq!(pair.client.peek(client).unwrap().stats().key_updates, 1);
    // The last of the old packets is late.
    let late = sent.pop().unwrap();
    sent.extend(new);
    sent.insert(4, late.clone());
    sent.push(late);
    let texts = arrive(&mut pair, server, &sent);
    assert_eq!(texts, [&b"old 1"[..], b"old 2", b"new 1", b"new 2", b"old 3", b"new 3"]);
    assert_eq!(pair.server.peek(server).unwrap().stats().key_updates, 1);
}

#[test]
fn what_came_behind_the_end_is_not_read() {
    let (mut pair, client, server, mut sent) = train(&[b"before"]);
    pair.client.connection(client).unwrap().close(pair.now, 7, b"enough");
    let mut buf = vec![0; 65_536];
    let close = pair.client.poll_transmit(pair.now, &mut buf).unwrap();
    sent.push(buf[..close.len].to_vec());
    sent.extend([sent[0].clone(), sent[0].clone()]);
    let meta = DatagramMeta { remote: pair.client_addr, local: Some(pair.server_addr.ip()), ecn: None };
    let mut frames: Vec<_> = sent.into_iter().map(Frame::from_vec).collect();
    pair.server.handle_datagrams(pair.now, &meta, &mut frames);
    let events: Vec<_> = std::iter::from_fn(|| pair.server.poll_event()).map(|(_, event)| event).collect();
    assert!(events.iter().any(|event| matches!(event, Event::Closed(_))), "{events:?}");
    assert!(pair.server.peek(server).is_none_or(|connection| connection.is_closed()));
}
