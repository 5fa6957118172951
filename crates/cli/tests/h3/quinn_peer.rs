//! quinn with `h3` and `h3-quinn` as the other end.

use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use h3::error::Code;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::task::JoinHandle;

use crate::site::{Site, certificate, get};

type Requests = h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>;
type Answer = (StatusCode, HeaderMap, Vec<u8>);

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A site with a certificate that quinn trusts.
struct Stage {
    site: Site,
    requests: Requests,
    /// Ends with the connection.
    driver: JoinHandle<h3::error::ConnectionError>,
    connection: quinn::Connection,
    _endpoint: quinn::Endpoint,
    _dir: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [cert, key] = certificate(dir.path());
        let site = Site::new(&["--cert", &cert, "--key", &key]);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&cert).unwrap()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let mut endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let crypto = QuicClientConfig::try_from(tls).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        let connection = endpoint.connect(site.address(), "localhost").unwrap().await.unwrap();
        let (mut driver, requests) = h3::client::new(h3_quinn::Connection::new(connection.clone())).await.unwrap();
        let driver = tokio::spawn(async move { driver.wait_idle().await });
        Self { site, requests, driver, connection, _endpoint: endpoint, _dir: dir }
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("https://localhost{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut requests = self.requests.clone();
        let mut stream = requests.send_request(request.body(()).unwrap()).await.unwrap();
        stream.finish().await.unwrap();
        let response = stream.recv_response().await.unwrap();
        let mut body = Vec::new();
        while let Some(mut data) = stream.recv_data().await.unwrap() {
            body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
        }
        (response.status(), response.headers().clone(), body)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quinn_gets_files_parts_and_refusals() {
    let stage = Stage::new().await;
    let large: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
    stage.site.file("large.bin", &large);
    stage.site.file("sub/index.html", b"<p>index");
    let (status, headers, body) = stage.ask(Method::GET, "/large.bin", &[]).await;
    assert!(status == 200 && body == large);
    let tag = headers["etag"].to_str().unwrap();
    let (status, _, body) = stage.ask(Method::GET, "/large.bin", &[("if-none-match", tag)]).await;
    assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
    let (status, headers, body) = stage.ask(Method::GET, "/large.bin", &[("range", "bytes=70000-200000")]).await;
    assert_eq!(status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(headers["content-range"], "bytes 70000-200000/4000000");
    assert!(body == large[70_000..=200_000]);
    let (status, headers, body) = stage.ask(Method::HEAD, "/large.bin", &[]).await;
    assert_eq!((status, headers["content-length"].as_bytes(), body.len()), (StatusCode::OK, &b"4000000"[..], 0));
    let (status, headers, body) = stage.ask(Method::GET, "/sub/", &[]).await;
    assert_eq!((status, body.as_slice()), (StatusCode::OK, &b"<p>index"[..]));
    assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    for (method, path, refused) in [
        (Method::GET, "/none", 404),
        (Method::GET, "/sub/../../etc/passwd", 404),
        (Method::GET, "/%2e%2e/%2e%2e/etc/passwd", 404),
        (Method::GET, "/sub", 301),
        (Method::POST, "/large.bin", 405),
        (Method::DELETE, "/large.bin", 405),
    ] {
        assert_eq!(stage.ask(method.clone(), path, &[]).await.0, refused, "{method} {path}");
    }
    // What is too long for the server is not even sent: its settings say so.
    let request = Request::get("https://localhost/").header("x", "x".repeat(20_000)).body(()).unwrap();
    let refused = stage.requests.clone().send_request(request).await.err().unwrap();
    assert!(matches!(refused, h3::error::StreamError::HeaderTooBig { max_size: 16_384, .. }), "{refused}");
    // All of it went over one connection, and that is still good.
    assert_eq!(stage.connection.close_reason(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_interrupted_delivers_what_it_began() {
    let stage = Stage::new().await;
    let large = vec![7; 30_000_000];
    stage.site.file("large.bin", &large);
    let request = Request::get("https://localhost/large.bin").body(()).unwrap();
    let mut stream = stage.requests.clone().send_request(request).await.unwrap();
    stream.finish().await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 200);
    stage.site.interrupt();
    let mut bytes = 0;
    while let Some(mut data) = stream.recv_data().await.unwrap() {
        bytes += data.remaining();
        data.advance(data.remaining());
    }
    assert_eq!(bytes, large.len());
    let ended = stage.driver.await.unwrap();
    assert!(ended.is_h3_no_error(), "{ended}");
    let (code, lines) = stage.site.ended();
    assert_eq!((code, &lines[0]["bytes"], &lines[0]["error"]), (Some(0), &large.len().into(), &().into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_shrinks_while_it_is_sent_is_not_taken_for_the_whole() {
    let stage = Stage::new().await;
    stage.site.file("large.bin", &vec![7; 30_000_000]);
    let request = Request::get("https://localhost/large.bin").body(()).unwrap();
    let mut stream = stage.requests.clone().send_request(request).await.unwrap();
    stream.finish().await.unwrap();
    stream.recv_response().await.unwrap();
    // More than the windows hold is not read yet.
    stage.site.file("large.bin", b"short");
    let error = loop {
        match stream.recv_data().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it was ended as if it were whole"),
            Err(error) => break error,
        }
    };
    let code = Code::H3_INTERNAL_ERROR;
    assert!(matches!(error, h3::error::StreamError::RemoteTerminate { code: c, .. } if c == code), "{error}");
    let line = stage.site.line();
    assert!(line["error"].is_string(), "{line}");
}

/// Answers each request by `answer`, over quinn, until the endpoint is dropped.
fn quinn_server(answer: fn(&str) -> (Response<()>, Vec<u8>)) -> (quinn::Endpoint, tempfile::TempDir, [String; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let files @ [cert, key] = &certificate(dir.path());
    let builder = rustls::ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap().with_no_client_auth();
    let chain = vec![CertificateDer::from_pem_file(cert).unwrap()];
    let mut tls = builder.with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = QuicServerConfig::try_from(tls).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            let transport = h3_quinn::Connection::new(incoming.await.unwrap());
            let mut connection = h3::server::Connection::<_, Bytes>::new(transport).await.unwrap();
            tokio::spawn(async move {
                while let Ok(Some(request)) = connection.accept().await {
                    let (request, mut stream) = request.resolve_request().await.unwrap();
                    let (response, body) = answer(request.uri().path());
                    stream.send_response(response).await.unwrap();
                    stream.send_data(body.into()).await.unwrap();
                    stream.finish().await.unwrap();
                }
            });
        }
    });
    (endpoint, dir, files.clone())
}

fn answer(path: &str) -> (Response<()>, Vec<u8>) {
    let response = Response::builder();
    let (response, body) = match path {
        "/large" => (response, vec![3; 5_000_000]),
        "/moved" => (response.status(302).header("location", "/large"), Vec::new()),
        "/round" => (response.status(302).header("location", "/round"), Vec::new()),
        "/short" => (response.header("content-length", "10"), vec![3; 9]),
        "/away" => (response.status(302).header("location", "http://localhost/"), Vec::new()),
        _ => (response.status(404), b"no".to_vec()),
    };
    (response.body(()).unwrap(), body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_fetches_from_quinn() {
    let (endpoint, _dir, [cert, _]) = quinn_server(answer);
    let port = endpoint.local_addr().unwrap().port();
    let fetch = async |path: &str| {
        let url = format!("https://localhost:{port}/{path}");
        let cert = cert.clone();
        tokio::task::spawn_blocking(move || get(&url, &["-L", "--ca", &cert])).await.unwrap()
    };
    for path in ["large", "moved"] {
        let output = fetch(path).await;
        assert!(output.stdout == vec![3; 5_000_000], "{path}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for (path, code, what) in [
        ("round", 1, "redirections"),
        ("short", 4, "9 bytes, of 10"),
        ("away", 2, "https URLs only"),
        ("none", 1, "404 Not Found"),
    ] {
        let output = fetch(path).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{path}: {said}");
        assert!(said.contains(what), "{path}: {said}");
    }
}
