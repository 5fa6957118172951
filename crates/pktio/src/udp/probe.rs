//! How long a GSO train may be: the kernel has no way to ask but to try.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::OnceLock;

use super::socket::set_option;
use crate::limits::{GSO_SEGMENTS_BASE, GSO_SEGMENTS_NEW};

/// Segments per message, 1 if there is no GSO. Tried once per process, by a socket that sends to itself.
pub(crate) fn gso_segments_max() -> usize {
    static MAX: OnceLock<usize> = OnceLock::new();
    *MAX.get_or_init(|| {
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        // Without any loopback, the old limit: should it be wrong, the first train that is refused ends GSO.
        UdpSocket::bind(v4).or_else(|_| UdpSocket::bind(v6)).map_or(GSO_SEGMENTS_BASE, |socket| try_on(&socket))
    })
}

/// Sends trains of one-byte segments.
fn try_on(socket: &UdpSocket) -> usize {
    let segment: libc::c_int = 1;
    if set_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT, segment).is_err() {
        return 1;
    }
    let Ok(to) = socket.local_addr() else { return GSO_SEGMENTS_BASE };
    let goes = |segments| socket.send_to(&[0; GSO_SEGMENTS_NEW][..segments], to).is_ok();
    if goes(GSO_SEGMENTS_NEW) {
        GSO_SEGMENTS_NEW
    } else if goes(GSO_SEGMENTS_BASE) {
        GSO_SEGMENTS_BASE
    } else {
        1
    }
}
