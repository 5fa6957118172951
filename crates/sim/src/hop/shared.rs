//! A hop that lies on several paths, such as the bottleneck that two clients meet at.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Direction, Hop, HopCx};
use crate::Packet;

/// One hop under several names. What passes on one path is felt on the others; each path brings its own randomness.
#[derive(Debug, Clone)]
pub struct Shared {
    hop: Arc<Mutex<dyn Hop>>,
}

impl Shared {
    /// Makes `hop` one that clones of this share.
    pub fn new(hop: impl Hop + 'static) -> Self {
        Self { hop: Arc::new(Mutex::new(hop)) }
    }
}

impl Hop for Shared {
    fn forward(&mut self, cx: &mut HopCx<'_>, direction: Direction, packet: Packet) {
        // A world runs on one thread; a panic in a hop ends the run.
        self.hop.lock().unwrap_or_else(PoisonError::into_inner).forward(cx, direction, packet);
    }

    fn least_delay(&self) -> Duration {
        self.hop.lock().unwrap_or_else(PoisonError::into_inner).least_delay()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Drive, packet};
    use super::super::{Bottleneck, BottleneckConfig};
    use super::*;

    #[test]
    fn what_goes_over_one_path_is_in_the_way_on_the_other() {
        let config = BottleneckConfig { bits_per_s: 1_000_000, queue_bytes: 1 << 20, ce_above_bytes: None };
        let shared = Shared::new(Bottleneck::new(config));
        let (mut one, mut other) = (Drive::new(shared.clone()), Drive::new(shared));
        one.give(Duration::ZERO, Direction::Up, packet(972));
        other.give(Duration::ZERO, Direction::Up, packet(972));
        assert_eq!((one.times_ms(), other.times_ms()), (vec![8], vec![16]));
    }
}
