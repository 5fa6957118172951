//! The server and the client of the command, over loopback.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rustls::version::TLS13;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::site::{Site, certificate, get};

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn files_arrive_whole_and_each_request_has_its_line() {
    let site = Site::new(&["--list"]);
    let large: Vec<u8> = (0..3_000_001u32).flat_map(u32::to_le_bytes).collect();
    site.file("large.bin", &large);
    site.file("a b/ü.txt", b"text");
    site.file("index.html", b"");
    assert!(site.body("large.bin") == large);
    assert_eq!(site.body("a%20b/%C3%BC.txt"), b"text");
    assert_eq!(site.body(""), b"");
    assert!(String::from_utf8(site.body("a%20b/")).unwrap().contains("./%C3%BC.txt"));
    let lines: Vec<_> = (0..4).map(|_| site.line()).collect();
    for (line, (path, bytes)) in lines.iter().zip([("/large.bin", large.len()), ("/a%20b/%C3%BC.txt", 4), ("/", 0)]) {
        assert_eq!((&line["path"], &line["bytes"]), (&path.into(), &bytes.into()), "{line}");
        assert_eq!((&line["protocol"], &line["status"], &line["error"]), (&"h3".into(), &200.into(), &().into()));
    }
}

#[test]
fn a_file_is_there_under_its_name_only_when_it_is_whole() {
    let site = Site::new(&[]);
    site.file("page.html", b"<p>page");
    let to = site.dir.path().join("fetched");
    let output = site.get("page.html", &["--json", "-o", to.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["status"], &report["bytes"], &report["protocol"]), (&200.into(), &7.into(), &"h3".into()));
    assert_eq!(report["headers"]["content-type"], "text/html; charset=utf-8");
    assert_eq!(std::fs::read(&to).unwrap(), b"<p>page");
    let before = std::fs::read_dir(site.dir.path()).unwrap().count();
    let output = site.get("none", &["-o", to.to_str().unwrap()]);
    assert_eq!((output.status.code(), std::fs::read(&to).unwrap().as_slice()), (Some(1), &b"<p>page"[..]));
    assert!(said(&output).contains("404 Not Found"), "{}", said(&output));
    assert_eq!(std::fs::read_dir(site.dir.path()).unwrap().count(), before);
}

#[test]
fn server_and_client_say_how_packets_move() {
    let site = Site::new(&["--io", "udp"]);
    site.file("a", b"content");
    let to = site.dir.path().join("fetched");
    let output = site.get("a", &["--io", "udp", "--json", "-o", to.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for object in [&site.ready, &report] {
        assert_eq!((&object["io"], object.get("xdp")), (&"udp".into(), Some(&().into())), "{object}");
        assert!(object["io_why"].is_string(), "{object}");
    }
}

#[test]
fn redirections_are_followed_if_that_is_wanted() {
    let site = Site::new(&[]);
    site.file("sub/index.html", b"index");
    let output = site.get("sub", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("301") && said(&output).contains("/sub/"), "{}", said(&output));
    assert_eq!(site.get("sub", &["-L"]).stdout, b"index");
}

#[test]
fn nobody_is_trusted_without_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let [cert, key] = certificate(dir.path());
    let site = Site::new(&["--cert", &cert, "--key", &key]);
    site.file("a", b"a");
    assert_eq!(site.ready["self_signed"], false);
    let url = site.url("a").replace("HOST", "localhost");
    let other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for refused in [&[][..], &["--pin", other]] {
        let output = get(&url, refused);
        assert_eq!(output.status.code(), Some(1), "{refused:?}: {}", said(&output));
        assert!(said(&output).contains("not trusted"), "{}", said(&output));
    }
    for trusted in [&["--ca", &cert][..], &["--pin", site.pin()], &["--insecure"]] {
        let output = get(&url, trusted);
        assert_eq!(output.stdout, b"a", "{trusted:?}: {}", said(&output));
    }
    // The certificate does not bear that name.
    let output = get(&url.replace("localhost", "127.0.0.1"), &["--ca", &cert]);
    assert!(said(&output).contains("not trusted"), "{}", said(&output));
}

#[test]
fn the_next_fetch_resumes_the_session_and_may_send_its_request_at_once() {
    let site = Site::new(&[]);
    site.file("a", b"content");
    let dir = tempfile::tempdir().unwrap();
    let [sessions, to] = ["sessions", "a"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    let fetch = |options: &[&str]| {
        let output = site.get("a", &[&["--json", "-o", &to][..], options].concat());
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!((std::fs::read(&to).unwrap().as_slice(), said(&output).as_str()), (&b"content"[..], ""));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (report["resumed"].as_bool().unwrap(), report["early_data"].as_bool().unwrap())
    };
    assert_eq!(fetch(&["--sessions", &sessions]), (false, false), "there is nothing yet");
    assert_eq!(std::fs::metadata(&sessions).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fetch(&[]), (false, false), "sessions are kept of those who ask for it");
    assert_eq!(fetch(&["--sessions", &sessions]), (true, false));
    assert_eq!(fetch(&["--sessions", &sessions, "--early-data"]), (true, true));
    // The settings by other ways than the command line.
    let config = dir.path().join("config.toml");
    std::fs::write(&config, "[h3.get]\nearly_data = true\n").unwrap();
    let mut command = crate::site::warpline();
    command.args(["get", &site.url("a"), "--pin", site.pin(), "--json", "-o", &to]);
    let output = command.env("WARPLINE_SESSIONS", &sessions).env("WARPLINE_CONFIG", &config).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["resumed"], &report["early_data"]), (&true.into(), &true.into()), "{}", said(&output));

    let output = site.get("a", &["--early-data"]);
    assert!(output.status.code() == Some(2) && said(&output).contains("--sessions"), "{}", said(&output));
    let url = site.url("a");
    let pin = site.pin().to_owned();
    assert!(fetch(&["--sessions", &sessions]).0 || fetch(&["--sessions", &sessions]).0);
    site.interrupt();
    site.ended();
    let output = get(&url, &["--pin", &pin, "--sessions", &sessions, "--early-data", "--connect-timeout", "1"]);
    assert!(output.status.code() == Some(4) && said(&output).contains("no answer"), "{}", said(&output));
    std::fs::write(&sessions, b"notes").unwrap();
    let output = get(&url, &["--pin", &pin, "--sessions", &sessions]);
    assert!(output.status.code() == Some(1) && said(&output).contains(&sessions), "{}", said(&output));
    assert_eq!(std::fs::read(&sessions).unwrap(), b"notes");
}

#[test]
fn wrong_usage_and_absent_servers_are_told_apart() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = format!("https://{}/", socket.local_addr().unwrap());
    for (url, options, code, what) in [
        ("http://localhost/", &[][..], 2, "https"),
        ("localhost", &[], 2, "relative URL"),
        ("https://u:p@localhost/", &[], 2, "password"),
        ("https://localhost/", &["--pin", "AAAA"], 2, "3 bytes, not 32"),
        ("https://localhost/", &["--ca", "/dev/null"], 1, "no certificate"),
        (&silent, &["--insecure", "--connect-timeout", "1"], 4, "no answer"),
    ] {
        let output = get(url, options);
        assert_eq!(output.status.code(), Some(code), "{url}: {}", said(&output));
        assert!(said(&output).contains(what), "{url}: {}", said(&output));
    }
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    for (options, what) in [
        (&["/none"][..], "/none"),
        (&[dir, "--bind", "127.0.0.1:0", "--http1", &port], "TCP port"),
        (&[dir, "--cert", "/dev/null", "--key", "/dev/null"], "no certificate"),
    ] {
        let output = crate::site::warpline().arg("serve").args(options).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{options:?}: {}", said(&output));
        assert!(said(&output).contains(what), "{options:?}: {}", said(&output));
    }
}

#[test]
fn http1_serves_the_same_and_tells_of_http3() {
    let dir = tempfile::tempdir().unwrap();
    let [cert, key] = certificate(dir.path());
    let site = Site::new(&["--http1", "0", "--cert", &cert, "--key", &key]);
    site.file("a.js", b"0123456789");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&cert).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
    let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    let ask = |request: &str| {
        let mut tcp = TcpStream::connect(site.ready["http1"].as_str().unwrap()).unwrap();
        let mut tls = rustls::ClientConnection::new(Arc::clone(&config), "localhost".try_into().unwrap()).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        // Servers of HTTP/1.1 may leave out the goodbye of TLS.
        if let Err(error) = stream.read_to_string(&mut answer) {
            assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        }
        answer
    };
    let answer = ask("GET /a.js HTTP/1.1\r\nhost: localhost\r\nrange: bytes=2-3\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 206 ") && answer.ends_with("\r\n\r\n23"), "{answer}");
    let advertised = format!("alt-svc: h3=\":{}\"; ma=86400\r\n", site.address().port());
    assert!(answer.contains(&advertised), "{answer}");
    assert!(answer.contains("content-type: text/javascript"), "{answer}");
    assert_eq!(site.line()["protocol"], "http/1.1");
    let answer = ask("GET /a.js HTTP/1.1\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let answer = ask(&format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(20_000)));
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}
