//! `warpline get`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use warpline_share::{GetOptions, GetReport, Progress, ShareError, connect, display_path, get};

use crate::progress::Display;
use crate::{exit, net, output};

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
    /// Print one JSON object at the end.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(short, long)]
    quiet: bool,
}

/// What the transport did meanwhile.
struct Transport {
    syscalls: u64,
    datagrams: u64,
}

/// Runs it.
pub fn run(args: &GetArgs) -> ExitCode {
    let outcome = output::runtime()
        .map_err(|e| ShareError::Connection(format!("no threads: {e}")))
        .and_then(|runtime| runtime.block_on(fetch(args)));
    match outcome {
        Ok((report, transport)) => finish(args, &report, &transport),
        Err(error) => output::failed(&error, args.json),
    }
}

async fn fetch(args: &GetArgs) -> Result<(GetReport, Transport), ShareError> {
    let code = net::code(args.code.as_deref(), args.code_file.as_deref())?;
    let (endpoint, connection) = connect(&code, &net::transport()).await?;
    let progress = Arc::new(Progress::default());
    let display = Display::start(progress.clone(), args.quiet || args.json);
    let options = GetOptions { target: args.output.clone() };
    let outcome = get(&connection, &code, &options, &progress).await;
    display.stop();
    let report = outcome?;
    let stats = endpoint.io_stats();
    let transport = Transport {
        syscalls: stats.iter().map(|s| s.recv_calls + s.send_calls + s.wait_calls).sum(),
        datagrams: stats.iter().map(|s| s.rx_datagrams).sum(),
    };
    endpoint.shutdown(0, b"").await;
    Ok((report, transport))
}

fn finish(args: &GetArgs, report: &GetReport, transport: &Transport) -> ExitCode {
    let fetched = report.bytes.saturating_sub(report.reused_bytes);
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
            "received_bytes": report.received_bytes,
            "refetched_ranges": report.refetched,
            "verified": report.verified,
            "target": report.target.display().to_string(),
            "not_kept": kept,
            "not_kept_total": report.not_kept.len() as u64 + report.not_kept_more,
            "io": "udp",
            "packets_lost": report.packets_lost,
            "datagrams_received": transport.datagrams,
            "syscalls": transport.syscalls,
        });
        println!("{object}");
    } else if !args.quiet {
        eprintln!(
            "{} files, {} in {:.1} s ({}); {} were there already; verified; in {}",
            report.files,
            output::bytes(report.bytes),
            report.duration.as_secs_f64(),
            output::rate(goodput),
            output::bytes(report.reused_bytes),
            report.target.display(),
        );
    }
    if report.not_kept.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::INCOMPLETE) }
}
