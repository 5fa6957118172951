//! How a connection begins, on either side.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::quic::Suite;
use rustls_pki_types::ServerName;
use warpline_wire::{ConnectionId, ResetToken, Side, TransportParameters, Version, VersionInformation};

use super::handshake::{Handshake, Origin, Progress};
use super::lifecycle::Lifecycle;
use super::stats::Counters;
use super::timers::Timers;
use super::versions::offered;
use super::{Connection, Identity, Paths, PtoState, Spaces};
use crate::config::{ClientConfig, ServerConfig, TransportConfig};
use crate::congestion::CarefulResume;
use crate::crypto::{Keys, Level, Session};
use crate::cx::Cx;
use crate::datagram::Datagrams;
use crate::event::Event;
use crate::ids::{LocalCids, RemoteCids};
use crate::limits::{DATAGRAM_FRAME_MAX, MIN_ACK_DELAY, REMOTE_CIDS_MAX};
use crate::path::Path;
use crate::resume::{PathKey, ServerKey, SessionView};
use crate::space::PacketSpace;
use crate::streams::Streams;

/// What is known when a connection begins.
pub(crate) struct Opening {
    pub(crate) version: Version,
    pub(crate) remote: SocketAddr,
    pub(crate) local: Option<IpAddr>,
    /// The ID that this side will be addressed by.
    pub(crate) local_cid: ConnectionId,
    /// Partition key of all IDs of this side.
    pub(crate) key: u16,
    /// Client: the ID guessed for the server. Server: the client's source ID.
    pub(crate) remote_cid: ConnectionId,
    /// Destination of the client's very first Initial.
    pub(crate) original_dcid: ConnectionId,
    /// Destination of the Initial that this connection begins with.
    pub(crate) initial_dcid: ConnectionId,
    /// Server: the client proved its address with a token.
    pub(crate) validated: bool,
    /// Client: a token from an earlier connection.
    pub(crate) token: Vec<u8>,
}

/// What a client keeps for its connection.
pub(super) struct ClientSide {
    config: ClientConfig,
    name: ServerName<'static>,
    port: u16,
    /// A Version Negotiation packet was heeded (RFC 9368 section 4).
    pub(super) reacted: bool,
    /// The limits that early data is sent within.
    pub(super) remembered: Option<Box<TransportParameters>>,
}

impl ClientSide {
    /// A token for the server's address, to be used once.
    pub(super) fn token(&self, version: Version) -> Option<Vec<u8>> {
        self.config.memory.take_token(&ServerKey::new(&self.name, self.port, version))
    }

    /// Keeps a token that the server gave.
    pub(super) fn keep_token(&self, version: Version, token: &[u8]) {
        self.config.memory.put_token(ServerKey::new(&self.name, self.port, version), token);
    }
}

/// A client's TLS session, which offers `version` and those that it can be turned into.
pub(super) fn client_session(
    cx: &mut Cx<'_>,
    client: &ClientSide,
    version: Version,
    local_cid: ConnectionId,
) -> Result<(Session, TransportParameters), rustls::Error> {
    let mut params = local_params(cx, &client.config.transport, local_cid);
    let available = offered(&cx.config.versions, version);
    params.version_information = Some(VersionInformation { chosen: version, available });
    let mut raw = Vec::with_capacity(192);
    params.encode(&mut raw, Side::Client);
    let view = SessionView::new(&client.config, client.port, version);
    Ok((Session::client(&client.config, view, version, client.name.clone(), raw)?, params))
}

impl Connection {
    /// A client's connection; its first Initial is ready to be sent.
    pub(crate) fn client(
        cx: &mut Cx<'_>,
        config: &ClientConfig,
        name: ServerName<'static>,
        opening: Opening,
    ) -> Result<Self, rustls::Error> {
        let port = opening.remote.port();
        let client = ClientSide { config: config.clone(), name, port, reacted: false, remembered: None };
        let (session, params) = client_session(cx, &client, opening.version, opening.local_cid)?;
        let transport = config.transport.clone();
        let mut connection = Self::new(cx, Side::Client, config.initial_suite, transport, session, opening);
        connection.handshake.client = Some(Box::new(client));
        connection.log_parameters(cx.now, Some("local"), &params);
        connection.drive_tls();
        connection.offer_early_data(cx.now);
        Ok(connection)
    }

    /// A server's connection, before its first Initial is handled.
    pub(crate) fn server(cx: &mut Cx<'_>, config: &Arc<ServerConfig>, opening: Opening) -> Self {
        let mut params = local_params(cx, &config.transport, opening.local_cid);
        let preferred = config.preferred_address.filter(|_| !opening.local_cid.is_empty());
        let mut local_cids = LocalCids::new(opening.key, opening.local_cid);
        if let Some(preferred) = preferred {
            let cid = local_cids.issue(cx);
            params.preferred_address = Some(preferred.parameter(cid, cx.config.reset_key.token(&cid)));
        }
        params.disable_active_migration = !config.active_migration || !cx.routes.cids.gives_spares();
        params.original_destination_connection_id = Some(opening.original_dcid);
        let retried = opening.original_dcid != opening.initial_dcid;
        params.retry_source_connection_id = retried.then_some(opening.initial_dcid);
        params.stateless_reset_token = Some(ResetToken(cx.config.reset_key.token(&opening.local_cid).0));
        let logged = cx.config.qlog.then(|| params.clone());
        let session = Session::server(config.clone(), params);
        let peer_scid = opening.remote_cid;
        let transport = config.transport.clone();
        let mut connection = Self::new(cx, Side::Server, config.initial_suite, transport, session, opening);
        if let Some(params) = logged {
            connection.log_parameters(cx.now, Some("local"), &params);
        }
        connection.handshake.peer_scid = Some(peer_scid);
        *connection.local_cids = local_cids;
        connection.handshake.new_tokens = config.new_tokens;
        connection.emit(Event::Accepting);
        connection
    }

    fn new(
        cx: &mut Cx<'_>,
        side: Side,
        suite: Suite,
        config: Arc<TransportConfig>,
        session: Session,
        opening: Opening,
    ) -> Self {
        let tls_version = crate::crypto::tls_version(opening.version);
        let ids = (&opening.local_cid.clone(), &opening.remote_cid.clone());
        let tls_side = if side == Side::Client { rustls::Side::Client } else { rustls::Side::Server };
        let initial = suite.keys(&opening.initial_dcid, tls_side, tls_version);
        let mut path = Path::new(opening.remote, opening.local, &config, side == Side::Client || opening.validated);
        path.resume = config.careful_resume.as_ref().map(|memory| {
            let key = PathKey { local: opening.local, remote: opening.remote.ip() };
            Box::new(CarefulResume::new(memory.clone(), key))
        });
        let origin = Origin {
            version: opening.version,
            first_dcid: opening.original_dcid,
            initial_dcid: opening.initial_dcid,
            retry_scid: None,
        };
        let streams = Streams::new(side, &config, cx.rng.u64());
        let datagrams = Datagrams::new(config.datagram_receive_buffer, config.datagram_send_buffer);
        let mut connection = Self {
            identity: Identity { side, version: opening.version },
            progress: Progress::default(),
            is_quiet: false,
            handshake: Box::new(Handshake::new(origin, session, suite, opening.token)),
            keys: Keys { initial: Some(Box::new(initial)), ..Keys::default() },
            spaces: Spaces {
                initial: Some(Box::new(PacketSpace::new(Level::Initial))),
                handshake: None,
                data: PacketSpace::new(Level::OneRtt),
            },
            paths: Paths::new(path),
            local_cids: Box::new(LocalCids::new(opening.key, opening.local_cid)),
            remote_cids: RemoteCids::new(opening.remote_cid),
            pto: PtoState { peer_ack_delay_exponent: 3, ..PtoState::default() },
            streams,
            datagrams,
            lifecycle: Lifecycle::new(config.max_idle_timeout),
            timers: Timers::default(),
            events: VecDeque::new(),
            counters: Counters::default(),
            log: None,
            config,
        };
        connection.restart_idle_timer(cx.now);
        connection.start_log(cx, ids);
        connection
    }
}

/// The transport parameters that this side announces (RFC 9000 section 18.2).
fn local_params(cx: &mut Cx<'_>, config: &TransportConfig, local_cid: ConnectionId) -> TransportParameters {
    TransportParameters {
        max_idle_timeout: config.max_idle_timeout.map_or(0, |d| d.as_millis().min(1 << 60) as u64),
        max_udp_payload_size: u64::from(config.receive_mtu),
        initial_max_data: config.connection_window,
        initial_max_stream_data_bidi_local: config.first_stream_window(),
        initial_max_stream_data_bidi_remote: config.first_stream_window(),
        initial_max_stream_data_uni: config.first_stream_window(),
        initial_max_streams_bidi: config.max_concurrent_bidi,
        initial_max_streams_uni: config.max_concurrent_uni,
        max_ack_delay: config.max_ack_delay.as_millis() as u64,
        min_ack_delay: config
            .extensions
            .ack_frequency
            .then(|| MIN_ACK_DELAY.min(config.max_ack_delay).as_micros() as u64),
        reset_stream_at: config.extensions.reset_stream_at,
        observed_address: config.extensions.address_discovery.parameter(),
        active_connection_id_limit: REMOTE_CIDS_MAX,
        initial_source_connection_id: Some(local_cid),
        max_datagram_frame_size: config.datagram_receive_buffer.map(|_| DATAGRAM_FRAME_MAX),
        grease_quic_bit: config.grease_quic_bit,
        grease: Some(cx.rng.u64()),
        ..TransportParameters::default()
    }
}
