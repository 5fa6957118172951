//! Changes of address: the peer's, by NAT rebinding and migration, and this side's, to another socket or to the server's
//! preferred address (RFC 9000 sections 8.2 and 9).

use core::time::Duration;
use std::net::SocketAddr;

use warpline_wire::{Side, frame};

use super::Connection;
use super::packet_builder::{HeaderParts, PacketBuilder};
use super::timers::Timer;
use crate::crypto::Level;
use crate::cx::Cx;
use crate::datagram_meta::{DatagramMeta, Transmit};
use crate::error::{MigrateError, TransportError};
use crate::ids::PathCid;
use crate::limits::INITIAL_DATAGRAM_MIN;
use crate::path::{Challenge, Path, Route, Visitor};
use crate::time::Instant;

/// Least room that a packet with path frames needs: header, a frame, tag.
const PACKET_MIN: usize = 64;

impl Connection {
    /// The newest packet came on another path than the one in use.
    pub(super) fn on_peer_moved(&mut self, cx: &mut Cx<'_>, meta: &DatagramMeta, non_probing: bool) {
        // RFC 9000 section 9: only clients migrate, and not before the handshake is confirmed. A probing packet gets its
        // response but moves nothing.
        if self.identity.side == Side::Client || !self.progress.confirmed || !non_probing {
            return;
        }
        let to = Route::from(meta);
        self.stir();
        tracing::debug!(from = %self.paths.current.remote, to = %to.remote, "the peer moved");
        if let Some(back) = self.paths.previous.take_if(|p| p.route().is_same(&to)) {
            return self.go_back(cx, *back);
        }
        let is_preferred = self.paths.current.route().is_from_elsewhere(&to);
        if is_preferred && self.is_candidate(&to) {
            return;
        }
        let mut path = self.new_path(to, false);
        let visitor = self.paths.visitor.take_if(|v| v.route.is_same(&to));
        path.on_received(visitor.as_deref().map_or(self.paths.arriving, Visitor::received));
        let cid = visitor.map(|v| v.cid).or_else(|| self.remote_cids.set_aside());
        if is_preferred {
            // Section 9.6.2: this side sends from where it is until the client answers there.
            path.cid = cid;
            return self.try_candidate(cx, path);
        }
        let same_host = meta.remote.ip() == self.paths.current.remote.ip() && meta.local == self.paths.current.local;
        if same_host {
            // Only the port changed: a NAT rebinding, most likely the same path (RFC 9000 section 9.4).
            path.take_measurements(&mut self.paths.current);
        }
        let old = self.enter_path(cx, path, cid, same_host);
        // Only a validated path is worth going back to, and there the peer may still be: an attacker could have sent this
        // packet on from elsewhere (section 9.3.3).
        if old.validated {
            let pto = self.pto_base();
            let mut old = old;
            old.challenge = Some(Box::new(Challenge::new(cx.now, pto, self.validation_time(pto))));
            self.drop_path(cx.now, |paths| paths.previous.take());
            self.paths.previous = Some(Box::new(old));
        } else if let Some(cid) = old.cid {
            self.release_cid(cx.now, cid);
        }
        self.challenge_current(cx);
    }

    /// A path with nothing known of it but the peer's limits.
    fn new_path(&self, route: Route, validated: bool) -> Path {
        let mut path = Path::new(route.remote, route.local, &self.config, validated);
        if let Some(params) = &self.handshake.peer_params {
            path.mtu.set_peer_max(params.max_udp_payload_size.min(65_527) as u16);
        }
        path.ecn.keep_counts(&self.paths.current.ecn);
        path
    }

    /// Makes `path` the one in use, under `cid` if there is one; returns the path before.
    fn enter_path(&mut self, cx: &mut Cx<'_>, mut path: Path, cid: Option<PathCid>, same_measurements: bool) -> Path {
        path.cid = None;
        if !same_measurements {
            path.mtu.start(cx.now);
        }
        let mut old = std::mem::replace(&mut self.paths.current, path);
        let before = self.remote_cids.reset_token();
        // A new ID on the new path keeps the two from being linked (RFC 9000 section 9.5).
        old.cid = cid.and_then(|cid| self.remote_cids.make_current(cid));
        self.update_reset_route(cx, before);
        if !same_measurements {
            self.leave_measurements();
        }
        self.observe_address();
        self.timers.set(Timer::Mtu, cx.now);
        old
    }

    /// What is under way belongs to a path that is not in use any more (RFC 9000 section 9.4).
    fn leave_measurements(&mut self) {
        self.paths.generation = self.paths.generation.wrapping_add(1);
        self.spaces.data.sent.leave_path();
        self.pto.count = 0;
        if let Some(wishes) = self.pto.frequency.as_deref_mut() {
            wishes.on_path_change();
        }
    }

    /// Back to a path that was in use before.
    fn go_back(&mut self, cx: &mut Cx<'_>, mut path: Path) {
        path.challenge = None;
        let cid = path.cid.take();
        self.paths.current = path;
        let before = self.remote_cids.reset_token();
        if let Some(left) = cid.and_then(|cid| self.remote_cids.make_current(cid)) {
            self.release_cid(cx.now, left);
        }
        self.update_reset_route(cx, before);
        self.leave_measurements();
        self.set_path_timer();
    }

    /// Section 8.2.4: three probe timeouts, of the path as it was or of one that nothing is known of.
    fn validation_time(&self, pto: Duration) -> Duration {
        (pto * 3).max(self.config.initial_rtt * 6)
    }

    fn challenge_current(&mut self, cx: &Cx<'_>) {
        let pto = self.pto_base();
        self.paths.current.challenge = Some(Box::new(Challenge::new(cx.now, pto, self.validation_time(pto))));
        self.set_path_timer();
    }

    fn challenges(&mut self) -> impl Iterator<Item = &mut Challenge> {
        let paths = &mut self.paths;
        let others = [&mut paths.previous, &mut paths.candidate].into_iter().filter_map(|p| p.as_deref_mut());
        std::iter::once(&mut paths.current).chain(others).filter_map(|p| p.challenge.as_deref_mut())
    }

    fn set_path_timer(&mut self) {
        let at = self.challenges().map(|c| c.repeat_at).min();
        self.timers.set_opt(Timer::Path, at);
    }

    /// Challenges are due again or have gone unanswered too long.
    pub(super) fn on_path_timer(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        self.stir();
        for challenge in self.challenges().filter(|c| c.repeat_at <= now && now < c.give_up_at) {
            challenge.repeat(now);
        }
        let is_dead = |path: &Path| path.challenge.as_deref().is_some_and(|c| c.give_up_at <= now);
        if self.paths.candidate.as_deref().is_some_and(is_dead) {
            tracing::debug!("nothing answers by way of the server's preferred address");
            self.drop_path(now, |paths| paths.candidate.take());
        }
        if self.paths.previous.as_deref().is_some_and(is_dead)
            && let Some(previous) = self.paths.previous.as_deref_mut()
        {
            previous.challenge = None;
        }
        if is_dead(&self.paths.current) {
            self.paths.current.challenge = None;
            // Section 9.3.2: back to the last path that was validated.
            if let Some(previous) = self.paths.previous.take() {
                tracing::debug!(back_to = %previous.remote, "the new path did not answer");
                self.go_back(cx, *previous);
            }
        }
        self.set_path_timer();
    }

    fn drop_path(&mut self, now: Instant, take: impl FnOnce(&mut super::Paths) -> Option<Box<Path>>) {
        if let Some(cid) = take(&mut self.paths).and_then(|path| path.cid) {
            self.release_cid(now, cid);
        }
    }

    fn release_cid(&mut self, now: Instant, cid: PathCid) {
        if let Err(error) = self.remote_cids.release(cid) {
            self.close_with(now, error);
        }
    }

    /// A PATH_CHALLENGE arrived: it is answered where it came from (RFC 9000 section 8.2.2).
    pub(super) fn on_path_challenge(&mut self, cx: &mut Cx<'_>, meta: &DatagramMeta, data: [u8; 8]) {
        let route = Route::from(meta);
        if !self.is_known(&route) {
            if let Some(old) = self.paths.visitor.take_if(|v| v.until <= cx.now) {
                self.paths.responses.forget(&old.route);
                self.release_cid(cx.now, old.cid);
            }
            // One at a time, and none without an ID of its own (section 9.5).
            if self.paths.visitor.is_some() {
                return;
            }
            let Some(cid) = self.remote_cids.set_aside() else { return };
            let until = cx.now + self.pto_base() * 3;
            let mut visitor = Visitor::new(route, cid, until);
            visitor.on_received(self.paths.arriving);
            self.paths.visitor = Some(Box::new(visitor));
        }
        self.paths.responses.push(route, data);
    }

    /// The path that is to be moved to once the peer has answered there.
    fn is_candidate(&self, route: &Route) -> bool {
        self.paths.candidate.as_deref().is_some_and(|p| p.route().is_same(route))
    }

    /// One of the paths that this side keeps.
    fn is_known(&self, route: &Route) -> bool {
        self.paths.current.route().is_same(route)
            || self.paths.previous.as_deref().is_some_and(|p| p.route().is_same(route))
            || self.is_candidate(route)
            || self.paths.visitor.as_deref().is_some_and(|v| v.route.is_same(route))
    }

    /// Whether a datagram from there is looked at: a client knows where its server is (RFC 9000 section 9).
    #[inline]
    pub(super) fn is_from_peer(&self, meta: &DatagramMeta) -> bool {
        self.identity.side == Side::Server
            || meta.remote == self.paths.current.remote
            || self.paths.candidate.as_deref().is_some_and(|p| p.remote == meta.remote)
            || self.paths.previous.as_deref().is_some_and(|p| p.remote == meta.remote)
    }

    /// Counts a datagram on the path that it came on.
    #[inline]
    pub(super) fn count_arrival(&mut self, meta: &DatagramMeta, bytes: usize) {
        self.paths.arriving = bytes;
        let route = Route::from(meta);
        if self.paths.current.route().is_same(&route) {
            self.paths.current.on_received(bytes);
        } else if let Some(visitor) = self.paths.visitor.as_deref_mut().filter(|v| v.route.is_same(&route)) {
            visitor.on_received(bytes);
        } else if let Some(candidate) = self.paths.candidate.as_deref_mut().filter(|p| p.route().is_same(&route)) {
            candidate.on_received(bytes);
        }
    }

    /// A PATH_RESPONSE arrived, on whichever path (RFC 9000 section 8.2.3).
    pub(super) fn on_path_response(&mut self, cx: &mut Cx<'_>, data: [u8; 8]) {
        let answers = |path: &Path| path.challenge.as_deref().is_some_and(|c| c.is_answered_by(data));
        if let Some(challenge) = self.paths.current.challenge.take_if(|c| c.is_answered_by(data)) {
            self.paths.current.validated = true;
            // The peer is here: what was sent to where it was before need not back off any further.
            self.pto.count = 0;
            if challenge.is_full_size {
                self.drop_path(cx.now, |paths| paths.previous.take());
            } else {
                // Section 8.2.1: the limit of an unknown address kept the challenge small; whether full packets pass is
                // still to be seen.
                self.challenge_current(cx);
            }
            self.replenish_cids(cx);
        } else if let Some(path) = self.paths.candidate.take_if(|p| answers(p)) {
            self.go_to_candidate(cx, *path);
        } else if let Some(path) = self.paths.previous.as_deref_mut().filter(|p| answers(p)) {
            path.challenge = None;
        }
        self.set_path_timer();
    }

    /// The check of the server's preferred address succeeded: from now on everything goes there, or comes from there (section
    /// 9.6.2).
    fn go_to_candidate(&mut self, cx: &mut Cx<'_>, mut path: Path) {
        let is_full_size = path.challenge.take().is_none_or(|c| c.is_full_size);
        path.validated = true;
        let cid = path.cid;
        tracing::debug!(remote = %path.remote, local = ?path.local, "moving to the server's preferred address");
        let mut old = self.enter_path(cx, path, cid, false);
        if let Some(cid) = old.cid.take() {
            self.release_cid(cx.now, cid);
        }
        if !is_full_size {
            self.challenge_current(cx);
        }
        if self.identity.side == Side::Client {
            // Until the server has validated the path, too, it sends from where it was.
            self.paths.previous = Some(Box::new(old));
            // A packet that does not only probe tells the server.
            self.spaces.data.ping = true;
        }
    }

    /// The handshake is confirmed: a client looks whether the server has an address that it prefers.
    pub(super) fn try_preferred_address(&mut self, cx: &mut Cx<'_>) -> Result<(), TransportError> {
        if self.identity.side == Side::Server {
            return Ok(());
        }
        let Some(preferred) = self.handshake.peer_params.as_ref().and_then(|p| p.preferred_address) else {
            return Ok(());
        };
        self.remote_cids.add_preferred(preferred.cid, preferred.reset_token)?;
        let remote = match self.paths.current.remote {
            SocketAddr::V4(_) => SocketAddr::V4(preferred.v4),
            SocketAddr::V6(_) => SocketAddr::V6(preferred.v6),
        };
        let is_usable = remote.port() != 0 && !remote.ip().is_unspecified() && !remote.ip().is_multicast();
        if !is_usable || remote == self.paths.current.remote {
            return Ok(());
        }
        let Some(cid) = self.remote_cids.set_aside() else { return Ok(()) };
        let mut path = self.new_path(Route { remote, local: self.paths.current.local }, true);
        path.cid = Some(cid);
        self.try_candidate(cx, path);
        Ok(())
    }

    /// Moves to `path` once the peer has answered there.
    fn try_candidate(&mut self, cx: &Cx<'_>, mut path: Path) {
        let pto = self.pto_base();
        path.challenge = Some(Box::new(Challenge::new(cx.now, pto, self.validation_time(pto))));
        self.drop_path(cx.now, |paths| paths.candidate.take());
        self.paths.candidate = Some(Box::new(path));
        self.set_path_timer();
    }

    /// This side (a client) has another address from now on, to the same server: everything leaves under a new connection ID,
    /// what was measured is forgotten, and the path is validated (RFC 9000 section 9.2).
    ///
    /// # Errors
    /// See [`MigrateError`]; nothing has changed then.
    pub(crate) fn migrate(&mut self, cx: &mut Cx<'_>) -> Result<(), MigrateError> {
        if self.identity.side == Side::Server {
            return Err(MigrateError::NotClient);
        }
        if !self.progress.confirmed || !self.lifecycle.is_open() {
            return Err(MigrateError::NotEstablished);
        }
        if self.handshake.peer_params.as_ref().is_some_and(|p| p.disable_active_migration) {
            return Err(MigrateError::Forbidden);
        }
        let cid = self.remote_cids.set_aside().ok_or(MigrateError::NoConnectionId)?;
        self.stir();
        self.drop_path(cx.now, |paths| paths.candidate.take());
        let path = self.new_path(Route { remote: self.paths.current.remote, local: None }, true);
        let old = self.enter_path(cx, path, Some(cid), false);
        if let Some(cid) = old.cid {
            self.release_cid(cx.now, cid);
        }
        self.challenge_current(cx);
        self.spaces.data.ping = true;
        Ok(())
    }

    /// Datagrams of path validation on paths that are not the one in use, each by itself.
    pub(super) fn write_off_path(&mut self, cx: &mut Cx<'_>, buf: &mut [u8]) -> Option<Transmit> {
        if !self.progress.complete {
            return None;
        }
        let current = self.paths.current.route();
        let wants = |path: &Option<Box<Path>>| path.as_deref().filter(|p| p.owes_challenge()).map(Path::route);
        while let Some(route) = self
            .paths
            .responses
            .elsewhere(&current)
            .or_else(|| wants(&self.paths.candidate))
            .or_else(|| wants(&self.paths.previous))
        {
            if let Some(transmit) = self.write_probe(cx, buf, route) {
                return Some(transmit);
            }
            // Nothing may be sent there, now or ever.
            self.paths.responses.forget(&route);
            let paths = &mut self.paths;
            let others = [&mut paths.previous, &mut paths.candidate].into_iter().filter_map(|p| p.as_deref_mut());
            for challenge in others.filter(|p| p.route().is_same(&route)).filter_map(|p| p.challenge.as_deref_mut()) {
                challenge.to_send = false;
            }
        }
        None
    }

    /// The ID and the bytes that may be sent on a path other than the one in use.
    fn terms_of(&self, route: &Route) -> Option<(PathCid, u64)> {
        let paths = &self.paths;
        let other = [&paths.candidate, &paths.previous].into_iter().filter_map(|p| p.as_deref());
        if let Some(path) = other.into_iter().find(|p| p.route().is_same(route)) {
            return path.cid.map(|cid| (cid, path.amplification_budget()));
        }
        paths.visitor.as_deref().filter(|v| v.route.is_same(route)).map(|v| (v.cid, v.budget()))
    }

    /// One datagram with the responses that go this way, and a challenge if one is due there.
    fn write_probe(&mut self, cx: &mut Cx<'_>, buf: &mut [u8], route: Route) -> Option<Transmit> {
        let (cid, budget) = self.terms_of(&route)?;
        let remote_cid = self.remote_cids.of_path(cid)?;
        // Sections 8.2.1 and 8.2.2: of full size, so that the path is known to carry it, unless that were too much for an
        // address that is not validated.
        let size = INITIAL_DATAGRAM_MIN.min(usize::try_from(budget).unwrap_or(usize::MAX));
        let room = buf.get_mut(..size).filter(|r| r.len() >= PACKET_MIN)?;
        let parts = HeaderParts {
            version: self.identity.version,
            dcid: &remote_cid,
            scid: &remote_cid,
            token: &[],
            number: self.spaces.data.next_pn,
            largest_acked: self.spaces.data.largest_acked,
            phase: self.keys.one_rtt.as_ref().is_some_and(|k| k.phase()),
            zero_rtt: false,
            fixed_bit: true,
        };
        let mut builder = PacketBuilder::begin(room, Level::OneRtt, &parts);
        while builder.w.remaining() >= 9
            && let Some(data) = self.paths.responses.pop_for(&route)
        {
            frame::encode_path_response(&mut builder.w, data);
        }
        let paths = &mut self.paths;
        let others = [&mut paths.candidate, &mut paths.previous].into_iter().filter_map(|p| p.as_deref_mut());
        for path in others.filter(|p| p.route().is_same(&route)) {
            path.on_sent(size);
            if let Some(challenge) = path.challenge.as_mut().filter(|c| c.to_send && builder.w.remaining() >= 9) {
                frame::encode_path_challenge(&mut builder.w, challenge.next_data(cx.rng));
                challenge.is_full_size |= size == INITIAL_DATAGRAM_MIN;
            }
        }
        if let Some(visitor) = paths.visitor.as_deref_mut().filter(|v| v.route.is_same(&route)) {
            visitor.on_sent(size);
        }
        builder.pad_to(size);
        let unsealed = builder.finish();
        self.log_sent(cx.now, &unsealed, buf);
        unsealed.seal(&mut self.keys, buf);
        self.record_off_path(cx, unsealed.len);
        let len = unsealed.len;
        Some(Transmit { remote: route.remote, local: route.local, ecn: None, len, segment_size: len })
    }

    /// The full-size padding that a datagram with path frames on the path in use needs (sections 8.2.1 and 8.2.2).
    pub(super) fn path_frames_pad(&self, room: usize) -> usize {
        let wants = self.paths.current.owes_challenge() || self.paths.responses.goes(&self.paths.current.route());
        if wants { INITIAL_DATAGRAM_MIN.min(room) } else { 0 }
    }
}
