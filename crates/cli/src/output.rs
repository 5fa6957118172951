//! Numbers for people, and errors for everyone.

use std::process::ExitCode;
use std::time::Duration;

use warpline_share::ShareError;

use crate::exit;

/// Bytes in the unit that fits, powers of 1,024.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// So many of a thing, for people.
pub fn count(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// Bits per second of `bytes` in `time`.
pub fn bits_per_second(bytes: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { bytes as f64 * 8.0 / seconds } else { 0.0 }
}

/// A rate in the unit that fits, powers of 1,000.
pub fn rate(bps: f64) -> String {
    if bps >= 1e9 {
        format!("{:.2} Gbit/s", bps / 1e9)
    } else if bps >= 1e6 {
        format!("{:.1} Mbit/s", bps / 1e6)
    } else {
        format!("{:.0} kbit/s", bps / 1e3)
    }
}

/// Says what went wrong and gives the exit code for it.
pub fn failed(error: &ShareError, json: bool) -> ExitCode {
    eprintln!("warpline: {error}");
    if json {
        println!("{}", serde_json::json!({ "error": error.to_string(), "resumable": error.is_passing() }));
    }
    ExitCode::from(match error {
        ShareError::Connection(_) => exit::DISCONNECTED,
        ShareError::WrongSecret | ShareError::Version { .. } => exit::REFUSED,
        _ => exit::FAILED,
    })
}

/// The most memory that this process has had resident so far, bytes; `None` where the system does not say.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The runtime for what is not the transport.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            (bytes(1023).as_str(), bytes(1536).as_str(), bytes(4 << 30).as_str()),
            ("1023 B", "1.5 KiB", "4.0 GiB")
        );
        assert_eq!((count(1, "file").as_str(), count(2, "file").as_str()), ("1 file", "2 files"));
        assert_eq!((rate(2.5e9).as_str(), rate(1.5e6).as_str()), ("2.50 Gbit/s", "1.5 Mbit/s"));
    }
}
