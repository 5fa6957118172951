//! Switches, hand-overs, spawns, channels and timers.

use crate::bare::{MANY, Order, at_random, bare, bare_many, bare_named, in_line};
use crate::{Contender, contender, timed};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use warpline_fiber::sync::channel;
use warpline_fiber::time::Sleep;
use warpline_fiber::{Baton, Config, Scheduler, Wait, spawn as spawn_fiber, yield_now};

/// Runs `f` in a fiber of a new scheduler.
fn in_fiber(f: impl FnOnce() -> Duration + 'static) -> Duration {
    Scheduler::new(Config::default()).expect("this thread has no scheduler yet").run(f)
}

fn in_tokio<F: Future<Output = Duration>>(f: impl FnOnce() -> F) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio starts");
    tokio::task::LocalSet::new().block_on(&runtime, f())
}

fn in_may(f: impl FnOnce() -> Duration + Send + 'static) -> Duration {
    may::config().set_workers(1);
    // SAFETY: nothing here uses thread-local storage across a switch, and the stacks suffice.
    unsafe { may::coroutine::spawn(f) }.join().expect("the coroutine does not panic")
}

/// Starts a coroutine of `may`.
fn spawn_may<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> may::coroutine::JoinHandle<T> {
    // SAFETY: as above.
    unsafe { may::coroutine::spawn(f) }
}

/// So many fibers yield to each other, `n` times in all.
fn yield_in_turns(count: u64, n: u64) -> Duration {
    let body = move || {
        // The first round maps stacks.
        yield_now();
        let start = Instant::now();
        for _ in 0..n / count {
            yield_now();
        }
        start.elapsed()
    };
    let fibers: Vec<_> = (0..count).map(|_| spawn_fiber(body)).collect();
    let took = fibers.into_iter().map(|fiber| fiber.join().expect("the fiber does not panic"));
    took.max().unwrap_or_default()
}

pub fn switch() -> Vec<Contender> {
    vec![
        contender("corosensei resume and suspend", bare),
        contender("corosensei, one way", |n| bare(n / 2)),
        contender("warpline yield_now, two fibers", |n| in_fiber(move || yield_in_turns(2, n))),
        contender("warpline yield_now, three fibers", |n| in_fiber(move || yield_in_turns(3, n))),
        contender("may yield_now", |n| {
            in_may(move || {
                timed(|| {
                    for _ in 0..n {
                        may::coroutine::yield_now();
                    }
                })
            })
        }),
        contender("tokio yield_now (spawned task)", |n| {
            in_tokio(|| async move {
                let task = tokio::task::spawn_local(async move {
                    let start = Instant::now();
                    for _ in 0..n {
                        tokio::task::yield_now().await;
                    }
                    start.elapsed()
                });
                task.await.expect("the task does not panic")
            })
        }),
    ]
}

/// Everybody yields in turns.
pub fn switch_many() -> Vec<Contender> {
    vec![
        contender("corosensei resume and suspend", |n| bare_many(n, in_line)),
        contender("warpline yield_now", |n| in_fiber(move || yield_in_turns(MANY, n))),
        contender("tokio yield_now (spawned tasks)", |n| {
            in_tokio(|| async move {
                let yields = || async move {
                    tokio::task::yield_now().await;
                    let start = Instant::now();
                    for _ in 0..n / MANY {
                        tokio::task::yield_now().await;
                    }
                    start.elapsed()
                };
                let tasks: Vec<_> = (0..MANY).map(|_| tokio::task::spawn_local(yields())).collect();
                let mut took = Duration::ZERO;
                for task in tasks {
                    took = took.max(task.await.expect("the task does not panic"));
                }
                took
            })
        }),
    ]
}

/// A baton goes round a ring of fibers.
fn hand_round(n: u64, order: Order) -> Duration {
    in_fiber(move || {
        let batons: Rc<Vec<Baton>> = Rc::new((0..MANY).map(|_| Baton::new()).collect());
        let rounds = n / MANY;
        let fibers: Vec<_> = order(MANY)
            .into_iter()
            .enumerate()
            .map(|(own, next)| {
                let batons = batons.clone();
                spawn_fiber(move || {
                    for _ in 0..=rounds {
                        batons[own].wait();
                        batons[next].post();
                    }
                })
            })
            .collect();
        yield_now();
        let start = Instant::now();
        batons[0].post();
        fibers.into_iter().for_each(|fiber| fiber.join().expect("the fiber does not panic"));
        start.elapsed()
    })
}

fn hand_over_many(order: Order) -> Vec<Contender> {
    vec![
        contender("corosensei resume and suspend", move |n| bare_many(n, order)),
        contender("corosensei, named by the last", move |n| bare_named(n, MANY, order)),
        contender("warpline baton post and wait", move |n| hand_round(n, order)),
    ]
}

pub fn hand_over_in_line() -> Vec<Contender> {
    hand_over_many(in_line)
}

pub fn hand_over_at_random() -> Vec<Contender> {
    hand_over_many(at_random)
}

pub fn hand_over() -> Vec<Contender> {
    vec![
        contender("corosensei resume and suspend", bare),
        contender("corosensei, one way", |n| bare(n / 2)),
        contender("corosensei, named by the last", |n| bare_named(n, 2, in_line)),
        contender("warpline baton post and wait", |n| {
            in_fiber(move || {
                let (ping, pong) = (Rc::new(Baton::new()), Rc::new(Baton::new()));
                let other = {
                    let (ping, pong) = (ping.clone(), pong.clone());
                    spawn_fiber(move || {
                        for _ in 0..n / 2 {
                            ping.wait();
                            pong.post();
                        }
                    })
                };
                let took = timed(|| {
                    for _ in 0..n / 2 {
                        ping.post();
                        pong.wait();
                    }
                });
                other.join().expect("the fiber does not panic");
                took
            })
        }),
        contender("tokio Notify", |n| {
            in_tokio(|| async move {
                let (ping, pong) = (Rc::new(tokio::sync::Notify::new()), Rc::new(tokio::sync::Notify::new()));
                let other = {
                    let (ping, pong) = (ping.clone(), pong.clone());
                    tokio::task::spawn_local(async move {
                        for _ in 0..n / 2 {
                            ping.notified().await;
                            pong.notify_one();
                        }
                    })
                };
                let caller = tokio::task::spawn_local(async move {
                    let start = Instant::now();
                    for _ in 0..n / 2 {
                        ping.notify_one();
                        pong.notified().await;
                    }
                    start.elapsed()
                });
                other.await.expect("the task does not panic");
                caller.await.expect("the task does not panic")
            })
        }),
        contender("two threads, park and unpark", |n| {
            let rounds = n / 100;
            let caller = std::thread::current();
            let turn = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            let wait = |turn: &std::sync::atomic::AtomicBool, mine: bool| {
                while turn.load(Ordering::Acquire) != mine {
                    std::thread::park();
                }
            };
            let other = {
                let turn = turn.clone();
                std::thread::spawn(move || {
                    for _ in 0..rounds / 2 {
                        wait(&turn, true);
                        turn.store(false, Ordering::Release);
                        caller.unpark();
                    }
                })
            };
            let took = timed(|| {
                for _ in 0..rounds / 2 {
                    turn.store(true, Ordering::Release);
                    other.thread().unpark();
                    wait(&turn, false);
                }
            });
            other.join().expect("the thread does not panic");
            took * 100
        }),
    ]
}

/// Fibers that are alive at once while spawning is measured.
const BATCH: u64 = 100;

pub fn spawn() -> Vec<Contender> {
    vec![
        contender("warpline, pooled stack", |n| {
            in_fiber(move || {
                let round = || {
                    let handles: [_; BATCH as usize] = std::array::from_fn(|index| spawn_fiber(move || index));
                    for handle in handles {
                        handle.join().expect("the fiber does not panic");
                    }
                };
                round();
                timed(|| (0..n / BATCH).for_each(|_| round()))
            })
        }),
        contender("may", |n| {
            in_may(move || {
                let round = || {
                    let handles: Vec<_> = (0..BATCH).map(|index| spawn_may(move || index)).collect();
                    for handle in handles {
                        handle.join().expect("the coroutine does not panic");
                    }
                };
                round();
                timed(|| (0..n / BATCH).for_each(|_| round()))
            })
        }),
        contender("tokio spawn_local", |n| {
            in_tokio(|| async move {
                let start = Instant::now();
                for _ in 0..n / BATCH {
                    let handles: Vec<_> =
                        (0..BATCH).map(|index| tokio::task::spawn_local(async move { index })).collect();
                    for handle in handles {
                        handle.await.expect("the task does not panic");
                    }
                }
                start.elapsed()
            })
        }),
        contender("std::thread", |n| {
            let threads = n / 100;
            let took = timed(|| {
                for _ in 0..threads {
                    std::thread::spawn(|| ()).join().expect("the thread does not panic");
                }
            });
            took * 100
        }),
    ]
}

pub fn ping_pong() -> Vec<Contender> {
    vec![
        contender("warpline sync::channel", |n| {
            in_fiber(move || {
                let (there, there_receive) = channel(1);
                let (back, back_receive) = channel(1);
                let other = spawn_fiber(move || {
                    while let Ok(message) = there_receive.recv().wait() {
                        back.send(message).wait().expect("the other end is there");
                    }
                });
                let took = timed(|| {
                    for message in 0..n {
                        there.send(message).wait().expect("the other end is there");
                        assert_eq!(back_receive.recv().wait(), Ok(message));
                    }
                });
                drop(there);
                other.join().expect("the fiber does not panic");
                took
            })
        }),
        contender("may sync::mpsc", |n| {
            in_may(move || {
                let (there, there_receive) = may::sync::mpsc::channel();
                let (back, back_receive) = may::sync::mpsc::channel();
                let other = spawn_may(move || {
                    while let Ok(message) = there_receive.recv() {
                        back.send(message).expect("the other end is there");
                    }
                });
                let took = timed(|| {
                    for message in 0..n {
                        there.send(message).expect("the other end is there");
                        assert_eq!(back_receive.recv(), Ok(message));
                    }
                });
                drop(there);
                other.join().expect("the coroutine does not panic");
                took
            })
        }),
        contender("tokio sync::mpsc", |n| {
            in_tokio(|| async move {
                let (there, mut there_receive) = tokio::sync::mpsc::channel(1);
                let (back, mut back_receive) = tokio::sync::mpsc::channel(1);
                let other = tokio::task::spawn_local(async move {
                    while let Some(message) = there_receive.recv().await {
                        back.send(message).await.expect("the other end is there");
                    }
                });
                let caller = tokio::task::spawn_local(async move {
                    let start = Instant::now();
                    for message in 0..n {
                        there.send(message).await.expect("the other end is there");
                        assert_eq!(back_receive.recv().await, Some(message));
                    }
                    start.elapsed()
                });
                let took = caller.await.expect("the task does not panic");
                other.await.expect("the task does not panic");
                took
            })
        }),
        contender("two threads, std::sync::mpsc", |n| {
            let rounds = n / 20;
            let (there, there_receive) = mpsc::sync_channel(1);
            let (back, back_receive) = mpsc::sync_channel(1);
            let other = std::thread::spawn(move || {
                for message in there_receive {
                    back.send(message).expect("the other end is there");
                }
            });
            let took = timed(|| {
                for message in 0..rounds {
                    there.send(message).expect("the other end is there");
                    assert_eq!(back_receive.recv(), Ok(message));
                }
            });
            drop(there);
            other.join().expect("the thread does not panic");
            took * 20
        }),
    ]
}

/// Timers that are set at once.
const TIMERS: u64 = 1000;

/// Sets timers by polling them once and drops them: what a timeout that is not needed costs.
async fn add_and_cancel<S: Future>(n: u64, sleep: impl Fn(u64) -> S) -> Duration {
    let start = Instant::now();
    for _ in 0..n / TIMERS {
        let mut timers: Vec<_> = (0..TIMERS).map(|index| Box::pin(sleep(index))).collect();
        std::future::poll_fn(|context| {
            for timer in &mut timers {
                assert!(timer.as_mut().poll(context).is_pending());
            }
            std::task::Poll::Ready(())
        })
        .await;
    }
    start.elapsed()
}

pub fn timer_add() -> Vec<Contender> {
    vec![
        contender("warpline Sleep", |n| {
            in_fiber(move || {
                let sleep = |index| Sleep::until(warpline_fiber::time::now() + Duration::from_millis(1000 + index));
                add_and_cancel(n, sleep).wait()
            })
        }),
        contender("tokio Sleep", |n| {
            in_tokio(|| add_and_cancel(n, |index| tokio::time::sleep(Duration::from_millis(1000 + index))))
        }),
    ]
}

/// Sleeps of one to two milliseconds in so many tasks; the thread's processor time counts, not the sleeping.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

pub fn timer_fire() -> Vec<Contender> {
    let length = |index: u64| Duration::from_micros(1000 + index % TIMERS);
    vec![
        contender("warpline sleep in a fiber, CPU time", move |n| {
            in_fiber(move || {
                let round = || {
                    let sleep = |index| spawn_fiber(move || warpline_fiber::time::sleep(length(index)));
                    let fibers: Vec<_> = (0..TIMERS).map(sleep).collect();
                    fibers.into_iter().for_each(|fiber| fiber.join().expect("the fiber does not panic"));
                };
                round();
                let start = processor_time();
                (0..n / TIMERS).for_each(|_| round());
                processor_time() - start
            })
        }),
        contender("tokio sleep in a task (CPU time)", move |n| {
            in_tokio(|| async move {
                let start = processor_time();
                for _ in 0..n / TIMERS {
                    let sleep = |index| tokio::task::spawn_local(tokio::time::sleep(length(index)));
                    let tasks: Vec<_> = (0..TIMERS).map(sleep).collect();
                    for task in tasks {
                        task.await.expect("the task does not panic");
                    }
                }
                processor_time() - start
            })
        }),
    ]
}
