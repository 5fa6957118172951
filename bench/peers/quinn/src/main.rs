//! quinn as a peer of the comparison.
#![forbid(unsafe_code)]

mod adapter;
mod peer;

use bytes::Bytes;
use quinn as stack;

/// quinn's BBR, after the first version of the draft.
type Bbr = stack::congestion::BbrConfig;

fn main() -> warpline_peer_kit::Result<()> {
    peer::main()
}

/// Several chunks at once, under the name that this stack has for it.
async fn read_chunks(stream: &mut stack::RecvStream, chunks: &mut [Bytes]) -> Result<Option<usize>, stack::ReadError> {
    stream.read_chunks(chunks).await
}
