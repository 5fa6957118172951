//! Another implementation at the other end, on the kernel's sockets: quinn with `h3`.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::{Request, Response};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::stage::{CLIENT, Io, SERVER, Server, Stage};

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A certificate for `localhost` and its key, in PEM files of `dir`.
fn certificate(dir: &std::path::Path) -> [String; 2] {
    let id = warpline::Identity::generate(["localhost"]).unwrap();
    [("CERTIFICATE", &id.certificate[..]), ("PRIVATE KEY", id.key_pkcs8())].map(|(kind, der)| {
        let path = dir.join(kind);
        let text = data_encoding::BASE64.encode(der);
        std::fs::write(&path, format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")).unwrap();
        path.to_str().unwrap().to_owned()
    })
}

/// An endpoint whose socket is at one end.
fn endpoint(stage: &Stage, end: usize, bind: &str, server: Option<quinn::ServerConfig>) -> quinn::Endpoint {
    let bind: SocketAddr = bind.parse().unwrap();
    let socket = stage.net.inside(end, move || UdpSocket::bind(bind).unwrap());
    quinn::Endpoint::new(quinn::EndpointConfig::default(), server, socket, Arc::new(quinn::TokioRuntime)).unwrap()
}

fn large() -> Vec<u8> {
    (0..1_000_000u32).flat_map(u32::to_le_bytes).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quinn_fetches_from_our_server_on_af_xdp() {
    let Some(stage) = Stage::new("quinn") else { return };
    let dir = tempfile::tempdir().unwrap();
    let [cert, key] = certificate(dir.path());
    std::fs::create_dir(dir.path().join("www")).unwrap();
    std::fs::write(dir.path().join("www/large"), large()).unwrap();
    let mut command = stage.warpline(SERVER, Io::Xdp);
    command.args(["h3", "serve"]).arg(dir.path().join("www"));
    command.args(["--bind", "[::]:4433", "--json", "--cert", &cert, "--key", &key]);
    let mut server = Server::start(&mut command);
    assert_eq!(server.ready["io"], "xdp", "{}", server.ready);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&cert).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = Arc::new(QuicClientConfig::try_from(tls).unwrap());
    for (way, address) in &stage.ways {
        let bind = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let client = endpoint(&stage, CLIENT, bind, None);
        let to = format!("{address}:4433").parse().unwrap();
        let config = quinn::ClientConfig::new(crypto.clone());
        let connection = client.connect_with(config, to, "localhost").unwrap().await.unwrap();
        let (mut driver, mut requests) = h3::client::new(h3_quinn::Connection::new(connection.clone())).await.unwrap();
        let driver = tokio::spawn(async move { driver.wait_idle().await });
        for _ in 0..3 {
            let request = Request::get("https://localhost/large").body(()).unwrap();
            let mut stream = requests.send_request(request).await.unwrap();
            stream.finish().await.unwrap();
            assert_eq!(stream.recv_response().await.unwrap().status(), 200);
            let mut body = Vec::new();
            while let Some(mut data) = stream.recv_data().await.unwrap() {
                body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
            }
            assert!(body == large(), "{way}: {} bytes", body.len());
        }
        assert_eq!(connection.close_reason(), None);
        drop(requests);
        driver.await.unwrap();
        println!("{way}: 12 MB");
    }
    assert!(server.is_running());
}

async fn serve(endpoint: quinn::Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        let transport = h3_quinn::Connection::new(incoming.await.unwrap());
        let mut connection = h3::server::Connection::<_, Bytes>::new(transport).await.unwrap();
        tokio::spawn(async move {
            while let Ok(Some(request)) = connection.accept().await {
                let (_, mut stream) = request.resolve_request().await.unwrap();
                stream.send_response(Response::new(())).await.unwrap();
                stream.send_data(large().into()).await.unwrap();
                stream.finish().await.unwrap();
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_on_af_xdp_fetches_from_quinn() {
    let Some(stage) = Stage::new("quinn2") else { return };
    let dir = tempfile::tempdir().unwrap();
    let [cert, key] = certificate(dir.path());
    let builder = rustls::ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap().with_no_client_auth();
    let chain = vec![CertificateDer::from_pem_file(&cert).unwrap()];
    let mut tls = builder.with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let server = endpoint(&stage, SERVER, "[::]:4433", Some(config));
    tokio::spawn(serve(server));
    for (way, address) in &stage.ways {
        let mut command = stage.warpline(CLIENT, Io::Xdp);
        command.args(["h3", "get", &format!("https://{address}:4433/large"), "--insecure"]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && output.stdout == large(), "{way}: {} bytes; {said}", output.stdout.len());
        println!("{way}: 4 MB");
    }
}
