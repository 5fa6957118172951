//! The end of a stream, lost and sent again.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Pair, logs};
use serde_json::Value;
use warpline_frame::Chunk;
use warpline_proto::Dir;
use warpline_proto::config::TransportConfig;

const LEN: usize = 1_000;

/// The STREAM frames that the server has sent: offset, bytes, and whether the end is with them.
fn sent(pair: &mut Pair) -> Vec<(u64, u64, bool)> {
    let mut frames = Vec::new();
    for record in logs(&mut pair.server).into_values().flatten() {
        if record["name"] == "transport:packet_sent" {
            let all = record["data"]["frames"].as_array().unwrap().clone();
            frames.extend(all.into_iter().filter(|frame| frame["frame_type"] == "stream"));
        }
    }
    let number = |frame: &Value, name: &str| frame[name].as_u64().unwrap();
    frames.iter().map(|f| (number(f, "offset"), number(f, "length"), f["fin"] == true)).collect()
}

/// A peer that has the bytes and has acknowledged them in vain learns of the end from a frame that brings nothing else: quiche 0.30 and
/// tquic 1.6 do not tell their application of an end that comes with bytes which it has read.
#[test]
fn the_end_does_not_go_with_bytes_that_go_again() {
    let mut pair = Pair::logged(&TransportConfig::default());
    let (client, server) = pair.established();
    pair.run_for(Duration::from_secs(1));
    let stream = pair.server.connection(server).unwrap().open(Dir::Uni).unwrap();
    // The bytes arrive, their acknowledgement does not.
    pair.filter = Box::new(|_, to_server, _| !to_server);
    pair.server.connection(server).unwrap().write(stream, &mut Chunk::from_static(&[7; LEN])).unwrap();
    pair.run_for(Duration::from_millis(40));
    // Nor does the end.
    pair.filter = Box::new(|_, _, _| false);
    pair.server.connection(server).unwrap().finish(stream).unwrap();
    pair.run_for(Duration::from_millis(1));
    pair.filter = Box::new(|_, _, _| true);
    pair.run_for(Duration::from_secs(5));

    let frames = sent(&mut pair);
    let all = LEN as u64;
    assert_eq!(frames[..2], [(0, all, false), (all, 0, true)], "the bytes and the end, one after the other");
    assert!(frames[2..].contains(&(0, all, false)), "the bytes went again: {frames:?}");
    assert!(frames[2..].contains(&(all, 0, true)), "and the end: {frames:?}");
    assert!(!frames[2..].iter().any(|(_, len, fin)| *fin && *len > 0), "not together: {frames:?}");
    let read = pair.client.connection(client).unwrap().read(pair.now, stream, usize::MAX).unwrap().unwrap();
    assert_eq!(read.len(), LEN);
    let end = pair.client.connection(client).unwrap().read(pair.now, stream, usize::MAX).unwrap();
    assert!(end.is_none(), "the end");
}
