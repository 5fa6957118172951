//! Making connection IDs, as the endpoint's configuration has them.

use warpline_wire::cid::Layout;
use warpline_wire::{ConnectionId, cid};

use super::quic_lb::{Encoder, QuicLb};
use crate::rng::Rng;

/// Makes the IDs of one worker.
#[derive(Debug)]
pub(crate) struct CidGenerator {
    layout: Layout,
    balancer: Option<Encoder>,
    mark: Option<bool>,
}

impl CidGenerator {
    /// With `balancer` the IDs are such that a load balancer finds the server in them; without it they may bear a mark.
    pub(crate) fn new(balancer: Option<QuicLb>, mark: Option<bool>) -> Self {
        let layout = balancer.as_ref().map_or(Layout::PLAIN, QuicLb::layout);
        Self { layout, balancer: balancer.map(Encoder::new), mark }
    }

    #[inline]
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// A connection may have more than one: an observer does not see that they belong together.
    pub(crate) fn gives_spares(&self) -> bool {
        self.balancer.as_ref().is_none_or(|b| b.config().is_encrypted())
    }

    /// A fresh ID with partition key `key`.
    pub(crate) fn generate(&mut self, rng: &mut Rng, key: u16) -> ConnectionId {
        let mut bytes = [0; ConnectionId::MAX_LEN];
        let out = &mut bytes[..usize::from(self.layout.len)];
        match &mut self.balancer {
            Some(encoder) => encoder.write(rng, out),
            None => {
                rng.fill(out);
                self.mark.into_iter().for_each(|mark| cid::set_mark(out, mark));
            }
        }
        let at = usize::from(self.layout.key_offset);
        out[at..at + 2].copy_from_slice(&key.to_be_bytes());
        ConnectionId::new(out).expect("a layout's length is that of a connection ID")
    }
}

/// A destination that a client guesses for its first packet (RFC 9000 section 7.2).
pub(crate) fn guess(rng: &mut Rng) -> ConnectionId {
    ConnectionId::new(&rng.array::<8>()).expect("8 bytes are a connection ID's length")
}
