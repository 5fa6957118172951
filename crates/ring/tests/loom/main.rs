//! Every structure under loom: all interleavings of small programs, and every value that a load may see.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p warpline-ring --release --test loom`
#![cfg(loom)]

mod flags;
mod handles;
mod queues;
mod signals;
mod slots;
mod waiting;

/// All interleavings with at most so many preemptions.
fn bounded(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(f);
}
