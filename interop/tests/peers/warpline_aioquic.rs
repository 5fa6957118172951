//! Our stack against aioquic, in both roles: an implementation in another language that shares no code with ours, not even
//! TLS.

use std::io;

use futures_util::future::try_join_all;
use warpline_interop::proxy::{Config, Proxy};
use warpline_interop::{hq, warpline_peer};
use warpline_proto::config::RetryPolicy;

use crate::stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_fetch_from_aioquic_on_several_streams() {
    let Some(python) = stage::aioquic() else { return };
    let (identity, names) = stage::set(&stage::SIZES).unwrap();
    let mut server = python.server(&identity, identity.directory(), &[]).unwrap();
    let client = warpline_peer::client(&identity, hq::ALPN).unwrap();
    let connection = warpline_peer::connect(&client, server.address()).await.unwrap();
    let paths: Vec<String> = names.iter().map(|name| format!("/{name}")).collect();
    let gets = paths.iter().map(|path| warpline_peer::get(&connection, path, 1 << 24));
    stage::compare(&identity, &names, try_join_all(gets).await.unwrap());
    connection.close(7, b"done");
    let end = server.event("terminated").unwrap();
    assert_eq!((&end["code"], &end["application"]), (&7.into(), &true.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_follow_a_retry() {
    let Some(python) = stage::aioquic() else { return };
    let (identity, names) = stage::set(&[50_000]).unwrap();
    let server = python.server(&identity, identity.directory(), &["--retry"]).unwrap();
    let client = warpline_peer::client(&identity, hq::ALPN).unwrap();
    let connection = warpline_peer::connect(&client, server.address()).await.unwrap();
    let content = warpline_peer::get(&connection, &format!("/{}", names[0]), 1 << 24).await.unwrap();
    stage::compare(&identity, &names, vec![content]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_see_aioquics_close_code() {
    let Some(python) = stage::aioquic() else { return };
    let (identity, _) = stage::set(&[]).unwrap();
    let server = python.server(&identity, identity.directory(), &[]).unwrap();
    let client = warpline_peer::client(&identity, hq::ALPN).unwrap();
    let connection = warpline_peer::connect(&client, server.address()).await.unwrap();
    assert!(warpline_peer::get(&connection, "/close/42", 100).await.is_err());
    let end = connection.closed().await;
    assert!(matches!(end, warpline::ConnectionError::ApplicationClosed { code: 42, .. }), "{end}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_echo_with_aioquic_through_a_bad_network() {
    let Some(python) = stage::aioquic() else { return };
    let (identity, _) = stage::set(&[]).unwrap();
    let server = python.server(&identity, identity.directory(), &[]).unwrap();
    let proxy = Proxy::start(stage::bad_network(Config::new(server.address()))).unwrap();
    let client = warpline_peer::client(&identity, hq::ECHO_ALPN).unwrap();
    let connection = warpline_peer::connect(&client, proxy.address()).await.unwrap();
    let data = stage::content(500_000);
    assert!(warpline_peer::exchange(&connection, &data, data.len()).await.unwrap() == data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aioquic_fetches_from_us_on_several_streams() {
    let Some(python) = stage::aioquic() else { return };
    let (identity, names) = stage::set(&stage::SIZES).unwrap();
    let config = warpline_peer::server_config(&identity).unwrap();
    let server = warpline_peer::server(config, identity.directory()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let out_option = format!("--out={}", out.path().display());
    let gets: Vec<String> = names.iter().map(|name| format!("--get=/{name}")).collect();
    let options: Vec<&str> = gets.iter().chain([&out_option]).map(String::as_str).collect();
    let result = python.client(&identity, server.local_addr(), &options).unwrap();
    assert_eq!(result["connections"][0]["alpn"], "hq-interop");
    let contents: io::Result<Vec<_>> = names.iter().map(|name| std::fs::read(out.path().join(name))).collect();
    stage::compare(&identity, &names, contents.unwrap());
}

/// Runs aioquic's client with each set of options against a server of ours, and panics when any of them failed.
fn clients_against_us(retry: RetryPolicy, sets: &[&[&str]]) -> io::Result<()> {
    let Some(python) = stage::aioquic() else { return Ok(()) };
    let (identity, names) = stage::set(&[10_000])?;
    let mut config = warpline_peer::server_config(&identity)?;
    config.retry = retry;
    let server = warpline_peer::server(config, identity.directory())?;
    let get = format!("--get=/{}", names[0]);
    let mut failed = Vec::new();
    for set in sets {
        let mut options = vec!["--timeout=15"];
        if !set.contains(&"--alpn=echo") {
            options.push(&get);
        }
        options.extend(*set);
        if let Err(error) = python.client(&identity, server.local_addr(), &options) {
            failed.push(format!("{set:?}: {error}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aioquic_resumes_a_session_with_us() {
    clients_against_us(RetryPolicy::Never, &[&["--resume"]]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aioquic_updates_keys_with_us() {
    clients_against_us(RetryPolicy::Never, &[&["--key-update"]]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_answer_an_unknown_version_of_aioquic() {
    clients_against_us(RetryPolicy::Never, &[&["--version-negotiation"]]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aioquic_uses_chacha20_with_us() {
    clients_against_us(RetryPolicy::Never, &[&["--chacha20"]]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aioquic_proves_its_address_to_us() {
    clients_against_us(RetryPolicy::Always, &[&["--expect-retry"]]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aioquic_sees_our_close_code_and_echoes_streams_and_datagrams() {
    let echo = &["--alpn=echo", "--echo-streams=8", "--echo-bytes=300000", "--datagrams=5", "--close-code=9"];
    clients_against_us(RetryPolicy::Never, &[&["--await-close=/close/42"], echo]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aioquic_may_offer_version_2_to_us() {
    clients_against_us(RetryPolicy::Never, &[&["--v2"]]).unwrap();
}
