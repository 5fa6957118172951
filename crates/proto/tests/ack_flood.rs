//! ACK frames with as many ranges as fit, over and over: what they make a sender hold and do, by a counting allocator.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod common;

use std::alloc::System;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use common::Transfer;
use common::tamper::{Clear, Level, Tampered};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use warpline_proto::config::TransportConfig;
use warpline_proto::{ConnectionStats, Event};
use warpline_wire::{Reader, Writer, frame};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// ACK frames of one part of the flood.
const FRAMES: usize = 2_000;

/// Every other one of the numbers that an ACK frame covers, each as a range of its own; all of them were received, so that nothing
/// gives the attacker away. Returns how many there are.
fn thin_out(clear: &mut Clear) -> Option<usize> {
    let mut reader = Reader::new(&clear.payload);
    let Ok(frame::Frame::Ack(ack)) = frame::decode(&mut reader) else { return None };
    let odd = ack.largest() % 2;
    let ranges =
        ack.ranges().flat_map(|range| range.rev()).filter(|number| number % 2 == odd).map(|number| number..=number);
    let mut bytes = vec![0; 1_000];
    let mut w = Writer::new(&mut bytes);
    assert!(frame::encode_ack(&mut w, ack.delay(), ranges, None));
    let len = w.position();
    bytes.truncate(len);
    // What else it has to say goes on: the window of the download.
    bytes.extend_from_slice(&clear.payload[reader.position()..]);
    clear.payload = bytes;
    let Ok(frame::Frame::Ack(ack)) = frame::decode(&mut Reader::new(&clear.payload)) else { return None };
    Some(ack.ranges().count())
}

/// Bytes that are allocated now, and allocations ever made.
fn allocated() -> (isize, usize) {
    let stats = ALLOCATOR.stats();
    (stats.bytes_allocated as isize - stats.bytes_deallocated as isize, stats.allocations + stats.reallocations)
}

#[test]
fn floods_of_acknowledgement_ranges() {
    // A window that does not grow: so much is under way in every part.
    let narrow = TransportConfig {
        stream_window: 2 << 20,
        stream_window_max: 2 << 20,
        connection_window: 3 << 20,
        connection_window_max: 3 << 20,
        ..TransportConfig::default()
    };
    let mut test = Tampered::new(&narrow);
    let (client, server) = test.pair.established();
    test.pair.run_for(Duration::from_millis(200));
    let mut download = Transfer::open(&mut test.pair.server, server, 1 << 40);
    let ranges = Rc::new(Cell::new(0));
    let mut flood = || -> (isize, usize, ConnectionStats) {
        let done = Rc::new(Cell::new(0));
        for _ in 0..FRAMES {
            let (ranges, done) = (Rc::clone(&ranges), Rc::clone(&done));
            test.edit(Level::OneRtt, move |clear| {
                ranges.set(ranges.get() + thin_out(clear).unwrap_or(0));
                done.set(done.get() + 1);
            });
        }
        test.pair.tidy();
        let before = allocated().1;
        test.pair.run_until(Duration::from_secs(600), |p| {
            let ended = p.server_events.iter().chain(&p.client_events).find(|(_, e)| matches!(e, Event::Closed(_)));
            assert!(ended.is_none(), "nothing was acknowledged that had not been received: {ended:?}");
            download.pump(p.now, (&mut p.server, server), (&mut p.client, client));
            done.get() == FRAMES
        });
        let made = allocated().1 - before;
        test.pair.tidy();
        let stats = test.pair.server.connection(server).unwrap().stats();
        (allocated().0, made, stats)
    };
    let (_, _, before) = flood();
    let (held, ..) = flood();
    ranges.set(0);
    let (held_later, made, after) = flood();
    let received = after.acks_received - before.acks_received;
    assert!(received as usize > FRAMES, "{received} were read");
    // Of the packets that it goes on sending it holds as much as before: a range that was kept would take 16 bytes.
    let (ranges, grown) = (ranges.get(), held_later - held);
    assert!(ranges > 50 * FRAMES, "{ranges} ranges");
    assert!(grown < 4 * ranges as isize, "{held} bytes, then {held_later} after {ranges} ranges");
    // Both sides, the network and the test together.
    assert!(made < ranges / 2, "{made} allocations for {ranges} ranges");
}
