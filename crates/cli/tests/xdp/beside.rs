//! What else uses the interface while the command works at full load: none of it notices.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::stage::{CLIENT, Io, Load, SERVER, Server, Stage};

/// Bytes of the TCP transfer, each way.
const TCP_BYTES: usize = 24 << 20;
/// Questions and answers of a session at a keyboard.
const LINES: usize = 300;
/// Echo requests of `ping`, of which each gets an answer.
const PINGS: usize = 100;

fn pattern(seed: usize) -> Vec<u8> {
    (0..TCP_BYTES).map(|n| ((n * 31 + seed * 7 + n / 251) % 256) as u8).collect()
}

/// A TCP connection from one end to the other: the client's side and the server's.
fn connect(stage: &Stage, address: &str) -> [TcpStream; 2] {
    // The very port that Warpline has for UDP.
    let to = format!("{address}:4433");
    let listener = stage.net.inside(SERVER, || TcpListener::bind(&to).unwrap());
    let client = stage.net.inside(CLIENT, || TcpStream::connect(&to).unwrap());
    [client, listener.accept().unwrap().0]
}

/// Bulk data, both ways at once.
fn bulk(stage: &Stage, address: &str) {
    let [a, b] = connect(stage, address);
    std::thread::scope(|scope| {
        for (seed, mut from, mut to) in
            [(1, a.try_clone().unwrap(), b.try_clone().unwrap()), (2, b.try_clone().unwrap(), a.try_clone().unwrap())]
        {
            scope.spawn(move || {
                from.write_all(&pattern(seed)).unwrap();
                from.shutdown(std::net::Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                let mut got = Vec::new();
                to.read_to_end(&mut got).unwrap();
                assert!(got == pattern(seed), "{} bytes of {TCP_BYTES}", got.len());
            });
        }
    });
}

/// A line, an answer, a line.
fn session(stage: &Stage, address: &str) {
    let [mut client, server] = connect(stage, address);
    client.set_nodelay(true).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut answers = server.try_clone().unwrap();
            for line in BufReader::new(server).lines().map_while(Result::ok) {
                answers.write_all(format!("you said {line}\n").as_bytes()).unwrap();
            }
        });
        let mut answers = BufReader::new(client.try_clone().unwrap());
        for n in 0..LINES {
            let mut answer = String::new();
            client.write_all(format!("line {n}\n").as_bytes()).unwrap();
            answers.read_line(&mut answer).unwrap();
            assert_eq!(answer, format!("you said line {n}\n"));
        }
        client.shutdown(std::net::Shutdown::Write).unwrap();
    });
}

/// How many answers came.
fn ping(stage: &Stage, address: &str) -> Option<usize> {
    let host = address.trim_matches(['[', ']']);
    let mut command = stage.inside(CLIENT, "ping");
    let output = command.args(["-c", &PINGS.to_string(), "-i", "0.01", "-W", "5", host]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let Some(line) = text.lines().find(|line| line.contains("packets transmitted")) else {
        println!("ping skipped: it is not here: {}", String::from_utf8_lossy(&output.stderr).trim());
        return None;
    };
    println!("ping: {line}");
    line.split(", ").find_map(|part| part.strip_suffix(" received"))?.parse().ok()
}

/// The program that people measure TCP with, if it is here.
fn iperf3(stage: &Stage, address: &str) {
    let host = address.trim_matches(['[', ']']);
    let mut report = serde_json::Value::Null;
    // A server is there for one client, and ends if that one gives up: iperf3 has limits of its own on a machine that is busy.
    'servers: for _ in 0..3 {
        let mut server = match stage.inside(SERVER, "iperf3").args(["-s", "-1", "-p", "5201"]).spawn() {
            Ok(server) => server,
            Err(error) => return println!("iperf3 skipped: {error}"),
        };
        for _ in 0..50 {
            std::thread::sleep(std::time::Duration::from_millis(100));
            let output = stage.inside(CLIENT, "iperf3").args(["-c", host, "-n", "64M", "-J"]).output().unwrap();
            report = serde_json::from_slice(&output.stdout).unwrap_or_default();
            // With -J a client that was refused ends as one that was served does.
            if output.status.success() && report["error"].is_null() {
                // It has told the client what it received, and need not be waited for.
                let _ = server.kill();
                server.wait().unwrap();
                break 'servers;
            }
            println!("iperf3, once more: {}", report["error"]);
            if server.try_wait().unwrap().is_some() {
                break;
            }
        }
        // An error says that it ended by itself.
        let _ = server.kill();
        server.wait().unwrap();
    }
    if report.is_null() {
        return println!("iperf3 skipped: it is not here");
    }
    let [sent, received] = ["sum_sent", "sum_received"].map(|sum| report["end"][sum]["bytes"].as_u64().unwrap_or(0));
    println!("iperf3: {received} bytes at {} bit/s", report["end"]["sum_received"]["bits_per_second"]);
    // The receiver stops counting when the sender says that it is done, which is before all has arrived.
    assert!(sent >= 64 << 20 && received > sent / 2, "{report}");
}

#[test]
fn tcp_ping_and_sessions_are_as_ever_at_full_load() {
    let Some(stage) = Stage::new("beside") else { return };
    let mut command = stage.warpline(SERVER, Io::Xdp);
    let server = Server::start(command.args(["perf", "server", "--bind", "[::]:4433"]));
    let load = |scenario, io| {
        let mut command = stage.warpline(CLIENT, io);
        command.args(["perf", "client", "10.77.0.1:4433", "--insecure", "--duration", "3600", "--in-flight", "50"]);
        Load(command.args(["--scenario", scenario]).spawn().unwrap())
    };
    let mut loads = [load("download", Io::Xdp), load("reqresp", Io::Udp)];
    let mut answers = 0;
    for address in ["10.77.0.1", "[fd77::1]"] {
        bulk(&stage, address);
        session(&stage, address);
        iperf3(&stage, address);
        answers += ping(&stage, address).unwrap_or(PINGS);
    }
    assert!(loads.iter_mut().all(Load::is_running), "the load went on all the time");
    drop(loads);
    let said = server.end();
    let report: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    println!("meanwhile the server moved {} datagrams", report["datagrams"]);
    assert!(report["datagrams"].as_u64().unwrap() > 20_000, "{report}");
    assert_eq!(answers, 2 * PINGS, "each echo request is answered");
}
