//! The order of entries, and what it proves.

use super::{Entry, Kind};
use crate::error::{ShareError, display_path};
use crate::limits::ENTRIES_MAX;

/// Checks that entries come in pre-order with ascending names: none twice, none without its directory before it.
#[derive(Debug, Default)]
pub struct OrderCheck {
    last: Option<Vec<u8>>,
    /// The directories that are open, as lengths of prefixes of `last`.
    open: Vec<usize>,
    count: u64,
}

impl OrderCheck {
    /// Takes the next entry.
    ///
    /// # Errors
    /// [`ShareError::Peer`] when it is out of order, comes twice, or its parent is not a directory of the share.
    pub fn check(&mut self, entry: &Entry) -> Result<(), ShareError> {
        let path = &entry.path;
        self.count += 1;
        if self.count > ENTRIES_MAX {
            return Err(ShareError::peer("the list of files has no end"));
        }
        match &self.last {
            None if entry.parent().is_empty() => {}
            None => return Err(Self::wrong(path, "comes before its directory")),
            Some(last) if !comes_after(path, last) => {
                return Err(Self::wrong(path, "comes twice or out of order"));
            }
            Some(last) => {
                // Directories that `path` does not lie in are over.
                let shared = path.iter().zip(last).take_while(|(a, b)| a == b).count();
                let inside = |len: usize| len == 0 || (len <= shared && path.get(len) == Some(&b'/'));
                self.open.retain(|len| inside(*len));
                let parent = entry.parent().len();
                let root_file = self.open.is_empty() && parent == 0;
                if self.open.last() != Some(&parent) || root_file {
                    return Err(Self::wrong(path, "lies below something that is no directory"));
                }
            }
        }
        if entry.kind == Kind::Directory {
            self.open.push(path.len());
        }
        self.last = Some(path.clone());
        Ok(())
    }

    fn wrong(path: &[u8], why: &str) -> ShareError {
        ShareError::peer(format!("the entry \"{}\" {why}", display_path(path)))
    }
}

/// Component by component; the root comes before everything.
pub(super) fn comes_after(path: &[u8], last: &[u8]) -> bool {
    if last.is_empty() {
        return !path.is_empty();
    }
    path.split(|b| *b == b'/').gt(last.split(|b| *b == b'/'))
}

#[cfg(test)]
mod tests {
    use super::super::Mtime;
    use super::*;

    fn check(entries: &[(&str, bool)]) -> Result<(), ShareError> {
        let mut order = OrderCheck::default();
        entries.iter().try_for_each(|(path, dir)| {
            let kind = if *dir { Kind::Directory } else { Kind::File { size: 1 } };
            let entry = Entry {
                path: path.as_bytes().to_vec(),
                kind,
                mode: 0o644,
                mtime: Mtime::default(),
                xattrs: Vec::new(),
            };
            order.check(&entry)
        })
    }

    #[test]
    fn a_tree_in_order_passes() {
        check(&[
            ("", true),
            ("a", true),
            ("a/b", true),
            ("a/b/c", false),
            ("a/d", false),
            ("a.txt", false),
            ("b", false),
        ])
        .unwrap();
        check(&[("file", false)]).unwrap();
    }

    #[test]
    fn what_no_tree_has_is_refused() {
        for trap in [
            &[("", true), ("a", false), ("a", false)][..],
            &[("", true), ("b", false), ("a", false)],
            &[("", true), ("a", false), ("a/b", false)],
            &[("", true), ("a", true), ("b", true), ("a/c", false)],
            &[("", true), ("x/y", false)],
            &[("x/y", false)],
            &[("", true), ("", true)],
            &[("file", false), ("other", false)],
        ] {
            assert!(check(trap).is_err(), "{trap:?}");
        }
    }
}
