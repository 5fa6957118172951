//! What goes into the record of sent packets, and what comes out of it.

use crate::recovery::rate::RateSample;
use crate::time::Instant;

/// What is to be known of a packet when it is sent.
#[derive(Clone, Copy, Debug)]
pub struct SentInfo {
    /// When it is sent.
    pub now: Instant,
    /// Its size in bytes.
    pub size: u16,
    /// The peer has to acknowledge it.
    pub ack_eliciting: bool,
    /// It counts towards the bytes in flight.
    pub in_flight: bool,
}

/// What an acknowledgement changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckOutcome {
    /// Packets acknowledged for the first time, late ones that had been declared lost included.
    pub newly_acked_packets: u32,
    /// Bytes of them that were in flight.
    pub acked_bytes: u64,
    /// When the largest acknowledged packet was sent, if this is its first acknowledgement.
    pub largest_sent_at: Option<Instant>,
    /// When the newest packet among `acked_bytes` was sent.
    pub newest_sent_at: Instant,
    /// One of them was ack-eliciting.
    pub includes_ack_eliciting: bool,
    /// Size of the largest of them in bytes, MTU probes aside; 0 if there was none.
    pub largest_acked_size: u16,
    /// Newly acknowledged packets that were sent with an ECT mark.
    pub newly_acked_marked: u32,
    /// The largest acknowledged packet number went up.
    pub is_newest: bool,
    /// Packets among them that had been declared lost.
    pub spurious_losses: u32,
    /// With them, every loss of the last loss episode turned out to be none: what was done about it can be undone.
    pub all_losses_spurious: bool,
    /// The delivery rate.
    pub rate: RateSample,
}

/// What was declared lost. MTU probes are reported through their tokens alone: their loss says nothing of congestion
/// (RFC 9000 section 14.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossOutcome {
    /// Packets lost that were in flight.
    pub lost_packets: u32,
    /// Bytes of them.
    pub lost_bytes: u64,
    /// When the newest of them was sent.
    pub largest_lost_sent_at: Instant,
    /// Size of the largest of them in bytes.
    pub largest_lost_size: u16,
    /// The losses show persistent congestion (RFC 9002 section 7.6).
    pub persistent: bool,
}

/// A packet that was declared lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostPacket {
    /// Its packet number.
    pub number: u64,
    /// When it was sent.
    pub sent_at: Instant,
    /// Its size in bytes.
    pub size: u16,
    /// Bytes in flight when it was sent, its own included.
    pub tx_in_flight: u64,
    /// Bytes declared lost since it was sent, its own included.
    pub lost_since_sent: u64,
    /// The application had nothing more to send in the round trip before it.
    pub app_limited: bool,
}

/// The peer acknowledged a packet that was never sent: either a number not yet reached or one that was skipped to catch
/// this (RFC 9000 section 21.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckError;
