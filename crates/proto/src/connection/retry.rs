//! Version negotiation and Retry packets, as a client sees them (RFC 9000 sections 6.2 and 17.2.5).

use warpline_wire::Side;
use warpline_wire::header::{self, ProtectedHeader};

use super::Connection;
use crate::crypto::{Level, retry, tls_version};
use crate::cx::Cx;
use crate::error::ConnectionError;
use crate::limits::TOKEN_LEN_MAX;
use crate::sent_frame::SentFrame;

impl Connection {
    /// The server speaks none of what was offered (RFC 9000 section 6.2).
    pub(super) fn on_version_negotiation(&mut self, datagram: &[u8], header: &ProtectedHeader) {
        let ours = self.local_cids.handshake_cid();
        let is_answer = header.dcid == ours && header.scid == self.identity.initial_dcid;
        if self.identity.side == Side::Server || self.handshake.heard || !is_answer {
            self.stats.packets_dropped += 1;
            return;
        }
        // A list with the version in use is a mistake or an attack: nothing is lost by ignoring it.
        if header::negotiated_versions(datagram, header).any(|v| v == self.identity.version) {
            self.stats.packets_dropped += 1;
            return;
        }
        self.abandon(ConnectionError::VersionMismatch);
    }

    /// The server wants the address proved first (RFC 9000 section 17.2.5.2).
    pub(super) fn on_retry(&mut self, cx: &mut Cx<'_>, datagram: &[u8], header: &ProtectedHeader) {
        let token = datagram.get(header.token.clone()).unwrap_or_default();
        let acceptable = self.identity.side == Side::Client
            && !self.handshake.heard
            && self.identity.retry_scid.is_none()
            && header.version == self.identity.version
            && header.scid != self.identity.initial_dcid
            && (1..=TOKEN_LEN_MAX).contains(&token.len())
            && is_authentic(datagram, header, &self.identity.original_dcid);
        if !acceptable {
            self.stats.packets_dropped += 1;
            return;
        }
        self.handshake.token = token.to_vec();
        self.identity.retry_scid = Some(header.scid);
        self.identity.initial_dcid = header.scid;
        self.remote_cids.set_handshake_cid(header.scid);
        let version = tls_version(self.identity.version);
        let keys = self.handshake.initial_suite.keys(&header.scid, rustls::Side::Client, version);
        self.keys.initial = Some(Box::new(keys));
        // The handshake starts over with the same bytes; packet numbers go on (section 17.2.5.3).
        if let Some(space) = self.spaces.at(Level::Initial) {
            space.sent.discard_all(&mut |_: &SentFrame| {});
            space.crypto.rewind();
        }
        self.pto.count = 0;
        self.pto.since = cx.now;
    }
}

fn is_authentic(datagram: &[u8], header: &ProtectedHeader, original: &warpline_wire::ConnectionId) -> bool {
    let Some((packet, tag)) = datagram.split_last_chunk::<{ retry::TAG_LEN }>() else { return false };
    let pseudo = header::retry_pseudo_packet(original, packet);
    retry::tag(header.version, &pseudo) == *tag
}
