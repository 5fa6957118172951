//! Sleeping until there is something to do.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::backend::Xdp;
use super::lane::Lane;
use crate::bell::Waker;
use crate::limits::{DEVICE_RETRY, XDP_RETRY};
use crate::stats::Stat;

/// Queues of a worker for which a wait allocates nothing.
const FEW: usize = 5;
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
            if self.put_off > 0 {
                self.flush()?;
            }
            let start = Instant::now();
            while start.elapsed() < busy {
                if bell.inner().take() || self.lanes.iter().any(Lane::is_ready) {
                    return Ok(());
                }
                self.lanes.iter().for_each(|lane| lane.poll_busily(&self.stats));
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
        if self.view().is_blocked() {
            at_most(DEVICE_RETRY);
            send = PollFlags::OUT;
        }
        if !self.waiting.is_empty() {
            at_most(WAITING_LOOK);
        }
        if self.retry.is_some() {
            at_most(XDP_RETRY);
        }
        if self.put_off > 0 {
            // The kernel sends it when it is polled. Should there be no room behind the device, the next turn tries again.
            self.lanes.iter_mut().for_each(Lane::publish);
            at_most(DEVICE_RETRY);
        }
        let kernel_interest = self.kernel.interest(&mut at_most);
        let only_reads = send.is_empty() && kernel_interest == PollFlags::IN;
        let Waker::Event(event) = self.bell.inner().notifier() else { return Ok(()) };
        let first = [
            PollFd::new(event, PollFlags::IN),
            PollFd::from_borrowed_fd(self.router.fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.kernel.as_fd(), kernel_interest),
        ];
        let sockets = self.lanes.iter().filter_map(Lane::socket).map(|socket| {
            let interest = PollFlags::IN | std::mem::replace(&mut send, PollFlags::empty());
            PollFd::from_borrowed_fd(socket.as_fd(), interest)
        });
        // Most workers have few queues: then nothing is allocated.
        let (mut few, mut many);
        let fds: &mut [PollFd<'_>] = if self.lanes.len() <= FEW {
            few = std::array::from_fn::<_, { 3 + FEW }, _>(|_| PollFd::new(event, PollFlags::empty()));
            let mut count = 0;
            for fd in first.into_iter().chain(sockets) {
                few[count] = fd;
                count += 1;
            }
            &mut few[..count]
        } else {
            many = first.into_iter().chain(sockets).collect::<Vec<_>>();
            &mut many
        };
        let timeout = timeout.map(|limit| Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        self.check_frames();
        self.publish_frames();
        self.stats.add(Stat::WaitCalls, 1);
        match self.sleep.poll(fds, only_reads, timeout.as_ref()) {
            Ok([rung, netlink, kernel]) => {
                if !self.lanes.iter().any(|lane| lane.pending() > 0) {
                    self.put_off = 0;
                }
                if rung {
                    crate::udp::clear(event);
                }
                if netlink || kernel || !self.waiting.is_empty() || self.retry.is_some() {
                    // The next reception looks at netlink and the kernel's socket.
                    self.look_around = 1;
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
