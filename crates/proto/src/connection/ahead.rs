//! What a packet touches behind the connection's pointers (see `endpoint::ahead`).

use warpline_frame::prefetch;

use super::Connection;

impl Connection {
    #[inline]
    pub(crate) fn prefetch_parts(&self) {
        if let Some(keys) = self.keys.one_rtt.as_deref() {
            prefetch(keys);
        }
        self.spaces.data.sent.prefetch();
        self.datagrams.prefetch();
        self.streams.prefetch();
    }

    #[inline]
    pub(crate) fn prefetch_keys(&self) {
        if let Some(keys) = self.keys.one_rtt.as_deref() {
            keys.prefetch();
        }
    }
}
