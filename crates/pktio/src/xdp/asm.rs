//! A small eBPF assembler: instructions by name, jumps to labels, 64-bit loads of maps. It knows what the
//! [steering program](super::program) needs, no more. The encoding is that of the kernel's
//! `Documentation/bpf/standardization/instruction-set.rst` (RFC 9669).

use std::collections::BTreeMap;

/// A register: r0 result, r1 to r5 arguments (lost in calls), r6 to r9 kept in calls, r10 the frame pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reg(pub(super) u8);

pub(super) const R0: Reg = Reg(0);
pub(super) const R1: Reg = Reg(1);
pub(super) const R2: Reg = Reg(2);
pub(super) const R3: Reg = Reg(3);
pub(super) const R4: Reg = Reg(4);
pub(super) const R5: Reg = Reg(5);
pub(super) const R6: Reg = Reg(6);
pub(super) const R7: Reg = Reg(7);
pub(super) const R8: Reg = Reg(8);
pub(super) const R9: Reg = Reg(9);
/// The frame pointer.
pub(super) const FP: Reg = Reg(10);

/// How many bytes a load or store moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Byte,
    Half,
    Word,
    Double,
}

impl Width {
    pub(super) fn code(self) -> u8 {
        match self {
            Width::Word => 0x00,
            Width::Half => 0x08,
            Width::Byte => 0x10,
            Width::Double => 0x18,
        }
    }
}

/// When a jump is taken; numbers compare unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cond {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    /// Any of the bits.
    Set,
}

impl Cond {
    pub(super) fn code(self) -> u8 {
        match self {
            Cond::Equal => 0x10,
            Cond::Greater => 0x20,
            Cond::GreaterOrEqual => 0x30,
            Cond::Set => 0x40,
            Cond::NotEqual => 0x50,
        }
    }
}

/// What arithmetic does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Add,
    Mul,
    And,
    Mod,
    Mov,
}

impl Op {
    pub(super) fn code(self) -> u8 {
        match self {
            Op::Add => 0x00,
            Op::Mul => 0x20,
            Op::And => 0x50,
            Op::Mod => 0x90,
            Op::Mov => 0xb0,
        }
    }
}

// Instruction classes and modes (RFC 9669 sections 3 to 5).
pub(super) const LD_IMM64: u8 = 0x18;
pub(super) const LDX_MEM: u8 = 0x61;
pub(super) const STX_MEM: u8 = 0x63;
pub(super) const ST_MEM: u8 = 0x62;
pub(super) const ALU64_IMM: u8 = 0x07;
pub(super) const ALU64_REG: u8 = 0x0f;
pub(super) const JMP_IMM: u8 = 0x05;
pub(super) const JMP_REG: u8 = 0x0d;
pub(super) const TO_BE: u8 = 0xdc;
pub(super) const CALL: u8 = 0x85;
pub(super) const EXIT: u8 = 0x95;

/// What the source register of a 64-bit load says its number is (`BPF_PSEUDO_MAP_FD`, `BPF_PSEUDO_MAP_VALUE`).
pub(super) const PSEUDO_MAP: u8 = 1;
pub(super) const PSEUDO_MAP_VALUE: u8 = 2;

/// One instruction as the kernel takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Insn {
    pub(super) code: u8,
    /// Destination in the low four bits, source in the high four.
    pub(super) regs: u8,
    pub(super) off: i16,
    pub(super) imm: i32,
}

const _: () = assert!(size_of::<Insn>() == 8);

/// A program that is being written.
#[derive(Debug, Default)]
pub(super) struct Asm {
    code: Vec<Insn>,
    labels: BTreeMap<&'static str, usize>,
    /// Jumps whose offset is not known yet.
    fixups: Vec<(usize, &'static str)>,
}

impl Asm {
    fn push(&mut self, code: u8, dst: Reg, src: Reg, off: i16, imm: i32) {
        self.code.push(Insn { code, regs: dst.0 | src.0 << 4, off, imm });
    }

    /// Names the place of the next instruction.
    pub(super) fn label(&mut self, name: &'static str) {
        let before = self.labels.insert(name, self.code.len());
        assert!(before.is_none(), "a label is set once");
    }

    /// `dst = *(width*)(base + off)`
    pub(super) fn load(&mut self, width: Width, dst: Reg, base: Reg, off: i16) {
        self.push(LDX_MEM | width.code(), dst, base, off, 0);
    }

    /// `*(width*)(base + off) = src`
    pub(super) fn store(&mut self, width: Width, base: Reg, off: i16, src: Reg) {
        self.push(STX_MEM | width.code(), base, src, off, 0);
    }

    /// `*(width*)(base + off) = imm`
    pub(super) fn store_imm(&mut self, width: Width, base: Reg, off: i16, imm: i32) {
        self.push(ST_MEM | width.code(), base, R0, off, imm);
    }

    /// `dst op imm`
    pub(super) fn alu(&mut self, op: Op, dst: Reg, imm: i32) {
        self.push(ALU64_IMM | op.code(), dst, R0, 0, imm);
    }

    /// `dst op src`
    pub(super) fn alu_reg(&mut self, op: Op, dst: Reg, src: Reg) {
        self.push(ALU64_REG | op.code(), dst, src, 0, 0);
    }

    /// The low 16 bits from network order.
    pub(super) fn swap_from_be16(&mut self, dst: Reg) {
        self.push(TO_BE, dst, R0, 0, 16);
    }

    /// `if dst cond imm goto label`
    pub(super) fn jump_if(&mut self, dst: Reg, cond: Cond, imm: i32, label: &'static str) {
        self.fixups.push((self.code.len(), label));
        self.push(JMP_IMM | cond.code(), dst, R0, 0, imm);
    }

    /// `if dst cond src goto label`
    pub(super) fn jump_if_reg(&mut self, dst: Reg, cond: Cond, src: Reg, label: &'static str) {
        self.fixups.push((self.code.len(), label));
        self.push(JMP_REG | cond.code(), dst, src, 0, 0);
    }

    /// `goto label`
    pub(super) fn jump(&mut self, label: &'static str) {
        self.fixups.push((self.code.len(), label));
        self.push(JMP_IMM, R0, R0, 0, 0);
    }

    /// `dst =` the map of that descriptor
    pub(super) fn load_map(&mut self, dst: Reg, fd: i32) {
        self.push(LD_IMM64, dst, Reg(PSEUDO_MAP), 0, fd);
        self.push(0, R0, R0, 0, 0);
    }

    /// `dst =` the address of the only value of the map of that descriptor
    pub(super) fn load_map_value(&mut self, dst: Reg, fd: i32) {
        self.push(LD_IMM64, dst, Reg(PSEUDO_MAP_VALUE), 0, fd);
        self.push(0, R0, R0, 0, 0);
    }

    /// Calls a helper of the kernel by number.
    pub(super) fn call(&mut self, helper: i32) {
        self.push(CALL, R0, R0, 0, helper);
    }

    /// Ends the program with r0.
    pub(super) fn exit(&mut self) {
        self.push(EXIT, R0, R0, 0, 0);
    }

    /// The instructions, with all jumps resolved.
    ///
    /// # Panics
    /// If a label is missing: a mistake in the program's source.
    pub(super) fn finish(mut self) -> Vec<Insn> {
        for (at, label) in self.fixups {
            let target = self.labels.get(label).expect("every label that is jumped to is set");
            let off = *target as isize - at as isize - 1;
            self.code[at].off = i16::try_from(off).expect("the program has less than 2^15 instructions");
        }
        self.code
    }
}
