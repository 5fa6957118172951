//! noq as a peer of the comparison.
#![forbid(unsafe_code)]

#[path = "../../quinn/src/adapter.rs"]
mod adapter;
#[path = "../../quinn/src/peer.rs"]
mod peer;

use bytes::Bytes;
use noq as stack;

/// noq's BBR, which is BBRv3.
type Bbr = stack::congestion::Bbr3Config;

fn main() -> warpline_peer_kit::Result<()> {
    peer::main()
}

/// Several chunks at once, under the name that this stack has for it.
async fn read_chunks(stream: &mut stack::RecvStream, chunks: &mut [Bytes]) -> Result<Option<usize>, stack::ReadError> {
    stream.read_many_chunks(chunks).await
}
