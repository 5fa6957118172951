//! Fibers as one task of another executor: tokio's, with one thread.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;
use tokio::task::LocalSet;
use warpline_fiber::reactor::ReactorConfig;
use warpline_fiber::sync::channel;
use warpline_fiber::{Baton, Config, Guest, SetupError, Wait, spawn, time, yield_now};

fn in_tokio<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, future)
}

#[test]
fn it_ends_with_its_last_fiber() {
    in_tokio(async {
        let guest = Guest::new(Config::default(), tokio::time::sleep).unwrap();
        let ended = Rc::new(Cell::new(0));
        let counted = ended.clone();
        let first = guest.scheduler().spawn(move || {
            for _ in 0..1000 {
                let ended = counted.clone();
                spawn(move || {
                    yield_now();
                    ended.set(ended.get() + 1);
                })
                .detach();
            }
        });
        guest.await;
        assert_eq!(ended.get(), 1000, "more than one poll has fibers to run");
        first.await.unwrap();
    });
}

#[test]
fn fibers_wait_for_tasks_and_tasks_for_fibers() {
    in_tokio(async {
        let guest = Guest::new(Config::default(), tokio::time::sleep).unwrap();
        let (to_fiber, mut from_task) = tokio::sync::mpsc::channel::<u32>(1);
        let (to_task, from_fiber) = channel::<u32>(1);
        let fiber = guest.scheduler().spawn(move || {
            while let Some(number) = from_task.recv().wait() {
                to_task.send(number * 2).wait().unwrap();
            }
            "done"
        });
        let guest = tokio::task::spawn_local(guest);
        for number in 0..100 {
            to_fiber.send(number).await.unwrap();
            assert_eq!(from_fiber.recv().await, Ok(number * 2));
        }
        drop(to_fiber);
        assert_eq!(fiber.await.unwrap(), "done");
        guest.await.unwrap();
    });
}

#[test]
fn what_a_task_posts_wakes_the_guest() {
    in_tokio(async {
        let guest = Guest::new(Config::default(), tokio::time::sleep).unwrap();
        let baton = Rc::new(Baton::new());
        let waits = baton.clone();
        let fiber = guest.scheduler().spawn(move || waits.wait());
        let guest = tokio::task::spawn_local(guest);
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        assert!(!fiber.is_finished());
        // Only this makes the guest's task run again.
        baton.post();
        guest.await.unwrap();
        fiber.await.unwrap();
    });
}

#[test]
fn other_threads_wake_it() {
    in_tokio(async {
        let guest = Guest::new(Config::default(), tokio::time::sleep).unwrap();
        let remote = guest.scheduler().remote();
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
        let fiber = guest.scheduler().spawn(move || (0..200).map(|_| receive.recv().wait().unwrap()).sum::<u32>());
        let other = thread::spawn(move || {
            for number in 0..200 {
                let send = send.clone();
                // Half of them as wake-ups of a fiber, half as fibers.
                if number % 2 == 0 {
                    send.send(number).unwrap();
                } else {
                    remote.spawn(move || send.send(number).unwrap()).unwrap();
                }
                if number % 16 == 0 {
                    thread::sleep(Duration::from_micros(300));
                }
            }
        });
        guest.await;
        assert_eq!(fiber.await.unwrap(), (0..200).sum());
        other.join().unwrap();
    });
}

#[test]
fn fiber_timers_run_by_the_executors_clock() {
    in_tokio(async {
        let guest = Guest::new(Config::default(), tokio::time::sleep).unwrap();
        let start = time::Clock::default().now();
        let sleeps = [3, 1, 2].map(|millis| {
            guest.scheduler().spawn(move || {
                time::sleep(Duration::from_millis(millis));
                (millis, time::now())
            })
        });
        let late =
            guest.scheduler().spawn(|| time::timeout(Duration::from_millis(2), std::future::pending::<()>()).is_err());
        guest.await;
        for sleep in sleeps {
            let (millis, woken) = sleep.await.unwrap();
            assert!(woken.saturating_duration_since(start) >= Duration::from_millis(millis), "{millis} ms");
        }
        assert!(late.await.unwrap());
    });
}

#[test]
fn a_timer_of_a_task_runs_too() {
    in_tokio(async {
        let guest = Guest::new(Config::default(), tokio::time::sleep).unwrap();
        let baton = Rc::new(Baton::new());
        let waits = baton.clone();
        guest.scheduler().spawn(move || waits.wait()).detach();
        let guest = tokio::task::spawn_local(guest);
        tokio::task::yield_now().await;
        let at = time::now() + Duration::from_millis(1);
        time::Sleep::until(at).await;
        assert!(time::now() >= at);
        baton.post();
        guest.await.unwrap();
    });
}

#[test]
fn fibers_that_never_rest_do_not_starve_tasks() {
    in_tokio(async {
        let guest = Guest::new(Config::default(), tokio::time::sleep).unwrap();
        let stop = Rc::new(Cell::new(false));
        for _ in 0..200 {
            let stop = stop.clone();
            guest
                .scheduler()
                .spawn(move || {
                    while !stop.get() {
                        yield_now()
                    }
                })
                .detach();
        }
        let guest = tokio::task::spawn_local(guest);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        stop.set(true);
        guest.await.unwrap();
    });
}

#[test]
fn dropping_it_ends_its_fibers() {
    struct Ends(mpsc::Sender<&'static str>);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.send("unwound").unwrap();
        }
    }
    in_tokio(async {
        let mut guest = Guest::new(Config::default(), tokio::time::sleep).unwrap();
        let (send, receive) = mpsc::channel();
        let fiber = guest.scheduler().spawn(move || {
            let _ends = Ends(send);
            std::future::pending::<()>().wait();
        });
        poll_fn(|context| {
            assert!(std::pin::Pin::new(&mut guest).poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        drop(guest);
        assert_eq!(receive.recv(), Ok("unwound"));
        assert!(fiber.await.is_err());
        // The thread is free for another scheduler.
        assert!(Guest::new(Config::default(), tokio::time::sleep).is_ok());
    });
}

#[test]
fn a_reactor_is_refused() {
    let config = Config { reactor: ReactorConfig::Readiness, ..Config::default() };
    let refused = Guest::new(config, |_| std::future::ready(()));
    assert!(matches!(refused, Err(SetupError::GuestReactor)));
}
