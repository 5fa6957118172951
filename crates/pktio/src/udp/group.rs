//! A group of sockets on one port that grows while traffic flows, and is steered by a table.

use std::fmt;
use std::io;
use std::net::SocketAddr;
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
pub struct Group {
    addr: SocketAddr,
    config: IoConfig,
    steering: Steering,
    sockets: Vec<Arc<Bound>>,
}

impl Group {
    /// A group at `addr`, which may leave the port to the system; nothing is bound yet.
    pub fn new(addr: SocketAddr, config: &IoConfig, steering: Steering) -> Group {
        Group { addr, config: *config, steering, sockets: Vec::new() }
    }

    /// A back end on socket `number`, which is one that nobody uses, or the next one. It is an io_uring if the
    /// configuration asks for that, otherwise plain system calls. Fails as binding does, and with `InvalidInput` for a
    /// number beyond the next one.
    pub fn open(&mut self, number: u16) -> io::Result<Io> {
        crate::select::check(&self.config)?;
        if usize::from(number) > self.sockets.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "sockets are opened in their order"));
        }
        if usize::from(number) == self.sockets.len() {
            let bound = Bound::new(self.addr, &self.config, true)?;
            self.addr = bound.local_addr();
            self.sockets.push(Arc::new(bound));
        }
        let bound = Arc::clone(&self.sockets[usize::from(number)]);
        let (io, why) = match self.config.backend {
            Backend::Uring => (Io::Uring(Box::new(Uring::new(bound, &self.config)?)), "asked for"),
            Backend::Udp => (Io::Udp(Box::new(Udp::new(bound, &self.config, IoKind::Udp)?)), "asked for"),
            Backend::Xdp => {
                let why = "workers that come and go cannot own queues of an interface: use another back end";
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
            Backend::Auto => {
                let io = Io::Udp(Box::new(Udp::new(bound, &self.config, IoKind::Udp)?));
                (io, "the fastest of those that workers can be added to")
            }
        };
        io.stats().explain(why);
        Ok(io)
    }

    /// How many sockets there are.
    pub fn opened(&self) -> usize {
        self.sockets.len()
    }

    /// From now on packets of slot `i` go to socket `owners[i]`. Each packet is steered by either the old or the new
    /// table. Fails with `InvalidInput` if the table has another length than there are slots or names a socket that was
    /// not opened, or as the kernel does.
    pub fn steer(&mut self, owners: &[u16]) -> io::Result<()> {
        match self.sockets.first() {
            Some(first) if owners.iter().all(|&owner| usize::from(owner) < self.sockets.len()) => {
                self.steering.attach_table(first.socket(), owners)
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "the table names a socket that was not opened")),
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("addr", &self.addr).field("opened", &self.opened()).finish_non_exhaustive()
    }
}
