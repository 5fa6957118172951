//! The XDP program: which packets come to the sockets, and to which.
//!
//! In C it would be this:
//!
//! ```c
//! int steer(struct xdp_md *ctx) {
//!     queue = ctx->rx_queue_index;
//!     if (queue >= QUEUES) return XDP_PASS;
//!     ip = data + 14; type = ethertype;
//!     for (2 times) if (type is 0x8100 or 0x88a8) { type = next ethertype; ip += 4; }
//!     if (type == IPv4) {
//!         if (version and header length != 0x45 || fragment || protocol != UDP) return XDP_PASS;
//!         address = ::ffff:destination; udp = ip + 20;
//!     } else if (type == IPv6) {
//!         if (version != 6 || next header != UDP) return XDP_PASS;
//!         address = destination; udp = ip + 40;
//!     } else return XDP_PASS;
//!     if (udp->dest != PORT) return XDP_PASS;                    // … of every port
//!     if (!bpf_map_lookup_elem(&addresses, &address)) return XDP_PASS;
//!     quic = udp + 8; worker = OWNER;                            // the queue's own
//!     key = first bit of quic[0] ? quic + 6 + KEY : quic + 1 + KEY;
//!     if (key and its two bytes are in the packet) worker = slots[be16(key) % SLOTS];
//!     return bpf_redirect_map(&sockets, queue * COLUMNS + worker, XDP_PASS);
//! }
//! ```
//!
//! Every access is checked against the end of the packet, for the verifier and for truth: what is cut off goes to the
//! kernel. The addresses are a map, since they come and go; the slots are a map, since workers do; ports and sizes are
//! constants, since a load takes milliseconds and a constant costs nothing per packet.
//!
//! The sockets are a table with a row per queue: a column per worker, and a last one ([`Shape::owner_column`]) for the
//! worker that owns the queue. An empty place passes the packet to the kernel's own socket, so that nothing is lost
//! while sockets come and go.

use std::os::fd::{AsRawFd, BorrowedFd};

use warpline_wire::net::{
    ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, IPV4_LEN, IPV6_LEN, PROTOCOL_UDP,
    UDP_LEN, VLAN_LEN, VLAN_TAGS_MAX,
};

use super::asm::{Asm, Cond, FP, Insn, Op, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, Width};

/// Sizes that the program is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// UDP ports to take.
    pub(super) ports: Vec<u16>,
    /// Queues of the interface.
    pub(super) queues: u32,
    /// Workers, 1 to 128.
    pub(super) workers: u32,
    /// Where a connection ID has its partition key.
    pub(super) key_offset: u8,
    /// Number of partition slots, not 0.
    pub(super) slots: u16,
}

impl Shape {
    /// Sockets per queue: one per worker and one for packets without a key.
    pub(super) fn columns(&self) -> u32 {
        self.workers + 1
    }

    /// The column of the worker that owns the queue.
    pub(super) fn owner_column(&self) -> u32 {
        self.workers
    }

    /// Places in the table of sockets.
    pub(super) fn sockets(&self) -> u32 {
        self.queues * self.columns()
    }
}

/// The maps that the program reads.
#[derive(Clone, Copy)]
pub(super) struct MapFds<'a> {
    /// Places of sockets, by queue and column.
    pub(super) sockets: BorrowedFd<'a>,
    /// Own addresses, 16 bytes each.
    pub(super) addresses: BorrowedFd<'a>,
    /// One value: the column of each slot, 16 bits each.
    pub(super) slots: BorrowedFd<'a>,
}

// `struct xdp_md`.
const MD_DATA: i16 = 0;
const MD_DATA_END: i16 = 4;
const MD_RX_QUEUE: i16 = 16;

const XDP_PASS: i32 = 2;
/// `bpf_map_lookup_elem`
const MAP_LOOKUP: i32 = 1;
/// `bpf_redirect_map`
const REDIRECT_MAP: i32 = 51;

/// Where the address to look up is built: 16 bytes at the top of the stack.
const ADDRESS: i16 = -16;

/// A constant as the packet has it.
fn be(value: u16) -> i32 {
    i32::from(value.to_be())
}

/// `if base + len > end of the packet goto label`, by way of r5.
fn need(asm: &mut Asm, base: super::asm::Reg, len: usize, label: &'static str) {
    asm.alu_reg(Op::Mov, R5, base);
    asm.alu(Op::Add, R5, i32::try_from(len).expect("headers are short"));
    asm.jump_if_reg(R5, Cond::Greater, R8, label);
}

/// The program for these sizes and maps. Registers: r6 queue, r7 IP header, r8 end of the packet, r9 UDP header.
pub(super) fn assemble(shape: &Shape, maps: MapFds<'_>) -> Vec<Insn> {
    let mut asm = Asm::default();
    link(&mut asm, shape);
    ipv4(&mut asm);
    ipv6(&mut asm);
    take(&mut asm, shape, maps);
    asm.label("pass");
    asm.alu(Op::Mov, R0, XDP_PASS);
    asm.exit();
    asm.finish()
}

/// Queue, Ethernet header and tags: r7 becomes the IP header.
fn link(asm: &mut Asm, shape: &Shape) {
    asm.load(Width::Word, R6, R1, MD_RX_QUEUE);
    asm.load(Width::Word, R7, R1, MD_DATA);
    asm.load(Width::Word, R8, R1, MD_DATA_END);
    asm.jump_if(R6, Cond::GreaterOrEqual, i32::try_from(shape.queues).unwrap_or(i32::MAX), "pass");
    need(asm, R7, ETHERNET_LEN, "pass");
    asm.load(Width::Half, R3, R7, ETHERNET_LEN as i16 - 2);
    asm.alu(Op::Add, R7, ETHERNET_LEN as i32);
    for (tag, end) in [("tag 1", "tags end"), ("tag 2", "tags end")].into_iter().take(VLAN_TAGS_MAX) {
        asm.jump_if(R3, Cond::Equal, be(ETHERTYPE_VLAN), tag);
        asm.jump_if(R3, Cond::NotEqual, be(ETHERTYPE_QINQ), end);
        asm.label(tag);
        need(asm, R7, VLAN_LEN, "pass");
        asm.load(Width::Half, R3, R7, 2);
        asm.alu(Op::Add, R7, VLAN_LEN as i32);
    }
    asm.label("tags end");
    asm.jump_if(R3, Cond::Equal, be(ETHERTYPE_IPV6), "ipv6");
    asm.jump_if(R3, Cond::NotEqual, be(ETHERTYPE_IPV4), "pass");
}

/// RFC 791 section 3.1: no options, no fragments, UDP.
fn ipv4(asm: &mut Asm) {
    need(asm, R7, IPV4_LEN + UDP_LEN, "pass");
    asm.load(Width::Byte, R3, R7, 0);
    asm.jump_if(R3, Cond::NotEqual, 0x45, "pass");
    asm.load(Width::Half, R3, R7, 6);
    // More fragments, or an offset.
    asm.jump_if(R3, Cond::Set, be(0x3fff), "pass");
    asm.load(Width::Byte, R3, R7, 9);
    asm.jump_if(R3, Cond::NotEqual, PROTOCOL_UDP.into(), "pass");
    asm.store_imm(Width::Double, FP, ADDRESS, 0);
    // ::ffff:0:0/96
    asm.store_imm(Width::Word, FP, ADDRESS + 8, i32::from_ne_bytes([0, 0, 0xff, 0xff]));
    asm.load(Width::Word, R3, R7, 16);
    asm.store(Width::Word, FP, ADDRESS + 12, R3);
    asm.alu_reg(Op::Mov, R9, R7);
    asm.alu(Op::Add, R9, IPV4_LEN as i32);
    asm.jump("udp");
}

/// RFC 8200 section 3: no extension headers, UDP.
fn ipv6(asm: &mut Asm) {
    asm.label("ipv6");
    need(asm, R7, IPV6_LEN + UDP_LEN, "pass");
    asm.load(Width::Byte, R3, R7, 0);
    asm.alu(Op::And, R3, 0xf0);
    asm.jump_if(R3, Cond::NotEqual, 0x60, "pass");
    asm.load(Width::Byte, R3, R7, 6);
    asm.jump_if(R3, Cond::NotEqual, PROTOCOL_UDP.into(), "pass");
    for word in 0..4 {
        asm.load(Width::Word, R3, R7, 24 + 4 * word);
        asm.store(Width::Word, FP, ADDRESS + 4 * word, R3);
    }
    asm.alu_reg(Op::Mov, R9, R7);
    asm.alu(Op::Add, R9, IPV6_LEN as i32);
}

/// Port, address, connection ID, socket.
fn take(asm: &mut Asm, shape: &Shape, maps: MapFds<'_>) {
    let row = i32::try_from(shape.columns()).expect("there are few workers");
    asm.label("udp");
    asm.load(Width::Half, R3, R9, 2);
    for &port in &shape.ports {
        asm.jump_if(R3, Cond::Equal, be(port), "ours");
    }
    asm.jump("pass");
    asm.label("ours");
    asm.load_map(R1, maps.addresses.as_raw_fd());
    asm.alu_reg(Op::Mov, R2, FP);
    asm.alu(Op::Add, R2, ADDRESS.into());
    asm.call(MAP_LOOKUP);
    asm.jump_if(R0, Cond::Equal, 0, "pass");
    asm.alu(Op::Mul, R6, row);
    asm.alu(Op::Mov, R2, i32::try_from(shape.owner_column()).expect("there are few workers"));
    // RFC 8999 section 5: a long header has its destination connection ID at 6, a short one at 1.
    asm.alu(Op::Add, R9, UDP_LEN as i32);
    need(asm, R9, 1, "redirect");
    asm.load(Width::Byte, R3, R9, 0);
    asm.alu(Op::Add, R9, 1 + i32::from(shape.key_offset));
    asm.jump_if(R3, Cond::Set, 0x80, "long");
    asm.jump("key");
    asm.label("long");
    asm.alu(Op::Add, R9, 5);
    asm.label("key");
    need(asm, R9, 2, "redirect");
    asm.load(Width::Half, R3, R9, 0);
    asm.swap_from_be16(R3);
    asm.alu(Op::Mod, R3, shape.slots.into());
    // Always false; it tells the verifier the bound.
    asm.jump_if(R3, Cond::GreaterOrEqual, shape.slots.into(), "redirect");
    asm.alu_reg(Op::Add, R3, R3);
    asm.load_map_value(R4, maps.slots.as_raw_fd());
    asm.alu_reg(Op::Add, R4, R3);
    asm.load(Width::Half, R2, R4, 0);
    asm.label("redirect");
    asm.alu_reg(Op::Add, R2, R6);
    asm.load_map(R1, maps.sockets.as_raw_fd());
    asm.alu(Op::Mov, R3, XDP_PASS);
    asm.call(REDIRECT_MAP);
    asm.exit();
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::super::listing::Listing;
    use super::*;

    fn shape() -> Shape {
        Shape { ports: vec![4433, 443], queues: 2, workers: 2, key_offset: 6, slots: 1021 }
    }

    #[cfg(target_endian = "little")]
    /// The listing in `steer.lst` is the program as a person reads it, with comments; a change here has to be made there.
    #[test]
    fn the_program_is_what_the_listing_says() {
        let file = File::open("/dev/null").expect("every system has it");
        let maps = MapFds { sockets: file.as_fd(), addresses: file.as_fd(), slots: file.as_fd() };
        let code = assemble(&shape(), maps);
        let fd = file.as_raw_fd();
        let text = Listing(&code).to_string().replace(&format!("map {fd}"), "map");
        let bare = |line: &str| line.split("//").next().unwrap_or_default().trim().to_owned();
        let meant: Vec<String> = include_str!("steer.lst").lines().map(bare).filter(|line| !line.is_empty()).collect();
        let found: Vec<String> = text.lines().map(bare).collect();
        for (found, meant) in found.iter().zip(&meant) {
            assert_eq!(found, meant);
        }
        assert_eq!(found.len(), meant.len(), "{text}");
    }

    #[test]
    fn nothing_in_a_program_is_unknown_to_the_listing() {
        let file = File::open("/dev/null").expect("every system has it");
        let maps = MapFds { sockets: file.as_fd(), addresses: file.as_fd(), slots: file.as_fd() };
        for workers in [1, 128] {
            let code = assemble(&Shape { workers, ports: vec![1], ..shape() }, maps);
            assert!(!Listing(&code).to_string().contains("unknown"));
        }
    }
}
