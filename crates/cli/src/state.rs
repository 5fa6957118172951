//! Where things are kept between runs.

use std::path::PathBuf;

/// `$XDG_STATE_HOME/warpline`, by default `~/.local/state/warpline`.
pub fn directory() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("XDG_STATE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
        .join("warpline")
}
