//! Acknowledgements on request (draft-ietf-quic-ack-frequency), seen from both ends.

mod common;

use std::time::Duration;

use common::{Pair, Transfer};
use warpline_proto::config::TransportConfig;

fn transport(ack_frequency: bool) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport.extensions.ack_frequency = ack_frequency;
    transport
}

/// Sends 20 MB and gives the acknowledgements that came for 10,000 packets, and the time it took.
fn acks_per_myriad(ack_frequency: bool) -> (u64, Duration) {
    let mut pair = Pair::new(&transport(ack_frequency));
    let (client, server) = pair.established();
    let mut transfer = Transfer::open(&mut pair.client, client, 20_000_000);
    let began = pair.now;
    pair.run_until(Duration::from_secs(60), |p| {
        transfer.pump(p.now, (&mut p.client, client), (&mut p.server, server));
        transfer.done
    });
    let stats = pair.client.peek(client).map(|c| c.stats()).unwrap_or_default();
    (stats.acks_received * 10_000 / stats.packets_sent, pair.now - began)
}

#[test]
fn a_bulk_sender_asks_for_fewer_acknowledgements_and_loses_no_time() {
    let (with, fast) = acks_per_myriad(true);
    let (without, reference) = acks_per_myriad(false);
    // Without being asked the receiver acknowledges a burst at a time, and bursts grow with the window.
    assert!(with * 5 < without * 4, "{with} against {without} per 10,000 packets");
    assert!(fast < reference + reference / 20, "{fast:?} against {reference:?}");
}

#[test]
fn a_transfer_under_loss_completes_with_either() {
    for ack_frequency in [true, false] {
        let mut pair = Pair::new(&transport(ack_frequency));
        pair.filter = Box::new(|n, _, _| n % 37 != 5);
        let (client, server) = pair.established();
        let mut transfer = Transfer::open(&mut pair.client, client, 3_000_000);
        pair.run_until(Duration::from_secs(120), |p| {
            transfer.pump(p.now, (&mut p.client, client), (&mut p.server, server));
            transfer.done
        });
    }
}
