//! The C interface of qatlib: what is used of `cpa.h`, `cpa_cy_im.h`, `cpa_cy_sym.h`, `cpa_cy_sym_dp.h`, `icp_sal_user.h`,
//! `icp_sal_poll.h` and `qae_mem.h` (version 5.9 of the API, x86-64).
//!
//! The sizes and offsets at the end were taken from those headers by a C program.

use std::ffi::{c_char, c_int, c_void};
use std::mem::{offset_of, size_of};

/// `CpaStatus`.
pub type Status = i32;
pub const SUCCESS: Status = 0;
/// `CPA_STATUS_RETRY`: no room in the ring, or nothing to read there.
pub const RETRY: Status = -2;

/// `CpaBoolean`, a C enumeration.
pub type Boolean = u32;
pub const FALSE: Boolean = 0;
pub const TRUE: Boolean = 1;

/// `CpaInstanceHandle`.
pub type Handle = *mut c_void;

/// `CPA_CY_PRIORITY_NORMAL`.
pub const PRIORITY_NORMAL: u32 = 1;
/// `CPA_CY_SYM_OP_ALGORITHM_CHAINING`.
pub const OP_ALGORITHM_CHAINING: u32 = 3;
/// `CPA_CY_SYM_CIPHER_AES_GCM`, and the number of its bit among the capabilities.
pub const CIPHER_AES_GCM: u32 = 7;
/// `CPA_CY_SYM_CIPHER_DIRECTION_*`.
pub const DIRECTION_ENCRYPT: u32 = 1;
pub const DIRECTION_DECRYPT: u32 = 2;
/// `CPA_CY_SYM_HASH_AES_GCM`, and the number of its bit among the capabilities.
pub const HASH_AES_GCM: u32 = 9;
/// `CPA_CY_SYM_HASH_MODE_AUTH`.
pub const HASH_MODE_AUTH: u32 = 2;
/// `CPA_CY_SYM_ALG_CHAIN_ORDER_*`.
pub const HASH_THEN_CIPHER: u32 = 1;
pub const CIPHER_THEN_HASH: u32 = 2;

/// `CpaCySymCipherSetupData`.
#[repr(C)]
pub struct CipherSetup {
    pub algorithm: u32,
    pub key_len: u32,
    pub key: *const u8,
    pub direction: u32,
}

/// `CpaCySymHashNestedModeSetupData`, which AES-GCM does without.
#[repr(C)]
pub struct NestedSetup {
    pub inner_prefix: *const u8,
    pub inner_prefix_len: u32,
    pub outer_algorithm: u32,
    pub outer_prefix: *const u8,
    pub outer_prefix_len: u32,
}

/// `CpaCySymHashAuthModeSetupData`.
#[repr(C)]
pub struct AuthSetup {
    pub key: *const u8,
    pub key_len: u32,
    pub aad_len: u32,
}

/// `CpaCySymHashSetupData`.
#[repr(C)]
pub struct HashSetup {
    pub algorithm: u32,
    pub mode: u32,
    pub digest_len: u32,
    pub auth: AuthSetup,
    pub nested: NestedSetup,
}

/// `CpaCySymSessionSetupData`.
#[repr(C)]
pub struct SessionSetup {
    pub priority: u32,
    pub operation: u32,
    pub cipher: CipherSetup,
    pub hash: HashSetup,
    pub chain_order: u32,
    pub digest_is_appended: Boolean,
    pub verify_digest: Boolean,
    pub partials_not_required: Boolean,
}

/// `CpaCySymDpOpData`: one packet.
#[repr(C)]
pub struct Op {
    pub reserved0: u64,
    /// Where the text starts in the source, in bytes.
    pub cipher_start: u32,
    pub cipher_len: u32,
    /// Physical, as all addresses that are numbers here.
    pub iv: u64,
    pub reserved1: u64,
    /// For the library's own use with AES-GCM.
    pub hash_start: u32,
    pub hash_len: u32,
    pub aad: u64,
    pub digest: u64,
    pub instance: Handle,
    pub session: *mut c_void,
    pub iv_len: u32,
    pub source: u64,
    pub source_len: u32,
    pub destination: u64,
    pub destination_len: u32,
    /// That of this structure.
    pub this: u64,
    pub iv_virtual: *mut u8,
    pub aad_virtual: *mut u8,
    pub tag: *mut c_void,
}

/// `CpaCyCapabilitiesInfo`: of its switches the first says whether there is symmetric crypto. The second, for the data plane, is not set
/// by qatlib, which has it wherever it has symmetric crypto.
#[repr(C)]
#[derive(Default)]
pub struct Capabilities {
    pub symmetric: Boolean,
    pub others: [Boolean; 18],
}

/// `CpaCySymCapabilitiesInfo`: bits by the numbers of the algorithms.
#[repr(C)]
#[derive(Default)]
pub struct SymCapabilities {
    pub ciphers: u32,
    pub hashes: u32,
    pub partials: Boolean,
}

/// `CpaInstanceInfo2`, of which the NUMA node is read.
#[repr(C, align(4))]
pub struct InstanceInfo {
    pub before: [u8; 912],
    pub node: u32,
    pub after: [u8; 16],
}

/// `CpaCySymDpCbFunc`: the packet, how it went, whether its tag was right.
pub type Callback = unsafe extern "C" fn(*mut Op, Status, Boolean);
/// `CpaVirtualToPhysical`.
pub type Translate = unsafe extern "C" fn(*mut c_void) -> u64;

pub type UserStart = unsafe extern "C" fn(*const c_char) -> Status;
pub type UserStop = unsafe extern "C" fn() -> Status;
pub type GetNumInstances = unsafe extern "C" fn(*mut u16) -> Status;
pub type GetInstances = unsafe extern "C" fn(u16, *mut Handle) -> Status;
pub type QueryCapabilities = unsafe extern "C" fn(Handle, *mut Capabilities) -> Status;
pub type SymQueryCapabilities = unsafe extern "C" fn(Handle, *mut SymCapabilities) -> Status;
pub type InstanceGetInfo = unsafe extern "C" fn(Handle, *mut InstanceInfo) -> Status;
pub type SetAddressTranslation = unsafe extern "C" fn(Handle, Translate) -> Status;
/// `cpaCyStartInstance` and `cpaCyStopInstance`.
pub type Switch = unsafe extern "C" fn(Handle) -> Status;
pub type RegisterCallback = unsafe extern "C" fn(Handle, Callback) -> Status;
pub type SessionSize = unsafe extern "C" fn(Handle, *const SessionSetup, *mut u32) -> Status;
pub type InitSession = unsafe extern "C" fn(Handle, *const SessionSetup, *mut c_void) -> Status;
pub type RemoveSession = unsafe extern "C" fn(Handle, *mut c_void) -> Status;
pub type EnqueueBatch = unsafe extern "C" fn(u32, *mut *mut Op, Boolean) -> Status;
pub type Poll = unsafe extern "C" fn(Handle, u32) -> Status;
pub type MemAlloc = unsafe extern "C" fn(usize, c_int, usize) -> *mut c_void;
pub type MemFree = unsafe extern "C" fn(*mut *mut c_void);

const _: () = {
    assert!(size_of::<Op>() == 144);
    assert!(offset_of!(Op, cipher_start) == 8 && offset_of!(Op, cipher_len) == 12);
    assert!(offset_of!(Op, iv) == 16 && offset_of!(Op, reserved1) == 24);
    assert!(offset_of!(Op, hash_start) == 32 && offset_of!(Op, hash_len) == 36);
    assert!(offset_of!(Op, aad) == 40 && offset_of!(Op, digest) == 48);
    assert!(offset_of!(Op, instance) == 56 && offset_of!(Op, session) == 64 && offset_of!(Op, iv_len) == 72);
    assert!(offset_of!(Op, source) == 80 && offset_of!(Op, source_len) == 88);
    assert!(offset_of!(Op, destination) == 96 && offset_of!(Op, destination_len) == 104);
    assert!(offset_of!(Op, this) == 112 && offset_of!(Op, iv_virtual) == 120);
    assert!(offset_of!(Op, aad_virtual) == 128 && offset_of!(Op, tag) == 136);
};

const _: () = {
    assert!(size_of::<CipherSetup>() == 24 && size_of::<NestedSetup>() == 32 && size_of::<AuthSetup>() == 16);
    assert!(offset_of!(CipherSetup, key_len) == 4 && offset_of!(CipherSetup, key) == 8);
    assert!(offset_of!(CipherSetup, direction) == 16);
    assert!(offset_of!(AuthSetup, key_len) == 8 && offset_of!(AuthSetup, aad_len) == 12);
    assert!(size_of::<HashSetup>() == 64);
    assert!(offset_of!(HashSetup, mode) == 4 && offset_of!(HashSetup, digest_len) == 8);
    assert!(offset_of!(HashSetup, auth) == 16 && offset_of!(HashSetup, nested) == 32);
    assert!(size_of::<SessionSetup>() == 112);
    assert!(offset_of!(SessionSetup, operation) == 4 && offset_of!(SessionSetup, cipher) == 8);
    assert!(offset_of!(SessionSetup, hash) == 32 && offset_of!(SessionSetup, chain_order) == 96);
    assert!(offset_of!(SessionSetup, digest_is_appended) == 100 && offset_of!(SessionSetup, verify_digest) == 104);
    assert!(offset_of!(SessionSetup, partials_not_required) == 108);
};

const _: () = {
    assert!(size_of::<Capabilities>() == 76 && offset_of!(Capabilities, symmetric) == 0);
    assert!(size_of::<SymCapabilities>() == 12 && offset_of!(SymCapabilities, hashes) == 4);
    assert!(size_of::<InstanceInfo>() == 932 && offset_of!(InstanceInfo, node) == 912);
    assert!(align_of::<InstanceInfo>() == 4);
};
