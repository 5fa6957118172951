//! How often packets are acknowledged: the peer's wishes, and ours (draft-ietf-quic-ack-frequency).

use core::time::Duration;

use warpline_wire::{Writer, frame};

use super::Connection;
use crate::crypto::Level;
use crate::error::TransportError;
use crate::limits::MIN_ACK_DELAY;
use crate::recovery::frequency;
use crate::sent_frame::SentFrame;
use crate::space::AckRequest;
use crate::time::Instant;

/// `max_ack_delay` must be below this (RFC 9000 section 18.2).
const MAX_ACK_DELAY_LIMIT: Duration = Duration::from_millis(1 << 14);
/// Packets by which an order must be upset before the peer is to tell at once: from then on a loss can be declared
/// (`kPacketThreshold`, section 9 of the draft).
const REORDERING_THRESHOLD: u64 = 3;
/// Room that an ACK_FREQUENCY frame needs at most.
const FRAME_LEN_MAX: usize = 2 + 4 * 8;

impl Connection {
    /// Takes an ACK_FREQUENCY frame.
    pub(super) fn on_ack_frequency(&mut self, wish: &frame::AckFrequency) -> Result<(), TransportError> {
        let max_delay = Duration::from_micros(wish.max_ack_delay);
        let least = MIN_ACK_DELAY.min(self.config.max_ack_delay);
        if max_delay >= MAX_ACK_DELAY_LIMIT || max_delay < least {
            return Err(TransportError::protocol(
                "ACK_FREQUENCY asks for a delay below min_ack_delay or above 2^14 ms",
            ));
        }
        self.spaces.data.acks.on_request(AckRequest {
            sequence: wish.sequence,
            threshold: wish.threshold,
            max_delay,
            reordering: wish.reordering_threshold,
        });
        Ok(())
    }

    /// Acknowledgements came: the window or the round-trip time may call for another frequency.
    #[inline]
    pub(super) fn review_ack_frequency(&mut self, now: Instant) {
        let path = &self.paths.current;
        let situation = frequency::Situation {
            now,
            window: path.congestion.window() / u64::from(path.mtu.current()),
            slow_start: path.congestion.in_slow_start(),
            srtt: path.rtt.smoothed(),
            is_clocked: path.congestion.is_clocked(),
        };
        // The wishes lie in memory that most connections touch for nothing else.
        if !self.progress.confirmed || !(self.pto.has_wished || situation.is_worth_asking()) {
            return;
        }
        let Some(wishes) = self.pto.frequency.as_deref_mut() else { return };
        wishes.review(&situation);
        self.is_quiet &= !wishes.is_pending();
    }

    #[inline]
    pub(super) fn wants_ack_frequency(&self) -> bool {
        self.pto.frequency.as_deref().is_some_and(|f| f.is_pending())
    }

    /// Writes an ACK_FREQUENCY frame if one is due.
    pub(super) fn write_ack_frequency(&mut self, w: &mut Writer<'_>) {
        if !self.wants_ack_frequency() || w.remaining() < FRAME_LEN_MAX {
            return;
        }
        let Some(wish) = self.pto.frequency.as_deref_mut().and_then(|f| f.take()) else { return };
        self.pto.has_wished = true;
        frame::AckFrequency {
            sequence: wish.sequence,
            threshold: wish.threshold,
            max_ack_delay: wish.max_delay.as_micros() as u64,
            reordering_threshold: REORDERING_THRESHOLD,
        }
        .encode(w);
        // Section 7: until it is acknowledged the larger of both delays counts.
        self.pto.peer_max_ack_delay = self.pto.peer_max_ack_delay.max(wish.max_delay);
        self.spaces.data.sent.push_token(SentFrame::AckFrequency { sequence: wish.sequence });
    }

    pub(super) fn on_ack_frequency_fate(&mut self, sequence: u64, acked: bool) {
        let Some(wishes) = self.pto.frequency.as_deref_mut() else { return };
        if !acked {
            wishes.on_lost(sequence);
        } else if let Some(delay) = wishes.on_acked(sequence) {
            self.pto.peer_max_ack_delay = delay;
        }
    }

    /// Asks for an acknowledgement without delay, in a packet that only goes out to be acknowledged (section 7).
    pub(super) fn hurry_ack(&self, w: &mut Writer<'_>, level: Level) {
        if level == Level::OneRtt && self.pto.frequency.is_some() && w.remaining() > 0 {
            frame::encode_immediate_ack(w);
        }
    }
}
