//! aioquic against quinn and against itself: shows that the scripts do what the tests of our own stack rely on.
use futures_util::future::try_join_all;
use warpline_interop::hq;
use warpline_interop::proxy::{Config, Proxy};
use warpline_interop::quinn_peer::{client, connect, exchange, get, server};

use crate::stage;

#[tokio::test]
async fn quinn_fetches_from_aioquic() {
    let Some(python) = stage::aioquic() else { return };
    let (identity, names) = stage::set(&stage::SIZES).unwrap();
    let mut server = python.server(&identity, identity.directory(), &["--retry"]).unwrap();
    let client = client(&identity, hq::ALPN).unwrap();
    let connection = connect(&client, server.address()).await.unwrap();
    let paths: Vec<String> = names.iter().map(|name| format!("/{name}")).collect();
    let contents = try_join_all(paths.iter().map(|path| get(&connection, path, 1 << 24))).await.unwrap();
    for (name, content) in names.iter().zip(contents) {
        assert!(content == std::fs::read(identity.directory().join(name)).unwrap(), "{name}");
    }
    connection.close(7u32.into(), b"done");
    client.wait_idle().await;
    let end = server.event("terminated").unwrap();
    assert_eq!((&end["code"], &end["application"]), (&7.into(), &true.into()));
}

#[tokio::test]
async fn quinn_echoes_with_aioquic_through_a_bad_network() {
    let Some(python) = stage::aioquic() else { return };
    let (identity, _) = stage::set(&[]).unwrap();
    let server = python.server(&identity, identity.directory(), &[]).unwrap();
    let proxy = Proxy::start(stage::bad_network(Config::new(server.address()))).unwrap();
    let client = client(&identity, hq::ECHO_ALPN).unwrap();
    let connection = connect(&client, proxy.address()).await.unwrap();
    let data = vec![9; 500_000];
    assert!(exchange(&connection, &data, 1 << 24).await.unwrap() == data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aioquic_fetches_from_quinn() {
    let Some(python) = stage::aioquic() else { return };
    let (identity, names) = stage::set(&stage::SIZES).unwrap();
    let server = server(&identity, identity.directory()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let paths: Vec<String> = names.iter().map(|name| format!("--get=/{name}")).collect();
    let mut options: Vec<&str> = paths.iter().map(String::as_str).collect();
    options.extend(["--out", out.path().to_str().unwrap()]);
    python.client(&identity, server.local_addr().unwrap(), &options).unwrap();
    for name in &names {
        let got = std::fs::read(out.path().join(name)).unwrap();
        assert!(got == std::fs::read(identity.directory().join(name)).unwrap(), "{name}");
    }
}

#[test]
fn aioquic_speaks_everything_with_itself() {
    let Some(python) = stage::aioquic() else { return };
    let (identity, names) = stage::set(&[10_000]).unwrap();
    let get = format!("--get=/{}", names[0]);
    let server = python.server(&identity, identity.directory(), &[]).unwrap();
    for options in [
        &["--resume"][..],
        &["--zero-rtt"],
        &["--key-update"],
        &["--version-negotiation"],
        &["--v2"],
        &["--chacha20"],
        &["--await-close=/close/42"],
    ] {
        let mut all = vec![get.as_str()];
        all.extend(options);
        let result = python.client(&identity, server.address(), &all);
        assert!(result.is_ok(), "{options:?}: {result:?}");
    }
}
