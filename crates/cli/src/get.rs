//! `warpline get`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use warpline::{Choice, Connection, Endpoint};
use warpline_share::{GetOptions, GetReport, JoinCode, NetOptions, Progress, ShareError, connect, display_path, get};

use crate::crypto::CryptoChoice;
use crate::io::xdp_report;
use crate::net::{self, NetArgs};
use crate::progress::Display;
use crate::{exit, output};

/// Between two attempts to find a host that went away.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Fetch what a code stands for, or what is missing of it.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The join code that the host printed.
    #[arg(required_unless_present = "code_file")]
    code: Option<String>,
    /// Directory to fetch into; by default the name of the share, here.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Read the code from this file, as a host wrote it.
    #[arg(long, value_name = "FILE", conflicts_with = "code")]
    code_file: Option<PathBuf>,
    /// Fetch files that have changed whole, without looking for what their older versions have of them.
    #[arg(short = 'W', long)]
    whole_file: bool,
    /// When the host goes away during the transfer, try for this long to find it again.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    retry_for: u64,
    /// Print one JSON object at the end.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    pub net: NetArgs,
}

/// What the transport did meanwhile.
#[derive(Default)]
struct Transport {
    syscalls: u64,
    datagrams: u64,
    /// The live back end, and why no faster one.
    io: Option<Choice>,
    xdp: serde_json::Value,
    /// How often the host went away and was found again.
    reconnected: u64,
    crypto: Option<CryptoChoice>,
}

/// Runs it.
pub fn run(args: &GetArgs) -> ExitCode {
    let outcome = args.net.runtime().and_then(|runtime| runtime.block_on(fetch(args)));
    match outcome {
        Ok((report, transport)) => finish(args, &report, &transport),
        Err(error) => output::failed(&error, args.json),
    }
}

/// Fetches, and goes on where it stopped when the host went away and came back.
async fn fetch(args: &GetArgs) -> Result<(GetReport, Transport), ShareError> {
    let code = net::code(args.code.as_deref(), args.code_file.as_deref())?;
    let crypto = args.net.crypto()?;
    let net = args.net.options(&crypto)?;
    let began = Instant::now();
    let mut transport = Transport { crypto: Some(crypto), ..Transport::default() };
    // Of earlier attempts: what was there before the first of them, what was taken from older versions, what came, and what was lost.
    let (mut reused, mut copied, mut received, mut listed, mut lost) = (None, 0, 0, 0, 0);
    let mut way = Way::open(&code, &net).await?;
    loop {
        let progress = Arc::new(Progress::default());
        let display = Display::start(progress.clone(), args.quiet || args.json);
        let options = GetOptions { target: args.output.clone(), whole_files: args.whole_file };
        let outcome = get(&way.connection, &code, &options, &progress).await;
        display.stop();
        lost += way.close(&mut transport).await;
        let error = match outcome {
            Ok(mut report) => {
                report.reused_bytes = reused.unwrap_or(report.reused_bytes);
                report.copied_bytes += copied;
                report.received_bytes += received;
                report.list_bytes += listed;
                report.packets_lost = lost.max(report.packets_lost);
                report.duration = began.elapsed();
                return Ok((report, transport));
            }
            Err(error) if error.is_passing() => error,
            Err(error) => return Err(error),
        };
        reused.get_or_insert(progress.bytes_reused.get());
        copied += progress.bytes_copied.get();
        received += progress.bytes_received.get();
        listed += progress.bytes_listed.get();
        way = reopen(&code, &net, error, Duration::from_secs(args.retry_for)).await?;
        transport.reconnected += 1;
    }
}

/// Looks for a host that went away, until it is found or the time is over.
async fn reopen(code: &JoinCode, net: &NetOptions, mut error: ShareError, limit: Duration) -> Result<Way, ShareError> {
    let lost = Instant::now();
    while lost.elapsed() < limit {
        eprintln!("warpline: {error}; looking for the host again");
        tokio::time::sleep(RETRY_PAUSE).await;
        match Way::open(code, net).await {
            Ok(way) => return Ok(way),
            Err(still) if still.is_passing() => error = still,
            Err(other) => return Err(other),
        }
    }
    Err(error)
}

/// A connection and the endpoint that it belongs to.
struct Way {
    endpoint: Endpoint,
    connection: Connection,
}

impl Way {
    async fn open(code: &JoinCode, net: &NetOptions) -> Result<Self, ShareError> {
        let (endpoint, connection) = connect(code, net).await?;
        Ok(Self { endpoint, connection })
    }

    /// Closes it and adds up what it did; returns the packets that were lost.
    async fn close(self, transport: &mut Transport) -> u64 {
        let lost = self.connection.stats().await.map_or(0, |stats| stats.packets_lost);
        let stats = self.endpoint.io_stats();
        transport.syscalls += stats.iter().map(|s| s.syscalls()).sum::<u64>();
        transport.datagrams += stats.iter().map(|s| s.rx_datagrams).sum::<u64>();
        transport.io = Some(self.endpoint.io_choice());
        transport.xdp = xdp_report(&self.endpoint.workers());
        self.endpoint.shutdown(0, b"").await;
        lost
    }
}

fn finish(args: &GetArgs, report: &GetReport, transport: &Transport) -> ExitCode {
    let fetched = report.bytes.saturating_sub(report.reused_bytes + report.copied_bytes);
    let goodput = output::bits_per_second(fetched, report.duration);
    for (path, why) in &report.not_kept {
        eprintln!("warpline: not kept: {}: {why}", display_path(path));
    }
    if report.not_kept_more > 0 {
        eprintln!("warpline: and {} more that were not kept", report.not_kept_more);
    }
    if args.json {
        let kept: Vec<_> = report
            .not_kept
            .iter()
            .map(|(path, why)| serde_json::json!({ "path": display_path(path), "why": why }))
            .collect();
        let object = serde_json::json!({
            "bytes": report.bytes,
            "files": report.files,
            "entries": report.entries,
            "seconds": report.duration.as_secs_f64(),
            "goodput_bps": goodput,
            "reused_bytes": report.reused_bytes,
            "copied_bytes": report.copied_bytes,
            "received_bytes": report.received_bytes,
            "list_bytes": report.list_bytes,
            "refetched_ranges": report.refetched,
            "verified": report.verified,
            "target": report.target.display().to_string(),
            "not_kept": kept,
            "not_kept_total": report.not_kept.len() as u64 + report.not_kept_more,
            "io": transport.io.as_ref().map(|io| io.kind.name()),
            "io_why": transport.io.as_ref().map(|io| &io.why),
            "xdp": transport.xdp,
            "crypto": transport.crypto.as_ref().map(CryptoChoice::name),
            "crypto_why": transport.crypto.as_ref().map(|crypto| &crypto.why),
            "qat": transport.crypto.as_ref().map(CryptoChoice::qat_report),
            "packets_lost": report.packets_lost,
            "datagrams_received": transport.datagrams,
            "syscalls": transport.syscalls,
            "peak_memory": output::peak_memory(),
            "reconnected": transport.reconnected,
        });
        println!("{object}");
    } else if !args.quiet {
        let copied = match report.copied_bytes {
            0 => String::new(),
            n => format!("; {} taken from older versions", output::bytes(n)),
        };
        eprintln!(
            "{}, {} in {:.1} s ({}); {} were there already{copied}; verified; in {}",
            output::count(report.files, "file"),
            output::bytes(report.bytes),
            report.duration.as_secs_f64(),
            output::rate(goodput),
            output::bytes(report.reused_bytes),
            report.target.display(),
        );
    }
    if report.not_kept.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::INCOMPLETE) }
}
