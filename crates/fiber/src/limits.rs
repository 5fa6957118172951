//! Every bound of the crate, with its reason.

/// Bytes of a closure or a result that live in the fiber's own cell. Larger ones are boxed, which is the one
/// allocation that a spawn may make after warm-up. Two cache lines hold what a connection handler usually captures.
pub const INLINE_BYTES: usize = 128;

/// Fibers of one scheduler, unless its configuration says less: a million cells are 400 MiB, which is more than a
/// thread can serve.
pub const FIBERS_MAX: usize = 1 << 20;

/// Cells are allocated so many at a time: 100 KiB.
pub(crate) const FIBERS_PER_CHUNK: usize = 256;

/// Fibers run in one [`turn`](crate::Scheduler::turn) of [`run`](crate::Scheduler::run) before timers, other threads
/// and the kernel are looked at again. At 100 ns a fiber it is some 25 µs.
pub const TURN_BUDGET: usize = 256;

/// Fibers run in one poll of a [`Guest`](crate::Guest). At 200 ns a fiber it is some 13 µs, which the executor's sockets
/// have to bear.
pub const GUEST_BUDGET: usize = 64;

/// Of so many fibers run, one comes from the ordinary queue even if completions of I/O keep arriving.
pub(crate) const IO_SHARE: u32 = 8;

/// Operations that a fiber does in a row without having to wait, before others have their turn: a fiber whose peer is as
/// fast as itself would keep the thread for ever. At 1 µs each it is 32 µs.
pub const AT_ONCE_MAX: u32 = 32;

/// Closures sent by other threads that the scheduler has not taken yet. A sender beyond it is told so.
pub const INJECTED_MAX: usize = 1024;

/// The guard below every stack: a multiple of every page size in use. Rust probes every page of a large frame, so one
/// page would do for Rust; C code on a fiber may skip further. It costs addresses, not memory.
pub const GUARD_BYTES: usize = 64 << 10;

/// Stacks are mapped in regions of so many bytes, so that a hundred thousand stacks are a few hundred system calls.
#[cfg(unix)]
pub(crate) const REGION_BYTES: usize = 16 << 20;

/// Free stacks of a class that keep their pages. Those beyond it give them back with `MADV_DONTNEED`: 1,024 stacks of
/// two touched pages are 8 MiB.
pub const WARM_STACKS: usize = 1024;

/// Destructors may spawn fibers while the scheduler ends. After so many passes the rest is reported and leaked.
pub(crate) const SHUTDOWN_PASSES_MAX: usize = 64;

/// How long each such pass waits for the kernel to end operations that were cancelled. Most end at once; a read of a slow
/// disk cannot be cancelled.
pub(crate) const SHUTDOWN_PATIENCE: std::time::Duration = std::time::Duration::from_millis(50);

/// Frames of a fiber that holds its thread that are shown.
#[cfg(unix)]
pub(crate) const HOG_FRAMES_MAX: usize = 64;

/// Bytes of a fiber's name that signal handlers copy.
#[cfg(unix)]
pub(crate) const NAME_BYTES_MAX: usize = 64;

/// The wheel's resolution as a power of two of nanoseconds: 131 µs. A timer in the wheel is late by up to one tick; finer
/// ticks would only make an idle thread wake more often.
pub const TICK_BITS: u32 = 17;

/// Entries of cancelled precise timers are swept once they are more than the live ones and this.
pub(crate) const STALE_PRECISE_MAX: usize = 64;

/// Threads for calls that block: files where the kernel has no `io_uring`, name resolution. Disks and resolvers are not
/// faster with more.
pub const OFFLOAD_THREADS: usize = 4;

/// Calls that wait for such a thread; beyond it the caller's thread waits.
pub const OFFLOAD_JOBS_MAX: usize = 1024;

/// The smallest ring that is tried when memory is short.
#[cfg(target_os = "linux")]
pub(crate) const RING_ENTRIES_MIN: u32 = 8;
