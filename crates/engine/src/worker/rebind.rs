//! Going over to another socket while connections are under way.

use crate::error::RebindError;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What a task wants of the worker's loop, which owns the socket, and what came of it.
#[derive(Debug)]
pub(crate) struct Rebind {
    pub(crate) address: SocketAddr,
    outcome: RefCell<Option<Result<SocketAddr, RebindError>>>,
    waker: RefCell<Option<Waker>>,
}

impl Rebind {
    pub(crate) fn new(address: SocketAddr) -> Rc<Self> {
        Rc::new(Self { address, outcome: RefCell::default(), waker: RefCell::default() })
    }

    /// Says what came of it; the waker of who waits for that.
    pub(crate) fn settle(&self, outcome: Result<SocketAddr, RebindError>) -> Option<Waker> {
        *self.outcome.borrow_mut() = Some(outcome);
        self.waker.borrow_mut().take()
    }

    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Result<SocketAddr, RebindError>> {
        if let Some(outcome) = self.outcome.borrow_mut().take() {
            return Poll::Ready(outcome);
        }
        let old = self.waker.borrow_mut().replace(cx.waker().clone());
        drop(old);
        Poll::Pending
    }
}
