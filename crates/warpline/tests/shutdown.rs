//! Shutting down gives the port back, whoever still holds what.

mod common;

use common::{configs, loopback};
use std::net::UdpSocket;
use std::time::Duration;
use warpline::{Connection, Endpoint, EndpointBuilder, TransportConfig};

/// A connection, both of whose ends are held by somebody, and a stream in the midst of a transfer.
async fn busy(server: &Endpoint, client: &Endpoint, config: warpline::ClientConfig) -> (Connection, Connection) {
    let (theirs, ours) = tokio::join!(server.accept(), client.connect(server.local_addr(), "localhost", config));
    let (theirs, ours) = (theirs.expect("one comes"), ours.expect("it is served"));
    let reading = theirs.clone();
    tokio::spawn(async move {
        let (_send, mut recv) = reading.accept_bi().await.expect("one is opened");
        while recv.read_chunk(usize::MAX).await.is_ok_and(|chunk| chunk.is_some()) {}
    });
    let (mut send, recv) = ours.open_bi().await.expect("streams are allowed");
    tokio::spawn(async move {
        let _open = recv;
        while send.write_all(&[7; 10_000]).await.is_ok() {}
    });
    (theirs, ours)
}

async fn port_is_given_back(builder: impl FnOnce(EndpointBuilder) -> EndpointBuilder, timeout: Duration) {
    let (server_config, client_config) = configs(TransportConfig::default());
    let server =
        builder(loopback()).server(server_config).shutdown_timeout(timeout).start().expect("loopback is there");
    let client = loopback().start().expect("loopback is there");
    let (theirs, ours) = busy(&server, &client, client_config).await;
    let (address, other_handle, workers) = (server.local_addr(), server.clone(), server.workers());
    assert!(UdpSocket::bind(address).is_err(), "it is in use");
    server.shutdown(7, b"over").await;
    UdpSocket::bind(address).expect("the port is free although handles live");
    // The peer has been told.
    let told = ours.closed().await.to_string();
    assert!(told.contains("over"), "{told}");
    drop((theirs, other_handle, workers));
}

#[tokio::test]
async fn a_worker_that_is_alone_gives_its_port_back() {
    port_is_given_back(|builder| builder, Duration::from_millis(500)).await;
}

#[tokio::test]
async fn at_once_if_asked() {
    port_is_given_back(|builder| builder, Duration::ZERO).await;
    #[cfg(target_os = "linux")]
    port_is_given_back(|builder| builder.workers(2).max_workers(3), Duration::ZERO).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn all_workers_and_readers_give_the_port_back() {
    port_is_given_back(|builder| builder.workers(3), Duration::from_millis(500)).await;
    port_is_given_back(|builder| builder.workers(1).max_workers(2), Duration::from_millis(500)).await;
    port_is_given_back(|builder| builder.workers(2).readers(1), Duration::from_millis(500)).await;
}
