//! What a result depends on besides the programs: the machine, the kernel, the load, the versions.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::Result;

/// The machine of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Model name of the CPU.
    pub cpu: String,
    /// Logical CPUs.
    pub cores: usize,
    /// Memory in KiB.
    pub memory_kib: u64,
    /// Kernel release.
    pub kernel: String,
}

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let meminfo = read("/proc/meminfo");
        let memory = field(&meminfo, "MemTotal").and_then(|value| value.split_whitespace().next()?.parse().ok());
        Self {
            cpu: field(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_kib: memory.unwrap_or(0),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// Load average of the last minute.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<LockedPackage>,
}

#[derive(Deserialize)]
struct LockedPackage {
    name: String,
    version: String,
}

/// The versions of `packages` that `Cargo.lock` in `root` pins.
pub fn versions(root: &Path, packages: &[&str]) -> Result<BTreeMap<String, String>> {
    let lock: Lock = toml::from_str(&fs::read_to_string(root.join("Cargo.lock"))?)?;
    let wanted = lock.package.into_iter().filter(|package| packages.contains(&package.name.as_str()));
    Ok(wanted.map(|package| (package.name, package.version)).collect())
}

/// The commit that is checked out in `root`, with `+` if tracked files differ from it; `None` outside git.
pub fn commit(root: &Path) -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit}+") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_fields_and_versions() {
        assert_eq!(field("processor\t: 0\nmodel name\t: A CPU @ 2 GHz\n", "model name"), Some("A CPU @ 2 GHz"));
        let dir = tempfile::tempdir().unwrap();
        let lock = "version = 4\n[[package]]\nname = \"a\"\nversion = \"1.2.3\"\n[[package]]\nname = \"b\"\nversion = \"2.0.0\"\n";
        fs::write(dir.path().join("Cargo.lock"), lock).unwrap();
        let versions = versions(dir.path(), &["a", "c"]).unwrap();
        assert_eq!(versions, BTreeMap::from([("a".to_owned(), "1.2.3".to_owned())]));
        assert!(Machine::this().cores >= 1);
    }
}
