//! Replies that need no connection: version negotiation, Retry, refusals, stateless resets.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use warpline_wire::header::{self, ProtectedHeader};
use warpline_wire::{ConnectionId, TransportErrorCode, Version, Writer, frame};

use super::Endpoint;
use crate::connection::{HeaderParts, PacketBuilder};
use crate::crypto::{Keys, Level, retry};
use crate::datagram_meta::{DatagramMeta, Transmit};
use crate::limits::{INITIAL_DATAGRAM_MIN, STATELESS_REPLIES_MAX, STATELESS_RESETS_PER_SECOND};
use crate::time::Instant;

/// A stateless reset is at least this long, to pass for a packet (RFC 9000 section 10.3).
const RESET_MIN: usize = 21;
/// It need not be longer than this.
const RESET_MAX: usize = 43;

struct Reply {
    remote: SocketAddr,
    local: Option<IpAddr>,
    bytes: Vec<u8>,
}

/// Replies that wait to be sent, bounded.
#[derive(Default)]
pub(super) struct StatelessReplies {
    queue: VecDeque<Reply>,
    /// Stateless resets sent in the second that began at `window`.
    resets: u32,
    window: Instant,
}

impl StatelessReplies {
    fn push(&mut self, meta: &DatagramMeta, bytes: Vec<u8>) {
        if self.queue.len() < STATELESS_REPLIES_MAX {
            self.queue.push_back(Reply { remote: meta.remote, local: meta.local, bytes });
        }
    }

    pub(super) fn pop(&mut self, buf: &mut [u8]) -> Option<Transmit> {
        let reply = self.queue.pop_front()?;
        let len = reply.bytes.len();
        buf.get_mut(..len)?.copy_from_slice(&reply.bytes);
        Some(Transmit { remote: reply.remote, local: reply.local, ecn: None, len, segment_size: len })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn may_reset(&mut self, now: Instant) -> bool {
        if now - self.window >= core::time::Duration::from_secs(1) {
            self.window = now;
            self.resets = 0;
        }
        self.resets += 1;
        self.resets <= STATELESS_RESETS_PER_SECOND
    }
}

impl Endpoint {
    /// Answers a version that is not spoken here (RFC 9000 section 6.1).
    pub(super) fn reply_version_negotiation(&mut self, meta: &DatagramMeta, dcid: &[u8], scid: &[u8]) {
        let mut bytes = vec![0; 7 + dcid.len() + scid.len() + 4 * (self.config.versions.len() + 1)];
        let mut w = Writer::new(&mut bytes);
        // A reserved version among them keeps clients from relying on the list (RFC 9000 section 6.3).
        let grease = Version((self.rng.u64() as u32 & 0xf0f0_f0f0) | 0x0a0a_0a0a);
        let first: u8 = self.rng.array::<1>()[0];
        let versions = std::iter::once(grease).chain(self.config.versions.iter().copied());
        header::encode_version_negotiation(&mut w, first, scid, dcid, versions);
        let len = w.position();
        bytes.truncate(len);
        self.stats.version_negotiations += 1;
        self.replies.push(meta, bytes);
    }

    /// Asks the client to come again with a token (RFC 9000 section 8.1.2).
    pub(super) fn reply_retry(&mut self, now: Instant, meta: &DatagramMeta, initial: &ProtectedHeader) {
        let nonce = self.rng.array();
        let kind = crate::crypto::TokenKind::Retry(initial.dcid);
        let token =
            self.config.token_key.seal(kind, &self.config.token_scope(now, meta.remote, initial.version), nonce);
        // The new ID keeps the partition key, so the client's next Initial comes to this worker as well.
        let key = self.routes.cids.layout().partition_key(&initial.dcid).unwrap_or_default();
        let scid = self.routes.cids.generate(&mut self.rng, key);
        let mut bytes = vec![0; 7 + initial.scid.len() + scid.len() + token.len() + retry::TAG_LEN];
        let mut w = Writer::new(&mut bytes);
        header::encode_retry(&mut w, initial.version, &initial.scid, &scid, &token);
        let len = w.position();
        let pseudo = header::retry_pseudo_packet(&initial.dcid, &bytes[..len]);
        let tag = retry::tag(initial.version, &pseudo);
        bytes.truncate(len);
        bytes.extend_from_slice(&tag);
        self.stats.retries += 1;
        self.replies.push(meta, bytes);
    }

    /// Refuses a connection without keeping anything of it.
    pub(super) fn reply_refusal(&mut self, meta: &DatagramMeta, initial: &ProtectedHeader, code: TransportErrorCode) {
        let Some(server) = &self.server else { return };
        let version = crate::crypto::tls_version(initial.version);
        let keys = server.initial_suite.keys(&initial.dcid, rustls::Side::Server, version);
        let mut keys = Keys { initial: Some(Box::new(keys)), ..Keys::default() };
        let mut bytes = vec![0; INITIAL_DATAGRAM_MIN];
        let parts = HeaderParts {
            version: initial.version,
            dcid: &initial.scid,
            scid: &initial.dcid,
            token: &[],
            number: 0,
            largest_acked: None,
            phase: false,
            zero_rtt: false,
            fixed_bit: true,
        };
        let mut builder = PacketBuilder::begin(&mut bytes, Level::Initial, &parts);
        frame::encode_transport_close(&mut builder.w, code, 0, b"");
        let unsealed = builder.finish();
        unsealed.seal(&mut keys, &mut bytes);
        bytes.truncate(unsealed.len);
        self.replies.push(meta, bytes);
    }

    /// Tells the sender of a packet for an unknown connection that its state is gone (RFC 9000 section 10.3).
    pub(super) fn reply_stateless_reset(&mut self, now: Instant, meta: &DatagramMeta, datagram: &[u8]) {
        let Some(dcid) = header::short_dcid(datagram, self.routes.cid_len()).and_then(ConnectionId::new) else {
            return;
        };
        // Shorter than what provoked it, so that two endpoints cannot answer each other for ever (section 10.3.3).
        let len = (datagram.len() - 1).min(RESET_MAX);
        if len < RESET_MIN || !self.replies.may_reset(now) {
            return;
        }
        let turn = self.stats.stateless_resets_sent as usize;
        let mut bytes = vec![0; len];
        self.rng.fill(&mut bytes);
        bytes[0] = (bytes[0] & 0x3f) | 0x40;
        bytes[len - 16..].copy_from_slice(&self.config.reset_key.token_of_key(&dcid, turn).0);
        self.stats.stateless_resets_sent += 1;
        self.replies.push(meta, bytes);
    }
}
