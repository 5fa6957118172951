//! Datagrams that belong to no connection: new connections, versions not spoken, resets.

use core::time::Duration;

use warpline_frame::Frame as Memory;
use warpline_wire::header::{self, HeaderError, PacketKind, ProtectedHeader};
use warpline_wire::{ResetToken, TransportErrorCode};

use super::{Endpoint, Pressure};
use crate::config::RetryPolicy;
use crate::connection::{Connection, Opening};
use crate::crypto::{TokenError, TokenKind};
use crate::cx::Cx;
use crate::datagram_meta::DatagramMeta;
use crate::limits::{HALF_OPEN_MAX, INITIAL_DATAGRAM_MIN, UNCLAIMED_RESETS_PER_SECOND};
use crate::time::Instant;

/// Shortest destination ID that a client may choose (RFC 9000 section 7.2).
const INITIAL_DCID_MIN: usize = 8;
/// Shortest stateless reset (RFC 9000 section 10.3).
const STATELESS_RESET_MIN: usize = 21;

/// Tokens of datagrams that led nowhere.
#[derive(Debug, Default)]
pub(super) struct Unclaimed {
    tokens: Vec<ResetToken>,
    /// How many were kept in the second that began at `window`.
    kept: usize,
    window: Instant,
}

impl Unclaimed {
    fn keep(&mut self, now: Instant, token: ResetToken) {
        if now - self.window >= Duration::from_secs(1) {
            self.window = now;
            self.kept = 0;
            // Nobody asks.
            self.tokens.clear();
        }
        if self.kept < UNCLAIMED_RESETS_PER_SECOND {
            self.kept += 1;
            self.tokens.push(token);
        }
    }
}

impl Endpoint {
    /// A datagram whose destination ID leads to no connection.
    pub(super) fn handle_unrouted(&mut self, now: Instant, meta: &DatagramMeta, memory: &mut Memory) {
        if self.is_stateless_reset(now, memory) {
            return;
        }
        match header::parse(memory, self.routes.cid_len()) {
            Err(HeaderError::UnsupportedVersion { dcid, scid, .. }) => {
                if self.server.is_some() && memory.len() >= INITIAL_DATAGRAM_MIN {
                    self.reply_version_negotiation(meta, &dcid, &scid);
                } else {
                    self.stats.dropped_malformed += 1;
                }
            }
            Err(_) => self.stats.dropped_malformed += 1,
            Ok(header) if header.kind == PacketKind::Initial && self.speaks(&header) => {
                self.handle_first_initial(now, meta, memory, &header);
            }
            Ok(header) if header.kind == PacketKind::Initial => {
                if self.server.is_some() && memory.len() >= INITIAL_DATAGRAM_MIN {
                    self.reply_version_negotiation(meta, &header.dcid, &header.scid);
                } else {
                    self.stats.dropped_small_initial += 1;
                }
            }
            Ok(header) if header.kind == PacketKind::ZeroRtt && self.server.is_some() => {
                self.early.keep(now, meta, header.dcid, memory);
            }
            Ok(header) if header.kind == PacketKind::OneRtt => self.handle_unknown_short(now, meta, memory),
            Ok(_) => self.stats.dropped_unknown_cid += 1,
        }
    }

    fn speaks(&self, header: &ProtectedHeader) -> bool {
        self.config.versions.contains(&header.version)
    }

    /// A datagram that ends in the token of a connection is that connection's stateless reset, whatever else it looks like
    /// (RFC 9000 section 10.3).
    fn is_stateless_reset(&mut self, now: Instant, memory: &Memory) -> bool {
        let token = memory.last_chunk::<16>().filter(|_| memory.len() >= STATELESS_RESET_MIN);
        token.is_some_and(|token| self.reset(now, ResetToken(*token)))
    }

    /// A datagram with this token at its end has come, here or to another endpoint of the same address. `false` if it is not the
    /// token of a connection here.
    pub fn reset(&mut self, now: Instant, token: ResetToken) -> bool {
        let Some(handle) = self.routes.find_reset_token(&token.0) else { return false };
        self.stats.stateless_resets_received += 1;
        if let Some(connection) = self.connection(handle) {
            connection.on_stateless_reset(now);
        }
        true
    }

    /// The token of a datagram that led nowhere, which may be the stateless reset of a connection of another endpoint at the same
    /// address: nothing else in a reset says whose it is (RFC 9000 section 10.3). Kept are as many as one second brings at most,
    /// [`UNCLAIMED_RESETS_PER_SECOND`].
    #[inline]
    pub fn poll_unclaimed_reset(&mut self) -> Option<ResetToken> {
        self.unclaimed.tokens.pop()
    }

    /// A short header packet for an unknown ID deserves our stateless reset, and may be one.
    fn handle_unknown_short(&mut self, now: Instant, meta: &DatagramMeta, memory: &Memory) {
        self.stats.dropped_unknown_cid += 1;
        if let Some(token) = memory.last_chunk::<16>().filter(|_| memory.len() >= STATELESS_RESET_MIN) {
            self.unclaimed.keep(now, ResetToken(*token));
        }
        if self.server.is_some() {
            self.reply_stateless_reset(now, meta, memory);
        }
    }

    fn handle_first_initial(
        &mut self,
        now: Instant,
        meta: &DatagramMeta,
        memory: &mut Memory,
        initial: &ProtectedHeader,
    ) {
        let Some(server) = self.server.clone() else {
            self.stats.dropped_not_server += 1;
            return;
        };
        if memory.len() < INITIAL_DATAGRAM_MIN || initial.dcid.len() < INITIAL_DCID_MIN {
            self.stats.dropped_small_initial += 1;
            return;
        }
        if self.pressure == Pressure::Shed {
            self.stats.dropped_overload += 1;
            return;
        }
        if self.closing {
            return self.reply_refusal(meta, initial, TransportErrorCode::CONNECTION_REFUSED);
        }
        let token = &memory[initial.token.clone()];
        let scope = self.config.token_scope(now, meta.remote, initial.version);
        let (original_dcid, validated) = match self.config.token_key.open(token, &scope) {
            Ok(TokenKind::Retry(original)) => (original, true),
            Ok(TokenKind::Future) => (initial.dcid, true),
            Err(TokenError::InvalidRetry) => {
                self.stats.invalid_tokens += 1;
                return self.reply_refusal(meta, initial, TransportErrorCode::INVALID_TOKEN);
            }
            Err(TokenError::Unknown | TokenError::Stale) => (initial.dcid, false),
        };
        let of_source = self.half_open.of(self.half_open.source(meta.remote));
        let pressed = match server.retry {
            RetryPolicy::Always => true,
            RetryPolicy::UnderLoad => {
                self.pressure != Pressure::None
                    || self.half_open.total() >= HALF_OPEN_MAX / 2
                    || of_source >= server.half_open_per_source.div_ceil(2)
            }
            RetryPolicy::Never => false,
        };
        if pressed && !validated {
            return self.reply_retry(now, meta, initial);
        }
        if of_source >= server.half_open_per_source {
            self.stats.dropped_source_limit += 1;
            return;
        }
        if self.half_open.total() >= HALF_OPEN_MAX {
            self.stats.dropped_overload += 1;
            return;
        }
        self.accept(now, meta, memory, initial, original_dcid, validated);
    }

    #[expect(clippy::too_many_arguments, reason = "what a first packet says, each used once, here")]
    fn accept(
        &mut self,
        now: Instant,
        meta: &DatagramMeta,
        memory: &mut Memory,
        initial: &ProtectedHeader,
        original_dcid: warpline_wire::ConnectionId,
        validated: bool,
    ) {
        let Some(server) = self.server.clone() else { return };
        let key = self.routes.cids.layout().partition_key(&initial.dcid).unwrap_or_default();
        let handle = self.slots.reserve();
        let local_cid = self.routes.issue(&mut self.rng, key, handle);
        let opening = Opening {
            version: initial.version,
            remote: meta.remote,
            local: meta.local,
            local_cid,
            key,
            remote_cid: initial.scid,
            original_dcid,
            initial_dcid: initial.dcid,
            validated,
            token: Vec::new(),
        };
        let Self { rng, config, routes, settled, .. } = self;
        let mut cx = Cx { now, rng, config, routes, handle, settled };
        let mut connection = Connection::server(&mut cx, &server, opening);
        connection.handle_datagrams(&mut cx, meta, std::slice::from_mut(memory));
        for (meta, memory) in self.early.take(now, &initial.dcid) {
            connection.handle_datagrams(&mut cx, &meta, &mut [memory]);
        }
        if !connection.has_heard() {
            // Not authentic, so not even a client's mistake: forget it.
            self.stats.dropped_bad_initial += 1;
            connection.remove_routes(&mut self.routes);
            return self.slots.release(handle);
        }
        self.routes.insert_initial(initial.dcid, handle);
        self.slots.fill(handle, connection);
        self.note_half_open(handle);
        self.stats.accepted += 1;
        self.touch(handle);
    }
}
