//! `corosensei`'s bare switch, hot and over many stacks.

use crate::timed;
use corosensei::{Coroutine, CoroutineResult};
use std::time::Duration;

/// Stacks where one is not enough to show what memory costs.
pub const MANY: u64 = 1000;

/// Who follows whom among so many, all in one round.
pub type Order = fn(u64) -> Vec<usize>;

/// The order in which they lie in memory. Processors know the next address of such a round beforehand.
pub fn in_line(count: u64) -> Vec<usize> {
    (1..=count as usize).map(|next| next % count as usize).collect()
}

/// An order without a rule, as that in which a program's fibers become ready; the same one for all contenders.
pub fn at_random(count: u64) -> Vec<usize> {
    let mut next: Vec<_> = (0..count as usize).collect();
    // Knuth's generator for 64 bits (MMIX); its upper bits are the good ones.
    let mut state = count;
    let mut below = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % end
    };
    // Sattolo's shuffle: what it makes is one round.
    (1..next.len()).rev().for_each(|last| next.swap(last, below(last)));
    next
}

/// `corosensei`'s resume and suspend over many stacks, by a loop that knows the order.
pub fn bare_many(n: u64, order: Order) -> Duration {
    let endless = |yielder: &corosensei::Yielder<(), ()>, ()| {
        loop {
            yielder.suspend(());
        }
    };
    let mut coroutines: Vec<Coroutine<(), (), ()>> = (0..MANY).map(|_| Coroutine::new(endless)).collect();
    let next = order(MANY);
    let round: Vec<_> = std::iter::successors(Some(0), |&at| Some(next[at])).take(next.len()).collect();
    let mut steps = || round.iter().for_each(|&at| assert!(coroutines[at].resume(()).as_yield().is_some()));
    steps();
    let took = timed(|| (0..n / MANY).for_each(|_| steps()));
    for coroutine in &mut coroutines {
        // SAFETY: nothing on the coroutine's stack has a destructor.
        unsafe { coroutine.force_reset() };
    }
    took
}

/// `corosensei`'s resume and suspend where the one that runs names the one that follows, as a fiber does that hands something over: whom to
/// resume is known only when the one before has said so, and the processor cannot begin with it earlier.
pub fn bare_named(n: u64, count: u64, order: Order) -> Duration {
    let names = |next: usize| {
        move |yielder: &corosensei::Yielder<(), usize>, ()| {
            loop {
                yielder.suspend(next);
            }
        }
    };
    let next = order(count);
    let mut coroutines: Vec<Coroutine<(), usize, ()>> =
        next.into_iter().map(|next| Coroutine::new(names(next))).collect();
    let mut at = 0;
    let mut steps = |n| {
        for _ in 0..n {
            at = coroutines[at].resume(()).as_yield().expect("it never ends");
        }
    };
    steps(count);
    let took = timed(|| steps(n));
    for coroutine in &mut coroutines {
        // SAFETY: nothing on the coroutine's stack has a destructor.
        unsafe { coroutine.force_reset() };
    }
    took
}

/// `corosensei`'s resume and suspend of one coroutine, again and again. Coroutines know nothing of each other: to get from one to another takes
/// a suspend and a resume, so this is the bare cost of that, and half of it that of one change of stacks. A fiber gets to another one with
/// both, by way of the scheduler's loop, or with one of them if they run each other; it is compared with both.
pub fn bare(n: u64) -> Duration {
    let mut coroutine = Coroutine::new(|yielder, ()| {
        loop {
            yielder.suspend(());
        }
    });
    let took = timed(|| {
        for _ in 0..n {
            let result: CoroutineResult<(), ()> = coroutine.resume(());
            assert!(result.as_yield().is_some());
        }
    });
    // SAFETY: nothing on the coroutine's stack has a destructor.
    unsafe { coroutine.force_reset() };
    took
}
