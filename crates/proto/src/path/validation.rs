//! Path validation (RFC 9000 section 8.2).

use core::time::Duration;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use crate::datagram_meta::DatagramMeta;
use crate::ids::PathCid;
use crate::limits::{AMPLIFICATION_FACTOR, PATH_RESPONSES_MAX};
use crate::rng::Rng;
use crate::time::Instant;

/// Challenges of one validation that are remembered: a response to an earlier one is as good as to the last.
const REMEMBERED: usize = 3;

/// PATH_CHALLENGEs of ours on one path, and when to give up or repeat. Each carries fresh data (section 8.2.1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Challenge {
    sent: [Option<[u8; 8]>; REMEMBERED],
    /// A frame is to be sent.
    pub(crate) to_send: bool,
    /// One of them was in a datagram of full size: the path carries those.
    pub(crate) is_full_size: bool,
    /// When another is sent.
    pub(crate) repeat_at: Instant,
    /// How long after that one.
    interval: Duration,
    /// When the path counts as dead.
    pub(crate) give_up_at: Instant,
}

impl Challenge {
    pub(crate) fn new(now: Instant, repeat: Duration, give_up: Duration) -> Self {
        Self {
            sent: [None; REMEMBERED],
            to_send: true,
            is_full_size: false,
            repeat_at: now + repeat,
            interval: repeat * 2,
            give_up_at: now + give_up,
        }
    }

    /// It is time for another. Each waits twice as long as the one before: what is sent to a path that nothing is known of
    /// must stay little (section 8.2.1).
    pub(crate) fn repeat(&mut self, now: Instant) {
        self.to_send = true;
        self.repeat_at = (now + self.interval).min(self.give_up_at);
        self.interval *= 2;
    }

    /// The data of the frame that is being written.
    pub(crate) fn next_data(&mut self, rng: &mut Rng) -> [u8; 8] {
        let data = rng.array();
        self.to_send = false;
        self.sent.rotate_right(1);
        self.sent[0] = Some(data);
        data
    }

    /// The data answers one of the frames that were sent.
    pub(crate) fn is_answered_by(&self, data: [u8; 8]) -> bool {
        self.sent.contains(&Some(data))
    }
}

/// Where a datagram goes: the peer's address and the one of ours, if the socket tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) remote: SocketAddr,
    pub(crate) local: Option<IpAddr>,
}

impl Route {
    /// Whether both are the same path. An address of ours that is not known may be any.
    #[inline]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.remote == other.remote && !self.is_from_elsewhere(other)
    }

    /// Whether this side is known to have another address on the two.
    #[inline]
    pub(crate) fn is_from_elsewhere(&self, other: &Self) -> bool {
        self.local.zip(other.local).is_some_and(|(one, other)| one != other)
    }
}

impl From<&DatagramMeta> for Route {
    #[inline]
    fn from(meta: &DatagramMeta) -> Self {
        Self { remote: meta.remote, local: meta.local }
    }
}

/// PATH_RESPONSE frames to send, each on the path that its challenge came from (section 8.2.2).
#[derive(Debug, Default)]
pub(crate) struct Responses(VecDeque<(Route, [u8; 8])>);

impl Responses {
    pub(crate) fn push(&mut self, route: Route, data: [u8; 8]) {
        if self.0.len() == PATH_RESPONSES_MAX {
            self.0.pop_front();
        }
        self.0.push_back((route, data));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next response that goes this way.
    pub(crate) fn pop_for(&mut self, route: &Route) -> Option<[u8; 8]> {
        let at = self.0.iter().position(|(to, _)| to.is_same(route))?;
        self.0.remove(at).map(|(_, data)| data)
    }

    /// Where the next response goes that does not go this way.
    pub(crate) fn elsewhere(&self, route: &Route) -> Option<Route> {
        self.0.iter().map(|(to, _)| *to).find(|to| !to.is_same(route))
    }

    pub(crate) fn goes(&self, route: &Route) -> bool {
        self.0.iter().any(|(to, _)| to.is_same(route))
    }

    /// Drops what goes this way.
    pub(crate) fn forget(&mut self, route: &Route) {
        self.0.retain(|(to, _)| !to.is_same(route));
    }
}

/// A path that the peer probes without using it yet: it is answered there, under an ID of its own and within the limit for
/// addresses that are not validated.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) route: Route,
    pub(crate) cid: PathCid,
    /// When another path may take its place.
    pub(crate) until: Instant,
    received: u64,
    sent: u64,
}

impl Visitor {
    pub(crate) fn new(route: Route, cid: PathCid, until: Instant) -> Self {
        Self { route, cid, until, received: 0, sent: 0 }
    }

    pub(crate) fn on_received(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes as u64);
    }

    pub(crate) fn on_sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes as u64);
    }

    pub(crate) fn received(&self) -> usize {
        usize::try_from(self.received).unwrap_or(usize::MAX)
    }

    pub(crate) fn budget(&self) -> u64 {
        self.received.saturating_mul(AMPLIFICATION_FACTOR).saturating_sub(self.sent)
    }
}
