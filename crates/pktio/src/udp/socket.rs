//! A bound socket with its options set.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::address::Family;
use super::steering::Steering;
use crate::config::IoConfig;

/// A socket and what became of the wishes for it.
pub(crate) struct Bound {
    socket: UdpSocket,
    addr: SocketAddr,
    gro: bool,
}

impl Bound {
    /// Binds; with `shared`, other sockets may bind to the same address (`SO_REUSEPORT`). A wildcard IPv6 address is
    /// dual-stack.
    pub(crate) fn new(addr: SocketAddr, config: &IoConfig, shared: bool) -> io::Result<Bound> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(!addr.ip().is_unspecified())?;
        }
        if shared {
            socket.set_reuse_port(true)?;
        }
        grow_buffers(&socket, config)?;
        let wildcard = addr.ip().is_unspecified();
        if addr.is_ipv4() || wildcard {
            ipv4_options(&socket, wildcard, addr.is_ipv6())?;
        }
        if addr.is_ipv6() {
            ipv6_options(&socket, wildcard)?;
        }
        let gro = set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
        socket.bind(&addr.into())?;
        let socket = UdpSocket::from(socket);
        Ok(Bound { addr: socket.local_addr()?, socket, gro })
    }

    /// A socket that another process has bound, with its options set. Fails with `InvalidInput` if it is none of UDP.
    pub(crate) fn adopt(fd: OwnedFd) -> io::Result<Bound> {
        let socket = Socket::from(fd);
        if socket.r#type()? != Type::DGRAM || socket.protocol()? != Some(Protocol::UDP) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is no UDP socket"));
        }
        let gro = set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
        let socket = UdpSocket::from(socket);
        Ok(Bound { addr: socket.local_addr()?, socket, gro })
    }

    /// One socket per worker on the same port, in the order of the workers, with the kernel steering between them.
    pub(crate) fn group(
        addr: SocketAddr,
        workers: u16,
        config: &IoConfig,
        steering: &Steering,
    ) -> io::Result<Vec<Bound>> {
        if workers == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a group has at least one worker"));
        }
        let mut group: Vec<Bound> = Vec::with_capacity(workers.into());
        for _ in 0..workers {
            // The first one may choose the port; the others join it.
            let addr = group.first().map_or(addr, Bound::local_addr);
            let bound = Bound::new(addr, config, true)?;
            if group.is_empty() {
                steering.attach(bound.socket(), workers)?;
            }
            group.push(bound);
        }
        Ok(group)
    }

    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn family(&self) -> Family {
        if self.addr.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub(crate) fn is_wildcard(&self) -> bool {
        self.addr.ip().is_unspecified()
    }

    /// The one local address, unless it is a wildcard.
    pub(crate) fn local_ip(&self) -> Option<IpAddr> {
        Some(self.addr.ip()).filter(|ip| !ip.is_unspecified())
    }

    pub(crate) fn gro(&self) -> bool {
        self.gro
    }

    /// The granted receive and send buffers in bytes, as the kernel accounts them (twice what was asked for, since
    /// its own records count too); 0 if it does not say.
    pub(crate) fn buffers(&self) -> (usize, usize) {
        let socket = SockRef::from(&self.socket);
        (socket.recv_buffer_size().unwrap_or(0), socket.send_buffer_size().unwrap_or(0))
    }
}

/// Asks for buffers beyond the system's limit first, which takes CAP_NET_ADMIN, then within it.
fn grow_buffers(socket: &Socket, config: &IoConfig) -> io::Result<()> {
    let int = |bytes: usize| libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    if set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, int(config.recv_buffer)).is_err() {
        socket.set_recv_buffer_size(config.recv_buffer)?;
    }
    if set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, int(config.send_buffer)).is_err() {
        socket.set_send_buffer_size(config.send_buffer)?;
    }
    Ok(())
}

/// Options for IPv4 packets. On a dual-stack socket they are refused if the system has no IPv4, which is no failure.
fn ipv4_options(socket: &Socket, wildcard: bool, dual_stack: bool) -> io::Result<()> {
    let set = |option, value| match set_option(socket, libc::IPPROTO_IP, option, value) {
        Err(_) if dual_stack => Ok(()),
        result => result,
    };
    set(libc::IP_RECVTOS, 1)?;
    set(libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
    if wildcard {
        set(libc::IP_PKTINFO, 1)?;
    }
    Ok(())
}

fn ipv6_options(socket: &Socket, wildcard: bool) -> io::Result<()> {
    let set = |option, value| set_option(socket, libc::IPPROTO_IPV6, option, value);
    set(libc::IPV6_RECVTCLASS, 1)?;
    set(libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)?;
    if wildcard {
        set(libc::IPV6_RECVPKTINFO, 1)?;
    }
    Ok(())
}

/// Sets a socket option whose value is plain data.
pub(crate) fn set_option<T: Copy>(
    socket: &impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: T,
) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    let value = std::ptr::from_ref(&value).cast();
    // SAFETY: `value` points to `len` bytes that live through the call; the kernel checks the rest.
    let result = unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, value, len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
