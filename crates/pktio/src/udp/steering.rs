//! Which socket of a group gets a datagram: the kernel computes the worker from the connection ID.
//!
//! A classic BPF program (no privilege needed) reads the two-byte partition key out of the UDP payload:
//!
//! | packet | destination connection ID at | key at |
//! |---|---|---|
//! | long header (first bit set, RFC 8999 §5.1) | 6 | 6 + `key_offset` |
//! | short header (RFC 8999 §5.2) | 1 | 1 + `key_offset` |
//!
//! computes the slot, `key mod slots`, and returns the index of a socket in the order of binding: `slot mod workers` for
//! a group whose size never changes, otherwise what a [table](Steering::attach_table) says of the slot. A payload too
//! short for the read goes to worker 0: the kernel ends a program that reads beyond the packet with 0. A GSO train that
//! is not segmented on the way is steered by its first datagram.
//!
//! A table becomes a search tree of comparisons: about two instructions for each run of slots with one owner, and a depth
//! of the logarithm of their number. Attaching a new program replaces the old one at once: each packet is steered by
//! either the old or the new table.
//!
//! Two processes may share a port, one of which takes over from the other (`docs/scaling.md`): the lowest bit of the byte
//! before the key then says whose an ID is, and each has a table of its own.
//!
//! Closing a socket moves the last one of its group to its place, so sockets of a group are closed together, after all
//! of them have gone out of use.

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
const JUMP_IF_NOT_BELOW: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const LOAD_CONSTANT: u16 = (libc::BPF_LD | libc::BPF_IMM) as u16;
const LOAD_MEMORY: u16 = (libc::BPF_LD | libc::BPF_MEM) as u16;
const STORE: u16 = libc::BPF_ST as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_A) as u16;
const RETURN_CONSTANT: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// The first bit of a long header.
const LONG_HEADER: u32 = 0x80;
/// Where the destination connection ID is in a long header: after the first octet, the version and its length.
const LONG_CID: u32 = 6;
/// … and in a short header.
const SHORT_CID: u32 = 1;

fn op(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

impl Steering {
    /// For a worker that is alone.
    pub(crate) const ALONE: Steering = Steering { key_offset: 0, slots: 1 };

    /// Leaves the slot in the accumulator.
    fn slot(&self) -> Vec<libc::sock_filter> {
        let key = u32::from(self.key_offset);
        vec![
            op(LOAD_BYTE, 0),
            libc::sock_filter { code: JUMP_IF_SET, jt: 0, jf: 2, k: LONG_HEADER },
            op(LOAD_HALF, LONG_CID + key),
            op(JUMP, 1),
            op(LOAD_HALF, SHORT_CID + key),
            op(MODULO, self.slots.into()),
        ]
    }

    /// Attaches the program for a group of fixed size to the group that `socket` belongs to. Fails with `InvalidInput`
    /// without slots, or as the kernel does.
    pub(crate) fn attach(&self, socket: &UdpSocket, workers: u16) -> io::Result<()> {
        if self.slots == 0 || workers == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "steering needs slots and workers"));
        }
        let mut program = self.slot();
        program.extend([op(MODULO, workers.into()), op(RETURN, 0)]);
        attach(socket, program)
    }

    /// Attaches a program for two tables: that of the IDs with the mark bit clear, and that of those with it set. With
    /// `long` all packets with long headers count as having that mark. Fails as [`attach_table`](Self::attach_table).
    pub(super) fn attach_two(&self, socket: &UdpSocket, tables: [&[u16]; 2], long: Option<bool>) -> io::Result<()> {
        let fits = tables.iter().all(|owners| owners.len() == usize::from(self.slots));
        if self.slots == 0 || self.key_offset == 0 || !fits {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a table names one owner for each slot"));
        }
        attach(socket, self.two(tables, long))
    }

    fn two(&self, tables: [&[u16]; 2], long: Option<bool>) -> Vec<libc::sock_filter> {
        let key = u32::from(self.key_offset);
        // The slot goes to memory, the byte with the mark to the accumulator.
        let load = |cid: u32, mark: libc::sock_filter| {
            [op(LOAD_HALF, cid + key), op(MODULO, self.slots.into()), op(STORE, 0), mark]
        };
        let mark_of_long = match long {
            Some(mark) => op(LOAD_CONSTANT, mark.into()),
            None => op(LOAD_BYTE, LONG_CID + key - 1),
        };
        let mut program = vec![op(LOAD_BYTE, 0), libc::sock_filter { code: JUMP_IF_SET, jt: 0, jf: 5, k: LONG_HEADER }];
        program.extend(load(LONG_CID, mark_of_long));
        program.push(op(JUMP, 4));
        program.extend(load(SHORT_CID, op(LOAD_BYTE, SHORT_CID + key - 1)));
        let [clear, set] = tables.map(|owners| [vec![op(LOAD_MEMORY, 0)], search(&runs(owners))].concat());
        program.push(libc::sock_filter { code: JUMP_IF_SET, jt: 0, jf: 1, k: 1 });
        program.push(op(JUMP, clear.len() as u32));
        program.extend(clear);
        program.extend(set);
        program
    }

    /// Attaches the program of a table, which says for each slot which socket of the group gets its packets, in place of
    /// any other. Fails with `InvalidInput` for a table of another length, or as the kernel does.
    pub(super) fn attach_table(&self, socket: &UdpSocket, owners: &[u16]) -> io::Result<()> {
        if self.slots == 0 || owners.len() != usize::from(self.slots) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a table names one owner for each slot"));
        }
        let mut program = self.slot();
        program.extend(search(&runs(owners)));
        attach(socket, program)
    }
}

/// The runs of slots with the same owner: first slot and owner.
fn runs(owners: &[u16]) -> Vec<(u32, u16)> {
    let mut runs: Vec<(u32, u16)> = Vec::new();
    for (slot, &owner) in (0..).zip(owners) {
        if runs.last().is_none_or(|&(_, last)| last != owner) {
            runs.push((slot, owner));
        }
    }
    runs
}

/// Finds the run that the accumulator lies in and returns its owner.
fn search(runs: &[(u32, u16)]) -> Vec<libc::sock_filter> {
    if let [(_, owner)] = runs {
        return vec![op(RETURN_CONSTANT, (*owner).into())];
    }
    let (lower, upper) = runs.split_at(runs.len() / 2);
    let Some(&(boundary, _)) = upper.first() else { return Vec::new() };
    let lower = search(lower);
    let mut program = match u8::try_from(lower.len()) {
        Ok(skip) => vec![libc::sock_filter { code: JUMP_IF_NOT_BELOW, jt: skip, jf: 0, k: boundary }],
        // A conditional jump reaches 255 instructions, an unconditional one any.
        Err(_) => {
            vec![libc::sock_filter { code: JUMP_IF_NOT_BELOW, jt: 0, jf: 1, k: boundary }, op(JUMP, lower.len() as u32)]
        }
    };
    program.extend(lower);
    program.extend(search(upper));
    program
}

fn attach(socket: &UdpSocket, mut program: Vec<libc::sock_filter>) -> io::Result<()> {
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // The kernel copies the program before the call returns.
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program of comparisons returns for a slot.
    fn run(program: &[libc::sock_filter], slot: u32) -> u32 {
        let mut at = 0;
        loop {
            let op = program[at];
            at += 1;
            match op.code {
                JUMP => at += op.k as usize,
                JUMP_IF_NOT_BELOW => at += usize::from(if slot >= op.k { op.jt } else { op.jf }),
                RETURN_CONSTANT => return op.k,
                code => panic!("unexpected instruction {code}"),
            }
        }
    }

    #[test]
    fn a_table_becomes_a_program_that_finds_every_owner() {
        let tables: [Vec<u16>; 5] = [
            vec![0; 1021],
            (0..1021).map(|slot| slot / 300).collect(),
            (0..1021).map(|slot| slot % 7).collect(),
            (0..1021).map(|slot| slot % 2 * 127).collect(),
            (0..1021u32).map(|slot| (slot * slot % 1021 / 100) as u16).collect(),
        ];
        for owners in tables {
            let program = search(&runs(&owners));
            assert!(program.len() < 4_000, "the kernel takes 4,096 instructions, these are {}", program.len());
            for (slot, &owner) in (0..).zip(&owners) {
                assert_eq!(run(&program, slot), owner.into(), "slot {slot}");
            }
        }
    }
}
