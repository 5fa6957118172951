//! Settings of a server.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;

use rustls::KeyLog;
use rustls::quic::Suite;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use warpline_wire::{ConnectionId, PreferredAddress as Parameter, ResetToken, Version};

use super::TransportConfig;
use super::tls::{ClientAuth, TlsOptions};
use crate::crypto::FleetKeys;
use crate::crypto::provider::{PacketCrypto, initial_suite};
use crate::error::ConfigError;
use crate::limits::SERVER_SESSIONS;
use crate::resume::{Binding, SessionStore, TicketKeys, VersionTickets};

/// When a server asks a client to prove its address before it keeps any state (RFC 9000 section 8.1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryPolicy {
    /// Only when many handshakes are open.
    #[default]
    UnderLoad,
    /// Every client without a token.
    Always,
    /// Never.
    Never,
}

/// Settings of a server.
#[derive(Clone)]
pub struct ServerConfig {
    pub(crate) tls: Arc<rustls::ServerConfig>,
    pub(crate) initial_suite: Suite,
    /// Settings of the transport.
    pub transport: Arc<TransportConfig>,
    /// When a client must prove its address first.
    pub retry: RetryPolicy,
    /// Handshakes of one source, an IPv4 address or an IPv6 network of 64 bits, that may be open at each worker. Beyond half of
    /// it the source must prove its addresses (unless `retry` is `Never`), beyond all of it its first packets are dropped.
    pub half_open_per_source: usize,
    /// NEW_TOKEN frames sent after the handshake, so that the client need not prove its address the next time.
    pub new_tokens: u8,
    /// Where clients shall go once the handshake is done (RFC 9000 section 9.6). The endpoint must receive there too.
    pub preferred_address: Option<PreferredAddress>,
    /// Clients may move to another address by themselves. Without it they are told not to (`disable_active_migration`); one
    /// whose NAT gives it another address is followed all the same.
    pub active_migration: bool,
    resumption: Resumption,
    early_data: bool,
}

/// The addresses that a server would rather be reached at, by family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PreferredAddress {
    /// For clients with IPv4.
    pub v4: Option<SocketAddrV4>,
    /// For clients with IPv6.
    pub v6: Option<SocketAddrV6>,
}

impl PreferredAddress {
    /// What the client is told.
    pub(crate) fn parameter(&self, cid: ConnectionId, reset_token: ResetToken) -> Parameter {
        // All zeros stand for none (RFC 9000 section 18.2).
        let v4 = self.v4.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
        let v6 = self.v6.unwrap_or(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0));
        Parameter { v4, v6, cid, reset_token }
    }
}

/// How clients resume sessions.
#[derive(Clone)]
enum Resumption {
    /// This process keeps them.
    Kept(Arc<SessionStore>),
    /// Tickets carry them, sealed with keys of the fleet.
    Sealed(Arc<TicketKeys>),
}

impl ServerConfig {
    /// A server that shows `chain` and speaks one of the application protocols `alpn`.
    pub fn with_single_cert(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        alpn: &[&[u8]],
    ) -> Result<Self, ConfigError> {
        Self::with_packet_crypto(PacketCrypto::Auto, chain, key, alpn)
    }

    /// The same with a named library for sealing packets.
    pub fn with_packet_crypto(
        crypto: PacketCrypto,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        alpn: &[&[u8]],
    ) -> Result<Self, ConfigError> {
        let options = TlsOptions { crypto, ..TlsOptions::default() };
        Self::with_options(chain, key, alpn, &options, &ClientAuth::None)
    }

    /// A server with all of its TLS settings.
    ///
    /// # Errors
    /// A cipher suite that QUIC does not use, an option that is for clients, or what TLS says of certificate, key or roots.
    pub fn with_options(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        alpn: &[&[u8]],
        options: &TlsOptions,
        clients: &ClientAuth,
    ) -> Result<Self, ConfigError> {
        let tls_error = |e: rustls::Error| ConfigError::Tls(e.to_string());
        if options.portable_sessions {
            let why = "are for clients: a server has fleet_tickets";
            return Err(ConfigError::OutOfRange { name: "portable_sessions", why });
        }
        let provider = options.provider()?;
        let mut tls = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls_error)?
            .with_client_cert_verifier(clients.verifier(&provider)?)
            .with_single_cert(chain, key)
            .map_err(tls_error)?;
        tls.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        Self::with_rustls(Arc::new(tls))
    }

    /// A server with a TLS configuration of the caller's. Its session store, tickets and `max_early_data_size` are not used: see
    /// [`keep_sessions`](Self::keep_sessions), [`fleet_tickets`](Self::fleet_tickets) and
    /// [`early_data`](Self::early_data).
    pub fn with_rustls(tls: Arc<rustls::ServerConfig>) -> Result<Self, ConfigError> {
        let initial_suite = initial_suite(tls.crypto_provider());
        Ok(Self {
            tls,
            initial_suite,
            transport: Arc::default(),
            retry: RetryPolicy::default(),
            half_open_per_source: crate::limits::HALF_OPEN_PER_SOURCE,
            new_tokens: 1,
            preferred_address: None,
            active_migration: true,
            resumption: Resumption::Kept(Arc::new(SessionStore::new(SERVER_SESSIONS))),
            early_data: false,
        })
    }

    /// The same server, which keeps up to `sessions` sessions itself for clients to resume, each once; 0 for none. The default,
    /// with [`SERVER_SESSIONS`].
    #[must_use]
    pub fn keep_sessions(mut self, sessions: usize) -> Self {
        self.resumption = Resumption::Kept(Arc::new(SessionStore::new(sessions)));
        self
    }

    /// The same server, whose clients carry their sessions in tickets sealed by `keys`: any process with the keys resumes
    /// them, and none keeps anything.
    ///
    /// # Errors
    /// Together with early data: nothing would notice that it is played again.
    pub fn fleet_tickets(mut self, keys: &FleetKeys) -> Result<Self, ConfigError> {
        self.resumption = Resumption::Sealed(Arc::new(TicketKeys::new(keys)));
        let early_data = self.early_data;
        self.early_data(early_data)
    }

    /// The same server, which takes early data (RFC 9001 section 4.6). Of a session that it keeps, it takes it once, and
    /// only within a minute of the time that the ticket claims: a replayed first flight is answered by a full handshake, its early
    /// data is dropped (RFC 8446 section 8). A client that is answered so repeats the data by itself, so that what
    /// it asks for may arrive twice nevertheless; [`Connection::is_early`](crate::Connection::is_early) tells which
    /// streams to be careful with.
    ///
    /// # Errors
    /// Together with [`fleet_tickets`](Self::fleet_tickets), which can be resumed any number of times.
    pub fn early_data(mut self, accept: bool) -> Result<Self, ConfigError> {
        if accept && matches!(self.resumption, Resumption::Sealed(_)) {
            let why = "is only taken of sessions that the server keeps: sealed tickets can be replayed";
            return Err(ConfigError::OutOfRange { name: "early_data", why });
        }
        self.early_data = accept;
        Ok(self)
    }

    /// The same server with a log that is given the secrets of every connection, for Wireshark and its like: who reads it
    /// reads all that the connections carry.
    #[must_use]
    pub fn key_log(mut self, log: Arc<dyn KeyLog>) -> Self {
        Arc::make_mut(&mut self.tls).key_log = log;
        self
    }

    /// The TLS configuration of one connection: sessions are bound to its version.
    pub(crate) fn tls_for(&self, version: Version) -> rustls::ServerConfig {
        let mut tls = (*self.tls).clone();
        let binding = Binding::new(version, self.early_limits());
        match &self.resumption {
            Resumption::Kept(store) => {
                tls.session_storage = Arc::new(VersionTickets { inner: store.clone(), binding });
                tls.ticketer = Arc::new(NoTickets);
            }
            Resumption::Sealed(keys) => tls.ticketer = Arc::new(VersionTickets { inner: keys.clone(), binding }),
        }
        // RFC 9001 section 4.6.1: any other value is forbidden; the transport's windows are the limit.
        tls.max_early_data_size = if self.early_data { u32::MAX } else { 0 };
        tls
    }

    /// What a client that sends early data remembers and obeys (RFC 9000 section 7.4.1, RFC 9221 section 3).
    fn early_limits(&self) -> [u64; 7] {
        let t = &self.transport;
        [
            t.connection_window,
            t.first_stream_window(),
            t.max_concurrent_bidi,
            t.max_concurrent_uni,
            crate::limits::REMOTE_CIDS_MAX,
            t.datagram_receive_buffer.map_or(0, |_| crate::limits::DATAGRAM_FRAME_MAX),
            // A peer that may send RESET_STREAM_AT early may do so later.
            u64::from(t.extensions.reset_stream_at),
        ]
    }

    /// The same server with other settings of the transport.
    pub fn transport(mut self, transport: TransportConfig) -> Result<Self, ConfigError> {
        transport.validate()?;
        self.transport = Arc::new(transport);
        Ok(self)
    }
}

impl std::fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConfig")
            .field("transport", &self.transport)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// Sealed tickets are off.
#[derive(Debug)]
struct NoTickets;

impl rustls::server::ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}
