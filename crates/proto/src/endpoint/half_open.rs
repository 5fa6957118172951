//! Handshakes that are not done, in all and by where they come from.

use core::hash::{BuildHasher, Hash};
use std::net::{IpAddr, SocketAddr};

use foldhash::fast::{FixedState, FoldHasher};

use crate::limits::SOURCE_BUCKETS;

/// Where a handshake comes from: an IPv4 address or an IPv6 network of 64 bits, as a bucket that few share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source(u16);

/// Counts handshakes. Sources that share a bucket share their limit, which is the price of memory that no stranger can
/// make grow; who shares with whom depends on a secret.
#[derive(Debug)]
pub(super) struct HalfOpen {
    total: usize,
    /// Made with the first handshake: an endpoint that only connects needs none.
    buckets: Vec<u16>,
    hasher: FixedState,
}

impl HalfOpen {
    pub(super) fn new(seed: u64) -> Self {
        Self { total: 0, buckets: Vec::new(), hasher: FixedState::with_seed(seed) }
    }

    pub(super) fn source(&self, remote: SocketAddr) -> Source {
        let mut hasher: FoldHasher<'_> = self.hasher.build_hasher();
        match remote.ip().to_canonical() {
            IpAddr::V4(ip) => ip.octets().hash(&mut hasher),
            IpAddr::V6(ip) => ip.segments()[..4].hash(&mut hasher),
        }
        Source((core::hash::Hasher::finish(&hasher) % SOURCE_BUCKETS as u64) as u16)
    }

    /// All of them.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Those of a source.
    pub(super) fn of(&self, source: Source) -> usize {
        self.buckets.get(usize::from(source.0)).copied().unwrap_or_default().into()
    }

    pub(super) fn add(&mut self, source: Source) {
        if self.buckets.is_empty() {
            self.buckets = vec![0; SOURCE_BUCKETS];
        }
        self.total += 1;
        self.buckets[usize::from(source.0)] += 1;
    }

    pub(super) fn remove(&mut self, source: Source) {
        self.total -= 1;
        self.buckets[usize::from(source.0)] -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_address_or_a_network() {
        let half_open = HalfOpen::new(7);
        let of = |text: &str| half_open.source(text.parse().unwrap());
        assert_eq!(of("192.0.2.1:1"), of("192.0.2.1:2"));
        assert_eq!(of("192.0.2.1:1"), of("[::ffff:192.0.2.1]:3"));
        assert_eq!(of("[2001:db8::1]:1"), of("[2001:db8::ffff:1]:2"));
        let others = (0..100).filter(|n| of(&format!("192.0.2.{n}:1")) == of("[2001:db8::1]:1")).count();
        assert!(others < 3, "{others} of 100 share a bucket");
    }

    #[test]
    fn what_was_added_is_taken_away() {
        let mut half_open = HalfOpen::new(1);
        let source = half_open.source(([192, 0, 2, 1], 1).into());
        assert_eq!(half_open.of(source), 0);
        half_open.add(source);
        half_open.add(source);
        half_open.remove(source);
        assert_eq!((half_open.of(source), half_open.total()), (1, 1));
    }
}
