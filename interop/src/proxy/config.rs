//! What the network between the sockets is like.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use warpline_sim::Instant;
use warpline_sim::hop::{
    BlackHole, Bottleneck, BottleneckConfig, Corrupt, Delay, Direction, DropNth, Duplicate, Hop, Loss, MtuLimit,
    Reorder, Ways,
};
use warpline_sim::path::Path;
use warpline_sim::rng::Rng;

use crate::wire::Capture;

/// For how long a link that comes and goes does so; longer than any run.
const COMING_AND_GOING: Duration = Duration::from_secs(600);

/// IP addresses that a client has towards the server, one after the other.
const REBIND_ADDRESSES: u64 = 120;

/// The network between clients and server. [`Config::new`] gives one that changes nothing.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where clients send to; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The server.
    pub to: SocketAddr,
    /// One-way delay, in both directions.
    pub delay: Duration,
    /// Probability of loss from client to server.
    pub loss_up: f64,
    /// Probability of loss from server to client.
    pub loss_down: f64,
    /// Bits per second in each direction; none for no limit.
    pub rate: Option<u64>,
    /// Bytes that wait before the rate limit; none for one bandwidth-delay product, at least 64 KiB.
    pub queue: Option<u64>,
    /// ECN-capable packets that find more than this waiting are marked CE.
    pub ce_above: Option<u64>,
    /// Probability that a packet is held back by up to `reorder_hold`.
    pub reorder: f64,
    /// Longest time that a reordered packet is held back.
    pub reorder_hold: Duration,
    /// Probability that a packet comes twice.
    pub duplicate: f64,
    /// Probability that a packet is damaged.
    pub corrupt: f64,
    /// Largest IP packet that passes.
    pub mtu: Option<usize>,
    /// Each client gets a new address towards the server every such time, as behind a NAT that forgets.
    pub rebind_after: Option<Duration>,
    /// The times after the first one are so long instead.
    pub rebind_every: Option<Duration>,
    /// The new address is another IP address and not only another port.
    pub rebind_address: bool,
    /// The first of the 120 IPv4 addresses for that; of the loopback, so the server must be there, too.
    pub rebind_from: Ipv4Addr,
    /// Datagrams towards the server that are dropped: bit n stands for the n-th, counted from 0.
    pub drop_up: u64,
    /// The link is up for the first time, then down for the second, and so on.
    pub up_and_down: Option<(Duration, Duration)>,
    /// Every datagram is written down here.
    pub capture: Option<Capture>,
    /// Seed of everything random.
    pub seed: u64,
}

impl Config {
    /// A perfect network between a free local port and `to`.
    pub fn new(to: SocketAddr) -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            to,
            delay: Duration::ZERO,
            loss_up: 0.0,
            loss_down: 0.0,
            rate: None,
            queue: None,
            ce_above: None,
            reorder: 0.0,
            reorder_hold: Duration::from_millis(5),
            duplicate: 0.0,
            corrupt: 0.0,
            mtu: None,
            rebind_after: None,
            rebind_every: None,
            rebind_address: false,
            rebind_from: Ipv4Addr::new(127, 0, 1, 1),
            drop_up: 0,
            up_and_down: None,
            capture: None,
            seed: 0,
        }
    }

    /// With this one-way delay.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// With this probability of loss in both directions.
    #[must_use]
    pub fn loss(mut self, probability: f64) -> Self {
        self.loss_up = probability;
        self.loss_down = probability;
        self
    }

    /// The hops that this network is made of.
    pub(super) fn path(&self) -> Path {
        let mut hops: Vec<Box<dyn Hop>> = Vec::new();
        if self.drop_up != 0 {
            hops.push(Box::new(DropNth::new(Direction::Up, self.drop_up)));
        }
        if let Some((up, down)) = self.up_and_down {
            hops.push(Box::new(coming_and_going(up, down)));
        }
        if let Some(mtu) = self.mtu {
            hops.push(Box::new(MtuLimit::new(mtu)));
        }
        for (direction, loss) in [(Direction::Up, self.loss_up), (Direction::Down, self.loss_down)] {
            if loss > 0.0 {
                hops.push(Box::new(Loss::new(Ways::Only(direction), loss)));
            }
        }
        if let Some(bits_per_s) = self.rate {
            let queue_bytes = self.queue.unwrap_or_else(|| self.default_queue(bits_per_s));
            let config = BottleneckConfig { bits_per_s, queue_bytes, ce_above_bytes: self.ce_above };
            hops.push(Box::new(Bottleneck::new(config)));
        }
        if self.delay > Duration::ZERO {
            hops.push(Box::new(Delay::new(self.delay)));
        }
        if self.reorder > 0.0 {
            hops.push(Box::new(Reorder::new(self.reorder, self.reorder_hold)));
        }
        if self.duplicate > 0.0 {
            hops.push(Box::new(Duplicate::new(self.duplicate, self.reorder_hold)));
        }
        if self.corrupt > 0.0 {
            hops.push(Box::new(Corrupt::new(self.corrupt)));
        }
        Path::new(hops, Rng::new(self.seed))
    }

    /// What the server is reached from by the client that has had `earlier` addresses before.
    pub(super) fn outside(&self, earlier: u64) -> SocketAddr {
        match self.to {
            SocketAddr::V4(_) if self.rebind_address => {
                let address = u32::from(self.rebind_from) + (earlier % REBIND_ADDRESSES) as u32;
                (Ipv4Addr::from_bits(address), 0).into()
            }
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        }
    }

    fn default_queue(&self, bits_per_s: u64) -> u64 {
        let product = 2.0 * self.delay.as_secs_f64() * bits_per_s as f64 / 8.0;
        (product as u64).max(64 << 10)
    }
}

fn coming_and_going(up: Duration, down: Duration) -> BlackHole {
    let mut windows = Vec::new();
    let mut at = Instant::from_nanos(0);
    let end = at + COMING_AND_GOING;
    while at < end {
        windows.push(at + up..at + up + down);
        at = at + up + down.max(Duration::from_millis(1));
    }
    BlackHole::new(Ways::Both, windows)
}
