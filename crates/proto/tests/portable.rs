//! Sessions that outlive the process: what one client was given, another one resumes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use common::tamper::TrustsAnyone;
use common::{ALPN, Pair, pattern, server_config};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{CipherSuite, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use warpline_frame::Chunk;
use warpline_proto::config::{
    ClientAuth, ClientConfig, ClientMemory, EndpointConfig, MemoryError, ServerConfig, TlsOptions, TransportConfig,
    Trust,
};
use warpline_proto::{ConnectionError, ConnectionHandle, Dir, EarlyData, Endpoint, Event, PacketCrypto, Version};
use warpline_wire::{Side, TransportErrorCode, TransportParameters};

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

fn portable() -> TlsOptions {
    TlsOptions { portable_sessions: true, ..TlsOptions::default() }
}

/// What a process starts with: a configuration of its own, and a memory that knows nothing.
fn process(trust: &Trust, options: &TlsOptions) -> ClientConfig {
    let mut config = ClientConfig::with_options(trust, &[ALPN], options, None).unwrap();
    config.early_data = true;
    config
}

fn early_server() -> ServerConfig {
    server_config(&TransportConfig::default()).early_data(true).unwrap()
}

/// A pair whose client was there once, and what that client left behind.
fn visited(server: ServerConfig, config: ClientConfig) -> (Pair, Vec<u8>) {
    let mut pair = Pair::with_server(&TransportConfig::default(), server);
    pair.client_config = config;
    pair.visit();
    let left = pair.client_config.memory.export(now());
    (pair, left)
}

/// Connects with early data; returns what became of it, and whether the session was resumed.
fn early(pair: &mut Pair) -> (EarlyData, bool) {
    let client = pair.connect();
    let connection = pair.client.connection(client).unwrap();
    if connection.early_data() == EarlyData::Offered {
        let id = connection.open(Dir::Bi).unwrap();
        let mut data = Chunk::from((0..3000).map(pattern).collect::<Vec<u8>>());
        assert_eq!(connection.write(id, &mut data).unwrap(), 3000);
        connection.finish(id).unwrap();
    }
    finish(pair, client)
}

fn finish(pair: &mut Pair, client: ConnectionHandle) -> (EarlyData, bool) {
    pair.run_until(Duration::from_secs(60), |p| !p.client.peek(client).unwrap().is_handshaking());
    let connection = pair.client.peek(client).unwrap();
    (connection.early_data(), connection.is_resumed())
}

/// Process 2 begins with what process 1 left.
fn begin(pair: &mut Pair, config: ClientConfig, left: &[u8]) {
    config.memory.import(left, now()).unwrap();
    pair.client_config = config;
}

/// The client's connections end, and the server forgets them.
fn leave(pair: &mut Pair) {
    pair.run_for(Duration::from_millis(200));
    let clients: Vec<_> = pair.client_events.iter().map(|(client, _)| *client).collect();
    for client in clients {
        if let Some(connection) = pair.client.connection(client) {
            connection.close(pair.now, 0, b"");
        }
    }
    pair.run_for(Duration::from_secs(10));
    pair.client_events.clear();
    pair.server_events.clear();
}

/// Takes the newest of two sessions out of the memory; the other one is the one that [`Layout`] describes.
fn spend_one(pair: &mut Pair) {
    let client = pair.connect();
    pair.client.connection(client).unwrap().close(pair.now, 0, b"");
    assert_eq!(pair.client_config.memory.stats().sessions, 1);
}

/// Where the parts of the first session of the first server are in what is left, by the format that is documented.
struct Layout {
    suite: Range<usize>,
    received: Range<usize>,
    secret: Range<usize>,
    ticket: Range<usize>,
    params: Range<usize>,
    chain: Range<usize>,
}

impl Layout {
    fn of(bytes: &[u8]) -> Self {
        let mut at = 16;
        let mut take = |len: usize| {
            at += len;
            at - len..at
        };
        let number = |range: Range<usize>| bytes[range].iter().fold(0, |n, b| n << 8 | usize::from(*b));
        assert_eq!((number(take(1)), number(take(4))), (2, 1), "the format, and one server");
        let name = number(take(1));
        take(name + 2 + 4);
        for _ in 0..number(take(1)) {
            let token = number(take(2));
            take(token);
        }
        assert!(number(take(1)) >= 1, "a session");
        let (suite, received) = (take(2), take(8));
        take(32);
        let alpn = number(take(1));
        assert_eq!(&bytes[take(alpn)], ALPN);
        let len = number(take(1));
        let secret = take(len);
        let len = number(take(2));
        let ticket = take(len);
        let len = number(take(2));
        let params = take(len);
        assert_eq!(number(take(1)), 1, "one certificate");
        let len = number(take(2));
        Self { suite, received, secret, ticket, params, chain: take(len) }
    }
}

/// What is left, with something put in another one's place, and the sum of it.
fn changed(left: &[u8], place: &Range<usize>, new: &[u8]) -> Vec<u8> {
    let mut bytes = left[..left.len() - 32].to_vec();
    bytes.splice(place.clone(), new.iter().copied());
    let sum = digest(&SHA256, &bytes);
    bytes.extend_from_slice(sum.as_ref());
    bytes
}

#[test]
fn another_process_resumes_with_early_data_and_the_next_one_too() {
    let (mut pair, mut left) = visited(early_server(), process(&Trust::Anyone, &portable()));
    let certificate = left[Layout::of(&left).chain].to_vec();
    for generation in 2..5 {
        begin(&mut pair, process(&Trust::Anyone, &portable()), &left);
        // The newest one is used: from the third process on, one that was given on a resumed connection.
        assert_eq!(early(&mut pair), (EarlyData::Accepted, true), "process {generation}");
        let (client, _) = pair.client_events.first().unwrap();
        let shown = pair.client.peek(*client).unwrap().peer_certificates().unwrap();
        assert_eq!(shown, [CertificateDer::from(certificate.clone())], "who the server was is known");
        leave(&mut pair);
        left = pair.client_config.memory.export(now());
    }
}

#[test]
fn what_is_given_out_is_in_one_place_and_used_once() {
    let (mut pair, left) = visited(early_server(), process(&Trust::Anyone, &portable()));
    assert_eq!(pair.client_config.memory.stats().sessions, 0, "moved, not copied");
    let empty = ClientMemory::default();
    assert_eq!(empty.import(&pair.client_config.memory.export(now()), now()).unwrap().sessions, 0);
    begin(&mut pair, process(&Trust::Anyone, &portable()), &left);
    assert_eq!(pair.client_config.memory.stats().sessions, 2, "the server gives two tickets");
    let (first, second, third) = (pair.connect(), pair.connect(), pair.connect());
    assert_eq!(pair.client_config.memory.stats().sessions, 0);
    let resumed = [first, second, third].map(|client| finish(&mut pair, client).1);
    assert_eq!(resumed, [true, true, false], "two sessions, two uses");
}

#[test]
fn without_being_asked_for_no_session_leaves_the_process() {
    let (mut pair, left) = visited(early_server(), process(&Trust::Anyone, &TlsOptions::default()));
    assert_eq!(ClientMemory::default().import(&left, now()).unwrap().sessions, 0);
    assert_eq!(early(&mut pair), (EarlyData::Accepted, true), "they are still there for this process");
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (chain, key) = (vec![own.cert.der().clone()], own.signing_key.serialize_der().try_into().unwrap());
    let server = ServerConfig::with_options(chain, key, &[ALPN], &portable(), &ClientAuth::None);
    assert!(server.is_err(), "an option that would do nothing");
    // Nor is one that comes used by a configuration that did not ask.
    let (mut pair, left) = visited(early_server(), process(&Trust::Anyone, &portable()));
    begin(&mut pair, process(&Trust::Anyone, &TlsOptions::default()), &left);
    assert_eq!(early(&mut pair), (EarlyData::None, false));
}

#[test]
fn every_suite_of_every_library_outlives_the_process() {
    let libraries = [PacketCrypto::Ring, PacketCrypto::AwsLc, PacketCrypto::WarplineGcm];
    let suites = [
        (CipherSuite::TLS13_AES_128_GCM_SHA256, 32),
        (CipherSuite::TLS13_AES_256_GCM_SHA384, 48),
        (CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, 32),
    ];
    for crypto in libraries {
        for (suite, secret_len) in suites {
            let options = TlsOptions { crypto, suites: vec![suite], portable_sessions: true };
            if ClientConfig::with_options(&Trust::Anyone, &[ALPN], &options, None).is_err() {
                println!("skipped: this processor cannot run {}", crypto.name());
                continue;
            }
            let (mut pair, mut left) = visited(early_server(), process(&Trust::Anyone, &options));
            let layout = Layout::of(&left);
            assert_eq!((&left[layout.suite], layout.secret.len()), (&suite.to_array()[..], secret_len));
            // What one library began another one goes on with.
            for crypto in [crypto, PacketCrypto::AwsLc] {
                begin(&mut pair, process(&Trust::Anyone, &TlsOptions { crypto, ..options.clone() }), &left);
                assert_eq!(early(&mut pair), (EarlyData::Accepted, true), "{suite:?}, {}", crypto.name());
                leave(&mut pair);
                left = pair.client_config.memory.export(now());
            }
        }
    }
    // A configuration without the suite cannot use the session, and does without.
    let options = |suite| TlsOptions { suites: vec![suite], ..portable() };
    let (mut pair, left) = visited(early_server(), process(&Trust::Anyone, &options(suites[0].0)));
    begin(&mut pair, process(&Trust::Anyone, &options(suites[1].0)), &left);
    assert_eq!(early(&mut pair), (EarlyData::None, false));
}

#[test]
fn a_session_of_version_2_is_resumed_in_version_2() {
    let mut pair = Pair::with_server(&TransportConfig::default(), early_server());
    pair.client_config = process(&Trust::Anyone, &portable());
    pair.client_speaks(&[Version::V2, Version::V1]);
    pair.visit();
    let left = pair.client_config.memory.export(now());
    begin(&mut pair, process(&Trust::Anyone, &portable()), &left);
    assert_eq!(early(&mut pair), (EarlyData::Accepted, true));
    let mut old = process(&Trust::Anyone, &portable());
    old.original_version = Some(Version::V1);
    begin(&mut pair, old, &left);
    assert_eq!(early(&mut pair), (EarlyData::None, false), "not in version 1 (RFC 9369 section 5)");
}

#[test]
fn a_session_that_is_over_is_not_used() {
    let (mut pair, left) = visited(early_server(), process(&Trust::Anyone, &portable()));
    let sessions = |now| ClientMemory::default().import(&left, now).unwrap().sessions;
    let hour = Duration::from_secs(3600);
    assert_eq!(sessions(now()), 2);
    assert_eq!(sessions(now() + 24 * 8 * hour), 0, "tickets are good for a week at most");
    assert_eq!(sessions(now() - hour), 0, "one from the future has no age");
    let memory = ClientMemory::default();
    memory.import(&left, now()).unwrap();
    let later = memory.export(now() + 24 * 8 * hour);
    assert_eq!(ClientMemory::default().import(&later, now()).unwrap().sessions, 0, "nor is it written");

    // One that is over between being read and being used.
    let layout = Layout::of(&left);
    let past = (now() - 24 * 8 * hour).as_secs().to_be_bytes();
    let old = changed(&left, &layout.received, &past);
    let config = process(&Trust::Anyone, &portable());
    assert_eq!(
        config.memory.import(&old, now() - 24 * 8 * hour).unwrap().sessions,
        1,
        "the other one is of the future"
    );
    pair.client_config = config;
    assert_eq!(early(&mut pair), (EarlyData::None, false));
}

/// The age that a client says is that of the ticket, not that of the process.
#[test]
fn the_age_of_a_ticket_is_counted_from_when_it_came() {
    let (mut pair, left) = visited(early_server(), process(&Trust::Anyone, &portable()));
    let hours_ago = (now().as_secs() - 7_200).to_be_bytes();
    let aged = changed(&left, &Layout::of(&left).received, &hours_ago);
    let config = process(&Trust::Anyone, &portable());
    config.memory.import(&aged, now()).unwrap();
    pair.client_config = config;
    spend_one(&mut pair);
    assert_eq!(early(&mut pair), (EarlyData::Rejected, true), "the server knows that the ticket is not two hours old");
}

#[test]
fn a_session_of_another_protocol_is_left_alone() {
    let (mut pair, left) = visited(early_server(), process(&Trust::Anyone, &portable()));
    let mut other = ClientConfig::with_options(&Trust::Anyone, &[b"other"], &portable(), None).unwrap();
    other.early_data = true;
    begin(&mut pair, other, &left);
    let client = pair.connect();
    assert_eq!(pair.client.peek(client).unwrap().early_data(), EarlyData::None, "nothing is offered");
    assert_eq!(pair.client_config.memory.stats().sessions, 2);
    // It is not lost to those that it is for.
    let again = pair.client_config.memory.export(now());
    let mut both = ClientConfig::with_options(&Trust::Anyone, &[b"other", ALPN], &portable(), None).unwrap();
    both.early_data = true;
    begin(&mut pair, both, &again);
    assert_eq!(early(&mut pair), (EarlyData::Accepted, true));
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A certificate, a server that shows it and asks clients for theirs, and a client's identity that it trusts.
fn asking_server() -> (CertificateDer<'static>, ServerConfig, impl Fn() -> Identity) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let client = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(client.cert.der().clone()).unwrap();
    let chain = vec![own.cert.der().clone()];
    let key = own.signing_key.serialize_der().try_into().unwrap();
    let clients = ClientAuth::Optional(Arc::new(roots));
    let server = ServerConfig::with_options(chain, key, &[ALPN], &TlsOptions::default(), &clients).unwrap();
    let identity =
        move || (vec![client.cert.der().clone()], PrivateKeyDer::try_from(client.signing_key.serialize_der()).unwrap());
    (own.cert.der().clone(), server.early_data(true).unwrap(), identity)
}

#[test]
fn a_session_stands_for_the_client_that_began_it_and_for_no_other() {
    let (_, server, identity) = asking_server();
    let config = |identity| {
        let mut config = ClientConfig::with_options(&Trust::Anyone, &[ALPN], &portable(), identity).unwrap();
        config.early_data = true;
        config
    };
    let (mut pair, left) = visited(server.clone(), config(Some(identity())));
    begin(&mut pair, config(None), &left);
    assert_eq!(early(&mut pair), (EarlyData::None, false), "nobody does not become somebody");
    begin(&mut pair, config(Some(asking_server().2())), &left);
    let client = pair.connect();
    assert_eq!(pair.client.peek(client).unwrap().early_data(), EarlyData::None, "nor does another one");
    leave(&mut pair);
    begin(&mut pair, config(Some(identity())), &left);
    assert_eq!(early(&mut pair), (EarlyData::Accepted, true));

    let (mut pair, left) = visited(server, config(None));
    begin(&mut pair, config(Some(identity())), &left);
    assert_eq!(early(&mut pair), (EarlyData::None, false), "whoever has a name says it");
}

#[test]
fn the_server_is_judged_again_by_those_who_resume() {
    let (certificate, server, _) = asking_server();
    let (mut pair, left) = visited(server, process(&Trust::Anyone, &portable()));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let hash = digest(&SHA256, &certificate);
    let (mut right, mut wrong) = (hash.as_ref().to_vec(), hash.as_ref().to_vec());
    wrong[0] ^= 1;
    right.truncate(16);
    for (trust, is_trusted) in
        [(Trust::Fingerprint(wrong), false), (Trust::Roots(Arc::new(roots)), true), (Trust::Fingerprint(right), true)]
    {
        begin(&mut pair, process(&trust, &portable()), &left);
        let client = pair.connect();
        let offered = pair.client.peek(client).unwrap().early_data();
        assert_eq!(offered == EarlyData::Offered, is_trusted, "{trust:?}");
        leave(&mut pair);
    }
    // A chain that was changed in the file is not taken for the one that was shown.
    let chain = Layout::of(&left).chain;
    let mut other = left[chain.clone()].to_vec();
    *other.last_mut().unwrap() ^= 1;
    let config = process(&Trust::Fingerprint(hash.as_ref().to_vec()), &portable());
    config.memory.import(&changed(&left, &chain, &other), now()).unwrap();
    pair.client_config = config;
    let client = pair.connect();
    assert_eq!(pair.client.peek(client).unwrap().early_data(), EarlyData::None);
}

#[test]
fn what_a_verifier_of_the_callers_let_in_is_not_for_others() {
    let careless = Trust::Verifier(Arc::new(TrustsAnyone));
    let (mut pair, left) = visited(early_server(), process(&careless, &portable()));
    begin(&mut pair, process(&Trust::Anyone, &portable()), &left);
    assert_eq!(early(&mut pair), (EarlyData::None, false));
    leave(&mut pair);
    begin(&mut pair, process(&careless, &portable()), &left);
    assert_eq!(early(&mut pair), (EarlyData::Accepted, true));
}

/// Signs anything with bytes that mean nothing.
#[derive(Debug, Clone)]
struct Scribble(Vec<u8>);

impl SigningKey for Scribble {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(self.clone()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Scribble {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(self.0.clone())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// The signatures that sessions come back by are of no use to anybody who does not know the process's key.
#[test]
fn a_server_without_its_key_is_not_believed() {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.der().clone();
    for signature in [vec![], vec![0; 32], vec![0x30; 64], vec![7; 33]] {
        let shown = CertifiedKey::new(vec![certificate.clone()], Arc::new(Scribble(signature)));
        let provider = warpline_proto::provider::provider(PacketCrypto::Auto).unwrap();
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Shows(Arc::new(shown))));
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let server = ServerConfig::with_rustls(Arc::new(tls)).unwrap();
        let mut pair = Pair::with_server(&TransportConfig::default(), server);
        pair.client_config = process(&Trust::Anyone, &portable());
        let client = pair.connect();
        pair.run_until(Duration::from_secs(10), |p| {
            p.client_events.iter().any(|(handle, event)| *handle == client && matches!(event, Event::Closed(_)))
        });
        assert!(!pair.client_events.contains(&(client, Event::Connected)));
    }
}

/// RFC 9000 section 7.4.1: what is kept of the server's parameters is what early data obeys.
#[test]
fn limits_that_changed_are_kept_to() {
    let server = early_server();
    let (mut pair, left) = visited(server.clone(), process(&Trust::Anyone, &portable()));
    let small =
        TransportConfig { connection_window: 20_000, connection_window_max: 20_000, ..TransportConfig::default() };
    let lowered = Arc::new(server.transport(small).unwrap());
    pair.server = Endpoint::new(Arc::new(EndpointConfig::new(&[5; 32])), Some(lowered), [9; 32]);
    begin(&mut pair, process(&Trust::Anyone, &portable()), &left);
    assert_eq!(early(&mut pair), (EarlyData::Rejected, false), "our server resumes nothing that it cannot keep");
}

/// A server that takes early data and gives less than it gave breaks the rule; here it is the memory of the client that has more.
#[test]
fn a_server_that_takes_early_data_and_lowers_its_limits_is_left() {
    let (mut pair, left) = visited(early_server(), process(&Trust::Anyone, &portable()));
    let place = Layout::of(&left).params;
    let mut params = TransportParameters::decode(&left[place.clone()], Side::Server).unwrap();
    params.initial_max_streams_bidi += 1;
    let mut more = Vec::new();
    params.encode(&mut more, Side::Server);
    let more = [&(more.len() as u16).to_be_bytes()[..], &more].concat();
    let place = place.start - 2..place.end;
    let config = process(&Trust::Anyone, &portable());
    config.memory.import(&changed(&left, &place, &more), now()).unwrap();
    pair.client_config = config;
    spend_one(&mut pair);
    let client = pair.connect();
    let mut why = None;
    pair.run_until(Duration::from_secs(10), |p| {
        why = p.client_events.iter().find_map(|(handle, event)| match event {
            Event::Closed(why) if *handle == client => Some(why.clone()),
            _ => None,
        });
        why.is_some()
    });
    let Some(ConnectionError::Transport(error)) = why else { panic!("{why:?}") };
    assert_eq!(error.code, TransportErrorCode::PROTOCOL_VIOLATION);
}

#[test]
fn what_is_damaged_is_refused_whole() {
    let (_, left) = visited(early_server(), process(&Trust::Anyone, &portable()));
    let memory = ClientMemory::default();
    for at in 0..left.len() {
        let mut bad = left.clone();
        bad[at] ^= 4;
        assert!(memory.import(&bad, now()).is_err(), "byte {at}");
        assert!(memory.import(&left[..at], now()).is_err(), "length {at}");
    }
    let layout = Layout::of(&left);
    let lies = [
        (layout.suite.clone(), 0x1304u16.to_be_bytes().to_vec()),
        (layout.ticket.start..layout.ticket.start + 1, vec![5]),
        (layout.ticket.start + 4..layout.ticket.start + 8, vec![0; 4]),
        (layout.params.start..layout.params.start + 2, vec![0x7f, 0xff]),
        (layout.secret.start - 1..layout.secret.start, vec![31]),
    ];
    for (place, lie) in lies {
        let lying = changed(&left, &place, &lie);
        assert_eq!(memory.import(&lying, now()), Err(MemoryError::Damaged), "{place:?}");
    }
    assert_eq!(memory.stats().servers, 0);
    assert_eq!(memory.import(&left, now()).unwrap().sessions, 2);
}
