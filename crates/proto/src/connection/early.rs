//! Early data: 0-RTT packets in both roles (RFC 9000 sections 5.6 and 7.4.1, RFC 9001 sections 4.6 and 9.2).

use warpline_frame::Frame as Memory;
use warpline_wire::header::{PacketKind, ProtectedHeader};
use warpline_wire::{Side, TransportParameters};

use super::Connection;
use super::loss::Fate;
use super::stats::DropReason;
use super::timers::Timer;
use crate::crypto::{Level, packet};
use crate::cx::Cx;
use crate::datagram_meta::DatagramMeta;
use crate::error::{ConnectionError, TransportError};
use crate::event::Event;
use crate::limits::{EARLY_BYTES_MAX, KEY_UPDATE_PTOS};
use crate::sent_frame::SentFrame;
use crate::time::Instant;

/// What became of early data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyData {
    /// None was offered: nothing to resume, or not wanted.
    #[default]
    None,
    /// (Client) It is being sent; whether the server takes it is known when the handshake is complete.
    Offered,
    /// It was taken.
    Accepted,
    /// (Client) The server did not take it. What was written on streams is sent again by itself, under the protection of the
    /// handshake; datagrams are lost.
    Rejected,
}

/// 0-RTT packets that came before the ClientHello was complete, within a bound.
#[derive(Default)]
pub(super) struct EarlyPackets {
    packets: Vec<(DatagramMeta, Vec<u8>)>,
    bytes: usize,
}

impl Connection {
    /// (Client) Begins to send early data if TLS has a session that allows it, within the limits that the server gave then.
    pub(super) fn offer_early_data(&mut self, now: Instant) {
        let Some(keys) = self.handshake.session.zero_rtt_keys() else { return };
        let remembered = self.handshake.session.peer_params();
        let Some(params) = remembered.and_then(|raw| TransportParameters::decode(raw, Side::Server).ok()) else {
            return;
        };
        self.log_parameters(now, None, &params);
        self.streams.set_peer_params(&params);
        self.datagrams.set_peer_max(params.max_datagram_frame_size.unwrap_or(0));
        self.keys.zero_rtt = Some(keys);
        self.handshake.early = EarlyData::Offered;
        if let Some(client) = &mut self.handshake.client {
            client.remembered = Some(Box::new(params));
        }
    }

    /// (Client) The handshake says what became of early data; `params` are those that the server gives now.
    pub(super) fn settle_early_data(&mut self, params: &TransportParameters) -> Result<(), TransportError> {
        if self.handshake.early != EarlyData::Offered {
            return Ok(());
        }
        self.keys.zero_rtt = None;
        let remembered = self.handshake.client.as_mut().and_then(|c| c.remembered.take());
        if !self.handshake.session.is_early_data_accepted() {
            self.handshake.early = EarlyData::Rejected;
            self.take_back_early_data(Fate::Acked);
            return Ok(());
        }
        self.handshake.early = EarlyData::Accepted;
        // RFC 9000 section 7.4.1: a server that takes early data must not lower the limits it was sent within.
        if remembered.is_some_and(|then| lowers_limits(&then, params)) {
            let why = "limits below those that early data was sent within";
            return Err(TransportError::protocol(why));
        }
        Ok(())
    }

    /// Forgets 0-RTT packets that the server will never acknowledge. They are `Lost` when they go again as they are; else the streams
    /// begin anew.
    pub(super) fn take_back_early_data(&mut self, fate: Fate) {
        let mut sent = Vec::new();
        self.spaces.data.sent.discard_all(&mut |frame: &SentFrame| sent.push(*frame));
        for frame in sent {
            if fate == Fate::Lost && !matches!(frame, SentFrame::MtuProbe { .. } | SentFrame::Ack { .. }) {
                self.on_frame_fate(Level::OneRtt, frame, fate);
            }
        }
        if fate != Fate::Lost {
            self.streams.begin_anew();
            self.datagrams.set_peer_max(0);
        }
    }

    /// (Client) More streams were opened as the server's old limits allowed than it allows now: they cannot go on.
    pub(super) fn check_early_streams(&mut self, cx: &Cx<'_>) {
        if self.handshake.early == EarlyData::Rejected && self.streams.exceeds_limits() {
            self.close_unsettled(cx.now, ConnectionError::EarlyDataRejected);
        }
    }

    /// (Server) TLS has read the ClientHello: takes early data, or not.
    pub(super) fn accept_early_data(&mut self) {
        if self.identity.side == Side::Client || self.handshake.early != EarlyData::None {
            return;
        }
        if let Some(keys) = self.handshake.session.zero_rtt_keys() {
            self.keys.zero_rtt = Some(keys);
            self.handshake.early = EarlyData::Accepted;
            self.emit(Event::EarlyData);
        }
    }

    /// (Server) The keys for early data are kept for packets that were overtaken (RFC 9001 section 4.9.3).
    pub(super) fn schedule_early_discard(&mut self, cx: &Cx<'_>) {
        if self.keys.zero_rtt.is_some() {
            self.timers.set(Timer::KeyDiscard, cx.now + self.pto_base() * KEY_UPDATE_PTOS);
        }
    }

    /// Keeps a 0-RTT packet that came before the ClientHello was complete.
    pub(super) fn keep_early_packet(&mut self, now: Instant, meta: &DatagramMeta, packet: &[u8]) {
        let early = &mut self.handshake.early_packets;
        let waits = self.identity.side == Side::Server && self.keys.handshake.is_none();
        if !waits || early.bytes + packet.len() > EARLY_BYTES_MAX {
            return self.drop_packet(now, Some(PacketKind::ZeroRtt), packet.len(), DropReason::NoKeys);
        }
        early.bytes += packet.len();
        early.packets.push((*meta, packet.to_vec()));
        self.log_buffered(now, packet.len());
    }

    /// Handles the 0-RTT packets that waited for the ClientHello.
    pub(super) fn replay_early_packets(&mut self, cx: &mut Cx<'_>) {
        if self.keys.handshake.is_none() || self.handshake.early_packets.packets.is_empty() {
            return;
        }
        for (meta, bytes) in std::mem::take(&mut self.handshake.early_packets).packets {
            self.handle_packets(cx, &meta, &mut Memory::from_vec(bytes), None);
        }
    }

    /// Opens a 0-RTT packet whose header is unmasked.
    pub(super) fn open_zero_rtt(&self, bytes: &mut [u8], header_len: usize, number: u64) -> Option<usize> {
        let keys = self.keys.zero_rtt.as_deref()?;
        packet::open(&*keys.packet, bytes, header_len, number)
    }

    /// True if a 0-RTT packet with this header can be read now.
    pub(super) fn takes_zero_rtt(&self, header: &ProtectedHeader) -> bool {
        self.identity.side == Side::Server
            && self.keys.zero_rtt.is_some()
            && header.version == self.handshake.origin.version
    }
}

/// True if any limit that early data obeyed is lower now (RFC 9000 section 7.4.1, RFC 9221 section 3).
fn lowers_limits(then: &TransportParameters, now: &TransportParameters) -> bool {
    let limits = |p: &TransportParameters| {
        [
            p.active_connection_id_limit,
            p.initial_max_data,
            p.initial_max_stream_data_bidi_local,
            p.initial_max_stream_data_bidi_remote,
            p.initial_max_stream_data_uni,
            p.initial_max_streams_bidi,
            p.initial_max_streams_uni,
            p.max_datagram_frame_size.unwrap_or(0),
        ]
    };
    limits(then).iter().zip(limits(now)).any(|(then, now)| now < *then)
}
