//! Helper threads for calls that block.

use crate::future::Wait;
use crate::limits::{OFFLOAD_JOBS_MAX, OFFLOAD_THREADS};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Poll, Waker};
use std::thread;

type Job = Box<dyn FnOnce() + Send>;

static JOBS: OnceLock<SyncSender<Job>> = OnceLock::new();

/// Where the result of a job comes to lie, and who waits for it.
struct Slot<T> {
    result: Option<thread::Result<T>>,
    waker: Option<Waker>,
}

/// Runs `f`, which may block, on one of a few helper threads that all schedulers share, and parks the fiber until it is
/// done. A panic in `f` is passed on. If the fiber is cancelled, this unwinds and `f` goes on without it.
///
/// If very many calls are waiting already ([`limits::OFFLOAD_JOBS_MAX`](crate::limits::OFFLOAD_JOBS_MAX)), the thread
/// itself waits for a free place.
///
/// # Panics
/// If no helper thread can be started.
pub fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let slot = Arc::new(Mutex::new(Slot { result: None, waker: None }));
    let job = {
        let slot = slot.clone();
        move || {
            let result = catch_unwind(AssertUnwindSafe(f));
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            slot.result = Some(result);
            let waker = slot.waker.take();
            drop(slot);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    };
    JOBS.get_or_init(start).send(Box::new(job)).expect("the helper threads never end");
    let result = std::future::poll_fn(|context| {
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    })
    .wait();
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

fn start() -> SyncSender<Job> {
    let (send, receive) = sync_channel(OFFLOAD_JOBS_MAX);
    let receive = Arc::new(Mutex::new(receive));
    for index in 0..OFFLOAD_THREADS {
        let receive: Arc<Mutex<Receiver<Job>>> = receive.clone();
        let body = move || {
            loop {
                let job = receive.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(job) = job else { return };
                job();
            }
        };
        let started = thread::Builder::new().name(format!("fiber-helper-{index}")).spawn(body);
        assert!(index > 0 || started.is_ok(), "no helper thread can be started");
    }
    send
}
