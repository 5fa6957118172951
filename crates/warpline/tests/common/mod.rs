//! What the tests share.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod transfers;
#[cfg(target_os = "linux")]
pub mod xdp;

use std::net::SocketAddr;
use warpline::{ClientConfig, Endpoint, EndpointBuilder, Identity, IoConfig, ServerConfig, TransportConfig};

pub const ALPN: &[&[u8]] = &[b"test"];

/// A builder for loopback with small pools.
pub fn loopback() -> EndpointBuilder {
    let io = IoConfig { large_frames: 64, medium_frames: 128, small_frames: 512, ..IoConfig::default() };
    Endpoint::builder().bind(([127, 0, 0, 1], 0)).io(io)
}

/// A server's and a client's configuration that fit each other.
pub fn configs(transport: TransportConfig) -> (ServerConfig, ClientConfig) {
    let id = Identity::generate(["localhost"]).expect("the name is fine");
    let server = ServerConfig::with_single_cert(vec![id.certificate.clone()], id.key(), ALPN)
        .and_then(|config| config.transport(transport.clone()))
        .expect("the configuration is fine");
    let client = ClientConfig::with_pinned_fingerprint(&id.fingerprint().0, ALPN)
        .and_then(|config| config.transport(transport))
        .expect("the configuration is fine");
    (server, client)
}

/// A server whose connections come by `accept`, a client, and what to connect with.
pub fn endpoints(workers: usize) -> (Endpoint, Endpoint, ClientConfig, SocketAddr) {
    let (server, config) = configs(TransportConfig::default());
    let server = loopback().workers(workers).server(server).start().expect("loopback is there");
    let client = loopback().start().expect("loopback is there");
    let address = server.local_addr();
    (server, client, config, address)
}

/// Bytes that are different everywhere.
pub fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31 + seed * 7 + i / 251) % 256) as u8).collect()
}
