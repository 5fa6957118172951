//! What programs print.

use std::io::{Read, Write};
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::Result;
use crate::args::Unsupported;

/// Prints one JSON object on a line of its own.
///
/// # Errors
///
/// When nobody reads any more.
pub fn say(what: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what}")?;
    Ok(out.flush()?)
}

/// Says that a server listens.
///
/// # Errors
///
/// When nobody reads any more.
pub fn listening(address: SocketAddr) -> Result<()> {
    say(&json!({"event": "listening", "port": address.port()}))
}

/// Ends the process as soon as its standard input is closed, which it is when the parent ends.
pub fn exit_with_parent() {
    std::thread::spawn(|| {
        let mut buffer = [0; 64];
        while matches!(std::io::stdin().read(&mut buffer), Ok(count) if count > 0) {}
        std::process::exit(0);
    });
}

/// Exit code of the public interop runner for a case that an endpoint does not have.
const UNSUPPORTED: u8 = 127;

/// Prints how a program ended and returns the process's exit code: 127 for an option that the stack lacks.
pub fn finish(result: Result<Value>) -> std::process::ExitCode {
    let (report, code) = match result {
        Ok(report) => (report, std::process::ExitCode::SUCCESS),
        Err(error) => {
            let code = if error.is::<Unsupported>() { UNSUPPORTED.into() } else { std::process::ExitCode::FAILURE };
            (json!({"error": error.to_string()}), code)
        }
    };
    // Nobody to tell when nobody reads.
    let _ = say(&report);
    code
}
