//! Programs as text, for the test that what is assembled is what is meant.

use std::fmt;

use super::asm::{
    ALU64_IMM, ALU64_REG, CALL, Cond, EXIT, FP, Insn, JMP_IMM, JMP_REG, LD_IMM64, LDX_MEM, Op, PSEUDO_MAP,
    PSEUDO_MAP_VALUE, Reg, ST_MEM, STX_MEM, TO_BE, Width,
};

const WIDTHS: [(Width, &str); 4] =
    [(Width::Byte, "u8"), (Width::Half, "u16"), (Width::Word, "u32"), (Width::Double, "u64")];
const OPS: [(Op, &str); 5] = [(Op::Add, "+="), (Op::Mul, "*="), (Op::And, "&="), (Op::Mod, "%="), (Op::Mov, "=")];
const CONDS: [(Cond, &str); 5] =
    [(Cond::Equal, "=="), (Cond::NotEqual, "!="), (Cond::Greater, ">"), (Cond::GreaterOrEqual, ">="), (Cond::Set, "&")];

/// The listing of a program, one line per instruction. Jumps name the number of the instruction they go to.
pub(super) struct Listing<'a>(pub(super) &'a [Insn]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut at = 0;
        while let Some(insn) = self.0.get(at) {
            write!(f, "{at:3}: ")?;
            insn.describe(f, at)?;
            writeln!(f)?;
            at += if insn.code == LD_IMM64 { 2 } else { 1 };
        }
        Ok(())
    }
}

impl Insn {
    fn describe(self, f: &mut fmt::Formatter<'_>, at: usize) -> fmt::Result {
        let (dst, src) = (Reg(self.regs & 15), Reg(self.regs >> 4));
        let (off, imm) = (self.off, self.imm);
        for (width, name) in WIDTHS {
            let code = width.code();
            match self.code {
                c if c == LDX_MEM | code => return write!(f, "{dst} = *({name}*)({src} {off:+})"),
                c if c == STX_MEM | code => return write!(f, "*({name}*)({dst} {off:+}) = {src}"),
                c if c == ST_MEM | code => return write!(f, "*({name}*)({dst} {off:+}) = {imm:#x}"),
                _ => (),
            }
        }
        for (op, name) in OPS {
            let code = op.code();
            match self.code {
                c if c == ALU64_IMM | code => return write!(f, "{dst} {name} {imm}"),
                c if c == ALU64_REG | code => return write!(f, "{dst} {name} {src}"),
                _ => (),
            }
        }
        let target = at as isize + 1 + isize::from(off);
        for (cond, name) in CONDS {
            let code = cond.code();
            match self.code {
                c if c == JMP_IMM | code => return write!(f, "if {dst} {name} {imm:#x} goto {target}"),
                c if c == JMP_REG | code => return write!(f, "if {dst} {name} {src} goto {target}"),
                _ => (),
            }
        }
        match self.code {
            JMP_IMM => write!(f, "goto {target}"),
            TO_BE => write!(f, "{dst} = be{imm}({dst})"),
            LD_IMM64 if src.0 == PSEUDO_MAP => write!(f, "{dst} = map {imm}"),
            LD_IMM64 if src.0 == PSEUDO_MAP_VALUE => write!(f, "{dst} = value of map {imm}"),
            CALL => write!(f, "call {imm}"),
            EXIT => write!(f, "exit"),
            code => write!(f, "unknown {code:#04x} {dst} {src} {off} {imm}"),
        }
    }
}

impl fmt::Display for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == FP { f.write_str("fp") } else { write!(f, "r{}", self.0) }
    }
}
