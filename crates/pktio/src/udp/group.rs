//! A group of sockets on one port that grows while traffic flows, and is steered by a table.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::Udp;
use super::socket::Bound;
use super::steering::Steering;
use crate::config::{Backend, IoConfig};
use crate::io::Io;
use crate::kind::IoKind;
use crate::uring::Uring;

/// Opens sockets on one port, one after the other, and tells the kernel which gets which packets.
///
/// A socket that was opened gets nothing until a [table](Self::steer) names it. It stays open as long as the group, so
/// that it can be used again: dropping its [`Io`] frees everything but the socket.
///
/// Two processes may have one group: one [exports](Self::export) the sockets, the other [adopts](Self::adopt) them and
/// binds what it needs beyond. Each process has a table of its own, and the [mark](Neighbour::mark) in an ID says whose it is.
pub struct Group {
    addr: SocketAddr,
    config: IoConfig,
    steering: Steering,
    /// In the kernel's order.
    sockets: Vec<Arc<Bound>>,
    /// The socket of each number.
    places: Vec<u16>,
    /// The socket of each slot.
    table: Vec<u16>,
    neighbour: Option<Neighbour>,
    /// What was tried before, and why it is not to be had.
    slower: String,
}

/// The other process that has sockets in the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The lowest bit of the byte before the partition key in the IDs that it issues. Ours have the other one.
    pub mark: bool,
    /// The socket of each slot in its table, by position in the group.
    pub table: Vec<u16>,
    /// The sockets that it uses, by position in the group.
    pub used: Vec<u16>,
    /// It gets all packets with long headers.
    pub takes_long: bool,
}

/// What another process needs to join a group.
#[derive(Debug)]
pub struct Export {
    /// The sockets in their order.
    pub sockets: Vec<OwnedFd>,
    /// The socket of each slot.
    pub table: Vec<u16>,
    /// The sockets that are in use.
    pub used: Vec<u16>,
}

impl Group {
    /// A group at `addr`, which may leave the port to the system; nothing is bound yet.
    pub fn new(addr: SocketAddr, config: &IoConfig, steering: Steering) -> Group {
        let (sockets, places, table) = (Vec::new(), Vec::new(), Vec::new());
        let slower = String::new();
        Group { addr, config: *config, steering, sockets, places, table, neighbour: None, slower }
    }

    /// Joins the group of another process, all of whose sockets these are, in their order. The kernel goes on to steer as it did until
    /// [`share`](Self::share). Fails with `InvalidInput` without sockets, or if one is no UDP socket.
    pub fn adopt(sockets: Vec<OwnedFd>, config: &IoConfig, steering: Steering) -> io::Result<Group> {
        let sockets: Vec<_> =
            sockets.into_iter().map(|fd| Bound::adopt(fd).map(Arc::new)).collect::<io::Result<_>>()?;
        let Some(first) = sockets.first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a group has at least one socket"));
        };
        let addr = first.local_addr();
        if sockets.iter().any(|socket| socket.local_addr() != addr) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the sockets of a group have one address"));
        }
        Ok(Group { addr, sockets, ..Group::new(addr, config, steering) })
    }

    /// The same, which says of its back ends that something else was tried before.
    pub(crate) fn instead(self, slower: String) -> Group {
        Group { slower, ..self }
    }

    /// What another process needs to join. Fails if descriptors cannot be copied.
    pub fn export(&self) -> io::Result<Export> {
        let sockets = self.sockets.iter().map(|bound| bound.socket().as_fd().try_clone_to_owned());
        let sockets = sockets.collect::<io::Result<_>>()?;
        Ok(Export { sockets, table: self.table.clone(), used: self.places.clone() })
    }

    /// The address, with the port once there is a socket.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on another process has a part of the group, or none has any more. Sockets that it used are ours to use
    /// after that. Fails as [`steer`](Self::steer).
    pub fn share(&mut self, neighbour: Option<Neighbour>) -> io::Result<()> {
        self.neighbour = neighbour;
        if self.table.is_empty() { Ok(()) } else { self.attach() }
    }

    /// The socket that `number` has, or gets: one that nobody uses, or a new one.
    fn place(&mut self, number: u16) -> io::Result<u16> {
        if let Some(place) = self.places.get(usize::from(number)) {
            return Ok(*place);
        }
        if usize::from(number) > self.places.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "sockets are opened in their order"));
        }
        let theirs = self.neighbour.as_ref().map_or(&[][..], |neighbour| &neighbour.used);
        let is_free = |place: &u16| !self.places.contains(place) && !theirs.contains(place);
        let next = u16::try_from(self.sockets.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let place = (0..next).find(is_free).unwrap_or(next);
        if place == next {
            let bound = Bound::new(self.addr, &self.config, true)?;
            self.addr = bound.local_addr();
            self.sockets.push(Arc::new(bound));
        }
        self.places.push(place);
        Ok(place)
    }

    /// Socket `number`, which is one that nobody uses, or the next one. Fails as [`open`](Self::open).
    pub(crate) fn bound(&mut self, number: u16) -> io::Result<Arc<Bound>> {
        let place = self.place(number)?;
        Ok(Arc::clone(&self.sockets[usize::from(place)]))
    }

    /// A back end on socket `number`, which is one that nobody uses, or the next one. It is an io_uring if the
    /// configuration asks for that, otherwise plain system calls. Fails as binding does, and with `InvalidInput` for a
    /// number beyond the next one.
    pub fn open(&mut self, number: u16) -> io::Result<Io> {
        crate::select::check(&self.config)?;
        let bound = self.bound(number)?;
        let (io, why) = match self.config.backend {
            Backend::Uring => (Io::Uring(Box::new(Uring::new(bound, &self.config)?)), "asked for"),
            Backend::Udp => (Io::Udp(Box::new(Udp::new(bound, &self.config, IoKind::Udp)?)), "asked for"),
            Backend::Xdp => {
                let why = "AF_XDP has no readers, and its queues do not go to another process: use another back end";
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
            Backend::Auto => {
                let io = Io::Udp(Box::new(Udp::new(bound, &self.config, IoKind::Udp)?));
                (io, "the fastest of those that workers can be added to")
            }
        };
        io.stats().explain(&format!("{}{why}", self.slower));
        Ok(io)
    }

    /// How many sockets there are, those of another process included.
    pub fn opened(&self) -> usize {
        self.sockets.len()
    }

    /// From now on packets of slot `i` go to the socket of number `owners[i]`. Each packet is steered by either the old or
    /// the new table. Fails with `InvalidInput` if the table has another length than there are slots or names a number
    /// that was not opened, or as the kernel does.
    pub fn steer(&mut self, owners: &[u16]) -> io::Result<()> {
        let place = |owner: &u16| self.places.get(usize::from(*owner)).copied();
        let Some(table) = owners.iter().map(place).collect::<Option<Vec<u16>>>() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the table names a socket that was not opened"));
        };
        let before = std::mem::replace(&mut self.table, table);
        self.attach().inspect_err(|_| self.table = before)
    }

    fn attach(&self) -> io::Result<()> {
        let Some(first) = self.sockets.first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no socket to steer to"));
        };
        match &self.neighbour {
            None => self.steering.attach_table(first.socket(), &self.table),
            Some(Neighbour { mark, table, takes_long, .. }) => {
                let tables = if *mark { [&self.table[..], table] } else { [&table[..], &self.table] };
                self.steering.attach_two(first.socket(), tables, takes_long.then_some(*mark))
            }
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("addr", &self.addr).field("opened", &self.opened()).finish_non_exhaustive()
    }
}
