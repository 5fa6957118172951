//! Lists of tasks that wait.

use std::sync::Arc as Plain;
use std::task::{Poll, Wake, Waker};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;
use warpline_ring::WaitList;

use crate::bounded;

/// A task that notes that it was woken.
struct Task(AtomicBool);

impl Wake for Task {
    fn wake(self: Plain<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

fn task() -> (Plain<Task>, Waker) {
    let task = Plain::new(Task(AtomicBool::new(false)));
    (task.clone(), task.into())
}

/// One look at a condition that others raise to `goal`: true if it holds, false with the task registered.
fn look(list: &WaitList, waker: &Waker, value: &AtomicUsize, goal: usize) -> bool {
    // Relaxed: the list alone has to make the change visible.
    list.poll(waker, || (value.load(Ordering::Relaxed) >= goal).then_some(())) == Poll::Ready(())
}

#[test]
fn a_task_that_found_nothing_is_woken_by_the_change() {
    bounded(3, || {
        let shared = Arc::new((WaitList::default(), AtomicUsize::new(0)));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || {
                    shared.1.fetch_add(1, Ordering::Relaxed);
                    shared.0.notify();
                })
            })
            .collect();
        let (task, waker) = task();
        let found = look(&shared.0, &waker, &shared.1, 2);
        others.into_iter().for_each(|other| other.join().expect("it does not panic"));
        assert!(found || task.0.load(Ordering::Acquire), "the last change was announced to the task");
    });
}

#[test]
fn two_tasks_wait_and_neither_is_forgotten() {
    bounded(3, || {
        let shared = Arc::new((WaitList::default(), AtomicUsize::new(0)));
        let (other_shared, (other_task, other_waker)) = (shared.clone(), task());
        let other = thread::spawn(move || look(&other_shared.0, &other_waker, &other_shared.1, 1));
        let notifying = shared.clone();
        let notifier = thread::spawn(move || {
            notifying.1.store(1, Ordering::Relaxed);
            notifying.0.notify();
        });
        let (task, waker) = task();
        let found = look(&shared.0, &waker, &shared.1, 1);
        let other_found = other.join().expect("it does not panic");
        notifier.join().expect("it does not panic");
        assert!(found || task.0.load(Ordering::Acquire));
        assert!(other_found || other_task.0.load(Ordering::Acquire));
    });
}

#[test]
fn a_sweep_wakes_those_that_it_takes_out() {
    bounded(3, || {
        // Each registration is one too many.
        let shared = Arc::new((WaitList::new(1), AtomicUsize::new(0)));
        let notifying = shared.clone();
        let notifier = thread::spawn(move || {
            notifying.1.store(1, Ordering::Relaxed);
            notifying.0.notify();
        });
        let (task, waker) = task();
        let found = look(&shared.0, &waker, &shared.1, 1);
        notifier.join().expect("it does not panic");
        assert!(found || task.0.load(Ordering::Acquire), "whoever took it out woke it");
        // Nothing is freed twice or kept: loom checks both when the list goes.
    });
}
