//! Our stack against quinn, in both roles.

use std::time::Duration;

use futures_util::future::try_join_all;
use warpline::{ConnectionError, EarlyData, MemoryFile};
use warpline_interop::proxy::{Config, Proxy};
use warpline_interop::{hq, quinn_peer, warpline_peer};

use crate::stage;

/// Bytes of the transfers through a bad network.
const LARGE: usize = 3_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_fetch_from_quinn_on_several_streams() {
    let (identity, names) = stage::set(&stage::SIZES).unwrap();
    let server = quinn_peer::server(&identity, identity.directory()).unwrap();
    let client = warpline_peer::client(&identity, hq::ALPN).unwrap();
    let connection = warpline_peer::connect(&client, server.local_addr().unwrap()).await.unwrap();
    let paths: Vec<String> = names.iter().map(|name| format!("/{name}")).collect();
    let gets = paths.iter().map(|path| warpline_peer::get(&connection, path, 1 << 24));
    stage::compare(&identity, &names, try_join_all(gets).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quinn_fetches_from_us_on_several_streams() {
    let (identity, names) = stage::set(&stage::SIZES).unwrap();
    let config = warpline_peer::server_config(&identity).unwrap();
    let server = warpline_peer::server(config, identity.directory()).unwrap();
    let client = quinn_peer::client(&identity, hq::ALPN).unwrap();
    let connection = quinn_peer::connect(&client, server.local_addr()).await.unwrap();
    let paths: Vec<String> = names.iter().map(|name| format!("/{name}")).collect();
    let gets = paths.iter().map(|path| quinn_peer::get(&connection, path, 1 << 24));
    stage::compare(&identity, &names, try_join_all(gets).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_echo_with_quinn_through_a_bad_network() {
    let (identity, _) = stage::set(&[]).unwrap();
    let server = quinn_peer::server(&identity, identity.directory()).unwrap();
    let proxy = Proxy::start(stage::bad_network(Config::new(server.local_addr().unwrap()))).unwrap();
    let client = warpline_peer::client(&identity, hq::ECHO_ALPN).unwrap();
    let connection = warpline_peer::connect(&client, proxy.address()).await.unwrap();
    let data = stage::content(LARGE);
    assert!(warpline_peer::exchange(&connection, &data, LARGE).await.unwrap() == data);
    assert!(proxy.stats().dropped > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quinn_echoes_with_us_through_a_bad_network() {
    let (identity, _) = stage::set(&[]).unwrap();
    let config = warpline_peer::server_config(&identity).unwrap();
    let server = warpline_peer::server(config, identity.directory()).unwrap();
    let proxy = Proxy::start(stage::bad_network(Config::new(server.local_addr()))).unwrap();
    let client = quinn_peer::client(&identity, hq::ECHO_ALPN).unwrap();
    let connection = quinn_peer::connect(&client, proxy.address()).await.unwrap();
    let data = stage::content(LARGE);
    assert!(quinn_peer::exchange(&connection, &data, LARGE).await.unwrap() == data);
    assert!(proxy.stats().dropped > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebinding_does_not_break_a_transfer_in_either_role() {
    let (identity, _) = stage::set(&[]).unwrap();
    let rebinding = |to| Config {
        rebind_after: Some(Duration::from_millis(150)),
        rate: Some(50_000_000),
        ..Config::new(to).delay(Duration::from_millis(5))
    };
    let data = stage::content(4_000_000);

    let theirs = quinn_peer::server(&identity, identity.directory()).unwrap();
    let proxy = Proxy::start(rebinding(theirs.local_addr().unwrap())).unwrap();
    let client = warpline_peer::client(&identity, hq::ECHO_ALPN).unwrap();
    let connection = warpline_peer::connect(&client, proxy.address()).await.unwrap();
    assert!(warpline_peer::exchange(&connection, &data, data.len()).await.unwrap() == data);

    let config = warpline_peer::server_config(&identity).unwrap();
    let ours = warpline_peer::server(config, identity.directory()).unwrap();
    let proxy = Proxy::start(rebinding(ours.local_addr())).unwrap();
    let client = quinn_peer::client(&identity, hq::ECHO_ALPN).unwrap();
    let connection = quinn_peer::connect(&client, proxy.address()).await.unwrap();
    assert!(quinn_peer::exchange(&connection, &data, data.len()).await.unwrap() == data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_codes_cross_in_both_directions() {
    let (identity, _) = stage::set(&[]).unwrap();
    let theirs = quinn_peer::server(&identity, identity.directory()).unwrap();
    let client = warpline_peer::client(&identity, hq::ALPN).unwrap();
    let connection = warpline_peer::connect(&client, theirs.local_addr().unwrap()).await.unwrap();
    assert!(warpline_peer::get(&connection, "/close/42", 100).await.is_err());
    let end = connection.closed().await;
    assert!(matches!(end, ConnectionError::ApplicationClosed { code: 42, .. }), "{end}");

    let config = warpline_peer::server_config(&identity).unwrap();
    let ours = warpline_peer::server(config, identity.directory()).unwrap();
    let client = quinn_peer::client(&identity, hq::ALPN).unwrap();
    let connection = quinn_peer::connect(&client, ours.local_addr()).await.unwrap();
    assert!(quinn_peer::get(&connection, "/close/43", 100).await.is_err());
    match connection.closed().await {
        quinn::ConnectionError::ApplicationClosed(close) => assert_eq!(close.error_code, 43u32.into()),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_come_back() {
    let (identity, _) = stage::set(&[]).unwrap();
    let theirs = quinn_peer::server(&identity, identity.directory()).unwrap();
    let client = warpline_peer::client(&identity, hq::ECHO_ALPN).unwrap();
    let connection = warpline_peer::connect(&client, theirs.local_addr().unwrap()).await.unwrap();
    for number in 0..20u8 {
        connection.send_datagram(vec![number; 500].into()).await.unwrap();
        assert_eq!(connection.recv_datagram().await.unwrap()[..], vec![number; 500]);
    }

    let config = warpline_peer::server_config(&identity).unwrap();
    let ours = warpline_peer::server(config, identity.directory()).unwrap();
    let client = quinn_peer::client(&identity, hq::ECHO_ALPN).unwrap();
    let connection = quinn_peer::connect(&client, ours.local_addr()).await.unwrap();
    for number in 0..20u8 {
        connection.send_datagram(vec![number; 500].into()).unwrap();
        assert_eq!(connection.read_datagram().await.unwrap()[..], vec![number; 500]);
    }
}

/// A file passes sessions of quinn's server from one client to the next, as it would from process to process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_quinn_outlives_the_client_in_a_file() {
    let (identity, names) = stage::set(&[5_000]).unwrap();
    let server = quinn_peer::server(&identity, identity.directory()).unwrap();
    let address = server.local_addr().unwrap();
    let file = MemoryFile::new(identity.directory().join("sessions"));
    for expected in [EarlyData::None, EarlyData::Accepted, EarlyData::Accepted] {
        let (endpoint, config) = warpline_peer::lasting_client(&identity, hq::ALPN).unwrap();
        file.load(&config.memory).unwrap();
        let connection = endpoint.connect_early(address, "localhost", config.clone()).await.unwrap();
        let answer = warpline_peer::get(&connection, &format!("/{}", names[0]), 1 << 24).await.unwrap();
        stage::compare(&identity, &names, vec![answer]);
        connection.handshake().await.unwrap();
        let is_resumed = connection.is_resumed().await.unwrap();
        assert_eq!((connection.early_data().await, is_resumed), (Ok(expected), expected == EarlyData::Accepted));
        for _ in 0..6000 {
            if config.memory.stats().sessions >= 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        connection.close(0, b"");
        endpoint.shutdown(0, b"").await;
        file.save(&config.memory).unwrap();
    }
}
