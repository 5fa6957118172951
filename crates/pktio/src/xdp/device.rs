//! What the workers of one interface share: the program, its maps and its link.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::MutexGuard;

use warpline_ring::Lock;

use super::bpf::{Hook, Link, Map, MapKind, Program, set_socket};
use super::config::{InterfaceName, XdpConfig, XdpModes};
use super::ethtool;
use super::netlink::LinkInfo;
use super::program::{MapFds, Shape, assemble};
use crate::limits::{XDP_ADDRESSES_MAX, XDP_QUEUES_MAX};
use crate::udp::Steering;

/// Bytes of a packet that fit one frame of 4 KiB besides the kernel's headroom and, on virtual interfaces, its own
/// record at the end; larger ones need several buffers.
pub(super) const SINGLE_BUFFER_MTU: usize = 3498;

/// An interface, for all workers.
pub(super) struct Device {
    config: XdpConfig,
    port: u16,
    /// The address that is bound to; `None` if it is a wildcard.
    bound: Option<IpAddr>,
    /// Whether a wildcard means IPv4 only.
    only_ipv4: bool,
    workers: u32,
    steering: Steering,
    attached: Lock<Option<Attached>>,
}

/// The program on an interface.
struct Attached {
    ifindex: u32,
    loaded: Loaded,
    hook: Hook,
    why: String,
    link: Link,
}

/// The program and its maps.
struct Loaded {
    shape: Shape,
    queues: Vec<u32>,
    sockets: Map,
    addresses: Map,
    /// Held for the program only.
    _slots: Map,
    program: Program,
}

/// What a worker has to know of the attachment.
#[derive(Debug, Clone)]
pub(super) struct Attachment {
    pub(super) ifindex: u32,
    /// The queues that are served, lowest first.
    pub(super) queues: Vec<u32>,
    pub(super) hook: Hook,
    /// Why the program is where it is.
    pub(super) why: String,
}

/// What is to be served.
#[derive(Debug, Clone, Copy)]
pub(super) struct Service {
    pub(super) bound: std::net::SocketAddr,
    pub(super) workers: u16,
    pub(super) steering: Steering,
}

impl Device {
    pub(super) fn new(config: XdpConfig, service: Service) -> Device {
        let ip = service.bound.ip();
        Device {
            config,
            port: service.bound.port(),
            bound: Some(ip).filter(|ip| !ip.is_unspecified()),
            only_ipv4: ip.is_ipv4(),
            workers: service.workers.into(),
            steering: service.steering,
            attached: Lock::new(None),
        }
    }

    pub(super) fn config(&self) -> &XdpConfig {
        &self.config
    }

    fn lock(&self) -> MutexGuard<'_, Option<Attached>> {
        self.attached.lock()
    }

    /// Attaches the program, unless it is on this interface already. Fails with `ResourceBusy` if there is a foreign one.
    pub(super) fn attach(&self, link: &LinkInfo) -> io::Result<Attachment> {
        let mut attached = self.lock();
        if attached.as_ref().is_none_or(|attached| attached.ifindex != link.index) {
            // The old link goes first: the interface may have been renamed.
            *attached = None;
            *attached = Some(self.make(link)?);
        }
        let Some(Attached { ifindex, loaded, hook, why, .. }) = &*attached else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        Ok(Attachment { ifindex: *ifindex, queues: loaded.queues.clone(), hook: *hook, why: why.clone() })
    }

    fn make(&self, link: &LinkInfo) -> io::Result<Attached> {
        let loaded = self.load(link)?;
        let (attachment, hook, why) = self.hook(&loaded.program, link)?;
        Ok(Attached { ifindex: link.index, loaded, hook, why, link: attachment })
    }

    /// Serves another port or address from now on, if this is the only worker; the program changes in one step. What is not
    /// attached now will be as if it had always been so. The sockets and addresses have to be entered again. Fails as loading
    /// does; all stays as it was then.
    pub(super) fn move_to(&self, bound: std::net::SocketAddr, link: Option<&LinkInfo>) -> io::Result<Device> {
        let service = Service { bound, workers: 1, steering: self.steering };
        let moved = Device::new(self.config, service);
        let mut attached = self.lock();
        if let Some((from, link)) = attached.as_mut().zip(link)
            && from.ifindex == link.index
        {
            let loaded = moved.load(link)?;
            loaded.program.replace_in(&from.link)?;
            from.loaded = loaded;
            *moved.lock() = attached.take();
        }
        drop(attached);
        Ok(moved)
    }

    /// Whether several workers share the port.
    pub(super) fn is_shared(&self) -> bool {
        self.workers > 1
    }

    fn load(&self, link: &LinkInfo) -> io::Result<Loaded> {
        if link.vlan.is_some() {
            let what = format!("{} is a VLAN: name the interface below it, whose VLANs are served too", link.name);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let queues = self.queues(link)?;
        let Steering { key_offset, slots } = self.steering;
        // Those between that are not served have no socket in their row.
        let rows = queues.last().map_or(0, |last| last + 1);
        let shape = Shape { ports: vec![self.port], queues: rows, workers: self.workers, key_offset, slots };
        let sockets = Map::new(MapKind::Sockets, "warpline_socks", (4, 4), shape.sockets())?;
        let addresses = Map::new(MapKind::Hash, "warpline_addrs", (16, 4), XDP_ADDRESSES_MAX)?;
        let columns: Vec<u8> =
            (0..u32::from(slots)).flat_map(|slot| ((slot % self.workers) as u16).to_ne_bytes()).collect();
        let table = Map::new(MapKind::Array, "warpline_slots", (4, u32::from(slots) * 2), 1)?;
        table.set(&[0; 4], &columns)?;
        let fds = MapFds { sockets: sockets.as_fd(), addresses: addresses.as_fd(), slots: table.as_fd() };
        let program = Program::load(&assemble(&shape, fds), link.mtu > SINGLE_BUFFER_MTU)?;
        Ok(Loaded { shape, queues, sockets, addresses, _slots: table, program })
    }

    /// The queues to serve, lowest first. Where there are fewer than workers, some share one.
    fn queues(&self, link: &LinkInfo) -> io::Result<Vec<u32>> {
        let refuse = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        let there = queues(self.config.interface, link);
        let served: Vec<u32> = match self.config.queues {
            Some(set) => set.iter().collect(),
            None => (0..there).collect(),
        };
        if let Some(missing) = served.iter().find(|queue| **queue >= there) {
            return refuse(format!("{} has no queue {missing}: it has {there}, counted from 0", link.name));
        }
        Ok(served)
    }

    /// Attaches where the modes allow it, in the driver if possible.
    fn hook(&self, program: &Program, link: &LinkInfo) -> io::Result<(Link, Hook, String)> {
        let busy = |error: io::Error| match error.raw_os_error() {
            Some(libc::EBUSY | libc::EEXIST) => {
                let which = link.xdp_program.map_or(String::new(), |id| format!(" (number {id})"));
                let what = format!(
                    "another XDP program{which} is attached to {}: `ip link set {} xdp off` removes it",
                    link.name, link.name
                );
                io::Error::new(io::ErrorKind::ResourceBusy, what)
            }
            _ => error,
        };
        let generic = |why: String| {
            let attached = program.attach(link.index, Hook::Generic).map_err(busy)?;
            Ok((attached, Hook::Generic, why))
        };
        if self.config.modes == XdpModes::Generic {
            return generic("generic mode was asked for".to_owned());
        }
        match program.attach(link.index, Hook::Native) {
            Ok(attached) => Ok((attached, Hook::Native, "the driver runs XDP programs".to_owned())),
            Err(error) if self.config.modes == XdpModes::Best && lacks(&error) => {
                generic(format!("the driver does not run this XDP program ({error})"))
            }
            Err(error) => Err(busy(error)),
        }
    }

    /// Enters a worker's socket for a queue: for its own packets, for those without a key, and for those of workers
    /// whose packets it hands over.
    pub(super) fn register(&self, ifindex: u32, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let attached = self.lock();
        let Some(attached) = attached.as_ref().filter(|attached| attached.ifindex == ifindex) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let columns = attached.loaded.shape.columns();
        (0..columns).try_for_each(|column| set_socket(&attached.loaded.sockets, queue * columns + column, socket))
    }

    /// Whether packets to an address of this host are ours.
    pub(super) fn serves(&self, address: IpAddr) -> bool {
        let wanted = match self.bound {
            Some(bound) => bound == address,
            None => address.is_ipv4() || !self.only_ipv4,
        };
        wanted && !address.is_loopback()
    }

    /// Runs the program on a packet, as [`Program::run_on`] says.
    pub(super) fn run_on(&self, packet: &[u8], ifindex: u32) -> io::Result<()> {
        match self.lock().as_ref() {
            Some(attached) => attached.loaded.program.run_on(packet, ifindex),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// An address of this host came or went. Only those that are bound to are served.
    pub(super) fn set_address(&self, address: IpAddr, present: bool) -> io::Result<()> {
        if !self.serves(address) {
            return Ok(());
        }
        let attached = self.lock();
        let Some(Attached { loaded, .. }) = attached.as_ref() else { return Ok(()) };
        let key = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        if present { loaded.addresses.set(&key, &[0; 4]) } else { loaded.addresses.remove(&key) }
    }
}

/// The driver has no hook for programs, or not for this one (packets larger than its buffers).
fn lacks(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE | libc::E2BIG))
}

/// Queues that are in use.
fn queues(interface: InterfaceName, link: &LinkInfo) -> u32 {
    let channels = ethtool::channels(interface).map(|channels| channels.rx).unwrap_or(0);
    let queues = if channels == 0 { link.rx_queues } else { channels };
    queues.clamp(1, XDP_QUEUES_MAX)
}
