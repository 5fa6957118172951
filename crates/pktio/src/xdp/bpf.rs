//! bpf(2): maps, the program, and the link that attaches it. All three go with their descriptors, so nothing is left
//! behind however the process ends.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::asm::Insn;

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_UPDATE: libc::c_int = 29;

const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
/// The program may be given packets of several buffers.
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// What the program says is done: a packet that it redirects gets there (Linux 5.18).
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// Bytes of the verifier's log that are asked for when it refuses, and how many of them an error shows at most: the end
/// says what is wrong.
const LOG_LEN: usize = 64 << 10;
const LOG_SHOWN: usize = 1500;

const LICENSE: &CStr = c"MIT";

/// The kinds of maps in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum MapKind {
    Hash = 1,
    Array = 2,
    Sockets = 17,
}

/// Where in the kernel a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    /// In the driver, before there is anything but the packet.
    Native,
    /// After the driver, on any interface.
    Generic,
}

// Prefixes of `union bpf_attr`; the kernel takes a short one and reads the rest as zeros.

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct MapElem {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// `struct xdp_md`: what a program knows of a packet beside its bytes.
#[repr(C)]
#[derive(Default)]
struct Packet {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

const _: () = assert!(size_of::<TestRun>() == 80 && size_of::<Packet>() == 24);
const _: () = assert!(size_of::<MapCreate>() == 44 && size_of::<MapElem>() == 32);
const _: () = assert!(size_of::<ProgLoad>() == 72 && size_of::<LinkCreate>() == 16 && size_of::<LinkUpdate>() == 16);

/// # Safety
/// `attr` is the beginning of the `union bpf_attr` of the command, and every address in it is valid for what the
/// command does with it.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<RawFd> {
    let len = size_of::<T>() as libc::c_uint;
    // SAFETY: the caller's promise; `attr` is valid for its length.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), len) };
    RawFd::try_from(result).ok().filter(|&fd| fd >= 0).ok_or_else(io::Error::last_os_error)
}

/// # Safety
/// As [`bpf`], and the command answers with a new descriptor.
unsafe fn bpf_fd<T>(command: libc::c_int, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attr) }?;
    // SAFETY: the command made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn name(text: &str) -> [u8; 16] {
    let mut name = [0; 16];
    let len = text.len().min(15);
    name[..len].copy_from_slice(&text.as_bytes()[..len]);
    name
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).expect("a descriptor is not negative")
}

/// A map whose keys and values are plain data of fixed size.
#[derive(Debug)]
pub(super) struct Map {
    fd: OwnedFd,
    key_size: u32,
    value_size: u32,
}

impl Map {
    /// Makes an empty map (an array of zeros). Fails as bpf(2) does.
    pub(super) fn new(
        kind: MapKind,
        text: &str,
        (key_size, value_size): (u32, u32),
        max_entries: u32,
    ) -> io::Result<Map> {
        let map_name = name(text);
        let mut attr =
            MapCreate { map_type: kind as u32, key_size, value_size, max_entries, map_name, ..Default::default() };
        // SAFETY: the structure has no addresses.
        let fd = unsafe { bpf_fd(BPF_MAP_CREATE, &mut attr) }.map_err(explain_privilege)?;
        Ok(Map { fd, key_size, value_size })
    }

    /// Sets the value of a key.
    ///
    /// # Panics
    /// If the sizes are not the map's.
    pub(super) fn set(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        assert_eq!((key.len(), value.len()), (self.key_size as usize, self.value_size as usize), "sizes of the map");
        let map_fd = raw(self.fd.as_fd());
        let mut attr = MapElem { map_fd, key: key.as_ptr() as u64, value: value.as_ptr() as u64, ..Default::default() };
        // SAFETY: key and value have the sizes that the map was made with.
        unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut attr) }.map(drop)
    }

    /// Removes a key; it is no failure if there is none.
    ///
    /// # Panics
    /// If the size is not the map's.
    pub(super) fn remove(&self, key: &[u8]) -> io::Result<()> {
        assert_eq!(key.len(), self.key_size as usize, "size of the map's keys");
        let mut attr = MapElem { map_fd: raw(self.fd.as_fd()), key: key.as_ptr() as u64, ..Default::default() };
        // SAFETY: the key has the size that the map was made with.
        match unsafe { bpf(BPF_MAP_DELETE_ELEM, &mut attr) } {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
            _ => Ok(()),
        }
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A verified program.
#[derive(Debug)]
pub(super) struct Program(OwnedFd);

impl Program {
    /// Loads the program; `frags` if it is for packets of several buffers. When the verifier refuses, the error has the
    /// end of its log.
    pub(super) fn load(code: &[Insn], frags: bool) -> io::Result<Program> {
        let error = match Program::load_with(code, frags, &mut []) {
            Ok(program) => return Ok(program),
            Err(error) => error,
        };
        // Only these are the verifier's.
        if !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EACCES | libc::E2BIG)) {
            return Err(explain_privilege(error));
        }
        let mut log = vec![0; LOG_LEN];
        if let Ok(program) = Program::load_with(code, frags, &mut log) {
            return Ok(program);
        }
        let len = log.iter().position(|&byte| byte == 0).unwrap_or(LOG_LEN);
        let log = String::from_utf8_lossy(&log[len.saturating_sub(LOG_SHOWN)..len]);
        let text = format!("the kernel's verifier refused the XDP program: {error}; its log ends with:\n{log}");
        Err(io::Error::new(error.kind(), text))
    }

    fn load_with(code: &[Insn], frags: bool, log: &mut [u8]) -> io::Result<Program> {
        let mut attr = ProgLoad {
            prog_type: BPF_PROG_TYPE_XDP,
            insn_cnt: u32::try_from(code.len()).expect("the program is short"),
            insns: code.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
            prog_flags: if frags { BPF_F_XDP_HAS_FRAGS } else { 0 },
            prog_name: name("warpline_steer"),
            expected_attach_type: BPF_XDP,
            ..Default::default()
        };
        if !log.is_empty() {
            attr.log_level = 1;
            attr.log_size = u32::try_from(log.len()).expect("the log is short");
            attr.log_buf = log.as_mut_ptr() as u64;
        }
        // SAFETY: the instructions, the license (zero-terminated) and the log have the lengths stated and outlive the
        // call; the log is writable.
        unsafe { bpf_fd(BPF_PROG_LOAD, &mut attr) }.map(Program)
    }

    /// Attaches the program to an interface until the link is dropped. Fails with `EBUSY` if there is another program,
    /// and with `EOPNOTSUPP` if the driver lacks the hook.
    pub(super) fn attach(&self, ifindex: u32, hook: Hook) -> io::Result<Link> {
        let flags = match hook {
            Hook::Native => XDP_FLAGS_DRV_MODE,
            Hook::Generic => XDP_FLAGS_SKB_MODE,
        };
        let prog_fd = raw(self.0.as_fd());
        let mut attr = LinkCreate { prog_fd, target_ifindex: ifindex, attach_type: BPF_XDP, flags };
        // SAFETY: the structure has no addresses.
        unsafe { bpf_fd(BPF_LINK_CREATE, &mut attr) }.map(Link).map_err(explain_privilege)
    }

    /// Has the kernel run the program on a packet as if the first queue of the interface had received it, and do what it
    /// says. Fails as bpf(2) does, with `EINVAL` before Linux 5.18.
    pub(super) fn run_on(&self, packet: &[u8], ifindex: u32) -> io::Result<()> {
        let data_size_in = u32::try_from(packet.len()).expect("packets are short");
        let mut context = Packet { data_end: data_size_in, ingress_ifindex: ifindex, ..Default::default() };
        let mut attr = TestRun {
            prog_fd: raw(self.0.as_fd()),
            data_size_in,
            data_in: packet.as_ptr() as u64,
            repeat: 1,
            ctx_size_in: size_of::<Packet>() as u32,
            ctx_in: std::ptr::from_mut(&mut context) as u64,
            flags: BPF_F_TEST_XDP_LIVE_FRAMES,
            ..Default::default()
        };
        // SAFETY: packet and context have the lengths stated, and the kernel copies them.
        unsafe { bpf(BPF_PROG_TEST_RUN, &mut attr) }.map(drop)
    }

    /// Takes the place of the program that is attached by the link. Fails as bpf(2) does.
    pub(super) fn replace_in(&self, link: &Link) -> io::Result<()> {
        let (link_fd, new_prog_fd) = (raw(link.0.as_fd()), raw(self.0.as_fd()));
        let mut attr = LinkUpdate { link_fd, new_prog_fd, flags: 0, old_prog_fd: 0 };
        // SAFETY: the structure has no addresses.
        unsafe { bpf(BPF_LINK_UPDATE, &mut attr) }.map(drop).map_err(explain_privilege)
    }
}

/// An attached program.
#[derive(Debug)]
pub(super) struct Link(OwnedFd);

/// Which privilege is missing.
fn explain_privilege(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            let what =
                "the XDP program needs the capabilities CAP_BPF and CAP_NET_ADMIN, and a filter that lets bpf(2) pass";
            io::Error::new(io::ErrorKind::PermissionDenied, what)
        }
        _ => error,
    }
}

/// Sets one value of an array of sockets.
pub(super) fn set_socket(sockets: &Map, place: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
    sockets.set(&place.to_ne_bytes(), &raw(socket).to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::asm::{Asm, Op, R0, R1, R7, Width};
    use super::*;

    const XDP_PASS: i32 = 2;
    /// Of `struct xdp_md`.
    const DATA: i16 = 0;

    /// What `Program::load` says to a program; `None`, and why in one line, without the privilege to load any.
    fn loaded(write: impl FnOnce(&mut Asm)) -> Option<io::Result<Program>> {
        let mut asm = Asm::default();
        write(&mut asm);
        let result = Program::load(&asm.finish(), false);
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
            && Map::new(MapKind::Array, "warpline_test", (4, 4), 1).is_err()
        {
            println!("skipped: no privilege to load XDP programs");
            return None;
        }
        Some(result)
    }

    fn pass(asm: &mut Asm) {
        asm.alu(Op::Mov, R0, XDP_PASS);
        asm.exit();
    }

    #[test]
    fn what_the_verifier_refuses_is_refused_with_its_log() {
        // The first byte of a packet that may have none.
        let beyond = |asm: &mut Asm| {
            asm.load(Width::Word, R7, R1, DATA);
            asm.load(Width::Byte, R0, R7, 0);
            asm.exit();
        };
        let Some(result) = loaded(beyond) else { return };
        let error = result.expect_err("it reads past the end of the packet").to_string();
        assert!(error.starts_with("the kernel's verifier refused the XDP program: "), "{error}");
        assert!(error.contains("its log ends with:\n") && error.contains("invalid access to packet"), "{error}");
        // Whatever came first: the end of a long log is the part with the reason.
        let late = |asm: &mut Asm| {
            for n in 0..500 {
                asm.alu(Op::Mov, R0, n);
            }
            beyond(asm);
        };
        let error = loaded(late).expect("as before").expect_err("as before").to_string();
        assert!(error.contains("invalid access to packet") && error.len() < 2 * LOG_SHOWN, "{error}");
        // Not by the same way of building it.
        loaded(pass).expect("as before").expect("it does not touch the packet");
    }
}
