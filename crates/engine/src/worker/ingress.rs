//! From the socket and the rings to the connections: whose is a datagram?

use crate::limits::{HELD_PACKETS, HOPS_MAX, SEND_EARLY};
use crate::partition::{slot_of, slot_of_id};
use crate::worker::Core;
use crate::worker::ahead::Ahead;
use crate::worker::links::{Links, Message, Packet, Stray};
use crate::worker::run::Loop;
use crate::worker::signals::Backlog;
use crate::worker::strays::Strays;
use std::collections::VecDeque;
use warpline_frame::Frame;
use warpline_pktio::Received;
use warpline_proto::{BATCH_MAX, DatagramMeta, Instant};
use warpline_ring::partition::{Member, Route};
use warpline_wire::cid::Layout;

/// The bit of a datagram's first byte that says that its header is a long one (RFC 9000 section 17.2): of a handshake.
const LONG_HEADER: u8 = 0x80;

/// A worker's share of the slots, and what is out of place.
#[derive(Debug)]
pub(crate) struct Share {
    /// Of the connection IDs that are issued here.
    pub(crate) layout: Layout,
    pub(crate) member: Member,
    pub(crate) strays: Strays,
    /// Datagrams for slots that are about to come here, in the order of their arrival.
    pub(crate) held: VecDeque<Packet>,
    /// The process that takes over the port.
    #[cfg(target_os = "linux")]
    pub(crate) heir: Option<std::sync::Arc<crate::restart::Heir>>,
}

impl std::fmt::Debug for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packet").field("len", &self.frame.len()).field("hops", &self.hops).finish_non_exhaustive()
    }
}

/// What became of datagrams.
#[derive(Default)]
pub(crate) struct Fates {
    pub(crate) handled: u64,
    pub(crate) passed_on: u64,
    pub(crate) dropped: u64,
    pub(crate) bequeathed: u64,
}

impl Share {
    pub(crate) fn new(member: Member, layout: Layout) -> Self {
        Self {
            layout,
            member,
            strays: Strays::new(layout),
            held: VecDeque::new(),
            #[cfg(target_os = "linux")]
            heir: None,
        }
    }

    /// Whether a datagram is for this worker, as nearly all are, with nothing more to find out about it.
    #[inline]
    fn is_own(&self, datagram: &[u8]) -> bool {
        #[cfg(target_os = "linux")]
        if self.heir.is_some() {
            return false;
        }
        self.strays.are_none_away()
            && slot_of(self.layout, datagram).is_none_or(|slot| self.member.route(slot) == Route::Own)
    }

    /// Handles a datagram, keeps it, or passes it on.
    #[inline]
    pub(crate) fn dispatch(
        &mut self,
        now: Instant,
        mut packet: Packet,
        core: &mut Core,
        links: &mut Links,
        fates: &mut Fates,
    ) {
        let route = slot_of(self.layout, &packet.frame).map_or(Route::Own, |slot| self.member.route(slot));
        let to = match route {
            Route::Own => match self.strays.holder(&packet.frame) {
                Some(holder) if packet.hops < HOPS_MAX => holder,
                #[cfg(target_os = "linux")]
                _ if self.bequeath(&packet, core, fates) => return,
                _ => {
                    fates.handled += 1;
                    return core.endpoint.handle_datagram(now, &packet.meta, &mut packet.frame);
                }
            },
            Route::Hold => {
                if self.held.len() < HELD_PACKETS {
                    self.held.push_back(packet);
                } else {
                    fates.dropped += 1;
                }
                return;
            }
            Route::To(owner) => {
                let here = self.strays.holds_any() && core.endpoint.knows(&packet.frame);
                // A datagram that wanders about is nobody's: it is dropped here, by reason.
                if here || packet.hops >= HOPS_MAX {
                    fates.handled += 1;
                    return core.endpoint.handle_datagram(now, &packet.meta, &mut packet.frame);
                }
                owner
            }
        };
        packet.hops += 1;
        if links.send(to, Message::Packet(packet)) {
            fates.passed_on += 1;
        } else {
            fates.dropped += 1;
        }
    }

    /// Passes a datagram on to the process that takes over, if there is one and no connection here is meant.
    #[cfg(target_os = "linux")]
    #[inline]
    fn bequeath(&self, packet: &Packet, core: &mut Core, fates: &mut Fates) -> bool {
        let Some(heir) = &self.heir else { return false };
        if !heir.may_own(&packet.frame) || core.endpoint.knows(&packet.frame) {
            return false;
        }
        let passed = heir.pass_on(&packet.meta, &packet.frame);
        fates.bequeathed += u64::from(passed);
        fates.dropped += u64::from(!passed);
        true
    }

    /// Takes in, or passes on, what a holder says of an ID.
    pub(crate) fn note_stray(&mut self, stray: Stray, me: u16, core: &mut Core, links: &mut Links) {
        let Some(slot) = slot_of_id(self.layout, &stray.id) else { return };
        if stray.holder == me {
            // The slot came back to the holder: it knows better.
            return;
        }
        let known = core.endpoint.has_issued(&stray.id);
        match self.member.route(slot) {
            Route::Own | Route::Hold if !(known && stray.added) => self.strays.note(&stray),
            Route::Own | Route::Hold => {}
            Route::To(owner) => drop(links.send(owner, Message::Stray(stray))),
        }
    }
}

/// Hands in what came together, and returns how many datagrams that was.
#[inline]
fn hand_in(now: Instant, meta: &DatagramMeta, together: &mut Vec<Frame>, core: &mut Core) -> u64 {
    match together.as_mut_slice() {
        [] => return 0,
        [one] => core.endpoint.handle_datagram(now, meta, one),
        several => core.endpoint.handle_datagrams(now, meta, several),
    }
    let count = together.len() as u64;
    together.clear();
    count
}

impl Loop {
    /// Takes a batch from the socket, then everything from the rings, and handles first what came by ring: what another
    /// worker pushed before a datagram arrived here is known when the datagram is handled.
    #[inline]
    pub(crate) fn receive(&mut self, now: Instant) -> bool {
        if let Err(error) = self.io.recv(&mut self.batch) {
            self.fail("receiving", &error);
        }
        let taken = self.take_over(now);
        self.found_nothing = self.batch.is_empty();
        if self.found_nothing {
            if taken > 0 {
                self.signals.looked(now, self.setup.clock.now(), None, taken);
            }
            return taken > 0;
        }
        let backlog = self.backlog();
        let mut batch = std::mem::take(&mut self.batch);
        let mut fates = Fates::default();
        let mut latest = now;
        let mut ahead = Ahead::default();
        let mut rest = batch.drain(..);
        for at in 0.. {
            ahead.look(&self.cx.core.borrow(), at, rest.as_slice());
            let Some(received) = rest.next() else { break };
            if self.handle(latest, received, &mut fates) {
                latest = self.send_early(latest);
            }
        }
        drop(rest);
        self.batch = batch;
        self.count(&fates);
        self.signals.looked(now, self.setup.clock.now(), backlog, taken + fates.handled + fates.passed_on);
        true
    }

    /// What waits behind the batch that was taken last, if the worker does not keep up.
    #[inline]
    fn backlog(&self) -> Option<Backlog> {
        match self.io.left_behind() {
            None => self.io.waited().map(Backlog::Waited),
            Some(0) => None,
            Some(left) => Some(Backlog::Left(left as u64)),
        }
    }

    /// Handles what came as one message of the socket; whether a datagram of a handshake was among it.
    #[inline]
    fn handle(&mut self, now: Instant, received: Received, fates: &mut Fates) -> bool {
        let mut core = self.cx.core.borrow_mut();
        core.now = now;
        let meta = DatagramMeta {
            remote: received.remote,
            local: received.local,
            ecn: received.ecn.map(super::run::ecn_from_io),
        };
        let mut is_handshake = false;
        for frame in received.datagrams() {
            is_handshake |= frame.first().is_some_and(|first| first & LONG_HEADER != 0);
            if self.share.is_own(&frame) {
                self.together.push(frame);
                if self.together.len() == BATCH_MAX {
                    fates.handled += hand_in(now, &meta, &mut self.together, &mut core);
                }
                continue;
            }
            fates.handled += hand_in(now, &meta, &mut self.together, &mut core);
            let packet = Packet { meta, frame, hops: 0 };
            self.share.dispatch(now, packet, &mut core, &mut self.links, fates);
        }
        fates.handled += hand_in(now, &meta, &mut self.together, &mut core);
        is_handshake
    }

    /// Sends what there is if handling datagrams has taken long since `since`; returns the time that counts from here on.
    ///
    /// A step of a handshake costs its side a tenth of a millisecond. If the answers to a batch of them left at its end, two sides
    /// with several handshakes between them would take turns and each idle half of the time.
    fn send_early(&mut self, since: Instant) -> Instant {
        let now = self.setup.clock.now();
        if now - since < SEND_EARLY {
            return since;
        }
        self.cx.core.borrow_mut().now = now;
        self.build(now);
        if let Err(error) = self.io.flush() {
            self.fail("sending", &error);
        }
        now
    }

    pub(crate) fn count(&mut self, fates: &Fates) {
        self.tally.datagrams += fates.handled;
        self.tally.handed_over += fates.passed_on;
        self.tally.handover_dropped += fates.dropped;
        self.tally.bequeathed += fates.bequeathed;
    }

    /// Takes what is in the rings from other workers: at most what they hold at a time. Returns how many messages that were.
    #[inline]
    pub(crate) fn take_over(&mut self, now: Instant) -> u64 {
        if self.links.inbound().all(|ring| ring.is_empty()) {
            return 0;
        }
        let me = self.number();
        let mut messages = std::mem::take(&mut self.messages);
        for ring in self.links.inbound() {
            ring.pop_batch(&mut messages, usize::MAX);
        }
        let taken = messages.len() as u64;
        let mut core = self.cx.core.borrow_mut();
        core.now = now;
        let mut fates = Fates::default();
        for message in messages.drain(..) {
            match message {
                Message::Packet(packet) => {
                    self.tally.taken_over += 1;
                    self.share.dispatch(now, packet, &mut core, &mut self.links, &mut fates);
                }
                Message::Stray(stray) => self.share.note_stray(stray, me, &mut core, &mut self.links),
                Message::Moved(moved) => {
                    self.tally.moved_in += self.share.take_in(*moved, &mut core, &self.cx.exec, &mut self.links);
                }
                Message::Reset(token) => _ = core.endpoint.reset(now, token),
            }
        }
        drop(core);
        self.messages = messages;
        self.count(&fates);
        taken
    }
}
