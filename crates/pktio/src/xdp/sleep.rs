//! How a worker sleeps: by poll(2), or by an io_uring in which its descriptors stay registered.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use io_uring::{opcode, types::Fd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::config::XdpWakeups;
use crate::uring::ring::Ring;

/// Descriptors of a worker that a ring takes; one with more sleeps by poll(2).
const RING_FDS_MAX: usize = 64;
/// Descriptors at the beginning of which it is told whether they were ready.
const TOLD: usize = 3;
/// The token of cancellations.
const CANCEL: u64 = u64::MAX;

/// The way of sleeping.
pub(super) enum Sleep {
    /// By poll(2). With `sends`, packets may be left for that call to send.
    Poll { sends: bool },
    /// By an io_uring.
    Ring(Box<Registered>),
}

/// Descriptors in a ring, by their places.
pub(super) struct Registered {
    ring: Ring,
    /// Bit n: the n-th is registered for reading, and nothing has come.
    armed: u64,
}

impl Sleep {
    /// Fails with what is in the way of a ring, in words.
    pub(super) fn new(wakeups: XdpWakeups, busy_poll_budget: u16) -> io::Result<Sleep> {
        Ok(match wakeups {
            XdpWakeups::Send => Sleep::Poll { sends: false },
            // Who polls busily calls the kernel all the time.
            XdpWakeups::Poll => Sleep::Poll { sends: busy_poll_budget == 0 },
            XdpWakeups::Ring => Sleep::Ring(Box::new(Registered::new()?)),
        })
    }

    /// Whether packets may be left for the sleep to send.
    #[inline]
    pub(super) fn sends(&self) -> bool {
        matches!(self, Sleep::Poll { sends: true })
    }

    /// Sleeps until one of the descriptors is ready, a signal handler ran, or the time is over; whether the first ones are. With
    /// `only_reads` all are waited for to be read. Fails as the system calls do.
    pub(super) fn poll(
        &mut self,
        fds: &mut [PollFd<'_>],
        only_reads: bool,
        timeout: Option<&Timespec>,
    ) -> io::Result<[bool; TOLD]> {
        match self {
            // Only that is registered, since it does not change.
            Sleep::Ring(registered) if only_reads && fds.len() <= RING_FDS_MAX => registered.sleep(fds, timeout),
            Sleep::Poll { .. } | Sleep::Ring(_) => match poll(fds, timeout) {
                Ok(_) => Ok(std::array::from_fn(|at| !fds[at].revents().is_empty())),
                // The caller looks around and waits again.
                Err(rustix::io::Errno::INTR) => Ok([false; TOLD]),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// The descriptors will be others from now on. What a ring holds of a socket would keep its queue occupied.
    pub(super) fn forget(&mut self) {
        if let Sleep::Ring(registered) = self
            && registered.armed != 0
        {
            let done = registered.cancel();
            debug_assert!(done, "requests for sockets end when they are cancelled");
        }
    }
}

impl Registered {
    fn new() -> io::Result<Registered> {
        Ok(Registered { ring: Ring::new(RING_FDS_MAX as u32, 4 * RING_FDS_MAX as u32, Duration::ZERO)?, armed: 0 })
    }

    fn sleep(&mut self, fds: &[PollFd<'_>], timeout: Option<&Timespec>) -> io::Result<[bool; TOLD]> {
        // The thread that sleeps is the worker's; who made the back end may have been another one.
        self.ring.enable()?;
        for (at, fd) in fds.iter().enumerate() {
            if self.armed >> at & 1 == 0 {
                let entry = opcode::PollAdd::new(Fd(fd.as_fd().as_raw_fd()), PollFlags::IN.bits().into());
                // SAFETY: the request points to nothing; the kernel holds the file that the descriptor stands for.
                unsafe { self.ring.push(entry.build().user_data(at as u64)) };
                self.armed |= 1 << at;
            }
        }
        let limit = timeout.map(|limit| Duration::new(limit.tv_sec as u64, limit.tv_nsec as u32));
        self.ring.enter(1, limit)?;
        let mut told = [false; TOLD];
        while let Some(completion) = self.ring.pop() {
            let at = completion.token as usize;
            // Those of cancellations may come late.
            if at < RING_FDS_MAX {
                self.armed &= !(1 << at);
                told.get_mut(at).into_iter().for_each(|told| *told = true);
            }
        }
        Ok(told)
    }

    /// Takes everything back; whether the kernel has said so.
    fn cancel(&mut self) -> bool {
        let mut armed = self.armed;
        let done = self.ring.close(CANCEL, |completion| {
            if let Some(completion) = completion
                && completion.token < RING_FDS_MAX as u64
            {
                armed &= !(1 << completion.token);
            }
            armed == 0
        });
        self.armed = 0;
        done
    }
}

impl Drop for Registered {
    /// Otherwise the kernel lets go of the sockets when it takes the ring apart, which it does later: until then their
    /// addresses would be in use. A thread that did not sleep here cannot ask it to, and leaves it at that.
    fn drop(&mut self) {
        if self.armed != 0 {
            self.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn an_address_is_free_as_soon_as_its_sleeper_is_gone() {
        let first = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
        let address = first.local_addr().expect("it is bound");
        let mut socket = Some(first);
        for _ in 0..50 {
            let mut sleep = match Sleep::new(XdpWakeups::Ring, 0) {
                Ok(sleep) => sleep,
                Err(error) => return println!("skipped: {error}"),
            };
            let bound = socket.take().unwrap_or_else(|| UdpSocket::bind(address).expect("nobody has it any more"));
            let limit = Timespec { tv_sec: 0, tv_nsec: 1 };
            let ready = sleep.poll(&mut [PollFd::new(&bound, PollFlags::IN)], true, Some(&limit));
            assert_eq!(ready.expect("the ring works"), [false; TOLD]);
            drop(bound);
        }
    }
}
