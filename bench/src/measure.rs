//! One run: a server, a client, and what both cost.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use warpline_peer_kit::Report;

use crate::Result;
use crate::certs::Identity;
use crate::peers::Program;
use crate::process::{Process, cpu_seconds, resident_kib};
use crate::rows::{Link, Metric, Row};

/// How long a server may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(15);
/// How long a client may take beyond its times: opening, closing, draining.
const CLIENT_SLACK: Duration = Duration::from_secs(15);
/// How long opening the connections of `idle` may take.
const OPEN_LIMIT: Duration = Duration::from_secs(180);
/// How long held connections rest before memory is read, so that handshake state is gone.
const SETTLE: Duration = Duration::from_secs(3);
/// What a client may take to start and connect: so much later CPU time is taken first.
const CPU_MARGIN: Duration = Duration::from_millis(150);
/// CPU time of a shorter span says little.
const CPU_SPAN_MIN: Duration = Duration::from_millis(100);
/// Operations in a hundred that may have come about in another way than asked.
const FALLBACKS_MAX_PERCENT: u64 = 1;
/// Deviation of the payload size that a stack reports, in a hundred, that is still the size asked for.
const PAYLOAD_TOLERANCE_PERCENT: u64 = 2;
/// Bytes from which on the mean size of packets is that of full ones; below, the handshake's count for too much.
const PAYLOAD_BYTES_MIN: u64 = 10 << 20;
/// The one cipher suite of the comparison.
const CIPHER: &str = "TLS_AES_128_GCM_SHA256";
/// Bytes of a full short-header packet that are not stream data: 1 + 8 (ID) + 2 (number) + 16 (tag) + 5 (frame).
const PACKET_OVERHEAD: f64 = 32.0;

/// What is the same for every run of a comparison.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Measured span.
    pub duration: Duration,
    /// Load before it.
    pub warmup: Duration,
    /// Stream receive window in bytes.
    pub window: u64,
    /// Core of the server.
    pub server_core: usize,
    /// Core of the client.
    pub client_core: usize,
    /// Connections of `idle`, if not the row's own number.
    pub idle_connections: Option<u32>,
    /// Whether to count the server's system calls, which disturbs the run.
    pub syscalls: bool,
    /// The impairment proxy, for rows with a link.
    pub proxy: Option<PathBuf>,
}

/// What one run found.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The row's figure.
    pub value: f64,
    /// Other figures, by name; the name ends in the unit.
    pub details: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
struct Ready {
    ready: bool,
    addr: String,
}

/// Runs `row` once with `program` on both sides.
pub fn run(program: &Program, row: &Row, setup: &Setup, identity: &Identity) -> Result<Sample> {
    let mut row = *row;
    if let (Metric::Memory, Some(connections)) = (row.metric, setup.idle_connections) {
        row.connections = connections;
    }
    let (server, address) = start_server(program, &row, setup, identity)?;
    let link = row.link.map(|link| start_link(link, setup, &address)).transpose()?;
    let target = link.as_ref().map_or(&address, |(_, target)| target);
    let mut client = start_client(program, &row, setup, identity, target)?;
    let sample = match row.metric {
        Metric::Memory => hold(&server, &mut client, &row)?,
        _ => load(&server, &mut client, &row, setup)?,
    };
    client.stop().map_err(|error| format!("client: {error}"))?;
    server.stop().map_err(|error| format!("server: {error}"))?;
    Ok(sample)
}

fn start_server(program: &Program, row: &Row, setup: &Setup, identity: &Identity) -> Result<(Process, String)> {
    let args = [
        ("--bind", "127.0.0.1:0".to_owned()),
        ("--cert", identity.cert.display().to_string()),
        ("--key", identity.key.display().to_string()),
        ("--payload", row.payload.to_string()),
        ("--window", setup.window.to_string()),
    ];
    let args = args.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).chain(row.congestion_args());
    let args = program.args("server", args);
    let mut server = Process::start(program.path(), &args, setup.server_core)?;
    let line = server.line(START_LIMIT).map_err(|error| format!("server: {error}"))?;
    match serde_json::from_str(&line) {
        Ok(Ready { ready: true, addr }) => Ok((server, addr)),
        _ => Err(format!("server: said {line} instead of being ready").into()),
    }
}

/// The impairment proxy in front of `server`, and its address. It ends when it is dropped.
fn start_link(link: Link, setup: &Setup, server: &str) -> Result<(Process, String)> {
    let mut args = ["proxy", "--listen", "127.0.0.1:0", "--to", server].map(str::to_owned).to_vec();
    args.extend(link.proxy_args());
    let program = setup.proxy.as_deref().ok_or("the impairment proxy was not built")?;
    let mut proxy = Process::start(program, &args, setup.server_core)?;
    let line = proxy.line(START_LIMIT).map_err(|error| format!("proxy: {error}"))?;
    let address = line.split_whitespace().next().unwrap_or_default().to_owned();
    Ok((proxy, address))
}

fn start_client(program: &Program, row: &Row, setup: &Setup, identity: &Identity, address: &str) -> Result<Process> {
    let mut args = vec![address.to_owned(), "--ca".to_owned(), identity.cert.display().to_string()];
    args.extend(row.client_args(setup.window));
    let times = [("--duration", setup.duration), ("--warmup", setup.warmup)];
    args.extend(times.into_iter().flat_map(|(flag, time)| [flag.to_owned(), time.as_secs_f64().to_string()]));
    Process::start(program.path(), &program.args("client", args), setup.client_core)
}

/// A run whose figure the client reports.
fn load(server: &Process, client: &mut Process, row: &Row, setup: &Setup) -> Result<Sample> {
    // The client's measured span begins later than this thread can know, by the time that starting and connecting take. CPU
    // time is that of a shorter span that lies within, so it is used as a rate only.
    thread::sleep(setup.warmup + CPU_MARGIN);
    let (began, server_before, client_before) = (Instant::now(), cpu_seconds(server.id())?, cpu_seconds(client.id())?);
    let syscalls = setup.syscalls.then(|| SyscallCount::start(server.id(), setup.duration)).transpose()?;
    thread::sleep(setup.duration.saturating_sub(CPU_MARGIN).max(CPU_SPAN_MIN));
    let span = began.elapsed().as_secs_f64();
    let server_share = (cpu_seconds(server.id())? - server_before) / span;
    let client_share = (cpu_seconds(client.id())? - client_before) / span;
    let line = client.line(setup.duration + CLIENT_SLACK).map_err(|error| format!("client: {error}"))?;
    let report: Report = serde_json::from_str(&line).map_err(|error| format!("client: said {line}: {error}"))?;
    check(&report, row)?;
    let value = row.metric.value(&report).ok_or_else(|| format!("client: no figure in {line}"))?;
    let mut details = costs(&report, server_share, client_share);
    for (name, micros) in [("p50_us", report.p50_us), ("p99_us", report.p99_us), ("p999_us", report.p999_us)] {
        details.extend(micros.map(|micros| (name.to_owned(), micros)));
    }
    details.insert("server_resident_kib".to_owned(), resident_kib(server.id())? as f64);
    if let Some(count) = syscalls {
        let per_second = count.finish()?;
        if row.metric == Metric::Goodput {
            let packets = report.bytes as f64 / report.seconds / (f64::from(row.payload) - PACKET_OVERHEAD);
            details.insert("server_syscalls_per_packet".to_owned(), per_second / packets);
        } else {
            details.insert("server_syscalls_per_op".to_owned(), per_second * report.seconds / report.requests as f64);
        }
    }
    Ok(Sample { value, details })
}

/// Whether the run was what was asked for.
fn check(report: &Report, row: &Row) -> Result<()> {
    if report.fallbacks * 100 > report.requests * FALLBACKS_MAX_PERCENT {
        return Err(format!("{} of {} operations were not {}", report.fallbacks, report.requests, row.name).into());
    }
    if report.cipher.as_deref().is_some_and(|cipher| cipher != CIPHER) {
        return Err(format!("used {:?} instead of {CIPHER}", report.cipher).into());
    }
    let wanted = u64::from(row.payload);
    match report.udp_payload {
        Some(sent)
            if report.bytes >= PAYLOAD_BYTES_MIN
                && sent.abs_diff(wanted) * 100 > wanted * PAYLOAD_TOLERANCE_PERCENT =>
        {
            Err(format!("sent payloads of {sent} bytes instead of {wanted}").into())
        }
        _ => Ok(()),
    }
}

/// CPU time by work done. The shares are CPU seconds per second.
fn costs(report: &Report, server_share: f64, client_share: f64) -> BTreeMap<String, f64> {
    let mut costs = BTreeMap::from([
        ("server_cpu_percent".to_owned(), server_share * 100.0),
        ("client_cpu_percent".to_owned(), client_share * 100.0),
    ]);
    if report.requests > 0 {
        let seconds_per_op = report.seconds / report.requests as f64;
        costs.insert("server_cpu_us_per_op".to_owned(), server_share * seconds_per_op * 1e6);
        costs.insert("client_cpu_us_per_op".to_owned(), client_share * seconds_per_op * 1e6);
    } else if report.bytes > 0 {
        let seconds_per_gib = report.seconds / (report.bytes as f64 / f64::from(1 << 30));
        costs.insert("server_cpu_s_per_gib".to_owned(), server_share * seconds_per_gib);
        costs.insert("client_cpu_s_per_gib".to_owned(), client_share * seconds_per_gib);
    }
    costs
}

/// A run whose figure is the server's memory.
fn hold(server: &Process, client: &mut Process, row: &Row) -> Result<Sample> {
    let before = resident_kib(server.id())?;
    let line = client.line(OPEN_LIMIT).map_err(|error| format!("client: {error}"))?;
    let report: Report = serde_json::from_str(&line).map_err(|error| format!("client: said {line}: {error}"))?;
    if report.connections != Some(row.connections.into()) {
        return Err(format!("client: {:?} of {} connections are open", report.connections, row.connections).into());
    }
    thread::sleep(SETTLE);
    let after = resident_kib(server.id())?;
    let value = after.saturating_sub(before) as f64 / f64::from(row.connections);
    let client_kib = resident_kib(client.id())? as f64 / f64::from(row.connections);
    let details = BTreeMap::from([
        ("server_resident_kib".to_owned(), after as f64),
        ("server_resident_before_kib".to_owned(), before as f64),
        ("client_resident_per_connection_kib".to_owned(), client_kib),
        ("opened_per_s".to_owned(), f64::from(row.connections) / report.seconds),
    ]);
    Ok(Sample { value, details })
}

/// `perf stat` on the server, counting the entries into the kernel.
struct SyscallCount {
    perf: std::process::Child,
    duration: Duration,
}

impl SyscallCount {
    fn start(pid: u32, duration: Duration) -> Result<Self> {
        let perf = Command::new("perf")
            .args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", &pid.to_string(), "--timeout"])
            .arg(duration.as_millis().max(10).to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot count system calls with perf: {error}"))?;
        Ok(Self { perf, duration })
    }

    /// System calls per second.
    fn finish(self) -> Result<f64> {
        let output = self.perf.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        let count = parse_perf(&text).ok_or_else(|| format!("cannot count system calls with perf: {}", text.trim()))?;
        Ok(count / self.duration.as_secs_f64())
    }
}

fn parse_perf(text: &str) -> Option<f64> {
    text.lines().find(|line| line.contains("sys_enter"))?.split(',').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows;

    fn row(name: &str) -> Row {
        rows::select(&[name.to_owned()]).unwrap()[0]
    }

    #[test]
    fn cpu_time_is_per_unit_of_work() {
        let bulk = Report { bytes: 2 << 30, seconds: 2.0, ..Report::default() };
        assert_eq!(costs(&bulk, 0.5, 1.0)["server_cpu_s_per_gib"], 0.5);
        assert_eq!(costs(&bulk, 0.5, 1.0)["client_cpu_s_per_gib"], 1.0);
        let requests = Report { requests: 1_000, bytes: 1, seconds: 1.0, ..Report::default() };
        assert_eq!(costs(&requests, 0.5, 1.0)["server_cpu_us_per_op"], 500.0);
        assert!(!costs(&requests, 0.5, 1.0).contains_key("server_cpu_s_per_gib"));
    }

    #[test]
    fn runs_that_were_something_else_do_not_count() {
        let resumed = Report { requests: 1_000, fallbacks: 10, ..Report::default() };
        assert!(check(&resumed, &row("resume")).is_ok());
        assert!(check(&Report { fallbacks: 11, ..resumed }, &row("resume")).is_err());
        let other = Report { cipher: Some("TLS_AES_256_GCM_SHA384".to_owned()), ..Report::default() };
        assert!(check(&other, &row("download")).is_err());
        let jumbo = Report { udp_payload: Some(1_452), bytes: 1 << 30, ..Report::default() };
        assert!(check(&jumbo, &row("download")).is_ok());
        assert!(check(&jumbo, &row("download-jumbo")).unwrap_err().to_string().contains("8972"));
        // Of a short transfer the mean says little.
        assert!(check(&Report { bytes: 1 << 20, ..jumbo }, &row("download-jumbo")).is_ok());
    }

    #[test]
    fn reads_perf() {
        assert_eq!(parse_perf("1234,,raw_syscalls:sys_enter,5,100.00,,\n"), Some(1_234.0));
        assert_eq!(parse_perf("<not counted>,,raw_syscalls:sys_enter,0,0\n"), None);
        assert_eq!(parse_perf("no permission"), None);
    }
}
