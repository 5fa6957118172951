//! `io_uring`: operations that the kernel completes.
//!
//! The user data of an operation is the address of its [`Flight`], which lies on the stack of the fiber that waits. That is
//! sound because the fiber does not leave [`Uring::complete`], by return or by unwinding, before the kernel has completed
//! the operation, and neither buffers nor the flight move while it is parked.

use super::file::OpenHow;
use super::{Backend, Interest, ReactorStats, UringConfig};
use crate::baton::Baton;
use crate::limits::RING_ENTRIES_MIN;
use crate::remote::Notifier;
use io_uring::types::{self, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::CStr;
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

/// User data of operations whose completion interests nobody.
const NOBODY: u64 = 0;
/// User data of the poll of the eventfd by which other threads end the sleep.
const WAKE: u64 = 1;

/// `IORING_ENTER_GETEVENTS`.
const ENTER_GETEVENTS: u32 = 1;

/// `IORING_RECVSEND_POLL_FIRST`.
const RECV_POLL_FIRST: u16 = 1;

/// What a call says inside of the kernel that a signal interrupted and that is to be made again (`ERESTARTSYS` to
/// `ERESTART_RESTARTBLOCK`, include/linux/errno.h). A system call never returns it; an operation does if its code forgot to
/// make `EINTR` of it, as the opening of files does when it is cancelled while it waits (Linux 6.18).
const RESTART: Range<i32> = 512..517;

/// An operation in the kernel's hands.
struct Flight {
    done: Baton,
    result: Cell<i32>,
}

pub(crate) struct Uring {
    ring: RefCell<IoUring>,
    /// Operations for which the submission queue had no room, oldest first.
    overflow: RefCell<VecDeque<squeue::Entry>>,
    overflow_max: Cell<usize>,
    operations: Cell<u64>,
    /// Operations in flight.
    pending: Cell<usize>,
    wake: Arc<OwnedFd>,
    files: Option<Rc<FileTable>>,
    buffers: Option<Rc<Buffers>>,
    sqpoll: bool,
    /// The kernel can be told that a socket has nothing to read yet (Linux 5.19).
    poll_first: bool,
}

impl Uring {
    pub(super) fn new(config: &UringConfig) -> io::Result<Uring> {
        let ring = build(config)?;
        // SAFETY: makes a descriptor; no memory is involved.
        let wake = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if wake < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and is nobody else's.
        let wake = Arc::new(unsafe { OwnedFd::from_raw_fd(wake) });
        let poll_first = ring.params().is_setup_single_issuer();
        let files = FileTable::register(&ring, config.files);
        let buffers = Buffers::register(&ring, config.buffers);
        let uring = Uring {
            ring: RefCell::new(ring),
            overflow: RefCell::default(),
            overflow_max: Cell::new(0),
            operations: Cell::new(0),
            pending: Cell::new(0),
            wake,
            files,
            buffers,
            sqpoll: config.sqpoll.is_some(),
            poll_first,
        };
        uring.arm_wake();
        Ok(uring)
    }

    pub(super) fn notifier(&self) -> Notifier {
        let wake = self.wake.clone();
        Notifier::Call(Box::new(move || {
            let one = 1u64.to_ne_bytes();
            // SAFETY: the buffer has the eight bytes that an eventfd takes. Its counter cannot overflow: each sleep
            // adds one and the next look takes it away.
            let written = unsafe { libc::write(wake.as_raw_fd(), one.as_ptr().cast(), one.len()) };
            debug_assert_eq!(written, 8, "an eventfd takes eight bytes");
        }))
    }

    pub(super) fn stats(&self) -> ReactorStats {
        ReactorStats {
            backend: Backend::Uring,
            operations: self.operations.get(),
            overflow_max: self.overflow_max.get(),
            registered_files: self.files.as_ref().map_or(0, |files| files.used.get()),
        }
    }

    fn arm_wake(&self) {
        let poll = opcode::PollAdd::new(Fd(self.wake.as_raw_fd()), libc::POLLIN as u32).multi(true);
        self.push(poll.build().user_data(WAKE));
    }

    /// Queues an operation, behind those that wait for room.
    fn push(&self, entry: squeue::Entry) {
        let mut overflow = self.overflow.borrow_mut();
        if overflow.is_empty() {
            let mut ring = self.ring.borrow_mut();
            // SAFETY: what the entry points to lives until its completion: see the module.
            if unsafe { ring.submission().push(&entry) }.is_ok() {
                return;
            }
        }
        overflow.push_back(entry);
        self.overflow_max.set(self.overflow_max.get().max(overflow.len()));
    }

    /// Moves operations from the overflow queue as far as there is room.
    fn refill(&self, ring: &mut IoUring) {
        let mut overflow = self.overflow.borrow_mut();
        let mut submission = ring.submission();
        while let Some(entry) = overflow.front() {
            // SAFETY: as in `push`.
            if unsafe { submission.push(entry) }.is_err() {
                break;
            }
            overflow.pop_front();
        }
    }

    /// Gives the kernel everything that is queued, and takes what is done.
    pub(super) fn poll(&self) {
        let mut ring = self.ring.borrow_mut();
        loop {
            self.refill(&mut ring);
            let queue = ring.submission();
            let (queued, work) = (queue.len(), queue.taskrun() || queue.cq_overflow());
            drop(queue);
            if queued > 0 || work {
                enter(&ring, queued, self.sqpoll);
            }
            self.reap(&mut ring);
            // With SQPOLL the kernel's thread takes the entries when it comes to them; the rest goes next time.
            if self.overflow.borrow().is_empty() || ring.submission().is_full() {
                return;
            }
        }
    }

    pub(super) fn sleep(&self, at_most: Option<Duration>) {
        self.poll_without_entering();
        let mut ring = self.ring.borrow_mut();
        if ring.completion().is_empty() && self.overflow.borrow().is_empty() {
            let result = match at_most {
                Some(duration) => {
                    let timespec = Timespec::from(duration);
                    ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timespec))
                }
                None => ring.submit_and_wait(1),
            };
            check(result);
        } else {
            check(ring.submit());
        }
        self.reap(&mut ring);
    }

    fn poll_without_entering(&self) {
        self.refill(&mut self.ring.borrow_mut());
    }

    /// Takes completions and makes their fibers ready.
    fn reap(&self, ring: &mut IoUring) {
        let mut rearm = false;
        for completion in ring.completion() {
            match completion.user_data() {
                NOBODY => {}
                WAKE => {
                    self.drain_wake();
                    rearm |= !cqueue::more(completion.flags());
                }
                flight => {
                    self.pending.set(self.pending.get() - 1);
                    // SAFETY: the user data is the address of a flight whose fiber waits for this (see the module).
                    let flight = unsafe { &*(flight as *const Flight) };
                    flight.result.set(completion.result());
                    flight.done.post_urgent();
                }
            }
        }
        if rearm {
            let poll = opcode::PollAdd::new(Fd(self.wake.as_raw_fd()), libc::POLLIN as u32).multi(true);
            self.overflow.borrow_mut().push_back(poll.build().user_data(WAKE));
        }
    }

    fn drain_wake(&self) {
        let mut count = [0u8; 8];
        // SAFETY: the buffer has the eight bytes that an eventfd gives. An empty one says EAGAIN, which is as good.
        let _ = unsafe { libc::read(self.wake.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }

    /// Gives an operation to the kernel and parks the fiber until it is completed. Everything that `entry` points to has to
    /// outlive this call, which is all there is to keeping it sound: no path out of here comes before the completion.
    fn complete(&self, entry: squeue::Entry) -> io::Result<usize> {
        // An operation that is done before its cancellation reaches the kernel counts, so one after the other could.
        crate::cancel::check_cancelled();
        let flight = Flight { done: Baton::new(), result: Cell::new(0) };
        let user_data = std::ptr::from_ref(&flight) as u64;
        self.operations.set(self.operations.get() + 1);
        self.pending.set(self.pending.get() + 1);
        self.push(entry.user_data(user_data));
        let cancelled = flight.done.wait_to_the_end(|| {
            self.push(opcode::AsyncCancel::new(user_data).build().user_data(NOBODY));
        });
        match flight.result.get() {
            error if error < 0 => {
                if cancelled && error == -libc::ECANCELED {
                    crate::cancel::check_cancelled();
                }
                Err(io::Error::from_raw_os_error(if RESTART.contains(&-error) { libc::EINTR } else { -error }))
            }
            result => Ok(result as usize),
        }
    }

    /// The same, again if a signal interrupted it.
    fn complete_again(&self, entry: squeue::Entry) -> io::Result<usize> {
        loop {
            match self.complete(entry.clone()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    pub(super) fn wait_for(&self, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        let events = match interest {
            Interest::Read => libc::POLLIN,
            Interest::Write => libc::POLLOUT,
        };
        let entry = opcode::PollAdd::new(Fd(fd.as_raw_fd()), events as u32).build();
        self.complete_again(entry).map(drop)
    }

    /// Whether a thread of the kernel's looks for operations.
    pub(super) fn is_polled(&self) -> bool {
        self.sqpoll
    }

    /// Receives from a socket that most likely has nothing to read yet.
    pub(super) fn recv(&self, file: &Registered, buffer: &mut [u8]) -> io::Result<usize> {
        let (at, len) = (buffer.as_mut_ptr(), length(buffer.len()));
        let first = if self.poll_first { RECV_POLL_FIRST } else { 0 };
        self.complete_again(match file.target(self) {
            Target::Fixed(file) => opcode::Recv::new(file, at, len).ioprio(first).build(),
            Target::Plain(file) => opcode::Recv::new(file, at, len).ioprio(first).build(),
        })
    }

    pub(super) fn send(&self, file: &Registered, bytes: &[u8]) -> io::Result<usize> {
        let (at, len, flags) = (bytes.as_ptr(), length(bytes.len()), libc::MSG_NOSIGNAL);
        self.complete_again(match file.target(self) {
            Target::Fixed(file) => opcode::Send::new(file, at, len).flags(flags).build(),
            Target::Plain(file) => opcode::Send::new(file, at, len).flags(flags).build(),
        })
    }

    pub(super) fn read_at(&self, file: &Registered, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (at, len) = (buffer.as_mut_ptr(), length(buffer.len()));
        self.complete_again(match file.target(self) {
            Target::Fixed(file) => opcode::Read::new(file, at, len).offset(offset).build(),
            Target::Plain(file) => opcode::Read::new(file, at, len).offset(offset).build(),
        })
    }

    pub(super) fn write_at(&self, file: &Registered, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let (at, len) = (bytes.as_ptr(), length(bytes.len()));
        self.complete_again(match file.target(self) {
            Target::Fixed(file) => opcode::Write::new(file, at, len).offset(offset).build(),
            Target::Plain(file) => opcode::Write::new(file, at, len).offset(offset).build(),
        })
    }

    pub(super) fn open_at(&self, dir: BorrowedFd<'_>, path: &CStr, how: OpenHow) -> io::Result<OwnedFd> {
        let how = types::OpenHow::new().flags(how.flags as u64).mode(u64::from(how.mode)).resolve(how.resolve);
        let fd = self.complete_again(opcode::OpenAt2::new(Fd(dir.as_raw_fd()), path.as_ptr(), &how).build())?;
        // SAFETY: the descriptor was just made and is nobody else's.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
    }

    /// Whether the slots are this ring's. A table's memory stays as long as somebody names it, so no other can be at its
    /// address.
    fn has(&self, files: &Weak<FileTable>) -> bool {
        self.files.as_ref().is_some_and(|own| std::ptr::eq(Rc::as_ptr(own), files.as_ptr()))
    }

    fn owns(&self, buffer: &RegisteredBuffer) -> io::Result<()> {
        let owns = self.buffers.as_ref().is_some_and(|own| Rc::ptr_eq(own, &buffer.buffers));
        if owns { Ok(()) } else { Err(foreign_buffer()) }
    }

    pub(super) fn write_fixed(
        &self,
        file: &Registered,
        buffer: &RegisteredBuffer,
        part: Range<usize>,
        offset: u64,
    ) -> io::Result<usize> {
        self.owns(buffer)?;
        let index = buffer.index;
        let bytes = &buffer.as_ref()[part];
        let (at, len) = (bytes.as_ptr(), length(bytes.len()));
        self.complete_again(match file.target(self) {
            Target::Fixed(file) => opcode::WriteFixed::new(file, at, len, index).offset(offset).build(),
            Target::Plain(file) => opcode::WriteFixed::new(file, at, len, index).offset(offset).build(),
        })
    }

    pub(super) fn read_fixed(
        &self,
        file: &Registered,
        buffer: &mut RegisteredBuffer,
        part: Range<usize>,
        offset: u64,
    ) -> io::Result<usize> {
        self.owns(buffer)?;
        let index = buffer.index;
        let target = &mut buffer.as_mut()[part];
        let (at, len) = (target.as_mut_ptr(), length(target.len()));
        self.complete_again(match file.target(self) {
            Target::Fixed(file) => opcode::ReadFixed::new(file, at, len, index).offset(offset).build(),
            Target::Plain(file) => opcode::ReadFixed::new(file, at, len, index).offset(offset).build(),
        })
    }

    pub(super) fn fsync(&self, file: &Registered) -> io::Result<()> {
        let entry = match file.target(self) {
            Target::Fixed(file) => opcode::Fsync::new(file).build(),
            Target::Plain(file) => opcode::Fsync::new(file).build(),
        };
        self.complete_again(entry).map(drop)
    }
}

/// Registered buffers belong to one ring.
pub(super) fn foreign_buffer() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the buffer is of another scheduler")
}

/// An operation's length: what is longer than 2 GiB is done in part, as `read(2)` does.
fn length(len: usize) -> u32 {
    len.min(i32::MAX as usize) as u32
}

/// The ring, with what this kernel knows of: the cheap completions of Linux 6.1, otherwise without; a smaller ring if
/// memory may not be locked (kernels before 5.12 count rings against `RLIMIT_MEMLOCK`, and newer ones do again: 6.18).
fn build(config: &UringConfig) -> io::Result<IoUring> {
    let mut entries = config.entries.max(RING_ENTRIES_MIN);
    let mut plain = false;
    loop {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(entries.saturating_mul(4)).setup_clamp().dontfork();
        match config.sqpoll {
            Some(idle) => {
                builder.setup_sqpoll(u32::try_from(idle.as_millis()).unwrap_or(u32::MAX).max(1));
            }
            None if plain => {}
            None => {
                builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
            }
        }
        match builder.build(entries) {
            Ok(ring) if !ring.params().is_feature_nodrop() || !ring.params().is_feature_ext_arg() => {
                return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel is older than 5.11"));
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && !plain && config.sqpoll.is_none() => {
                plain = true
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && entries > RING_ENTRIES_MIN => entries /= 2,
            result => return result,
        }
    }
}

/// Tells the kernel to take `queued` entries and to post completions.
fn enter(ring: &IoUring, queued: usize, sqpoll: bool) {
    let submitter = ring.submitter();
    let result = if sqpoll {
        submitter.submit()
    } else {
        // SAFETY: no argument structure is passed, and the entries are valid (`push`).
        unsafe { submitter.enter::<()>(queued as u32, 0, ENTER_GETEVENTS, None) }
    };
    check(result);
}

/// What entering the kernel may say: interrupted, the time is over, or completions have to be taken first.
fn check(result: io::Result<usize>) {
    match result {
        Ok(_) => {}
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN)) => {}
        Err(error) => panic!("the ring of a fiber scheduler fails: {error}"),
    }
}

/// How the kernel is told which file is meant.
enum Target {
    Fixed(Fixed),
    Plain(Fd),
}

/// Slots of the ring for files.
pub(super) struct FileTable {
    free: RefCell<Vec<u32>>,
    used: Cell<usize>,
}

impl FileTable {
    fn register(ring: &IoUring, files: u32) -> Option<Rc<FileTable>> {
        if files == 0 {
            return None;
        }
        if let Err(error) = ring.submitter().register_files_sparse(files) {
            tracing::warn!("{files} files cannot be registered with io_uring ({error}); they are used as they are");
            return None;
        }
        Some(Rc::new(FileTable { free: RefCell::new((0..files).rev().collect()), used: Cell::new(0) }))
    }
}

/// A descriptor's place in the ring, if it has one.
pub(crate) struct Registered {
    fd: RawFd,
    slot: Option<(u32, Weak<FileTable>)>,
}

impl Registered {
    /// Registers a descriptor with the ring of this thread, if there is one and it has a slot. The owner keeps the
    /// descriptor open for as long as this lives.
    pub(super) fn new(fd: &impl AsFd) -> Registered {
        let fd = fd.as_fd().as_raw_fd();
        let slot = with_uring(|uring| {
            let files = uring.files.as_ref()?;
            let slot = files.free.borrow_mut().pop()?;
            if uring.ring.borrow().submitter().register_files_update(slot, &[fd]).is_err() {
                files.free.borrow_mut().push(slot);
                return None;
            }
            files.used.set(files.used.get() + 1);
            Some((slot, Rc::downgrade(files)))
        });
        Registered { fd, slot: slot.flatten() }
    }

    /// How the ring is told of the descriptor: by its slot if that is one of this ring's, and not of an earlier one on the
    /// thread, whose slots are other files' now.
    fn target(&self, uring: &Uring) -> Target {
        match &self.slot {
            Some((slot, files)) if uring.has(files) => Target::Fixed(Fixed(*slot)),
            _ => Target::Plain(Fd(self.fd)),
        }
    }
}

fn with_uring<R>(f: impl FnOnce(&Uring) -> R) -> Option<R> {
    crate::sched::Inner::try_with(|inner| match inner.reactor() {
        Some(super::Reactor::Uring(uring)) => Some(f(uring)),
        _ => None,
    })
    .flatten()
}

impl Drop for Registered {
    fn drop(&mut self) {
        let Some((slot, table)) = self.slot.take() else { return };
        with_uring(|uring| {
            let Some(files) = uring.files.as_ref().filter(|_| uring.has(&table)) else { return };
            if uring.ring.borrow().submitter().register_files_update(slot, &[-1]).is_ok() {
                files.free.borrow_mut().push(slot);
                files.used.set(files.used.get() - 1);
            }
        });
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered")
            .field("fd", &self.fd)
            .field("slot", &self.slot.as_ref().map(|slot| slot.0))
            .finish()
    }
}

/// Memory that is registered with the ring.
struct Buffers {
    memory: RefCell<Vec<Option<Box<[u8]>>>>,
}

impl Buffers {
    fn register(ring: &IoUring, (count, bytes): (u16, usize)) -> Option<Rc<Buffers>> {
        if count == 0 || bytes == 0 {
            return None;
        }
        let mut memory: Vec<Box<[u8]>> = (0..count).map(|_| vec![0; bytes].into_boxed_slice()).collect();
        let vector =
            |buffer: &mut Box<[u8]>| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let vectors: Vec<_> = memory.iter_mut().map(vector).collect();
        // SAFETY: the memory lives as long as a clone of the result, and the ring only uses it in operations whose fiber
        // holds one; boxes do not move their contents.
        if let Err(error) = unsafe { ring.submitter().register_buffers(&vectors) } {
            tracing::warn!(
                "{count} buffers of {bytes} bytes cannot be registered with io_uring ({error}); raise RLIMIT_MEMLOCK"
            );
            return None;
        }
        Some(Rc::new(Buffers { memory: RefCell::new(memory.into_iter().map(Some).collect()) }))
    }
}

/// A buffer that the kernel has mapped for good: an operation on it need not look up its pages.
pub struct RegisteredBuffer {
    buffers: Rc<Buffers>,
    index: u16,
    memory: Option<Box<[u8]>>,
}

impl RegisteredBuffer {
    /// A free buffer of this thread's ring; `None` if there is none, because none were asked for or could be registered, or
    /// because all are in use.
    pub fn take() -> Option<RegisteredBuffer> {
        let buffers = with_uring(|uring| uring.buffers.clone()).flatten()?;
        let mut memory = buffers.memory.borrow_mut();
        let index = memory.iter().position(Option::is_some)?;
        let taken = memory[index].take();
        drop(memory);
        Some(RegisteredBuffer { buffers, index: index as u16, memory: taken })
    }
}

impl AsRef<[u8]> for RegisteredBuffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.as_deref().unwrap_or_default()
    }
}

impl AsMut<[u8]> for RegisteredBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self.memory.as_deref_mut().unwrap_or_default()
    }
}

impl Drop for RegisteredBuffer {
    fn drop(&mut self) {
        self.buffers.memory.borrow_mut()[usize::from(self.index)] = self.memory.take();
    }
}

impl fmt::Debug for RegisteredBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredBuffer").field("index", &self.index).finish_non_exhaustive()
    }
}
