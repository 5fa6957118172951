//! tquic's settings.

use std::fs::{File, OpenOptions};
use std::path::Path;

use tquic::{Config, TlsConfig};
use warpline_interop_kit::args::{ClientArgs, ServerArgs};
use warpline_interop_kit::{Result, hq};

/// Longer than the longest blackout of a case.
const IDLE_TIMEOUT_MS: u64 = 30_000;
/// tquic gives up by itself after 3 s otherwise, which is one round trip of a case.
const HANDSHAKE_TIMEOUT_MS: u64 = 30_000;
/// As much as the window of the other stacks: one round trip's worth of a fast link.
const CONNECTION_WINDOW: u64 = 16 << 20;
const STREAM_WINDOW: u64 = 4 << 20;
/// Streams that the peer may open at a time: fewer than a case has files, so that the limit has to grow.
const STREAMS: u64 = 100;

/// The server's settings.
pub fn server(args: &ServerArgs) -> Result<Config> {
    let (cert, key) = (args.cert.to_string_lossy(), args.key.to_string_lossy());
    let tls = TlsConfig::new_server_config(&cert, &key, protocols(args.http3), true)?;
    let mut config = common(tls)?;
    config.enable_retry(args.retry);
    Ok(config)
}

/// The client's settings.
pub fn client(args: &ClientArgs) -> Result<Config> {
    let mut tls = TlsConfig::new_client_config(protocols(args.http3), args.zero_rtt)?;
    tls.set_verify(true);
    tls.set_ca_certs(&args.ca.to_string_lossy())?;
    common(tls)
}

/// Where secrets go, if anywhere.
pub fn key_log(path: Option<&Path>) -> Result<Option<File>> {
    Ok(path.map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose()?)
}

fn protocols(http3: bool) -> Vec<Vec<u8>> {
    vec![hq::alpn(http3).to_vec()]
}

fn common(tls: TlsConfig) -> Result<Config> {
    let mut config = Config::new()?;
    config.set_tls_config(tls);
    config.set_max_idle_timeout(IDLE_TIMEOUT_MS);
    config.set_max_handshake_timeout(HANDSHAKE_TIMEOUT_MS);
    config.set_initial_max_data(CONNECTION_WINDOW);
    config.set_initial_max_stream_data_bidi_local(STREAM_WINDOW);
    config.set_initial_max_stream_data_bidi_remote(STREAM_WINDOW);
    config.set_initial_max_stream_data_uni(STREAM_WINDOW);
    config.set_initial_max_streams_bidi(STREAMS);
    config.set_initial_max_streams_uni(STREAMS);
    Ok(config)
}
