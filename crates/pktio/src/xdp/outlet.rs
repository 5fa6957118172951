//! Where a worker's packets leave: by a queue of its own, or by way of the worker that owns one.

use warpline_frame::{Frame, Pages};

use super::guest::Guest;
use super::lane::{Lane, Outbound};
use crate::stats::StatsHandle;

/// Where packets leave, borrowed for one of the steps of sending.
pub(super) enum Outlet<'a> {
    Own(&'a mut Lane),
    Guest(&'a mut Guest),
}

impl<'a> Outlet<'a> {
    /// The worker's first queue, or, if it has none, the one that it is a guest of.
    ///
    /// # Panics
    /// If it has neither, which ends with the making of a group.
    #[inline]
    pub(super) fn of(lanes: &'a mut [Lane], guest: &'a mut Option<Guest>) -> Outlet<'a> {
        match lanes.first_mut() {
            Some(lane) => Outlet::Own(lane),
            None => Outlet::Guest(guest.as_mut().expect("a worker without a queue is a guest")),
        }
    }

    /// A frame to build a packet in.
    #[inline]
    pub(super) fn take_tx(&mut self, stats: &StatsHandle) -> Option<Frame> {
        match self {
            Outlet::Own(lane) => lane.take_tx(stats),
            Outlet::Guest(guest) => guest.take_tx(),
        }
    }

    /// Takes a frame back unused.
    #[inline]
    pub(super) fn put_tx(&mut self, frame: Frame) {
        match self {
            Outlet::Own(lane) => lane.put_tx(frame),
            Outlet::Guest(guest) => guest.put_tx(frame),
        }
    }

    /// Queues a packet. False if it was dropped.
    #[inline]
    pub(super) fn send(&mut self, packet: Outbound) -> bool {
        match self {
            Outlet::Own(lane) => lane.send(packet),
            Outlet::Guest(guest) => guest.send(packet),
        }
    }

    /// Whether packets may be given away with their checksums unfinished.
    #[inline]
    pub(super) fn finishes_checksums(&self) -> bool {
        match self {
            Outlet::Own(lane) => lane.finishes_checksums(),
            Outlet::Guest(guest) => guest.finishes_checksums(),
        }
    }

    /// Has what is queued sent.
    #[inline]
    pub(super) fn flush(&mut self, stats: &StatsHandle) {
        match self {
            Outlet::Own(lane) => {
                lane.serve_guests(stats);
                lane.flush(stats);
            }
            Outlet::Guest(guest) => guest.flush(),
        }
    }

    /// Whether only the kernel's socket is left: the queue could not be opened again, or its owner has ended.
    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Outlet::Own(lane) => lane.socket().is_none(),
            Outlet::Guest(guest) => guest.mode().is_none(),
        }
    }
}

/// What can be said of an outlet without changing it.
pub(super) struct View<'a>(pub(super) &'a [Lane], pub(super) Option<&'a Guest>);

impl View<'_> {
    /// Packets that the kernel has not taken yet. What a guest has given away is its owner's.
    pub(super) fn pending(&self) -> usize {
        self.0.first().map_or(0, Lane::pending)
    }

    /// Whether there is no room, or no frame to build in.
    pub(super) fn is_blocked(&self) -> bool {
        self.0.first().map_or_else(|| self.1.is_some_and(Guest::is_starved), Lane::is_blocked)
    }

    /// Bytes of the longest payload.
    pub(super) fn payload_max(&self) -> usize {
        let own = self.0.iter().map(Lane::payload_max).min();
        own.or_else(|| self.1.map(Guest::payload_max)).unwrap_or(0)
    }

    /// The pages of the queue's memory; `None` if it is another worker's.
    pub(super) fn pages(&self) -> Option<Pages> {
        self.0.first().map(Lane::pages)
    }
}
