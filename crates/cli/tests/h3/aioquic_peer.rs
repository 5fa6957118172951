//! aioquic as the other end, with an HTTP/3 and a QPACK of its own.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::site::{Site, certificate, get};

/// An interpreter that can import aioquic, made by `interop/setup-aioquic.sh` when it is not there, and the script.
fn python() -> Option<(PathBuf, PathBuf)> {
    let interop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../interop");
    let output = Command::new(interop.join("setup-aioquic.sh")).stderr(Stdio::null()).output().unwrap();
    if !output.status.success() {
        eprintln!("skipped: no environment for aioquic can be made, see interop/setup-aioquic.sh");
        return None;
    }
    Some((String::from_utf8(output.stdout).unwrap().trim().into(), interop.join("aioquic/h3.py")))
}

/// What aioquic gets for each of the requests.
fn ask(site: &Site, ca: &str, requests: &Value) -> Option<Vec<Value>> {
    let (python, script) = python()?;
    let port = site.address().port().to_string();
    let mut client = Command::new(python)
        .arg(script)
        .args(["client", "--ca", ca, "--port", &port])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    client.stdin.take().unwrap().write_all(requests.to_string().as_bytes()).unwrap();
    let output = client.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn sha256(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

#[test]
fn aioquic_gets_files_parts_and_refusals() {
    let dir = tempfile::tempdir().unwrap();
    let [cert, key] = certificate(dir.path());
    let site = Site::new(&["--cert", &cert, "--key", &key]);
    let large: Vec<u8> = (0..500_000u32).flat_map(u32::to_le_bytes).collect();
    site.file("large.bin", &large);
    site.file("index.html", b"<p>index");
    let requests = json!([
        { "method": "GET", "path": "/" },
        { "method": "GET", "path": "/large.bin" },
        { "method": "GET", "path": "/large.bin", "headers": { "range": "bytes=-70000" } },
        { "method": "POST", "path": "/" },
        { "method": "GET", "path": "/%2e%2e/%2e%2e/etc/passwd" },
        // aioquic sends what the settings of the server forbid.
        { "method": "GET", "path": "/", "headers": { "x-long": "x".repeat(20_000) } },
        { "method": "GET", "path": "/", "headers": { "connection": "close" } },
        { "method": "GET", "path": "/" },
    ]);
    let Some(answers) = ask(&site, &cert, &requests) else { return };
    let statuses: Vec<_> = answers.iter().map(|answer| answer["status"].as_u64()).collect();
    assert_eq!(statuses[..6], [200, 200, 206, 405, 404, 431].map(Some), "{answers:?}");
    assert_eq!((&answers[0]["text"], &answers[0]["headers"]["content-length"]), (&"<p>index".into(), &"8".into()));
    assert_eq!(answers[1]["sha256"], sha256(&large));
    assert_eq!(answers[2]["sha256"], sha256(&large[large.len() - 70_000..]));
    assert_eq!(answers[2]["headers"]["content-range"], "bytes 1930000-1999999/2000000");
    assert_eq!(answers[3]["headers"]["allow"], "GET, HEAD");
    // What belongs to HTTP/1.1 makes a message malformed (H3_MESSAGE_ERROR), and does no harm to the connection.
    assert_eq!((&answers[6]["reset"], &answers[7]["text"]), (&0x10e.into(), &"<p>index".into()));
}

#[test]
fn our_client_fetches_from_aioquic() {
    let Some((python, script)) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let [cert, key] = certificate(dir.path());
    let mut server = Command::new(python)
        .arg(script)
        .args(["server", "--cert", &cert, "--key", &key])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = serde_json::from_str::<Value>(&line).unwrap()["port"].as_u64().unwrap();
    let to = dir.path().join("large");
    let url = format!("https://localhost:{port}/");
    let output = get(&format!("{url}large"), &["--ca", &cert, "--json", "-o", to.to_str().unwrap()]);
    let missing = get(&format!("{url}none"), &["--ca", &cert]);
    // It ends when its input is closed.
    drop(server.stdin.take());
    server.wait().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["status"], &report["bytes"]), (&200.into(), &5_000_000.into()));
    assert_eq!(report["headers"]["x-agent"], format!("warpline/{}", env!("CARGO_PKG_VERSION")));
    assert!(std::fs::read(&to).unwrap() == b"aioquic!".repeat(625_000));
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("404"));
}
