//! Control messages: what the kernel is told, and tells, about a message besides its bytes.

use std::net::IpAddr;
use std::ptr;
use std::time::Duration;

use super::address::{Family, in_addr, ipv4, ipv6};
use crate::meta::Ecn;

/// Room for the control messages of one message: segment size (24), TOS (24), IPv4 (32) and IPv6 (40) packet info, the
/// traffic class (24) and the time of arrival (32) on 64-bit systems.
pub(crate) const CONTROL_LEN: usize = 192;

/// The room, aligned as `cmsghdr` must be.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Control(pub(crate) [u8; CONTROL_LEN]);

const _: () = assert!(align_of::<Control>() >= align_of::<libc::cmsghdr>());

/// Appends control messages to a header whose control buffer is a [`Control`].
pub(crate) struct ControlWriter<'a> {
    header: &'a mut libc::msghdr,
    len: usize,
}

impl<'a> ControlWriter<'a> {
    /// # Safety
    /// `header.msg_control` points to a [`Control`] that stays valid and unshared while the writer lives.
    pub(crate) unsafe fn new(header: &'a mut libc::msghdr) -> ControlWriter<'a> {
        ControlWriter { header, len: 0 }
    }

    /// Appends one message. The value must have no padding.
    fn push<T: Copy>(&mut self, level: libc::c_int, kind: libc::c_int, value: T) {
        let size = size_of::<T>() as libc::c_uint;
        // SAFETY: arithmetic on a length.
        let space = unsafe { libc::CMSG_SPACE(size) } as usize;
        assert!(self.len + space <= CONTROL_LEN, "CONTROL_LEN has room for every message there is");
        // SAFETY: the offset is inside the control buffer, by the assertion.
        let at = unsafe { self.header.msg_control.cast::<u8>().add(self.len) }.cast::<libc::cmsghdr>();
        // SAFETY: zeros are a valid header.
        let mut head: libc::cmsghdr = unsafe { std::mem::zeroed() };
        // SAFETY: arithmetic on a length.
        head.cmsg_len = unsafe { libc::CMSG_LEN(size) } as _;
        head.cmsg_level = level;
        head.cmsg_type = kind;
        // SAFETY: inside the buffer, and aligned, since the buffer is and CMSG_SPACE keeps it.
        unsafe { at.write(head) };
        // SAFETY: `at` is a header in the buffer; its data follow it there.
        let data = unsafe { libc::CMSG_DATA(at) };
        // SAFETY: CMSG_SPACE counted the value's bytes.
        unsafe { data.cast::<T>().write_unaligned(value) };
        self.len += space;
    }

    pub(crate) fn segment_size(&mut self, size: u16) {
        self.push(libc::SOL_UDP, libc::UDP_SEGMENT, size);
    }

    /// For a destination of the given family (that of the packet, not of the socket).
    pub(crate) fn ecn(&mut self, packet: Family, ecn: Ecn) {
        let bits = libc::c_int::from(ecn.bits());
        match packet {
            Family::V4 => self.push(libc::IPPROTO_IP, libc::IP_TOS, bits),
            Family::V6 => self.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, bits),
        }
    }

    /// The address to send from.
    pub(crate) fn source(&mut self, source: IpAddr) {
        match source {
            IpAddr::V4(ip) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: in_addr(ip),
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            IpAddr::V6(ip) => {
                let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
                self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
        }
    }

    /// Tells the header how much there is.
    pub(crate) fn finish(self) {
        self.header.msg_controllen = self.len as _;
    }
}

/// What the kernel said about a received message.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Info {
    pub(crate) segment_size: Option<usize>,
    pub(crate) local: Option<IpAddr>,
    pub(crate) ecn: Option<Ecn>,
    /// When it arrived, since the epoch of the system's clock; while the socket is asked for it.
    pub(crate) arrived: Option<Duration>,
}

/// Reads the control messages of a received message.
///
/// # Safety
/// `header` was filled by the kernel, and its control buffer is still as the kernel left it.
#[inline]
pub(crate) unsafe fn read(header: &libc::msghdr) -> Info {
    let mut info = Info::default();
    // SAFETY: the caller's promise.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: not null, so it is a header inside the control buffer.
        let head = unsafe { ptr::read(next) };
        // SAFETY: as above.
        let data = unsafe { libc::CMSG_DATA(next) };
        // The kernel writes each of these with its own size, as `udp(7)`, `ip(7)` and `ipv6(7)` say.
        match (head.cmsg_level, head.cmsg_type) {
            (libc::SOL_UDP, libc::UDP_GRO) => {
                // SAFETY: an int.
                let size: libc::c_int = unsafe { ptr::read_unaligned(data.cast()) };
                info.segment_size = usize::try_from(size).ok().filter(|&size| size > 0);
            }
            (libc::IPPROTO_IP, libc::IP_TOS) => {
                // SAFETY: one octet.
                info.ecn = Ecn::from_bits(unsafe { ptr::read(data) });
            }
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                // SAFETY: an int.
                let class: libc::c_int = unsafe { ptr::read_unaligned(data.cast()) };
                info.ecn = Ecn::from_bits(class as u8);
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: an `in_pktinfo`.
                let from: libc::in_pktinfo = unsafe { ptr::read_unaligned(data.cast()) };
                info.local = Some(ipv4(from.ipi_addr).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: an `in6_pktinfo`.
                let from: libc::in6_pktinfo = unsafe { ptr::read_unaligned(data.cast()) };
                info.local = Some(ipv6(from.ipi6_addr));
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                // SAFETY: a `timespec`.
                let at: libc::timespec = unsafe { ptr::read_unaligned(data.cast()) };
                info.arrived = since_epoch(at);
            }
            _ => (),
        }
        // SAFETY: `next` is a header in this buffer.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    info
}

/// `None` if the clock is before its epoch.
fn since_epoch(at: libc::timespec) -> Option<Duration> {
    let (seconds, nanos) = (u64::try_from(at.tv_sec).ok()?, u32::try_from(at.tv_nsec).ok()?);
    Some(Duration::new(seconds, nanos))
}
