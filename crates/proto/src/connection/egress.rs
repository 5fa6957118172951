//! Datagrams out: GSO trains of packets, written and sealed in the transmit buffer, each packet by itself or, where the keys can do that,
//! several at once.

use warpline_wire::frame;
use warpline_wire::{ConnectionId, Side, Writer};

use super::Connection;
use super::lifecycle::State;
use super::packet_builder::{HeaderParts, PacketBuilder};
use super::timers::Timer;
use super::train::Train;
use crate::crypto::Level;
use crate::crypto::packet::TAG_LEN;
use crate::cx::Cx;
use crate::datagram_meta::Transmit;
use crate::limits::{INITIAL_DATAGRAM_MIN, TRAIN_SEGMENTS_MAX};
use crate::recovery::sent::SentInfo;
use crate::sent_frame::SentFrame;
use crate::space::PacketSpace;

/// Bytes of payload that make it worth beginning a packet in what is left of a datagram.
const PACKET_ROOM_MIN: usize = 48;
/// The same behind others in a datagram.
const LATER_ROOM_MIN: usize = PACKET_ROOM_MIN * 2;
/// Bytes of a train, so that headers included it stays below the 65,536 beyond which the kernel cuts it up.
const TRAIN_BYTES_MAX: usize = 65_408;

/// What limits the packets of one train.
struct Budget {
    /// Bytes of ack-eliciting packets that congestion control and pacing allow now.
    eliciting: u64,
    /// Bytes that the unvalidated address may still be sent.
    amplification: u64,
    /// Stopped by congestion control or pacing, not by a lack of data.
    throttled: bool,
    train: Train,
}

/// What one packet turned out to be.
#[derive(Clone, Copy)]
struct Built {
    len: usize,
    eliciting: bool,
}

/// What a packet is filled up to.
#[derive(Clone, Copy, Default)]
struct Padding {
    /// Bytes of the packet.
    to: usize,
    /// Not if it leaves so much room for a later one, which pads then.
    unless_room_for: usize,
}

impl Connection {
    /// Writes one GSO train into `buf`; `None` when there is nothing to send now.
    pub(crate) fn poll_transmit(&mut self, cx: &mut Cx<'_>, buf: &mut [u8]) -> Option<Transmit> {
        let transmit = self.next_transmit(cx, buf);
        if let Some(transmit) = &transmit {
            let count = transmit.len.div_ceil(transmit.segment_size);
            self.log_datagrams(cx.now, true, count, transmit.len);
        }
        self.log_changes(cx.now);
        transmit
    }

    fn next_transmit(&mut self, cx: &mut Cx<'_>, buf: &mut [u8]) -> Option<Transmit> {
        match self.lifecycle.state {
            State::Open => {}
            State::Closing { .. } => return self.write_last_flight(cx, buf).or_else(|| self.write_close(cx, buf)),
            State::Draining { .. } => return self.write_close(cx, buf),
            State::Closed => return None,
        }
        if self.progress.confirmed {
            self.spaces.data.skip_now_and_then(cx.rng);
        }
        self.listen_for_control();
        if !self.is_quiet
            && let Some(transmit) = self.write_off_path(cx, buf)
        {
            return Some(transmit);
        }
        self.maybe_update_keys(cx);
        if let Some(transmit) = self.write_mtu_probe(cx, buf) {
            return Some(transmit);
        }
        self.write_train(cx, buf)
    }

    pub(super) fn write_train(&mut self, cx: &mut Cx<'_>, buf: &mut [u8]) -> Option<Transmit> {
        let mut segment = self.segment_size().min(buf.len());
        let end = buf.len().min(TRAIN_BYTES_MAX);
        let mut budget = self.budget(cx);
        let mut len = 0;
        let mut first = 0;
        for _ in 0..TRAIN_SEGMENTS_MAX {
            let room = segment.min(end - len);
            if room < segment && len > 0 {
                break;
            }
            budget.train.at = len;
            let built = self.write_datagram(cx, &mut buf[len..len + room], &mut budget);
            if built == 0 {
                break;
            }
            budget.train.seal_if_full(&mut self.keys, buf);
            if len == 0 {
                // All but the last datagram of a train have the same length. One that is not full leaves no stream waiting,
                // and DATAGRAM frames are often alike: the rest of the train has its length.
                first = built;
                segment = built;
            }
            len += built;
            if built < first || budget.throttled {
                break;
            }
        }
        budget.train.seal(&mut self.keys, buf);
        if len == 0 {
            if !budget.throttled {
                self.note_app_limited();
            }
            return None;
        }
        Some(self.sent_on_path(len, first))
    }

    /// Size of full datagrams. When probes go unanswered it may be for their size: they shrink to what every path carries
    /// (RFC 9000 section 14.3, RFC 8899 section 4.3).
    fn segment_size(&self) -> usize {
        let mtu = usize::from(self.paths.current.mtu.current());
        if self.pto.count >= 2 { mtu.min(INITIAL_DATAGRAM_MIN) } else { mtu }
    }

    /// Accounts for a train on the path in use.
    fn sent_on_path(&mut self, len: usize, segment_size: usize) -> Transmit {
        let path = &mut self.paths.current;
        path.on_sent(len);
        self.counters.bytes_sent += len as u64;
        self.counters.datagrams_sent += len.div_ceil(segment_size) as u64;
        Transmit { remote: path.remote, local: path.local, ecn: path.ecn.mark(), len, segment_size }
    }

    fn note_app_limited(&mut self) {
        let in_flight = self.spaces.bytes_in_flight();
        if in_flight < self.paths.current.congestion.window() && self.progress.complete {
            self.paths.current.delivery.set_app_limited(in_flight);
            self.counters.app_limited += 1;
        }
    }

    fn budget(&mut self, cx: &Cx<'_>) -> Budget {
        let in_flight = self.spaces.bytes_in_flight();
        let path = &mut self.paths.current;
        let window = path.congestion.window();
        let mut eliciting = window.saturating_sub(in_flight);
        self.timers.stop(Timer::Pacing);
        if self.config.pacing && path.rtt.has_sample() {
            let rate = path.congestion.pacing_rate(path.rtt.smoothed());
            let mtu = path.mtu.current();
            let mut allowed = path.pacer.allow(cx.now, rate, mtu) as u64;
            // Careful resume jumps once all of the first window is acknowledged: there its end does count.
            if path.resume.is_none() && self.streams.unacknowledged() > window {
                allowed = path.pacer.spread(rate, mtu) as u64;
            }
            if eliciting < u64::from(mtu) {
                path.pacer.hold();
            } else if allowed < u64::from(mtu) {
                self.timers.set_opt(Timer::Pacing, path.pacer.next_release(cx.now, rate, mtu));
            }
            eliciting = eliciting.min(allowed);
        }
        let train = Train::new(&self.keys);
        Budget { eliciting, amplification: path.amplification_budget(), throttled: false, train }
    }

    /// Writes one datagram of coalesced packets; returns its length, 0 when there is nothing to send.
    fn write_datagram(&mut self, cx: &mut Cx<'_>, room: &mut [u8], budget: &mut Budget) -> usize {
        let limit = room.len().min(usize::try_from(budget.amplification).unwrap_or(usize::MAX));
        // RFC 9000 section 14.1: a datagram with an Initial packet has at least 1,200 bytes.
        let least = if self.spaces.initial.is_some() { INITIAL_DATAGRAM_MIN } else { PACKET_ROOM_MIN };
        if limit < least {
            return 0;
        }
        let (mut len, mut has_initial) = (0, false);
        for level in Level::ALL {
            if level != Level::OneRtt && self.spaces.at(level).is_none() {
                continue;
            }
            let least = if len > 0 { LATER_ROOM_MIN } else { PACKET_ROOM_MIN };
            if !self.wants_packet(level, budget, limit) || limit - len < least {
                continue;
            }
            let padding = match has_initial || level == Level::Initial {
                true => self.padding_for(level, len, limit, budget),
                false => Padding::default(),
            };
            let built = self.write_packet(cx, &mut room[len..limit], level, budget, padding);
            len += built.len;
            has_initial |= built.len > 0 && level == Level::Initial;
            budget.train.at += built.len;
            if built.eliciting {
                budget.eliciting = budget.eliciting.saturating_sub(built.len as u64);
            }
            if built.len > 0 && level == Level::Handshake && self.identity.side == Side::Client {
                // RFC 9001 section 4.9.1: the client's first Handshake packet ends its Initial keys.
                self.discard_space(Level::Initial);
            }
        }
        budget.amplification = budget.amplification.saturating_sub(len as u64);
        len
    }

    /// How the packet at `level` is padded in a datagram with an Initial packet, which has at least 1,200 bytes (RFC 9000 section 14.1).
    fn padding_for(&mut self, level: Level, before: usize, limit: usize, budget: &mut Budget) -> Padding {
        // What this packet may take of the window is not there for a later one.
        let after = budget.eliciting.saturating_sub(limit as u64);
        let (eliciting, throttled) = (std::mem::replace(&mut budget.eliciting, after), budget.throttled);
        let mut later = Level::ALL.into_iter().filter(|l| *l > level);
        let follows = later.any(|next| self.spaces.at(next).is_some() && self.wants_packet(next, budget, limit));
        (budget.eliciting, budget.throttled) = (eliciting, throttled);
        Padding {
            to: INITIAL_DATAGRAM_MIN.saturating_sub(before),
            unless_room_for: if follows { LATER_ROOM_MIN } else { usize::MAX },
        }
    }

    /// True when a packet of `level` has something to carry that may be sent now.
    #[inline]
    fn wants_packet(&mut self, level: Level, budget: &mut Budget, mtu: usize) -> bool {
        let has_keys = match level {
            Level::Initial => self.keys.initial.is_some(),
            Level::Handshake => self.keys.handshake.is_some(),
            Level::OneRtt => {
                self.keys.one_rtt.is_some() && (self.progress.complete || self.identity.side == Side::Server)
                    || self.sends_zero_rtt()
            }
        };
        if !has_keys {
            return false;
        }
        let wants_data = level == Level::OneRtt && self.wants_one_rtt();
        let owes_challenge = level == Level::OneRtt && self.owes_challenge();
        let Some(space) = self.spaces.at(level) else { return false };
        if space.acks.is_due() || space.probes > 0 || owes_challenge {
            return true;
        }
        if !(space.has_own_frames() || wants_data) {
            return false;
        }
        // The handshake is small and everything waits for it; data that cannot be acknowledged before it is complete must not
        // hold it back.
        if level == Level::OneRtt && budget.eliciting < mtu as u64 {
            budget.throttled = true;
            return false;
        }
        true
    }

    #[inline]
    fn wants_one_rtt(&self) -> bool {
        self.streams.has_data() || self.streams.has_control() || self.datagrams.has_data() || self.wants_control()
    }

    /// Writes and records one packet at the front of `room`; it is sealed, or waits in the train for others.
    fn write_packet(
        &mut self,
        cx: &mut Cx<'_>,
        room: &mut [u8],
        level: Level,
        budget: &mut Budget,
        padding: Padding,
    ) -> Built {
        // A challenge waits for no window: what fills it may have gone to an address where the peer is no more.
        let may_elicit = level != Level::OneRtt
            || budget.eliciting >= room.len() as u64
            || self.owes_challenge()
            || self.spaces.at(level).is_some_and(|s| s.probes > 0);
        if !may_elicit {
            budget.throttled = true;
        }
        let Some(number) = self.spaces.at(level).map(|s| s.next_pn) else { return Built { len: 0, eliciting: false } };
        let largest_acked = self.spaces.at(level).and_then(|s| s.largest_acked);
        // Short headers have none, and looking it up touches memory that nothing else does.
        let local_cid = if level == Level::OneRtt && !self.sends_zero_rtt() {
            ConnectionId::EMPTY
        } else {
            self.local_cids.handshake_cid()
        };
        let token = if level == Level::Initial { std::mem::take(&mut self.handshake.token) } else { Vec::new() };
        let fixed_bit = !self.may_grease() || cx.rng.bit();
        let remote_cid = *self.remote_cids.current();
        let parts = HeaderParts {
            version: self.identity.version,
            dcid: &remote_cid,
            scid: &local_cid,
            token: &token,
            number,
            largest_acked,
            phase: self.keys.one_rtt.as_ref().is_some_and(|k| k.phase()),
            zero_rtt: level == Level::OneRtt && self.sends_zero_rtt(),
            fixed_bit,
        };
        if room.len() < PacketBuilder::overhead(level, &parts) + PROBE_ROOM {
            if level == Level::Initial {
                self.handshake.token = token;
            }
            return Built { len: 0, eliciting: false };
        }
        let carries_paths = level == Level::OneRtt && may_elicit && !self.is_quiet;
        let for_paths = if carries_paths { self.path_frames_pad(room.len()) } else { 0 };
        let mut builder = PacketBuilder::begin(room, level, &parts);
        if level == Level::Initial {
            self.handshake.token = token;
        }
        let eliciting = self.write_frames(cx, &mut builder.w, level, may_elicit);
        if builder.is_empty() {
            return Built { len: 0, eliciting: false };
        }
        let pad_to =
            if builder.w.remaining() < padding.unless_room_for { padding.to.max(for_paths) } else { for_paths };
        let padded = pad_to > builder.len();
        if padded {
            builder.pad_to(pad_to);
        } else if may_elicit && level == Level::OneRtt && self.streams.has_data() {
            // More follows: a full packet keeps the train's datagrams alike.
            let full = builder.len() + builder.w.remaining();
            builder.pad_to(full);
        }
        let unsealed = builder.finish();
        self.log_sent(cx.now, &unsealed, room);
        if !budget.train.defer(&unsealed) {
            unsealed.seal(&mut self.keys, room);
        }
        self.record_sent(cx, level, unsealed.len, eliciting, eliciting || padded);
        Built { len: unsealed.len, eliciting }
    }

    /// True on a client that has nothing but the keys for early data to protect data with.
    fn sends_zero_rtt(&self) -> bool {
        self.keys.zero_rtt.is_some() && self.keys.one_rtt.is_none() && self.identity.side == Side::Client
    }

    fn may_grease(&self) -> bool {
        self.progress.peer_greases
    }

    #[inline]
    pub(super) fn record_sent(&mut self, cx: &Cx<'_>, level: Level, len: usize, eliciting: bool, in_flight: bool) {
        let total_in_flight = self.spaces.bytes_in_flight();
        let is_marking = self.paths.current.ecn.is_marking();
        let Some(space) = self.spaces.at(level) else { return };
        let number = space.next_pn;
        space.next_pn += 1;
        if !is_marking {
            space.sent.stage_unmarked();
        }
        let info = SentInfo { now: cx.now, size: len as u16, ack_eliciting: eliciting, in_flight };
        space.sent.on_sent(number, &info, &mut self.paths.current.delivery);
        self.counters.packets_sent += 1;
        self.pto.since = cx.now;
        if in_flight {
            let path = &mut self.paths.current;
            path.congestion.on_sent(cx.now, len as u64, total_in_flight, path.delivery.is_app_limited());
            path.pacer.on_sent(len);
            path.ecn.on_sent();
            if path.resume.as_ref().is_some_and(|resume| resume.is_unvalidated()) {
                self.resume_on_sent(cx.now);
            }
        }
        if eliciting {
            if let Some(space) = self.spaces.at(level) {
                space.probes = space.probes.saturating_sub(1);
            }
            self.on_sent_eliciting(cx.now);
        }
    }

    /// Accounts for a packet of path validation, which is sent on another path than the one in use: it is owed an
    /// acknowledgement but says nothing of the path in use.
    pub(super) fn record_off_path(&mut self, cx: &Cx<'_>, len: usize) {
        let space = &mut self.spaces.data;
        let number = space.next_pn;
        space.next_pn += 1;
        let info = SentInfo { now: cx.now, size: len as u16, ack_eliciting: false, in_flight: false };
        space.sent.stage_unmarked();
        space.sent.on_sent(number, &info, &mut self.paths.current.delivery);
        self.counters.packets_sent += 1;
        self.counters.bytes_sent += len as u64;
        self.counters.datagrams_sent += 1;
        self.on_sent_eliciting(cx.now);
    }

    /// Writes the frames of one packet; returns whether it elicits an acknowledgement.
    fn write_frames(&mut self, cx: &mut Cx<'_>, w: &mut Writer<'_>, level: Level, may_elicit: bool) -> bool {
        let (start, exponent) = (w.position(), 3);
        if let Some(space) = self.spaces.at(level)
            && write_ack(cx, w, space, level, exponent, may_elicit)
        {
            self.counters.acks_sent += 1;
            if let (Level::OneRtt, Some(keys)) = (level, self.keys.one_rtt.as_mut()) {
                keys.note_ack_sent();
            }
        }
        if !may_elicit {
            return false;
        }
        let before = w.position();
        if level == Level::OneRtt && !self.is_quiet {
            self.write_control(cx, w);
        }
        if let Some(space) = self.spaces.at(level) {
            // Both probes of a handshake carry its data: whichever arrives moves it on, a PING alone would not
            // (RFC 9002 section 6.2.4).
            if level != Level::OneRtt && space.probes > 0 && !space.crypto.has_data() {
                space.crypto.repeat();
            }
            while let Some(range) = space.crypto.write(w) {
                let len = (range.end - range.start) as u16;
                space.sent.push_token(SentFrame::Crypto { offset: range.start, len });
            }
        }
        if level == Level::OneRtt {
            let is_largest = w.position() == start && w.position() + w.remaining() + TAG_LEN >= self.segment_size();
            self.write_application_frames(w, is_largest);
        }
        let Some(space) = self.spaces.at(level) else { return false };
        let nothing_yet = w.position() == before;
        if w.remaining() > 0 && (space.ping || (nothing_yet && space.probes > 0)) {
            frame::encode_ping(w);
            space.ping = false;
            self.hurry_ack(w, level);
        }
        w.position() > before
    }

    /// `is_largest`: no packet will have more room.
    fn write_application_frames(&mut self, w: &mut Writer<'_>, is_largest: bool) {
        let sent = &mut self.spaces.data.sent;
        let mut sink = |token| sent.push_token(SentFrame::Stream(token));
        if self.streams.has_control() {
            self.streams.write_control(w, &mut sink);
        }
        if self.datagrams.has_data() {
            self.datagrams.write(w, is_largest);
        }
        if self.streams.has_data() {
            self.streams.write_data(w, &mut sink);
        }
    }

    /// A packet of exactly the size that path MTU discovery wants to try (RFC 8899 section 4.1).
    fn write_mtu_probe(&mut self, cx: &mut Cx<'_>, buf: &mut [u8]) -> Option<Transmit> {
        if !self.progress.confirmed || !self.paths.current.validated {
            return None;
        }
        let size = self.paths.current.mtu.next_probe(cx.now)?;
        let len = usize::from(size);
        let in_flight = self.spaces.bytes_in_flight();
        if len > buf.len() || self.paths.current.congestion.window() < in_flight + u64::from(size) {
            return None;
        }
        let number = self.spaces.data.next_pn;
        let remote_cid = *self.remote_cids.current();
        let parts = HeaderParts {
            version: self.identity.version,
            dcid: &remote_cid,
            scid: &remote_cid,
            token: &[],
            number,
            largest_acked: self.spaces.data.largest_acked,
            phase: self.keys.one_rtt.as_ref().is_some_and(|k| k.phase()),
            zero_rtt: false,
            fixed_bit: true,
        };
        let mut builder = PacketBuilder::begin(&mut buf[..len], Level::OneRtt, &parts);
        frame::encode_ping(&mut builder.w);
        self.hurry_ack(&mut builder.w, Level::OneRtt);
        builder.pad_to(len);
        let unsealed = builder.finish();
        self.log_sent(cx.now, &unsealed, buf);
        unsealed.seal(&mut self.keys, buf);
        self.spaces.data.sent.push_token(SentFrame::MtuProbe { size, generation: self.paths.generation });
        self.spaces.data.sent.stage_mtu_probe();
        self.paths.current.mtu.on_probe_sent(number, size);
        self.record_sent(cx, Level::OneRtt, len, true, true);
        Some(self.sent_on_path(len, len))
    }

    /// Starts a key update when the keys have sealed enough (RFC 9001 section 6.6) or the application asked for one.
    fn maybe_update_keys(&mut self, cx: &Cx<'_>) {
        let space = &self.spaces.data;
        let Some(keys) = self.keys.one_rtt.as_mut().filter(|keys| keys.update_due()) else { return };
        if self.progress.confirmed && keys.initiate(cx.now, space.next_pn, space.largest_acked) {
            self.counters.rare.key_updates += 1;
            self.log_key_update(cx.now, "local_update");
            // The peer follows when it gets a packet under the new keys; perhaps nothing else waits to be sent.
            self.spaces.data.ping = true;
        }
    }
}

/// Least room for frames in a packet.
const PROBE_ROOM: usize = 8;

/// Writes an ACK frame if one is due, or wanted by the peer and something else goes anyway.
#[inline]
fn write_ack(
    cx: &Cx<'_>,
    w: &mut Writer<'_>,
    space: &mut PacketSpace,
    level: Level,
    exponent: u8,
    with_others: bool,
) -> bool {
    let acks = &mut space.acks;
    let wanted = acks.is_due() || (with_others && acks.is_wanted()) || (space.probes > 0 && acks.can_ack());
    if !wanted || !acks.can_ack() {
        return false;
    }
    let Some(largest) = acks.largest() else { return false };
    // RFC 9000 section 13.2.5: the delay means nothing in Initial and Handshake packets.
    let delay = if level == Level::OneRtt { (acks.delay(cx.now).as_micros() as u64) >> exponent } else { 0 };
    if !frame::encode_ack(w, delay, acks.ranges(), acks.ecn_counts()) {
        return false;
    }
    acks.on_sent();
    space.sent.push_token(SentFrame::Ack { largest });
    true
}
