//! The life of fibers: running, waiting, joining, panicking.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use warpline_fiber::{
    Baton, Builder, Config, JoinError, Scheduler, SetupError, SpawnError, StackClass, StackConfig, current_name,
    fiber_local, spawn, yield_now,
};

fn scheduler() -> Scheduler {
    Scheduler::new(Config::default()).unwrap()
}

#[test]
fn fibers_run_in_the_order_in_which_they_became_ready() {
    let scheduler = scheduler();
    let log = Rc::new(RefCell::new(Vec::new()));
    for name in ["a", "b", "c"] {
        let log = log.clone();
        scheduler
            .spawn(move || {
                for step in 0..2 {
                    log.borrow_mut().push(format!("{name}{step}"));
                    yield_now();
                }
            })
            .detach();
    }
    assert_eq!(scheduler.turn(4).ran, 4, "the budget is kept");
    assert_eq!(*log.borrow(), ["a0", "b0", "c0", "a1"]);
    while scheduler.turn(100).ready {}
    assert_eq!(*log.borrow(), ["a0", "b0", "c0", "a1", "b1", "c1"]);
    assert_eq!(scheduler.stats().live, 0);
}

#[test]
fn a_baton_posted_before_the_wait_is_not_lost_and_two_posts_are_one() {
    let scheduler = scheduler();
    let baton = Rc::new(Baton::new());
    baton.post();
    baton.post();
    let waiter = {
        let baton = baton.clone();
        scheduler.spawn(move || {
            baton.wait();
            assert!(!baton.try_wait());
            baton.wait();
        })
    };
    scheduler.turn(10);
    assert!(!waiter.is_finished());
    baton.post();
    waiter.join().unwrap();
}

#[test]
fn a_second_waiter_of_a_baton_is_refused_and_the_first_stays() {
    let scheduler = scheduler();
    let baton = Rc::new(Baton::new());
    let [first, second] = [baton.clone(), baton.clone()].map(|baton| scheduler.spawn(move || baton.wait()));
    scheduler.turn(10);
    assert!(second.join().unwrap_err().to_string().contains("waits for this baton already"));
    baton.post();
    first.join().unwrap();
}

#[test]
fn results_of_any_size_reach_the_joiner_and_are_dropped_if_nobody_joins() {
    let scheduler = scheduler();
    let big = [7u64; 100];
    assert_eq!(scheduler.spawn(move || big).join().unwrap(), big);
    assert_eq!(scheduler.spawn(|| "small".to_owned()).join().unwrap(), "small");
    let counted = Rc::new(());
    for detach_late in [false, true] {
        let inner = counted.clone();
        let handle = scheduler.spawn(move || inner);
        if detach_late {
            scheduler.turn(10);
            assert!(handle.is_finished());
        }
        drop(handle);
        scheduler.turn(10);
        assert_eq!(Rc::strong_count(&counted), 1);
    }
}

#[test]
fn a_panic_ends_the_fiber_reaches_the_joiner_and_spares_the_others() {
    let scheduler = scheduler();
    let after = Rc::new(Cell::new(false));
    let bad = scheduler.spawn(|| -> u32 { panic!("number {}", std::hint::black_box(9)) });
    let good = {
        let after = after.clone();
        scheduler.spawn(move || {
            yield_now();
            after.set(true);
        })
    };
    match bad.join() {
        Err(JoinError::Panicked(panic)) => assert_eq!(panic.downcast_ref::<String>().unwrap(), "number 9"),
        other => panic!("{other:?}"),
    }
    good.join().unwrap();
    assert!(after.get());
    assert_eq!(scheduler.stats().panics, 1);
}

#[test]
fn names_and_locals_belong_to_their_fiber() {
    fiber_local! {
        static LOCAL: RefCell<Vec<Rc<()>>> = RefCell::new(Vec::new());
    }
    let _scheduler = scheduler();
    let counted = Rc::new(());
    let fibers: Vec<_> = (0..3usize)
        .map(|index| {
            let counted = counted.clone();
            Builder::new()
                .name(format!("worker {index}"))
                .spawn(move || {
                    for _ in 0..=index {
                        LOCAL.with(|local| local.borrow_mut().push(counted.clone()));
                        yield_now();
                    }
                    assert_eq!(current_name(), format!("worker {index}"));
                    LOCAL.with(|local| local.borrow().len())
                })
                .unwrap()
        })
        .collect();
    let lengths: Vec<_> = fibers.into_iter().map(|fiber| fiber.join().unwrap()).collect();
    assert_eq!(lengths, [1, 2, 3]);
    assert_eq!(Rc::strong_count(&counted), 1, "locals are dropped with their fibers");
    assert_eq!(current_name(), "");
}

#[test]
fn recursion_as_deep_as_a_large_stack_works() {
    fn depth(left: u32) -> u32 {
        let frame = std::hint::black_box([left; 16]);
        if left == 0 { 0 } else { 1 + depth(left - 1) + frame[0] - left }
    }
    let scheduler = scheduler();
    let deep = scheduler.spawn_with(Builder::new().stack(StackClass::Large), || depth(8_000)).unwrap();
    assert_eq!(deep.join().unwrap(), 8_000);
    let large = scheduler.stats().stacks[2];
    assert!(
        large.high_water >= 8_000 * 64,
        "8,000 frames of at least 64 bytes, and the mark says {}",
        large.high_water
    );
    assert!(large.high_water <= large.bytes);
}

#[test]
fn a_hundred_thousand_fibers_wait_at_once() {
    const FIBERS: usize = 100_000;
    let scheduler = scheduler();
    let gates: Rc<Vec<Baton>> = Rc::new((0..FIBERS).map(|_| Baton::new()).collect());
    let handles: Vec<_> = (0..FIBERS)
        .map(|index| {
            let gates = gates.clone();
            let builder = Builder::new().stack(StackClass::Small);
            let body = move || {
                gates[index].wait();
                index
            };
            scheduler.spawn_with(builder, body).unwrap()
        })
        .collect();
    assert_eq!(scheduler.stats().stacks[0].mapped, 0, "a stack is mapped when its fiber first runs");
    while scheduler.turn(1000).ready {}
    let stats = scheduler.stats();
    if stats.stacks[0].in_use < FIBERS {
        // Kernels before 6.13 allow some 32,000 stacks with guards; the rest of the fibers must say so.
        let failed = handles.into_iter().filter(|handle| handle.is_finished()).map(|handle| handle.join().unwrap_err());
        assert_eq!(
            failed.filter(|error| matches!(error, JoinError::NoStack(_))).count(),
            FIBERS - stats.stacks[0].in_use
        );
        eprintln!("skipped the rest: this kernel gave {} stacks", stats.stacks[0].in_use);
        return;
    }
    for gate in gates.iter() {
        gate.post();
    }
    let sum: usize = handles.into_iter().map(|handle| handle.join().unwrap()).sum();
    assert_eq!(sum, FIBERS * (FIBERS - 1) / 2);
    let stats = scheduler.stats().stacks[0];
    assert_eq!((stats.in_use, stats.in_use_max, stats.free), (0, FIBERS, FIBERS));
    assert!(
        stats.released as usize >= FIBERS - warpline_fiber::limits::WARM_STACKS,
        "cold stacks give their pages back"
    );
}

/// How many of the pages from `start` on are in memory.
#[cfg(unix)]
fn resident(start: usize, bytes: usize) -> usize {
    // SAFETY: asks for a constant of the system.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap();
    let mut pages = vec![0u8; bytes / page];
    let start = start.next_multiple_of(page);
    // SAFETY: there is a byte for every page, and what the addresses are mapped to does not matter.
    let rc = unsafe { libc::mincore(start as *mut libc::c_void, pages.len() * page, pages.as_mut_ptr().cast()) };
    assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
    pages.iter().filter(|page| **page & 1 == 1).count()
}

#[test]
#[cfg(unix)]
fn cold_stacks_are_no_longer_in_memory_and_work_as_before() {
    const BYTES: usize = 64 << 10;
    const FIBERS: usize = 40;
    const WARM: usize = 3;
    let stacks = StackConfig { warm: WARM, ..StackConfig::default() };
    let scheduler = Scheduler::new(Config { stacks, ..Config::default() }).unwrap();
    for class in [StackClass::Medium, StackClass::Large] {
        let index = class as usize;
        for _ in 0..2 {
            let frames = Rc::new(RefCell::new(Vec::new()));
            let open = Rc::new(Cell::new(false));
            let fibers: Vec<_> = (0..FIBERS)
                .map(|_| {
                    let (frames, open) = (frames.clone(), open.clone());
                    let body = move || {
                        let mut frame = [0u8; BYTES];
                        std::hint::black_box(&mut frame).fill(1);
                        frames.borrow_mut().push(frame.as_ptr().addr());
                        while !open.get() {
                            yield_now();
                        }
                        assert!(std::hint::black_box(&frame).iter().all(|byte| *byte == 1));
                    };
                    scheduler.spawn_with(Builder::new().stack(class), body).unwrap()
                })
                .collect();
            while frames.borrow().len() < FIBERS {
                scheduler.turn(100);
            }
            // A page less than there are, as they need not begin with one.
            let pages = |frame: &usize| resident(*frame, BYTES - (4 << 10));
            let all = pages(&frames.borrow()[0]);
            assert!(all > 0 && frames.borrow().iter().all(|frame| pages(frame) == all));
            let before = scheduler.stats().stacks[index].released;
            open.set(true);
            fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
            let kept = frames.borrow().iter().filter(|frame| pages(frame) > 0).count();
            assert_eq!(kept, WARM, "the others' pages were given back");
            let stats = scheduler.stats().stacks[index];
            assert_eq!((stats.released - before) as usize, FIBERS - WARM);
            assert!(stats.high_water >= BYTES, "and how deep they were is known");
        }
    }
}

#[test]
fn limits_are_kept_and_said() {
    let config = Config { fibers_max: 256, ..Config::default() };
    let scheduler = Scheduler::new(config).unwrap();
    assert!(matches!(Scheduler::new(Config::default()), Err(SetupError::SecondScheduler)));
    let handles: Vec<_> = (0..256).map(|_| scheduler.spawn(|| ())).collect();
    assert_eq!(Builder::new().spawn(|| ()).unwrap_err(), SpawnError::TooMany);
    drop(handles);
    scheduler.turn(1000);
    scheduler.spawn(|| ()).join().unwrap();
    drop(scheduler);
    assert_eq!(Builder::new().spawn(|| ()).unwrap_err(), SpawnError::NoScheduler);
    let missing = Config { core: Some(100_000), ..Config::default() };
    assert!(matches!(Scheduler::new(missing), Err(SetupError::Core(100_000))));
}

#[test]
fn a_stack_that_cannot_be_mapped_is_the_joiners_error() {
    let stacks = StackConfig { bytes: [16 << 10, 1 << 48, 1 << 20], ..StackConfig::default() };
    let scheduler = Scheduler::new(Config { stacks, ..Config::default() }).unwrap();
    let counted = Rc::new(());
    let inner = counted.clone();
    let result = scheduler.spawn(move || drop(inner)).join();
    assert!(matches!(result, Err(JoinError::NoStack(_))));
    assert_eq!(Rc::strong_count(&counted), 1, "the closure is dropped");
    let small = scheduler.spawn_with(Builder::new().stack(StackClass::Small), || 1).unwrap();
    assert_eq!(small.join().unwrap(), 1, "other classes are not concerned");
}

#[test]
fn fibers_start_fibers() {
    fn tree(depth: u32) -> u32 {
        if depth == 0 {
            return 1;
        }
        let [left, right] = [(), ()].map(|()| spawn(move || tree(depth - 1)));
        left.join().unwrap() + right.join().unwrap()
    }
    assert_eq!(scheduler().run(|| tree(8)), 256);
}
