//! Memory before an address is validated: the handshakes that a server keeps open are bounded, whatever strangers send.

use warpline_proto::Kept;

use super::Monitor;
use crate::world::NodeId;

/// Fails when the server has more handshakes open than a bound.
#[derive(Debug)]
pub struct HalfOpenLimit {
    max: usize,
    violation: Option<String>,
}

impl HalfOpenLimit {
    /// `max` is the limit of a source times the sources.
    pub fn new(max: usize) -> Self {
        Self { max, violation: None }
    }
}

impl Monitor for HalfOpenLimit {
    fn kept(&mut self, node: NodeId, kept: &Kept) {
        if node == NodeId::SERVER && kept.half_open > self.max && self.violation.is_none() {
            self.violation = Some(format!("{} handshakes are open, {} are allowed", kept.half_open, self.max));
        }
    }

    fn violation(&self) -> Option<String> {
        self.violation.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_handshakes_count() {
        let mut limit = HalfOpenLimit::new(3);
        let kept = |half_open| Kept { half_open, ..Kept::default() };
        limit.kept(NodeId::client(0), &kept(9));
        limit.kept(NodeId::SERVER, &kept(3));
        assert_eq!(limit.violation(), None);
        limit.kept(NodeId::SERVER, &kept(4));
        assert!(limit.violation().is_some());
    }
}
