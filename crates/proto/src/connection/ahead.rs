//! What a packet touches of a connection (see `endpoint::ahead`).

use core::mem::offset_of;
use core::ops::Range;

use super::Connection;
use crate::crypto::Keys;
use crate::streams::Streams;

impl Connection {
    /// What packets with a message or an acknowledgement touch of a connection whose keys are `warpline-gcm`'s: bytes from its beginning. Of
    /// streams what every packet looks at.
    pub(crate) const SHORT: [Range<usize>; 5] = {
        let [unmask, open, seal, mask, rest] = Keys::SHORT;
        assert!(offset_of!(Self, keys) == 0 && rest.start < rest.end, "the rest follows the keys");
        [unmask, open, rest.start..offset_of!(Self, streams) + Streams::HEAD, seal, mask]
    };

    /// Has what lies elsewhere brought into the caches, all of it side by side.
    #[inline]
    pub(crate) fn prefetch_parts(&self) {
        if let Some(keys) = &self.keys.one_rtt {
            keys.prefetch();
        }
        self.datagrams.prefetch();
        self.streams.prefetch();
        self.spaces.data.sent.prefetch();
    }
}
