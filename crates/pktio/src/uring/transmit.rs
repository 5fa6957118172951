//! Trains on their way out: each is one `sendmsg` in the submission queue.
//!
//! A send must not wait in the kernel (`MSG_DONTWAIT`), so it is finished when the kernel has taken its entry, and only
//! failures complete visibly (`IOSQE_CQE_SKIP_SUCCESS`): that way a wait can go along with the sends without being ended
//! by them. With a polling kernel thread the taking is not seen, so there every send completes visibly.

use std::io;

use io_uring::{opcode, squeue, types};

use super::ring::{Completion, Ring};
use crate::limits::TX_TRAINS_MAX;
use crate::stats::{Stat, StatsHandle};
use crate::tx::TxQueue;
use crate::udp::transmit::{Blocked, Fate, Sender};

/// After a send that found no room, so many flushes go out by `sendmmsg`, which stops at the first message without room:
/// sends of a ring would overtake it.
const CAREFUL_FLUSHES: u32 = 64;

/// Trains in the queue and in the kernel.
pub(super) struct Transmit {
    pub(super) queue: TxQueue,
    pub(super) sender: Sender,
    /// Trains that the ring has and whose fate is unknown.
    staged: usize,
    /// Flushes left that go out by `sendmmsg`.
    careful: u32,
}

impl Transmit {
    pub(super) fn new(sender: Sender, node: Option<u32>) -> io::Result<Transmit> {
        Ok(Transmit { queue: TxQueue::new(node)?, sender, staged: 0, careful: 0 })
    }

    pub(super) fn staged(&self) -> usize {
        self.staged
    }

    /// Whether what is queued has to go out by `sendmmsg`: order matters after a full socket, and trains that are to be
    /// cut into several messages are as many messages.
    pub(super) fn by_call(&self) -> bool {
        let limit = self.sender.segments_max();
        self.careful > 0
            || self.queue.pending().iter().any(|train| {
                !train.is_sent() && (train.sent > 0 || train.singles || train.part(0, limit) < train.meta.len)
            })
    }

    /// A flush by `sendmmsg` is over.
    pub(super) fn called(&mut self) {
        self.careful =
            if self.sender.blocked() == Blocked::No { self.careful.saturating_sub(1) } else { CAREFUL_FLUSHES };
    }

    /// Puts what is queued into the ring, with the place in the queue as the token. The messages are in the sender, the
    /// bytes in the queue, and both stay as they are until the train is settled.
    pub(super) fn stage(&mut self, ring: &mut Ring, socket: types::Fixed) {
        self.sender.unblock();
        for place in self.queue.first()..TX_TRAINS_MAX {
            let Some(train) = self.queue.at(place) else { return };
            if train.is_sent() || train.staged {
                continue;
            }
            let header = self.sender.describe(place, train, self.queue.bytes(train, 0, train.meta.len));
            let mut entry =
                opcode::SendMsg::new(socket, header).flags(libc::MSG_DONTWAIT as u32).build().user_data(place as u64);
            if !ring.is_sq_poll() {
                entry = entry.flags(squeue::Flags::SKIP_SUCCESS);
            }
            // SAFETY: header, name, control messages and bytes belong to `sender` and `queue`, which change no staged
            // train's, and which outlive the ring's use of them (see `Uring`'s drop).
            unsafe { ring.push(entry) };
            if let Some(train) = self.queue.at_mut(place) {
                train.staged = true;
                self.staged += 1;
            }
        }
    }

    /// The kernel has answered for the train at the completion's token.
    pub(super) fn complete(&mut self, completion: Completion, stats: &StatsHandle) -> io::Result<()> {
        let Some(train) = self.queue.at_mut(completion.token as usize).filter(|train| train.staged) else {
            return Ok(());
        };
        train.staged = false;
        self.staged -= 1;
        if completion.result >= 0 {
            train.sent = train.meta.len;
            count(stats, train.meta.len, train.meta.count());
            return Ok(());
        }
        let error = io::Error::from_raw_os_error(-completion.result);
        // The train is judged outside the queue, since the sender learns from it.
        let (mut judged, len) = (*train, train.meta.len);
        let fate = self.sender.judge(error, &mut judged, len, stats)?;
        if fate == Fate::Lost {
            judged.sent = len;
        }
        if let Some(train) = self.queue.at_mut(completion.token as usize) {
            *train = judged;
        }
        if self.sender.blocked() != Blocked::No {
            self.careful = CAREFUL_FLUSHES;
            stats.add(Stat::TxBlocked, 1);
        }
        Ok(())
    }

    /// The kernel has taken all entries, and all its answers were read: what was staged and not refused is sent.
    pub(super) fn settle(&mut self, stats: &StatsHandle) {
        for place in self.queue.first()..TX_TRAINS_MAX {
            let Some(train) = self.queue.at_mut(place) else { break };
            if train.staged {
                train.staged = false;
                train.sent = train.meta.len;
                count(stats, train.meta.len, train.meta.count());
            }
        }
        self.staged = 0;
        self.queue.sweep();
    }

    /// Lets go of what the kernel has answered for.
    pub(super) fn sweep(&mut self) {
        self.queue.sweep();
    }
}

fn count(stats: &StatsHandle, bytes: usize, datagrams: usize) {
    stats.add(Stat::TxTrains, 1);
    stats.add(Stat::TxDatagrams, datagrams);
    stats.add(Stat::TxBytes, bytes);
}
