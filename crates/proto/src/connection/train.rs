//! Packets of a train that wait to be sealed together.

use smallvec::SmallVec;

use super::packet_builder::Unsealed;
use crate::crypto::{BATCH_MAX, Keys, Waiting};

/// What of a train is not sealed yet.
pub(super) struct Train {
    waiting: SmallVec<[Waiting; BATCH_MAX]>,
    /// How many packets the keys take at once.
    at_once: usize,
    /// Where the next packet begins.
    pub(super) at: usize,
}

impl Train {
    /// A train that is about to be built, for a connection with these keys.
    #[inline]
    pub(super) fn new(keys: &Keys) -> Self {
        let at_once = keys.one_rtt.as_ref().map_or(1, |keys| keys.seals_at_once());
        Self { waiting: SmallVec::new(), at_once, at: 0 }
    }

    /// Takes in a packet that was just built. `false` if it is to be sealed at once.
    #[inline]
    pub(super) fn defer(&mut self, packet: &Unsealed) -> bool {
        let waits = self.at_once > 1 && packet.is_one_rtt();
        if waits {
            self.waiting.push(packet.waiting_at(self.at));
        }
        waits
    }

    /// Seals what waits, if it is as much as the keys take at once.
    #[inline]
    pub(super) fn seal_if_full(&mut self, keys: &mut Keys, train: &mut [u8]) {
        if self.waiting.len() >= self.at_once {
            self.seal(keys, train);
        }
    }

    /// Seals what waits.
    #[inline]
    pub(super) fn seal(&mut self, keys: &mut Keys, train: &mut [u8]) {
        if let Some(keys) = keys.one_rtt.as_mut()
            && !self.waiting.is_empty()
        {
            keys.seal_batch(train, &self.waiting);
            self.waiting.clear();
        }
    }
}
