//! The TLS 1.3 session of a connection: CRYPTO bytes in, CRYPTO bytes and keys out (RFC 9001 section 4).

use std::sync::Arc;

use rustls::HandshakeKind;
use rustls::client::Resumption;
use rustls::quic::{
    ClientConnection, Connection as Tls, DirectionalKeys, KeyChange, Secrets, ServerConnection, Version as TlsVersion,
};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::{CertificateDer, ServerName};
use warpline_wire::client_hello::{Scan, scan};
use warpline_wire::{Side, TransportErrorCode, TransportParameters, Version};

use super::keys::LevelKeys;
use super::portable::{Messages, listen};
use super::schedule::{Exporter, SuiteParts, TrafficSecrets};
use super::tap::{Tap, Wanted};
use crate::config::{ClientConfig, ServerConfig};
use crate::limits::CRYPTO_BUFFER_MAX;
use crate::resume::{SavedSession, SessionView};

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
    OneRttKeys(Box<LevelKeys>, NextKeys),
}

/// Where the keys of later generations come from.
pub(crate) enum NextKeys {
    /// From TLS.
    Tls(Box<Secrets>),
    /// From this crate, for a version that TLS was not begun with.
    Own(Box<TrafficSecrets>),
}

/// The TLS session.
pub(crate) enum Session {
    /// (Server) The ClientHello is not all there yet, so the version is open and TLS not begun.
    Hello(Box<Hello>),
    /// TLS has, or may yet have, something to do.
    Live(Box<Live>),
    /// (Server) TLS is done; its memory is given back.
    Over(Box<Established>),
}

/// What a server has before the ClientHello is complete.
pub(crate) struct Hello {
    config: Arc<ServerConfig>,
    params: TransportParameters,
    bytes: Vec<u8>,
}

/// TLS at work.
pub(crate) struct Live {
    tls: Tls,
    write_level: Level,
    tap: Option<Arc<Tap>>,
    view: Option<Arc<SessionView>>,
    keeper: Option<Box<Keeper>>,
    /// The version that TLS derives keys for.
    version: Version,
    /// The version in use.
    negotiated: Version,
}

/// (Client) What keeps sessions for other processes.
struct Keeper {
    messages: Messages,
    time: Arc<dyn TimeProvider>,
}

/// What is still asked for after the handshake.
pub(crate) struct Established {
    alpn: Option<Box<[u8]>>,
    server_name: Option<Box<str>>,
    certificates: Option<Vec<CertificateDer<'static>>>,
    exporter: Exporter,
    resumed: bool,
}

/// What TLS makes of bytes: the error is the transport error to close with.
type ReadResult = Result<(), (TransportErrorCode, String)>;

impl Session {
    /// A client's session, with what is remembered of the server.
    pub(crate) fn client(
        config: &ClientConfig,
        view: SessionView,
        version: Version,
        name: ServerName<'static>,
        params: Vec<u8>,
    ) -> Result<Self, rustls::Error> {
        let view = Arc::new(view);
        let keeper =
            config.portable.map(|_| Keeper { messages: Messages::default(), time: config.tls.time_provider.clone() });
        let mut tls = (*config.tls).clone();
        let tap = Tap::new(tls.key_log.clone(), Wanted::Traffic);
        tls.key_log = tap.clone();
        tls.resumption = Resumption::store(view.clone());
        tls.enable_early_data = config.early_data;
        let tls = ClientConnection::new(Arc::new(tls), tls_version(version), name, params)?;
        Ok(Self::Live(Box::new(Live {
            tls: Tls::Client(tls),
            write_level: Level::Initial,
            tap: Some(tap),
            view: Some(view),
            keeper: keeper.map(Box::new),
            version,
            negotiated: version,
        })))
    }

    /// A server's session, which waits for the ClientHello.
    pub(crate) fn server(config: Arc<ServerConfig>, params: TransportParameters) -> Self {
        Self::Hello(Box::new(Hello { config, params, bytes: Vec::new() }))
    }

    fn live(&self) -> Option<&Live> {
        match self {
            Self::Live(live) => Some(live),
            Self::Hello(_) | Self::Over(_) => None,
        }
    }

    /// Takes CRYPTO bytes in order. An error is the transport error to close with.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> ReadResult {
        match self {
            Self::Hello(hello) => {
                hello.bytes.extend_from_slice(bytes);
                Ok(())
            }
            Self::Live(live) => live.read(bytes),
            // RFC 9001 section 6: in QUIC a client has nothing to say in TLS after its Finished. 10 is unexpected_message.
            Self::Over(_) => {
                Err((TransportErrorCode::crypto(10), "TLS: a message after the handshake is complete".into()))
            }
        }
    }

    /// (Server) What the client offers, once the ClientHello is complete: the choice of a version, which `begin` takes.
    pub(crate) fn choose_version(&self, original: Version, spoken: &[Version]) -> Option<Version> {
        let Self::Hello(hello) = self else { return None };
        match scan(&hello.bytes, CRYPTO_BUFFER_MAX) {
            Scan::Incomplete => None,
            // TLS says what is wrong with it.
            Scan::Foreign => Some(original),
            Scan::Hello(offer) => Some(offer.choose(&hello.bytes, original, spoken)),
        }
    }

    /// (Server) Begins TLS for `version` with what the client has sent so far.
    pub(crate) fn begin(&mut self, version: Version, available: &[Version]) -> ReadResult {
        let Self::Hello(hello) = self else { return Ok(()) };
        hello.params.version_information =
            Some(warpline_wire::VersionInformation { chosen: version, available: available.to_vec() });
        let mut params = Vec::with_capacity(256);
        hello.params.encode(&mut params, Side::Server);
        let bytes = std::mem::take(&mut hello.bytes);
        if matches!(scan(&bytes, CRYPTO_BUFFER_MAX), Scan::Hello(offer) if !offer.has_params()) {
            // RFC 9001 section 8.2; TLS would also take the extension's type of the drafts, 0xffa5. 109 is missing_extension.
            return Err((TransportErrorCode::crypto(109), "TLS: no transport parameters".into()));
        }
        let mut tls = hello.config.tls_for(version);
        let tap = Tap::new(tls.key_log.clone(), Wanted::Exporter);
        tls.key_log = tap.clone();
        let tls = ServerConnection::new(Arc::new(tls), tls_version(version), params)
            .map_err(|e| (TransportErrorCode::INTERNAL_ERROR, format!("TLS configuration: {e}")))?;
        let mut live = Live {
            tls: Tls::Server(tls),
            write_level: Level::Initial,
            tap: Some(tap),
            view: None,
            keeper: None,
            version,
            negotiated: version,
        };
        let result = live.read(&bytes);
        *self = Self::Live(Box::new(live));
        result
    }

    /// (Client) The server goes on with another version: keys and tickets are of that one from now on.
    pub(crate) fn set_version(&mut self, version: Version) {
        if let Self::Live(live) = self {
            live.negotiated = version;
            if let Some(view) = &live.view {
                view.set_version(version);
            }
        }
    }

    /// Next thing to do; CRYPTO bytes are appended to `out`. Call until `None`.
    pub(crate) fn poll(&mut self, out: &mut Vec<u8>) -> Option<Vec<SessionEvent>> {
        match self {
            Self::Live(live) => live.poll(out),
            Self::Hello(_) | Self::Over(_) => None,
        }
    }

    /// Keys for early data, if TLS resumes a session that allows it.
    pub(crate) fn zero_rtt_keys(&self) -> Option<Box<DirectionalKeys>> {
        self.live()?.tls.zero_rtt_keys().map(Box::new)
    }

    /// (Client) The server takes the early data; known once the handshake is complete.
    pub(crate) fn is_early_data_accepted(&self) -> bool {
        match self.live().map(|l| &l.tls) {
            Some(Tls::Client(client)) => client.is_early_data_accepted(),
            _ => false,
        }
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        match self {
            Self::Hello(_) => true,
            Self::Live(live) => live.tls.is_handshaking(),
            Self::Over(_) => false,
        }
    }

    /// True when the handshake resumed an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        match self {
            Self::Hello(_) => false,
            Self::Live(live) => live.tls.handshake_kind() == Some(HandshakeKind::Resumed),
            Self::Over(over) => over.resumed,
        }
    }

    /// The peer's transport parameters as they came; authentic only once the handshake is complete. On a client that resumes
    /// a session: first those that the server had then.
    pub(crate) fn peer_params(&self) -> Option<&[u8]> {
        self.live()?.tls.quic_transport_parameters()
    }

    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Hello(_) => None,
            Self::Live(live) => live.tls.alpn_protocol(),
            Self::Over(over) => over.alpn.as_deref(),
        }
    }

    pub(crate) fn server_name(&self) -> Option<&str> {
        match self {
            Self::Live(live) => match &live.tls {
                Tls::Server(server) => server.server_name(),
                Tls::Client(_) => None,
            },
            Self::Over(over) => over.server_name.as_deref(),
            Self::Hello(_) => None,
        }
    }

    pub(crate) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        match self {
            Self::Hello(_) => None,
            Self::Live(live) => live.tls.peer_certificates(),
            Self::Over(over) => over.certificates.as_deref(),
        }
    }

    /// Fills `out` with keying material; false before the handshake is complete, or for more than TLS gives.
    pub(crate) fn export(&self, out: &mut [u8], label: &[u8], context: &[u8]) -> bool {
        match self {
            Self::Hello(_) => false,
            Self::Live(live) => live.tls.export_keying_material(out, label, Some(context)).is_ok(),
            Self::Over(over) => over.exporter.export(out, label, context),
        }
    }

    /// (Server) Gives TLS up once it has nothing left to say or hear, and keeps what may be asked for.
    pub(crate) fn retire(&mut self) {
        let Self::Live(live) = self else { return };
        let Tls::Server(server) = &live.tls else { return };
        let parts = live.tls.negotiated_cipher_suite().and_then(|suite| SuiteParts::of(suite.suite()));
        let secret = live.tap.as_ref().and_then(|tap| tap.take_exporter());
        let (Some(parts), Some(secret)) = (parts, secret) else { return };
        let over = Established {
            alpn: live.tls.alpn_protocol().map(Into::into),
            server_name: server.server_name().map(Into::into),
            certificates: live.tls.peer_certificates().map(<[_]>::to_vec),
            exporter: Exporter { parts, secret },
            resumed: live.tls.handshake_kind() == Some(HandshakeKind::Resumed),
        };
        *self = Self::Over(Box::new(over));
    }
}

impl Live {
    fn read(&mut self, bytes: &[u8]) -> ReadResult {
        match self.keeper.take_if(|_| !self.tls.is_handshaking()) {
            Some(mut keeper) => {
                let result = self.read_tickets(bytes, &mut keeper);
                self.keeper = Some(keeper);
                result
            }
            None => self.feed(bytes),
        }
    }

    /// Gives TLS one message after the other, and keeps what becomes of those that are tickets.
    fn read_tickets(&mut self, mut bytes: &[u8], keeper: &mut Keeper) -> ReadResult {
        while let Some((part, message)) = keeper.messages.next(&mut bytes) {
            let (result, secret) = listen(|| self.feed(part));
            result?;
            let Some(view) = &self.view else { continue };
            view.settle(|session, identity| {
                Some(SavedSession {
                    suite: session.suite().common.suite.into(),
                    received: keeper.time.current_time()?.as_secs(),
                    identity,
                    alpn: self.tls.alpn_protocol().unwrap_or_default().into(),
                    secret: secret?,
                    ticket: message?.into(),
                    params: session.quic_params().into(),
                    chain: self.tls.peer_certificates()?.into(),
                })
            });
        }
        Ok(())
    }

    fn feed(&mut self, bytes: &[u8]) -> ReadResult {
        self.tls.read_hs(bytes).map_err(|e| {
            // RFC 9001 section 4.8: the alert is carried in the CRYPTO_ERROR range.
            let code = self
                .tls
                .alert()
                .map_or(TransportErrorCode::PROTOCOL_VIOLATION, |alert| TransportErrorCode::crypto(u8::from(alert)));
            (code, format!("TLS: {e}"))
        })
    }

    fn poll(&mut self, out: &mut Vec<u8>) -> Option<Vec<SessionEvent>> {
        let before = out.len();
        let change = self.tls.write_hs(out);
        let mut events = Vec::with_capacity(2);
        if out.len() > before {
            events.push(SessionEvent::Send(self.write_level));
        }
        match change {
            Some(KeyChange::Handshake { keys }) => {
                self.write_level = Level::Handshake;
                let own = self.own_secrets(Level::Handshake);
                events.push(SessionEvent::HandshakeKeys(Box::new(own.map_or(keys, |secrets| secrets.keys()))));
            }
            Some(KeyChange::OneRtt { keys, next }) => {
                self.write_level = Level::OneRtt;
                events.push(match self.own_secrets(Level::OneRtt) {
                    Some(mut secrets) => {
                        let keys = secrets.keys();
                        secrets.update();
                        SessionEvent::OneRttKeys(Box::new(keys), NextKeys::Own(Box::new(secrets)))
                    }
                    None => SessionEvent::OneRttKeys(Box::new(keys), NextKeys::Tls(Box::new(next))),
                });
                if self.view.is_some() {
                    self.tap = None;
                }
            }
            None => {}
        }
        (!events.is_empty()).then_some(events)
    }

    /// (Client) The secrets of a level, where the keys that TLS makes of them are those of another version than the one in use.
    fn own_secrets(&self, level: Level) -> Option<TrafficSecrets> {
        if self.negotiated == self.version {
            return None;
        }
        let parts = SuiteParts::of(self.tls.negotiated_cipher_suite()?.suite())?;
        let tap = self.tap.as_ref()?;
        let (client, server) = if level == Level::Handshake { tap.take_handshake()? } else { tap.take_traffic()? };
        Some(TrafficSecrets { parts, version: self.negotiated, local: client, remote: server })
    }
}

pub(crate) fn tls_version(version: Version) -> TlsVersion {
    if version == Version::V2 { TlsVersion::V2 } else { TlsVersion::V1 }
}
