//! Which version a connection speaks: the client's offer, the server's choice, and the checks against a downgrade
//! (RFC 9000 section 6, RFC 9368, RFC 9369 section 4.1).

use std::borrow::Cow;

use warpline_frame::Frame as Memory;
use warpline_wire::header::{self, ProtectedHeader};
use warpline_wire::{Side, TransportErrorCode, TransportParameters, Version, VersionInformation};

use super::Connection;
use super::ingress::OpenedPacket;
use super::loss::Fate;
use super::open::client_session;
use super::stats::DropReason;
use crate::crypto::{Level, tls_version};
use crate::cx::Cx;
use crate::error::{ConnectionError, TransportError};
use crate::ids;
use crate::space::PacketSpace;

/// Versions that a first flight of any of them can be turned into (RFC 9369 section 4).
const COMPATIBLE: [Version; 2] = [Version::V1, Version::V2];

/// The versions that a client's first flight of `original` suits, most wanted first.
pub(super) fn offered(spoken: &[Version], original: Version) -> Vec<Version> {
    let mut offered: Vec<_> =
        spoken.iter().copied().filter(|v| COMPATIBLE.contains(v) && COMPATIBLE.contains(&original)).collect();
    if !offered.contains(&original) {
        offered.push(original);
    }
    offered
}

impl Connection {
    /// The version in use; during the handshake a server may yet choose another one.
    pub fn version(&self) -> Version {
        self.identity.version
    }

    /// The server speaks none of what was offered (RFC 9000 section 6.2): begins again with a version of its list.
    pub(super) fn on_version_negotiation(&mut self, cx: &mut Cx<'_>, datagram: &[u8], header: &ProtectedHeader) {
        let ours = self.local_cids.handshake_cid();
        let is_answer = header.dcid == ours && header.scid == self.handshake.origin.initial_dcid;
        let listed = |v: Version| header::negotiated_versions(datagram, header).any(|l| l == v);
        // RFC 9368 section 4: a list with the version in use, and a second list, are mistakes or attacks.
        let is_second = self.handshake.client.as_ref().is_none_or(|c| c.reacted);
        if self.progress.heard || !is_answer || is_second || listed(self.identity.version) {
            return self.drop_packet(cx.now, Some(header.kind), datagram.len(), DropReason::Unexpected);
        }
        let Some(version) = cx.config.versions.iter().copied().find(|v| listed(*v)) else {
            return self.abandon(ConnectionError::VersionMismatch);
        };
        tracing::debug!(?version, "the server asked for another version");
        if self.begin_again(cx, version).is_err() {
            self.abandon(ConnectionError::VersionMismatch);
        }
    }

    /// Starts the handshake over with another version, which is another connection as far as the peer can tell.
    fn begin_again(&mut self, cx: &mut Cx<'_>, version: Version) -> Result<(), rustls::Error> {
        let Some(client) = &mut self.handshake.client else { return Ok(()) };
        client.reacted = true;
        let local_cid = self.local_cids.handshake_cid();
        (self.handshake.session, _) = client_session(cx, client, version, local_cid)?;
        self.handshake.token = client.token(version).unwrap_or_default();
        let dcid = ids::guess(cx.rng);
        self.identity.version = version;
        self.handshake.origin.version = version;
        self.handshake.origin.first_dcid = dcid;
        self.handshake.origin.initial_dcid = dcid;
        self.handshake.origin.retry_scid = None;
        self.remote_cids.set_handshake_cid(dcid);
        let keys = self.handshake.initial_suite.keys(&dcid, rustls::Side::Client, tls_version(version));
        self.keys.initial = Some(Box::new(keys));
        self.keys.zero_rtt = None;
        self.spaces.initial = Some(Box::new(PacketSpace::new(Level::Initial)));
        if self.handshake.early == super::EarlyData::Offered {
            self.handshake.early = super::EarlyData::Rejected;
            self.take_back_early_data(Fate::Acked);
        }
        self.pto.count = 0;
        self.pto.since = cx.now;
        self.drive_tls();
        Ok(())
    }

    /// (Server) Begins TLS once the ClientHello is complete, in the version that suits both sides best.
    pub(super) fn begin_tls(&mut self, cx: &mut Cx<'_>) -> Result<(), TransportError> {
        let original = self.handshake.origin.version;
        let Some(version) = self.handshake.session.choose_version(original, &cx.config.versions) else { return Ok(()) };
        if version != original {
            let suite = &self.handshake.initial_suite;
            let keys = suite.keys(&self.handshake.origin.initial_dcid, rustls::Side::Server, tls_version(version));
            self.keys.initial_original = self.keys.initial.replace(Box::new(keys));
            self.identity.version = version;
        }
        let begun = self.handshake.session.begin(version, &cx.config.versions);
        begun.map_err(|(code, why)| TransportError::new(code, why))
    }

    /// True if an Initial packet of this version can be one of this connection's.
    pub(super) fn takes_initial(&self, cx: &Cx<'_>, version: Version) -> bool {
        version == self.identity.version
            || (version == self.handshake.origin.version && self.keys.initial_original.is_some())
            || self.may_switch_to(cx, version)
    }

    /// (Client) The server may still choose this version: nothing of the handshake came in another one (RFC 9369 section 4.1).
    fn may_switch_to(&self, cx: &Cx<'_>, version: Version) -> bool {
        self.identity.side == Side::Client
            && self.identity.version == self.handshake.origin.version
            && self.keys.handshake.is_none()
            && self.spaces.initial.as_ref().is_some_and(|s| s.crypto.read_offset() == 0)
            && offered(&cx.config.versions, self.handshake.origin.version).contains(&version)
    }

    /// Opens an Initial packet with the keys of its version. A client that finds it authentic goes on with that version.
    pub(super) fn open_initial(
        &mut self,
        cx: &mut Cx<'_>,
        memory: &mut Memory,
        header: &ProtectedHeader,
    ) -> Result<Option<OpenedPacket>, TransportError> {
        if header.version == self.identity.version {
            return self.open_packet(cx, memory, header, Level::Initial);
        }
        if self.keys.initial_original.is_some() {
            std::mem::swap(&mut self.keys.initial, &mut self.keys.initial_original);
            let opened = self.open_packet(cx, memory, header, Level::Initial);
            std::mem::swap(&mut self.keys.initial, &mut self.keys.initial_original);
            return opened;
        }
        let suite = &self.handshake.initial_suite;
        let keys = suite.keys(&self.handshake.origin.initial_dcid, rustls::Side::Client, tls_version(header.version));
        let before = self.keys.initial.replace(Box::new(keys));
        let opened = self.open_packet(cx, memory, header, Level::Initial);
        if matches!(opened, Ok(None)) {
            self.keys.initial = before;
        } else {
            tracing::debug!(version = ?header.version, "the server chose another version");
            self.identity.version = header.version;
            self.handshake.session.set_version(header.version);
        }
        opened
    }

    /// The peer's transport parameters must tell the same story as its packets (RFC 9368 section 4).
    pub(super) fn check_versions(&self, cx: &Cx<'_>, params: &TransportParameters) -> Result<(), TransportError> {
        let refuse = |why: &str| Err(TransportError::new(TransportErrorCode::VERSION_NEGOTIATION_ERROR, why));
        let reacted = self.handshake.client.as_ref().is_some_and(|c| c.reacted);
        let info = version_information(params, reacted.then_some(self.identity.version));
        let info = info.as_deref();
        if self.identity.side == Side::Server {
            return match info {
                Some(info) if info.chosen != self.handshake.origin.version => {
                    refuse("the chosen version is not that of the first packet")
                }
                _ => Ok(()),
            };
        }
        let Some(info) = info else {
            let changed = self.identity.version != self.handshake.origin.version;
            return if reacted || changed { refuse("the server does not confirm its version") } else { Ok(()) };
        };
        if info.chosen != self.identity.version {
            return refuse("the server's packets are of another version than it chose");
        }
        if reacted && self.would_choose(cx, info) != Some(self.handshake.origin.version) {
            return refuse("the server speaks a version that is wanted more: a downgrade");
        }
        Ok(())
    }

    /// What a client would have begun with, had it known the server's versions.
    fn would_choose(&self, cx: &Cx<'_>, info: &VersionInformation) -> Option<Version> {
        if info.available.is_empty() {
            return None;
        }
        let known = |v: &Version| info.available.contains(v) || *v == info.chosen;
        cx.config.versions.iter().copied().find(known)
    }
}

/// What the peer says about its versions. A client that begins with version 1 in answer to Version Negotiation, `begun_anew`
/// there, takes the silence of an older server for version 1 alone (RFC 9368 section 8).
fn version_information(
    params: &TransportParameters,
    begun_anew: Option<Version>,
) -> Option<Cow<'_, VersionInformation>> {
    match &params.version_information {
        Some(info) => Some(Cow::Borrowed(info)),
        None if begun_anew == Some(Version::V1) => {
            Some(Cow::Owned(VersionInformation { chosen: Version::V1, available: vec![Version::V1] }))
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_says_nothing_speaks_version_1_only_if_it_was_chosen_anew() {
        let silent = TransportParameters::default();
        let info = version_information(&silent, Some(Version::V1)).map(Cow::into_owned);
        let expected = VersionInformation { chosen: Version::V1, available: vec![Version::V1] };
        assert_eq!(info, Some(expected));
        assert!(version_information(&silent, Some(Version::V2)).is_none());
        assert!(version_information(&silent, None).is_none());
    }
}
