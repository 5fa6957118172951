//! Sleeping until there is something to do.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::backend::Xdp;
use super::lane::Lane;
use crate::bell::Waker;
use crate::limits::{DEVICE_RETRY, XDP_QUEUES_MAX};
use crate::stats::Stat;

/// How often packets that wait for a neighbour are looked at.
const WAITING_LOOK: Duration = Duration::from_millis(500);

impl Xdp {
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let bell = self.bell.clone();
        if bell.inner().take() {
            return Ok(());
        }
        let busy = timeout.map_or(self.busy_poll, |limit| limit.min(self.busy_poll));
        if !busy.is_zero() {
            let start = Instant::now();
            while start.elapsed() < busy {
                if bell.inner().take() || self.lanes.iter().any(Lane::is_ready) {
                    return Ok(());
                }
                self.lanes.iter().for_each(Lane::poll_busily);
                std::hint::spin_loop();
            }
        }
        let timeout = timeout.map(|limit| limit.saturating_sub(busy));
        if timeout == Some(Duration::ZERO) {
            return self.poll(timeout);
        }
        if self.lanes.iter().any(Lane::is_ready) || !bell.inner().prepare_sleep() {
            return Ok(());
        }
        let result = self.poll(timeout);
        bell.inner().wake();
        result
    }

    /// Waits for the queues, the kernel's socket, netlink or the eventfd.
    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut timeout = timeout;
        let mut at_most = |limit: Duration| timeout = Some(timeout.map_or(limit, |timeout| timeout.min(limit)));
        let mut send = PollFlags::empty();
        if self.lanes[0].is_blocked() {
            at_most(DEVICE_RETRY);
            send = PollFlags::OUT;
        }
        if !self.waiting.is_empty() {
            at_most(WAITING_LOOK);
        }
        let kernel_interest = self.kernel.interest(&mut at_most);
        let Waker::Event(event) = self.bell.inner().notifier() else { return Ok(()) };
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        fds.push(PollFd::new(event, PollFlags::IN));
        fds.push(PollFd::from_borrowed_fd(self.router.fd(), PollFlags::IN));
        fds.push(PollFd::from_borrowed_fd(self.kernel.as_fd(), kernel_interest));
        for socket in self.lanes.iter().filter_map(Lane::socket) {
            fds.push(PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN | send));
            send = PollFlags::empty();
        }
        debug_assert!(fds.len() <= XDP_QUEUES_MAX as usize + 3, "a worker has no more queues than there are");
        let timeout = timeout.map(|limit| Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        self.stats.add(Stat::WaitCalls, 1);
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {
                if fds[0].revents().contains(PollFlags::IN) {
                    crate::udp::clear(event);
                }
                let aside = !fds[1].revents().is_empty() || !fds[2].revents().is_empty();
                if aside || !self.waiting.is_empty() {
                    // The next reception looks at netlink and the kernel's socket.
                    self.look_around = 1;
                }
                Ok(())
            }
            // A signal handler ran: the caller looks around and waits again.
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
