//! Datagrams in: unmask, open in place, hand every frame to the part that owns it.

use warpline_frame::{Chunk, Frame as Memory};
use warpline_wire::frame::Frame;
use warpline_wire::header::{self, HeaderError, PacketKind, ProtectedHeader};
use warpline_wire::{PacketNumber, Reader, Side, TransportErrorCode, frame};

use super::Connection;
use super::ingress_batch::Ahead;
use super::lifecycle::State;
use super::stats::DropReason;
use super::timers::Timer;
use crate::crypto::{Level, Opened, packet};
use crate::cx::Cx;
use crate::datagram_meta::DatagramMeta;
use crate::error::{ConnectionError, TransportError};
use crate::limits::{CLOSE_ANSWER_LEN_MAX, KEY_UPDATE_PTOS};
use crate::path::Route;
use crate::space::AckConfig;
use crate::time::Instant;

/// Reserved bits of the first byte, which must be zero once unmasked (RFC 9000 section 17.2 and 17.3.1).
const LONG_RESERVED: u8 = 0x0c;
const SHORT_RESERVED: u8 = 0x18;
pub(super) const KEY_PHASE: u8 = 0x04;
/// The fixed bit, which may be cleared once this side has announced `grease_quic_bit` (RFC 9287).
const FIXED: u8 = 0x40;

/// A packet that was opened where it lay.
pub(super) struct OpenedPacket {
    pub(super) level: Level,
    pub(super) number: u64,
    pub(super) header_len: usize,
    pub(super) payload_len: usize,
}

/// What the frames of one packet amounted to.
#[derive(Default)]
pub(super) struct PacketSummary {
    pub(super) eliciting: bool,
    /// Some frame was not a probing frame (RFC 9000 section 9.1).
    pub(super) non_probing: bool,
}

impl Connection {
    /// Handles one datagram; `memory` is exactly it, and is opened in place unless it is open already.
    pub(super) fn handle_datagram(
        &mut self,
        cx: &mut Cx<'_>,
        meta: &DatagramMeta,
        memory: &mut Memory,
        ahead: Option<Ahead>,
    ) {
        self.counters.datagrams_received += 1;
        self.counters.bytes_received += memory.len() as u64;
        self.log_datagrams(cx.now, false, 1, memory.len());
        if !self.is_from_peer(meta) {
            return self.drop_packet(cx.now, None, memory.len(), DropReason::ForeignAddress);
        }
        self.count_arrival(meta, memory.len());
        match self.lifecycle.state {
            State::Open => {}
            State::Closing { .. } => return self.handle_while_closing(cx, memory, ahead),
            State::Draining { .. } | State::Closed => return,
        }
        self.handle_packets(cx, meta, memory, ahead);
        self.replay_early_packets(cx);
        self.log_changes(cx.now);
    }

    /// Of what comes in the closing state only the peer's CONNECTION_CLOSE matters: it says that ours has arrived. Longer
    /// datagrams are not opened to look for it; the close timer gets there by itself (RFC 9000 section 10.2.1).
    fn handle_while_closing(&mut self, cx: &mut Cx<'_>, memory: &mut Memory, ahead: Option<Ahead>) {
        if memory.len() > CLOSE_ANSWER_LEN_MAX || !self.finds_close(cx, memory, ahead) {
            self.on_packet_while_closing(cx.now);
        }
    }

    /// Whether `memory` is a 1-RTT packet that closes the connection.
    fn finds_close(&mut self, cx: &mut Cx<'_>, memory: &mut Memory, ahead: Option<Ahead>) -> bool {
        let Ok(header) = header::parse(memory, cx.routes.cid_len()) else { return false };
        if header.kind != PacketKind::OneRtt {
            return false;
        }
        let opened = match ahead {
            Some(ahead) => self.take_opened(cx, memory, &header, &ahead),
            None => self.open_packet(cx, memory, &header, Level::OneRtt),
        };
        // New keys are of no use any more, nor is a time to discard the old ones.
        self.keep_close_timer_only();
        let Ok(Some(opened)) = opened else { return false };
        self.log_received(cx.now, &header, &opened, memory);
        self.counters.packets_received += 1;
        let mut frames = Reader::new(&memory[opened.header_len..][..opened.payload_len]);
        while !frames.is_empty() {
            match frame::decode(&mut frames) {
                Ok(Frame::ConnectionClose(_)) => {
                    self.on_peer_close(cx.now, ConnectionError::LocallyClosed);
                    return true;
                }
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// Handles the packets that a datagram coalesces.
    pub(super) fn handle_packets(
        &mut self,
        cx: &mut Cx<'_>,
        meta: &DatagramMeta,
        memory: &mut Memory,
        mut ahead: Option<Ahead>,
    ) {
        let datagram_len = memory.len();
        while !memory.is_empty() && self.lifecycle.is_open() {
            let Some((header, consumed)) = self.parse_header(cx, memory) else { break };
            let rest = memory.len() - consumed;
            match self.handle_packet(cx, (meta, datagram_len), memory, &header, ahead.take()) {
                Ok(()) => {}
                Err(error) => {
                    self.close_with(cx.now, error);
                    break;
                }
            }
            // `handle_packet` has taken stream data out of the front.
            let gone = memory.len() - rest;
            memory.advance(gone);
        }
    }

    /// The next packet's header, if this side can do anything with the packet, and the packet's length.
    #[inline]
    fn parse_header(&mut self, cx: &mut Cx<'_>, memory: &Memory) -> Option<(ProtectedHeader, usize)> {
        match header::parse(memory, cx.routes.cid_len()) {
            Ok(header) => match header.kind {
                PacketKind::VersionNegotiation => {
                    self.on_version_negotiation(cx, memory, &header);
                    None
                }
                PacketKind::Retry => {
                    self.on_retry(cx, memory, &header);
                    None
                }
                _ => {
                    let len = header.packet_len;
                    Some((header, len))
                }
            },
            Err(HeaderError::UnsupportedVersion { .. } | _) => {
                self.drop_packet(cx.now, None, memory.len(), DropReason::Malformed);
                None
            }
        }
    }

    fn handle_packet(
        &mut self,
        cx: &mut Cx<'_>,
        (meta, datagram_len): (&DatagramMeta, usize),
        memory: &mut Memory,
        header: &ProtectedHeader,
        ahead: Option<Ahead>,
    ) -> Result<(), TransportError> {
        let level = match header.kind {
            PacketKind::Initial => Level::Initial,
            PacketKind::Handshake => Level::Handshake,
            PacketKind::OneRtt => Level::OneRtt,
            PacketKind::ZeroRtt if self.takes_zero_rtt(header) => Level::OneRtt,
            PacketKind::ZeroRtt => {
                self.keep_early_packet(cx.now, meta, &memory[..header.packet_len]);
                return Ok(());
            }
            PacketKind::Retry | PacketKind::VersionNegotiation => {
                self.drop_packet(cx.now, Some(header.kind), header.packet_len, DropReason::Unexpected);
                return Ok(());
            }
        };
        let takes_version = match level {
            Level::Initial => self.takes_initial(cx, header.version),
            Level::Handshake => header.version == self.identity.version,
            Level::OneRtt => true,
        };
        if !takes_version {
            self.drop_packet(cx.now, Some(header.kind), header.packet_len, DropReason::UnknownVersion);
            return Ok(());
        }
        if level == Level::Initial && self.identity.side == Side::Server && datagram_len < 1200 {
            // RFC 9000 section 14.1.
            self.drop_packet(cx.now, Some(header.kind), header.packet_len, DropReason::SmallInitial);
            return Ok(());
        }
        if level == Level::Initial && self.identity.side == Side::Client && !header.token.is_empty() {
            // RFC 9000 section 17.2.2: servers send no tokens in Initial packets.
            self.drop_packet(cx.now, Some(header.kind), header.packet_len, DropReason::Unexpected);
            return Ok(());
        }
        let opened = match (level, ahead) {
            (Level::Initial, _) => self.open_initial(cx, memory, header)?,
            (_, Some(ahead)) => self.take_opened(cx, memory, header, &ahead)?,
            (_, None) => self.open_packet(cx, memory, header, level)?,
        };
        let Some(opened) = opened else { return Ok(()) };
        if !self.on_authentic(cx, header, level) {
            self.drop_packet(cx.now, Some(header.kind), header.packet_len, DropReason::Unexpected);
            return Ok(());
        }
        self.log_received(cx.now, header, &opened, memory);
        self.counters.packets_received += 1;
        let summary = self.handle_frames(cx, meta, memory, &opened, header)?;
        let config = AckConfig { immediate: level != Level::OneRtt, max_delay: self.config.max_ack_delay };
        let Some(space) = self.spaces.at(level) else { return Ok(()) };
        let is_newest = space.acks.largest().is_none_or(|largest| opened.number > largest);
        space.acks.on_packet(cx.now, opened.number, summary.eliciting, meta.ecn, config);
        if is_newest && level == Level::OneRtt && !self.paths.current.route().is_same(&Route::from(meta)) {
            self.on_peer_moved(cx, meta, summary.non_probing);
        }
        Ok(())
    }

    /// Unmasks and opens a packet. `None`: dropped, which is counted.
    #[inline]
    pub(super) fn open_packet(
        &mut self,
        cx: &mut Cx<'_>,
        memory: &mut Memory,
        header: &ProtectedHeader,
        level: Level,
    ) -> Result<Option<OpenedPacket>, TransportError> {
        let bytes = &mut memory[..header.packet_len];
        let early = header.kind == PacketKind::ZeroRtt;
        let header_key = match level {
            Level::Initial => self.keys.initial.as_deref().map(|k| &*k.remote.header),
            Level::Handshake => self.keys.handshake.as_deref().map(|k| &*k.remote.header),
            Level::OneRtt if early => self.keys.zero_rtt.as_deref().map(|k| &*k.header),
            // RFC 9001 section 5.7: a server does not read 1-RTT packets before the handshake is complete.
            Level::OneRtt if !self.progress.complete => None,
            Level::OneRtt => self.keys.one_rtt.as_ref().map(|k| k.remote_header()),
        };
        let Some(header_key) = header_key else { return self.dropped(cx.now, header, DropReason::NoKeys) };
        let Some((first, truncated, pn_len)) = packet::unmask(header_key, bytes, header.pn_offset) else {
            return self.dropped(cx.now, header, DropReason::Malformed);
        };
        let Some(space) = self.spaces.at(level) else { return self.dropped(cx.now, header, DropReason::NoKeys) };
        let number = PacketNumber::expand(truncated, pn_len, space.acks.largest()).0;
        if space.acks.is_duplicate(number) {
            return self.dropped(cx.now, header, DropReason::Duplicate);
        }
        let header_len = header.pn_offset + pn_len;
        let payload_len = match level {
            Level::Initial => {
                let Some(keys) = self.keys.initial.as_deref() else {
                    return self.dropped(cx.now, header, DropReason::NoKeys);
                };
                packet::open(&*keys.remote.packet, bytes, header_len, number)
            }
            Level::Handshake => {
                let Some(keys) = self.keys.handshake.as_deref() else {
                    return self.dropped(cx.now, header, DropReason::NoKeys);
                };
                packet::open(&*keys.remote.packet, bytes, header_len, number)
            }
            Level::OneRtt if early => self.open_zero_rtt(bytes, header_len, number),
            Level::OneRtt => self.open_one_rtt(cx, first & KEY_PHASE != 0, bytes, header_len, number)?,
        };
        let Some(payload_len) = payload_len else { return self.not_authentic(cx, memory, header, level) };
        self.check_opened(cx, header, OpenedPacket { level, number, header_len, payload_len }, first)
    }

    /// The checks of an authentic packet whose unmasked header begins with `first`. `None`: dropped, which is counted.
    #[inline]
    pub(super) fn check_opened(
        &mut self,
        cx: &Cx<'_>,
        header: &ProtectedHeader,
        opened: OpenedPacket,
        first: u8,
    ) -> Result<Option<OpenedPacket>, TransportError> {
        let reserved = if header.kind == PacketKind::OneRtt { SHORT_RESERVED } else { LONG_RESERVED };
        if first & reserved != 0 {
            self.progress.heard = true;
            return Err(TransportError::protocol("reserved header bits are set"));
        }
        if first & FIXED == 0 && !self.config.grease_quic_bit {
            return self.dropped(cx.now, header, DropReason::Malformed);
        }
        if opened.payload_len == 0 {
            self.progress.heard = true;
            return Err(TransportError::protocol("a packet without frames"));
        }
        Ok(Some(opened))
    }

    pub(super) fn dropped<T>(
        &mut self,
        now: Instant,
        header: &ProtectedHeader,
        reason: DropReason,
    ) -> Result<Option<T>, TransportError> {
        self.drop_packet(now, Some(header.kind), header.packet_len, reason);
        Ok(None)
    }

    #[inline]
    pub(super) fn open_one_rtt(
        &mut self,
        cx: &mut Cx<'_>,
        phase: bool,
        bytes: &mut [u8],
        header_len: usize,
        number: u64,
    ) -> Result<Option<usize>, TransportError> {
        let Some(keys) = self.keys.one_rtt.as_mut() else { return Ok(None) };
        let Some(opened) = keys.open(phase, bytes, header_len, number) else { return Ok(None) };
        self.on_opened(cx.now, &opened, number)?;
        Ok(Some(opened.payload_len))
    }

    /// What opening a 1-RTT packet says of the keys.
    #[inline]
    pub(super) fn on_opened(&mut self, now: Instant, opened: &Opened, number: u64) -> Result<(), TransportError> {
        if opened.outdated {
            return Err(TransportError::new(
                TransportErrorCode::KEY_UPDATE_ERROR,
                "old keys for a packet after those under newer ones",
            ));
        }
        if opened.updated {
            let next_pn = self.spaces.data.next_pn;
            if !self.keys.one_rtt.as_mut().is_some_and(|keys| keys.follow(number, next_pn)) {
                return Err(TransportError::new(
                    TransportErrorCode::KEY_UPDATE_ERROR,
                    "keys updated again before the last update was acknowledged",
                ));
            }
            self.counters.rare.key_updates += 1;
            self.log_key_update(now, "remote_update");
        }
        if opened.updated || opened.settled {
            // RFC 9001 section 6.5: from the first packet under the new keys on.
            self.timers.set(Timer::KeyDiscard, now + self.pto_base() * KEY_UPDATE_PTOS);
        }
        Ok(())
    }

    /// A packet that did not open: a forgery, which counts against the cipher's integrity limit (RFC 9001 section 6.6), or a stateless
    /// reset that looks like one of the connection's packets (RFC 9000 section 10.3.1). Its tag is as it came.
    #[cold]
    pub(super) fn not_authentic(
        &mut self,
        cx: &mut Cx<'_>,
        memory: &Memory,
        header: &ProtectedHeader,
        level: Level,
    ) -> Result<Option<OpenedPacket>, TransportError> {
        let token = memory.last_chunk::<16>().filter(|_| level == Level::OneRtt);
        if token.is_some_and(|token| cx.routes.find_reset_token(token) == Some(cx.handle)) {
            self.on_stateless_reset(cx.now);
            return Ok(None);
        }
        self.keys.failed_opens += 1;
        let limit = self.keys.one_rtt.as_ref().map_or(u64::MAX, |k| k.integrity_limit());
        if level == Level::OneRtt && self.keys.failed_opens >= limit {
            return Err(TransportError::new(
                TransportErrorCode::AEAD_LIMIT_REACHED,
                "too many packets failed authentication",
            ));
        }
        self.dropped(cx.now, header, DropReason::NotAuthentic)
    }

    /// What the mere fact of an authentic packet changes. `false`: it is to be dropped, since its source ID is another one than that
    /// of the peer's first packet (RFC 9000 section 7.2).
    #[inline]
    fn on_authentic(&mut self, cx: &mut Cx<'_>, header: &ProtectedHeader, level: Level) -> bool {
        if level == Level::OneRtt {
            self.on_heard(cx.now);
            return true;
        }
        if !self.progress.heard {
            self.progress.heard = true;
            if self.identity.side == Side::Client {
                self.handshake.peer_scid = Some(header.scid);
                self.remote_cids.set_handshake_cid(header.scid);
            }
        }
        if self.handshake.peer_scid != Some(header.scid) {
            return false;
        }
        self.on_heard(cx.now);
        if level == Level::Handshake && self.identity.side == Side::Server {
            // RFC 9000 section 8.1: a Handshake packet proves the address; RFC 9001 section 4.9.1: and ends the Initial keys.
            self.paths.current.validated = true;
            self.discard_space(Level::Initial);
        }
        true
    }

    fn handle_frames(
        &mut self,
        cx: &mut Cx<'_>,
        meta: &DatagramMeta,
        memory: &mut Memory,
        opened: &OpenedPacket,
        header: &ProtectedHeader,
    ) -> Result<PacketSummary, TransportError> {
        memory.advance(opened.header_len);
        let mut left = opened.payload_len;
        let mut summary = PacketSummary::default();
        while left > 0 && self.lifecycle.is_open() {
            let mut reader = Reader::new(&memory[..left]);
            let next = frame::decode(&mut reader).map_err(frame_error)?;
            let used = reader.position();
            let kind = next.frame_type();
            if header.kind != PacketKind::OneRtt && !next.allowed_in(header.kind) {
                return Err(TransportError::protocol("a frame that this packet must not carry").in_frame(kind));
            }
            summary.eliciting |= next.is_ack_eliciting();
            summary.non_probing |= !next.is_probing();
            match next {
                frame::Frame::Stream(s) => {
                    let (id, offset, fin, len) = (s.id, s.offset, s.fin, s.data.len());
                    memory.advance(used - len);
                    let data = take(memory, len);
                    self.streams.on_stream(id, offset, fin, data).map_err(|e| e.into_transport(kind))?;
                    if header.kind == PacketKind::ZeroRtt {
                        self.streams.mark_early(id);
                    }
                }
                frame::Frame::Datagram(data) => {
                    let len = data.len();
                    memory.advance(used - len);
                    let data = take(memory, len);
                    self.datagrams.on_datagram(data).map_err(|e| e.in_frame(kind))?;
                }
                other => {
                    if !matches!(other, Frame::Ack(_) | Frame::Padding(_) | Frame::Ping) {
                        self.stir();
                    }
                    self.on_frame(cx, meta, other, opened.level, header).map_err(|e| e.in_frame(kind))?;
                    memory.advance(used);
                }
            }
            left -= used;
        }
        Ok(summary)
    }
}

/// The front of `memory` as a chunk of its own.
#[inline]
fn take(memory: &mut Memory, len: usize) -> Chunk {
    if len == 0 { Chunk::new() } else { memory.split_to(len).freeze() }
}

fn frame_error(error: frame::FrameError) -> TransportError {
    TransportError::new(TransportErrorCode::FRAME_ENCODING_ERROR, error.to_string())
}
