//! What the network between the sockets is like.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use warpline_sim::hop::{
    Bottleneck, BottleneckConfig, Corrupt, Delay, Direction, Duplicate, Hop, Loss, MtuLimit, Reorder, Ways,
};
use warpline_sim::path::Path;
use warpline_sim::rng::Rng;

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

    fn default_queue(&self, bits_per_s: u64) -> u64 {
        let product = 2.0 * self.delay.as_secs_f64() * bits_per_s as f64 / 8.0;
        (product as u64).max(64 << 10)
    }
}
