//! Reception of virtual links on cores of one's choice.
//!
//! A virtual link hands packets over in the sender's call, so that of each core's time a part is the other end's reception. Between
//! two machines each end has its own: here by a thread for each link's receiving queue (threaded NAPI), and for packets that do
//! without such a queue by RPS.

use std::collections::BTreeSet;
use std::fs;

use rustix::param::clock_ticks_per_second;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Result;

/// The threads that receive for links, as process IDs.
pub fn threads() -> Result<BTreeSet<i32>> {
    let mut threads = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may be gone by now.
        if fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("napi/")) {
            threads.insert(pid);
        }
    }
    Ok(threads)
}

/// Keeps a kernel's thread on `core`.
pub fn pin(thread: i32, core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(Pid::from_raw(thread), &set)?)
}

/// Seconds that `core` was not idle since the system started, to a tick, 10 ms.
pub fn busy_seconds(core: usize) -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    parse_busy_ticks(&stat, core)
        .map(|ticks| ticks as f64 / clock_ticks_per_second() as f64)
        .ok_or_else(|| format!("/proc/stat says nothing of core {core}").into())
}

fn parse_busy_ticks(stat: &str, core: usize) -> Option<u64> {
    let name = format!("cpu{core}");
    let line = stat.lines().find(|line| line.split_ascii_whitespace().next() == Some(&name))?;
    // user, nice, system, idle, iowait, irq, softirq, steal (proc(5)).
    let ticks: Vec<u64> = line.split_ascii_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    match ticks[..] {
        [user, nice, system, _, _, irq, softirq, ..] => Some(user + nice + system + irq + softirq),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_cores_line() {
        let stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 1 2 3 100 200 4 5 6 0 0\ncpu10 7 7 7 7 7 7 7 7 0 0\nintr 5\n";
        assert_eq!(parse_busy_ticks(stat, 1), Some(15));
        assert_eq!(parse_busy_ticks(stat, 10), Some(35));
        assert_eq!(parse_busy_ticks(stat, 2), None);
        assert!(busy_seconds(0).is_ok());
    }
}
