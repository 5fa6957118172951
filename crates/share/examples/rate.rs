//! Measures a transfer between two endpoints of one process over the loopback: `rate DIR TARGET [RUNS]`.
//!
//! Prints the time of each run, the rates, and the most memory that host and receiver have used together. The target is
//! removed before each run.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use warpline::TransportConfig;
use warpline_share::{FileIo, GetOptions, Host, HostOptions, NetOptions, Progress, connect, get};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let root = PathBuf::from(args.next().ok_or("usage: rate DIR TARGET [RUNS]")?);
    let target = PathBuf::from(args.next().ok_or("usage: rate DIR TARGET [RUNS]")?);
    let runs: u32 = args.next().map_or(Ok(1), |n| n.to_string_lossy().parse())?;
    let state = tempfile::tempdir()?;
    let transport = TransportConfig { mtu_ceiling: 8972, ..TransportConfig::default() };
    let net = NetOptions { transport, ..NetOptions::default() };
    let options = HostOptions {
        root,
        state_dir: state.path().into(),
        bind: ([127, 0, 0, 1], 0).into(),
        net: net.clone(),
        files: FileIo::Auto,
    };
    let host = Arc::new(Host::open(&options)?);
    let serving = host.clone();
    tokio::spawn(async move { serving.run().await });
    for run in 0..runs {
        if target.exists() {
            std::fs::remove_dir_all(&target)?;
        }
        let (endpoint, connection) = connect(host.code(), &net).await?;
        let options = GetOptions { target: Some(target.clone()), ..GetOptions::default() };
        let report = get(&connection, host.code(), &options, &Arc::new(Progress::default())).await?;
        endpoint.shutdown(0, b"").await;
        let seconds = report.duration.as_secs_f64();
        println!(
            "run {run}: {:.3} s, {:.0} MB/s, {:.0} files/s, {} entries, not kept {}, peak memory {} MiB",
            seconds,
            report.bytes as f64 / 1e6 / seconds,
            report.files as f64 / seconds,
            report.entries,
            report.not_kept.len() as u64 + report.not_kept_more,
            peak_memory()? / 1024,
        );
    }
    Ok(())
}

/// The most resident memory so far, KiB.
fn peak_memory() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
