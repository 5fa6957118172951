//! Where the packet back ends of workers come from that are added later.

use std::io;
use warpline_pktio::Io;
#[cfg(target_os = "linux")]
use warpline_pktio::udp::{Export, Neighbour};

/// Opens packet back ends on one address and says which gets which packets.
pub trait Ports: Send {
    /// Opens the back end with this number: the next one, or one that was open before and is not any more. It gets
    /// nothing until a table names it.
    ///
    /// # Errors
    /// What the machine refused; `ResourceBusy` if there is no room before another one goes.
    fn open(&mut self, number: u16) -> io::Result<Io>;

    /// From now on packets of slot `i` go to back end `owners[i]`, as far as it is in the hands of the system. What
    /// arrives elsewhere is passed on between the workers.
    ///
    /// # Errors
    /// What the machine refused; the table before stays in force.
    fn steer(&mut self, owners: &[u16]) -> io::Result<()>;

    /// How many back ends have to stay: those with the lowest numbers.
    fn least(&self) -> usize {
        1
    }

    /// What another process needs to take over the address.
    ///
    /// # Errors
    /// `Unsupported` unless there is something to give.
    #[cfg(target_os = "linux")]
    fn export(&self) -> io::Result<Export> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// From now on another process serves the address, too, or none does any more.
    ///
    /// # Errors
    /// `Unsupported` unless that can be; otherwise as [`steer`](Self::steer).
    #[cfg(target_os = "linux")]
    fn share(&mut self, _neighbour: Option<Neighbour>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(target_os = "linux")]
impl Ports for warpline_pktio::xdp::Group {
    fn open(&mut self, number: u16) -> io::Result<Io> {
        Self::open(self, number)
    }

    fn steer(&mut self, owners: &[u16]) -> io::Result<()> {
        Self::steer(self, owners)
    }

    fn least(&self) -> usize {
        self.owners()
    }
}

#[cfg(target_os = "linux")]
impl Ports for warpline_pktio::udp::Group {
    fn open(&mut self, number: u16) -> io::Result<Io> {
        Self::open(self, number)
    }

    fn steer(&mut self, owners: &[u16]) -> io::Result<()> {
        Self::steer(self, owners)
    }

    fn export(&self) -> io::Result<Export> {
        Self::export(self)
    }

    fn share(&mut self, neighbour: Option<Neighbour>) -> io::Result<()> {
        Self::share(self, neighbour)
    }
}
