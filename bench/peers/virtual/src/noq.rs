//! noq, where it differs from quinn.

#[path = "host.rs"]
pub mod host;

use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use noq_proto as stack;
use stack::{Connection, DatagramEvent, EcnCodepoint, Endpoint, EndpointConfig, FourTuple, ServerConfig, Transmit};

/// noq's BBR, which is BBRv3.
type Bbr = stack::congestion::Bbr3Config;

const TRAIN_MAX: NonZero<usize> = NonZero::new(crate::stacks::TRAIN_MAX).expect("a train has datagrams");

fn endpoint(config: Arc<EndpointConfig>, server: Option<Arc<ServerConfig>>) -> Endpoint {
    Endpoint::new(config, server, true)
}

fn handle(
    endpoint: &mut Endpoint,
    now: Instant,
    remote: SocketAddr,
    ecn: Option<EcnCodepoint>,
    data: BytesMut,
    buffer: &mut Vec<u8>,
) -> Option<DatagramEvent> {
    endpoint.handle(now, FourTuple::from_remote(remote), ecn, data, buffer)
}

fn poll_transmit(connection: &mut Connection, now: Instant, buffer: &mut Vec<u8>) -> Option<Transmit> {
    connection.poll_transmit(now, TRAIN_MAX, buffer)
}

fn poll_timeout(connection: &mut Connection) -> Option<Instant> {
    connection.poll_timeout()
}
