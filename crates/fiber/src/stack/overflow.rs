//! Telling a stack overflow of a fiber from other faults.
//!
//! The handler of SIGSEGV and SIGBUS runs on the thread's alternate stack. If the address is in the guard of the fiber
//! that runs, it writes the fiber's name and aborts; every other fault goes to the handler that was there before,
//! usually the standard library's.

use crate::limits::{GUARD_BYTES, NAME_BYTES_MAX};
use crate::sched::Inner;
use std::cell::RefCell;
use std::io;
use std::sync::OnceLock;

/// The signals: macOS reports guard pages as SIGBUS.
const SIGNALS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Room for the handler and whatever the chained one does.
const ALTERNATE_BYTES: usize = 64 << 10;

/// What handled [`SIGNALS`] before.
static PREVIOUS: OnceLock<[libc::sigaction; 2]> = OnceLock::new();

thread_local! {
    /// The alternate stack of a thread that had none.
    static ALTERNATE: RefCell<Option<Alternate>> = const { RefCell::new(None) };
}

/// Installs the handler once per process and makes sure that this thread has an alternate stack.
pub(crate) fn install() -> io::Result<()> {
    Alternate::ensure()?;
    let mut result = Ok(());
    PREVIOUS.get_or_init(|| {
        let installed = SIGNALS.map(|signal| set_action(signal, on_fault));
        installed.map(|old| {
            old.unwrap_or_else(|error| {
                result = Err(error);
                zeroed_action()
            })
        })
    });
    result
}

pub(crate) type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

fn zeroed_action() -> libc::sigaction {
    // SAFETY: all zeros is a valid `sigaction`: the default action, an empty mask.
    unsafe { std::mem::zeroed() }
}

/// Installs a handler that runs on the alternate stack and returns the old one.
pub(crate) fn set_action(signal: libc::c_int, handler: Handler) -> io::Result<libc::sigaction> {
    let mut action = zeroed_action();
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    let mut old = zeroed_action();
    // SAFETY: both structures are valid, and the handlers given here are safe to run at any point.
    match unsafe { libc::sigaction(signal, &action, &mut old) } {
        0 => Ok(old),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn on_fault(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid structure to a handler with SA_SIGINFO.
    let info_ref = unsafe { &*info };
    // SAFETY: for these two signals the address is the one that faulted.
    let address = unsafe { info_ref.si_addr() } as usize;
    Inner::try_with(|inner| {
        let Some(cell) = inner.current() else { return };
        let limit = cell.seat.limit.get();
        if !(limit..limit + GUARD_BYTES).contains(&address) {
            return;
        }
        // SAFETY: the name of a running fiber is not written to, and this thread reads it here and nowhere else now.
        let name = unsafe { &*cell.name.as_ptr() };
        write_error(b"\nfiber '");
        write_error(&name.as_bytes()[..name.len().min(NAME_BYTES_MAX)]);
        write_error(b"' has overflowed its stack (a larger one: Builder::stack)\n");
        // SAFETY: ends the process.
        unsafe { libc::abort() };
    });
    pass_on(signal, info, context);
}

fn write_error(bytes: &[u8]) {
    // SAFETY: the buffer is valid for its length; a failed write has nobody to be reported to.
    let _ = unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
}

/// Lets the handler that was there before have the signal.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let index = usize::from(signal != SIGNALS[0]);
    let Some(previous) = PREVIOUS.get().map(|all| &all[index]) else { return };
    match previous.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // The fault happens again when the handler returns, and ends the process as it would have.
            // SAFETY: puts back an action that was valid before.
            unsafe { libc::sigaction(signal, previous, std::ptr::null_mut()) };
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: with SA_SIGINFO the address is that of a function with three arguments.
            let handler = unsafe { std::mem::transmute::<usize, Handler>(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: without SA_SIGINFO the address is that of a function with one argument.
            let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(handler) };
            handler(signal);
        }
    }
}

/// An alternate signal stack for a thread that was not made by the standard library.
struct Alternate(#[expect(dead_code, reason = "the memory is the kernel's until the drop")] Box<[u8]>);

impl Alternate {
    fn ensure() -> io::Result<()> {
        // SAFETY: all zeros is a valid `stack_t`.
        let mut now: libc::stack_t = unsafe { std::mem::zeroed() };
        // SAFETY: asks for the current setting.
        if unsafe { libc::sigaltstack(std::ptr::null(), &mut now) } != 0 {
            return Err(io::Error::last_os_error());
        }
        if now.ss_flags & libc::SS_DISABLE == 0 {
            return Ok(());
        }
        let mut memory = vec![0u8; ALTERNATE_BYTES].into_boxed_slice();
        let new = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: memory.len() };
        // SAFETY: the memory is given to the kernel and kept until the thread ends.
        if unsafe { libc::sigaltstack(&new, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        ALTERNATE.with(|slot| *slot.borrow_mut() = Some(Alternate(memory)));
        Ok(())
    }
}

impl Drop for Alternate {
    fn drop(&mut self) {
        let off = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // SAFETY: the kernel no longer uses the memory after this; the thread is at its end.
        unsafe { libc::sigaltstack(&off, std::ptr::null_mut()) };
    }
}
