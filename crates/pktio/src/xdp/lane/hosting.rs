//! Sending for guests: workers without a queue of their own.

use std::sync::Arc;

use warpline_frame::PoolConfig;

use super::super::guest::{GuestLink, Host};
use super::super::jumbo::Jumbo;
use super::Lane;
use crate::limits::{XDP_GUEST_FRAMES, XDP_RING_LEN, XDP_TX_FRAMES};
use crate::stats::{Stat, StatsHandle};

impl Lane {
    /// How many frames are for sending, those of all guests that there may be included.
    pub(super) fn tx_frames(&self) -> usize {
        let lent = if self.is_jumbo() { 0 } else { self.guests_max * XDP_GUEST_FRAMES };
        XDP_TX_FRAMES + lent
    }

    /// The shape of the pool that a guest builds packets of several frames in; `None` if each fits one.
    pub(in crate::xdp) fn jumbo_config(&self) -> Option<PoolConfig> {
        self.jumbo.as_ref().map(Jumbo::tx_config)
    }

    /// What all guests are told.
    pub(in crate::xdp) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Sends for another worker from now on. The memory was made for so many.
    pub(in crate::xdp) fn take_in(&mut self, guest: GuestLink) {
        self.guests.push(guest);
        self.supply_guests();
    }

    /// Enters in the TX ring what the guests have ready.
    #[inline]
    pub(in crate::xdp) fn serve_guests(&mut self, stats: &StatsHandle) {
        if !self.guests.is_empty() {
            self.serve_all_guests(stats);
        }
        if self.owed > 0 {
            self.take_owed();
        }
    }

    fn serve_all_guests(&mut self, stats: &StatsHandle) {
        let mut guests = std::mem::take(&mut self.guests);
        self.held_back = false;
        guests.retain_mut(|guest| {
            // Asked before the look into its ring: what it gave before it went is there.
            let left = guest.signs().has_left();
            let all = self.serve(guest, stats);
            self.held_back |= !all;
            if left && all {
                self.owed += guest.out();
            }
            !(left && all)
        });
        self.guests = guests;
        self.supply_guests();
    }

    /// Enters in the TX ring what a guest has ready; `false` if there was no room for all of it.
    fn serve(&mut self, guest: &mut GuestLink, stats: &StatsHandle) -> bool {
        while !guest.is_done() {
            if !self.has_room_for_guests() {
                return false;
            }
            let Some(packet) = guest.next() else { break };
            if !self.is_jumbo() {
                guest.settle();
                self.umem.take_over();
            }
            if !self.send(packet) {
                stats.add(Stat::DropTxRefused, 1);
            }
        }
        true
    }

    /// Takes those frames for sending from the pool that came home there.
    #[cold]
    pub(super) fn take_owed(&mut self) {
        while self.owed > 0
            && let Some(frame) = self.umem.take()
        {
            self.tx_free.push(frame);
            self.owed -= 1;
        }
    }

    /// Whether a guest's packet can be sent and leaves room in the rings for the own ones.
    fn has_room_for_guests(&mut self) -> bool {
        if let Some(jumbo) = &self.jumbo {
            let pieces = jumbo.tx.frame_size().div_ceil(self.umem.frame_size()) + 1;
            if self.tx_free.len() < pieces {
                self.reap();
            }
            return self.tx_free.len() >= pieces;
        }
        self.umem.sending() < XDP_RING_LEN as usize - XDP_TX_FRAMES
    }

    /// Gives the guests frames to build in, as long as half of the own share is left.
    fn supply_guests(&mut self) {
        if self.is_jumbo() {
            self.guests.iter().for_each(GuestLink::wake_if_starved);
            return;
        }
        for guest in &mut self.guests {
            while guest.has_room()
                && self.tx_free.len() > XDP_TX_FRAMES / 2
                && let Some(frame) = self.tx_free.pop()
            {
                match guest.give(frame) {
                    Ok(()) => self.umem.hand_on(),
                    Err(frame) => {
                        self.tx_free.push(frame);
                        break;
                    }
                }
            }
            guest.wake_if_starved();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::config::{InterfaceName, XdpConfig};
    use super::super::super::reception::Reception;
    use super::super::{Outbound, PAYLOAD_AT, Plot};
    use super::*;
    use crate::IoKind;
    use crate::bell::{Doorbell, Waker};

    /// Nothing else wakes a worker that sleeps while the kernel has all that fits the ring.
    #[test]
    fn what_guests_have_to_send_and_there_is_no_room_for_keeps_the_owner_looking() {
        let config = XdpConfig::new(InterfaceName::new("eth0").expect("a short name"));
        let (guests, stats) = (7, StatsHandle::new(IoKind::Xdp));
        let mut lane = Lane::new(Plot { queue: 0, guests, node: None, mtu: 1500 }, &config).expect("there is memory");
        let bell = || Doorbell::new(Waker::thread());
        let (mut reception, mut arrivals) = Reception::new(&lane, bell(), guests, None);
        let mut guest = reception.admit(bell()).expect("there is room");
        lane.take_in(arrivals.pop().expect("it was admitted"));
        let mut lent = Vec::new();
        while lane.umem.sending() < XDP_RING_LEN as usize - XDP_TX_FRAMES {
            let frame = lane.tx_free.pop().expect("there are so many");
            lent.push(lane.umem.lend_to_send(frame, 0).expect("nobody else has it"));
        }
        let frame = guest.take_tx().expect("it was given some");
        assert!(guest.send(Outbound { frame, start: PAYLOAD_AT, len: 100, unfinished: false }));
        assert!(!lane.is_blocked());
        lane.serve_guests(&stats);
        assert!(lane.is_blocked(), "its packet waits");
        lane.tx_free.push(lane.umem.sent(lent[0]).expect("it was lent"));
        lane.serve_guests(&stats);
        assert!(!lane.is_blocked() && lane.frames(0).add_up());
    }
}
