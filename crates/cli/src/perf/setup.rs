//! Configurations of both sides: one cipher suite, one key exchange, as the comparison has it.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use warpline::engine::WorkerHandle;
use warpline::{
    ClientConfig, CongestionAlgorithm, EndpointBuilder, EndpointStats, Identity, IoConfig, IoStats, PacketDrops,
    ServerConfig, TlsOptions, TransportConfig, Trust, provider,
};
use warpline_peer_kit::{ALPN, Congestion, Result};

use super::{ClientArgs, Common, ServerArgs};
use crate::crypto::CryptoChoice;

/// The transport that the arguments ask for.
fn transport(common: &Common) -> TransportConfig {
    TransportConfig {
        initial_mtu: common.payload,
        mtu_ceiling: common.payload,
        stream_window: common.window,
        stream_window_max: common.window,
        connection_window: common.window * 16,
        connection_window_max: common.window * 16,
        careful_resume: common.careful_resume.then(Arc::default),
        congestion: common.congestion.map_or_else(CongestionAlgorithm::default, algorithm),
        max_concurrent_bidi: 10_000,
        max_idle_timeout: Some(Duration::from_secs(60)),
        ..TransportConfig::default()
    }
}

fn algorithm(congestion: Congestion) -> CongestionAlgorithm {
    match congestion {
        Congestion::NewReno => CongestionAlgorithm::NewReno,
        Congestion::Cubic => CongestionAlgorithm::Cubic,
        Congestion::Bbr => CongestionAlgorithm::Bbr,
    }
}

/// TLS_AES_128_GCM_SHA256 and X25519 alone.
fn tls(choice: &CryptoChoice) -> Result<Arc<rustls::crypto::CryptoProvider>> {
    let mut crypto = (*provider::provider(choice.crypto)?).clone();
    crypto.cipher_suites.retain(|s| s.suite() == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    crypto.kx_groups = vec![kx_group::X25519];
    Ok(Arc::new(crypto))
}

/// What the packet back end did, for the output.
pub(super) fn io_report(workers: &[WorkerHandle]) -> serde_json::Value {
    let Some(choice) = workers.first().map(WorkerHandle::io_choice) else { return serde_json::Value::Null };
    let io: Vec<IoStats> = workers.iter().map(WorkerHandle::io_stats).collect();
    let sum = |of: fn(&IoStats) -> u64| io.iter().map(of).sum::<u64>();
    serde_json::json!({
        "backend": choice.kind.name(),
        "why": choice.why,
        "xdp": crate::io::xdp_report(workers),
        "syscalls": sum(IoStats::syscalls),
        "datagrams": sum(|io| io.rx_datagrams + io.tx_datagrams),
        "trains": sum(|io| io.rx_trains + io.tx_trains),
        "turns": workers.iter().map(|worker| worker.stats().turns).sum::<u64>(),
    })
}

/// Who seals packets, for the output.
pub(super) fn crypto_report(choice: &CryptoChoice) -> serde_json::Value {
    serde_json::json!({ "library": choice.name(), "why": choice.why, "qat": choice.qat_report() })
}

/// Datagrams and packets that this side dropped, by reason.
pub(super) fn drop_report(datagrams: &EndpointStats, packets: &PacketDrops) -> serde_json::Value {
    serde_json::json!({
        "malformed": datagrams.dropped_malformed + packets.malformed,
        "unknown_cid": datagrams.dropped_unknown_cid,
        "small_initial": datagrams.dropped_small_initial + packets.small_initial,
        "bad_initial": datagrams.dropped_bad_initial,
        "overload": datagrams.dropped_overload,
        "not_server": datagrams.dropped_not_server,
        "invalid_token": datagrams.invalid_tokens,
        "foreign_address": packets.foreign_address,
        "unknown_version": packets.unknown_version,
        "unexpected": packets.unexpected,
        "no_keys": packets.no_keys,
        "duplicate": packets.duplicate,
        "not_authentic": packets.not_authentic,
    })
}

/// An endpoint that moves packets as the arguments say.
pub(super) fn endpoint(common: &Common, builder: EndpointBuilder) -> EndpointBuilder {
    let io = IoConfig {
        busy_poll: Duration::from_micros(common.busy_poll),
        sq_poll: Duration::from_millis(common.sq_poll),
        ..common.io.config()
    };
    common.trace.endpoint(common.io.endpoint(builder).io(io))
}

pub(super) fn server(args: &ServerArgs, choice: &CryptoChoice) -> Result<ServerConfig> {
    let (chain, key) = match (&args.cert, &args.key) {
        (Some(cert), Some(key)) => {
            let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
            (chain, PrivateKeyDer::from_pem_file(key)?)
        }
        _ => {
            let identity = Identity::generate(["localhost"])?;
            (vec![identity.certificate.clone()], identity.key())
        }
    };
    let mut tls = rustls::ServerConfig::builder_with_provider(tls(choice)?)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    Ok(ServerConfig::with_rustls(Arc::new(tls))?.early_data(true)?.transport(transport(&args.common))?)
}

pub(super) fn client(args: &ClientArgs, choice: &CryptoChoice) -> Result<ClientConfig> {
    let Some(ca) = &args.ca else {
        let options = TlsOptions { crypto: choice.crypto, ..TlsOptions::default() };
        let config = ClientConfig::with_options(&Trust::Anyone, &[ALPN], &options, None)?;
        return Ok(config.transport(transport(&args.common))?);
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    let mut tls = rustls::ClientConfig::builder_with_provider(tls(choice)?)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    Ok(ClientConfig::with_rustls(Arc::new(tls))?.transport(transport(&args.common))?)
}
