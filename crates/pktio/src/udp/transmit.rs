//! Transmission: trains leave the queue by `sendmmsg`, and none is lost without being counted.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use super::address::{Family, Name};
use super::control::{CONTROL_LEN, Control, ControlWriter};
use crate::limits::TX_TRAINS_MAX;
use crate::stats::{Stat, StatsHandle};
use crate::tx::{Train, TxQueue};

/// Why trains are still queued after a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocked {
    No,
    /// The socket's buffer is full: it becomes writable again (`EAGAIN`).
    Socket,
    /// A queue below is full (`ENOBUFS`): nothing says when it is not.
    Device,
}

/// What becomes of a message that could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It stays queued, to be sent again, perhaps in another shape.
    Again,
    /// It is lost, and counted.
    Lost,
}

/// The arrays that `sendmmsg` reads, made once, and what was learned about sending.
pub(crate) struct Sender {
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    names: Box<[Name]>,
    controls: Box<[Control]>,
    family: Family,
    /// A wildcard socket has to be told which address to send from.
    wildcard: bool,
    /// 1 means no GSO.
    segments_max: usize,
    blocked: Blocked,
}

// SAFETY: the raw pointers in the headers point to memory that this value owns; those in the vectors are written before
// each use.
unsafe impl Send for Sender {}

impl Sender {
    pub(crate) fn new(family: Family, wildcard: bool, segments_max: usize) -> Sender {
        let mut sender = Sender {
            // SAFETY: all-zero headers are valid: null pointers with lengths of zero.
            headers: (0..TX_TRAINS_MAX).map(|_| unsafe { std::mem::zeroed() }).collect(),
            vectors: vec![libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; TX_TRAINS_MAX].into(),
            names: vec![Name::empty(); TX_TRAINS_MAX].into(),
            controls: vec![Control([0; CONTROL_LEN]); TX_TRAINS_MAX].into(),
            family,
            wildcard,
            segments_max,
            blocked: Blocked::No,
        };
        let parts = sender.vectors.iter_mut().zip(&mut sender.names).zip(&mut sender.controls);
        for (message, ((vector, name), control)) in sender.headers.iter_mut().zip(parts) {
            let header = &mut message.msg_hdr;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_name = ptr::from_mut(name).cast();
            header.msg_control = ptr::from_mut(control).cast();
        }
        sender
    }

    pub(crate) fn segments_max(&self) -> usize {
        self.segments_max
    }

    pub(crate) fn blocked(&self) -> Blocked {
        self.blocked
    }

    /// Another attempt is made, so what was known of room is not any more.
    pub(crate) fn unblock(&mut self) {
        self.blocked = Blocked::No;
    }

    /// Sends what is queued, by `send` (which is [`sendmmsg`] but in tests). `Ok` with trains left in the queue means
    /// that there was no room for them; the next flush continues. An error is one of the socket itself.
    pub(crate) fn flush(
        &mut self,
        queue: &mut TxQueue,
        stats: &StatsHandle,
        mut send: impl FnMut(&mut [libc::mmsghdr]) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.unblock();
        while !queue.is_empty() {
            let count = self.fill(queue);
            stats.add(Stat::SendCalls, 1);
            match send(&mut self.headers[..count]) {
                Ok(sent) => self.on_sent(sent.min(count), queue, stats),
                Err(error) => self.on_error(error, queue, stats)?,
            }
            if self.blocked != Blocked::No {
                stats.add(Stat::TxBlocked, 1);
                break;
            }
        }
        Ok(())
    }

    /// Points the headers to the next messages; how many.
    fn fill(&mut self, queue: &TxQueue) -> usize {
        let mut count = 0;
        for train in queue.pending() {
            let mut from = train.sent;
            while from < train.meta.len {
                if count == self.headers.len() {
                    return count;
                }
                let len = train.part(from, self.segments_max);
                self.describe(count, train, queue.bytes(train, from, len));
                (from, count) = (from + len, count + 1);
            }
        }
        count
    }

    /// Points the header at `index` to a message of `train`.
    pub(crate) fn describe(&mut self, index: usize, train: &Train, bytes: &[u8]) -> *const libc::msghdr {
        let meta = &train.meta;
        self.vectors[index] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let header = &mut self.headers[index].msg_hdr;
        header.msg_namelen = self.names[index].set(self.family, meta.remote);
        // SAFETY: `new` pointed the header to its own control buffer, which nobody else uses.
        let mut control = unsafe { ControlWriter::new(header) };
        if bytes.len() > meta.segment_size {
            // Below 2^16, since it is less than a train.
            control.segment_size(meta.segment_size as u16);
        }
        if let Some(ecn) = meta.ecn {
            control.ecn(if meta.remote.is_ipv4() { Family::V4 } else { Family::V6 }, ecn);
        }
        if self.wildcard
            && let Some(source) = meta.local.map(|ip| ip.to_canonical())
            && same_family(source, meta.remote.ip())
        {
            control.source(source);
        }
        control.finish();
        &raw const self.headers[index].msg_hdr
    }

    /// The first `sent` messages of the last [`fill`](Self::fill) are out.
    fn on_sent(&mut self, sent: usize, queue: &mut TxQueue, stats: &StatsHandle) {
        for vector in &self.vectors[..sent] {
            let Some(train) = queue.front_mut() else { return };
            stats.add(Stat::TxTrains, 1);
            stats.add(Stat::TxDatagrams, vector.iov_len.div_ceil(train.meta.segment_size));
            stats.add(Stat::TxBytes, vector.iov_len);
            if train.singles && train.sent == 0 {
                // As a train it was refused, its first datagram alone was not: it is the segmentation that does not
                // work here (no checksum offload, an old tunnel).
                self.segments_max = 1;
            }
            queue.advance(vector.iov_len);
        }
    }

    /// The first message failed and the others were not tried.
    fn on_error(&mut self, error: io::Error, queue: &mut TxQueue, stats: &StatsHandle) -> io::Result<()> {
        let len = self.vectors[0].iov_len;
        let Some(train) = queue.front_mut() else { return Ok(()) };
        if self.judge(error, train, len, stats)? == Fate::Lost {
            queue.advance(len);
        }
        Ok(())
    }

    /// What becomes of `len` bytes of a train whose sending failed. An error is one of the socket itself.
    pub(crate) fn judge(
        &mut self,
        error: io::Error,
        train: &mut Train,
        len: usize,
        stats: &StatsHandle,
    ) -> io::Result<Fate> {
        let count = len.div_ceil(train.meta.segment_size);
        match error.raw_os_error() {
            Some(libc::EINTR) => (),
            Some(libc::EAGAIN) => self.blocked = Blocked::Socket,
            Some(libc::ENOBUFS | libc::ENOMEM) => self.blocked = Blocked::Device,
            // A train may be refused because GSO does not work (EIO: the device cannot checksum) or because its
            // datagrams exceed the MTU (EINVAL; EMSGSIZE since 6.14). Single datagrams tell which.
            Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE) if count > 1 => {
                stats.add(Stat::GsoRefused, 1);
                train.singles = true;
            }
            Some(libc::EMSGSIZE) => {
                stats.add(Stat::DropTxTooBig, count);
                return Ok(Fate::Lost);
            }
            Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT) | None => return Err(error),
            // No route, filtered, the address is gone, an ICMP error of an earlier send: the network's ways of losing
            // a datagram. The protocol above finds out by its timers.
            Some(_) => {
                stats.add(Stat::DropTxRefused, count);
                return Ok(Fate::Lost);
            }
        }
        Ok(Fate::Again)
    }
}

fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

/// Sends the messages; how many went out. An error is about the first.
pub(crate) fn sendmmsg(socket: &UdpSocket, messages: &mut [libc::mmsghdr]) -> io::Result<usize> {
    let count = messages.len() as libc::c_uint;
    let (fd, flags) = (socket.as_raw_fd(), libc::MSG_DONTWAIT);
    // SAFETY: each header points to its own name, vector and control buffer, written by `Sender::describe` for the
    // queue that is borrowed through the flush.
    let result = unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), count, flags as _) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
#[path = "transmit_tests.rs"]
mod tests;
