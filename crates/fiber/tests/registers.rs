//! A switch keeps every register that a call has to keep.
#![cfg(all(unix, any(target_arch = "x86_64", target_arch = "aarch64")))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::arch::asm;
use std::cell::RefCell;
use std::rc::Rc;
use warpline_fiber::{Baton, Scheduler, spawn, yield_now};

/// rbx, rbp and r12 to r15.
#[cfg(target_arch = "x86_64")]
const REGISTERS: usize = 6;

/// x19 to x28, and the lower halves of v8 to v15.
#[cfg(target_arch = "aarch64")]
const REGISTERS: usize = 18;

/// What the registers hold before a call, and what they hold after it.
#[repr(C)]
struct Held {
    put: [u64; REGISTERS],
    got: [u64; REGISTERS],
}

/// Calls `f`, which must not unwind, with known values in the registers that it has to keep.
#[cfg(target_arch = "x86_64")]
fn hold(held: &mut Held, f: extern "C" fn()) {
    // SAFETY: rbx and rbp, which cannot be named below, are put back; the stack is as deep at the end as at the beginning,
    // and aligned at the call, with four words on it.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "push rdi",
            "sub rsp, 8",
            "mov rbx, [rdi]",
            "mov rbp, [rdi + 8]",
            "mov r12, [rdi + 16]",
            "mov r13, [rdi + 24]",
            "mov r14, [rdi + 32]",
            "mov r15, [rdi + 40]",
            "call rax",
            "add rsp, 8",
            "pop rdi",
            "mov [rdi + 48], rbx",
            "mov [rdi + 56], rbp",
            "mov [rdi + 64], r12",
            "mov [rdi + 72], r13",
            "mov [rdi + 80], r14",
            "mov [rdi + 88], r15",
            "pop rbp",
            "pop rbx",
            inout("rdi") std::ptr::from_mut(held) => _,
            inout("rax") f => _,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
            clobber_abi("C"),
        );
    }
}

/// As above.
#[cfg(target_arch = "aarch64")]
fn hold(held: &mut Held, f: extern "C" fn()) {
    // SAFETY: x19, which cannot be named below, is put back; the stack is as deep at the end as at the beginning, and aligned.
    unsafe {
        asm!(
            "stp x19, x0, [sp, #-16]!",
            "ldp x19, x20, [x0]",
            "ldp x21, x22, [x0, #16]",
            "ldp x23, x24, [x0, #32]",
            "ldp x25, x26, [x0, #48]",
            "ldp x27, x28, [x0, #64]",
            "ldp d8, d9, [x0, #80]",
            "ldp d10, d11, [x0, #96]",
            "ldp d12, d13, [x0, #112]",
            "ldp d14, d15, [x0, #128]",
            "blr x1",
            "ldr x0, [sp, #8]",
            "stp x19, x20, [x0, #144]",
            "stp x21, x22, [x0, #160]",
            "stp x23, x24, [x0, #176]",
            "stp x25, x26, [x0, #192]",
            "stp x27, x28, [x0, #208]",
            "stp d8, d9, [x0, #224]",
            "stp d10, d11, [x0, #240]",
            "stp d12, d13, [x0, #256]",
            "stp d14, d15, [x0, #272]",
            "ldr x19, [sp], #16",
            inout("x0") std::ptr::from_mut(held) => _,
            inout("x1") f => _,
            out("x20") _,
            out("x21") _,
            out("x22") _,
            out("x23") _,
            out("x24") _,
            out("x25") _,
            out("x26") _,
            out("x27") _,
            out("x28") _,
            clobber_abi("C"),
        );
    }
}

/// How floating-point numbers are computed with: the thread's own, which a switch does not touch.
#[cfg(target_arch = "x86_64")]
fn float_control() -> u64 {
    let (mut mxcsr, mut x87) = (0u32, 0u16);
    // SAFETY: both are written where they are told to.
    unsafe {
        asm!("stmxcsr [{}]", "fnstcw [{}]", in(reg) &mut mxcsr, in(reg) &mut x87, options(nostack, preserves_flags));
    }
    // Without the flags of what happened so far.
    u64::from(mxcsr & !0x3f) | u64::from(x87) << 32
}

/// As above.
#[cfg(target_arch = "aarch64")]
fn float_control() -> u64 {
    let control: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, fpcr", out(reg) control, options(nomem, nostack, preserves_flags)) };
    control
}

thread_local! {
    static TURN: RefCell<Option<[Rc<Baton>; 2]>> = const { RefCell::new(None) };
}

extern "C" fn yields() {
    yield_now();
}

/// Hands over to the partner and waits for it.
extern "C" fn hands_over() {
    let batons = TURN.with(|turn| turn.borrow().clone().unwrap());
    batons[0].post();
    batons[1].wait();
}

extern "C" fn nothing() {}

extern "C" fn starts_and_joins_another() {
    spawn(|| check(1 << 40, 3, yields)).join().unwrap();
}

/// Switches away and back with values in the registers that nobody else uses.
fn check(seed: u64, rounds: u64, switch: extern "C" fn()) {
    let control = float_control();
    for round in 0..rounds {
        let put = std::array::from_fn(|register| {
            (seed << 16 | round << 8 | register as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        let mut held = Held { put, got: [0; REGISTERS] };
        hold(&mut held, switch);
        assert_eq!(held.got, held.put, "fiber {seed}, round {round}");
        assert_eq!(float_control(), control);
    }
}

#[test]
fn what_holds_the_values_sees_a_call_that_loses_one() {
    extern "C" fn loses() {
        // SAFETY: there is nothing safe about it: the caller, which is the assembly above, is told of a register that is
        // not as it was, and puts the real one back.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            asm!("not r12", out("r13") _, options(nostack));
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            asm!("mvn x20, x20", out("x21") _, options(nostack));
        }
    }
    let mut held = Held { put: std::array::from_fn(|register| register as u64), got: [0; REGISTERS] };
    hold(&mut held, nothing);
    assert_eq!(held.got, held.put);
    hold(&mut held, loses);
    assert_ne!(held.got, held.put);
}

#[test]
fn by_way_of_the_schedulers_loop_and_by_fibers_that_run_each_other() {
    for fibers in [1, 2, 3, 20] {
        let scheduler = Scheduler::new(Default::default()).unwrap();
        let fibers: Vec<_> = (0..fibers).map(|seed| scheduler.spawn(move || check(seed, 50, yields))).collect();
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    }
}

#[test]
fn by_handing_over() {
    let scheduler = Scheduler::new(Default::default()).unwrap();
    let [left, right] = [Rc::new(Baton::new()), Rc::new(Baton::new())];
    let player = |seed, post: &Rc<Baton>, wait: &Rc<Baton>| {
        let batons = [post.clone(), wait.clone()];
        move || {
            for round in 0..50u64 {
                TURN.set(Some(batons.clone()));
                check(seed + round, 1, hands_over);
            }
            batons[0].post();
        }
    };
    let players = [player(100, &left, &right), player(200, &right, &left)].map(|player| scheduler.spawn(player));
    for player in players {
        player.join().unwrap();
    }
}

#[test]
fn of_the_thread_and_of_a_fiber_that_start_others() {
    let scheduler = Scheduler::new(Default::default()).unwrap();
    check(1, 5, starts_and_joins_another);
    scheduler.spawn(|| check(2, 5, starts_and_joins_another)).join().unwrap();
}
