//! `warpline host`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::{Args, ValueEnum};
use warpline_share::{FileIo, Host, HostOptions, ShareError};

use crate::crypto::CryptoChoice;
use crate::io::xdp_report;
use crate::net::NetArgs;
use crate::signals::Signals;
use crate::{output, state};

/// Share a directory or a file and print its join code.
#[derive(Debug, Args)]
pub struct HostArgs {
    /// The directory or file to share.
    path: PathBuf,
    /// Address to serve on; port 0 takes the port of the last run if it is free.
    #[arg(long, default_value = "[::]:0")]
    bind: SocketAddr,
    /// Write the code into this file once the share is ready.
    #[arg(long, value_name = "FILE")]
    code_file: Option<PathBuf>,
    /// Keep key, secret and port in this directory.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// How files are read; what is named outright is used or the command fails.
    #[arg(long, value_name = "WAY", default_value = "auto")]
    file_io: FileReading,
    /// Print JSON: one object when ready, one at the end.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub net: NetArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FileReading {
    /// By io_uring where this process may use it.
    Auto,
    /// Several files at once, by io_uring (Linux 5.11).
    Uring,
    /// One after the other, by plain calls.
    Plain,
}

/// Runs it until Ctrl-C.
pub fn run(args: &HostArgs) -> ExitCode {
    let outcome = args.net.runtime().and_then(|runtime| runtime.block_on(serve(args)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::failed(&error, args.json),
    }
}

async fn serve(args: &HostArgs) -> Result<(), ShareError> {
    let crypto = args.net.crypto()?;
    let options = HostOptions {
        root: args.path.clone(),
        state_dir: args.state_dir.clone().unwrap_or_else(|| state::directory().join("hosts")),
        bind: args.bind,
        net: args.net.options(&crypto)?,
        files: match args.file_io {
            FileReading::Auto => FileIo::Auto,
            FileReading::Uring => FileIo::Uring,
            FileReading::Plain => FileIo::Plain,
        },
    };
    let mut signals = Signals::take().map_err(|e| ShareError::Connection(format!("signals: {e}")))?;
    let host = Host::open(&options)?;
    let code = host.code().to_string();
    if let Some(file) = &args.code_file {
        write_code(file, &code)?;
    }
    let io = host.endpoint().io_choice();
    if args.json {
        let ready = serde_json::json!({
            "ready": true, "code": code, "addr": host.local_addr().to_string(),
            "io": io.kind.name(), "io_why": io.why, "file_io": host.reading().name(), "file_io_why": host.reading().reason(),
            "xdp": xdp_report(&host.endpoint().workers()), "crypto": crypto.name(), "crypto_why": crypto.why,
        });
        println!("{ready}");
    } else {
        println!("{code}");
        eprintln!(
            "sharing {} on {} ({}, files by {}); fetch it elsewhere with: warpline get {code}",
            args.path.display(),
            host.local_addr(),
            io.kind,
            host.reading().name()
        );
        eprintln!("stop with Ctrl-C");
    }
    // Whoever reads the code from a pipe gets it now.
    let _ = std::io::stdout().flush();
    tokio::select! {
        () = host.run() => {}
        () = signals.next() => {}
    }
    host.shutdown().await;
    report(&host, &crypto, args.json);
    Ok(())
}

fn report(host: &Host, crypto: &CryptoChoice, json: bool) {
    let counters = host.counters();
    let (receivers, bytes) = (counters.receivers.load(Ordering::Relaxed), counters.bytes.load(Ordering::Relaxed));
    let refused = counters.refused.load(Ordering::Relaxed);
    let stats = host.endpoint().io_stats();
    let syscalls: u64 = stats.iter().map(|s| s.syscalls()).sum();
    if json {
        let end = serde_json::json!({
            "receivers": receivers, "bytes": bytes, "refused": refused, "syscalls": syscalls,
            "qat": crypto.qat_report(), "peak_memory": output::peak_memory(),
        });
        println!("{end}");
    } else {
        eprintln!(
            "served {}, {} of files; {refused} with a wrong code were turned away",
            output::count(receivers, "receiver"),
            output::bytes(bytes)
        );
    }
}

/// Written beside and moved into place: whoever waits for the file finds the whole code in it.
fn write_code(file: &Path, code: &str) -> Result<(), ShareError> {
    let beside = file.with_extension("new");
    std::fs::write(&beside, format!("{code}\n"))
        .and_then(|()| std::fs::rename(&beside, file))
        .map_err(|e| ShareError::Misuse { path: file.into(), what: format!("the code cannot be written: {e}") })
}
