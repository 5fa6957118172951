//! What the tests share.

#![allow(dead_code, reason = "each test file uses its own part")]

/// Shared with the engine's tests.
#[cfg(target_os = "linux")]
#[path = "../../../engine/tests/common/load.rs"]
pub mod load;
pub mod transfers;
#[cfg(target_os = "linux")]
pub mod xdp;

use std::net::SocketAddr;
use std::time::Duration;
use warpline::{
    ClientConfig, Endpoint, EndpointBuilder, Identity, IoConfig, ScalingPolicy, ServerConfig, TransportConfig,
};

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

/// By which any traffic at all is pressure, and any rest calls for fewer workers.
pub fn eager() -> ScalingPolicy {
    ScalingPolicy {
        grow_queue: 1,
        shrink_percent: 99,
        patience: Duration::ZERO,
        cooldown: Duration::from_millis(50),
        ..ScalingPolicy::default()
    }
}

/// Waits for what is to come about sooner or later.
pub async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Bytes that are different everywhere.
pub fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31 + seed * 7 + i / 251) % 256) as u8).collect()
}
