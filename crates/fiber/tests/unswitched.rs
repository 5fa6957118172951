//! What needs no fiber to run: futures of this crate polled by hand, timers, fibers that end before they begin, closures and
//! wake-ups from other threads. Nothing here switches stacks, so Miri can look at it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use warpline_fiber::reactor::ReactorConfig;
use warpline_fiber::sync::{Closed, Event, Mutex, Semaphore, SendClosed, channel};
use warpline_fiber::time::{Instant, ManualClock, Sleep, every, once};
use warpline_fiber::{Baton, Builder, Config, JoinError, Scheduler, SpawnError, StackConfig};

/// Counts how often it was used.
#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A task that is polled by hand.
struct Task {
    woken: Arc<Woken>,
    waker: Waker,
}

impl Task {
    fn new() -> Task {
        let woken = Arc::<Woken>::default();
        Task { waker: woken.clone().into(), woken }
    }

    fn poll<F: Future>(&self, future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(&self.waker))
    }

    fn count(&self) -> u32 {
        self.woken.0.load(Ordering::Relaxed)
    }
}

/// With a clock that is moved by hand. Every field is named: the default's clock is calibrated by instructions that Miri lacks.
fn with_clock() -> (Scheduler, ManualClock) {
    let clock = ManualClock::default();
    let config = Config {
        core: None,
        stacks: StackConfig::default(),
        fibers_max: 256,
        reactor: ReactorConfig::None,
        clock: clock.clock(),
        hog: None,
        notify: None,
    };
    (Scheduler::new(config).unwrap(), clock)
}

#[test]
fn a_baton_wakes_the_last_one_that_polled() {
    let (baton, [first, second]) = (Baton::new(), [Task::new(), Task::new()]);
    for task in [&first, &second] {
        assert!(baton.poll_wait(&mut Context::from_waker(&task.waker)).is_pending());
    }
    baton.post();
    baton.post();
    assert_eq!((first.count(), second.count()), (0, 1));
    assert!(baton.try_wait() && !baton.try_wait());
}

#[test]
fn senders_and_receivers_that_wait_are_served_in_order_and_may_leave_in_any() {
    let (send, receive) = channel(1);
    let tasks = [Task::new(), Task::new(), Task::new(), Task::new()];
    let mut full = pin!(send.send(0));
    assert_eq!(tasks[0].poll(full.as_mut()), Poll::Ready(Ok(())));
    let (mut one, mut three) = (pin!(send.send(1)), pin!(send.send(3)));
    {
        assert!(tasks[1].poll(one.as_mut()).is_pending());
        // Between the other two, and gone before its turn.
        let mut two = pin!(send.send(2));
        assert!(tasks[2].poll(two.as_mut()).is_pending());
        assert!(tasks[3].poll(three.as_mut()).is_pending());
    }
    assert_eq!(receive.try_recv(), Some(0));
    assert_eq!((tasks[1].count(), tasks[2].count(), tasks[3].count()), (1, 0, 0));
    assert_eq!(tasks[1].poll(one.as_mut()), Poll::Ready(Ok(())));
    assert_eq!(receive.try_recv(), Some(1));
    assert_eq!(tasks[3].count(), 1);
    assert_eq!(tasks[3].poll(three.as_mut()), Poll::Ready(Ok(())));
    assert_eq!(receive.try_recv(), Some(3));
    assert_eq!(receive.try_recv(), None);

    // One that was woken and leaves passes the message on.
    let mut stays = pin!(receive.recv());
    {
        let mut leaves = pin!(receive.recv());
        assert!(tasks[0].poll(leaves.as_mut()).is_pending());
        assert!(tasks[1].poll(stays.as_mut()).is_pending());
        let mut four = pin!(send.send(4));
        assert_eq!(tasks[2].poll(four.as_mut()), Poll::Ready(Ok(())));
        assert_eq!((tasks[0].count(), tasks[1].count()), (1, 1));
    }
    assert_eq!(tasks[1].count(), 2);
    assert_eq!(tasks[1].poll(stays.as_mut()), Poll::Ready(Ok(4)));
}

#[test]
fn the_end_of_either_side_wakes_the_other() {
    let task = Task::new();
    let (send, receive) = channel::<String>(1);
    {
        let mut waits = pin!(receive.recv());
        assert!(task.poll(waits.as_mut()).is_pending());
        drop(send);
        assert_eq!(task.poll(waits.as_mut()), Poll::Ready(Err(Closed)));
    }
    let (send, receive) = channel(1);
    let mut fills = pin!(send.send("in the channel".to_owned()));
    assert_eq!(task.poll(fills.as_mut()), Poll::Ready(Ok(())));
    let mut waits = pin!(send.send("waits".to_owned()));
    assert!(task.poll(waits.as_mut()).is_pending());
    drop(receive);
    assert_eq!(task.count(), 2);
    assert_eq!(task.poll(waits.as_mut()), Poll::Ready(Err(SendClosed("waits".to_owned()))));
}

#[test]
fn locks_and_permits_go_to_whoever_came_first() {
    let (mutex, tasks) = (Mutex::new(vec![0]), [Task::new(), Task::new()]);
    let mut guard = mutex.try_lock().unwrap();
    let mut second = pin!(mutex.lock());
    {
        let mut first = pin!(mutex.lock());
        assert!(tasks[0].poll(first.as_mut()).is_pending());
        assert!(tasks[1].poll(second.as_mut()).is_pending());
        guard.push(1);
        drop(guard);
        assert!(mutex.try_lock().is_none(), "it is the first one's");
        // Which leaves without having taken it.
    }
    assert_eq!(tasks[1].count(), 1);
    match tasks[1].poll(second.as_mut()) {
        Poll::Ready(guard) => assert_eq!(*guard, [0, 1]),
        Poll::Pending => panic!("the lock was passed on"),
    }

    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire().unwrap();
    let mut waits = pin!(semaphore.acquire());
    assert!(tasks[0].poll(waits.as_mut()).is_pending());
    drop(permit);
    assert_eq!(tasks[0].count(), 2);
    assert!(tasks[0].poll(waits.as_mut()).is_ready());
    semaphore.release();
    assert_eq!(semaphore.available(), 2, "one by the permit that was dropped, one for nothing");
}

#[test]
fn an_event_wakes_all_who_are_there() {
    let (event, tasks) = (Event::new(), [Task::new(), Task::new(), Task::new()]);
    let mut stays = [pin!(event.waiting()), pin!(event.waiting())];
    {
        let mut leaves = pin!(event.waiting());
        assert!(tasks[0].poll(leaves.as_mut()).is_pending());
        for (task, waits) in tasks[1..].iter().zip(&mut stays) {
            assert!(task.poll(waits.as_mut()).is_pending());
        }
    }
    event.set();
    assert_eq!(tasks.each_ref().map(Task::count), [0, 1, 1]);
    event.reset();
    assert!(!event.is_set());
    for (task, waits) in tasks[1..].iter().zip(&mut stays) {
        assert!(task.poll(waits.as_mut()).is_ready());
    }
}

#[test]
fn timers_fire_in_order_and_are_gone_when_they_are_dropped() {
    let (scheduler, clock) = with_clock();
    let log = Rc::new(RefCell::new(Vec::new()));
    let note = |what: &'static str| {
        let log = log.clone();
        move || log.borrow_mut().push(what)
    };
    let ms = Duration::from_millis(1);
    let once_ = once(20 * ms, note("once"));
    let every_ = every(15 * ms, note("every"));
    once(10 * ms, note("once"));
    once(5 * ms, note("cancelled")).cancel();
    let task = Task::new();
    let sleep = |at_ms: u64| Sleep::until(Instant::from_nanos(at_ms * 1_000_000));
    let (mut short, mut precise) = (pin!(sleep(18)), pin!(Sleep::until_precise(Instant::from_nanos(19_000_000))));
    assert!(task.poll(short.as_mut()).is_pending());
    assert!(task.poll(precise.as_mut()).is_pending());
    {
        let mut dropped = pin!(sleep(100_000));
        assert!(task.poll(dropped.as_mut()).is_pending());
    }
    for _ in 0..50 {
        clock.advance(ms);
        scheduler.turn(10);
    }
    assert!(task.poll(short.as_mut()).is_ready() && task.poll(precise.as_mut()).is_ready());
    assert_eq!(task.count(), 2);
    every_.cancel();
    once_.cancel();
    assert_eq!(log.borrow().iter().filter(|what| **what == "every").count(), 3);
    assert_eq!(log.borrow().iter().filter(|what| **what == "once").count(), 2);
    assert!(!log.borrow().contains(&"cancelled"));
    assert_eq!(scheduler.next_deadline(), None);
}

/// Says that it was dropped.
struct Noted(Rc<Cell<u32>>);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn fibers_that_end_before_they_begin_drop_what_they_have() {
    let (scheduler, _clock) = with_clock();
    let drops = Rc::new(Cell::new(0));
    for round in 1..=3 {
        let (small, large) = (Noted(drops.clone()), (Noted(drops.clone()), [7u8; 500]));
        let named = Builder::new().name(format!("round {round}")).spawn(move || small).unwrap();
        let large = scheduler.spawn(move || large.1[0] + u8::try_from(large.0.0.get()).unwrap());
        let nobody = Noted(drops.clone());
        let detached = scheduler.spawn(move || drop(nobody));
        named.cancel();
        large.cancel();
        detached.cancel();
        detached.detach();
        assert!(matches!(named.join(), Err(JoinError::Cancelled)));
        assert!(matches!(large.join(), Err(JoinError::Cancelled)));
        assert_eq!(drops.get(), 3 * round);
    }
    assert_eq!(scheduler.stats().spawned, 9);
    assert_eq!(scheduler.stats().stacks[1].mapped, 0);
    // What is left ends with the scheduler.
    let left: Vec<_> = (0..256)
        .map(|_| {
            let noted = Noted(drops.clone());
            scheduler.spawn(move || drop(noted))
        })
        .collect();
    assert_eq!(Builder::new().spawn(|| ()).unwrap_err(), SpawnError::TooMany);
    drop(scheduler);
    assert_eq!(drops.get(), 9 + 256);
    for handle in left {
        assert!(matches!(handle.join(), Err(JoinError::Cancelled)));
    }
}

#[test]
fn other_threads_wake_the_future_that_is_run_and_leave_closures() {
    let (scheduler, _clock) = with_clock();
    let remote = scheduler.remote();
    let dropped = Arc::new(AtomicU32::new(0));
    struct Counts(Arc<AtomicU32>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let mut looks = 0;
    std::thread::scope(|threads| {
        let (send, receive) = std::sync::mpsc::channel::<Waker>();
        let done = Arc::new(AtomicU32::new(0));
        let seen = done.clone();
        threads.spawn(move || {
            for waker in receive.iter().take(3) {
                done.fetch_add(1, Ordering::Release);
                waker.wake();
            }
        });
        scheduler.block_on(std::future::poll_fn(|context| {
            looks += 1;
            match seen.load(Ordering::Acquire) {
                3 => Poll::Ready(()),
                _ => {
                    send.send(context.waker().clone()).unwrap();
                    Poll::Pending
                }
            }
        }));
    });
    assert!(looks >= 4);
    if cfg!(miri) {
        // A closure runs in a fiber, if only at the scheduler's end.
        return;
    }
    let counts = Counts(dropped.clone());
    std::thread::spawn(move || remote.spawn(move || drop(counts)).unwrap()).join().unwrap();
    // Nobody has looked since.
    drop(scheduler);
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
}
