//! What handles of other threads are made of: pipes, fan-ins, and the right to use a common end.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc as Plain;
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::{Arc, Notify};
use loom::thread;
use warpline_ring::fan_in::{FanIn, Inlet, fan_in, single};
use warpline_ring::{Claim, WaitList, pipe};

use crate::bounded;

/// A thread that sleeps until its task is woken. One that sleeps for ever is a deadlock, which loom reports.
struct Sleeper(Notify);

impl Wake for Sleeper {
    fn wake(self: Plain<Self>) {
        self.0.notify();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let sleeper = Plain::new(Sleeper(Notify::new()));
    let waker = Waker::from(sleeper.clone());
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => sleeper.0.wait(),
        }
    }
}

fn push(sender: &mut pipe::Sender<usize>, value: usize) {
    let mut item = Some(value);
    block_on(poll_fn(|cx| sender.poll_push(cx, &mut item)));
}

#[test]
fn a_pipe_wakes_both_sides_and_keeps_order_to_its_end() {
    bounded(3, || {
        let (mut sender, mut receiver) = pipe::pipe::<usize>(1);
        let thread = thread::spawn(move || {
            for value in 0..3 {
                push(&mut sender, value);
                if value == 0 {
                    // The others are announced by a full ring and by the end.
                    sender.flush();
                }
            }
        });
        for value in 0..3 {
            assert_eq!(block_on(poll_fn(|cx| receiver.poll_pop(cx))), Some(value));
        }
        assert_eq!(block_on(poll_fn(|cx| receiver.poll_pop(cx))), None);
        thread.join().expect("the sender does not panic");
    });
}

#[test]
fn a_pipe_with_room_for_two_wakes_its_sender_when_half_is_taken() {
    bounded(3, || {
        let (mut sender, mut receiver) = pipe::pipe::<usize>(2);
        for value in 0..2 {
            push(&mut sender, value);
        }
        let thread = thread::spawn(move || push(&mut sender, 2));
        // One is taken and no more are asked for.
        assert_eq!(receiver.pop(), Some(0));
        thread.join().expect("the sender does not panic");
        assert_eq!((receiver.pop(), receiver.pop(), receiver.pop()), (Some(1), Some(2), None));
    });
}

#[test]
fn a_sender_that_waits_learns_that_the_receiver_is_gone() {
    bounded(3, || {
        let (sender, receiver) = pipe::pipe::<usize>(1);
        let thread = thread::spawn(move || drop(receiver));
        block_on(poll_fn(|cx| {
            sender.register(cx);
            if sender.is_closed() { Poll::Ready(()) } else { Poll::Pending }
        }));
        thread.join().expect("the receiver does not panic");
    });
}

fn send(inlet: &mut Inlet<usize>, value: usize) {
    let mut item = Some(value);
    block_on(poll_fn(|cx| inlet.poll_send(cx, &mut item)));
}

fn recv(outlet: &FanIn<usize>) -> Option<usize> {
    block_on(poll_fn(|cx| outlet.poll_recv(cx)))
}

/// All that comes until the end, added up.
fn sum(outlet: &FanIn<usize>) -> usize {
    std::iter::from_fn(|| recv(outlet)).sum()
}

#[test]
fn an_inlet_with_a_full_ring_is_woken_and_nothing_is_lost_at_its_end() {
    bounded(2, || {
        let (mut inlet, outlet) = single::<usize>(1);
        let thread = thread::spawn(move || {
            for value in 1..=3 {
                send(&mut inlet, value);
            }
        });
        assert_eq!([recv(&outlet), recv(&outlet), recv(&outlet), recv(&outlet)], [Some(1), Some(2), Some(3), None]);
        thread.join().expect("the sender does not panic");
    });
}

#[test]
fn inlets_that_are_added_while_a_task_receives_are_found() {
    bounded(2, || {
        let (inlets, outlet) = fan_in::<usize>(1);
        send(&mut inlets.add(), 1);
        let adding = thread::spawn(move || send(&mut inlets.add(), 2));
        assert_eq!(sum(&outlet), 3);
        adding.join().expect("the sender does not panic");
    });
}

#[test]
fn two_tasks_that_receive_share_what_comes_and_both_see_the_end() {
    bounded(1, || {
        let (mut inlet, outlet) = single::<usize>(2);
        let outlet = Arc::new(outlet);
        let other = outlet.clone();
        let receiver = thread::spawn(move || sum(&other));
        let sender = thread::spawn(move || {
            send(&mut inlet, 1);
            send(&mut inlet, 2);
        });
        let here = sum(&outlet);
        assert_eq!(here + receiver.join().expect("the receiver does not panic"), 3);
        sender.join().expect("the sender does not panic");
    });
}

#[test]
fn one_at_a_time_has_a_claim_and_nobody_turned_away_is_forgotten() {
    bounded(3, || {
        let shared = Arc::new((Claim::new(0), WaitList::default()));
        let add = |shared: &(Claim<usize>, WaitList)| {
            let (claim, list) = shared;
            let attempt = || claim.try_with(|value| *value += 1, || list.notify());
            block_on(poll_fn(|cx| list.poll(cx.waker(), attempt)));
        };
        let threads = [(), ()].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || add(&shared))
        });
        add(&shared);
        for thread in threads {
            thread.join().expect("it does not panic");
        }
        assert_eq!(shared.0.try_with(|value| *value, || panic!("nobody else is there")), Some(3));
    });
}
