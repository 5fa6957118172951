//! What a packet touches behind the connection's pointers (see `endpoint::ahead`).

use super::Connection;

impl Connection {
    /// In the order in which it is needed.
    #[inline]
    pub(crate) fn prefetch_parts(&self) {
        if let Some(keys) = &self.keys.one_rtt {
            keys.prefetch_opening();
        }
        self.datagrams.prefetch();
        self.streams.prefetch();
        self.spaces.data.sent.prefetch();
        if let Some(keys) = &self.keys.one_rtt {
            keys.prefetch_sealing();
        }
    }
}
