//! The executor by itself: what wakes, what ends, what is left.

use super::*;
use crate::mailbox::{Inbox, Mailbox};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::Poll;

fn executor() -> (Rc<Executor>, Inbox) {
    let thread = std::thread::current();
    let (mailbox, inbox) = Mailbox::new(Box::new(move || thread.unpark()));
    (Executor::enter(Home::new(mailbox)), inbox)
}

/// Runs until nothing is ready, without waiting for other threads.
fn settle(exec: &Executor) {
    while exec.run(64, &Cell::new(false)) > 0 {}
}

/// Runs until `done`, sleeping as a worker does.
fn run_until(exec: &Executor, inbox: &mut Inbox, mut done: impl FnMut() -> bool) {
    loop {
        if inbox.take_wakes(|key| exec.woken(key)) {
            exec.wake_all();
        }
        exec.run(64, &Cell::new(false));
        if done() {
            return;
        }
        if !exec.has_ready() {
            std::thread::park();
        }
    }
}

fn now_or_never<T>(handle: JoinHandle<T>) -> Option<Result<T, JoinError>> {
    handle.now_or_never()
}

#[test]
fn a_task_gives_its_result_to_whoever_joins_it() {
    let (exec, _inbox) = executor();
    let inner = exec.spawn(async { 7 });
    let outer = exec.spawn(async move { inner.await.map(|n| n * 6) });
    settle(&exec);
    assert!(matches!(now_or_never(outer), Some(Ok(Ok(42)))));
    assert_eq!(exec.len(), 0);
}

#[test]
fn a_panic_ends_the_task_and_reaches_the_joiner() {
    let (exec, _inbox) = executor();
    let bad = exec.spawn(async { panic!("oh {}", "no") });
    let good = exec.spawn(async { 1 });
    settle(&exec);
    let Some(Err(error @ JoinError::Panicked(_))) = now_or_never::<()>(bad) else { panic!("no panic came") };
    assert_eq!(error.to_string(), "the task panicked: oh no");
    assert!(matches!(now_or_never(good), Some(Ok(1))));
    assert_eq!(exec.panics(), 1);
}

#[test]
fn an_aborted_task_drops_its_future_and_wakes_its_joiner() {
    let (exec, _inbox) = executor();
    let guard = Rc::new(());
    let held = Rc::clone(&guard);
    let task = exec.spawn(async move {
        let _held = held;
        std::future::pending::<()>().await;
    });
    settle(&exec);
    assert_eq!(Rc::strong_count(&guard), 2);
    task.abort();
    assert_eq!(Rc::strong_count(&guard), 1);
    assert!(matches!(now_or_never(task), Some(Err(JoinError::Cancelled))));
}

#[test]
fn a_task_may_abort_itself() {
    let (exec, _inbox) = executor();
    let slot: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
    let own = Rc::clone(&slot);
    let task = exec.spawn(async move {
        if let Some(handle) = own.borrow().as_ref() {
            handle.abort();
        }
        std::future::pending::<()>().await;
    });
    *slot.borrow_mut() = Some(task);
    settle(&exec);
    assert_eq!(exec.len(), 0);
    assert!(slot.borrow().as_ref().is_some_and(JoinHandle::is_finished));
}

#[test]
fn a_waker_that_outlives_its_task_wakes_nobody_else() {
    let (exec, _inbox) = executor();
    let waker: Rc<RefCell<Option<Waker>>> = Rc::default();
    let keep = Rc::clone(&waker);
    exec.spawn(poll_fn(move |cx| {
        *keep.borrow_mut() = Some(cx.waker().clone());
        Poll::Ready(())
    }))
    .detach();
    settle(&exec);
    let polls = Rc::new(Cell::new(0));
    let count = Rc::clone(&polls);
    exec.spawn(poll_fn(move |_| {
        count.set(count.get() + 1);
        Poll::<()>::Pending
    }))
    .detach();
    settle(&exec);
    if let Some(waker) = waker.take() {
        waker.wake();
    }
    settle(&exec);
    assert_eq!(polls.get(), 1);
}

#[test]
fn the_budget_bounds_a_run_and_nothing_is_lost() {
    let (exec, _inbox) = executor();
    let polls = Rc::new(Cell::new(0));
    for _ in 0..10 {
        let polls = Rc::clone(&polls);
        exec.spawn(async move { polls.set(polls.get() + 1) }).detach();
    }
    assert_eq!(exec.run(4, &Cell::new(false)), 4);
    assert!(exec.has_ready());
    assert_eq!(exec.run(100, &Cell::new(false)), 6);
    assert_eq!(polls.get(), 10);
}

#[test]
fn dropping_the_executor_drops_all_tasks_even_those_spawned_meanwhile() {
    struct Respawn(std::rc::Weak<Executor>, Rc<Cell<u32>>);
    impl Drop for Respawn {
        fn drop(&mut self) {
            self.1.set(self.1.get() + 1);
            if let Some(exec) = self.0.upgrade() {
                exec.spawn(std::future::pending::<()>()).detach();
            }
        }
    }
    let (exec, _inbox) = executor();
    let drops = Rc::new(Cell::new(0));
    for _ in 0..3 {
        let respawn = Respawn(Rc::downgrade(&exec), Rc::clone(&drops));
        exec.spawn(async move {
            let _respawn = respawn;
            std::future::pending::<()>().await;
        })
        .detach();
    }
    settle(&exec);
    exec.abort_all();
    assert_eq!(drops.get(), 3);
    assert_eq!(exec.len(), 0);
}

#[test]
fn wake_ups_from_other_threads_are_never_lost() {
    const TASKS: usize = 8;
    const ROUNDS: usize = 2_000;
    let (exec, mut inbox) = executor();
    let seen = Rc::new(Cell::new(0));
    let mut threads = Vec::new();
    for _ in 0..TASKS {
        // The other thread sets the flag, wakes, and waits for the task to take the flag back.
        let flag = Arc::new(AtomicBool::new(false));
        let (to_thread, from_task) = mpsc::channel::<Waker>();
        let (taken, wait_taken) = mpsc::channel::<()>();
        let set = Arc::clone(&flag);
        threads.push(std::thread::spawn(move || {
            let waker = from_task.recv().expect("the task sends its waker first");
            for _ in 0..ROUNDS {
                set.store(true, Ordering::Release);
                waker.wake_by_ref();
                wait_taken.recv().expect("the task takes every flag");
            }
        }));
        let seen = Rc::clone(&seen);
        let mut rounds = 0;
        let mut sent = false;
        exec.spawn(poll_fn(move |cx| {
            if !std::mem::replace(&mut sent, true) {
                to_thread.send(cx.waker().clone()).expect("the thread waits for the waker");
            }
            if flag.swap(false, Ordering::Acquire) {
                rounds += 1;
                seen.set(seen.get() + 1);
                taken.send(()).expect("the thread waits for its flag");
            }
            if rounds == ROUNDS { Poll::Ready(()) } else { Poll::Pending }
        }))
        .detach();
    }
    run_until(&exec, &mut inbox, || seen.get() == TASKS * ROUNDS);
    for thread in threads {
        thread.join().expect("no thread panics");
    }
}

#[test]
fn more_wake_ups_than_the_mailbox_holds_reach_every_task() {
    let (exec, mut inbox) = executor();
    let tasks = crate::limits::WAKES_MAX + 100;
    let open = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let wakers = Rc::new(RefCell::new(Vec::new()));
    for _ in 0..tasks {
        let (open, done, wakers) = (Arc::clone(&open), Arc::clone(&done), Rc::clone(&wakers));
        exec.spawn(poll_fn(move |cx| {
            if open.load(Ordering::Acquire) {
                done.fetch_add(1, Ordering::Relaxed);
                return Poll::Ready(());
            }
            wakers.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        }))
        .detach();
    }
    settle(&exec);
    let wakers = wakers.take();
    assert_eq!(wakers.len(), tasks);
    std::thread::spawn(move || {
        open.store(true, Ordering::Release);
        wakers.into_iter().for_each(Waker::wake);
    })
    .join()
    .expect("waking does not panic");
    run_until(&exec, &mut inbox, || done.load(Ordering::Relaxed) == tasks);
    assert_eq!(exec.len(), 0);
}
