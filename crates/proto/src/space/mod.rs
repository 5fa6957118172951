//! A packet number space: what was received and is to be acknowledged, what was sent and is in flight, and its
//! CRYPTO stream (RFC 9000 section 12.3).

mod ack;
mod crypto_stream;

pub(crate) use ack::{AckConfig, AckRequest, AckState};
pub(crate) use crypto_stream::CryptoStream;

use crate::crypto::Level;
use crate::recovery::sent::SentPackets;
use crate::rng::Rng;
use crate::sent_frame::SentFrame;

/// Packets before the first number is left out: an attack shows early, before the window is large.
const SKIP_FIRST: u32 = 16;
/// Packets between two later ones, on average, at most: each makes the peer acknowledge once at once, which must stay rare.
const SKIP_EVERY_MAX: u32 = 2_048;

/// One packet number space.
pub(crate) struct PacketSpace {
    pub(crate) level: Level,
    /// The next packet number to use.
    pub(crate) next_pn: u64,
    /// The number that is left out next (RFC 9000 section 21.4).
    skip_from: u64,
    /// Packets between two numbers that are left out, on average.
    skip_every: u32,
    /// Largest packet number that the peer acknowledged.
    pub(crate) largest_acked: Option<u64>,
    pub(crate) acks: AckState,
    pub(crate) sent: SentPackets<SentFrame>,
    pub(crate) crypto: CryptoStream,
    /// Packets to send although nothing is due, because the probe timeout expired (RFC 9002 section 6.2.4).
    pub(crate) probes: u8,
    /// A PING is to be sent: for a probe with nothing to repeat, or to keep the connection alive.
    pub(crate) ping: bool,
}

impl PacketSpace {
    pub(crate) fn new(level: Level) -> Self {
        Self {
            level,
            next_pn: 0,
            skip_from: u64::from(SKIP_FIRST),
            skip_every: SKIP_FIRST,
            largest_acked: None,
            acks: AckState::default(),
            sent: SentPackets::default(),
            crypto: CryptoStream::default(),
            probes: 0,
            ping: false,
        }
    }

    /// Leaves a packet number out now and then, at random: a peer that acknowledges packets before they arrived, to be sent more
    /// than the path carries, will acknowledge that one too (RFC 9000 section 21.4).
    #[inline]
    pub(crate) fn skip_now_and_then(&mut self, rng: &mut Rng) {
        if self.next_pn < self.skip_from {
            return;
        }
        self.next_pn += 1;
        self.skip_every = (self.skip_every * 2).min(SKIP_EVERY_MAX);
        self.skip_from = self.next_pn + 1 + u64::from(rng.below(self.skip_every * 2));
    }

    /// Something other than an acknowledgement waits to be sent at this level.
    pub(crate) fn has_own_frames(&self) -> bool {
        self.ping || self.probes > 0 || self.crypto.has_data()
    }
}
