//! quinn against itself through the proxy: what these tests show about the peers and the network must hold before
//! anything else is measured against them.
use quinn::{ConnectionError, VarInt};
use warpline_interop::hq;
use warpline_interop::proxy::{Config, Proxy};
use warpline_interop::quinn_peer::{client, connect, exchange, get, server};

use crate::stage;

#[tokio::test]
async fn files_arrive_whole_through_a_bad_network() {
    let (identity, names) = stage::set(&[1, 100_000, 1_000_000]).unwrap();
    let server = server(&identity, identity.directory()).unwrap();
    let proxy = Proxy::start(stage::bad_network(Config::new(server.local_addr().unwrap()))).unwrap();
    let client = client(&identity, hq::ALPN).unwrap();
    let connection = connect(&client, proxy.address()).await.unwrap();
    for name in names {
        let content = get(&connection, &format!("/{name}"), 1 << 24).await.unwrap();
        assert!(content == std::fs::read(identity.directory().join(&name)).unwrap(), "{name}");
    }
    let stats = proxy.stats();
    assert!(stats.dropped > 0 && stats.marked > 0, "{stats:?}");
}

#[tokio::test]
async fn echo_comes_back_and_a_rebinding_does_not_break_it() {
    let (identity, _) = stage::set(&[]).unwrap();
    let server = server(&identity, identity.directory()).unwrap();
    let proxy = Proxy::start(Config {
        rebind_after: Some(std::time::Duration::from_millis(100)),
        rate: Some(50_000_000),
        ..Config::new(server.local_addr().unwrap()).delay(std::time::Duration::from_millis(5))
    })
    .unwrap();
    let client = client(&identity, hq::ECHO_ALPN).unwrap();
    let connection = connect(&client, proxy.address()).await.unwrap();
    let data = vec![7; 2_000_000];
    assert!(exchange(&connection, &data, 1 << 24).await.unwrap() == data);
}

#[tokio::test]
async fn the_servers_close_code_arrives() {
    let (identity, _) = stage::set(&[]).unwrap();
    let server = server(&identity, identity.directory()).unwrap();
    let client = client(&identity, hq::ALPN).unwrap();
    let connection = connect(&client, server.local_addr().unwrap()).await.unwrap();
    assert!(get(&connection, "/close/42", 100).await.is_err());
    match connection.closed().await {
        ConnectionError::ApplicationClosed(close) => assert_eq!(close.error_code, VarInt::from_u32(42)),
        other => panic!("{other}"),
    }
}
