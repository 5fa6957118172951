//! `warpline ls`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use warpline_share::manifest::{Entry, Kind};
use warpline_share::{Listed, ShareError, connect, display_path, ls};

use crate::net::{self, NetArgs};
use crate::output;

/// List what a code stands for.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// The join code that the host printed.
    #[arg(required_unless_present = "code_file")]
    code: Option<String>,
    /// Read the code from this file, as a host wrote it.
    #[arg(long, value_name = "FILE", conflicts_with = "code")]
    code_file: Option<PathBuf>,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub net: NetArgs,
}

/// Runs it.
pub fn run(args: &LsArgs) -> ExitCode {
    let outcome = args.net.runtime().and_then(|runtime| runtime.block_on(list(args)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::failed(&error, args.json),
    }
}

async fn list(args: &LsArgs) -> Result<(), ShareError> {
    let code = net::code(args.code.as_deref(), args.code_file.as_deref())?;
    let (endpoint, connection) = connect(&code, &args.net.options(&args.net.crypto()?)?).await?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let closed = |e: std::io::Error| ShareError::Connection(format!("standard output: {e}"));
    ls(&connection, &code, |listed| {
        let line = match listed {
            Listed::Entry(entry) if args.json => json(&entry),
            Listed::Entry(entry) => plain(&entry),
            Listed::Skipped(path, why) => {
                eprintln!("warpline: not shared: {}: {why}", display_path(&path));
                return Ok(());
            }
        };
        writeln!(out, "{line}").map_err(closed)
    })
    .await?;
    out.flush().map_err(closed)?;
    drop(out);
    endpoint.shutdown(0, b"").await;
    Ok(())
}

fn plain(entry: &Entry) -> String {
    let path = if entry.path.is_empty() { ".".to_owned() } else { display_path(&entry.path) };
    let (letter, size, arrow) = match &entry.kind {
        Kind::Directory => ('d', 0, String::new()),
        Kind::File { size } => ('-', *size, String::new()),
        Kind::Symlink { target } => ('l', 0, format!(" -> {}", display_path(target))),
        Kind::HardLink { target } => ('h', 0, format!(" = {}", display_path(target))),
    };
    format!("{letter} {:04o} {size:>14} {path}{arrow}", entry.mode)
}

fn json(entry: &Entry) -> String {
    let (kind, size, target) = match &entry.kind {
        Kind::Directory => ("directory", None, None),
        Kind::File { size } => ("file", Some(*size), None),
        Kind::Symlink { target } => ("symlink", None, Some(display_path(target))),
        Kind::HardLink { target } => ("hardlink", None, Some(display_path(target))),
    };
    serde_json::json!({
        "path": display_path(&entry.path), "type": kind, "size": size, "target": target, "mode": entry.mode,
        "mtime": entry.mtime.seconds, "mtime_nanos": entry.mtime.nanos,
    })
    .to_string()
}
