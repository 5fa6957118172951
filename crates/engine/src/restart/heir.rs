//! From the workers of a process that hands over to the process that takes over.

use super::message::{decode_datagram, encode_meta};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use warpline_frame::Frame;
use warpline_proto::DatagramMeta;
use warpline_wire::cid::{self, Layout};

/// Bytes of a datagram with what goes before it, at most.
pub(crate) const BEQUEST_MAX: usize = (64 << 10) + 64;

/// The process that takes over, as the workers of the old one see it.
#[derive(Debug)]
pub(crate) struct Heir {
    socket: OwnedFd,
    /// The mark in its connection IDs.
    mark: bool,
}

impl Heir {
    pub(crate) fn new(socket: OwnedFd, mark: bool) -> Self {
        Self { socket, mark }
    }

    /// Whether a datagram for no connection of this process is the heir's: it may begin a connection, or bears an ID of
    /// the heir's.
    #[inline]
    pub(crate) fn may_own(&self, datagram: &[u8]) -> bool {
        let is_long = datagram.first().is_some_and(|first| first & 0x80 != 0);
        let id = || crate::partition::destination(Layout::PLAIN, datagram);
        is_long || id().and_then(cid::mark).is_some_and(|mark| mark == self.mark)
    }

    /// Passes a datagram on; `false` if there is no room. To the peer it is lost on the way then.
    #[cold]
    pub(crate) fn pass_on(&self, meta: &DatagramMeta, datagram: &[u8]) -> bool {
        let before = encode_meta(meta);
        let parts = [IoSlice::new(&before), IoSlice::new(datagram)];
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::sendmsg(&self.socket, &parts, &mut SendAncillaryBuffer::default(), flags).is_ok()
    }
}

/// Takes the next datagram that was passed on.
pub(crate) fn take(socket: &OwnedFd, buffer: &mut [u8]) -> Option<(DatagramMeta, Frame)> {
    loop {
        let (len, _) = rustix::net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT).ok()?;
        if len == 0 {
            return None;
        }
        if let Some((meta, datagram)) = buffer.get(..len).and_then(decode_datagram) {
            return Some((meta, Frame::from_vec(datagram.to_vec())));
        }
    }
}
