//! Socket addresses as the kernel writes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Which addresses a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    /// IPv4 goes as `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2) if the socket is dual-stack.
    V6,
}

/// Room for an address of either family. Both begin with the family.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

const _: () = assert!(size_of::<Name>() == size_of::<libc::sockaddr_in6>());

impl Name {
    pub(crate) const LEN: libc::socklen_t = size_of::<Name>() as libc::socklen_t;

    pub(crate) fn empty() -> Name {
        let v6 = libc::sockaddr_in6 {
            sin6_family: libc::AF_UNSPEC as libc::sa_family_t,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        };
        Name { v6 }
    }

    /// Writes an address for a socket of the family; the length that the kernel has to be told.
    pub(crate) fn set(&mut self, family: Family, addr: SocketAddr) -> libc::socklen_t {
        let addr = match (family, addr) {
            (Family::V4, SocketAddr::V4(addr)) => {
                self.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: addr.port().to_be(),
                    sin_addr: in_addr(*addr.ip()),
                    sin_zero: [0; 8],
                };
                return size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            (Family::V6, SocketAddr::V4(addr)) => SocketAddrV6::new(addr.ip().to_ipv6_mapped(), addr.port(), 0, 0),
            // An IPv4 socket answers EAFNOSUPPORT, which is the truth.
            (_, SocketAddr::V6(addr)) => addr,
        };
        self.v6 = libc::sockaddr_in6 {
            sin6_family: libc::AF_INET6 as libc::sa_family_t,
            sin6_port: addr.port().to_be(),
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: addr.ip().octets() },
            sin6_scope_id: addr.scope_id(),
        };
        Name::LEN
    }

    /// The address that the kernel wrote; IPv4 as such even if it came through an IPv6 socket.
    pub(crate) fn read(&self) -> Option<SocketAddr> {
        // SAFETY: all fields are plain integers, valid with any content, and the whole union is initialized.
        let v6 = unsafe { self.v6 };
        match i32::from(v6.sin6_family) {
            libc::AF_INET => {
                // SAFETY: as above.
                let v4 = unsafe { self.v4 };
                Some(SocketAddrV4::new(ipv4(v4.sin_addr), u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                let (ip, port) = (Ipv6Addr::from(v6.sin6_addr.s6_addr), u16::from_be(v6.sin6_port));
                match ip.to_ipv4_mapped() {
                    Some(ip) => Some(SocketAddrV4::new(ip, port).into()),
                    None => Some(SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into()),
                }
            }
            _ => None,
        }
    }
}

pub(crate) fn in_addr(ip: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) }
}

pub(crate) fn ipv4(addr: libc::in_addr) -> Ipv4Addr {
    Ipv4Addr::from(addr.s_addr.to_ne_bytes())
}

/// An IPv6 address, as IPv4 if it is mapped.
pub(crate) fn ipv6(addr: libc::in6_addr) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(addr.s6_addr)).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernel_format() {
        for addr in ["192.0.2.1:443", "[2001:db8::1]:4433", "[fe80::1%3]:9"] {
            let addr: SocketAddr = addr.parse().expect("a literal");
            let mut name = Name::empty();
            assert_eq!(name.read(), None);
            name.set(Family::V6, addr);
            assert_eq!(name.read(), Some(addr));
        }
        let mut name = Name::empty();
        let addr: SocketAddr = "192.0.2.1:443".parse().expect("a literal");
        assert_eq!(name.set(Family::V4, addr), 16);
        assert_eq!(name.read(), Some(addr));
    }
}
