//! Retry packets, as a client sees them (RFC 9000 section 17.2.5).

use warpline_wire::Side;
use warpline_wire::header::{self, ProtectedHeader};

use super::Connection;
use super::loss::Fate;
use super::stats::DropReason;
use crate::crypto::{Level, retry, tls_version};
use crate::cx::Cx;
use crate::limits::TOKEN_LEN_MAX;
use crate::sent_frame::SentFrame;

impl Connection {
    /// The server wants the address proved first (RFC 9000 section 17.2.5.2).
    pub(super) fn on_retry(&mut self, cx: &mut Cx<'_>, datagram: &[u8], header: &ProtectedHeader) {
        let token = datagram.get(header.token.clone()).unwrap_or_default();
        let acceptable = self.identity.side == Side::Client
            && !self.progress.heard
            && self.handshake.origin.retry_scid.is_none()
            && header.version == self.identity.version
            && header.scid != self.handshake.origin.initial_dcid
            && (1..=TOKEN_LEN_MAX).contains(&token.len())
            && is_authentic(datagram, header, &self.handshake.origin.first_dcid);
        if !acceptable {
            return self.drop_packet(cx.now, Some(header.kind), datagram.len(), DropReason::Unexpected);
        }
        self.handshake.token = token.to_vec();
        self.handshake.origin.retry_scid = Some(header.scid);
        self.handshake.origin.initial_dcid = header.scid;
        self.remote_cids.set_handshake_cid(header.scid);
        let version = tls_version(self.identity.version);
        let keys = self.handshake.initial_suite.keys(&header.scid, rustls::Side::Client, version);
        self.keys.initial = Some(Box::new(keys));
        // The handshake starts over with the same bytes; packet numbers go on (section 17.2.5.3).
        if let Some(space) = self.spaces.at(Level::Initial) {
            space.sent.discard_all(&mut |_: &SentFrame| {});
            space.crypto.rewind();
        }
        // What was sent early was dropped with the first Initial; its packet numbers go on as well.
        self.take_back_early_data(Fate::Lost);
        self.pto.count = 0;
        self.pto.since = cx.now;
    }
}

fn is_authentic(datagram: &[u8], header: &ProtectedHeader, original: &warpline_wire::ConnectionId) -> bool {
    let Some((packet, tag)) = datagram.split_last_chunk::<{ retry::TAG_LEN }>() else { return false };
    let pseudo = header::retry_pseudo_packet(original, packet);
    retry::tag(header.version, &pseudo) == *tag
}
