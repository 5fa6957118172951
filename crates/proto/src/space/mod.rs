//! A packet number space: what was received and is to be acknowledged, what was sent and is in flight, and its
//! CRYPTO stream (RFC 9000 section 12.3).

mod ack;
mod crypto_stream;

pub(crate) use ack::{AckConfig, AckRequest, AckState};
pub(crate) use crypto_stream::CryptoStream;

use crate::crypto::Level;
use crate::recovery::sent::SentPackets;
use crate::sent_frame::SentFrame;

/// One packet number space.
pub(crate) struct PacketSpace {
    pub(crate) level: Level,
    /// The next packet number to use.
    pub(crate) next_pn: u64,
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
            largest_acked: None,
            acks: AckState::default(),
            sent: SentPackets::default(),
            crypto: CryptoStream::default(),
            probes: 0,
            ping: false,
        }
    }

    /// Something other than an acknowledgement waits to be sent at this level.
    pub(crate) fn has_own_frames(&self) -> bool {
        self.ping || self.probes > 0 || self.crypto.has_data()
    }
}
