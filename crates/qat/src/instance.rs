//! An instance: a pair of rings of a card, with the memory that one thread exchanges packets with it through.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use warpline_proto::{BATCH_MAX, Job};
use warpline_ring::Counters;

use crate::error::Unavailable;
use crate::library::Library;
use crate::limits::{ANSWER_MAX, DATA_AT, HEADER_MAX, POLLS_PER_LOOK, SLOT_LEN};
use crate::memory::Dma;
use crate::session::{Direction, Home, Session, TAG_LEN};
use crate::sys;

/// Where the nonce lies in a slot, behind the request; 16 bytes are read of its 12.
const IV_AT: usize = 192;
/// Where the header lies in a slot.
const AAD_AT: usize = 208;
const IV_LEN: usize = 12;

const _: () = {
    assert!(size_of::<sys::Op>() <= IV_AT && IV_AT + 16 <= AAD_AT && AAD_AT + HEADER_MAX <= DATA_AT);
    assert!(SLOT_LEN.is_multiple_of(64) && DATA_AT + TAG_LEN < SLOT_LEN);
};

/// What became of a packet at the card.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// None yet.
    Pending,
    /// It was sealed, or opened and is authentic.
    Done,
    /// It is not authentic.
    Forged,
    /// The card did nothing with it, and says so.
    Failed(sys::Status),
}

/// Why an instance is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("its ring stayed full for {} ms", ANSWER_MAX.as_millis())]
    Full,
    #[error("it did not answer for {} ms", ANSWER_MAX.as_millis())]
    Silent,
    #[error("it refuses packets (status {0})")]
    Refuses(sys::Status),
    #[error("it cannot be asked for answers (status {0})")]
    Poll(sys::Status),
    #[error("it failed with a packet (status {0})")]
    Packet(sys::Status),
}

/// Packets done, and batches that were left to the library.
pub(crate) type Tally = Counters<2>;
pub(crate) const PACKETS: usize = 0;
pub(crate) const BATCHES_LEFT: usize = 1;

/// An instance that was started. It belongs to one thread at a time, which has it as a value.
pub(crate) struct Instance {
    library: &'static Library,
    handle: sys::Handle,
    node: i32,
    pub(crate) number: usize,
    /// A slot for each packet of a batch.
    slots: Dma,
    /// On the heap, where the card's answers find them.
    answers: Box<[Cell<Answer>; BATCH_MAX]>,
    retire: Sender<Dma>,
    retired: Receiver<Dma>,
    pub(crate) tally: Arc<Tally>,
}

// SAFETY: the library allows an instance to be used from any thread, by one at a time; whoever has this value is the one.
unsafe impl Send for Instance {}

impl Instance {
    /// Starts an instance that the library listed.
    ///
    /// # Errors
    /// A call that failed, or no memory.
    pub(crate) fn start(
        library: &'static Library,
        handle: sys::Handle,
        number: usize,
        tally: Arc<Tally>,
    ) -> Result<Self, Unavailable> {
        let called = |call: &'static str, status: sys::Status| match status {
            sys::SUCCESS => Ok(()),
            status => Err(Unavailable::Instance { call, status }),
        };
        // SAFETY: the library listed the instance, and nobody else has it.
        let status = unsafe { (library.set_address_translation)(handle, library.virt_to_phys) };
        called("cpaCySetAddressTranslation", status)?;
        // SAFETY: the library listed the instance, and nobody else has it.
        called("cpaCyStartInstance", unsafe { (library.start_instance)(handle) })?;
        // SAFETY: the instance was started, and the function lives as long as the program.
        called("cpaCySymDpRegCbFunc", unsafe { (library.register_callback)(handle, answered) })?;
        let node = node(library, handle);
        let slots = Dma::new(library, SLOT_LEN * BATCH_MAX, node).ok_or(Unavailable::NoMemory)?;
        let (retire, retired) = channel();
        let answers = Box::new([const { Cell::new(Answer::Pending) }; BATCH_MAX]);
        Ok(Self { library, handle, node, number, slots, answers, retire, retired, tally })
    }

    /// A new session. Those that were dropped elsewhere are removed first.
    pub(crate) fn session(&mut self, key: &[u8], direction: Direction, header_len: usize) -> Option<Session> {
        self.remove_retired();
        let home = Home {
            library: self.library,
            handle: self.handle,
            node: self.node,
            instance: self.number,
            retired: &self.retire,
        };
        Session::new(&home, key, direction, header_len)
    }

    fn remove_retired(&mut self) {
        for memory in self.retired.try_iter() {
            // SAFETY: it is a session of this instance, which belongs to this thread, and nothing of it is under way: calls return when the
            // card is done.
            let status = unsafe { (self.library.remove_session)(self.handle, memory.pointer(0).cast()) };
            if status != sys::SUCCESS {
                // The library holds on to it.
                std::mem::forget(memory);
            }
        }
    }

    /// Whether a packet can go to the card at all.
    pub(crate) fn takes(job: &Job<'_>) -> bool {
        let behind = job.packet.len().saturating_sub(job.header_len);
        (1..=HEADER_MAX).contains(&job.header_len) && behind > TAG_LEN && behind <= SLOT_LEN - DATA_AT
    }

    /// Seals or opens up to [`BATCH_MAX`] packets, all of which the card [takes](Self::takes); `session` has that of each.
    ///
    /// # Errors
    /// Why the instance is of no use any more. The packets are as they were; the instance is to be [abandoned](Self::abandon).
    pub(crate) fn run<'s>(
        &mut self,
        direction: Direction,
        jobs: &mut [Job<'_>],
        iv: &[u8; IV_LEN],
        session: impl Fn(usize) -> &'s Session,
    ) -> Result<(), Fault> {
        let mut ops = [null_mut(); BATCH_MAX];
        for (at, (job, op)) in jobs.iter().zip(&mut ops).enumerate() {
            *op = self.write(at, job, direction, iv, session(at).context());
        }
        let count = jobs.len().min(BATCH_MAX);
        let ops = &mut ops[..count];
        let mut patience = Patience::new();
        self.enqueue(ops, &mut patience)?;
        self.wait(count, &mut patience)?;
        for answer in &self.answers[..count] {
            if let Answer::Failed(status) = answer.get() {
                return Err(Fault::Packet(status));
            }
        }
        for (at, job) in jobs.iter_mut().enumerate() {
            self.read(at, job, direction);
        }
        self.tally.add(PACKETS, count as u64);
        Ok(())
    }

    /// Writes a packet and its request into a slot.
    #[inline]
    fn write(
        &mut self,
        at: usize,
        job: &Job<'_>,
        direction: Direction,
        iv: &[u8; IV_LEN],
        session: *mut c_void,
    ) -> *mut sys::Op {
        let slot = at * SLOT_LEN;
        let (header, rest) = job.packet.split_at(job.header_len);
        let text_len = rest.len() - TAG_LEN;
        let data = if direction == Direction::Seal { &rest[..text_len] } else { rest };
        self.slots.write(slot + DATA_AT, data);
        self.slots.write(slot + IV_AT, &nonce(iv, job.number));
        self.slots.write(slot + AAD_AT, header);
        self.answers[at].set(Answer::Pending);
        let data = self.slots.physical(slot + DATA_AT);
        let op = self.slots.pointer(slot).cast::<sys::Op>();
        let request = sys::Op {
            reserved0: 0,
            cipher_start: 0,
            cipher_len: text_len as u32,
            iv: self.slots.physical(slot + IV_AT),
            reserved1: 0,
            hash_start: 0,
            hash_len: 0,
            aad: self.slots.physical(slot + AAD_AT),
            digest: data + text_len as u64,
            instance: self.handle,
            session,
            iv_len: IV_LEN as u32,
            source: data,
            source_len: rest.len() as u32,
            destination: data,
            destination_len: rest.len() as u32,
            this: self.slots.physical(slot),
            iv_virtual: self.slots.pointer(slot + IV_AT),
            aad_virtual: self.slots.pointer(slot + AAD_AT),
            tag: (&raw const self.answers[at]).cast_mut().cast(),
        };
        // SAFETY: the slot has room for a request and is aligned for it, and nothing of it is under way.
        unsafe { op.write(request) };
        op
    }

    /// Takes what the card made of a packet.
    #[inline]
    fn read(&self, at: usize, job: &mut Job<'_>, direction: Direction) {
        let from = at * SLOT_LEN + DATA_AT;
        let rest = &mut job.packet[job.header_len..];
        let text_len = rest.len() - TAG_LEN;
        job.is_done = self.answers[at].get() == Answer::Done;
        match (job.is_done, direction) {
            (true, Direction::Seal) => self.slots.read(from, rest),
            (true, Direction::Open) => self.slots.read(from, &mut rest[..text_len]),
            (false, _) => rest[..text_len].fill(0),
        }
    }

    /// Gives requests to the card: all of them, or none.
    fn enqueue(&mut self, ops: &mut [*mut sys::Op], patience: &mut Patience) -> Result<(), Fault> {
        loop {
            // SAFETY: the requests are complete, lie in pinned memory and stay there until they are answered; sessions and instance are
            // this thread's.
            let status = unsafe { (self.library.enqueue_batch)(ops.len() as u32, ops.as_mut_ptr(), sys::TRUE) };
            match status {
                sys::SUCCESS => return Ok(()),
                sys::RETRY if patience.is_over() => return Err(Fault::Full),
                sys::RETRY => self.poll()?,
                status => return Err(Fault::Refuses(status)),
            }
        }
    }

    /// Waits for the answers to the first `count` requests.
    fn wait(&mut self, count: usize, patience: &mut Patience) -> Result<(), Fault> {
        loop {
            // The clock comes first: who was kept from the processor for long looks once more.
            let is_over = patience.is_over();
            self.poll()?;
            // They come in order within a session only.
            if self.answers[..count].iter().all(|answer| answer.get() != Answer::Pending) {
                return Ok(());
            }
            if is_over {
                return Err(Fault::Silent);
            }
            std::hint::spin_loop();
        }
    }

    /// Takes the answers that are there.
    fn poll(&mut self) -> Result<(), Fault> {
        // SAFETY: the instance belongs to this thread; what it calls is `answered`, with requests of this instance.
        match unsafe { (self.library.poll)(self.handle, 0) } {
            sys::SUCCESS | sys::RETRY => Ok(()),
            status => Err(Fault::Poll(status)),
        }
    }

    /// Leaves the instance as it is, with all its memory: the card may still write there. It is never asked for answers again.
    pub(crate) fn abandon(self) {
        let Self { slots, answers, retired, .. } = self;
        std::mem::forget(slots);
        std::mem::forget(answers);
        retired.try_iter().for_each(std::mem::forget);
    }

    /// Ends it. No session of it is alive.
    pub(crate) fn stop(mut self) {
        self.remove_retired();
        // SAFETY: the instance belongs to this thread, and nothing is under way.
        unsafe { (self.library.stop_instance)(self.handle) };
    }
}

/// The NUMA node of an instance; -1 if the library does not say.
fn node(library: &Library, handle: sys::Handle) -> i32 {
    let mut info = sys::InstanceInfo { before: [0; 912], node: u32::MAX, after: [0; 16] };
    // SAFETY: the library listed the instance, and the structure is as long as it writes.
    let status = unsafe { (library.instance_get_info)(handle, &raw mut info) };
    if status == sys::SUCCESS { i32::try_from(info.node).unwrap_or(-1) } else { -1 }
}

/// The nonce of a packet (RFC 9001 section 5.3).
#[inline]
fn nonce(iv: &[u8; IV_LEN], number: u64) -> [u8; IV_LEN] {
    let mut nonce = *iv;
    nonce[4..].iter_mut().zip(number.to_be_bytes()).for_each(|(byte, number)| *byte ^= number);
    nonce
}

/// Notes the answer to a request; the library calls it out of a poll.
unsafe extern "C" fn answered(op: *mut sys::Op, status: sys::Status, is_authentic: sys::Boolean) {
    // SAFETY: the request is one of this driver's, in memory that is still there.
    let tag = unsafe { (*op).tag };
    // SAFETY: that is what `write` put there; the cell is on the heap as long as the instance is polled, and this is the thread that polls.
    let answer = unsafe { &*tag.cast::<Cell<Answer>>() };
    answer.set(match (status, is_authentic) {
        (sys::SUCCESS, sys::FALSE) => Answer::Forged,
        (sys::SUCCESS, _) => Answer::Done,
        (status, _) => Answer::Failed(status),
    });
}

/// How long to wait for a card.
struct Patience {
    since: Option<Instant>,
    looks: u32,
}

impl Patience {
    fn new() -> Self {
        Self { since: None, looks: 0 }
    }

    /// Whether it is over. The first call does not look at the clock, and most others do not either.
    #[inline]
    fn is_over(&mut self) -> bool {
        self.looks += 1;
        if !self.looks.is_multiple_of(POLLS_PER_LOOK) {
            return false;
        }
        self.since.get_or_insert_with(Instant::now).elapsed() > ANSWER_MAX
    }
}
