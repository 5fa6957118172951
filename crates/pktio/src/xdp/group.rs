//! The back ends of all workers on one interface, made together, and those that are added later.
//!
//! Worker `i` of the first ones owns the queues `i`, `i + workers`, …, for good: queues, their memory and the program are made as a
//! whole. All other workers are guests of the owners in turn, those of the beginning and those that come later.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::backend::Xdp;
use super::config::{XdpConfig, XdpStatus};
use super::device::{Device, Service};
use super::reception::Reception;
use crate::config::IoConfig;
use crate::io::Io;
use crate::kind::IoKind;
use crate::udp::socket::Bound;
use crate::udp::{self, Steering, Udp};

/// The place of one of the first workers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    /// Its number.
    index: usize,
    /// How many there are at first.
    workers: usize,
    /// How many there may be later.
    most: usize,
}

impl Seat {
    /// Those of the queues that it owns.
    pub(super) fn queues(self, all: &[u32]) -> Vec<u32> {
        all.iter().copied().skip(self.index).step_by(self.workers).collect()
    }

    /// For how many others it may have to send at a time, where there are so many queues.
    pub(super) fn guests(self, queues: usize) -> usize {
        let owners = self.workers.min(queues);
        // The guests are dealt out in turn.
        if self.index < owners { (owners..self.most).skip(self.index).step_by(owners).count() } else { 0 }
    }
}

/// An owner of queues, as whoever opens back ends sees it.
struct Owner {
    reception: Reception,
    /// As it was when it began.
    status: XdpStatus,
}

impl Xdp {
    /// One backend per worker, in the order of the workers. The number of workers stays.
    pub(crate) fn group(
        addr: SocketAddr,
        workers: u16,
        io_config: &IoConfig,
        config: XdpConfig,
        steering: &Steering,
    ) -> io::Result<Vec<Xdp>> {
        config.validate()?;
        let sockets = match workers {
            // A port of its own, which nobody else joins.
            1 => vec![Bound::new(addr, io_config, false)?],
            _ => Bound::group(addr, workers, io_config, steering)?,
        };
        let sockets: Vec<Arc<Bound>> = sockets.into_iter().map(Arc::new).collect();
        let Some(first) = sockets.first() else { return Ok(Vec::new()) };
        let device = Device::new(config, Service { bound: first.local_addr(), workers, steering: *steering });
        make(&Arc::new(device), &sockets, workers.into(), io_config).map(|(all, _)| all)
    }
}

/// The back ends of the first workers, and the ways in for guests. There may be up to `most` workers later.
fn make(
    device: &Arc<Device>,
    sockets: &[Arc<Bound>],
    most: usize,
    io_config: &IoConfig,
) -> io::Result<(Vec<Xdp>, Vec<Owner>)> {
    let (mut all, mut owners) = (Vec::with_capacity(sockets.len()), Vec::new());
    for (index, socket) in sockets.iter().enumerate() {
        let kernel = Udp::new(Arc::clone(socket), io_config, IoKind::Xdp)?;
        let seat = Seat { index, workers: sockets.len(), most };
        let mut xdp = Xdp::new(Arc::clone(device), kernel, Some(seat), io_config)?;
        let status = xdp.status().clone();
        if let Some(reception) = xdp.reception.take() {
            owners.push(Owner { reception, status });
        } else if xdp.status().queues.is_empty() {
            lodge(&mut xdp, &mut owners)?;
        }
        all.push(xdp);
    }
    Ok((all, owners))
}

/// Whether another guest finds room: fails with `ResourceBusy` if only later, and with `NotConnected` if never again.
fn look_for_room(owners: &mut [Owner]) -> io::Result<()> {
    if owners.iter_mut().any(|owner| owner.reception.room() > 0) {
        Ok(())
    } else if owners.iter().all(|owner| owner.reception.is_closed()) {
        let why = "the workers that owned the interface's queues have ended, and no other can receive for a new one";
        Err(io::Error::new(io::ErrorKind::NotConnected, why))
    } else {
        Err(io::ErrorKind::ResourceBusy.into())
    }
}

/// Makes a worker a guest of the owner that has the fewest, the first of them. Fails with `ResourceBusy` if none has room.
fn lodge(xdp: &mut Xdp, owners: &mut [Owner]) -> io::Result<()> {
    let free = owners.iter_mut().enumerate().filter_map(|(number, owner)| {
        let has_room = owner.reception.room() > 0;
        has_room.then_some((number, owner))
    });
    match free.min_by_key(|(number, owner)| (owner.reception.guests(), *number)) {
        Some((number, Owner { reception, status })) => xdp.stay_with(reception, number, status),
        None => Err(io::ErrorKind::ResourceBusy.into()),
    }
}

/// Opens the back ends of workers on one interface and port, those of the beginning and guests of them later.
///
/// The kernel's socket beside each back end is one of a [group](udp::Group), which is steered as one. What the interface brings
/// arrives at the owner of its queue whatever the slot: the kernel hands a packet to a socket of the queue that it came by or to
/// nobody.
pub struct Group {
    device: Arc<Device>,
    sockets: udp::Group,
    config: IoConfig,
    /// Of the first workers, those that were not asked for yet.
    first: VecDeque<Xdp>,
    owners: Vec<Owner>,
    /// How many of the first workers own queues.
    least: usize,
}

impl Group {
    /// Makes the back ends of as many workers as the range begins with; there may be as many as it ends with. Each queue is tried
    /// out with `try_out`. Fails as [`Io::xdp_group`].
    pub(crate) fn new(
        addr: SocketAddr,
        workers: RangeInclusive<u16>,
        io_config: &IoConfig,
        config: XdpConfig,
        steering: &Steering,
        try_out: bool,
    ) -> io::Result<Group> {
        config.validate()?;
        let mut sockets = udp::Group::new(addr, io_config, *steering);
        let bounds = (0..*workers.start()).map(|number| sockets.bound(number)).collect::<io::Result<Vec<_>>>()?;
        let bound = sockets.local_addr();
        let device = Arc::new(Device::new(config, Service { bound, workers: *workers.start(), steering: *steering }));
        let (mut first, owners) = make(&device, &bounds, (*workers.end()).into(), io_config)?;
        crate::select::explain_queues(&mut first, try_out)?;
        let least = first.iter().filter(|xdp| !xdp.status().queues.is_empty()).count();
        Ok(Group { device, sockets, config: *io_config, first: first.into(), owners, least })
    }

    /// The back end of worker `number`: of the first ones in their order, then guests. Fails with `ResourceBusy` if all places for
    /// guests are taken, with `NotConnected` if all owners of queues have ended, as binding and [`Io::xdp_group`] do, and with
    /// `InvalidInput` for a number beyond the next one.
    pub fn open(&mut self, number: u16) -> io::Result<Io> {
        if let Some(xdp) = self.first.pop_front() {
            return Ok(Io::Xdp(Box::new(xdp)));
        }
        // Before anything is made for it: who finds no room tries again.
        look_for_room(&mut self.owners)?;
        let socket = self.sockets.bound(number)?;
        let kernel = Udp::new(socket, &self.config, IoKind::Xdp)?;
        let mut xdp = Xdp::new(Arc::clone(&self.device), kernel, None, &self.config)?;
        lodge(&mut xdp, &mut self.owners)?;
        xdp.explain("added later");
        Ok(Io::Xdp(Box::new(xdp)))
    }

    /// From now on what the kernel's sockets get goes to the socket of number `owners[i]` if it is of slot `i`, as
    /// [`udp::Group::steer`] has it.
    pub fn steer(&mut self, owners: &[u16]) -> io::Result<()> {
        self.sockets.steer(owners)
    }

    /// How many of the first workers own queues: those with the lowest numbers. Without one of them its queues serve nobody.
    pub fn owners(&self) -> usize {
        self.least
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("sockets", &self.sockets).field("owners", &self.least).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_has_an_owner_and_every_guest_a_place() {
        for workers in 1..6_usize {
            for queues in 1..6_u32 {
                let all: Vec<u32> = (0..queues).collect();
                for most in workers..9 {
                    let seats = (0..workers).map(|index| Seat { index, workers, most });
                    let mut owned: Vec<u32> = seats.clone().flat_map(|seat| seat.queues(&all)).collect();
                    owned.sort_unstable();
                    assert_eq!(owned, all);
                    let places: Vec<usize> = seats.map(|seat| seat.guests(all.len())).collect();
                    let owners = workers.min(all.len());
                    assert_eq!(places.iter().sum::<usize>(), most - owners, "{workers} of {most} on {queues}");
                    let mean = (most - owners) / owners;
                    assert!(places[..owners].iter().all(|places| places.abs_diff(mean) <= 1), "{places:?}");
                    assert!(places[owners..].iter().all(|places| *places == 0));
                }
            }
        }
    }
}
