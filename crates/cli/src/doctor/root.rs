//! Files of the kernel's, from the real root or, in tests, from a made-up one.

#[cfg(test)]
use std::path::Path;
use std::path::PathBuf;

/// Where `/proc` and `/sys` are.
pub(super) struct Root(PathBuf);

impl Root {
    pub(super) fn real() -> Root {
        Root("/".into())
    }

    #[cfg(test)]
    pub(super) fn at(path: &Path) -> Root {
        Root(path.into())
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// The content without the last newline; `None` if it cannot be read.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path(path)).ok().map(|text| text.trim_end().to_owned())
    }

    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.trim().parse().ok()
    }

    /// The names in a directory, sorted; none if it cannot be read.
    pub(super) fn list(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}
