//! From received packets to datagrams.

use std::net::SocketAddr;

use warpline_frame::{Frame, Pool};
use warpline_wire::net;

use super::router::Router;
use crate::meta::{Ecn, Received};
use crate::stats::{Stat, StatsHandle};

/// The datagram in a packet, cut out in place; `None` if it is none of ours.
#[inline]
pub(super) fn take(mut packet: Frame, router: &Router, stats: &StatsHandle) -> Option<Received> {
    let parsed = match net::parse(&packet) {
        Ok(parsed) if !parsed.payload.is_empty() && !router.is_own(parsed.source.ip()) => parsed,
        // The program lets no such packet through but those with wrong lengths or checksums, and those that claim to be
        // from ourselves.
        _ => {
            stats.add(Stat::DropRxTruncated, 1);
            return None;
        }
    };
    packet.truncate(parsed.payload.end);
    packet.advance(parsed.payload.start);
    Some(Received {
        segment_size: packet.len(),
        frame: packet,
        remote: with_scope(parsed.source, router),
        local: Some(parsed.destination.ip()),
        ecn: Ecn::from_bits(parsed.traffic_class),
    })
}

/// Link-local addresses mean something on their link only.
#[inline]
fn with_scope(mut remote: SocketAddr, router: &Router) -> SocketAddr {
    if let SocketAddr::V6(v6) = &mut remote
        && v6.ip().is_unicast_link_local()
    {
        v6.set_scope_id(router.link().map_or(0, |link| link.index));
    }
    remote
}

/// Hands a datagram on: in its frame, or copied when the program holds too many frames.
#[inline]
pub(super) fn deliver(
    mut received: Received,
    low: bool,
    copies: &mut Pool,
    out: &mut Vec<Received>,
    stats: &StatsHandle,
) {
    let len = received.frame.len();
    // What is longer was put together in memory of its own.
    if low && len <= copies.frame_size() {
        let Some(mut copy) = copies.take() else {
            stats.add(Stat::DropRxNoMemory, 1);
            return;
        };
        copy.truncate(len);
        copy.copy_from_slice(&received.frame);
        received.frame = copy;
        stats.add(Stat::RxCopied, 1);
    }
    stats.add(Stat::RxTrains, 1);
    stats.add(Stat::RxDatagrams, 1);
    stats.add(Stat::RxBytes, len);
    out.push(received);
}
