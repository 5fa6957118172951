//! Files over a bad network: a share is fetched through the impairment proxy, by the code that the command uses.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use warpline::TransportConfig;
use warpline_interop::proxy::{Config, Proxy};
use warpline_share::{FileIo, GetOptions, Host, HostOptions, JoinCode, NetOptions, Progress, connect, get};

use crate::stage;

const LARGE: usize = 6 << 20;
const SMALL: usize = 200;

#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_arrives_whole_over_50_ms_and_1_percent_of_loss() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("source");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("large"), stage::content(LARGE)).unwrap();
    for i in 0..SMALL {
        fs::write(root.join(format!("small-{i}")), stage::content(i * 97)).unwrap();
    }
    let transport = TransportConfig::default();
    let net = NetOptions { transport, ..NetOptions::default() };
    let options = HostOptions {
        root: root.clone(),
        state_dir: dir.path().join("state"),
        bind: ([127, 0, 0, 1], 0).into(),
        net: net.clone(),
        files: FileIo::Auto,
    };
    let host = Arc::new(Host::open(&options).unwrap());
    let proxy =
        Proxy::start(Config { seed: 5, ..Config::new(host.local_addr()).delay(Duration::from_millis(25)).loss(0.01) })
            .unwrap();
    let serving = host.clone();
    tokio::spawn(async move { serving.run().await });

    let code = JoinCode { addresses: vec![proxy.address()], ..host.code().clone() };
    let (endpoint, connection) = connect(&code, &net).await.unwrap();
    let target = dir.path().join("target");
    let options = GetOptions { target: Some(target.clone()), ..GetOptions::default() };
    let report = get(&connection, &code, &options, &Arc::new(Progress::default())).await.unwrap();
    endpoint.shutdown(0, b"").await;
    assert!(report.verified && report.not_kept.is_empty());
    assert_eq!(report.files, SMALL as u64 + 1);
    assert!(proxy.stats().dropped > 0, "the network was not bad: {:?}", proxy.stats());
    assert!(tree(&root) == tree(&target), "the copy differs");
}
