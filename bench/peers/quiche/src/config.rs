//! quiche's settings.

use std::path::Path;

use boring::ssl::{SslContextBuilder, SslFiletype, SslMethod};
use quiche::{Config, CongestionControlAlgorithm, PROTOCOL_VERSION};
use warpline_peer_kit::{ALPN, Congestion, Result};

/// Longer than any run, so that held connections stay, in milliseconds.
const IDLE_TIMEOUT_MS: u64 = 300_000;
/// Datagrams that wait to be read, and to be sent.
const DATAGRAMS_RECV: usize = 8_192;
const DATAGRAMS_SEND: usize = 1_024;

/// The server's settings.
pub fn server(cert: &Path, key: &Path, payload: u16, window: u64, congestion: Option<Congestion>) -> Result<Config> {
    let mut tls = SslContextBuilder::new(SslMethod::tls())?;
    tls.set_certificate_chain_file(cert)?;
    tls.set_private_key_file(key, SslFiletype::PEM)?;
    common(tls, payload, window, congestion)
}

/// The client's settings.
pub fn client(ca: &Path, payload: u16, window: u64, congestion: Option<Congestion>) -> Result<Config> {
    let mut tls = SslContextBuilder::new(SslMethod::tls())?;
    tls.set_ca_file(ca)?;
    let mut config = common(tls, payload, window, congestion)?;
    config.verify_peer(true);
    Ok(config)
}

fn common(mut tls: SslContextBuilder, payload: u16, window: u64, congestion: Option<Congestion>) -> Result<Config> {
    // With hardware AES, BoringSSL's first choice among the three suites of TLS 1.3 is TLS_AES_128_GCM_SHA256; the list
    // itself cannot be changed.
    tls.set_curves_list("X25519")?;
    let mut config = Config::with_boring_ssl_ctx_builder(PROTOCOL_VERSION, tls)?;
    config.set_application_protos(&[ALPN])?;
    config.set_max_idle_timeout(IDLE_TIMEOUT_MS);
    config.set_max_recv_udp_payload_size(payload.into());
    config.set_max_send_udp_payload_size(payload.into());
    config.set_initial_max_data(16 * window);
    config.set_max_connection_window(16 * window);
    config.set_initial_max_stream_data_bidi_local(window);
    config.set_initial_max_stream_data_bidi_remote(window);
    config.set_max_stream_window(window);
    config.set_initial_max_streams_bidi(1_024);
    config.set_disable_active_migration(true);
    config.set_cc_algorithm(match congestion {
        None | Some(Congestion::Cubic) => CongestionControlAlgorithm::CUBIC,
        Some(Congestion::NewReno) => CongestionControlAlgorithm::Reno,
        // BBRv2 with Google's changes, the only BBR that it has.
        Some(Congestion::Bbr) => CongestionControlAlgorithm::Bbr2Gcongestion,
    });
    // Of its controllers only BBR has release times.
    config.enable_pacing(congestion == Some(Congestion::Bbr));
    config.enable_dgram(true, DATAGRAMS_RECV, DATAGRAMS_SEND);
    config.enable_early_data();
    Ok(config)
}
