//! The ring: entries in, completions out, one system call for both.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode};

/// How long one look for the last completions takes at most while a ring closes.
const CLOSE_LOOK: Duration = Duration::from_millis(10);
/// How many looks there are. Cancelling a request for a socket takes microseconds; this is for a machine in trouble.
const CLOSE_LOOKS: usize = 100;

/// An io_uring.
///
/// Without a polling kernel thread it is one of `DEFER_TASKRUN`: the kernel completes requests inside this thread's own
/// [`enter`](Self::enter) and nowhere else, and a flag in shared memory says whether there is something to complete.
/// Such a ring belongs to the thread that used it first.
pub(crate) struct Ring {
    ring: IoUring,
    /// Entries that found no room in the submission queue, in their order.
    backlog: VecDeque<Entry>,
    /// The ring was made disabled, so that the thread that uses it first becomes its owner.
    enabled: bool,
    sq_poll: bool,
}

/// A completion.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Completion {
    pub(crate) token: u64,
    /// What the request gave, or an error number below zero.
    pub(crate) result: i32,
    flags: u32,
}

impl Completion {
    /// Whether the request goes on and will complete again.
    pub(crate) fn more(self) -> bool {
        cqueue::more(self.flags)
    }

    /// The buffer that the kernel took.
    pub(crate) fn buffer(self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

impl Ring {
    /// A ring with room for `entries` entries and `completions` completions. With `sq_poll`, a kernel thread takes
    /// entries by itself, and goes to sleep after having been idle for so long.
    ///
    /// Fails with what is in the way, in words.
    pub(crate) fn new(entries: u32, completions: u32, sq_poll: Duration) -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(completions).setup_submit_all().dontfork();
        if sq_poll.is_zero() {
            builder.setup_r_disabled().setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        } else {
            builder.setup_sqpoll(u32::try_from(sq_poll.as_millis().max(1)).unwrap_or(u32::MAX));
        }
        let ring = builder.build(entries).map_err(super::setup::explain)?;
        let params = ring.params();
        if !(params.is_feature_ext_arg() && params.is_feature_nodrop() && params.is_feature_skip_cqe_on_success()) {
            return Err(super::setup::too_old());
        }
        // The backlog is reserved for a burst as long as the queue; beyond that it grows.
        let backlog = VecDeque::with_capacity(entries as usize);
        Ok(Ring { ring, backlog, enabled: !sq_poll.is_zero(), sq_poll: !sq_poll.is_zero() })
    }

    pub(crate) fn is_sq_poll(&self) -> bool {
        self.sq_poll
    }

    /// For registering files and buffers.
    pub(crate) fn submitter(&self) -> io_uring::Submitter<'_> {
        self.ring.submitter()
    }

    /// Makes the calling thread the ring's owner; whether it had none. Fails if the system does not allow it.
    pub(crate) fn enable(&mut self) -> io::Result<bool> {
        if self.enabled {
            return Ok(false);
        }
        self.ring.submitter().register_enable_rings().map_err(super::setup::explain)?;
        self.enabled = true;
        Ok(true)
    }

    /// Appends an entry; the next [`enter`](Self::enter) brings it to the kernel. What has no room in the queue waits in
    /// its order.
    ///
    /// # Safety
    /// What the entry points to stays valid, and unwritten unless the operation writes it, until its last completion.
    pub(crate) unsafe fn push(&mut self, entry: Entry) {
        // SAFETY: the caller's promise.
        if !self.backlog.is_empty() || unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.backlog.push_back(entry);
        }
    }

    /// How many entries the kernel has not taken yet.
    pub(crate) fn queued(&mut self) -> usize {
        self.ring.submission().len() + self.backlog.len()
    }

    /// Whether completions can be read without a system call.
    pub(crate) fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Whether the kernel has something that only an [`enter`](Self::enter) brings out.
    pub(crate) fn needs_enter(&mut self) -> bool {
        self.has_work() || self.needs_submit()
    }

    /// Whether there are entries that the kernel only takes in an [`enter`](Self::enter). A polling thread takes them by
    /// itself while it is awake.
    pub(crate) fn needs_submit(&mut self) -> bool {
        let queue = self.ring.submission();
        let waits = !queue.is_empty() && (!self.sq_poll || queue.need_wakeup());
        drop(queue);
        waits || !self.backlog.is_empty()
    }

    /// Whether the kernel has completions to make that only an [`enter`](Self::enter) brings out.
    pub(crate) fn has_work(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Brings what is queued to the kernel, lets it complete what it can, and, if `want` is not 0, sleeps until there are
    /// that many completions or the time is over. One system call; more only if the backlog is longer than the queue.
    pub(crate) fn enter(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        while !self.backlog.is_empty() {
            self.refill();
            if self.backlog.is_empty() {
                break;
            }
            if !self.enter_once(0, None)? {
                return Ok(());
            }
        }
        self.enter_once(want, timeout).map(drop)
    }

    /// Moves the backlog to the queue, as far as there is room.
    fn refill(&mut self) {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: the promise was made when the entry was pushed.
            if unsafe { queue.push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    /// One system call; whether the kernel took something.
    fn enter_once(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<bool> {
        let (queued, wakeup) = {
            let queue = self.ring.submission();
            (queue.len() as u32, self.sq_poll && queue.need_wakeup())
        };
        let mut flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        flags.set(EnterFlags::SQ_WAKEUP, wakeup);
        let timeout = timeout.map(|limit| Timespec::new().sec(limit.as_secs()).nsec(limit.subsec_nanos()));
        let mut args = SubmitArgs::new();
        if let Some(timeout) = &timeout {
            args = args.timespec(timeout);
        }
        // SAFETY: the arguments are of the type that EXT_ARG stands for and live through the call; the entries' promises
        // were made when they were pushed.
        let result = unsafe { self.ring.submitter().enter(queued, want, flags.bits(), Some(&args)) };
        match result {
            Ok(taken) => Ok(taken > 0),
            Err(error) => match error.raw_os_error() {
                // The time is over, a signal handler ran, completions have to be read first, or the kernel lacks memory
                // for the moment: what is queued stays queued.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(false),
                Some(libc::EEXIST) => Err(super::setup::wrong_thread()),
                _ => Err(error),
            },
        }
    }

    /// The next completion that is there already.
    pub(crate) fn pop(&mut self) -> Option<Completion> {
        let entry = self.ring.completion().next()?;
        Some(Completion { token: entry.user_data(), result: entry.result(), flags: entry.flags() })
    }

    /// Cancels everything and takes completions until `done` says that it has seen the last one. `false` if the kernel
    /// may still be at work: then the memory that requests point to must stay for ever.
    pub(crate) fn close(&mut self, cancel_token: u64, mut done: impl FnMut(Option<Completion>) -> bool) -> bool {
        if !self.enabled {
            return true;
        }
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(cancel_token);
        // SAFETY: it points to nothing.
        unsafe { self.push(cancel) };
        for _ in 0..CLOSE_LOOKS {
            if self.enter(1, Some(CLOSE_LOOK)).is_err() {
                return false;
            }
            let mut finished = done(None);
            while let Some(completion) = self.pop() {
                finished = done(Some(completion));
            }
            if finished && self.queued() == 0 {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(entries: u32) -> Option<Ring> {
        match Ring::new(entries, entries * 32, Duration::ZERO) {
            Ok(mut ring) => {
                ring.enable().expect("this thread is the first to use it");
                Some(ring)
            }
            Err(error) => {
                println!("skipped: {error}");
                None
            }
        }
    }

    #[test]
    fn what_overflows_the_queue_ten_times_is_carried_out_in_order() {
        let Some(mut ring) = ring(8) else { return };
        for token in 0..80 {
            // SAFETY: the operation points to nothing.
            unsafe { ring.push(opcode::Nop::new().build().user_data(token)) };
        }
        assert_eq!(ring.queued(), 80);
        ring.enter(0, None).expect("the ring works");
        assert_eq!(ring.queued(), 0);
        let tokens: Vec<u64> = std::iter::from_fn(|| ring.pop()).map(|completion| completion.token).collect();
        assert_eq!(tokens, (0..80).collect::<Vec<u64>>());
    }

    #[test]
    fn an_idle_ring_needs_no_call_and_a_wait_ends_by_time() {
        let Some(mut ring) = ring(8) else { return };
        assert!(!ring.needs_enter() && !ring.has_completions());
        ring.enter(1, Some(Duration::from_millis(1))).expect("time-outs are no errors");
        assert!(ring.pop().is_none());
    }

    #[test]
    fn a_ring_belongs_to_the_thread_that_used_it_first() {
        let Some(mut ring) = ring(8) else { return };
        let error = std::thread::spawn(move || ring.enter(0, None).err()).join().expect("no panic");
        assert!(error.is_some_and(|error| error.to_string().contains("thread")));
    }
}
