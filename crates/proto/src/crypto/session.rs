//! The TLS 1.3 session of a connection: CRYPTO bytes in, CRYPTO bytes and keys out (RFC 9001 section 4).

use std::sync::Arc;

use rustls::quic::{ClientConnection, Connection as Tls, KeyChange, Secrets, ServerConnection, Version as TlsVersion};
use rustls_pki_types::{CertificateDer, ServerName};
use warpline_wire::{TransportErrorCode, Version};

use super::keys::LevelKeys;

/// A level of encryption, which is also a packet number space (0-RTT shares the last one).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Initial = 0,
    Handshake = 1,
    OneRtt = 2,
}

impl Level {
    pub(crate) const ALL: [Self; 3] = [Self::Initial, Self::Handshake, Self::OneRtt];
}

/// What the session wants done next.
pub(crate) enum SessionEvent {
    /// Bytes to send in CRYPTO frames of this level were appended to the buffer.
    Send(Level),
    /// Keys of the Handshake level are there.
    HandshakeKeys(Box<LevelKeys>),
    /// Keys of the 1-RTT level are there.
    OneRttKeys(Box<LevelKeys>, Box<Secrets>),
}

/// The TLS session.
pub(crate) struct Session {
    tls: Box<Tls>,
    write_level: Level,
}

impl Session {
    pub(crate) fn client(
        config: Arc<rustls::ClientConfig>,
        version: Version,
        name: ServerName<'static>,
        params: Vec<u8>,
    ) -> Result<Self, rustls::Error> {
        let tls = ClientConnection::new(config, tls_version(version), name, params)?;
        Ok(Self { tls: Box::new(Tls::Client(tls)), write_level: Level::Initial })
    }

    pub(crate) fn server(
        config: Arc<rustls::ServerConfig>,
        version: Version,
        params: Vec<u8>,
    ) -> Result<Self, rustls::Error> {
        let tls = ServerConnection::new(config, tls_version(version), params)?;
        Ok(Self { tls: Box::new(Tls::Server(tls)), write_level: Level::Initial })
    }

    /// Takes CRYPTO bytes in order. An error is the transport error to close with.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<(), (TransportErrorCode, String)> {
        self.tls.read_hs(bytes).map_err(|e| {
            // RFC 9001 section 4.8: the alert is carried in the CRYPTO_ERROR range.
            let code = self
                .tls
                .alert()
                .map_or(TransportErrorCode::PROTOCOL_VIOLATION, |alert| TransportErrorCode::crypto(u8::from(alert)));
            (code, format!("TLS: {e}"))
        })
    }

    /// Next thing to do; CRYPTO bytes are appended to `out`. Call until `None`.
    pub(crate) fn poll(&mut self, out: &mut Vec<u8>) -> Option<Vec<SessionEvent>> {
        let before = out.len();
        let change = self.tls.write_hs(out);
        let mut events = Vec::with_capacity(2);
        if out.len() > before {
            events.push(SessionEvent::Send(self.write_level));
        }
        match change {
            Some(KeyChange::Handshake { keys }) => {
                self.write_level = Level::Handshake;
                events.push(SessionEvent::HandshakeKeys(Box::new(keys)));
            }
            Some(KeyChange::OneRtt { keys, next }) => {
                self.write_level = Level::OneRtt;
                events.push(SessionEvent::OneRttKeys(Box::new(keys), Box::new(next)));
            }
            None => {}
        }
        (!events.is_empty()).then_some(events)
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// The peer's transport parameters as they came; authentic only once the handshake is complete.
    pub(crate) fn peer_params(&self) -> Option<&[u8]> {
        self.tls.quic_transport_parameters()
    }

    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    pub(crate) fn server_name(&self) -> Option<&str> {
        match &*self.tls {
            Tls::Server(server) => server.server_name(),
            Tls::Client(_) => None,
        }
    }

    pub(crate) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.tls.peer_certificates()
    }

    pub(crate) fn export(&self, out: &mut [u8], label: &[u8], context: &[u8]) -> Result<(), rustls::Error> {
        self.tls.export_keying_material(out, label, Some(context)).map(|_| ())
    }
}

pub(crate) fn tls_version(version: Version) -> TlsVersion {
    if version == Version::V2 { TlsVersion::V2 } else { TlsVersion::V1 }
}
