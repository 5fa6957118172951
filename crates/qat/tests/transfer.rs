//! From a card that is tried to connections that it carries, in one process from beginning to end: a process has one device.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Fault, Standin};
use warpline::{
    CipherSuite, ClientAuth, ClientConfig, Endpoint, Identity, PacketCrypto, ServerConfig, TlsOptions, Trust,
};
use warpline_qat::{Installed, Unavailable, When, install};

const ALPN: &[&[u8]] = &[b"device"];
/// Some 2,800 packets.
const LEN: usize = 4_000_000;

/// Moves [`LEN`] bytes there and back between two endpoints.
async fn transfer(suite: CipherSuite) {
    let id = Identity::generate(["localhost"]).unwrap();
    let options = TlsOptions { crypto: PacketCrypto::Device, suites: vec![suite], ..TlsOptions::default() };
    let chain = vec![id.certificate.clone()];
    let server = ServerConfig::with_options(chain, id.key(), ALPN, &options, &ClientAuth::None).unwrap();
    let trust = Trust::Fingerprint(id.fingerprint().0.to_vec());
    let client = ClientConfig::with_options(&trust, ALPN, &options, None).unwrap();
    let endpoint = || Endpoint::builder().bind(([127, 0, 0, 1], 0)).workers(1);
    let server = endpoint().server(server).start().unwrap();
    let near = endpoint().start().unwrap();
    let (client, far) = tokio::join!(near.connect(server.local_addr(), "localhost", client), server.accept());
    let (client, far) = (client.unwrap(), far.unwrap());
    let sent: Vec<u8> = (0..LEN).map(|at| (at / 7) as u8).collect();
    let up = async {
        let (mut send, mut back) = client.open_bi().await.unwrap();
        let write = async {
            send.write_all(&sent).await.unwrap();
            send.finish().unwrap();
        };
        tokio::join!(write, async { back.read_to_end(LEN).await.unwrap() }).1
    };
    let echo = async {
        let (mut send, mut recv) = far.accept_bi().await.unwrap();
        while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX).await {
            send.write_chunk(chunk).await.unwrap();
        }
        send.finish().unwrap();
    };
    let (received, ()) = tokio::join!(up, echo);
    assert!(received == sent);
    near.shutdown(0, b"").await;
    server.shutdown(0, b"").await;
}

/// What does not hold keeps a card out of use.
fn refused(standin: &Standin) {
    for (fault, what) in [
        (Fault::Tag, "it seals something else"),
        (Fault::Credulous, "it opens what is forged"),
        (Fault::Silent, "it seals nothing"),
    ] {
        standin.fault(fault);
        let why = install(&standin.places, When::Working).unwrap_err();
        assert_eq!(why, Unavailable::WrongAnswer(what), "{fault:?}");
    }
    standin.reset(2);
}

#[tokio::test]
async fn a_card_that_is_tried_and_installed_carries_connections_until_it_fails() {
    let standin = Standin::new(2);
    refused(&standin);
    // Whether a program that does as if is faster than the processor is not for a test to say, but it is said one way or the other.
    let installed = match install(&standin.places, When::Faster) {
        Ok(installed) => installed,
        Err(Unavailable::Slower { device, library }) => {
            assert!(device >= library);
            install(&standin.places, When::Working).unwrap()
        }
        Err(why) => panic!("{why}"),
    };
    assert_eq!(install(&standin.places, When::Working).unwrap_err(), Unavailable::Taken);
    let Installed { qat, trial } = installed;
    assert!(trial.batch_min.is_none_or(|packets| trial.device < trial.library && packets <= 16));
    assert_eq!(qat.status().idle, 2, "the trial has given its instance back");
    qat.set_batch_min(2);

    let mut before = qat.status().packets;
    for suite in [CipherSuite::TLS13_AES_128_GCM_SHA256, CipherSuite::TLS13_AES_256_GCM_SHA384] {
        transfer(suite).await;
        let packets = qat.status().packets - before;
        assert!(
            packets > 4_000,
            "{packets} of some 5,600 that are sealed and opened; what comes alone is not worth the way"
        );
        before = qat.status().packets;
    }
    assert_eq!((qat.status().idle, qat.status().given_up), (2, 0), "workers that ended have given theirs back");
    let chacha = CipherSuite::TLS13_CHACHA20_POLY1305_SHA256;
    transfer(chacha).await;
    assert_eq!(qat.status().packets, before, "a library's, whoever seals AES");

    standin.fault(Fault::Silent);
    transfer(CipherSuite::TLS13_AES_128_GCM_SHA256).await;
    assert_eq!((qat.status().given_up, qat.status().packets), (2, before), "both ends went on without");
}
