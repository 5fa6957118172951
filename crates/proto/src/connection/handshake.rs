//! The handshake: CRYPTO bytes to TLS and back, keys as they come, the peer's transport parameters
//! (RFC 9000 section 7, RFC 9001 section 4).

use warpline_wire::{ConnectionId, Side, TransportErrorCode, TransportParameters, Version};

use super::early::EarlyPackets;
use super::open::ClientSide;
use super::timers::Timer;
use super::{Connection, EarlyData};
use crate::crypto::{KeyLimits, Level, OneRttKeys, Session, SessionEvent, TokenKind};
use crate::cx::Cx;
use crate::error::TransportError;
use crate::event::Event;
use crate::recovery::frequency::AckFrequency;
use crate::space::PacketSpace;

/// How far the handshake has come: what packets look at long after it, too.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The peer's Finished was verified (RFC 9001 section 4.1.1).
    pub(super) complete: bool,
    /// Both sides know that it is complete (RFC 9001 section 4.1.2).
    pub(super) confirmed: bool,
    /// A packet of the peer was processed: version negotiation and Retry are over.
    pub(super) heard: bool,
    /// The peer takes packets whose fixed bit is cleared (RFC 9287).
    pub(super) peer_greases: bool,
    /// It has given back the memory of its handshake and of all work since that needed much.
    pub(super) rested: bool,
}

/// How the connection was begun.
pub(super) struct Origin {
    /// The version of the client's first packet.
    pub(super) version: Version,
    /// The destination of the client's very first Initial (RFC 9000 section 7.3).
    pub(super) first_dcid: ConnectionId,
    /// The destination of the client's first Initial after a Retry; equal to `first_dcid` without one.
    pub(super) initial_dcid: ConnectionId,
    /// Source of the Retry packet, if there was one.
    pub(super) retry_scid: Option<ConnectionId>,
}

/// What the handshake needs, and leaves behind for those who ask.
pub(super) struct Handshake {
    pub(super) origin: Origin,
    pub(super) session: Session,
    /// Protects Initial packets; a Retry calls for new keys of it.
    pub(super) initial_suite: rustls::quic::Suite,
    /// The level that TLS reads from now.
    read_level: Level,
    /// The source ID of the peer's first packet, which its transport parameters must repeat.
    pub(super) peer_scid: Option<ConnectionId>,
    /// The peer's parameters, once taken into use.
    pub(super) peer_params: Option<Box<TransportParameters>>,
    /// Token for Initial packets, from a Retry or an earlier connection.
    pub(super) token: Vec<u8>,
    /// HANDSHAKE_DONE is to be sent.
    pub(super) send_done: bool,
    /// NEW_TOKEN frames still to be sent.
    pub(super) new_tokens: u8,
    /// What only a client has.
    pub(super) client: Option<Box<ClientSide>>,
    pub(super) early: EarlyData,
    pub(super) early_packets: EarlyPackets,
}

impl Handshake {
    pub(super) fn new(origin: Origin, session: Session, initial_suite: rustls::quic::Suite, token: Vec<u8>) -> Self {
        Self {
            origin,
            session,
            initial_suite,
            read_level: Level::Initial,
            peer_scid: None,
            peer_params: None,
            token,
            send_done: false,
            new_tokens: 0,
            client: None,
            early: EarlyData::None,
            early_packets: EarlyPackets::default(),
        }
    }
}

impl Connection {
    /// Takes a CRYPTO frame that came at `level`.
    pub(super) fn on_crypto(
        &mut self,
        cx: &mut Cx<'_>,
        level: Level,
        offset: u64,
        data: &[u8],
    ) -> Result<(), TransportError> {
        let read_level = self.handshake.read_level;
        let Some(space) = self.spaces.at(level) else { return Ok(()) };
        if level < read_level && offset + data.len() as u64 > space.crypto.read_offset() {
            // RFC 9001 section 4.1.3: nothing new may come at a level that TLS has left.
            return Err(TransportError::protocol("CRYPTO data at a level that is over"));
        }
        space.crypto.on_frame(offset, data)?;
        self.read_crypto(cx)
    }

    /// Feeds TLS what is there in order and takes what it gives.
    fn read_crypto(&mut self, cx: &mut Cx<'_>) -> Result<(), TransportError> {
        loop {
            let level = self.handshake.read_level;
            let Some(bytes) = self.spaces.at(level).and_then(|s| s.crypto.read()) else { return Ok(()) };
            self.handshake.session.read(&bytes).map_err(|(code, why)| TransportError::new(code, why))?;
            if self.identity.side == Side::Server {
                self.begin_tls(cx)?;
                self.take_peer_params(cx)?;
            }
            self.drive_tls();
            if !self.progress.complete && !self.handshake.session.is_handshaking() {
                self.on_complete(cx)?;
            }
        }
    }

    /// Takes bytes and keys from TLS.
    pub(super) fn drive_tls(&mut self) {
        let mut bytes = Vec::new();
        while let Some(events) = self.handshake.session.poll(&mut bytes) {
            for event in events {
                match event {
                    SessionEvent::Send(level) => {
                        if let Some(space) = self.spaces.at(level) {
                            space.crypto.queue(&bytes);
                        }
                        bytes.clear();
                    }
                    SessionEvent::HandshakeKeys(keys) => {
                        self.keys.handshake = Some(keys);
                        self.spaces.handshake = Some(Box::new(PacketSpace::new(Level::Handshake)));
                        self.handshake.read_level = Level::Handshake;
                        self.accept_early_data();
                    }
                    SessionEvent::OneRttKeys(keys, secrets) => {
                        let limits = KeyLimits {
                            update_after: self.config.packets_per_key.unwrap_or(u64::MAX),
                            forgeries: self.config.forgeries_max.unwrap_or(u64::MAX),
                        };
                        self.keys.one_rtt = Some(OneRttKeys::new(*keys, secrets, limits));
                    }
                }
            }
        }
    }

    /// The handshake is complete (RFC 9001 section 4.1.1).
    fn on_complete(&mut self, cx: &mut Cx<'_>) -> Result<(), TransportError> {
        self.take_peer_params(cx)?;
        self.update_reset_route(cx, None);
        self.progress.complete = true;
        self.handshake.read_level = Level::OneRtt;
        self.emit(Event::Connected);
        if self.identity.side == Side::Server {
            self.handshake.send_done = true;
            self.on_confirmed(cx)?;
            self.schedule_early_discard(cx);
            self.handshake.session.retire();
        }
        self.check_early_streams(cx);
        self.replenish_cids(cx);
        Ok(())
    }

    /// The handshake is confirmed (RFC 9001 section 4.1.2): the Handshake keys go.
    pub(super) fn on_confirmed(&mut self, cx: &mut Cx<'_>) -> Result<(), TransportError> {
        if self.progress.confirmed {
            return Ok(());
        }
        self.progress.confirmed = true;
        self.discard_space(Level::Initial);
        self.discard_space(Level::Handshake);
        cx.routes.remove_initial(&self.handshake.origin.first_dcid);
        cx.routes.remove_initial(&self.handshake.origin.initial_dcid);
        self.paths.current.mtu.start(cx.now);
        self.timers.set(Timer::Mtu, cx.now);
        self.try_preferred_address(cx)
    }

    /// Drops keys and state of a level (RFC 9001 section 4.9, RFC 9002 section 6.4).
    pub(super) fn discard_space(&mut self, level: Level) {
        let gone = match level {
            Level::Initial => {
                self.keys.initial = None;
                self.keys.initial_original = None;
                self.spaces.initial.take()
            }
            Level::Handshake => {
                self.keys.handshake = None;
                self.spaces.handshake.take()
            }
            Level::OneRtt => None,
        };
        if gone.is_some() {
            self.pto.count = 0;
        }
    }

    pub(super) fn replenish_cids(&mut self, cx: &mut Cx<'_>) {
        let limit = self.handshake.peer_params.as_ref().map_or(2, |p| p.active_connection_id_limit);
        self.local_cids.replenish(cx, limit);
    }

    /// The endpoint makes its IDs in another way from now on.
    pub(crate) fn renew_cids(&mut self, cx: &mut Cx<'_>) {
        if let Some(limit) = self.handshake.peer_params.as_ref().map(|p| p.active_connection_id_limit)
            && self.progress.complete
            && self.lifecycle.is_open()
        {
            self.local_cids.renew(cx, limit);
            self.stir();
        }
    }

    /// Takes the peer's transport parameters into use once TLS has them.
    fn take_peer_params(&mut self, cx: &Cx<'_>) -> Result<(), TransportError> {
        if self.handshake.peer_params.is_some() {
            return Ok(());
        }
        let Some(raw) = self.handshake.session.peer_params() else { return Ok(()) };
        let params = TransportParameters::decode(raw, !self.identity.side)
            .map_err(|e| TransportError::new(TransportErrorCode::TRANSPORT_PARAMETER_ERROR, e.to_string()))?;
        self.check_cids(&params)?;
        self.check_versions(cx, &params)?;
        self.settle_early_data(&params)?;
        self.streams.set_peer_params(&params);
        self.datagrams.set_peer_max(params.max_datagram_frame_size.unwrap_or(0));
        self.pto.peer_max_ack_delay = core::time::Duration::from_millis(params.max_ack_delay);
        self.pto.peer_ack_delay_exponent = params.ack_delay_exponent as u8;
        self.lifecycle.negotiate_idle(self.config.max_idle_timeout, params.max_idle_timeout);
        self.paths.current.mtu.set_peer_max(params.max_udp_payload_size.min(65_527) as u16);
        if let Some(token) = params.stateless_reset_token {
            self.remote_cids.set_handshake_token(token);
        }
        if let Some(us) = params.min_ack_delay.filter(|_| self.config.extensions.ack_frequency) {
            let least = core::time::Duration::from_micros(us);
            self.pto.frequency = Some(Box::new(AckFrequency::new(least, self.pto.peer_max_ack_delay)));
        }
        self.start_address_discovery(params.observed_address);
        self.progress.peer_greases = params.grease_quic_bit;
        self.handshake.peer_params = Some(Box::new(params));
        self.log_peer_parameters(cx.now);
        Ok(())
    }

    /// The connection IDs in the parameters must be those that were seen in packets (RFC 9000 section 7.3).
    fn check_cids(&self, params: &TransportParameters) -> Result<(), TransportError> {
        let mismatch = |what: &str| {
            TransportError::new(TransportErrorCode::TRANSPORT_PARAMETER_ERROR, format!("{what} does not match"))
        };
        if params.initial_source_connection_id != self.handshake.peer_scid {
            return Err(mismatch("initial_source_connection_id"));
        }
        if self.identity.side == Side::Server {
            return Ok(());
        }
        if params.original_destination_connection_id != Some(self.handshake.origin.first_dcid) {
            return Err(mismatch("original_destination_connection_id"));
        }
        if params.retry_source_connection_id != self.handshake.origin.retry_scid {
            return Err(mismatch("retry_source_connection_id"));
        }
        Ok(())
    }

    /// A fresh NEW_TOKEN token for the peer's address.
    pub(super) fn make_new_token(&self, cx: &mut Cx<'_>) -> Vec<u8> {
        let nonce = cx.rng.array();
        let scope = cx.config.token_scope(cx.now, self.paths.current.remote, self.identity.version);
        cx.config.token_key.seal(TokenKind::Future, &scope, nonce)
    }
}
