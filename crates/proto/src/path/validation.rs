//! Path validation (RFC 9000 section 8.2).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use crate::limits::PATH_RESPONSES_MAX;
use crate::time::Instant;

/// A PATH_CHALLENGE of ours and when to give up or repeat it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Challenge {
    pub(crate) data: [u8; 8],
    /// The frame is to be sent.
    pub(crate) to_send: bool,
    /// When it is sent again.
    pub(crate) repeat_at: Instant,
    /// When the path counts as dead.
    pub(crate) give_up_at: Instant,
}

/// PATH_RESPONSE frames to send, each on the path that its challenge came from.
#[derive(Debug, Default)]
pub(crate) struct Responses(VecDeque<(SocketAddr, Option<IpAddr>, [u8; 8])>);

impl Responses {
    pub(crate) fn push(&mut self, remote: SocketAddr, local: Option<IpAddr>, data: [u8; 8]) {
        if self.0.len() == PATH_RESPONSES_MAX {
            self.0.pop_front();
        }
        self.0.push_back((remote, local, data));
    }

    /// The next response that goes to `remote`.
    pub(crate) fn pop_for(&mut self, remote: SocketAddr) -> Option<[u8; 8]> {
        let at = self.0.iter().position(|(to, _, _)| *to == remote)?;
        self.0.remove(at).map(|(_, _, data)| data)
    }

    /// The next response that does not go to `remote`.
    pub(crate) fn pop_elsewhere(&mut self, remote: SocketAddr) -> Option<(SocketAddr, Option<IpAddr>, [u8; 8])> {
        let at = self.0.iter().position(|(to, _, _)| *to != remote)?;
        self.0.remove(at)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
