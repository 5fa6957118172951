//! Memory after the end: once all connections are over, no host keeps anything of them.

use warpline_proto::Kept;

use crate::Node;

/// Looks at the nodes of a world that has come to rest.
///
/// # Errors
///
/// A sentence about what the first of them still keeps.
pub fn check_leaks<'a>(nodes: impl IntoIterator<Item = &'a dyn Node>) -> Result<(), String> {
    for node in nodes {
        let (address, kept, done) = (node.address(), node.kept(), node.is_done());
        if kept != Kept::default() || !done {
            return Err(format!("{address} still keeps {kept:?} after the end (application done: {done})"));
        }
    }
    Ok(())
}
