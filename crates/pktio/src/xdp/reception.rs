//! Where guests come in: what it takes to link a worker to the owner of a queue while that one works.
//!
//! The owner's worker has its queue to itself, so nobody else can enter a guest there. Whoever opens back ends has a
//! [`Reception`] instead, with the words that the owner says to all guests and a ring to it: the owner's end of a new link goes
//! into that ring, and the owner takes it in at the beginning of a turn. For the packet path that is one look at a ring into which
//! nothing is ever put but then.
//!
//! The memory of a queue has frames for a fixed number of guests. A place is free again when its guest has gone; by then the
//! owner has all that it gave, and takes the frames back as they come home.

use std::io;
use std::sync::Arc;

use warpline_frame::{Pool, PoolConfig};
use warpline_ring::spsc::{self, Consumer, Full, Producer};

use super::guest::{self, Guest, GuestLink, Host, Premises, Signs};
use super::lane::Lane;
use crate::bell::Doorbell;
use crate::pools::place;

/// The way to the owner of a queue, for whoever opens back ends.
pub(super) struct Reception {
    host: Arc<Host>,
    owner: Doorbell,
    arrivals: Producer<GuestLink>,
    /// Those that there are, and some that have gone.
    guests: Vec<Arc<Signs>>,
    places: usize,
    jumbo: Option<PoolConfig>,
    payload_max: usize,
    node: Option<u32>,
}

impl Reception {
    /// For so many guests of a worker that is woken by `owner` and has this queue; the worker's end of the ring comes with it.
    pub(super) fn new(
        lane: &Lane,
        owner: Doorbell,
        places: usize,
        node: Option<u32>,
    ) -> (Reception, Consumer<GuestLink>) {
        let (arrivals, inlet) = spsc::channel(places.max(1));
        let reception = Reception {
            host: Arc::clone(lane.host()),
            owner,
            arrivals,
            guests: Vec::with_capacity(places),
            places,
            jumbo: lane.jumbo_config(),
            payload_max: lane.payload_max(),
            node,
        };
        (reception, inlet)
    }

    /// How many more guests there may be now; none once the owner has ended.
    pub(super) fn room(&mut self) -> usize {
        self.guests.retain(|guest| !guest.has_left());
        if self.is_closed() { 0 } else { self.places - self.guests.len() }
    }

    /// The owner has ended: there is room for nobody any more.
    pub(super) fn is_closed(&self) -> bool {
        self.host.has_ended()
    }

    /// How many guests there are.
    pub(super) fn guests(&self) -> usize {
        self.guests.len()
    }

    /// Links a worker that is woken by `guest`. Fails with `ResourceBusy` if there is no room, and as mapping does.
    pub(super) fn admit(&mut self, guest: Doorbell) -> io::Result<Guest> {
        if self.room() == 0 {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let jumbo = self.jumbo.map(|config| place(Pool::new(config)?, self.node)).transpose()?;
        let (host, owner) = (Arc::clone(&self.host), self.owner.clone());
        let (link, end) = guest::link(guest, Premises { host, owner, jumbo, payload_max: self.payload_max });
        let signs = Arc::clone(link.signs());
        // Full: as many came and went as there are places, and the owner has not had a turn since.
        self.arrivals.push(link).map_err(|Full(_)| io::ErrorKind::ResourceBusy)?;
        self.guests.push(signs);
        self.owner.ring();
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{InterfaceName, XdpConfig};
    use super::super::lane::{Outbound, PAYLOAD_AT, Plot};
    use super::*;
    use crate::bell::Waker;
    use crate::kind::IoKind;
    use crate::limits::{XDP_FRAMES, XDP_GUEST_FRAMES, XDP_TX_FRAMES};
    use crate::stats::StatsHandle;

    fn bell() -> Doorbell {
        Doorbell::new(Waker::thread())
    }

    /// A queue's memory, without a socket: what is sent is dropped.
    fn lane(guests: usize) -> Lane {
        let config = XdpConfig::new(InterfaceName::new("eth0").expect("a short name"));
        Lane::new(Plot { queue: 0, guests, node: None, mtu: 1500 }, &config).expect("there is memory")
    }

    #[test]
    fn guests_come_and_go_and_no_frame_goes_with_them() {
        const PLACES: usize = 3;
        let (mut lane, stats) = (lane(PLACES), StatsHandle::new(IoKind::Xdp));
        let (mut reception, mut arrivals) = Reception::new(&lane, bell(), PLACES, None);
        for round in 0..1_000 {
            let mut guests: Vec<Guest> = (0..PLACES).map(|_| reception.admit(bell()).expect("there is room")).collect();
            let busy = reception.admit(bell()).err().map(|error| error.kind());
            assert_eq!((busy, reception.room(), reception.guests()), (Some(io::ErrorKind::ResourceBusy), 0, PLACES));
            assert!(guests[0].take_tx().is_none(), "the owner has not had a turn");
            while let Some(link) = arrivals.pop() {
                lane.take_in(link);
            }
            // One builds packets, one of which is sent; another one has one in the making; the third does nothing.
            for _ in 0..round % 7 {
                let frame = guests[0].take_tx().expect("it was given some");
                assert!(guests[0].send(Outbound { frame, start: PAYLOAD_AT, len: 100, unfinished: false }));
            }
            let building = guests[1].take_tx();
            assert!(building.is_some() && lane.frames(0).add_up());
            if round % 2 == 0 {
                lane.serve_guests(&stats);
                assert!(lane.frames(0).add_up());
            }
            drop(guests);
            assert_eq!(reception.room(), PLACES);
            lane.serve_guests(&stats);
            drop(building);
            lane.serve_guests(&stats);
            let frames = lane.frames(0);
            assert!(frames.add_up() && frames.with_program == 0, "round {round}: {frames:?}");
            assert_eq!(frames.kept, XDP_TX_FRAMES + PLACES * XDP_GUEST_FRAMES, "round {round}: {frames:?}");
            assert_eq!(frames.capacity, XDP_FRAMES + PLACES * XDP_GUEST_FRAMES);
        }
        drop(lane);
        assert!(reception.is_closed() && reception.room() == 0, "nobody is there to receive for a guest");
    }
}
