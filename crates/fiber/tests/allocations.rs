//! After warm-up nothing is allocated.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;
use warpline_fiber::reactor::ReactorConfig;
use warpline_fiber::sync::{Event, Mutex, Semaphore, channel};
use warpline_fiber::time::{ManualClock, sleep, sleep_precise, timeout};
use warpline_fiber::{Baton, Builder, Config, JoinError, JoinHandle, Scheduler, StackClass, Wait, spawn, yield_now};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CLASSES: [StackClass; 3] = [StackClass::Small, StackClass::Medium, StackClass::Large];

/// What was made once and is used in every round.
struct Things {
    class: StackClass,
    batons: [Rc<Baton>; 2],
    mutex: Rc<Mutex<u64>>,
    semaphore: Rc<Semaphore>,
    event: Rc<Event>,
    channel: Rc<(warpline_fiber::sync::Sender<u64>, warpline_fiber::sync::Receiver<u64>)>,
    clock: ManualClock,
    done: Rc<Cell<u64>>,
}

impl Things {
    fn new(class: StackClass, clock: &ManualClock) -> Things {
        Things {
            class,
            batons: [(), ()].map(|()| Rc::default()),
            mutex: Rc::new(Mutex::new(0)),
            semaphore: Rc::new(Semaphore::new(2)),
            event: Rc::new(Event::new()),
            channel: Rc::new(channel(4)),
            clock: clock.clone(),
            done: Rc::default(),
        }
    }

    fn spawn<T: 'static>(&self, f: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
        Builder::new().stack(self.class).spawn(f).unwrap()
    }

    /// Spawns some fibers with the same body and joins them.
    fn crowd(&self, body: impl FnOnce() + Clone + 'static) {
        let fibers: [_; 5] = std::array::from_fn(|_| self.spawn(body.clone()));
        for fiber in fibers {
            fiber.join().unwrap();
            self.done.set(self.done.get() + 1);
        }
    }
}

type Round = fn(&Things);

/// Everything that fibers do and that is to allocate nothing.
const ROUNDS: [(&str, Round); 8] = [
    ("spawning, batons, yields and joins", batons),
    ("channels", channels),
    ("a mutex", mutex),
    ("a semaphore", semaphore),
    ("an event", event),
    ("sleeps and timeouts", timers),
    ("fibers that are cancelled before they begin", unborn),
    ("results that nobody asks for", dropped),
];

fn batons(things: &Things) {
    let [ping, pong] = things.batons.clone();
    let echo = {
        let (ping, pong) = (ping.clone(), pong.clone());
        things.spawn(move || {
            ping.wait();
            pong.post();
            [1u64; 8]
        })
    };
    let caller = things.spawn(move || {
        ping.post();
        pong.wait();
        yield_now();
    });
    caller.join().unwrap();
    assert_eq!(echo.wait().unwrap(), [1; 8]);
    things.crowd(yield_now);
}

fn channels(things: &Things) {
    let channel = things.channel.clone();
    let sum = things.spawn(move || (0..50).map(|_| channel.1.recv().wait().unwrap()).sum::<u64>());
    let channel = things.channel.clone();
    things.crowd(move || (0..10).for_each(|n| channel.0.send(n).wait().unwrap()));
    assert_eq!(sum.join().unwrap(), 5 * 45);
}

fn mutex(things: &Things) {
    let mutex = things.mutex.clone();
    things.crowd(move || {
        let mut value = mutex.lock().wait();
        yield_now();
        *value += 1;
    });
}

fn semaphore(things: &Things) {
    let semaphore = things.semaphore.clone();
    things.crowd(move || {
        let _permit = semaphore.acquire().wait();
        yield_now();
    });
}

fn event(things: &Things) {
    things.event.reset();
    let event = things.event.clone();
    let setter = things.spawn(move || {
        yield_now();
        event.set();
    });
    let event = things.event.clone();
    things.crowd(move || event.waiting().wait());
    setter.join().unwrap();
}

fn timers(things: &Things) {
    const MS: Duration = Duration::from_millis(1);
    let (clock, over) = (things.clock.clone(), Rc::clone(&things.batons[0]));
    let mover = things.spawn(move || {
        while !over.try_wait() {
            clock.advance(MS);
            yield_now();
        }
    });
    things.crowd(|| sleep(3 * MS));
    things.crowd(|| sleep_precise(3 * MS));
    things.crowd(|| assert!(timeout(2 * MS, pending::<()>()).is_err()));
    let semaphore = things.semaphore.clone();
    things.crowd(move || {
        let _permit = timeout(Duration::from_secs(1), semaphore.acquire()).unwrap();
        yield_now();
    });
    things.batons[0].post();
    mover.join().unwrap();
}

fn unborn(things: &Things) {
    for _ in 0..5 {
        let fiber = things.spawn(yield_now);
        fiber.cancel();
        assert!(matches!(fiber.join(), Err(JoinError::Cancelled)));
    }
}

fn dropped(things: &Things) {
    things.spawn(|| [7u64; 16]).detach();
    drop(things.spawn(yield_now));
    yield_now();
    yield_now();
}

/// A cancelled fiber unwinds, for which the standard library makes a box that it frees. Nothing else is allocated.
fn unwound(things: &Things) {
    for _ in 0..5 {
        let fiber = things.spawn(|| Baton::new().wait());
        yield_now();
        fiber.cancel();
        assert!(matches!(fiber.join(), Err(JoinError::Cancelled)));
    }
}

/// Waits for descriptors that are not the reactor's own, and for sockets, idle for a turn and more.
#[cfg(unix)]
mod waits {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use warpline_fiber::reactor::{UdpSocket, readable};

    pub struct Ends {
        near: Rc<UnixStream>,
        far: UnixStream,
        sockets: [Rc<UdpSocket>; 2],
    }

    impl Ends {
        pub fn new() -> Ends {
            let (near, far) = UnixStream::pair().unwrap();
            let sockets = [(), ()].map(|()| Rc::new(UdpSocket::bind(([127, 0, 0, 1], 0).into()).unwrap()));
            Ends { near: Rc::new(near), far, sockets }
        }

        pub fn round(&mut self, things: &Things) {
            let near = self.near.clone();
            let foreign = things.spawn(move || readable(&*near).unwrap());
            let socket = self.sockets[0].clone();
            let own = things.spawn(move || socket.recv_from(&mut [0; 8]).unwrap().0);
            (0..3).for_each(|_| yield_now());
            assert!(!foreign.is_finished() && !own.is_finished());
            self.far.write_all(b"x").unwrap();
            self.sockets[1].send_to(b"four", self.sockets[0].local_addr().unwrap()).unwrap();
            foreign.join().unwrap();
            assert_eq!(own.join().unwrap(), 4);
            (&*self.near).read_exact(&mut [0]).unwrap();
            things.done.set(things.done.get() + 1);
        }
    }
}

/// Warms up, and says what some more rounds allocate: the least of three times, as the harness's own thread is counted, too, and may
/// allocate now and then.
fn measured(mut round: impl FnMut()) -> stats_alloc::Stats {
    (0..20).for_each(|_| round());
    let mut once = || {
        let region = Region::new(GLOBAL);
        (0..10).for_each(|_| round());
        region.change()
    };
    let times = [once(), once(), once()];
    times.into_iter().min_by_key(|change| change.allocations + change.reallocations).unwrap()
}

/// One test, since the allocator counts for all threads.
#[test]
fn nothing_is_allocated_after_warm_up() {
    let mut reactors = vec![ReactorConfig::None];
    if cfg!(unix) {
        reactors.extend([ReactorConfig::Readiness, ReactorConfig::Auto(Default::default())]);
    }
    for reactor in reactors {
        let clock = ManualClock::default();
        let name = format!("{reactor:?}");
        let has_reactor = !matches!(reactor, ReactorConfig::None);
        let scheduler = Scheduler::new(Config { reactor, clock: clock.clock(), ..Config::default() }).unwrap();
        scheduler.run(move || {
            for class in CLASSES {
                let things = Things::new(class, &clock);
                for (what, round) in ROUNDS {
                    let changes = measured(|| round(&things));
                    assert_eq!(
                        changes.allocations + changes.reallocations,
                        0,
                        "{what}, {class:?}, {name}: {changes:?}"
                    );
                }
                let changes = measured(|| unwound(&things));
                assert!(changes.allocations <= 50 && changes.reallocations == 0, "{class:?}, {name}: {changes:?}");
                assert_eq!(changes.allocations, changes.deallocations);
                #[cfg(unix)]
                if has_reactor {
                    let mut ends = waits::Ends::new();
                    let changes = measured(|| ends.round(&things));
                    assert_eq!(changes.allocations + changes.reallocations, 0, "waits, {class:?}, {name}: {changes:?}");
                }
                assert!(things.done.get() >= 30 * 30, "the fibers did what they were to do");
            }
            // Not to count what the end of this fiber does.
            spawn(|| ()).join().unwrap();
        });
    }
}
