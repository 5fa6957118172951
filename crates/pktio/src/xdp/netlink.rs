//! rtnetlink(7): what the kernel knows of links, addresses, neighbours and routes, and what changes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use warpline_wire::net::Mac;

use crate::udp::set_option;

/// The multicast groups of what routing depends on: links, neighbours, addresses, routes and rules.
const GROUPS: u32 = 0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x4_0000;
/// Bytes that one message to us may have; the kernel keeps dumps below 32 KiB.
const BUFFER: usize = 32 << 10;
/// Bytes of waiting events to ask for: a router's table may change as a whole.
const EVENT_BUFFER: libc::c_int = 1 << 20;
/// The kernel answers while it takes the request; more than this means that something is broken.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

const HEADER: usize = 16;

// Attributes of links (`IFLA_`), addresses (`IFA_`), neighbours (`NDA_`), routes (`RTA_`, `RTAX_`).
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_CACHEINFO: u16 = 12;
const RTA_VIA: u16 = 18;
const RTA_ENCAP: u16 = 22;
const RTAX_MTU: u16 = 2;
const RTAX_HOPLIMIT: u16 = 10;
/// The entry of the table that matches, not the route that the kernel makes of it.
const RTM_F_FIB_MATCH: u32 = 0x2000;
const NTF_USE: u8 = 1;
/// The bits of an attribute's type that are flags.
const ATTRIBUTE_FLAGS: u16 = 0xc000;

/// Neighbour states whose address can be used: reachable, stale, delay, probe, no ARP, permanent.
const NUD_VALID: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;
const NUD_STALE: u16 = 0x04;
const NUD_FAILED: u16 = 0x20;

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinkInfo {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) up: bool,
    pub(super) mac: Mac,
    pub(super) mtu: usize,
    pub(super) rx_queues: u32,
    /// The program that is attached to it, if any.
    pub(super) xdp_program: Option<u32>,
    /// Of a VLAN: the interface below, the EtherType of its tags and its number.
    pub(super) vlan: Option<(u32, u16, u16)>,
}

/// The MAC address of an IP address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NeighbourInfo {
    pub(super) ifindex: u32,
    pub(super) address: IpAddr,
    pub(super) state: NeighbourState,
}

/// What is known of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NeighbourState {
    /// Usable; `stale` if the kernel would check it when it is used.
    Known { mac: Mac, stale: bool },
    /// Being asked for.
    Unknown,
    /// Does not answer.
    Failed,
}

/// A message of the kernel, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Link(LinkInfo),
    LinkGone(u32),
    Address {
        address: IpAddr,
        ifindex: u32,
        present: bool,
    },
    Neighbour(NeighbourInfo),
    NeighbourGone {
        ifindex: u32,
        address: IpAddr,
    },
    /// Routes or rules changed.
    Routes,
}

/// The way to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RouteInfo {
    pub(super) kind: RouteKind,
    pub(super) ifindex: u32,
    pub(super) gateway: Option<IpAddr>,
    pub(super) source: Option<IpAddr>,
    /// 0 if the route has none of its own.
    pub(super) mtu: usize,
    /// Whether it, or a size that the kernel has learned for it, holds for some time only.
    pub(super) expires: bool,
    /// 0 if the route has none of its own.
    pub(super) hop_limit: u8,
}

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RouteKind {
    /// It leads out of an interface.
    Unicast,
    /// It leads to this host, to many, or through a tunnel: the kernel's business.
    Other,
    /// There is none.
    Unreachable,
}

/// A socket to the kernel's routing.
#[derive(Debug)]
pub(super) struct Netlink {
    fd: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Netlink {
    /// A socket that is told of every change. Does not block. Fails as socket(2) does.
    pub(super) fn events() -> io::Result<Netlink> {
        let socket = Netlink::open(GROUPS)?;
        // Beyond the system's limit with CAP_NET_ADMIN, which AF_XDP needs anyway. A smaller buffer only means that the
        // tables are read again more often.
        let _ = set_option(&socket.fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, EVENT_BUFFER);
        Ok(socket)
    }

    /// A socket for questions. Fails as socket(2) does.
    pub(super) fn requests() -> io::Result<Netlink> {
        let socket = Netlink::open(0)?;
        let timeout = libc::timeval { tv_sec: ANSWER_TIMEOUT.as_secs() as libc::time_t, tv_usec: 0 };
        set_option(&socket.fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, timeout)?;
        Ok(socket)
    }

    /// A socket for questions to generic netlink. Fails as socket(2) does.
    pub(super) fn generic() -> io::Result<Netlink> {
        Netlink::open_as(libc::NETLINK_GENERIC, 0)
    }

    fn open(groups: u32) -> io::Result<Netlink> {
        Netlink::open_as(libc::NETLINK_ROUTE, groups)
    }

    fn open_as(protocol: libc::c_int, groups: u32) -> io::Result<Netlink> {
        let nonblocking = if groups == 0 { 0 } else { libc::SOCK_NONBLOCK };
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | nonblocking;
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call made this descriptor, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: zeros are a valid name.
        let mut name: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        name.nl_family = libc::AF_NETLINK as u16;
        name.nl_groups = groups;
        let len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: the name is a `sockaddr_nl` of that length.
        let result = unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&name).cast(), len) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Netlink { fd, buffer: vec![0; BUFFER], sequence: 0 })
    }

    /// Hands every event that waits to `each`. False if some were lost: everything has to be asked for again.
    pub(super) fn poll(&mut self, mut each: impl FnMut(Event)) -> io::Result<bool> {
        loop {
            match rustix::io::read(&self.fd, &mut self.buffer[..]) {
                Ok(len) => messages(&self.buffer[..len]).filter_map(event).for_each(&mut each),
                Err(rustix::io::Errno::AGAIN) => return Ok(true),
                Err(rustix::io::Errno::INTR) => (),
                Err(rustix::io::Errno::NOBUFS) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Everything of one kind: `RTM_GETLINK`, `RTM_GETADDR` or `RTM_GETNEIGH`.
    pub(super) fn dump(&mut self, kind: u16, mut each: impl FnMut(Event)) -> io::Result<()> {
        // Links, addresses and neighbours begin with a family and are at most 16 bytes.
        let body = [0; 16];
        let len = match kind {
            libc::RTM_GETADDR => 8,
            libc::RTM_GETNEIGH => 12,
            _ => 16,
        };
        self.send(kind, libc::NLM_F_DUMP, &body[..len])?;
        self.answers(|message| {
            if let Some(event) = event(message) {
                each(event);
            }
        })
    }

    /// The way to a destination, as the kernel would take it now, but for the sizes that it has learned from ICMP: those
    /// whoever sends searches by itself, and nobody may push it below what it needs (RFC 9000 section 14.2.1).
    pub(super) fn route(&mut self, to: IpAddr, from: Option<IpAddr>, out: u32) -> io::Result<RouteInfo> {
        let mut route = self.ask_route(to, from, out, 0)?;
        // What was learned expires, and so do routes from router advertisements: the table says what holds.
        if route.expires && route.mtu != 0 {
            route.mtu = self.ask_route(to, from, out, RTM_F_FIB_MATCH)?.mtu;
        }
        Ok(route)
    }

    fn ask_route(&mut self, to: IpAddr, from: Option<IpAddr>, out: u32, flags: u32) -> io::Result<RouteInfo> {
        let (family, bits) = match to {
            IpAddr::V4(_) => (libc::AF_INET, 32),
            IpAddr::V6(_) => (libc::AF_INET6, 128),
        };
        let mut body = vec![family as u8, bits, if from.is_some() { bits } else { 0 }, 0, 0, 0, 0, 0];
        body.extend_from_slice(&flags.to_ne_bytes());
        put_attribute(&mut body, RTA_DST, &octets(to));
        if let Some(from) = from {
            put_attribute(&mut body, RTA_SRC, &octets(from));
        }
        if out != 0 {
            put_attribute(&mut body, RTA_OIF, &out.to_ne_bytes());
        }
        self.send(libc::RTM_GETROUTE, 0, &body)?;
        let mut route = None;
        let result = self.answers(|message| route = route.or(parse_route(message)));
        match (result, route) {
            (_, Some(route)) => Ok(route),
            (Err(error), None) => match error.raw_os_error() {
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL | libc::ENETDOWN) => {
                    Ok(RouteInfo {
                        kind: RouteKind::Unreachable,
                        ifindex: 0,
                        gateway: None,
                        source: None,
                        mtu: 0,
                        expires: false,
                        hop_limit: 0,
                    })
                }
                _ => Err(error),
            },
            (Ok(()), None) => Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel answered without a route")),
        }
    }

    /// Has the kernel find or check a neighbour, as if it had something to send there.
    pub(super) fn use_neighbour(&mut self, ifindex: u32, address: IpAddr) -> io::Result<()> {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let mut body = vec![family as u8, 0, 0, 0];
        body.extend_from_slice(&ifindex.to_ne_bytes());
        body.extend_from_slice(&[0, 0, NTF_USE, 0]);
        put_attribute(&mut body, NDA_DST, &octets(address));
        self.send(libc::RTM_NEWNEIGH, libc::NLM_F_CREATE | libc::NLM_F_REPLACE | libc::NLM_F_ACK, &body)?;
        self.answers(|_| ())
    }

    /// A question to a family of generic netlink: its command and one attribute. Hands the attributes of the answer to
    /// `each`.
    pub(super) fn ask(
        &mut self,
        family: u16,
        command: u8,
        question: (u16, &[u8]),
        mut each: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        let mut body = vec![command, 1, 0, 0];
        put_attribute(&mut body, question.0, question.1);
        self.send(family, 0, &body)?;
        self.answers(|message| {
            attributes(message.body.get(4..).unwrap_or_default()).for_each(|(kind, value)| each(kind, value));
        })
    }

    fn send(&mut self, kind: u16, flags: libc::c_int, body: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let len = u32::try_from(HEADER + body.len()).expect("requests are short");
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend_from_slice(&len.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(body);
        rustix::io::write(&self.fd, &message)?;
        Ok(())
    }

    /// Reads the answers to the last request until they end, or the one answer if it is not a dump.
    fn answers(&mut self, mut each: impl FnMut(Message<'_>)) -> io::Result<()> {
        loop {
            let len = match rustix::io::read(&self.fd, &mut self.buffer[..]) {
                Ok(len) => len,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for message in messages(&self.buffer[..len]) {
                if message.sequence != self.sequence {
                    continue;
                }
                match i32::from(message.kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        let code = i32::from_ne_bytes(four(message.body).unwrap_or_default());
                        return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
                    }
                    _ => each(message),
                }
                if message.flags & libc::NLM_F_MULTI as u16 == 0 {
                    return Ok(());
                }
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// One message.
#[derive(Clone, Copy)]
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

fn four(bytes: &[u8]) -> Option<[u8; 4]> {
    bytes.first_chunk().copied()
}

fn two(bytes: &[u8]) -> Option<[u8; 2]> {
    bytes.first_chunk().copied()
}

fn word(bytes: &[u8]) -> Option<u32> {
    four(bytes).map(u32::from_ne_bytes)
}

fn half(bytes: &[u8]) -> Option<u16> {
    two(bytes).map(u16::from_ne_bytes)
}

/// The messages in a buffer; it ends at the first one that makes no sense.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = word(bytes)? as usize;
        let message = bytes.get(..len).filter(|message| message.len() >= HEADER)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: half(&message[4..])?,
            flags: half(&message[6..])?,
            sequence: word(&message[8..])?,
            body: &message[HEADER..],
        })
    })
}

/// The attributes in a buffer: type and value.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(half(bytes)?);
        let attribute = bytes.get(..len).filter(|attribute| attribute.len() >= 4)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((half(&attribute[2..])? & !ATTRIBUTE_FLAGS, &attribute[4..]))
    })
}

fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

fn put_attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(4 + value.len()).expect("attributes are short");
    to.extend_from_slice(&len.to_ne_bytes());
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(four(bytes)?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

fn event(message: Message<'_>) -> Option<Event> {
    match message.kind {
        libc::RTM_NEWLINK => parse_link(message.body).map(Event::Link),
        libc::RTM_DELLINK => Some(Event::LinkGone(word(message.body.get(4..)?)?)),
        libc::RTM_NEWADDR | libc::RTM_DELADDR => {
            let rest = message.body.get(8..)?;
            // On point-to-point links the peer is the address and the own one is local.
            let value = attribute(rest, IFA_LOCAL).or_else(|| attribute(rest, IFA_ADDRESS))?;
            let ifindex = word(message.body.get(4..)?)?;
            Some(Event::Address { address: address(value)?, ifindex, present: message.kind == libc::RTM_NEWADDR })
        }
        libc::RTM_NEWNEIGH => parse_neighbour(message.body).map(Event::Neighbour),
        libc::RTM_DELNEIGH => {
            let info = parse_neighbour(message.body)?;
            Some(Event::NeighbourGone { ifindex: info.ifindex, address: info.address })
        }
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE | libc::RTM_NEWRULE | libc::RTM_DELRULE => Some(Event::Routes),
        _ => None,
    }
}

/// `struct ifinfomsg` and its attributes.
fn parse_link(body: &[u8]) -> Option<LinkInfo> {
    // Messages of bridges and others that use the same type have a family.
    if *body.first()? != libc::AF_UNSPEC as u8 {
        return None;
    }
    let rest = body.get(16..)?;
    let value = |kind| attribute(rest, kind);
    let number = |kind| value(kind).and_then(word);
    let name = value(IFLA_IFNAME)?;
    let info = value(IFLA_LINKINFO).unwrap_or_default();
    let is_vlan =
        attribute(info, IFLA_INFO_KIND).is_some_and(|kind| kind.strip_suffix(&[0]).unwrap_or(kind) == b"vlan");
    let data = attribute(info, IFLA_INFO_DATA).unwrap_or_default();
    let vlan = || {
        let id = half(attribute(data, IFLA_VLAN_ID)?)?;
        let ethertype = u16::from_be_bytes(two(attribute(data, IFLA_VLAN_PROTOCOL)?)?);
        Some((number(IFLA_LINK)?, ethertype, id))
    };
    Some(LinkInfo {
        index: word(&body[4..])?,
        name: String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned(),
        up: word(&body[8..])? & libc::IFF_UP as u32 != 0,
        mac: value(IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()).unwrap_or_default(),
        mtu: number(IFLA_MTU)? as usize,
        rx_queues: number(IFLA_NUM_RX_QUEUES).unwrap_or(1),
        xdp_program: value(IFLA_XDP).and_then(|xdp| word(attribute(xdp, IFLA_XDP_PROG_ID)?)).filter(|&id| id != 0),
        vlan: if is_vlan { vlan() } else { None },
    })
}

/// `struct ndmsg` and its attributes.
fn parse_neighbour(body: &[u8]) -> Option<NeighbourInfo> {
    let rest = body.get(12..)?;
    let state = half(&body[8..])?;
    let mac = attribute(rest, NDA_LLADDR).and_then(|mac| Mac::try_from(mac).ok());
    Some(NeighbourInfo {
        ifindex: word(&body[4..])?,
        address: address(attribute(rest, NDA_DST)?)?,
        state: match mac {
            Some(mac) if state & NUD_VALID != 0 => NeighbourState::Known { mac, stale: state & NUD_STALE != 0 },
            _ if state & NUD_FAILED != 0 => NeighbourState::Failed,
            _ => NeighbourState::Unknown,
        },
    })
}

/// `struct rtmsg` and its attributes.
fn parse_route(message: Message<'_>) -> Option<RouteInfo> {
    if message.kind != libc::RTM_NEWROUTE {
        return None;
    }
    let rest = message.body.get(12..)?;
    let value = |kind| attribute(rest, kind);
    let metrics = value(RTA_METRICS).unwrap_or_default();
    let metric = |kind| attribute(metrics, kind).and_then(word).unwrap_or(0);
    let via = value(RTA_VIA).and_then(|via| address(via.get(2..)?));
    let kind = match *message.body.get(7)? {
        libc::RTN_UNICAST if value(RTA_ENCAP).is_none() => RouteKind::Unicast,
        libc::RTN_BLACKHOLE | libc::RTN_UNREACHABLE | libc::RTN_PROHIBIT => RouteKind::Unreachable,
        _ => RouteKind::Other,
    };
    Some(RouteInfo {
        kind,
        ifindex: value(RTA_OIF).and_then(word).unwrap_or(0),
        gateway: value(RTA_GATEWAY).and_then(address).or(via),
        source: value(RTA_PREFSRC).and_then(address),
        mtu: metric(RTAX_MTU) as usize,
        // The third word of `struct rta_cacheinfo`.
        expires: value(RTA_CACHEINFO).and_then(|info| word(info.get(8..)?)).is_some_and(|ticks| ticks != 0),
        hop_limit: u8::try_from(metric(RTAX_HOPLIMIT)).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_tables_are_understood() {
        let mut netlink = Netlink::requests().expect("netlink needs no privilege");
        let mut links = Vec::new();
        netlink.dump(libc::RTM_GETLINK, |event| links.push(event)).expect("links can be read");
        let loopback = links.iter().find_map(|event| match event {
            Event::Link(link) if link.name == "lo" => Some(link.clone()),
            _ => None,
        });
        let loopback = loopback.expect("every network has a loopback");
        assert!(loopback.mtu >= 1500 && loopback.index > 0 && loopback.vlan.is_none());
        if loopback.up {
            let to_self = netlink.route(Ipv4Addr::LOCALHOST.into(), None, 0).expect("an answer");
            assert_eq!((to_self.kind, to_self.ifindex), (RouteKind::Other, loopback.index));
        }
        let nowhere = netlink.route("0.0.0.1".parse().expect("a literal"), None, 0).expect("an answer");
        assert!(matches!(nowhere.kind, RouteKind::Unreachable | RouteKind::Unicast));
    }

    #[test]
    fn no_cut_or_changed_message_is_taken_for_more_than_it_is() {
        let mut body = vec![0; 16];
        body[4..8].copy_from_slice(&7u32.to_ne_bytes());
        put_attribute(&mut body, IFLA_IFNAME, b"eth0\0");
        put_attribute(&mut body, IFLA_MTU, &1500u32.to_ne_bytes());
        put_attribute(&mut body, IFLA_ADDRESS, &[1, 2, 3, 4, 5, 6]);
        let link = parse_link(&body).expect("it is complete");
        assert_eq!((link.index, &*link.name, link.mtu, link.mac), (7, "eth0", 1500, [1, 2, 3, 4, 5, 6]));
        for len in 0..body.len() {
            // No panic; without the MTU there is no link.
            let link = parse_link(&body[..len]);
            assert!(link.is_none() || len >= 36, "{len}");
        }
        for at in 16..body.len() {
            for value in [0, 1, 0xff] {
                let mut broken = body.clone();
                broken[at] = value;
                parse_link(&broken);
                parse_neighbour(&broken);
                let message = Message { kind: libc::RTM_NEWROUTE, flags: 0, sequence: 0, body: &broken };
                parse_route(message);
                event(message);
                assert!(messages(&broken).count() <= broken.len() / HEADER);
            }
        }
    }
}
