//! A browser loads a page with a style, an image, scripts and data over HTTP/3.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::site::Site;

const PAGE: &[u8] = br#"<!DOCTYPE html>
<link rel="stylesheet" href="style.css">
<p id="out">the script has not run</p>
<img src="dot.svg" onload="this.alt = 'seen'">
<script type="module" src="app.js"></script>
"#;

/// Fetches further resources, checks them and writes what it found into the page, also how each came.
const APP: &[u8] = br##"
import { numbers } from "./numbers.js";
const out = document.getElementById("out");
try {
    const data = await (await fetch("data.json")).json();
    const large = new Uint8Array(await (await fetch("large.bin")).arrayBuffer());
    const part = await fetch("large.bin", { headers: { range: "bytes=5-7" }, cache: "no-store" });
    const partBytes = [...new Uint8Array(await part.arrayBuffer())];
    const missing = await fetch("missing");
    const sum = large.reduce((sum, byte) => (sum * 31 + byte) % 1000003, 0);
    const many = await Promise.all(numbers.map((n) => fetch(`many/${n}.txt`).then((r) => r.text())));
    const entries = performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"));
    const protocols = [...new Set(entries.map((entry) => entry.nextHopProtocol))].sort();
    const report = {
        data: data.word, length: large.length, sum, part: part.status, partBytes, missing: missing.status,
        many: many.join(""), color: getComputedStyle(out).color, protocols, entries: entries.length,
    };
    out.textContent = JSON.stringify(report);
} catch (error) {
    out.textContent = `failed: ${error}`;
}
await fetch("done");
"##;

/// Files that the script fetches at once, beside the others.
const MANY: usize = 60;

fn stage(options: &[&str]) -> (Site, Vec<u8>) {
    let site = Site::new(options);
    site.file("index.html", PAGE);
    site.file("style.css", b"#out { color: rgb(1, 2, 3); }");
    site.file("dot.svg", br#"<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle r="4"/></svg>"#);
    site.file("app.js", APP);
    site.file("numbers.js", format!("export const numbers = [...Array({MANY}).keys()];").as_bytes());
    site.file("data.json", br#"{ "word": "over h3" }"#);
    let large: Vec<u8> = (0..10_000_000u32).map(|n| (n.wrapping_mul(7) + n / 251) as u8).collect();
    site.file("large.bin", &large);
    (0..MANY).for_each(|n| site.file(&format!("many/{n}.txt"), format!("{n};").as_bytes()));
    (site, large)
}

/// The page after its script has run, as the browser would save it, and the log of the server. `None` without a browser.
fn visit(site: &Site, port: u16, forced: u16) -> Option<(Value, Vec<Value>)> {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("chromium")
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"])
        .args(["--no-proxy-server", "--host-resolver-rules=MAP h3.test 127.0.0.1"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--ignore-certificate-errors-spki-list={}", site.pin()))
        .arg(format!("--origin-to-force-quic-on=h3.test:{forced}"))
        // The clock of the page stands still while something is being fetched.
        .args(["--dump-dom", "--virtual-time-budget=60000"])
        .arg(format!("https://h3.test:{port}/"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: there is no chromium on this machine");
            return None;
        }
        output => output.unwrap(),
    };
    let page = String::from_utf8(output.stdout).unwrap();
    let report =
        page.split_once("<p id=\"out\">").and_then(|(_, rest)| rest.split_once("</p>")).map(|(report, _)| report);
    let report = serde_json::from_str(report.unwrap_or(&page)).unwrap_or_else(|error| panic!("{error}: {page}"));
    let mut lines = vec![site.line()];
    while lines[lines.len() - 1]["path"] != "/done" {
        lines.push(site.line());
    }
    Some((report, lines))
}

/// Everything that the page and its script need was there.
fn check(report: &Value, large: &[u8]) {
    let sum = large.iter().fold(0, |sum, &byte| (sum * 31 + u64::from(byte)) % 1_000_003);
    assert_eq!((&report["length"], &report["sum"]), (&large.len().into(), &sum.into()));
    assert_eq!((&report["data"], &report["color"]), (&"over h3".into(), &"rgb(1, 2, 3)".into()));
    assert_eq!((&report["part"], &report["partBytes"]), (&206.into(), &large[5..8].into()));
    assert_eq!(report["missing"], 404);
    let many: String = (0..MANY).map(|n| format!("{n};")).collect();
    assert_eq!(report["many"], many.as_str());
}

/// How many of the requests came by a protocol.
fn count(lines: &[Value], protocol: &str) -> usize {
    lines.iter().filter(|line| line["protocol"] == protocol).count()
}

#[test]
#[ignore = "starts a browser: cargo test -p warpline-cli --test h3 -- --ignored --nocapture chromium"]
fn chromium_loads_a_page_with_its_resources_over_http3() {
    let (site, large) = stage(&[]);
    let port = site.address().port();
    let Some((report, lines)) = visit(&site, port, port) else { return };
    check(&report, &large);
    // The browser's own word, and the server's.
    assert_eq!(report["protocols"], serde_json::json!(["h3"]));
    assert_eq!(count(&lines, "h3"), lines.len());
    assert!(lines.len() > MANY + 8, "{lines:?}");
    assert!(lines.iter().all(|line| line["error"].is_null() && line["remote"] == lines[0]["remote"]), "{lines:?}");
    let large = lines.iter().find(|line| line["path"] == "/large.bin");
    let large = large.expect("the page fetches it");
    eprintln!("{} requests over one connection of HTTP/3; the page says: {report}; the server: {large}", lines.len());
}

#[test]
#[ignore = "starts a browser: cargo test -p warpline-cli --test h3 -- --ignored --nocapture chromium"]
fn chromium_goes_over_to_http3_when_http1_tells_it_to() {
    let (site, large) = stage(&["--http1", "0"]);
    let address: std::net::SocketAddr = site.ready["http1"].as_str().unwrap().parse().unwrap();
    // Of certificates without a public authority it takes those of hosts that are named in this option; the port there is
    // nobody's, so that nothing is forced.
    let Some((report, lines)) = visit(&site, address.port(), 9) else { return };
    check(&report, &large);
    assert_eq!(lines[0]["protocol"], "http/1.1");
    assert_eq!(lines[lines.len() - 1]["protocol"], "h3");
    let (old, new) = (count(&lines, "http/1.1"), count(&lines, "h3"));
    eprintln!("{old} requests over HTTP/1.1, then {new} over HTTP/3; the page says: {report}");
}
