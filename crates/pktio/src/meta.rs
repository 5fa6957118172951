//! What is known of a datagram besides its bytes.

use std::net::{IpAddr, SocketAddr};

use warpline_frame::Frame;

/// An ECN codepoint other than Not-ECT (RFC 3168 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ecn {
    /// ECN-capable transport, codepoint 10.
    Ect0,
    /// ECN-capable transport, codepoint 01.
    Ect1,
    /// Congestion experienced, codepoint 11.
    Ce,
}

impl Ecn {
    /// From the two low bits of the IPv4 TOS or IPv6 traffic class octet; `None` is Not-ECT.
    pub fn from_bits(octet: u8) -> Option<Ecn> {
        match octet & 0b11 {
            0b10 => Some(Ecn::Ect0),
            0b01 => Some(Ecn::Ect1),
            0b11 => Some(Ecn::Ce),
            _ => None,
        }
    }

    /// The two bits.
    pub fn bits(self) -> u8 {
        match self {
            Ecn::Ect0 => 0b10,
            Ecn::Ect1 => 0b01,
            Ecn::Ce => 0b11,
        }
    }
}

/// A train of datagrams from one sender that arrived together.
#[derive(Debug)]
pub struct Received {
    /// The datagrams, one after the other. Never empty.
    pub frame: Frame,
    /// Bytes of each datagram; only the last may be shorter.
    pub segment_size: usize,
    /// Who sent it. IPv4 senders have IPv4 addresses, on dual-stack sockets too.
    pub remote: SocketAddr,
    /// The address that it was sent to, if known: answers must come from there.
    pub local: Option<IpAddr>,
    /// The ECN codepoint of all of them; `None` if Not-ECT or unknown.
    pub ecn: Option<Ecn>,
}

impl Received {
    /// How many datagrams there are.
    pub fn count(&self) -> usize {
        self.frame.len().div_ceil(self.segment_size)
    }

    /// Cuts the train into datagrams, in place.
    pub fn datagrams(self) -> Datagrams {
        Datagrams { rest: Some(self.frame), segment_size: self.segment_size }
    }
}

/// The datagrams of a [`Received`].
#[derive(Debug)]
pub struct Datagrams {
    rest: Option<Frame>,
    segment_size: usize,
}

impl Iterator for Datagrams {
    type Item = Frame;

    #[inline]
    fn next(&mut self) -> Option<Frame> {
        match &mut self.rest {
            Some(rest) if rest.len() > self.segment_size => Some(rest.split_to(self.segment_size)),
            // The last one takes over the train's own reference.
            _ => self.rest.take(),
        }
    }
}

/// A train that was built in a transmit buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxMeta {
    /// Where to.
    pub remote: SocketAddr,
    /// The address to send from; `None` leaves it to the system.
    pub local: Option<IpAddr>,
    /// The ECN codepoint to mark with; `None` is Not-ECT.
    pub ecn: Option<Ecn>,
    /// Bytes of each datagram; only the last may be shorter. Not 0.
    pub segment_size: usize,
    /// Bytes of the train. Not 0; at most the length of the buffer.
    pub len: usize,
}

impl TxMeta {
    /// How many datagrams there are.
    pub fn count(&self) -> usize {
        self.len.div_ceil(self.segment_size)
    }
}
