//! `libqat` and `libusdm` by a program: the C interface that the driver uses, AES-GCM by aws-lc, and faults on request. Tests load it in
//! place of the libraries. It is stricter than they are: what the interface forbids ends the process with a message.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(missing_docs, reason = "the functions are documented by the libraries that have them")]

#[path = "../src/sys.rs"]
#[allow(dead_code, reason = "the driver's part of the interface is larger")]
mod sys;

use std::alloc::{Layout, alloc, dealloc};
use std::collections::{HashMap, VecDeque};
use std::ffi::{c_char, c_int, c_void};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use warpline_ring::Lock;

/// What goes wrong; see the constants of the same names in `tests/common`.
static FAULT: AtomicU32 = AtomicU32::new(0);
const START: u32 = 1;
const NO_INSTANCES: u32 = 2;
const NO_GCM: u32 = 3;
const SESSION: u32 = 4;
const FULL: u32 = 5;
const REFUSES: u32 = 6;
const SILENT: u32 = 7;
const POLL: u32 = 8;
const PACKET: u32 = 9;
const TAG: u32 = 10;
const CREDULOUS: u32 = 11;
const MEMORY: u32 = 12;
const FULL_FOR_A_WHILE: u32 = 13;
const HALF_SILENT: u32 = 14;

const FAIL: sys::Status = -1;
/// Answers that one poll brings.
const ANSWERS_PER_POLL: usize = 5;
/// Times that a ring that is full for a while says so.
const FULL_TIMES: usize = 7;
/// Difference of virtual and physical addresses: taking one for the other does not go unnoticed.
const PHYSICAL: u64 = 0x1000_0000_0000;
const INSTANCES_MAX: usize = 64;

static INSTANCES: AtomicU16 = AtomicU16::new(2);
static STARTED: AtomicUsize = AtomicUsize::new(0);
static SESSIONS: AtomicUsize = AtomicUsize::new(0);
static PACKETS: AtomicU64 = AtomicU64::new(0);
static BLOCKS: LazyLock<Lock<HashMap<usize, Layout>>> = LazyLock::new(Lock::default);
static RINGS: LazyLock<Vec<Ring>> = LazyLock::new(|| (0..INSTANCES_MAX).map(|_| Ring::default()).collect());

#[derive(Default)]
struct Ring {
    /// Somebody is inside.
    is_busy: AtomicBool,
    is_started: AtomicBool,
    is_translated: AtomicBool,
    fullness: AtomicUsize,
    callback: Lock<Option<sys::Callback>>,
    queue: Lock<VecDeque<usize>>,
}

struct Session {
    key: LessSafeKey,
    opens: bool,
    aad_len: usize,
    instance: usize,
    pending: AtomicUsize,
}

fn demand(holds: bool, what: &str) {
    if !holds {
        eprintln!("stand-in for libqat: {what}");
        std::process::abort();
    }
}

fn fault(which: u32) -> bool {
    FAULT.load(SeqCst) == which
}

/// The ring of a handle, for one thread at a time.
fn inside<T>(handle: sys::Handle, work: impl FnOnce(usize, &Ring) -> T) -> T {
    let at = (handle as usize).wrapping_sub(1);
    demand(at < usize::from(INSTANCES.load(SeqCst)), "no such instance");
    let ring = &RINGS[at];
    demand(!ring.is_busy.swap(true, SeqCst), "two threads use one instance");
    let done = work(at, ring);
    ring.is_busy.store(false, SeqCst);
    done
}

/// The memory behind a physical address.
fn virt(physical: u64) -> *mut u8 {
    demand(physical > PHYSICAL, "a physical address");
    (physical - PHYSICAL) as usize as *mut u8
}

fn session_at(context: *mut c_void) -> *mut Session {
    // SAFETY: the driver's session memory begins with the pointer that `cpaCySymDpInitSession` put there.
    unsafe { context.cast::<*mut Session>().read() }
}

// Controls.

#[unsafe(no_mangle)]
pub extern "C" fn standin_reset(instances: u16) {
    FAULT.store(0, SeqCst);
    INSTANCES.store(instances, SeqCst);
    PACKETS.store(0, SeqCst);
    // What drivers left behind that gave an instance up.
    STARTED.store(0, SeqCst);
    SESSIONS.store(0, SeqCst);
    BLOCKS.lock().clear();
    for ring in RINGS.iter() {
        ring.queue.lock().clear();
        ring.is_started.store(false, SeqCst);
        ring.is_translated.store(false, SeqCst);
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn standin_fault(which: u32) {
    RINGS.iter().for_each(|ring| ring.fullness.store(FULL_TIMES, SeqCst));
    FAULT.store(which, SeqCst);
}

/// Sessions, blocks of memory, and starts that nobody has undone.
#[unsafe(no_mangle)]
pub extern "C" fn standin_live(which: u32) -> usize {
    match which {
        0 => SESSIONS.load(SeqCst),
        1 => BLOCKS.lock().len(),
        _ => STARTED.load(SeqCst),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn standin_packets() -> u64 {
    PACKETS.load(SeqCst)
}

// libusdm.

#[unsafe(no_mangle)]
pub extern "C" fn qaeMemAllocNUMA(size: usize, _node: c_int, align: usize) -> *mut c_void {
    if fault(MEMORY) {
        return std::ptr::null_mut();
    }
    demand(size > 0 && align.is_power_of_two(), "memory that cannot be");
    let layout = Layout::from_size_align(size, align).unwrap_or(Layout::new::<u64>());
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc(layout) };
    // SAFETY: that is how long it is. What is fresh is not zero.
    unsafe { memory.write_bytes(0xa5, size) };
    BLOCKS.lock().insert(memory as usize, layout);
    memory.cast()
}

/// # Safety
/// `memory` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qaeMemFreeNUMA(memory: *mut *mut c_void) {
    // SAFETY: it does.
    let start = unsafe { memory.read() };
    let layout = BLOCKS.lock().remove(&(start as usize));
    demand(layout.is_some(), "memory that was not allocated is freed");
    // SAFETY: it was allocated with this layout.
    layout.into_iter().for_each(|layout| unsafe { dealloc(start.cast(), layout) });
}

#[unsafe(no_mangle)]
pub extern "C" fn qaeVirtToPhysNUMA(memory: *mut c_void) -> u64 {
    memory as u64 + PHYSICAL
}

// libqat: the process and its instances.

#[unsafe(no_mangle)]
pub extern "C" fn icp_sal_userStart(name: *const c_char) -> sys::Status {
    demand(!name.is_null(), "a process without a name");
    if fault(START) {
        return FAIL;
    }
    STARTED.fetch_add(1, SeqCst);
    sys::SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn icp_sal_userStop() -> sys::Status {
    demand(STARTED.fetch_sub(1, SeqCst) > 0, "stopped before it was started");
    sys::SUCCESS
}

/// # Safety
/// `count` points to a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpaCyGetNumInstances(count: *mut u16) -> sys::Status {
    let instances = if fault(NO_INSTANCES) { 0 } else { INSTANCES.load(SeqCst) };
    // SAFETY: it does.
    unsafe { count.write(instances) };
    sys::SUCCESS
}

/// # Safety
/// `handles` has room for `count`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpaCyGetInstances(count: u16, handles: *mut sys::Handle) -> sys::Status {
    for at in 0..usize::from(count) {
        // SAFETY: it has.
        let handle = unsafe { handles.add(at) };
        // SAFETY: it has.
        unsafe { handle.write((at + 1) as sys::Handle) };
    }
    sys::SUCCESS
}

/// # Safety
/// `info` has room for the capabilities.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpaCyQueryCapabilities(_: sys::Handle, info: *mut sys::Capabilities) -> sys::Status {
    // As qatlib does, which says nothing about its data plane.
    // SAFETY: it has.
    unsafe { info.write(sys::Capabilities { symmetric: sys::TRUE, others: [0; 18] }) };
    sys::SUCCESS
}

/// # Safety
/// `info` has room for the capabilities.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpaCySymQueryCapabilities(_: sys::Handle, info: *mut sys::SymCapabilities) -> sys::Status {
    let ciphers = if fault(NO_GCM) { 0 } else { 1 << sys::CIPHER_AES_GCM };
    // SAFETY: it has.
    unsafe { info.write(sys::SymCapabilities { ciphers, hashes: 1 << sys::HASH_AES_GCM, partials: 0 }) };
    sys::SUCCESS
}

/// # Safety
/// `info` has room for what is known of an instance.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpaCyInstanceGetInfo2(_: sys::Handle, info: *mut sys::InstanceInfo) -> sys::Status {
    // SAFETY: it has.
    unsafe { info.write(sys::InstanceInfo { before: [0; 912], node: 0, after: [0; 16] }) };
    sys::SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cpaCySetAddressTranslation(handle: sys::Handle, _: sys::Translate) -> sys::Status {
    inside(handle, |_, ring| ring.is_translated.store(true, SeqCst));
    sys::SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cpaCyStartInstance(handle: sys::Handle) -> sys::Status {
    inside(handle, |_, ring| demand(!ring.is_started.swap(true, SeqCst), "an instance is started twice"));
    sys::SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cpaCyStopInstance(handle: sys::Handle) -> sys::Status {
    inside(handle, |at, ring| {
        demand(ring.is_started.swap(false, SeqCst), "an instance is stopped that was not started");
        demand(ring.queue.lock().is_empty(), &format!("instance {at} is stopped at work"));
    });
    sys::SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cpaCySymDpRegCbFunc(handle: sys::Handle, callback: sys::Callback) -> sys::Status {
    inside(handle, |_, ring| *ring.callback.lock() = Some(callback));
    sys::SUCCESS
}

// libqat: sessions.

/// # Safety
/// `size` points to a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpaCySymDpSessionCtxGetSize(
    _: sys::Handle,
    _: *const sys::SessionSetup,
    size: *mut u32,
) -> sys::Status {
    // SAFETY: it does.
    unsafe { size.write(832) };
    sys::SUCCESS
}

/// # Safety
/// `setup` is complete, and `context` as long as was asked for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpaCySymDpInitSession(
    handle: sys::Handle,
    setup: *const sys::SessionSetup,
    context: *mut c_void,
) -> sys::Status {
    if fault(SESSION) {
        return FAIL;
    }
    // SAFETY: it is.
    let setup = unsafe { &*setup };
    let (cipher, hash) = (&setup.cipher, &setup.hash);
    demand(BLOCKS.lock().contains_key(&(context as usize)), "a session that is not in pinned memory");
    demand(setup.operation == sys::OP_ALGORITHM_CHAINING && setup.priority == sys::PRIORITY_NORMAL, "a session's kind");
    demand(cipher.algorithm == sys::CIPHER_AES_GCM && hash.algorithm == sys::HASH_AES_GCM, "a session's cipher");
    demand(hash.mode == sys::HASH_MODE_AUTH && hash.digest_len == 16, "a session's tag");
    demand((1..=240).contains(&hash.auth.aad_len), "a session's header");
    let opens = cipher.direction == sys::DIRECTION_DECRYPT;
    let order = if opens { sys::HASH_THEN_CIPHER } else { sys::CIPHER_THEN_HASH };
    demand(setup.chain_order == order && (setup.verify_digest == sys::TRUE) == opens, "a session's order");
    demand(setup.digest_is_appended == sys::FALSE, "a session's place for the tag");
    // SAFETY: the driver gives a key of that length.
    let key = unsafe { std::slice::from_raw_parts(cipher.key, cipher.key_len as usize) };
    let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
    let Ok(key) = UnboundKey::new(algorithm, key) else { return -4 };
    let aad_len = hash.auth.aad_len as usize;
    let instance = handle as usize;
    inside(handle, |_, ring| {
        demand(ring.is_started.load(SeqCst) && ring.is_translated.load(SeqCst), "a session of an idle instance");
    });
    let session = Session { key: LessSafeKey::new(key), opens, aad_len, instance, pending: AtomicUsize::new(0) };
    // SAFETY: it is long enough.
    unsafe { context.cast::<*mut Session>().write(Box::into_raw(Box::new(session))) };
    SESSIONS.fetch_add(1, SeqCst);
    sys::SUCCESS
}

/// # Safety
/// `context` is a session's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpaCySymDpRemoveSession(handle: sys::Handle, context: *mut c_void) -> sys::Status {
    // SAFETY: it was made by `cpaCySymDpInitSession`.
    let session = unsafe { Box::from_raw(session_at(context)) };
    demand(session.instance == handle as usize, "a session is removed at another instance");
    demand(session.pending.load(SeqCst) == 0, "a session is removed that is at work");
    inside(handle, |_, _| SESSIONS.fetch_sub(1, SeqCst));
    sys::SUCCESS
}

// libqat: packets.

/// # Safety
/// `ops` has `count` requests.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpaCySymDpEnqueueOpBatch(
    count: u32,
    ops: *mut *mut sys::Op,
    now: sys::Boolean,
) -> sys::Status {
    // SAFETY: it has.
    let ops = unsafe { std::slice::from_raw_parts(ops, count as usize) };
    demand(!ops.is_empty() && now == sys::TRUE, "an empty batch, or one to be done later");
    // SAFETY: requests are complete.
    let handle = unsafe { (*ops[0]).instance };
    inside(handle, |_, ring| {
        if fault(REFUSES) {
            return FAIL;
        }
        let for_a_while = fault(FULL_FOR_A_WHILE) && ring.fullness.load(SeqCst) > 0;
        if for_a_while {
            ring.fullness.fetch_sub(1, SeqCst);
        }
        if fault(FULL) || for_a_while {
            return sys::RETRY;
        }
        for op in ops {
            // SAFETY: requests are complete.
            check(unsafe { &**op }, *op, handle);
            ring.queue.lock().push_back(*op as usize);
        }
        sys::SUCCESS
    })
}

fn check(op: &sys::Op, address: *mut sys::Op, handle: sys::Handle) {
    demand(op.instance == handle, "a batch for two instances");
    demand(op.reserved0 == 0 && op.reserved1 == 0, "a field that is reserved");
    demand(op.this == address as u64 + PHYSICAL && op.this.is_multiple_of(8), "a request's address");
    demand(op.iv_len == 12 && virt(op.iv) == op.iv_virtual, "a nonce");
    demand(virt(op.aad) == op.aad_virtual, "a header");
    demand(op.source == op.destination && op.source_len == op.destination_len, "a text");
    demand(op.cipher_start + op.cipher_len <= op.source_len, "a text's length");
    // SAFETY: the session of a request is one that is alive.
    let session = unsafe { &*session_at(op.session) };
    demand(session.instance == handle as usize, "a session of another instance");
    session.pending.fetch_add(1, SeqCst);
}

#[unsafe(no_mangle)]
pub extern "C" fn icp_sal_CyPollDpInstance(handle: sys::Handle, _quota: u32) -> sys::Status {
    inside(handle, |_, ring| {
        if fault(POLL) {
            return FAIL;
        }
        let is_silent = fault(SILENT) || fault(HALF_SILENT) && ring.queue.lock().len() <= ANSWERS_PER_POLL;
        if is_silent || ring.queue.lock().is_empty() {
            return sys::RETRY;
        }
        let callback = *ring.callback.lock();
        for _ in 0..ANSWERS_PER_POLL {
            let Some(op) = ring.queue.lock().pop_front() else { break };
            let op = op as *mut sys::Op;
            // SAFETY: requests stay until they are answered.
            let (status, is_authentic) = perform(unsafe { &*op });
            PACKETS.fetch_add(1, SeqCst);
            // SAFETY: that is the driver's function, and its request.
            callback.into_iter().for_each(|answer| unsafe { answer(op, status, is_authentic) });
        }
        sys::SUCCESS
    })
}

/// Seals or opens a packet.
fn perform(op: &sys::Op) -> (sys::Status, sys::Boolean) {
    // SAFETY: the session of a request is one that is alive.
    let session = unsafe { &*session_at(op.session) };
    session.pending.fetch_sub(1, SeqCst);
    if fault(PACKET) {
        return (FAIL, sys::FALSE);
    }
    // qatlib pads the header to whole blocks, where it is.
    let padding = session.aad_len.next_multiple_of(16) - session.aad_len;
    // SAFETY: the driver's memory for a header is as long as whole blocks.
    let behind = unsafe { op.aad_virtual.add(session.aad_len) };
    // SAFETY: the driver's memory for a header is as long as whole blocks.
    unsafe { behind.write_bytes(0, padding) };
    // SAFETY: the driver wrote a header of this length there.
    let aad = unsafe { std::slice::from_raw_parts(virt(op.aad), session.aad_len) };
    // SAFETY: the driver wrote a nonce there.
    let nonce = unsafe { virt(op.iv).cast::<[u8; 12]>().read() };
    let text = virt(op.source + u64::from(op.cipher_start));
    // SAFETY: the driver wrote a text of this length there.
    let text = unsafe { std::slice::from_raw_parts_mut(text, op.cipher_len as usize) };
    // SAFETY: the driver has a tag there, or room for one, behind the text.
    let tag = unsafe { &mut *virt(op.digest).cast::<[u8; 16]>() };
    let nonce = Nonce::assume_unique_for_key(nonce);
    if session.opens {
        let mut sealed = [&*text, &tag[..]].concat();
        let opened = session.key.open_in_place(nonce, Aad::from(aad), &mut sealed).is_ok();
        text.copy_from_slice(&sealed[..text.len()]);
        return (sys::SUCCESS, if opened || fault(CREDULOUS) { sys::TRUE } else { sys::FALSE });
    }
    let Ok(made) = session.key.seal_in_place_separate_tag(nonce, Aad::from(aad), text) else {
        return (FAIL, sys::FALSE);
    };
    tag.copy_from_slice(made.as_ref());
    tag[3] ^= u8::from(fault(TAG));
    (sys::SUCCESS, sys::TRUE)
}
