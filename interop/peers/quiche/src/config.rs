//! quiche's settings.

use std::fs::{File, OpenOptions};
use std::path::Path;

use quiche::{Config, PROTOCOL_VERSION};
use warpline_interop_kit::args::{ClientArgs, ServerArgs};
use warpline_interop_kit::{Result, hq};

/// Longer than the longest blackout of a case.
const IDLE_TIMEOUT_MS: u64 = 30_000;
/// As much as the window of the other stacks: one round trip's worth of a fast link.
const CONNECTION_WINDOW: u64 = 16 << 20;
const STREAM_WINDOW: u64 = 4 << 20;
/// Streams that the peer may open at a time: fewer than a case has files, so that the limit has to grow.
const STREAMS: u64 = 100;
/// UDP payload sent from the beginning; quiche's own search for more is off by default.
const PAYLOAD: usize = 1_350;
/// Connection IDs of the peer, and with them paths: a server never leaves a path whose client went to another address without
/// changing its connection ID (path.rs, `make_room_for_new_path`), and drops what comes from one address more. The longest
/// case changes the address once a second for a minute.
const PATHS: u64 = 64;
/// A version that nobody speaks (RFC 9000 section 15).
const RESERVED_VERSION: u32 = 0x1a2a_3a4a;

/// The server's settings.
pub fn server(args: &ServerArgs) -> Result<Config> {
    let mut config = common(PROTOCOL_VERSION, args.http3, args.key_log.is_some())?;
    config.load_cert_chain_from_pem_file(text(&args.cert)?)?;
    config.load_priv_key_from_pem_file(text(&args.key)?)?;
    config.enable_early_data();
    Ok(config)
}

/// The client's settings.
pub fn client(args: &ClientArgs) -> Result<Config> {
    let version = if args.unknown_version { RESERVED_VERSION } else { PROTOCOL_VERSION };
    let mut config = common(version, args.http3, args.key_log.is_some())?;
    config.load_verify_locations_from_file(text(&args.ca)?)?;
    config.verify_peer(true);
    if args.zero_rtt {
        config.enable_early_data();
    }
    Ok(config)
}

/// Where secrets go, if anywhere.
pub fn key_log(path: Option<&Path>) -> Result<Option<File>> {
    Ok(path.map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose()?)
}

fn common(version: u32, http3: bool, log_keys: bool) -> Result<Config> {
    let mut config = Config::new(version)?;
    config.set_application_protos(&[hq::alpn(http3)])?;
    config.set_max_idle_timeout(IDLE_TIMEOUT_MS);
    config.set_max_send_udp_payload_size(PAYLOAD);
    config.set_initial_max_data(CONNECTION_WINDOW);
    config.set_initial_max_stream_data_bidi_local(STREAM_WINDOW);
    config.set_initial_max_stream_data_bidi_remote(STREAM_WINDOW);
    config.set_initial_max_stream_data_uni(STREAM_WINDOW);
    config.set_initial_max_streams_bidi(STREAMS);
    config.set_initial_max_streams_uni(STREAMS);
    config.set_active_connection_id_limit(PATHS);
    if log_keys {
        config.log_keys();
    }
    Ok(config)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| "quiche takes paths in UTF-8 only".into())
}
