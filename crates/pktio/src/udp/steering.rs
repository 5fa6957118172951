//! Which socket of a group gets a datagram: the kernel computes the worker from the connection ID.
//!
//! A classic BPF program (no privilege needed) reads the two-byte partition key out of the UDP payload:
//!
//! | packet | destination connection ID at | key at |
//! |---|---|---|
//! | long header (first bit set, RFC 8999 §5.1) | 6 | 6 + `key_offset` |
//! | short header (RFC 8999 §5.2) | 1 | 1 + `key_offset` |
//!
//! and returns `(key mod slots) mod workers`, the index of the socket in the order of binding. A payload too short for
//! the read goes to worker 0: the kernel ends a program that reads beyond the packet with 0. A GSO train that is not
//! segmented on the way is steered by its first datagram.
//!
//! Closing a socket moves the last one of its group to its place, so a group is opened and closed as a whole.

use std::io;
use std::net::UdpSocket;

use super::socket::set_option;

/// Where connection IDs carry the partition key, and how many slots it is divided into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steering {
    /// The key's place in the connection ID, in bytes.
    pub key_offset: u8,
    /// The number of slots; not 0.
    pub slots: u16,
}

const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const JUMP_IF_SET: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const MODULO: u16 = (libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_A) as u16;

/// The first bit of a long header.
const LONG_HEADER: u32 = 0x80;
/// Where the destination connection ID is in a long header: after the first octet, the version and its length.
const LONG_CID: u32 = 6;
/// … and in a short header.
const SHORT_CID: u32 = 1;

impl Steering {
    /// For a worker that is alone.
    pub(crate) const ALONE: Steering = Steering { key_offset: 0, slots: 1 };

    fn program(&self, workers: u16) -> [libc::sock_filter; 8] {
        let op = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
        let key = u32::from(self.key_offset);
        [
            op(LOAD_BYTE, 0),
            libc::sock_filter { code: JUMP_IF_SET, jt: 0, jf: 2, k: LONG_HEADER },
            op(LOAD_HALF, LONG_CID + key),
            op(JUMP, 1),
            op(LOAD_HALF, SHORT_CID + key),
            op(MODULO, self.slots.into()),
            op(MODULO, workers.into()),
            op(RETURN, 0),
        ]
    }

    /// Attaches the program to the group that `socket` belongs to. Fails with `InvalidInput` without slots, or as the
    /// kernel does.
    pub(crate) fn attach(&self, socket: &UdpSocket, workers: u16) -> io::Result<()> {
        if self.slots == 0 || workers == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "steering needs slots and workers"));
        }
        let mut program = self.program(workers);
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // The kernel copies the program before the call returns.
        set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, filter)
    }
}
