//! Where a datagram goes next: route, source address and neighbour, as the kernel would choose them.
//!
//! Routes are asked of the kernel once per pair of addresses and kept until anything that they depend on changes, so
//! every table, rule and metric is honoured without being understood here. Neighbours and links are mirrored. What does
//! not leave by the own interface (or a VLAN on it) is left to the kernel's socket.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use foldhash::quality::RandomState;
use warpline_wire::net::{IPV4_LEN, IPV6_LEN, Mac, Peer, Template, UDP_LEN, VLAN_TAGS_MAX, VlanTag};

use super::netlink::{Event, LinkInfo, NeighbourInfo, NeighbourState, Netlink, RouteInfo, RouteKind};
use crate::limits::{XDP_NEIGHBOURS_MAX, XDP_PATHS_MAX};

/// TTL and hop limit where neither route nor system says (RFC 1700 recommends it).
const HOP_LIMIT: u8 = 64;

/// A pair of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PathKey {
    remote: IpAddr,
    scope: u32,
    local: Option<IpAddr>,
}

/// A host on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct NeighbourKey {
    pub(super) ifindex: u32,
    pub(super) address: IpAddr,
}

/// What is known of the way between a pair of addresses.
#[derive(Debug)]
struct Path {
    /// Of the tables of neighbours that it was made with.
    epoch: u64,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// By the own interface.
    Out(Box<Out>),
    /// The kernel's.
    Kernel,
    /// There is none.
    Nowhere,
    /// The kernel had no answer, for want of memory for instance. It has the datagram, and is asked again for the next one.
    Unknown,
}

#[derive(Debug)]
struct Out {
    neighbour: NeighbourKey,
    template: Template,
    payload_max: usize,
    /// Whether the next hop's MAC address is in the template.
    known: bool,
}

/// What to do with a datagram.
#[derive(Debug)]
pub(super) enum Verdict<'a> {
    /// Send it with these headers if it has at most so many bytes.
    Send { template: &'a Template, payload_max: usize },
    /// Keep it until the neighbour is known.
    Wait { neighbour: NeighbourKey, payload_max: usize },
    /// Let the kernel's socket send it.
    Kernel,
    /// Drop it: no route, or the next hop does not answer.
    Nowhere,
}

/// What changed since the last look, for the owner of the socket.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Changes {
    /// The interface went, came, or changed.
    pub(super) link: bool,
    /// Own addresses that came (true) or went.
    pub(super) addresses: Vec<(IpAddr, bool)>,
    /// Neighbours that are known now, or given up.
    pub(super) neighbours: Vec<NeighbourKey>,
}

/// The tables of one worker.
pub(super) struct Router {
    events: Netlink,
    requests: Netlink,
    name: String,
    /// The interface, and all that VLANs on it may hang from.
    links: HashMap<u32, LinkInfo>,
    own: Option<u32>,
    /// The addresses of this host, and on which interface each is.
    addresses: HashSet<(IpAddr, u32)>,
    /// The same without the interfaces.
    own_addresses: HashSet<IpAddr, RandomState>,
    neighbours: HashMap<NeighbourKey, NeighbourState>,
    /// Where each pair of addresses is in `paths`. The hash is seeded, since strangers choose the addresses.
    index: HashMap<PathKey, usize, RandomState>,
    paths: Vec<Path>,
    /// The pair of the last packet, and its place: several packets to one peer are often sent together.
    last: Option<(PathKey, usize)>,
    epoch: u64,
    port: u16,
    flow_labels: RandomState,
}

impl Router {
    /// Reads the tables for the interface of that name. Fails with `NotFound` if there is none, or as netlink does.
    pub(super) fn new(name: &str, port: u16) -> io::Result<Router> {
        // Events first: what changes during the dump is seen afterwards.
        let mut router = Router {
            events: Netlink::events()?,
            requests: Netlink::requests()?,
            name: name.to_owned(),
            links: HashMap::new(),
            own: None,
            addresses: HashSet::new(),
            own_addresses: HashSet::default(),
            neighbours: HashMap::new(),
            index: HashMap::default(),
            paths: Vec::new(),
            last: None,
            epoch: 0,
            port,
            flow_labels: RandomState::default(),
        };
        router.reload(&mut Changes::default())?;
        Ok(router)
    }

    /// Packets leave from another port from now on.
    pub(super) fn set_port(&mut self, port: u16) {
        self.port = port;
        self.forget_paths();
    }

    /// What to wait on: readable when something changed.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.events)
    }

    /// The interface; `None` while it does not exist.
    pub(super) fn link(&self) -> Option<&LinkInfo> {
        self.links.get(&self.own?)
    }

    /// Whether this host has the address.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.own_addresses.contains(&address)
    }

    /// All addresses of this host.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.own_addresses.iter().copied()
    }

    /// Takes in what changed.
    pub(super) fn update(&mut self) -> io::Result<Changes> {
        let mut changes = Changes::default();
        let mut waiting = Vec::new();
        let complete = self.events.poll(|event| waiting.push(event))?;
        for event in waiting {
            self.apply(event, &mut changes);
        }
        if !complete {
            self.reload(&mut changes)?;
        }
        Ok(changes)
    }

    /// Reads everything again.
    fn reload(&mut self, changes: &mut Changes) -> io::Result<()> {
        let before = std::mem::take(&mut self.own_addresses);
        self.addresses.clear();
        (self.links, self.neighbours, self.own) = (HashMap::new(), HashMap::new(), None);
        for kind in [libc::RTM_GETLINK, libc::RTM_GETADDR, libc::RTM_GETNEIGH] {
            let mut all = Vec::new();
            self.requests.dump(kind, |event| all.push(event))?;
            for event in all {
                self.apply(event, changes);
            }
        }
        self.forget_paths();
        changes.link = true;
        changes.addresses.extend(before.difference(&self.own_addresses).map(|&address| (address, false)));
        Ok(())
    }

    fn apply(&mut self, event: Event, changes: &mut Changes) {
        match event {
            Event::Link(link) => {
                if link.name == self.name {
                    self.own = Some(link.index);
                    changes.link = true;
                } else if self.own == Some(link.index) {
                    // Renamed: it is another interface now.
                    self.own = None;
                    changes.link = true;
                }
                if self.links.get(&link.index) != Some(&link) {
                    self.links.insert(link.index, link);
                    self.forget_paths();
                }
            }
            Event::LinkGone(index) => {
                if self.own == Some(index) {
                    self.own = None;
                    changes.link = true;
                }
                self.links.remove(&index);
                self.neighbours.retain(|key, _| key.ifindex != index);
                self.forget_paths();
            }
            Event::Address { address, ifindex, present } => {
                let changed = if present {
                    self.addresses.insert((address, ifindex))
                } else {
                    self.addresses.remove(&(address, ifindex))
                };
                if changed {
                    let held = self.addresses.iter().any(|&(held, _)| held == address);
                    if held {
                        self.own_addresses.insert(address);
                    } else {
                        self.own_addresses.remove(&address);
                    }
                    changes.addresses.push((address, held));
                    self.forget_paths();
                }
            }
            Event::Neighbour(NeighbourInfo { ifindex, address, state }) => {
                let key = NeighbourKey { ifindex, address };
                if self.neighbours.len() < XDP_NEIGHBOURS_MAX || self.neighbours.contains_key(&key) {
                    self.neighbours.insert(key, state);
                }
                self.epoch += 1;
                if state != NeighbourState::Unknown {
                    changes.neighbours.push(key);
                }
            }
            Event::NeighbourGone { ifindex, address } => {
                self.neighbours.remove(&NeighbourKey { ifindex, address });
                self.epoch += 1;
            }
            Event::Routes => self.forget_paths(),
        }
    }

    fn forget_paths(&mut self) {
        self.index.clear();
        self.paths.clear();
        self.last = None;
    }

    /// Where a datagram to `remote` goes, from `local` if that is given.
    #[inline]
    pub(super) fn resolve(&mut self, remote: SocketAddr, local: Option<IpAddr>) -> Verdict<'_> {
        let scope = match remote {
            SocketAddr::V6(v6) => v6.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        let key = PathKey { remote: remote.ip(), scope, local };
        let known = match self.last {
            Some((last, at)) if last == key => Some(at),
            _ => self.index.get(&key).copied(),
        };
        let at = match known {
            Some(at) if self.paths[at].epoch == self.epoch => at,
            _ => self.look_up(key, known),
        };
        self.last = Some((key, at));
        match &self.paths[at].way {
            Way::Out(out) => {
                let Out { neighbour, ref template, payload_max, known } = **out;
                if known { Verdict::Send { template, payload_max } } else { Verdict::Wait { neighbour, payload_max } }
            }
            Way::Kernel | Way::Unknown => Verdict::Kernel,
            Way::Nowhere => Verdict::Nowhere,
        }
    }

    /// Makes the entry of a path, or renews the one that it has; its place.
    #[cold]
    fn look_up(&mut self, key: PathKey, known: Option<usize>) -> usize {
        if known.is_none() && self.paths.len() >= XDP_PATHS_MAX {
            self.forget_paths();
        }
        let mut way = known.map_or(Way::Unknown, |at| std::mem::replace(&mut self.paths[at].way, Way::Unknown));
        if matches!(way, Way::Unknown) {
            way = self.find_way(key);
        }
        if let Way::Out(out) = &mut way {
            out.known = self.ask_neighbour(out.neighbour, &mut out.template);
        }
        // Of an epoch before, an entry is renewed at once.
        let epoch = if matches!(way, Way::Unknown) { self.epoch.wrapping_sub(1) } else { self.epoch };
        let path = Path { epoch, way };
        match known {
            Some(at) => {
                self.paths[at] = path;
                at
            }
            None => {
                self.paths.push(path);
                self.index.insert(key, self.paths.len() - 1);
                self.paths.len() - 1
            }
        }
    }

    /// Fills in the next hop's MAC address; false if it is not known yet.
    ///
    /// The kernel does not see what is sent here, so it has to be told that a neighbour is in use: otherwise it would
    /// neither look for it nor check one that it has not heard of for long.
    fn ask_neighbour(&mut self, key: NeighbourKey, template: &mut Template) -> bool {
        let asked = match self.neighbours.get(&key) {
            Some(&NeighbourState::Known { mac, stale }) => {
                template.set_next_hop(mac);
                if !stale {
                    return true;
                }
                NeighbourState::Known { mac, stale: false }
            }
            Some(NeighbourState::Unknown) => return false,
            // What has failed is tried again when there is something to send, as the kernel does.
            Some(NeighbourState::Failed) | None => NeighbourState::Unknown,
        };
        match self.requests.use_neighbour(key.ifindex, key.address) {
            Ok(()) if self.neighbours.len() < XDP_NEIGHBOURS_MAX => drop(self.neighbours.insert(key, asked)),
            Ok(()) => (),
            // It shows as a neighbour that stays unknown; what waits for it is dropped in time.
            Err(error) => tracing::debug!(address = %key.address, %error, "the kernel does not look for a neighbour"),
        }
        asked != NeighbourState::Unknown
    }

    /// Asks the kernel for a route.
    fn find_way(&mut self, key: PathKey) -> Way {
        let route = match self.requests.route(key.remote, key.local, key.scope) {
            Ok(route) => route,
            Err(error) => {
                tracing::debug!(to = %key.remote, %error, "the kernel does not say where a datagram goes");
                return Way::Unknown;
            }
        };
        match route.kind {
            RouteKind::Unreachable => Way::Nowhere,
            RouteKind::Other => Way::Kernel,
            RouteKind::Unicast => self.out(key, &route).map_or(Way::Kernel, |out| Way::Out(Box::new(out))),
        }
    }

    /// The headers for a route by the own interface; `None` if it goes another way.
    fn out(&self, key: PathKey, route: &RouteInfo) -> Option<Out> {
        let (vlans, mac) = self.tags(route.ifindex)?;
        let source = key.local.or(route.source)?;
        let next_hop = route.gateway.unwrap_or(key.remote);
        let link = self.links.get(&route.ifindex)?;
        let ip_len = if key.remote.is_ipv4() { IPV4_LEN } else { IPV6_LEN };
        let mtu = if route.mtu == 0 { link.mtu } else { link.mtu.min(route.mtu) };
        let peer = Peer {
            source_mac: mac,
            next_hop_mac: Mac::default(),
            vlans,
            source: SocketAddr::new(source, self.port),
            destination: key.remote,
            hop_limit: if route.hop_limit == 0 { HOP_LIMIT } else { route.hop_limit },
            flow_label: self.flow_label(source, key.remote),
        };
        Some(Out {
            neighbour: NeighbourKey { ifindex: route.ifindex, address: next_hop },
            template: Template::new(&peer)?,
            payload_max: mtu.saturating_sub(ip_len + UDP_LEN),
            known: false,
        })
    }

    /// The tags with which an interface's packets leave by the own one, outermost first, and its MAC address.
    fn tags(&self, ifindex: u32) -> Option<([Option<VlanTag>; VLAN_TAGS_MAX], Mac)> {
        let own = self.own?;
        let mac = self.links.get(&ifindex)?.mac;
        let (mut tags, mut at) = ([None; VLAN_TAGS_MAX], ifindex);
        for _ in 0..=VLAN_TAGS_MAX {
            if at == own {
                return Some((tags, mac));
            }
            let (below, ethertype, id) = self.links.get(&at)?.vlan?;
            if tags[VLAN_TAGS_MAX - 1].is_some() {
                return None;
            }
            tags.rotate_right(1);
            tags[0] = Some(VlanTag { ethertype, id });
            at = below;
        }
        None
    }

    /// One label per pair of addresses, as RFC 6437 section 3 asks, and not to be guessed.
    fn flow_label(&self, source: IpAddr, destination: IpAddr) -> u32 {
        (self.flow_labels.hash_one((source, destination)) as u32 & 0xf_ffff).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, vlan: Option<(u32, u16, u16)>) -> Event {
        let mac = [2, 0, 0, 0, 0, index as u8];
        let (up, mtu, rx_queues, xdp_program) = (true, 1500, 1, None);
        Event::Link(LinkInfo { index, name: name.to_owned(), up, mac, mtu, rx_queues, xdp_program, vlan })
    }

    fn router(events: impl IntoIterator<Item = Event>) -> Router {
        let mut router = Router::new("wl-test", 4433).expect("netlink needs no privilege");
        for event in events {
            router.apply(event, &mut Changes::default());
        }
        router
    }

    #[test]
    fn tags_stand_in_the_order_of_the_wire() {
        let (ctag, stag) = (0x8100, 0x88a8);
        let router = router([
            link(9001, "wl-test", None),
            link(9002, "wl-other", None),
            link(9003, "v5", Some((9001, ctag, 5))),
            link(9004, "q100", Some((9001, stag, 100))),
            link(9005, "q100.7", Some((9004, ctag, 7))),
            link(9006, "deep", Some((9005, ctag, 8))),
            link(9007, "elsewhere", Some((9002, ctag, 5))),
        ]);
        let tag = |ethertype, id| Some(VlanTag { ethertype, id });
        let mac = |last| [2, 0, 0, 0, 0, last];
        assert_eq!(router.tags(9001), Some(([None, None], mac(9001u32 as u8))));
        assert_eq!(router.tags(9003), Some(([tag(ctag, 5), None], mac(9003u32 as u8))));
        assert_eq!(router.tags(9005), Some(([tag(stag, 100), tag(ctag, 7)], mac(9005u32 as u8))));
        assert_eq!(router.tags(9006), None, "three tags are the kernel's business");
        assert_eq!(router.tags(9007), None, "it hangs from another interface");
        assert_eq!(router.tags(9002), None);
        assert_eq!(router.tags(1234), None);
    }

    #[test]
    fn a_link_that_is_renamed_or_goes_is_not_ours_any_more() {
        let mut router = router([link(9001, "wl-test", None)]);
        assert_eq!(router.link().map(|link| link.index), Some(9001));
        let mut changes = Changes::default();
        router.apply(link(9001, "wl-renamed", None), &mut changes);
        assert!(router.link().is_none() && changes.link);
        router.apply(link(9002, "wl-test", None), &mut changes);
        assert_eq!(router.link().map(|link| link.index), Some(9002));
        router.apply(Event::LinkGone(9002), &mut changes);
        assert!(router.link().is_none());
    }

    #[test]
    fn a_way_that_could_not_be_found_out_is_asked_for_again() {
        let mut router = router([]);
        let to = SocketAddr::new("127.0.0.1".parse().expect("a literal"), 443);
        // Nobody there knows of routes.
        let good = std::mem::replace(&mut router.requests, Netlink::generic().expect("netlink needs no privilege"));
        for _ in 0..2 {
            assert!(matches!(router.resolve(to, None), Verdict::Kernel), "it is not lost meanwhile");
            assert!(matches!(router.paths[0].way, Way::Unknown));
        }
        router.requests = good;
        assert!(matches!(router.resolve(to, None), Verdict::Kernel));
        assert!(matches!(router.paths[0].way, Way::Kernel), "loopback is not ours");
        assert_eq!((router.paths.len(), router.paths[0].epoch), (1, router.epoch));
    }

    #[test]
    fn an_address_is_own_as_long_as_one_interface_has_it() {
        let mut router = router([]);
        let address: IpAddr = "192.0.2.77".parse().expect("a literal");
        let mut changes = Changes::default();
        for (ifindex, present, own) in
            [(1, true, true), (2, true, true), (1, true, true), (1, false, true), (2, false, false)]
        {
            router.apply(Event::Address { address, ifindex, present }, &mut changes);
            assert_eq!(router.is_own(address), own);
        }
        assert_eq!(changes.addresses.last(), Some(&(address, false)));
    }

    #[test]
    fn what_is_remembered_of_neighbours_follows_the_kernel() {
        let mut router = router([link(9001, "wl-test", None)]);
        let address: IpAddr = "192.0.2.1".parse().expect("a literal");
        let key = NeighbourKey { ifindex: 9001, address };
        let mut changes = Changes::default();
        let known = NeighbourState::Known { mac: [1; 6], stale: false };
        for state in [NeighbourState::Unknown, known, NeighbourState::Failed] {
            router.apply(Event::Neighbour(NeighbourInfo { ifindex: 9001, address, state }), &mut changes);
        }
        assert_eq!(changes.neighbours, [key, key], "those that wait hear of the answer and of the failure");
        router.apply(Event::LinkGone(9001), &mut changes);
        assert!(!router.neighbours.contains_key(&key));
    }
}
