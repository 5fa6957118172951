//! Files for peers to transfer, and the protocol that they use for it.

use std::io;
use std::path::Path;

pub use warpline_interop_kit::hq::{ALPN, Answer, BAD_REQUEST, ECHO_ALPN, REQUEST_LEN_MAX, answer, request};

/// Writes files of these sizes with content that differs everywhere, and returns their names.
///
/// # Errors
///
/// What the file system says.
pub fn make_files(root: &Path, sizes: &[usize]) -> io::Result<Vec<String>> {
    let make = |(index, size): (usize, &usize)| {
        let name = format!("file-{index}.bin");
        let content = warpline_sim::check::Pattern::new(index as u64).generate(*size);
        std::fs::write(root.join(&name), content).map(|()| name)
    };
    sizes.iter().enumerate().map(make).collect()
}
