//! tquic's settings.

use std::path::Path;

use tquic::{Config, CongestionControlAlgorithm, TlsConfig};
use warpline_peer_kit::{ALPN, Result};

/// Longer than any run, so that held connections stay, in milliseconds.
const IDLE_TIMEOUT_MS: u64 = 300_000;
/// More connections than any run has.
const CONNECTIONS_MAX: u32 = 1_000_000;
/// Packets handed to the sender at once: enough for the longest train.
const SEND_BATCH: usize = 64;

/// The server's settings.
pub fn server(cert: &Path, key: &Path, payload: u16, window: u64) -> Result<Config> {
    let (cert, key) = (cert.to_string_lossy(), key.to_string_lossy());
    let tls = TlsConfig::new_server_config(&cert, &key, vec![ALPN.to_vec()], true)?;
    common(tls, payload, window)
}

/// The client's settings.
pub fn client(ca: &Path, payload: u16, window: u64) -> Result<Config> {
    let mut tls = TlsConfig::new_client_config(vec![ALPN.to_vec()], true)?;
    tls.set_verify(true);
    tls.set_ca_certs(&ca.to_string_lossy())?;
    common(tls, payload, window)
}

fn common(tls: TlsConfig, payload: u16, window: u64) -> Result<Config> {
    let mut config = Config::new()?;
    config.set_tls_config(tls);
    config.set_max_idle_timeout(IDLE_TIMEOUT_MS);
    config.set_recv_udp_payload_size(payload);
    config.set_send_udp_payload_size(payload.into());
    // Without the search for the path's size it stays at 1,200 bytes.
    config.enable_dplpmtud(true);
    config.set_initial_max_data(16 * window);
    config.set_max_connection_window(16 * window);
    config.set_initial_max_stream_data_bidi_local(window);
    config.set_initial_max_stream_data_bidi_remote(window);
    config.set_max_stream_window(window);
    config.set_initial_max_streams_bidi(1_024);
    config.set_congestion_control_algorithm(CongestionControlAlgorithm::Cubic);
    config.enable_pacing(false);
    config.set_max_concurrent_conns(CONNECTIONS_MAX);
    config.set_send_batch_size(SEND_BATCH);
    Ok(config)
}
