//! A ClientHello that takes several Initial packets, as the key share of X25519MLKEM768 makes it, in any order.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{ALPN, Pair, server_config};
use rustls::NamedGroup;
use warpline_frame::Frame;
use warpline_proto::config::{ClientConfig, ServerConfig, TransportConfig};
use warpline_proto::{ConnectionHandle, DatagramMeta, Event, provider};

/// A client that has nothing but X25519MLKEM768, and offers `protocols` names beside the one that is spoken: each makes the
/// ClientHello longer by 250 bytes.
fn client(protocols: u8) -> ClientConfig {
    let mut crypto = (*provider::provider(provider::PacketCrypto::Auto).unwrap()).clone();
    crypto.kx_groups.retain(|group| group.name() == NamedGroup::X25519MLKEM768);
    assert_eq!(crypto.kx_groups.len(), 1, "it is there by default");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(SERVER.with(|(_, certificate)| certificate.clone())).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(crypto))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = (0..protocols).map(|n| vec![n; 249]).chain([ALPN.to_vec()]).collect();
    ClientConfig::with_rustls(Arc::new(tls)).unwrap()
}

thread_local! {
    static SERVER: (rcgen::CertifiedKey<rcgen::KeyPair>, rustls_pki_types::CertificateDer<'static>) = {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = key.cert.der().clone();
        (key, certificate)
    };
}

fn server() -> ServerConfig {
    SERVER.with(|(key, certificate)| {
        let pkcs8 = key.signing_key.serialize_der().try_into().unwrap();
        ServerConfig::with_single_cert(vec![certificate.clone()], pkcs8, &[ALPN]).unwrap()
    })
}

/// Connects with the datagrams of the first flight in this order, given once each; the rest goes as it comes.
fn connects(protocols: u8, order: &[usize]) {
    let mut pair = Pair::with_server(&TransportConfig::default(), server());
    pair.client_config = client(protocols);
    pair.connect();
    let (mut flight, mut buf) = (Vec::new(), vec![0; 65_536]);
    while let Some(transmit) = pair.client.poll_transmit(pair.now, &mut buf) {
        flight.extend(buf[..transmit.len].chunks(transmit.segment_size).map(<[u8]>::to_vec));
    }
    assert_eq!(flight.len(), order.len(), "as many datagrams as the order is about");
    let meta = DatagramMeta { remote: pair.client_addr, local: None, ecn: None };
    for index in order {
        pair.server.handle_datagram(pair.now, &meta, &mut Frame::from_vec(flight[*index].clone()));
        assert_eq!(pair.server.len(), 1, "the parts belong to one connection: {order:?}");
    }
    let has_connected =
        |events: &[(ConnectionHandle, Event)]| events.iter().any(|(_, event)| *event == Event::Connected);
    pair.run_until(Duration::from_secs(10), |p| has_connected(&p.client_events) && has_connected(&p.server_events));
    assert_eq!(pair.server.stats().accepted, 1, "{order:?}");
}

/// All orders of `n` things.
fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for shorter in orders(n - 1) {
        for place in 0..n {
            let mut order = shorter.clone();
            order.insert(place, n - 1);
            all.push(order);
        }
    }
    all
}

#[test]
fn two_datagrams_in_either_order() {
    for order in orders(2) {
        connects(0, &order);
    }
}

#[test]
fn five_datagrams_in_every_order() {
    let orders = orders(5);
    assert_eq!(orders.len(), 120);
    for order in orders {
        connects(15, &order);
    }
}

/// The default configuration offers the hybrid key exchange first, and its ClientHello takes two datagrams.
#[test]
fn the_default_is_such_a_client_hello() {
    let mut pair = Pair::with_server(&TransportConfig::default(), server_config(&TransportConfig::default()));
    pair.connect();
    let mut buf = vec![0; 65_536];
    let mut datagrams = 0;
    while let Some(transmit) = pair.client.poll_transmit(pair.now, &mut buf) {
        datagrams += transmit.len.div_ceil(transmit.segment_size);
    }
    assert_eq!(datagrams, 2);
}
