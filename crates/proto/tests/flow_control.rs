//! Windows of streams and of the connection, seen from both ends (RFC 9000 section 4).

mod common;

use std::time::Duration;

use common::{Pair, Transfer};
use warpline_frame::Chunk;
use warpline_proto::config::TransportConfig;
use warpline_proto::congestion::{AckSample, CongestionControl, CustomCongestion, LossSample};
use warpline_proto::recovery::sent::LostPacket;
use warpline_proto::{Dir, Event, Instant, WriteError};

/// A stream that was read fast, so that its window grew, and then not at all, must leave credit to its neighbours.
#[test]
fn a_stalled_stream_does_not_starve_a_second_one() {
    let windows = TransportConfig {
        stream_window: 64_000,
        stream_window_max: 32 << 20,
        connection_window: 96_000,
        connection_window_max: 384_000,
        keep_alive: Some(Duration::from_secs(1)),
        ..TransportConfig::default()
    };
    let mut pair = Pair::new(&windows);
    let (client, server) = pair.established();
    let stalled = pair.client.connection(client).unwrap().open(Dir::Uni).unwrap();
    let fill = move |p: &mut Pair| {
        let sender = p.client.connection(client).unwrap();
        loop {
            match sender.write(stalled, &mut Chunk::from(vec![7; 50_000])) {
                Ok(_) => {}
                Err(WriteError::Blocked) => break,
                Err(e) => panic!("{e}"),
            }
        }
    };
    let mut read = 0;
    pair.run_until(Duration::from_secs(60), |p| {
        fill(p);
        let now = p.now;
        let receiver = p.server.connection(server).unwrap();
        while let Ok(Some(chunk)) = receiver.read(now, stalled, 1 << 20) {
            read += chunk.len();
        }
        read > 10_000_000
    });
    // From here on nobody reads it, and its sender goes on for as long as it may.
    for _ in 0..200 {
        fill(&mut pair);
        pair.run_for(Duration::from_millis(10));
    }
    let mut second = Transfer::open(&mut pair.client, client, 2_000_000);
    pair.run_until(Duration::from_secs(60), |p| {
        second.pump(p.now, (&mut p.client, client), (&mut p.server, server));
        second.done
    });
}

/// A configuration that gives one stream the whole connection is held to the same share.
#[test]
fn even_the_first_window_of_a_stream_leaves_a_third_to_the_others() {
    let greedy = TransportConfig {
        stream_window: 90_000,
        stream_window_max: 90_000,
        connection_window: 90_000,
        connection_window_max: 90_000,
        keep_alive: Some(Duration::from_secs(1)),
        ..TransportConfig::default()
    };
    let mut pair = Pair::new(&greedy);
    let (client, server) = pair.established();
    let unread = pair.client.connection(client).unwrap().open(Dir::Uni).unwrap();
    let sender = pair.client.connection(client).unwrap();
    assert_eq!(sender.write(unread, &mut Chunk::from(vec![7; 200_000])), Ok(200_000));
    pair.run_for(Duration::from_secs(2));
    let mut second = Transfer::open(&mut pair.client, client, 500_000);
    pair.run_until(Duration::from_secs(60), |p| {
        second.pump(p.now, (&mut p.client, client), (&mut p.server, server));
        second.done
    });
}

/// A controller that holds nothing back.
#[derive(Debug)]
struct Wide;

impl CongestionControl for Wide {
    fn on_sent(&mut self, _now: Instant, _bytes: u64, _in_flight: u64, _app_limited: bool) {}
    fn on_ack(&mut self, _ack: &AckSample) {}
    fn on_packet_lost(&mut self, _now: Instant, _packet: &LostPacket) {}
    fn on_congestion(&mut self, _loss: &LossSample) {}
    fn on_ecn_ce(&mut self, _now: Instant, _marks: u64, _sent_at: Instant) {}
    fn on_spurious_loss(&mut self, _now: Instant) {}
    fn on_mtu(&mut self, _mtu: u16) {}
    fn window(&self) -> u64 {
        64 << 20
    }
    fn pacing_rate(&self, _srtt: Duration) -> u64 {
        u64::MAX
    }
    fn in_slow_start(&self) -> bool {
        false
    }
    fn ssthresh(&self) -> u64 {
        u64::MAX
    }
    fn state_name(&self) -> &'static str {
        "wide"
    }
}

/// While a loss at the front is repaired, acknowledgements free nothing. A fast path would send all that waits meanwhile, and
/// the sender would be taken for one that has no more.
#[test]
fn a_writer_is_woken_before_what_it_wrote_has_run_out() {
    let transport = TransportConfig {
        stream_window: 8 << 20,
        stream_window_max: 8 << 20,
        connection_window: 16 << 20,
        connection_window_max: 16 << 20,
        send_buffer: 8 << 20,
        pacing: false,
        custom_congestion: Some(CustomCongestion::new(|_| Box::new(Wide))),
        ..TransportConfig::default()
    };
    let mut pair = Pair::new(&transport);
    let (client, _) = pair.established();
    let sender = pair.client.connection(client).unwrap();
    let id = sender.open(Dir::Uni).unwrap();
    let mut written = 0;
    while let Ok(n) = sender.write(id, &mut Chunk::from(vec![7; 50_000])) {
        written += n;
    }
    let (mut sent, mut buffer) = (0, vec![0; 1 << 16]);
    while sent < written * 3 / 5 {
        sent += pair.client.poll_transmit(pair.now, &mut buffer).expect("more waits").len;
    }
    pair.client.connection(client).unwrap();
    let woken = std::iter::from_fn(|| pair.client.poll_event()).any(|(_, event)| event == Event::Writable(id));
    assert!(woken, "{sent} of {written} bytes were sent");
    assert!(pair.client.connection(client).unwrap().write(id, &mut Chunk::from(vec![7; 50_000])).is_ok());
}
