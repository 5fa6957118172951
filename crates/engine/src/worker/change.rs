//! A worker's steps while slots move. The protocol is in [`warpline_ring::partition`] and `docs/scaling.md`.

use crate::exec::Executor;
use crate::partition::slot_of_id;
use crate::worker::Core;
use crate::worker::ingress::{Fates, Share};
use crate::worker::links::{Links, Message, Stray};
use crate::worker::moving::{Leaving, MovedConnection};
use crate::worker::run::Loop;
use std::collections::{HashMap, HashSet};
use warpline_proto::{ConnectionHandle, Instant};
use warpline_ring::partition::{Duty, Route};
use warpline_wire::cid;

impl Loop {
    /// Carries out the step that is due. Returns whether there was one.
    pub(crate) fn perform(&mut self, duty: Duty, now: Instant) -> bool {
        match duty {
            Duty::None => return false,
            Duty::Drain if !self.is_drained() => return true,
            Duty::Give => {
                self.take_over(now);
                self.hand_over();
                self.share.member.done();
                return true;
            }
            Duty::Drain | Duty::Flush => {}
            Duty::Start => {
                self.take_over(now);
                self.start_slots(now);
            }
        }
        if self.links.flush() {
            self.share.member.done();
            self.drain = None;
            self.links.ring_all();
            if duty == Duty::Start {
                self.settled();
            }
        }
        true
    }

    /// Whether all has been handled that was in the socket when this was asked first: until then each turn takes a batch as ever.
    fn is_drained(&mut self) -> bool {
        if let Some(offset) = self.drain
            && self.io.taken_bytes() >= offset
        {
            return true;
        }
        if self.drain.is_some() && !self.found_nothing {
            return false;
        }
        match self.io.waiting_bytes() {
            Some(0) => true,
            // A look in vain is all that this back end offers.
            None => self.found_nothing,
            Some(waiting) => {
                self.drain.get_or_insert(self.io.taken_bytes() + waiting as u64);
                false
            }
        }
    }

    /// Once the rings that a change needs are there, says so.
    pub(crate) fn prepare(&mut self) {
        if self.share.member.is_steady() {
            return;
        }
        let ready = self.share.member.others().all(|worker| self.links.reaches(worker));
        if ready && self.share.member.prepared() {
            let slots = self.share.member.lasting();
            self.cx.core.borrow_mut().endpoint.set_slots(slots);
        }
    }

    /// Hands what belongs to slots that leave to their new owners: connections, or word of those that stay.
    fn hand_over(&mut self) {
        let owners: HashMap<u16, u16> = self.share.member.leaving().collect();
        let me = self.number();
        let mut core = self.cx.core.borrow_mut();
        let mut leaving = Leaving::default();
        for handle in core.endpoint.handles() {
            let slot = core.endpoint.partition_key(handle).map(cid::slot);
            let Some(&owner) = slot.and_then(|slot| owners.get(&slot)) else { continue };
            if core.is_movable(handle) {
                leaving.handles.push(handle);
                continue;
            }
            if let Some(key) = core.conns.key_of(handle) {
                self.share.strays.hold(handle, key);
            }
            for id in core.endpoint.ids(handle) {
                self.links.send(owner, Message::Stray(Stray { id, holder: me, added: true }));
            }
        }
        for stray in self.share.strays.take_away(|slot| owners.contains_key(&slot)) {
            let owner = slot_of_id(self.share.layout, &stray.id).and_then(|slot| owners.get(&slot));
            if let Some(&owner) = owner {
                self.links.send(owner, Message::Stray(stray));
            }
        }
        if self.share.strays.holds_any() {
            core.endpoint.record_routes(true);
        }
        let fallback = owners.values().next().copied();
        self.tally.moved_out += send_out(&mut core, &leaving, &self.cx.exec, &mut self.links, |slot| {
            slot.map_or(fallback, |slot| owners.get(&slot).copied())
        });
    }

    /// Handles what was held for slots that are this worker's from now on.
    fn start_slots(&mut self, now: Instant) {
        let mut core = self.cx.core.borrow_mut();
        let mut fates = Fates::default();
        while let Some(mut packet) = self.share.held.pop_front() {
            match self.share.strays.holder(&packet.frame) {
                Some(holder) => {
                    packet.hops += 1;
                    let sent = self.links.send(holder, Message::Packet(packet));
                    fates.passed_on += u64::from(sent);
                    fates.dropped += u64::from(!sent);
                }
                None => {
                    fates.handled += 1;
                    core.endpoint.handle_datagram(now, &packet.meta, &mut packet.frame);
                }
            }
        }
        drop(core);
        self.count(&fates);
    }

    /// A change is over for this worker.
    fn settled(&mut self) {
        let mut core = self.cx.core.borrow_mut();
        core.endpoint.set_slots(self.share.member.lasting());
        let Share { member, strays, .. } = &mut self.share;
        strays.retain(|handle| {
            let slot = core.endpoint.partition_key(handle).map(cid::slot);
            slot.is_some_and(|slot| member.route(slot) != Route::Own)
        });
        core.endpoint.record_routes(strays.holds_any());
        // Some that stayed may have been let go of meanwhile.
        core.unpinned |= strays.holds_any();
        if self.is_leaving() {
            drop(core);
            self.cx.with_core(|core| core.stop_accepting());
        }
    }

    /// The worker is not to go on and has no slots any more.
    pub(crate) fn is_leaving(&self) -> bool {
        let member = &self.share.member;
        !self.setup.is_reader
            && !member.is_active()
            && member.is_steady()
            && !member.table().owners().contains(&self.number())
    }

    /// Tells the owners of slots about IDs of connections that are here out of place, and moves those connections that
    /// have become free to go.
    pub(crate) fn tend_strays(&mut self) {
        let leaving_worker = self.is_leaving();
        if !self.share.strays.holds_any() && !leaving_worker {
            return;
        }
        let me = self.number();
        let mut core = self.cx.core.borrow_mut();
        let Share { layout, member, strays, .. } = &mut self.share;
        let links = &mut self.links;
        strays.changes(
            |changes| core.endpoint.take_route_changes(changes),
            |change| {
                let slot = slot_of_id(*layout, &change.id);
                if let Some(Route::To(owner)) = slot.map(|slot| member.route(slot)) {
                    let stray = Stray { id: change.id, holder: me, added: change.added };
                    links.send(owner, Message::Stray(stray));
                }
            },
        );
        strays.retain(|handle| core.endpoint.peek(handle).is_some());
        if !member.is_steady() {
            return;
        }
        let mut leaving = Leaving::default();
        if std::mem::take(&mut core.unpinned) {
            let free = |key| core.conns.get(key).is_some_and(|side| side.pinned == 0);
            let ids: HashSet<u64> = strays.movable(free);
            let held = strays.held().iter().filter(|(_, key)| ids.contains(&key.id()));
            leaving.handles = held.map(|(handle, _)| *handle).collect();
        }
        if leaving_worker {
            leaving.entries = core.remains();
            let routed = |handle: &ConnectionHandle| leaving.handles.contains(handle);
            leaving.entries.retain(|key| {
                let handle = core.conns.get(*key).and_then(|side| side.handle);
                !handle.is_some_and(|handle| routed(&handle))
            });
        }
        if leaving.handles.is_empty() && leaving.entries.is_empty() {
            return;
        }
        leaving.handles.iter().for_each(|handle| strays.release(*handle));
        // The route changes that their leaving makes are not news: the owner sees them arrive.
        let table = member.table();
        self.tally.moved_out +=
            send_out(&mut core, &leaving, &self.cx.exec, links, |slot| Some(table.owner(slot.unwrap_or_default())));
        strays.changes(|changes| core.endpoint.take_route_changes(changes), |_| ());
    }
}

/// Takes connections out and sends each to the worker that `owner` says for its slot. Returns how many.
fn send_out(
    core: &mut Core,
    leaving: &Leaving,
    exec: &Executor,
    links: &mut Links,
    owner: impl Fn(Option<u16>) -> Option<u16>,
) -> u64 {
    let mut sent = 0;
    core.take_out(leaving, exec, |moved| {
        sent += 1;
        if let Some(owner) = owner(moved.slot()) {
            links.send(owner, Message::Moved(Box::new(moved)));
        }
    });
    sent
}

impl Share {
    /// Takes in a connection, or passes it on if its slot has moved again. Returns how many were taken in.
    pub(crate) fn take_in(
        &mut self,
        moved: MovedConnection,
        core: &mut Core,
        exec: &Executor,
        links: &mut Links,
    ) -> u64 {
        if let Some(Route::To(owner)) = moved.slot().map(|slot| self.member.route(slot)) {
            links.send(owner, Message::Moved(Box::new(moved)));
            return 0;
        }
        if let Some(detached) = moved.detached() {
            self.strays.arrived(detached.ids());
        }
        core.take_in(moved, exec);
        1
    }
}
