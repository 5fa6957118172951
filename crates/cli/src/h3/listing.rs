//! What stands for a directory that has no index.

use std::fmt::Write;
use std::os::fd::OwnedFd;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::Dir;

use super::limits::LISTING_MAX;

/// Everything but what needs no escape in a path (RFC 3986 section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A page that names what is in the directory: at most [`LISTING_MAX`] entries, in order, without hidden ones and without
/// names that no URL of this server can name, which are those that are no UTF-8.
pub fn page(directory: OwnedFd, name: &str) -> rustix::io::Result<String> {
    let mut names = Vec::new();
    let mut is_cut = false;
    for entry in Dir::new(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name.starts_with('.') {
            continue;
        }
        if names.len() == LISTING_MAX {
            is_cut = true;
            break;
        }
        names.push(format!("{name}{}", if entry.file_type().is_dir() { "/" } else { "" }));
    }
    names.sort_unstable();
    let title = escape(&format!("/{name}"));
    let mut page =
        format!("<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<h1>{title}</h1>\n<ul>\n");
    if !name.is_empty() {
        page.push_str("<li><a href=\"../\">../</a></li>\n");
    }
    for name in names {
        let (stem, slash) = name.strip_suffix('/').map_or((name.as_str(), ""), |stem| (stem, "/"));
        // With a dot in front, a colon in the name makes no scheme of it.
        let href = utf8_percent_encode(stem, ESCAPED);
        // Writing to a string cannot fail.
        let _ = writeln!(page, "<li><a href=\"./{href}{slash}\">{}</a></li>", escape(&name));
    }
    page.push_str("</ul>\n");
    if is_cut {
        let _ = writeln!(page, "<p>and more than these {LISTING_MAX}</p>");
    }
    Ok(page)
}

/// For HTML, in text and in quotes.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(dir: &tempfile::TempDir, name: &str) -> String {
        page(std::fs::File::open(dir.path()).expect("it is there").into(), name).expect("it can be read")
    }

    #[test]
    fn names_are_only_text_and_always_lead_to_their_files() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("\"><script>x"), b"").expect("a file");
        std::fs::write(dir.path().join("javascript:x"), b"").expect("a file");
        std::fs::write(dir.path().join("a?b#c%d"), b"").expect("a file");
        let page = listed(&dir, "sub&/");
        assert!(!page.contains("<script"), "{page}");
        for part in ["<title>/sub&amp;/</title>", "\"./javascript%3Ax\"", "\"./a%3Fb%23c%25d\"", "\"../\""] {
            assert!(page.contains(part), "{part} in {page}");
        }
    }

    #[test]
    fn a_full_directory_gives_a_page_that_ends() {
        let dir = tempfile::tempdir().expect("a directory");
        for number in 0..=LISTING_MAX {
            std::fs::write(dir.path().join(number.to_string()), b"").expect("a file");
        }
        let page = listed(&dir, "");
        assert_eq!(page.matches("<li>").count(), LISTING_MAX);
        assert!(page.contains("and more"));
    }
}
