//! Packets sent in one packet number space, until it is known what became of them (RFC 9002 section 6, appendix A).
//!
//! Records lie in a ring indexed by packet number, what they carried in a second one. Both are emptied from the front
//! as packets settle, so that the cost per packet is constant and nothing is allocated once the rings have grown to
//! the window.

use core::ops::RangeInclusive;
use core::time::Duration;
use std::collections::VecDeque;

use warpline_frame::prefetch_line;

use super::rate::{DeliveryRate, Snapshot};
use super::rtt::RttEstimator;
use crate::time::Instant;

mod lost_run;
mod outcome;
#[cfg(test)]
mod tests;

use lost_run::LostRun;
pub use outcome::{AckError, AckOutcome, LossOutcome, LostPacket, SentInfo};

/// `kPacketThreshold` of RFC 9002 section 6.1.1.
const PACKET_THRESHOLD: u64 = 3;

/// Records past which packets that no acknowledgement is owed for are forgotten from the front. An endpoint that only
/// receives sends nothing else, and may never hear of them (RFC 9000 section 13.2.4).
const UNANSWERED_MAX: usize = 1_024;

/// Records that no acknowledgement is owed for, behind one that is: a peer that lets so many gather acknowledges nothing, and is
/// up to no good.
const UNANSWERED_FLOOD: usize = 32_768;

const ELICITING: u8 = 1;
const IN_FLIGHT: u8 = 1 << 1;
const MTU_PROBE: u8 = 1 << 2;
const UNMARKED: u8 = 1 << 3;
const APP_LIMITED: u8 = 1 << 4;
const ACKED: u8 = 1 << 5;
const LOST: u8 = 1 << 6;
const SKIPPED: u8 = 1 << 7;

/// Skipped numbers in a row that are remembered, so that an acknowledgement of them gives an attacker away. A sender
/// skips one now and then; larger gaps only arise where numbering goes on from somewhere else.
const SKIPPED_MAX: u64 = 16;

#[derive(Clone, Copy, Debug)]
struct Record {
    sent_at: Instant,
    /// Delivery at the time of sending, while the packet is open. After it, `delivered` of an acknowledged packet is a
    /// number from which on all up to this packet are acknowledged, and `first_sent_at` of a lost one is when it was
    /// declared lost.
    then: Snapshot,
    /// Where its tokens begin, counted from the first token ever, modulo 2^32. They end where the next record's begin.
    tokens_from: u32,
    size: u16,
    flags: u8,
}

impl Record {
    #[inline]
    fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Its loss is a sign of congestion.
    #[inline]
    fn counts_as_loss(&self) -> bool {
        self.flags & (IN_FLIGHT | MTU_PROBE) == IN_FLIGHT
    }

    /// It was sent on a path that is no longer in use: it is owed an acknowledgement, but says nothing of this path.
    #[inline]
    fn is_of_another_path(&self) -> bool {
        self.flags & (ELICITING | IN_FLIGHT) == ELICITING
    }

    #[inline]
    fn is_open(&self) -> bool {
        self.flags & (ACKED | LOST | SKIPPED) == 0
    }
}

/// What is gathered while the ranges of one ACK frame are walked.
#[derive(Default)]
struct Acked {
    newest: Option<Record>,
    late_bytes: u64,
}

/// The packets of one packet number space that were sent and have not settled. `T` is what a packet carried, in small
/// parts.
#[derive(Debug)]
pub struct SentPackets<T: Copy> {
    records: VecDeque<Record>,
    tokens: VecDeque<T>,
    /// Packet number of the first record.
    base: u64,
    /// Every record before it is acknowledged or lost.
    open_from: u64,
    /// Index of the first token held, modulo 2^32.
    tokens_base: u32,
    /// Index of the first token of the packet being written, modulo 2^32.
    staged_from: u32,
    /// Flags for the packet being written.
    staged_flags: u8,
    largest_acked: Option<u64>,
    bytes_in_flight: u64,
    eliciting_in_flight: usize,
    last_eliciting_sent: Option<Instant>,
    loss_time: Option<Instant>,
    /// How long a lost packet is remembered.
    linger: Duration,
    /// Lost packets that are remembered.
    lost_remembered: u32,
    /// See [`Self::is_flooded`].
    is_flooded: bool,
    /// Records at which that is looked at next.
    flood_check_at: usize,
    /// A packet of this loss episode was forgotten unacknowledged: it was truly lost.
    episode_is_real: bool,
    /// Records that acknowledgements looked at, for the test that bounds their work.
    #[cfg(test)]
    visited: usize,
}

impl<T: Copy> Default for SentPackets<T> {
    fn default() -> Self {
        Self {
            records: VecDeque::new(),
            tokens: VecDeque::new(),
            base: 0,
            open_from: 0,
            tokens_base: 0,
            staged_from: 0,
            staged_flags: 0,
            largest_acked: None,
            bytes_in_flight: 0,
            eliciting_in_flight: 0,
            last_eliciting_sent: None,
            loss_time: None,
            linger: Duration::ZERO,
            lost_remembered: 0,
            episode_is_real: false,
            is_flooded: false,
            flood_check_at: UNANSWERED_FLOOD,
            #[cfg(test)]
            visited: 0,
        }
    }
}

impl<T: Copy> SentPackets<T> {
    /// Has the oldest packet under way brought into the caches, which is what an acknowledgement is most often about; with none
    /// under way, the place that the next one will be noted at.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch_front(&self.records);
        prefetch_front(&self.tokens);
    }

    /// Notes a part of the packet being written; it is handed back when the packet's fate is known.
    #[inline]
    pub fn push_token(&mut self, token: T) {
        self.tokens.push_back(token);
    }

    /// The packet being written is an MTU probe: its loss is no sign of congestion.
    #[inline]
    pub fn stage_mtu_probe(&mut self) {
        self.staged_flags |= MTU_PROBE;
    }

    /// The packet being written goes out without an ECT mark; without this call packets in flight count as marked.
    #[inline]
    pub fn stage_unmarked(&mut self) {
        self.staged_flags |= UNMARKED;
    }

    /// Notes that packet `pn` was sent with the tokens pushed since the packet before. Numbers go up.
    #[inline]
    pub fn on_sent(&mut self, pn: u64, info: &SentInfo, delivery: &mut DeliveryRate) {
        debug_assert!(pn >= self.next_pn(), "packet numbers go up");
        if self.records.len() >= UNANSWERED_MAX {
            self.forget_unanswered();
        }
        if pn != self.next_pn() {
            self.skip_to(pn);
        }
        let mut flags = self.staged_flags;
        self.staged_flags = 0;
        let mut then = Snapshot::default();
        if info.in_flight {
            flags |= IN_FLIGHT;
            then = delivery.on_sent(info.now, self.bytes_in_flight, info.size);
            self.bytes_in_flight += u64::from(info.size);
            if delivery.is_app_limited() {
                flags |= APP_LIMITED;
            }
        }
        if info.in_flight && info.ack_eliciting {
            flags |= ELICITING;
            self.eliciting_in_flight += 1;
            self.last_eliciting_sent = Some(info.now);
        }
        self.records.push_back(Record {
            sent_at: info.now,
            then,
            tokens_from: self.staged_from,
            size: info.size,
            flags,
        });
        self.staged_from = self.tokens_base.wrapping_add(self.tokens.len() as u32);
    }

    /// Takes an ACK frame's ranges, largest first, and hands `settle` the tokens of packets acknowledged for the first
    /// time. The work is bounded by their number and that of the ranges.
    pub fn on_ack(
        &mut self,
        ranges: impl Iterator<Item = RangeInclusive<u64>>,
        now: Instant,
        delivery: &mut DeliveryRate,
        settle: &mut impl FnMut(&T),
    ) -> Result<AckOutcome, AckError> {
        let mut out = AckOutcome::default();
        let mut acked = Acked::default();
        let mut largest = None;
        for range in ranges {
            let (start, end) = (*range.start(), *range.end());
            if largest.is_none() {
                if end >= self.next_pn() {
                    return Err(AckError);
                }
                largest = Some(end);
                out.is_newest = self.largest_acked.is_none_or(|before| end > before);
                self.largest_acked = self.largest_acked.max(largest);
                out.largest_sent_at =
                    self.record(end).filter(|r| !r.is(ACKED) && !r.is_of_another_path()).map(|r| r.sent_at);
            }
            if end < self.base {
                break;
            }
            self.ack_range(start.max(self.base), end, &mut out, &mut acked, settle)?;
        }
        delivery.on_late(acked.late_bytes);
        if let Some(packet) = acked.newest {
            out.newest_sent_at = packet.sent_at;
            out.rate = delivery.on_acked(now, out.acked_bytes, packet.sent_at, &packet.then);
            out.rate.app_limited = packet.is(APP_LIMITED);
        }
        if out.spurious_losses > 0 {
            self.lost_remembered -= out.spurious_losses;
            out.all_losses_spurious = self.lost_remembered == 0 && !self.episode_is_real;
        }
        self.pop_settled(now);
        Ok(out)
    }

    /// Walks a range downwards. Each acknowledged record knows how far down its run goes, so that runs acknowledged
    /// before are passed in one step.
    #[inline]
    fn ack_range(
        &mut self,
        start: u64,
        end: u64,
        out: &mut AckOutcome,
        acked: &mut Acked,
        settle: &mut impl FnMut(&T),
    ) -> Result<(), AckError> {
        let mut pn = end;
        while pn >= start {
            let index = (pn - self.base) as usize;
            let Some(record) = self.records.get_mut(index) else { break };
            #[cfg(test)]
            {
                self.visited += 1;
            }
            let before = *record;
            if before.is(SKIPPED) {
                return Err(AckError);
            }
            record.flags |= ACKED;
            let mut next = pn;
            if before.is(ACKED) {
                next = before.then.delivered;
                record.then.delivered = next.min(start);
            } else {
                record.then.delivered = start;
                self.account_acked(index, &before, out, acked, settle);
            }
            let Some(below) = next.checked_sub(1) else { break };
            pn = below;
        }
        Ok(())
    }

    #[inline]
    fn account_acked(
        &mut self,
        index: usize,
        record: &Record,
        out: &mut AckOutcome,
        acked: &mut Acked,
        settle: &mut impl FnMut(&T),
    ) {
        out.newly_acked_packets += 1;
        out.includes_ack_eliciting |= record.is(ELICITING);
        out.newly_acked_marked += u32::from(record.flags & (IN_FLIGHT | UNMARKED) == IN_FLIGHT);
        if !record.is(MTU_PROBE) {
            out.largest_acked_size = out.largest_acked_size.max(record.size);
        }
        if record.is(LOST) {
            if record.counts_as_loss() {
                out.spurious_losses += 1;
                acked.late_bytes += u64::from(record.size);
            }
            return;
        }
        if record.is(IN_FLIGHT) {
            out.acked_bytes += u64::from(record.size);
            acked.newest.get_or_insert(*record);
        }
        self.leave_flight(record);
        self.settle(index, settle);
    }

    /// Declares packets lost (RFC 9002 section 6.1), hands `settle` their tokens and sets [`Self::loss_time`].
    /// `on_lost` is shown each lost packet that says something of congestion, oldest first.
    pub fn detect_lost(
        &mut self,
        now: Instant,
        rtt: &RttEstimator,
        delivery: &mut DeliveryRate,
        on_lost: &mut impl FnMut(&LostPacket),
        settle: &mut impl FnMut(&T),
    ) -> LossOutcome {
        let mut out = LossOutcome::default();
        self.loss_time = None;
        let Some(largest) = self.largest_acked else { return out };
        let delay = rtt.loss_delay();
        let sent_before = now.checked_sub(delay);
        let mut run = LostRun::new(rtt);
        self.linger = rtt.pto_base();
        let mut pn = self.open_from;
        while pn < largest {
            let index = (pn - self.base) as usize;
            let Some(record) = self.records.get_mut(index) else { break };
            if !record.is_open() {
                run.on_settled(record.is(ACKED));
                pn += 1;
                continue;
            }
            let late = sent_before.is_some_and(|at| record.sent_at <= at);
            if !late && largest < pn + PACKET_THRESHOLD {
                if record.flags & (IN_FLIGHT | ELICITING) != 0 {
                    self.loss_time = Some(record.sent_at + delay);
                    break;
                }
                pn += 1;
                continue;
            }
            let lost = *record;
            record.flags |= LOST;
            record.then.first_sent_at = now;
            if lost.is(ELICITING) && lost.is(IN_FLIGHT) {
                run.on_lost(lost.sent_at);
            }
            if lost.counts_as_loss() {
                self.account_lost(pn, &lost, delivery, &mut out, on_lost);
            }
            self.leave_flight(&lost);
            self.settle(index, settle);
            pn += 1;
        }
        out.persistent = run.is_persistent();
        self.pop_settled(now);
        out
    }

    fn account_lost(
        &mut self,
        number: u64,
        lost: &Record,
        delivery: &mut DeliveryRate,
        out: &mut LossOutcome,
        on_lost: &mut impl FnMut(&LostPacket),
    ) {
        if self.lost_remembered == 0 {
            self.episode_is_real = false;
        }
        self.lost_remembered += 1;
        delivery.on_lost(u64::from(lost.size));
        out.lost_packets += 1;
        out.lost_bytes += u64::from(lost.size);
        out.largest_lost_sent_at = lost.sent_at;
        out.largest_lost_size = out.largest_lost_size.max(lost.size);
        on_lost(&LostPacket {
            number,
            sent_at: lost.sent_at,
            size: lost.size,
            tx_in_flight: u64::from(lost.then.tx_in_flight),
            lost_since_sent: delivery.lost().saturating_sub(lost.then.lost),
            app_limited: lost.is(APP_LIMITED),
        });
    }

    /// When [`Self::detect_lost`] is to be called although no acknowledgement came.
    #[inline]
    pub fn loss_time(&self) -> Option<Instant> {
        self.loss_time
    }

    /// Bytes sent that are neither acknowledged nor lost.
    #[inline]
    pub fn bytes_in_flight(&self) -> u64 {
        self.bytes_in_flight
    }

    /// True while an acknowledgement is owed.
    #[inline]
    pub fn has_ack_eliciting_in_flight(&self) -> bool {
        self.eliciting_in_flight > 0
    }

    /// When the last ack-eliciting packet was sent.
    #[inline]
    pub fn last_ack_eliciting_sent(&self) -> Option<Instant> {
        self.last_eliciting_sent
    }

    /// Shows the tokens of the oldest ack-eliciting packets in flight, `max_packets` at most; they stay in flight.
    pub fn oldest_unacked(&mut self, max_packets: usize, show: &mut impl FnMut(&T)) {
        let mut left = max_packets.min(self.eliciting_in_flight);
        let mut index = (self.open_from - self.base) as usize;
        while let Some(record) = self.records.get(index).filter(|_| left > 0) {
            if record.is_open() && record.is(ELICITING) {
                left -= 1;
                self.settle(index, show);
            }
            index += 1;
        }
    }

    /// The path changed: what is in flight no longer counts for congestion control, round-trip times or delivery rates
    /// (RFC 9000 section 9.4). Losses are still found and made good.
    pub fn leave_path(&mut self) {
        // Those lost included: a late acknowledgement of one undoes nothing on the new path.
        for record in self.records.iter_mut().filter(|r| !r.is(ACKED)) {
            record.flags &= !IN_FLIGHT;
        }
        self.bytes_in_flight = 0;
        self.lost_remembered = 0;
    }

    /// Forgets every packet and hands `settle` the tokens of those that had not settled.
    pub fn discard_all(&mut self, settle: &mut impl FnMut(&T)) {
        for index in 0..self.records.len() {
            if self.records[index].is_open() {
                self.settle(index, settle);
            }
        }
        self.base = self.next_pn();
        self.open_from = self.base;
        self.records.clear();
        self.tokens_base = self.tokens_base.wrapping_add(self.tokens.len() as u32);
        self.staged_from = self.tokens_base;
        self.tokens.clear();
        self.staged_flags = 0;
        self.bytes_in_flight = 0;
        self.eliciting_in_flight = 0;
        self.loss_time = None;
        self.lost_remembered = 0;
    }

    /// Gives back the memory that the rings have in excess.
    pub fn shrink(&mut self) {
        self.records.shrink_to_fit();
        self.tokens.shrink_to_fit();
    }

    #[inline]
    fn next_pn(&self) -> u64 {
        self.base + self.records.len() as u64
    }

    #[inline]
    fn record(&self, pn: u64) -> Option<&Record> {
        self.records.get(usize::try_from(pn.checked_sub(self.base)?).ok()?)
    }

    #[inline]
    fn leave_flight(&mut self, record: &Record) {
        if record.is(IN_FLIGHT) {
            self.bytes_in_flight -= u64::from(record.size);
        }
        if record.is(ELICITING) {
            self.eliciting_in_flight -= 1;
        }
    }

    /// The number of tokens of the packets before `index`.
    #[inline]
    fn tokens_before(&self, index: usize) -> usize {
        let from = self.records.get(index).map_or(self.staged_from, |r| r.tokens_from);
        from.wrapping_sub(self.tokens_base) as usize
    }

    #[inline]
    fn settle(&self, index: usize, settle: &mut impl FnMut(&T)) {
        for token in self.tokens.range(self.tokens_before(index)..self.tokens_before(index + 1)) {
            settle(token);
        }
    }

    /// Keeps a record of packet numbers that were left out.
    #[cold]
    fn skip_to(&mut self, pn: u64) {
        if self.records.is_empty() && pn - self.next_pn() > SKIPPED_MAX {
            self.base = pn;
            self.open_from = pn;
            return;
        }
        while self.next_pn() < pn {
            self.records.push_back(Record {
                sent_at: Instant::default(),
                then: Snapshot::default(),
                tokens_from: self.staged_from,
                size: 0,
                flags: SKIPPED,
            });
        }
    }

    /// Drops the records that the front has in excess: those of which `is_over` is true, up to the first where it is
    /// not.
    #[inline]
    fn pop_while(&mut self, is_over: impl Fn(&Record, u64) -> bool) {
        let mut count = 0;
        let mut forgotten = 0;
        for record in &self.records {
            if !is_over(record, self.base + count as u64) {
                break;
            }
            count += 1;
            forgotten += u32::from(record.flags & (LOST | ACKED) == LOST && record.counts_as_loss());
        }
        if count == 0 {
            return;
        }
        self.lost_remembered -= forgotten;
        self.episode_is_real |= forgotten > 0;
        let tokens = self.tokens_before(count);
        self.tokens.drain(..tokens);
        self.tokens_base = self.tokens_base.wrapping_add(tokens as u32);
        self.records.drain(..count);
        self.base += count as u64;
    }

    fn forget_unanswered(&mut self) {
        self.pop_while(|record, _| record.flags & (IN_FLIGHT | ELICITING) == 0);
        self.open_from = self.open_from.max(self.base);
        if self.records.len() < self.flood_check_at {
            return;
        }
        let unanswered = self.records.iter().filter(|r| r.flags & (IN_FLIGHT | ELICITING | SKIPPED) == 0).count();
        self.is_flooded |= unanswered >= UNANSWERED_FLOOD / 2;
        // A large window may have as many records for good reason: not to be counted anew for each.
        self.flood_check_at = self.records.len() * 2;
    }

    /// The peer takes in packet after packet and acknowledges none: what is kept for it grows without bound.
    pub fn is_flooded(&self) -> bool {
        self.is_flooded
    }

    #[inline]
    fn pop_settled(&mut self, now: Instant) {
        while self.record(self.open_from).is_some_and(|r| !r.is_open()) {
            self.open_from += 1;
        }
        let (open_from, linger, largest_acked) = (self.open_from, self.linger, self.largest_acked);
        self.pop_while(|record, pn| {
            pn < open_from
                && if record.is(SKIPPED) {
                    // Kept until the peer has shown that it knows of later packets without claiming this one.
                    largest_acked.is_some_and(|largest| largest > pn)
                } else {
                    record.is(ACKED) || now >= record.then.first_sent_at + linger
                }
        });
    }
}

/// Has the first place of a queue that is used, or will be next, brought into the caches.
#[inline]
fn prefetch_front<T>(queue: &VecDeque<T>) {
    if queue.capacity() > 0 {
        let front = queue.as_slices().0.as_ptr();
        prefetch_line(front);
        // It may lie on two lines.
        prefetch_line(front.cast::<u8>().wrapping_add(size_of::<T>() - 1));
    }
}
