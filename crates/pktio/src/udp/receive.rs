//! Reception: one `recvmmsg` fills up to [`RECV_BATCH`] large frames.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::Duration;

use warpline_frame::Frame;

use super::address::Name;
use super::control::{self, CONTROL_LEN, Control};
use super::lateness::Lateness;
use super::socket::Bound;
use crate::limits::{MESSAGE_COST_MIN, RECV_BATCH};
use crate::meta::Received;
use crate::pools::{Arrival, Pools};
use crate::stats::{Stat, StatsHandle};

/// The arrays that `recvmmsg` reads and writes, made once. A header points to its own `iovec`, name and control
/// buffer for ever; only lengths are written again, for the messages that were used.
pub(super) struct ReceiveRing {
    slots: Vec<Frame>,
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    names: Box<[Name]>,
    controls: Box<[Control]>,
    /// Headers below this were used by the last call and have to be made ready.
    used: usize,
    taken_bytes: u64,
    lateness: Lateness,
}

// SAFETY: the raw pointers in the headers and vectors point to memory that this value owns, so they may move to
// another thread together with it.
unsafe impl Send for ReceiveRing {}

impl ReceiveRing {
    pub(super) fn new(pools: &mut Pools) -> io::Result<ReceiveRing> {
        let slots: Option<Vec<Frame>> = (0..RECV_BATCH).map(|_| pools.take_large()).collect();
        let mut ring = ReceiveRing {
            slots: slots.ok_or(io::ErrorKind::OutOfMemory)?,
            // SAFETY: all-zero headers are valid: null pointers with lengths of zero.
            headers: (0..RECV_BATCH).map(|_| unsafe { std::mem::zeroed() }).collect(),
            vectors: vec![libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; RECV_BATCH].into(),
            names: vec![Name::empty(); RECV_BATCH].into(),
            controls: vec![Control([0; CONTROL_LEN]); RECV_BATCH].into(),
            used: RECV_BATCH,
            taken_bytes: 0,
            lateness: Lateness::default(),
        };
        let parts = ring.vectors.iter_mut().zip(&mut ring.names).zip(&mut ring.controls);
        for (message, ((vector, name), control)) in ring.headers.iter_mut().zip(parts) {
            let header = &mut message.msg_hdr;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_name = ptr::from_mut(name).cast();
            header.msg_control = ptr::from_mut(control).cast();
        }
        Ok(ring)
    }

    /// Replaces the content of `out` by what has arrived, at most one batch; the number of trains.
    pub(super) fn recv(
        &mut self,
        bound: &Bound,
        pools: &mut Pools,
        out: &mut Vec<Received>,
        stats: &StatsHandle,
    ) -> io::Result<usize> {
        out.clear();
        self.make_ready();
        self.used = loop {
            stats.add(Stat::RecvCalls, 1);
            match recvmmsg(bound.socket(), &mut self.headers) {
                Ok(count) => break count,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => return Ok(0),
                    // An ICMP error of an earlier send, reported once: it is not about reception.
                    Some(libc::EINTR | libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH) => continue,
                    _ => return Err(error),
                },
            }
        };
        self.lateness.looked(bound, self.used == RECV_BATCH);
        for index in 0..self.used {
            self.deliver(index, bound, pools, out, stats);
        }
        Ok(out.len())
    }

    /// See [`Io::taken_bytes`](crate::Io::taken_bytes).
    pub(super) fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    pub(super) fn waited(&self) -> Option<Duration> {
        self.lateness.waited()
    }

    fn make_ready(&mut self) {
        let used = self.headers.iter_mut().zip(&mut self.vectors).zip(&mut self.slots).take(self.used);
        for ((message, vector), slot) in used {
            vector.iov_base = slot.as_mut_ptr().cast();
            vector.iov_len = slot.len();
            message.msg_hdr.msg_namelen = Name::LEN;
            message.msg_hdr.msg_controllen = CONTROL_LEN as _;
        }
        self.used = 0;
    }

    fn deliver(
        &mut self,
        index: usize,
        bound: &Bound,
        pools: &mut Pools,
        out: &mut Vec<Received>,
        stats: &StatsHandle,
    ) {
        let message = &self.headers[index];
        let len = message.msg_len as usize;
        self.taken_bytes += len.max(MESSAGE_COST_MIN) as u64;
        let truncated = message.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
        let (false, Some(remote)) = (truncated, self.names[index].read()) else {
            stats.add(Stat::DropRxTruncated, 1);
            return;
        };
        // SAFETY: the header is one that the call just filled, and nothing has touched its control buffer since.
        let info = unsafe { control::read(&message.msg_hdr) };
        if index == 0 {
            self.lateness.note(info.arrived);
        }
        let arrival = Arrival {
            len,
            segment_size: info.segment_size.unwrap_or(len),
            remote,
            local: info.local.or(bound.local_ip()),
            ecn: info.ecn,
        };
        pools.deliver(&mut self.slots[index], arrival, out, stats);
    }
}

fn recvmmsg(socket: &UdpSocket, headers: &mut [libc::mmsghdr]) -> io::Result<usize> {
    let count = headers.len() as libc::c_uint;
    let (fd, flags) = (socket.as_raw_fd(), libc::MSG_DONTWAIT);
    // SAFETY: each header points to its own name, vector and control buffer, all alive and of the lengths stated, and
    // each vector to a frame that the ring holds alone.
    let result = unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), count, flags as _, ptr::null_mut()) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
