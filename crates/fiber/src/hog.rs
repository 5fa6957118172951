//! Noticing a fiber that holds its thread.
//!
//! Every switch to a fiber writes a number; a thread of its own looks at the number a few times per limit. If it stayed
//! the same for longer, it interrupts the fiber's thread with a signal (SIGURG, which nothing minds), whose handler
//! copies the fiber's name and the addresses of its stack. Symbols are looked up by the watching thread. Reading the clock
//! at every switch instead would cost more than the switch. Where there are no signals (Windows) the report has the
//! name and no backtrace.

use crate::sched::FiberCell;
use std::cell::Cell;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Looks per limit: a report comes at most a quarter of the limit late.
const LOOKS_PER_LIMIT: u32 = 4;

/// Whom to tell of a fiber that holds its thread.
type Report = Arc<dyn Fn(&HogReport) + Send + Sync>;

/// When a fiber holds its thread for too long, and who is told. A thread watches, waking four times per limit.
#[derive(Clone)]
pub struct HogConfig {
    limit: Duration,
    report: Report,
}

impl HogConfig {
    /// Fibers that run for longer than `limit` without a wait are reported as warnings of `tracing`.
    pub fn new(limit: Duration) -> HogConfig {
        let report = |report: &HogReport| tracing::warn!("{report}");
        HogConfig { limit, report: Arc::new(report) }
    }

    /// Calls `report` instead, on the watching thread.
    #[must_use]
    pub fn report(mut self, report: impl Fn(&HogReport) + Send + Sync + 'static) -> HogConfig {
        self.report = Arc::new(report);
        self
    }
}

impl fmt::Debug for HogConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HogConfig").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// A fiber that holds its thread. It is reported once per run.
#[derive(Clone, Debug)]
pub struct HogReport {
    /// The fiber's name.
    pub name: String,
    /// How long it has been running at least.
    pub held: Duration,
    /// Where it is, a line per function, innermost first; empty where the platform cannot tell.
    pub backtrace: String,
}

impl fmt::Display for HogReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the fiber '{}' has held its thread for {:?}\n{}", self.name, self.held, self.backtrace)
    }
}

struct Shared {
    /// Changes with every switch to a fiber; 0 when none runs.
    run: AtomicU64,
    stop: AtomicBool,
}

/// The scheduler's side.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    runs: Cell<u64>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn start(config: HogConfig) -> io::Result<Watch> {
        let target = probe::Target::of_this_thread()?;
        let shared = Arc::new(Shared { run: AtomicU64::new(0), stop: AtomicBool::new(false) });
        let watched = shared.clone();
        let body = move || watch(&watched, &config, &target);
        let thread = thread::Builder::new().name("fiber-watch".into()).spawn(body)?;
        Ok(Watch { shared, runs: Cell::new(0), thread: Some(thread) })
    }

    /// A fiber is about to run.
    #[inline]
    pub(crate) fn enter(&self, _cell: &FiberCell) {
        self.runs.set(self.runs.get() + 1);
        self.shared.run.store(self.runs.get(), Ordering::Relaxed);
    }

    /// No fiber runs.
    #[inline]
    pub(crate) fn idle(&self) {
        self.shared.run.store(0, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A report that panicked has been printed.
            let _ = thread.join();
        }
    }
}

fn watch(shared: &Shared, config: &HogConfig, target: &probe::Target) {
    let (mut seen, mut since, mut reported) = (0, Instant::now(), true);
    while !shared.stop.load(Ordering::Acquire) {
        thread::park_timeout(config.limit / LOOKS_PER_LIMIT);
        let run = shared.run.load(Ordering::Relaxed);
        if run != seen || run == 0 {
            (seen, since, reported) = (run, Instant::now(), false);
        } else if !reported && since.elapsed() >= config.limit {
            reported = true;
            if let Some((name, backtrace)) = target.look(|| shared.run.load(Ordering::Relaxed) == run) {
                (config.report)(&HogReport { name, held: since.elapsed(), backtrace });
            }
        }
    }
}

#[cfg(unix)]
mod probe {
    //! Looking at a thread from outside, with a signal.

    use super::*;
    use crate::limits;
    use crate::sched::Inner;
    use crate::stack::overflow::set_action;
    use std::fmt::Write as _;
    use std::sync::atomic::{AtomicU8, AtomicUsize};
    use std::sync::{Mutex, OnceLock};

    const IDLE: u8 = 0;
    const ASKED: u8 = 1;
    const BUSY: u8 = 2;
    const ANSWERED: u8 = 3;

    /// How long the signal may take to be answered.
    const ANSWER_MAX: Duration = Duration::from_millis(500);

    /// What the handler writes and the asking thread reads; one question at a time.
    struct Answer {
        state: AtomicU8,
        frames: [AtomicUsize; limits::HOG_FRAMES_MAX],
        frames_len: AtomicUsize,
        name: [AtomicU8; limits::NAME_BYTES_MAX],
        name_len: AtomicUsize,
    }

    static ANSWER: Answer = Answer {
        state: AtomicU8::new(IDLE),
        frames: [const { AtomicUsize::new(0) }; limits::HOG_FRAMES_MAX],
        frames_len: AtomicUsize::new(0),
        name: [const { AtomicU8::new(0) }; limits::NAME_BYTES_MAX],
        name_len: AtomicUsize::new(0),
    };

    static ASKING: Mutex<()> = Mutex::new(());
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();

    /// A thread to look at.
    pub(super) struct Target(libc::pthread_t);

    // SAFETY: the identifier is a value that any thread may send signals to; on some systems it is a pointer.
    unsafe impl Send for Target {}
    // SAFETY: as above.
    unsafe impl Sync for Target {}

    impl Target {
        pub(super) fn of_this_thread() -> io::Result<Target> {
            let installed = INSTALLED.get_or_init(|| {
                // The unwinder allocates and locks when it is used first, which must not happen in the handler.
                backtrace::trace(|_| true);
                set_action(libc::SIGURG, on_signal).map(drop).map_err(|error| error.raw_os_error().unwrap_or(0))
            });
            installed.map_err(io::Error::from_raw_os_error)?;
            // SAFETY: asks for the caller's own identifier.
            Ok(Target(unsafe { libc::pthread_self() }))
        }

        /// The name of the fiber that runs there and where it is, if `still` says afterwards that it is the same.
        pub(super) fn look(&self, still: impl Fn() -> bool) -> Option<(String, String)> {
            let _one_at_a_time = ASKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            ANSWER.state.store(ASKED, Ordering::Release);
            // SAFETY: the scheduler joins the watching thread before its own thread can end.
            let rc = unsafe { libc::pthread_kill(self.0, libc::SIGURG) };
            let asked = Instant::now();
            while rc == 0 && ANSWER.state.load(Ordering::Acquire) != ANSWERED && asked.elapsed() < ANSWER_MAX {
                thread::sleep(Duration::from_micros(100));
            }
            // A handler that is late finds nothing asked; one that is at it is waited for.
            while ANSWER.state.compare_exchange(ASKED, IDLE, Ordering::Acquire, Ordering::Acquire) == Err(BUSY) {
                thread::sleep(Duration::from_micros(100));
            }
            if ANSWER.state.swap(IDLE, Ordering::Acquire) != ANSWERED || !still() {
                return None;
            }
            let name_len = ANSWER.name_len.load(Ordering::Relaxed);
            let name: Vec<u8> = ANSWER.name[..name_len].iter().map(|byte| byte.load(Ordering::Relaxed)).collect();
            Some((String::from_utf8_lossy(&name).into_owned(), symbols()))
        }
    }

    fn symbols() -> String {
        let mut text = String::new();
        let len = ANSWER.frames_len.load(Ordering::Relaxed);
        for frame in &ANSWER.frames[..len] {
            let address = frame.load(Ordering::Relaxed);
            backtrace::resolve(address as *mut _, |symbol| {
                let Some(name) = symbol.name() else { return };
                let _ = write!(text, "  {name:#}");
                if let (Some(file), Some(line)) = (symbol.filename(), symbol.lineno()) {
                    let _ = write!(text, " at {}:{line}", file.display());
                }
                text.push('\n');
            });
        }
        text
    }

    extern "C" fn on_signal(_signal: libc::c_int, _info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
        if ANSWER.state.compare_exchange(ASKED, BUSY, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return;
        }
        let mut name_len = 0;
        Inner::try_with(|inner| {
            let Some(cell) = inner.current() else { return };
            // SAFETY: the name of a running fiber is not written to, and this is its thread.
            let name = unsafe { &*cell.name.as_ptr() };
            for (from, to) in name.bytes().zip(&ANSWER.name) {
                to.store(from, Ordering::Relaxed);
                name_len += 1;
            }
        });
        ANSWER.name_len.store(name_len, Ordering::Relaxed);
        let mut frames_len = 0;
        // SAFETY: frames are only read, nothing is looked up, and the one lock that this would take is not needed:
        // handlers do not interrupt each other here (`BUSY`).
        unsafe {
            backtrace::trace_unsynchronized(|frame| {
                ANSWER.frames[frames_len].store(frame.ip() as usize, Ordering::Relaxed);
                frames_len += 1;
                frames_len < limits::HOG_FRAMES_MAX
            });
        }
        ANSWER.frames_len.store(frames_len, Ordering::Relaxed);
        ANSWER.state.store(ANSWERED, Ordering::Release);
    }
}

#[cfg(not(unix))]
mod probe {
    //! Without signals only the fact is known.

    use super::*;

    pub(super) struct Target(String);

    impl Target {
        pub(super) fn of_this_thread() -> io::Result<Target> {
            Ok(Target(thread::current().name().unwrap_or("a thread without a name").to_owned()))
        }

        pub(super) fn look(&self, still: impl Fn() -> bool) -> Option<(String, String)> {
            still().then(|| (format!("unknown, on {}", self.0), String::new()))
        }
    }
}
