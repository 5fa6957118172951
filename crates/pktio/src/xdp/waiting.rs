//! Packets that wait for the MAC address of their next hop.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use warpline_frame::Frame;

use super::router::NeighbourKey;
use crate::limits::{XDP_WAITING_MAX, XDP_WAITING_TIME};
use crate::meta::Ecn;

/// A payload in its frame, and where it is to go.
pub(super) struct Datagram {
    pub(super) frame: Frame,
    pub(super) len: usize,
    pub(super) remote: SocketAddr,
    pub(super) local: Option<IpAddr>,
    pub(super) ecn: Option<Ecn>,
}

struct Entry {
    neighbour: NeighbourKey,
    since: Instant,
    datagram: Datagram,
}

/// The queue, oldest first.
#[derive(Default)]
pub(super) struct Waiting(VecDeque<Entry>);

impl Waiting {
    pub(super) fn new() -> Waiting {
        Waiting(VecDeque::with_capacity(XDP_WAITING_MAX))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Keeps a datagram; what has to go for it comes back.
    #[must_use = "the frame of what is dropped can be used again"]
    pub(super) fn push(&mut self, neighbour: NeighbourKey, datagram: Datagram, now: Instant) -> Option<Datagram> {
        let oldest = if self.0.len() == XDP_WAITING_MAX { self.0.pop_front() } else { None };
        self.0.push_back(Entry { neighbour, since: now, datagram });
        oldest.map(|entry| entry.datagram)
    }

    /// The next datagram for a neighbour.
    pub(super) fn take(&mut self, neighbour: NeighbourKey) -> Option<Datagram> {
        let at = self.0.iter().position(|entry| entry.neighbour == neighbour)?;
        self.0.remove(at).map(|entry| entry.datagram)
    }

    /// The next datagram that has waited too long, or, with `all`, any.
    pub(super) fn expired(&mut self, now: Instant, all: bool) -> Option<Datagram> {
        let front = self.0.front()?;
        if !all && now.duration_since(front.since) < XDP_WAITING_TIME {
            return None;
        }
        self.0.pop_front().map(|entry| entry.datagram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(last: u8) -> NeighbourKey {
        NeighbourKey { ifindex: 1, address: [192, 0, 2, last].into() }
    }

    fn datagram(len: usize) -> Datagram {
        let remote = ([192, 0, 2, 1], 9).into();
        Datagram { frame: Frame::from_vec(vec![0; 64]), len, remote, local: None, ecn: None }
    }

    #[test]
    fn datagrams_leave_in_order_and_only_to_their_neighbour() {
        let (mut waiting, now) = (Waiting::new(), Instant::now());
        for (last, len) in [(1, 1), (2, 2), (1, 3)] {
            assert!(waiting.push(key(last), datagram(len), now).is_none());
        }
        let mut take = |last| waiting.take(key(last)).map(|datagram| datagram.len);
        assert_eq!([take(1), take(1), take(1), take(3), take(2)], [Some(1), Some(3), None, None, Some(2)]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn the_queue_is_bounded_in_number_and_time() {
        let (mut waiting, now) = (Waiting::new(), Instant::now());
        for len in 0..XDP_WAITING_MAX {
            assert!(waiting.push(key(1), datagram(len), now).is_none());
        }
        let dropped = waiting.push(key(1), datagram(1000), now + XDP_WAITING_TIME).map(|datagram| datagram.len);
        assert_eq!((dropped, waiting.len()), (Some(0), XDP_WAITING_MAX), "the oldest goes");
        assert!(waiting.expired(now, false).is_none());
        let late = std::iter::from_fn(|| waiting.expired(now + XDP_WAITING_TIME, false)).count();
        assert_eq!((late, waiting.len()), (XDP_WAITING_MAX - 1, 1));
        assert!(waiting.expired(now, true).is_some());
    }
}
