//! Where the packet back ends of workers come from that are added later.

use std::io;
use warpline_pktio::Io;

/// Opens packet back ends on one address and says which gets which packets.
pub trait Ports: Send {
    /// Opens the back end with this number: the next one, or one that was open before and is not any more. It gets
    /// nothing until a table names it.
    ///
    /// # Errors
    /// What the machine refused.
    fn open(&mut self, number: u16) -> io::Result<Io>;

    /// From now on packets of slot `i` go to back end `owners[i]`, as far as it is in the hands of the system. What
    /// arrives elsewhere is passed on between the workers.
    ///
    /// # Errors
    /// What the machine refused; the table before stays in force.
    fn steer(&mut self, owners: &[u16]) -> io::Result<()>;
}

#[cfg(target_os = "linux")]
impl Ports for warpline_pktio::udp::Group {
    fn open(&mut self, number: u16) -> io::Result<Io> {
        Self::open(self, number)
    }

    fn steer(&mut self, owners: &[u16]) -> io::Result<()> {
        Self::steer(self, owners)
    }
}
