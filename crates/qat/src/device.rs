//! The cards of a machine as a device for packets: instances for threads, sessions for keys.

use std::cell::RefCell;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use warpline_proto::{BATCH_MAX, DeviceKey, Job, PacketDevice};
use warpline_ring::{Counters, Lock};
use zeroize::Zeroizing;

use crate::error::Unavailable;
use crate::instance::{BATCHES_LEFT, Fault, Instance, PACKETS, Tally};
use crate::library::Library;
use crate::limits::{BATCH_MIN, INSTANCES_MAX, SESSIONS_PER_KEY};
use crate::session::{Direction, Session};
use crate::{Places, Status, cards, sys};

/// The QAT cards that this process may use. Clones mean the same ones.
#[derive(Clone)]
pub struct Qat(Arc<Shared>);

struct Shared {
    library: &'static Library,
    /// Instances that no thread has. Taken when a thread makes its first key, not with packets.
    idle: Lock<Vec<Instance>>,
    /// What each instance did.
    tallies: Vec<Arc<Tally>>,
    given_up: AtomicUsize,
    batch_min: AtomicUsize,
}

/// Whether there is a [`Shared`]: two of them would start the same instances.
static IS_OPEN: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The instance of this thread, and the cards that it is of.
    static LEASE: RefCell<Option<Lease>> = const { RefCell::new(None) };
}

/// What a thread has of the cards.
struct Lease {
    shared: Arc<Shared>,
    /// None: all were taken when this thread asked, or its own was given up.
    instance: Option<Instance>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.idle.lock().extend(self.instance.take());
    }
}

impl Qat {
    /// Finds cards, loads the library and starts the instances that it has for this process.
    ///
    /// # Errors
    /// What is missing; [`Unavailable::remedy`] says what to do about it. [`Unavailable::Taken`] if the cards are open already.
    pub fn open(places: &Places) -> Result<Self, Unavailable> {
        cards::check(&places.root)?;
        let library = Library::load(places)?;
        if IS_OPEN.swap(true, Relaxed) {
            return Err(Unavailable::Taken);
        }
        // The name of the section that a driver with configuration files takes rings from, where Intel's own programs have theirs.
        // SAFETY: a C string that lives through the call.
        let status = unsafe { (library.user_start)(c"SSL".as_ptr()) };
        if status != sys::SUCCESS {
            IS_OPEN.store(false, Relaxed);
            return Err(Unavailable::Start { status });
        }
        let mut shared = Shared {
            library,
            idle: Lock::new(Vec::new()),
            tallies: Vec::new(),
            given_up: AtomicUsize::new(0),
            batch_min: AtomicUsize::new(BATCH_MIN),
        };
        for (number, handle) in capable(library)?.into_iter().enumerate() {
            let tally = Arc::new(Tally::new());
            shared.tallies.push(Arc::clone(&tally));
            let instance = Instance::start(library, handle, number, tally)?;
            shared.idle.lock().push(instance);
        }
        // The first ones are taken first.
        shared.idle.lock().reverse();
        Ok(Self(Arc::new(shared)))
    }

    /// What the instances did and do.
    pub fn status(&self) -> Status {
        let done = Counters::sum(self.0.tallies.iter().map(|tally| &**tally));
        Status {
            instances: self.0.tallies.len(),
            idle: self.0.idle.lock().len(),
            given_up: self.0.given_up.load(Relaxed),
            packets: done[PACKETS],
            batches_left: done[BATCHES_LEFT],
            batch_min: self.0.batch_min.load(Relaxed),
        }
    }

    /// Gives the instance of this thread back, if it has one of these cards.
    pub fn release(&self) {
        // Dropped outside of the cell: giving back takes a lock.
        drop(LEASE.with(|lease| lease.borrow_mut().take_if(|lease| Arc::ptr_eq(&lease.shared, &self.0))));
    }

    /// Packets that are worth the way to the card from now on. At least one.
    pub fn set_batch_min(&self, packets: usize) {
        self.0.batch_min.store(packets.max(1), Relaxed);
    }

    /// Sees to it that this thread has an instance, if there is one.
    fn lease(&self) -> bool {
        let has = LEASE.with(|lease| {
            let lease = lease.borrow();
            let own = lease.as_ref().filter(|lease| Arc::ptr_eq(&lease.shared, &self.0));
            own.map(|lease| lease.instance.is_some())
        });
        if has == Some(true) {
            return true;
        }
        let instance = self.0.idle.lock().pop();
        let found = instance.is_some();
        if !found && has.is_none() {
            let all = self.0.tallies.len();
            tracing::warn!("no QAT instance of {all} is left for this thread: the library seals its packets");
        }
        let lease = Lease { shared: Arc::clone(&self.0), instance };
        drop(LEASE.with(|own| own.replace(Some(lease))));
        found
    }
}

/// The instances that the library lists, if they can do what packets need.
fn capable(library: &'static Library) -> Result<Vec<sys::Handle>, Unavailable> {
    let called = |call: &'static str, status: sys::Status| match status {
        sys::SUCCESS => Ok(()),
        status => Err(Unavailable::Instance { call, status }),
    };
    let mut count = 0;
    // SAFETY: a number that lives through the call.
    let status = unsafe { (library.get_num_instances)(&raw mut count) };
    if status != sys::SUCCESS || count == 0 {
        return Err(Unavailable::NoInstance);
    }
    let count = count.min(INSTANCES_MAX);
    let mut handles = vec![null_mut(); usize::from(count)];
    // SAFETY: the array has room for so many.
    called("cpaCyGetInstances", unsafe { (library.get_instances)(count, handles.as_mut_ptr()) })?;
    handles.retain(|handle| has_gcm(library, *handle));
    if handles.is_empty() { Err(Unavailable::NoCipher) } else { Ok(handles) }
}

fn has_gcm(library: &'static Library, handle: sys::Handle) -> bool {
    let (mut all, mut symmetric) = (sys::Capabilities::default(), sys::SymCapabilities::default());
    // SAFETY: the library listed the instance, and the structure is as long as it writes.
    let status = unsafe { (library.query_capabilities)(handle, &raw mut all) };
    if status != sys::SUCCESS || all.symmetric == sys::FALSE {
        return false;
    }
    // SAFETY: the library listed the instance, and the structure is as long as it writes.
    let status = unsafe { (library.sym_query_capabilities)(handle, &raw mut symmetric) };
    let has = |bits: u32, number: u32| bits >> number & 1 == 1;
    status == sys::SUCCESS && has(symmetric.ciphers, sys::CIPHER_AES_GCM) && has(symmetric.hashes, sys::HASH_AES_GCM)
}

impl Drop for Shared {
    fn drop(&mut self) {
        // What was given up may still be at work: then the library stays as it is.
        if *self.given_up.get_mut() == 0 {
            for instance in self.idle.lock().drain(..) {
                instance.stop();
            }
            // SAFETY: it was started, and its instances were stopped.
            unsafe { (self.library.user_stop)() };
        }
        IS_OPEN.store(false, Relaxed);
    }
}

impl std::fmt::Debug for Qat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Qat").field(&self.status()).finish()
    }
}

impl PacketDevice for Qat {
    /// Gives the thread that asks an instance if it has none; without one there is no key.
    fn key(&self, key: &[u8], iv: &[u8; 12]) -> Option<Box<dyn DeviceKey>> {
        if !matches!(key.len(), 16 | 32) || !self.lease() {
            return None;
        }
        let key = Zeroizing::new(key.to_vec());
        Some(Box::new(Key { shared: Arc::clone(&self.0), key, iv: *iv, sessions: RefCell::default() }))
    }
}

/// A key for one direction. Sessions are made where it is used, when a length of header comes up for the first time.
struct Key {
    // Before the cards themselves, which sessions need to go.
    sessions: RefCell<Vec<Session>>,
    key: Zeroizing<Vec<u8>>,
    iv: [u8; 12],
    shared: Arc<Shared>,
}

impl Key {
    fn batch(&self, direction: Direction, jobs: &mut [Job<'_>]) -> bool {
        LEASE.with(|lease| {
            let mut lease = lease.borrow_mut();
            let own = lease.as_mut().filter(|lease| Arc::ptr_eq(&lease.shared, &self.shared));
            let Some(slot) = own.map(|lease| &mut lease.instance) else { return false };
            let Some(instance) = slot.as_mut() else { return false };
            match self.batch_at(instance, direction, jobs) {
                Ok(true) => true,
                Ok(false) => {
                    instance.tally.add(BATCHES_LEFT, 1);
                    false
                }
                Err(fault) => {
                    instance.tally.add(BATCHES_LEFT, 1);
                    self.give_up(slot, fault);
                    false
                }
            }
        })
    }

    /// Whether the batch was done.
    fn batch_at(&self, instance: &mut Instance, direction: Direction, jobs: &mut [Job<'_>]) -> Result<bool, Fault> {
        if jobs.is_empty() || jobs.len() > BATCH_MAX || !jobs.iter().all(Instance::takes) {
            return Ok(false);
        }
        let mut sessions = self.sessions.borrow_mut();
        let Some(which) = self.sessions_for(&mut sessions, instance, direction, jobs) else { return Ok(false) };
        instance.run(direction, jobs, &self.iv, |at| &sessions[usize::from(which[at])])?;
        Ok(true)
    }

    /// The session of each packet; `None` if there is no room for one.
    fn sessions_for(
        &self,
        sessions: &mut Vec<Session>,
        instance: &mut Instance,
        direction: Direction,
        jobs: &[Job<'_>],
    ) -> Option<[u8; BATCH_MAX]> {
        // The connection has moved here from another thread.
        sessions.retain(|session| session.instance == instance.number && session.direction == direction);
        let mut which = [0; BATCH_MAX];
        for (job, which) in jobs.iter().zip(&mut which) {
            let known = sessions.iter().position(|session| session.header_len == job.header_len);
            let at = match known {
                Some(at) => at,
                None if sessions.len() == SESSIONS_PER_KEY => return None,
                None => {
                    sessions.push(instance.session(&self.key, direction, job.header_len)?);
                    sessions.len() - 1
                }
            };
            *which = at as u8;
        }
        Some(which)
    }

    fn give_up(&self, slot: &mut Option<Instance>, fault: Fault) {
        let Some(instance) = slot.take() else { return };
        let (number, all) = (instance.number, self.shared.tallies.len());
        self.shared.given_up.fetch_add(1, Relaxed);
        tracing::warn!("QAT instance {number} of {all} is given up: {fault}; the library seals its packets");
        instance.abandon();
    }
}

impl DeviceKey for Key {
    fn seal(&self, jobs: &mut [Job<'_>]) -> bool {
        self.batch(Direction::Seal, jobs)
    }

    fn open(&self, jobs: &mut [Job<'_>]) -> bool {
        self.batch(Direction::Open, jobs)
    }

    fn batch_min(&self) -> usize {
        self.shared.batch_min.load(Relaxed)
    }
}
