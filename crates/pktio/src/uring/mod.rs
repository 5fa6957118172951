//! A UDP socket behind an io_uring: what a worker's turn sends, receives and waits for is one system call.
//!
//! - Reception: one multishot `recvmsg` for the life of the socket, into large frames that the kernel takes from a
//!   ring of buffers. The same trains, ECN codepoints and addresses as with the [`udp`](crate::udp) backend.
//! - Transmission: one `sendmsg` per GSO train. They go to the kernel together with the next look for arrivals, or with
//!   the wait ([`Io::flush_soon`](crate::Io::flush_soon)).
//! - Waiting: the doorbell is an eventfd that the ring watches, so there is one thing to wait for.
//!
//! The ring completes requests inside this thread's own calls only and tells by a flag in shared memory whether a call
//! would find something (`IORING_SETUP_DEFER_TASKRUN`, `IORING_SETUP_TASKRUN_FLAG`). A look in vain is no system call.
//!
//! With [`IoConfig::sq_poll`] a kernel thread takes what is to be sent and receives what has arrived, so that a worker that
//! polls makes no system calls at all while the thread is awake. It costs another core.
//!
//! Frames that the kernel may write to are freed after everything was cancelled and has said so.

mod buffers;
mod message;
pub(crate) mod ring;
mod setup;
mod transmit;

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{opcode, types};
use warpline_frame::Pages;

use crate::bell::{Doorbell, Waker};
use crate::config::IoConfig;
use crate::kind::IoKind;
use crate::limits::{DEVICE_RETRY, RECV_BATCH, TX_TRAINS_MAX, URING_BUFFERS};
use crate::meta::{Received, TxMeta};
use crate::pools::Pools;
use crate::stats::{Stat, StatsHandle};
use crate::udp::lateness::{Lateness, waiting_bytes};
use crate::udp::probe;
use crate::udp::socket::Bound;
use crate::udp::transmit::{Blocked, Sender, sendmmsg};

use buffers::Buffers;
use ring::{Completion, Ring};
use transmit::Transmit;

/// Entries of the submission queue: all trains, and the requests that are made again now and then.
const ENTRIES: u32 = 2 * TX_TRAINS_MAX as u32;
/// Completions: every buffer, every train and the rest at the same time, so that the queue cannot overflow.
const COMPLETIONS: u32 = 4 * TX_TRAINS_MAX as u32;

const _: () = assert!((URING_BUFFERS + TX_TRAINS_MAX + 8) as u32 <= COMPLETIONS);

/// Looks for the kernel's answers to sends. It gives them within the first call, unless it lacks memory; a polling thread
/// takes some microseconds if it has a core.
const SETTLE_LOOKS: usize = 10_000;

/// The registered files.
const SOCKET: types::Fixed = types::Fixed(0);
const BELL: types::Fixed = types::Fixed(1);

/// Tokens beyond the places of trains.
const RECEIVE_TOKEN: u64 = 1 << 32;
const BELL_TOKEN: u64 = RECEIVE_TOKEN + 1;
const ROOM_TOKEN: u64 = RECEIVE_TOKEN + 2;
const CANCEL_TOKEN: u64 = RECEIVE_TOKEN + 3;

/// The requests that stay with the kernel.
#[derive(Debug, Default)]
struct Armed {
    receive: bool,
    bell: bool,
    /// One look-out for room in the socket.
    room: bool,
}

/// A buffer that the kernel has filled.
#[derive(Debug, Clone, Copy)]
struct Filled {
    id: u16,
    len: usize,
}

/// One worker's socket and ring.
pub struct Uring {
    ring: Ring,
    bound: Arc<Bound>,
    pools: Pools,
    /// Dropped only after the kernel has said that it is done with them.
    buffers: ManuallyDrop<Buffers>,
    transmit: ManuallyDrop<Transmit>,
    header: Box<libc::msghdr>,
    /// Filled buffers in the order of arrival; at most as many as there are.
    filled: VecDeque<Filled>,
    armed: Armed,
    bell: Doorbell,
    busy_poll: Duration,
    stats: StatsHandle,
    /// An error of the socket that a completion told; the next call reports it.
    failure: Option<io::Error>,
    taken_bytes: u64,
    lateness: Lateness,
}

// SAFETY: the raw pointers in the header are null; those in the buffers and the sender's arrays point to memory that
// those values own.
unsafe impl Send for Uring {}

impl Uring {
    /// The backend on a bound socket. Fails with what is in the way, in words.
    pub(crate) fn new(bound: Arc<Bound>, config: &IoConfig) -> io::Result<Uring> {
        let mut pools = Pools::new(config, message::HEAD)?;
        let stats = StatsHandle::new(IoKind::Uring).watching(pools.spill());
        let ring = Ring::new(ENTRIES, COMPLETIONS, config.sq_poll)?;
        let waker = Waker::event()?;
        if let Waker::Event(event) = &waker {
            let files = [bound.socket().as_raw_fd(), event.as_raw_fd()];
            ring.submitter().register_files(&files).map_err(setup::explain)?;
        }
        // Half of the frames stay with the program, and the rest is a power of two, as the kernel wants it.
        let count = URING_BUFFERS.min(1 << (config.large_frames / 2).ilog2());
        let buffers = Buffers::new(&ring, &mut pools, count)?;
        let segments_max = if config.gso { probe::gso_segments_max() } else { 1 };
        let sender = Sender::new(bound.family(), bound.is_wildcard(), segments_max);
        Ok(Uring {
            ring,
            bound,
            pools,
            buffers: ManuallyDrop::new(buffers),
            transmit: ManuallyDrop::new(Transmit::new(sender, config.numa_node)?),
            header: message::request_header(),
            filled: VecDeque::with_capacity(URING_BUFFERS),
            armed: Armed::default(),
            bell: Doorbell::new(waker),
            busy_poll: config.busy_poll,
            stats,
            failure: None,
            taken_bytes: 0,
            lateness: Lateness::default(),
        })
    }

    /// Goes over to a socket of its own at another address; the ring, pools, queue and counters stay.
    pub(crate) fn rebind(&mut self, addr: SocketAddr, config: &IoConfig) -> io::Result<()> {
        let bound = Bound::new(addr, config, false)?;
        self.leave_socket()?;
        self.ring.submitter().register_files_update(0, &[bound.socket().as_raw_fd()])?;
        let segments_max = self.transmit.sender.segments_max();
        self.transmit.sender = Sender::new(bound.family(), bound.is_wildcard(), segments_max);
        self.bound = Arc::new(bound);
        self.arm()
    }

    /// Ends every request for the socket. What it received and was not read is lost with it.
    fn leave_socket(&mut self) -> io::Result<()> {
        let unanswered = || io::Error::other("the ring does not let go of the old socket");
        if self.transmit.staged() > 0 && !self.settle(Stat::SendCalls)? {
            return Err(unanswered());
        }
        for (armed, token) in [(self.armed.receive, RECEIVE_TOKEN), (self.armed.room, ROOM_TOKEN)] {
            if armed {
                let cancel = opcode::AsyncCancel::new(token).build().user_data(CANCEL_TOKEN);
                // SAFETY: it points to nothing.
                unsafe { self.ring.push(cancel) };
            }
        }
        for _ in 0..SETTLE_LOOKS {
            if !self.armed.receive && !self.armed.room {
                break;
            }
            self.enter(Stat::RecvCalls, 0, None)?;
        }
        if self.armed.receive || self.armed.room {
            return Err(unanswered());
        }
        while let Some(filled) = self.filled.pop_front() {
            self.buffers.put(filled.id);
        }
        self.buffers.publish();
        Ok(())
    }

    pub(crate) fn recv(&mut self, out: &mut Vec<Received>) -> io::Result<usize> {
        out.clear();
        self.arm()?;
        self.harvest()?;
        // What has arrived already comes first, unless something is to be sent: the call for more can wait until there is
        // nothing else to do, and is then perhaps the one that waits.
        if self.ring.needs_submit() || self.filled.is_empty() && self.ring.has_work() {
            self.enter(Stat::RecvCalls, 0, None)?;
        }
        let mut given = 0;
        while given < RECV_BATCH
            && let Some(filled) = self.filled.pop_front()
        {
            self.deliver(filled, given == 0, out);
            given += 1;
        }
        if given > 0 {
            self.buffers.looked(given);
            self.buffers.publish();
            let full = !self.armed.receive || !self.is_drained();
            self.lateness.looked(&self.bound, full);
        }
        Ok(out.len())
    }

    /// See [`Io::waited`](crate::Io::waited).
    pub(crate) fn waited(&self) -> Option<Duration> {
        self.lateness.waited()
    }

    /// See [`Io::waiting_bytes`](crate::Io::waiting_bytes).
    pub(crate) fn waiting_bytes(&mut self) -> Option<usize> {
        // In this order: a polling thread may take a message out of the socket in between, which then counts twice.
        let waiting = waiting_bytes(&self.bound).ok()?;
        // An error is reported by the next look.
        self.harvest().ok()?;
        Some(waiting + self.filled.iter().map(|filled| filled.len).sum::<usize>())
    }

    /// See [`Io::taken_bytes`](crate::Io::taken_bytes).
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    /// Hands a message on and its buffer, or another one, back.
    fn deliver(&mut self, Filled { id, len }: Filled, first: bool, out: &mut Vec<Received>) {
        // With what lies before the payload no message is shorter than one counts at least.
        self.taken_bytes += len as u64;
        let Some(frame) = self.buffers.frame(id) else { return };
        match message::parse(frame, len, self.bound.local_ip()) {
            Some((arrival, arrived)) => {
                if first {
                    self.lateness.note(arrived);
                }
                self.pools.deliver(frame, arrival, out, &self.stats);
            }
            None => self.stats.add(Stat::DropRxTruncated, 1),
        }
        self.buffers.put(id);
    }

    pub(crate) fn tx_buffer(&mut self) -> Option<&mut [u8]> {
        if self.transmit.queue.buffer().is_none() && self.flush().is_err() {
            // The caller's own flush meets the same error and reports it.
            return None;
        }
        self.transmit.queue.buffer()
    }

    /// The transmit buffer is full of what goes out with the next look for arrivals.
    pub(crate) fn tx_should_pause(&mut self) -> bool {
        self.transmit.queue.buffer().is_none()
    }

    pub(crate) fn tx_commit(&mut self, meta: TxMeta) {
        self.transmit.queue.commit(meta);
    }

    pub(crate) fn tx_pending(&self) -> usize {
        self.transmit.queue.pending().iter().filter(|train| !train.is_sent()).count()
    }

    /// Whether what is queued waits for room.
    pub(crate) fn tx_blocked(&self) -> bool {
        self.transmit.sender.blocked() != Blocked::No
    }

    /// Sends what is queued in a call of its own. By `sendmmsg`, if the ring has nothing of it yet: a call is made in either case, and
    /// an entry would cost more than its place in that one.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.transmit.staged() == 0 && !self.ring.is_sq_poll() {
            self.arm()?;
            self.report()?;
            return if self.transmit.queue.is_empty() { Ok(()) } else { self.send_by_call() };
        }
        // Twice, since a refused train is queued again in another shape; what has no room stays.
        for _ in 0..2 {
            self.flush_soon()?;
            if self.transmit.staged() > 0 {
                self.settle(Stat::SendCalls)?;
            }
            if self.tx_pending() == 0 || self.tx_blocked() {
                break;
            }
        }
        Ok(())
    }

    /// Prepares what is queued to go out with the next call into the kernel.
    pub(crate) fn flush_soon(&mut self) -> io::Result<()> {
        self.arm()?;
        self.report()?;
        if self.transmit.queue.is_empty() {
            return Ok(());
        }
        if !self.transmit.by_call() {
            self.transmit.stage(&mut self.ring, SOCKET);
            return Ok(());
        }
        if self.transmit.staged() > 0 && !self.settle(Stat::SendCalls)? {
            return Ok(());
        }
        self.send_by_call()
    }

    /// Sends what is queued, none of which the ring has.
    fn send_by_call(&mut self) -> io::Result<()> {
        let (socket, transmit) = (self.bound.socket(), &mut *self.transmit);
        transmit.sender.flush(&mut transmit.queue, &self.stats, |batch| sendmmsg(socket, batch))?;
        transmit.called();
        Ok(())
    }

    /// Has the kernel answer for all that was staged; whether it did.
    fn settle(&mut self, call: Stat) -> io::Result<bool> {
        for _ in 0..SETTLE_LOOKS {
            // A polling thread needs no call while it is awake, only a moment.
            if !self.ring.is_sq_poll() || self.ring.needs_enter() {
                self.enter(call, 0, None)?;
            } else {
                std::hint::spin_loop();
                self.harvest()?;
            }
            if self.transmit.staged() == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.arm()?;
        let bell = self.bell.clone();
        if bell.inner().take() || self.has_news() {
            return Ok(());
        }
        let busy = timeout.map_or(self.busy_poll, |limit| limit.min(self.busy_poll));
        if !busy.is_zero() && self.spin(busy)? {
            return Ok(());
        }
        let timeout = timeout.map(|limit| limit.saturating_sub(busy));
        if timeout == Some(Duration::ZERO) || !bell.inner().prepare_sleep() {
            return Ok(());
        }
        let result = self.sleep(timeout);
        bell.inner().wake();
        result
    }

    /// Looks for something to do without sleeping; whether there is something.
    fn spin(&mut self, time: Duration) -> io::Result<bool> {
        let start = Instant::now();
        loop {
            // What is queued goes out first; after that only what the kernel announces is worth a call.
            if self.ring.needs_enter() {
                self.enter(Stat::WaitCalls, 0, None)?;
            }
            let rung = self.bell.inner().take();
            if rung || self.has_news() {
                return Ok(true);
            }
            if start.elapsed() >= time {
                return Ok(false);
            }
            std::hint::spin_loop();
        }
    }

    /// Sleeps until the ring has something, which may be the doorbell.
    fn sleep(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if self.ring.is_sq_poll() && self.transmit.staged() > 0 {
            // Their completions would end the sleep.
            self.settle(Stat::WaitCalls)?;
        }
        let mut timeout = timeout;
        match self.transmit.sender.blocked() {
            Blocked::No => (),
            Blocked::Socket if self.armed.room => (),
            Blocked::Socket => {
                let room = opcode::PollAdd::new(SOCKET, libc::POLLOUT as u32).build().user_data(ROOM_TOKEN);
                // SAFETY: it points to nothing.
                unsafe { self.ring.push(room) };
                self.armed.room = true;
            }
            Blocked::Device => timeout = Some(timeout.map_or(DEVICE_RETRY, |limit| limit.min(DEVICE_RETRY))),
        }
        self.enter(Stat::WaitCalls, 1, timeout)
    }

    /// Whether there is something to receive or to learn without asking the kernel.
    fn has_news(&mut self) -> bool {
        !self.filled.is_empty() || self.ring.has_completions()
    }

    /// Nothing has arrived: known without asking the kernel, and what is queued does not matter.
    pub(crate) fn is_drained(&mut self) -> bool {
        !self.has_news() && !self.ring.has_work()
    }

    /// Makes sure that the kernel receives, and watches the doorbell.
    fn arm(&mut self) -> io::Result<()> {
        self.ring.enable()?;
        if !self.armed.receive && self.buffers.offered() > 0 {
            let receive = opcode::RecvMsgMulti::new(SOCKET, &raw const *self.header, buffers::GROUP)
                .build()
                .user_data(RECEIVE_TOKEN);
            // SAFETY: the header stays as long as the ring; the buffers are the kernel's until it names them in a
            // completion, and are dropped only after the request's last one.
            unsafe { self.ring.push(receive) };
            self.armed.receive = true;
        }
        if !self.armed.bell {
            let bell = opcode::PollAdd::new(BELL, libc::POLLIN as u32).multi(true).build().user_data(BELL_TOKEN);
            // SAFETY: it points to nothing.
            unsafe { self.ring.push(bell) };
            self.armed.bell = true;
        }
        Ok(())
    }

    /// One call into the kernel, and its answers.
    fn enter(&mut self, call: Stat, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        self.stats.add(call, 1);
        self.ring.enter(want, timeout)?;
        self.harvest()?;
        // The kernel has taken every entry, so sends that did not fail visibly are out.
        if !self.ring.is_sq_poll() && self.transmit.staged() > 0 && self.ring.queued() == 0 {
            self.transmit.settle(&self.stats);
        }
        Ok(())
    }

    /// Reads the completions that are there.
    fn harvest(&mut self) -> io::Result<()> {
        while let Some(completion) = self.ring.pop() {
            self.complete(completion);
        }
        self.transmit.sweep();
        self.report()
    }

    fn complete(&mut self, completion: Completion) {
        match completion.token {
            RECEIVE_TOKEN => self.received(completion),
            BELL_TOKEN => self.armed.bell &= completion.more(),
            ROOM_TOKEN => {
                self.armed.room = false;
                self.transmit.sender.unblock();
            }
            CANCEL_TOKEN => (),
            _ => {
                if let Err(error) = self.transmit.complete(completion, &self.stats) {
                    self.failure = Some(error);
                }
            }
        }
    }

    fn received(&mut self, completion: Completion) {
        self.armed.receive &= completion.more();
        if let Some(id) = completion.buffer() {
            self.buffers.taken();
            self.filled.push_back(Filled { id, len: usize::try_from(completion.result).unwrap_or(0) });
        }
        match -completion.result {
            ..=0 => (),
            // All that were offered are filled; the others are offered now, and these when they were read.
            libc::ENOBUFS => {
                self.stats.add(Stat::RxStarved, 1);
                self.buffers.starved();
            }
            // Memory is short for the moment, or an ICMP error of an earlier send is reported, or the ring closes.
            libc::ENOMEM | libc::EAGAIN | libc::EINTR | libc::ECANCELED => (),
            libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH => (),
            code => self.failure = Some(io::Error::from_raw_os_error(code)),
        }
    }

    fn report(&mut self) -> io::Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }

    pub(crate) fn doorbell(&self) -> Doorbell {
        self.bell.clone()
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.bound.local_addr()
    }

    pub(crate) fn stats(&self) -> StatsHandle {
        self.stats.clone()
    }

    pub(crate) fn gso_segments_max(&self) -> usize {
        self.transmit.sender.segments_max()
    }

    pub(crate) fn gro(&self) -> bool {
        self.bound.gro()
    }

    pub(crate) fn socket_buffers(&self) -> (usize, usize) {
        self.bound.buffers()
    }

    pub(crate) fn pages(&self) -> Pages {
        self.pools.pages()
    }
}

impl Drop for Uring {
    /// Brings what is queued out, cancels the rest, and frees memory only if the kernel has said that it is done with it.
    /// Another thread than the ring's own cannot ask it that: then the frames that are with the kernel stay for ever.
    fn drop(&mut self) {
        let (armed, transmit, stats) = (&mut self.armed, &mut self.transmit, &self.stats);
        let sends_complete = self.ring.is_sq_poll();
        let done = self.ring.close(CANCEL_TOKEN, |completion| {
            if let Some(completion) = completion {
                match completion.token {
                    RECEIVE_TOKEN => armed.receive &= completion.more(),
                    BELL_TOKEN => armed.bell &= completion.more(),
                    ROOM_TOKEN => armed.room = false,
                    CANCEL_TOKEN => (),
                    // The socket is about to close: an error of it has nobody to be told to.
                    _ => drop(transmit.complete(completion, stats)),
                }
            }
            !(armed.receive || armed.bell || armed.room || sends_complete && transmit.staged() > 0)
        });
        if done {
            // Otherwise the kernel lets go of the socket when it takes the ring apart, which it does later: until then the
            // address would be in use. A kernel that refuses does just that.
            let _ = self.ring.submitter().unregister_files();
            // SAFETY: they are not used again, since this value ends here.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
            // SAFETY: as above.
            unsafe { ManuallyDrop::drop(&mut self.transmit) };
        }
    }
}
