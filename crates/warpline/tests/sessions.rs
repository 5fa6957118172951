//! Sessions, early data, tokens, certificates of clients and key logs, over real sockets.

mod common;

use common::{ALPN, loopback, pattern};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use warpline::{
    CipherSuite, ClientAuth, ClientConfig, Connection, ConnectionError, EarlyData, Endpoint, FleetKeys, Identity,
    KeyLogFile, RetryPolicy, RootCertStore, ServerConfig, TlsOptions, Trust, Version,
};

fn server_config(id: &Identity) -> ServerConfig {
    ServerConfig::with_single_cert(vec![id.certificate.clone()], id.key(), ALPN).expect("the certificate fits its key")
}

fn client_config(id: &Identity) -> ClientConfig {
    ClientConfig::with_pinned_fingerprint(&id.fingerprint().0, ALPN).expect("the fingerprint is whole")
}

fn id() -> Identity {
    Identity::generate(["localhost"]).expect("the name is fine")
}

/// Connects, and waits until the client has what the server gives for the next time.
async fn remembered(client: &Endpoint, server: &Endpoint, config: &ClientConfig) {
    let (near, far) = tokio::join!(client.connect(server.local_addr(), "localhost", config.clone()), server.accept());
    let (near, far) = (near.expect("the server answers"), far.expect("the client connects"));
    let is_known = || config.memory.stats().sessions > 0 && config.memory.stats().tokens > 0;
    for _ in 0..6000 {
        if is_known() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(is_known(), "{:?}", config.memory.stats());
    near.close(0, b"");
    far.closed().await;
}

/// Sends a question before the handshake and has it answered.
async fn early(client: &Endpoint, server: &Endpoint, config: &ClientConfig) -> (Connection, Connection, bool) {
    let near = client.connect_early(server.local_addr(), "localhost", config.clone()).await.expect("it can be tried");
    let (mut send, mut answer) = near.open_bi().await.expect("a stream");
    send.write_all(&pattern(1, 3000)).await.expect("the window takes it");
    send.finish().expect("the stream is open");
    let far = server.accept().await.expect("the client connects");
    let (mut reply, mut question) = far.accept_bi().await.expect("the question");
    assert_eq!(question.read_to_end(5000).await.expect("all of it"), pattern(1, 3000));
    let is_early = far.is_early(&question).await.expect("the connection lives");
    reply.write_all(b"answer").await.expect("the window takes it");
    reply.finish().expect("the stream is open");
    assert_eq!(answer.read_to_end(100).await.expect("the answer"), b"answer");
    near.handshake().await.expect("the handshake ends well");
    far.handshake().await.expect("the handshake ends well");
    (near, far, is_early)
}

#[tokio::test]
async fn a_question_travels_with_the_first_packet() {
    let id = id();
    let server = server_config(&id).early_data(true).expect("sessions are kept");
    let server = loopback().server(server).start().expect("loopback is there");
    let client = loopback().start().expect("loopback is there");
    let mut config = client_config(&id);
    config.early_data = true;
    // Nothing is remembered yet: the same calls work, one round trip later.
    let (near, far, is_early) = early(&client, &server, &config).await;
    assert_eq!((near.early_data().await, near.is_resumed().await), (Ok(EarlyData::None), Ok(false)));
    assert!(!is_early);
    drop((near, far));
    // From another thread the question may miss the first packets, which the worker sends as soon as it can.
    let mut attempts = 0;
    let (near, far) = loop {
        remembered(&client, &server, &config).await;
        let (near, far, is_early) = early(&client, &server, &config).await;
        if is_early {
            break (near, far);
        }
        attempts += 1;
        assert!(attempts < 100, "no question was early");
    };
    assert_eq!((near.early_data().await, near.is_resumed().await), (Ok(EarlyData::Accepted), Ok(true)));
    assert_eq!((far.early_data().await, far.is_resumed().await), (Ok(EarlyData::Accepted), Ok(true)));
    assert_eq!((near.alpn(), far.alpn()), (Some(ALPN[0]), Some(ALPN[0])));
    assert_eq!(near.version().await, Ok(Version::V1));
}

#[tokio::test]
async fn asked_within_the_worker_the_question_never_misses_the_first_packet() {
    let id = id();
    let server = server_config(&id).early_data(true).expect("sessions are kept");
    let server = loopback().server(server).start().expect("loopback is there");
    let client = loopback().start().expect("loopback is there");
    let mut config = client_config(&id);
    config.early_data = true;
    for _ in 0..10 {
        remembered(&client, &server, &config).await;
        let (address, config) = (server.local_addr(), config.clone());
        let asked = client.run_local(move |worker| async move {
            let near = worker.connect_early(&config, address, "localhost").expect("it can be tried");
            let (mut send, mut answer) = near.open_bi().await.expect("a stream");
            send.write_all(&pattern(1, 3000)).await.expect("the window takes it");
            send.finish().expect("the stream is open");
            assert_eq!(answer.read_to_end(0).await, Ok(Vec::new()));
            near.early_data().expect("the connection lives")
        });
        let answered = async {
            let far = server.accept().await.expect("the client connects");
            let (mut reply, mut question) = far.accept_bi().await.expect("the question");
            assert_eq!(question.read_to_end(5000).await.expect("all of it"), pattern(1, 3000));
            assert_eq!(far.is_early(&question).await, Ok(true));
            reply.finish().expect("the stream is open");
            far.closed().await;
        };
        let (asked, ()) = tokio::join!(asked, answered);
        assert_eq!(asked.expect("the worker runs"), EarlyData::Accepted);
    }
}

#[tokio::test]
async fn what_a_server_refuses_to_take_early_arrives_all_the_same() {
    let id = id();
    let first = server_config(&id).early_data(true).expect("sessions are kept");
    let first = loopback().server(first).start().expect("loopback is there");
    let client = loopback().start().expect("loopback is there");
    let mut config = client_config(&id);
    config.early_data = true;
    remembered(&client, &first, &config).await;
    let address = first.local_addr();
    first.shutdown(0, b"").await;
    // The next process on the port knows nothing of the session.
    let next = server_config(&id).early_data(true).expect("sessions are kept");
    let next = loopback().bind(address).server(next).start().expect("the port is free again");
    let (near, _far, is_early) = early(&client, &next, &config).await;
    assert!(!is_early);
    assert_eq!((near.early_data().await, near.is_resumed().await), (Ok(EarlyData::Rejected), Ok(false)));
}

/// Retries of the workers of an endpoint.
async fn retries(server: &Endpoint) -> u64 {
    server.datagram_stats().await.expect("it runs").iter().map(|stats| stats.retries).sum()
}

#[tokio::test]
async fn a_fleet_resumes_sessions_and_takes_tokens_across_a_change_of_secrets() {
    let id = id();
    let (old, new) = ([1; 32], [2; 32]);
    let start = |address: SocketAddr, keys: FleetKeys| {
        let mut config = server_config(&id).fleet_tickets(&keys).expect("no early data");
        config.retry = RetryPolicy::Always;
        loopback().bind(address).fleet(keys).server(config).start().expect("the port is free")
    };
    let client = loopback().start().expect("loopback is there");
    let config = client_config(&id);
    let server = start(SocketAddr::from(([127, 0, 0, 1], 0)), FleetKeys::new(&old));
    let address = server.local_addr();
    remembered(&client, &server, &config).await;
    assert!(retries(&server).await > 0);
    server.shutdown(0, b"").await;
    // Another process, with a new secret: what was given out under the old one is good. The address is the same.
    let rotated = FleetKeys::new(&new).with_previous(&old).expect("few secrets");
    for (keys, resumed) in [(rotated, true), (FleetKeys::new(&[3; 32]), false)] {
        let server = start(address, keys);
        let (near, far) = tokio::join!(client.connect(address, "localhost", config.clone()), server.accept());
        let (near, _far) = (near.expect("the server answers"), far.expect("the client connects"));
        assert_eq!(near.is_resumed().await, Ok(resumed));
        assert_eq!(retries(&server).await == 0, resumed, "a token spares the retry");
        near.close(0, b"");
        server.shutdown(0, b"").await;
    }
}

#[test]
fn early_data_and_tickets_that_can_be_replayed_exclude_each_other() {
    let keys = FleetKeys::new(&[1; 32]);
    assert!(server_config(&id()).fleet_tickets(&keys).and_then(|config| config.early_data(true)).is_err());
    assert!(server_config(&id()).early_data(true).and_then(|config| config.fleet_tickets(&keys)).is_err());
}

#[tokio::test]
async fn servers_ask_clients_for_certificates() {
    let (id, known, stranger) = (id(), Identity::generate(["client"]), Identity::generate(["client"]));
    let (known, stranger) = (known.expect("the name is fine"), stranger.expect("the name is fine"));
    let mut roots = RootCertStore::empty();
    roots.add(known.certificate.clone()).expect("the certificate is sound");
    let client_with = |identity: Option<&Identity>| {
        let trust = Trust::Fingerprint(id.fingerprint().0.to_vec());
        let shown = identity.map(|own| (vec![own.certificate.clone()], own.key()));
        ClientConfig::with_options(&trust, ALPN, &TlsOptions::default(), shown).expect("the key fits")
    };
    let roots = Arc::new(roots);
    for (clients, nobody_is_let_in) in
        [(ClientAuth::Required(roots.clone()), false), (ClientAuth::Optional(roots), true)]
    {
        let config =
            ServerConfig::with_options(vec![id.certificate.clone()], id.key(), ALPN, &TlsOptions::default(), &clients);
        let server = loopback().server(config.expect("the key fits")).start().expect("loopback is there");
        let client = loopback().start().expect("loopback is there");
        let shown = client.connect(server.local_addr(), "localhost", client_with(Some(&known)));
        let (near, far) = tokio::join!(shown, server.accept());
        let (_near, far) = (near.expect("the server answers"), far.expect("the client connects"));
        assert_eq!(far.peer_certificates(), Some(&[known.certificate.clone()][..]));
        // A client learns of its refusal after the handshake (RFC 8446 section 4.4.4).
        let refused = client.connect(server.local_addr(), "localhost", client_with(Some(&stranger))).await;
        let refused = refused.expect("its own part is complete").closed().await;
        assert!(matches!(refused, ConnectionError::ClosedByPeer { .. }), "{refused:?}");
        let nobody = client.connect(server.local_addr(), "localhost", client_with(None)).await;
        let nobody = nobody.expect("its own part is complete");
        if nobody_is_let_in {
            let far = server.accept().await.expect("the client connects");
            assert_eq!(far.peer_certificates(), None);
        } else {
            assert!(matches!(nobody.closed().await, ConnectionError::ClosedByPeer { .. }));
        }
    }
}

#[tokio::test]
async fn every_cipher_suite_carries_data_and_its_secrets_are_logged() {
    let dir = tempfile::tempdir().expect("a directory");
    let suites = [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    let id = id();
    let server = loopback().server(server_config(&id)).start().expect("loopback is there");
    for suite in suites {
        let path = dir.path().join(format!("{suite:?}"));
        let log = Arc::new(KeyLogFile::open(&path).expect("the directory is there"));
        let trust = Trust::Fingerprint(id.fingerprint().0.to_vec());
        let options = TlsOptions { suites: vec![suite], ..TlsOptions::default() };
        let config = ClientConfig::with_options(&trust, ALPN, &options, None).expect("QUIC uses the suite");
        let config = config.key_log(log.clone());
        let client = loopback().start().expect("loopback is there");
        let (near, far, _) = early(&client, &server, &config).await;
        drop((near, far));
        client.shutdown(0, b"").await;
        let text = std::fs::read_to_string(&path).expect("it was written");
        let secret_len = if suite == CipherSuite::TLS13_AES_256_GCM_SHA384 { 96 } else { 64 };
        for label in [
            "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
            "SERVER_HANDSHAKE_TRAFFIC_SECRET",
            "CLIENT_TRAFFIC_SECRET_0",
            "SERVER_TRAFFIC_SECRET_0",
        ] {
            let line = text.lines().find(|line| line.starts_with(label)).expect("each secret has its line");
            let fields: Vec<_> = line.split(' ').collect();
            assert_eq!(fields.iter().map(|field| field.len()).skip(1).collect::<Vec<_>>(), [64, secret_len], "{line}");
            assert!(fields[1..].iter().all(|field| field.bytes().all(|b| b.is_ascii_hexdigit())));
        }
        assert_eq!(log.failures(), 0);
    }
    assert!(KeyLogFile::open(dir.path()).is_err(), "a directory is no file");
}

#[test]
fn unknown_suites_are_refused() {
    let options = TlsOptions { suites: vec![CipherSuite::TLS13_AES_128_CCM_SHA256], ..TlsOptions::default() };
    assert!(ClientConfig::with_options(&Trust::Anyone, ALPN, &options, None).is_err());
}

#[tokio::test]
async fn the_version_is_the_one_that_the_client_wants_most() {
    let id = id();
    let server = loopback().server(server_config(&id)).start().expect("loopback is there");
    let mut config = client_config(&id);
    config.original_version = Some(Version::V1);
    for (wanted, expected) in [(vec![Version::V2, Version::V1], Version::V2), (vec![Version::V1], Version::V1)] {
        let client = loopback().versions(wanted).start().expect("loopback is there");
        let connection = client.connect(server.local_addr(), "localhost", config.clone()).await.expect("an answer");
        assert_eq!(connection.version().await, Ok(expected));
    }
}

#[tokio::test]
async fn each_connection_has_a_log_in_the_folder_and_a_folder_that_is_not_there_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let id = id();
    let server = loopback().server(server_config(&id)).qlog(dir.path()).start().expect("loopback is there");
    let client = loopback().qlog(dir.path()).start().expect("loopback is there");
    for _ in 0..2 {
        let (near, far, _) = early(&client, &server, &client_config(&id)).await;
        near.close(0, b"");
        far.closed().await;
    }
    client.shutdown(0, b"").await;
    server.shutdown(0, b"").await;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir.path()).expect("it is there") {
        let path = entry.expect("it can be read").path();
        let text = std::fs::read_to_string(&path).expect("it is text");
        assert!(
            text.starts_with("\u{1e}{\"qlog_version\":\"0.3\",\"qlog_format\":\"JSON-SEQ\"") && text.ends_with("}\n")
        );
        assert!(text.contains("\"name\":\"connectivity:connection_closed\""), "the log is complete");
        names.push(path.file_name().expect("it is a file").to_string_lossy().into_owned());
    }
    let of = |role: &str| names.iter().filter(|name| name.ends_with(role)).count();
    assert_eq!((of("_client.sqlog"), of("_server.sqlog"), names.len()), (2, 2, 4), "{names:?}");
    let refused = loopback().qlog(dir.path().join("missing")).start().expect_err("there is no such folder");
    assert!(refused.to_string().contains("no file can be made"), "{refused}");
}
