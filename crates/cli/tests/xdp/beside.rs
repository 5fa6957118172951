//! What else uses the interface while the command works at full load. The same traffic goes four times: alone, beside the
//! command on the kernel's socket, the same with an XDP program on the interfaces that leaves everything to the kernel (which
//! alone costs TCP its large segments on virtual Ethernet), and beside the command on AF_XDP at the same load. Rates are
//! printed next to each other; a busy machine decides about them. What may not differ is what arrives.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;

use crate::stage::{CLIENT, Io, Load, SERVER, Server, Stage};

/// Bytes of the TCP transfer, each way.
const TCP_BYTES: usize = 24 << 20;
/// Questions and answers of a session at a keyboard.
const LINES: usize = 300;
/// Echo requests of `ping`, of which each gets an answer.
const PINGS: usize = 100;
/// Bytes that `iperf3` sends.
const IPERF_BYTES: u64 = 64 << 20;
/// Datagrams of a server that was at work.
const BUSY: u64 = 20_000;
/// Of so many segments one more may be sent again beside AF_XDP than otherwise. TCP finds the end of a queue by overflowing it:
/// on virtual Ethernet with an XDP program, which has 256 places, up to 1.6 % were sent again on two busy cores (Linux 6.18).
const SEGMENTS_PER_RETRANSMISSION: u64 = 20;

/// What became of the traffic.
#[derive(Debug)]
struct Seen {
    /// Bits a second of the bulk data, one way, and of `iperf3`.
    rates: [f64; 2],
    /// Echo requests without an answer.
    unanswered: usize,
    tcp: Tcp,
}

/// The kernel's counts of both ends.
#[derive(Debug, Default)]
struct Tcp {
    segments: u64,
    retransmitted: u64,
    /// Connections that were reset, of those that end by themselves.
    resets: u64,
}

impl Tcp {
    fn read(stage: &Stage) -> Tcp {
        let mut all = Tcp::default();
        for end in [SERVER, CLIENT] {
            let text = stage.net.exec(end, "cat /proc/net/snmp").unwrap();
            let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
            let (names, values) = (lines.next().unwrap().split(' '), lines.next().unwrap().split(' '));
            let fields: Vec<_> = names.zip(values).collect();
            let field = |name| fields.iter().find(|field| field.0 == name).unwrap().1.parse::<u64>().unwrap();
            all.segments += field("OutSegs");
            all.retransmitted += field("RetransSegs");
            all.resets += field("EstabResets");
        }
        all
    }
}

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

/// Bulk data, both ways at once; bits a second one way.
fn bulk(stage: &Stage, address: &str) -> f64 {
    let [a, b] = connect(stage, address);
    let patterns = [pattern(1), pattern(2)];
    let began = Instant::now();
    std::thread::scope(|scope| {
        for (pattern, mut from, mut to) in [
            (&patterns[0], a.try_clone().unwrap(), b.try_clone().unwrap()),
            (&patterns[1], b.try_clone().unwrap(), a.try_clone().unwrap()),
        ] {
            scope.spawn(move || {
                from.write_all(pattern).unwrap();
                from.shutdown(std::net::Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                let mut got = Vec::with_capacity(TCP_BYTES);
                to.read_to_end(&mut got).unwrap();
                assert!(got == *pattern, "{} bytes of {TCP_BYTES}", got.len());
            });
        }
    });
    (8 * TCP_BYTES) as f64 / began.elapsed().as_secs_f64()
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

/// Echo requests that got no answer.
fn ping(stage: &Stage, address: &str) -> usize {
    let host = address.trim_matches(['[', ']']);
    let mut command = stage.inside(CLIENT, "ping");
    let output = command.args(["-c", &PINGS.to_string(), "-i", "0.01", "-W", "5", host]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.contains("packets transmitted"));
    let received = line.and_then(|line| line.split(", ").find_map(|part| part.strip_suffix(" received")));
    let received: usize = received.and_then(|count| count.parse().ok()).unwrap_or_else(|| {
        panic!("ping (Debian package iputils-ping): {text}{}", String::from_utf8_lossy(&output.stderr))
    });
    PINGS - received
}

/// The program that people measure TCP with; bits a second.
fn iperf3(stage: &Stage, address: &str) -> f64 {
    let host = address.trim_matches(['[', ']']);
    let mut report = Value::Null;
    // A server is there for one client, and ends if that one gives up: iperf3 has limits of its own on a machine that is busy.
    'servers: for _ in 0..3 {
        let mut command = stage.inside(SERVER, "iperf3");
        let mut server = command.args(["-s", "-1", "-p", "5201"]).stdout(Stdio::null()).spawn().unwrap();
        for _ in 0..50 {
            std::thread::sleep(std::time::Duration::from_millis(100));
            let bytes = IPERF_BYTES.to_string();
            let output = stage.inside(CLIENT, "iperf3").args(["-c", host, "-n", &bytes, "-J"]).output().unwrap();
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
    let [sent, received] = ["sum_sent", "sum_received"].map(|sum| report["end"][sum]["bytes"].as_u64().unwrap_or(0));
    // The receiver stops counting when the sender says that it is done, before the last is out of the sockets' buffers: those
    // hold 10 MB (tcp_wmem and tcp_rmem). That all bytes arrive is the bulk data's business.
    assert!(sent >= IPERF_BYTES && received > sent / 4 * 3, "iperf3 (Debian package iperf3): {report}");
    report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap()
}

/// All of the traffic, over IPv4 and IPv6.
fn traffic(stage: &Stage) -> [Seen; 2] {
    ["10.77.0.1", "[fd77::1]"].map(|address| {
        let before = Tcp::read(stage);
        let bulk_rate = bulk(stage, address);
        session(stage, address);
        let resets = Tcp::read(stage).resets - before.resets;
        // How iperf3 ends its connections is its own affair.
        let rates = [bulk_rate, iperf3(stage, address)];
        let after = Tcp::read(stage);
        let tcp = Tcp {
            segments: after.segments - before.segments,
            retransmitted: after.retransmitted - before.retransmitted,
            resets,
        };
        Seen { rates, unanswered: ping(stage, address), tcp }
    })
}

/// Programs on both interfaces that have nothing to do.
fn idle(stage: &Stage) -> [Server; 2] {
    [SERVER, CLIENT].map(|end| {
        let mut command = stage.warpline(end, Io::Xdp);
        Server::start(command.args(["perf", "server", "--bind", "[::]:4440"]))
    })
}

/// The traffic while a server and two clients do what they can; the server, and one of the clients, on this back end.
fn beside(stage: &Stage, io: Io) -> [Seen; 2] {
    let mut command = stage.warpline(SERVER, io);
    let server = Server::start(command.args(["perf", "server", "--bind", "[::]:4433"]));
    let load = |scenario, io| {
        let mut command = stage.warpline(CLIENT, io);
        command.args(["perf", "client", "10.77.0.1:4433", "--insecure", "--duration", "3600", "--in-flight", "50"]);
        Load(command.args(["--scenario", scenario]).spawn().unwrap())
    };
    let mut loads = [load("download", io), load("reqresp", Io::Udp)];
    let seen = traffic(stage);
    assert!(loads.iter_mut().all(Load::is_running), "the load went on all the time");
    drop(loads);
    let said = server.end();
    let report: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    println!("on {io:?} the server moved {} datagrams", report["datagrams"]);
    assert!(report["datagrams"].as_u64().unwrap() > BUSY, "{report}");
    assert_eq!(report["xdp"].is_null(), io == Io::Udp, "{report}");
    seen
}

#[test]
fn what_tcp_ping_and_sessions_send_arrives_at_full_load() {
    let Some(stage) = Stage::new("beside") else { return };
    let (alone, udp) = (traffic(&stage), beside(&stage, Io::Udp));
    let idle = idle(&stage);
    let passed = beside(&stage, Io::Udp);
    idle.map(Server::end).iter().for_each(|said| assert!(said.contains("datagrams"), "{said}"));
    let xdp = beside(&stage, Io::Xdp);
    for (n, family) in ["IPv4", "IPv6"].into_iter().enumerate() {
        let xdp = &xdp[n];
        let others = [("alone", &alone[n]), ("socket", &udp[n]), ("socket, program", &passed[n])];
        for (name, seen) in others.into_iter().chain([("AF_XDP", xdp)]) {
            let part = |m: usize| format!("{:.0} Mbit/s ({:.2})", seen.rates[m] / 1e6, xdp.rates[m] / seen.rates[m]);
            println!(
                "{family}, {name}: bulk {}, iperf3 {}; AF_XDP's part of it in (); {:?}",
                part(0),
                part(1),
                seen.tcp
            );
            assert_eq!((seen.unanswered, seen.tcp.resets), (0, 0), "{family}, {name}: {seen:?}");
        }
        let usual = others.map(|(_, seen)| seen.tcp.retransmitted).into_iter().max().unwrap();
        let bound = usual + xdp.tcp.segments / SEGMENTS_PER_RETRANSMISSION;
        assert!(xdp.tcp.retransmitted <= bound, "{family}: more than {bound}: {:?}", xdp.tcp);
    }
}
