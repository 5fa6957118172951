//! What is known about a datagram besides its bytes.

use std::net::{IpAddr, SocketAddr};

use crate::ecn::Ecn;

/// Where a received datagram came from and how it was marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramMeta {
    /// The sender's address.
    pub remote: SocketAddr,
    /// The address of ours that it was sent to, if the socket tells.
    pub local: Option<IpAddr>,
    /// The ECN field; `None` for not-ECT and for sockets that do not tell.
    pub ecn: Option<Ecn>,
}

/// A train of datagrams to send: `len` bytes at the front of the buffer, one datagram each `segment_size` bytes, the last
/// possibly shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub remote: SocketAddr,
    /// From which address of ours, if it matters.
    pub local: Option<IpAddr>,
    /// The ECN field to set.
    pub ecn: Option<Ecn>,
    /// Bytes in all.
    pub len: usize,
    /// Bytes of each datagram but the last; equal to `len` for a single one.
    pub segment_size: usize,
}
