//! Readiness by `polling`: epoll, kqueue or IOCP.

use super::{Backend, Interest, ReactorStats};
use crate::baton::Baton;
use crate::remote::Notifier;
use polling::{AsSource, Event, Events, Poller};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A descriptor somebody waits for. It is with the poller only while somebody does.
#[derive(Default)]
struct Source {
    read: Waiters,
    write: Waiters,
}

/// Fibers that wait for the same; usually one.
type Waiters = RefCell<Vec<Rc<Baton>>>;

pub(crate) struct Readiness {
    poller: Arc<Poller>,
    events: RefCell<Events>,
    sources: RefCell<HashMap<usize, Rc<Source>>>,
    /// Batons to use again.
    batons: Waiters,
    waits: Cell<u64>,
}

impl Readiness {
    pub(super) fn new() -> io::Result<Readiness> {
        Ok(Readiness {
            poller: Arc::new(Poller::new()?),
            events: RefCell::new(Events::new()),
            sources: RefCell::default(),
            batons: RefCell::default(),
            waits: Cell::new(0),
        })
    }

    pub(super) fn notifier(&self) -> Notifier {
        let poller = self.poller.clone();
        Notifier::Call(Box::new(move || {
            if let Err(error) = poller.notify() {
                tracing::error!("the poller of a fiber scheduler cannot be woken: {error}");
            }
        }))
    }

    pub(super) fn stats(&self) -> ReactorStats {
        ReactorStats { backend: Backend::Readiness, operations: self.waits.get(), overflow_max: 0, registered_files: 0 }
    }

    pub(super) fn poll(&self, at_most: Option<Duration>) {
        if at_most == Some(Duration::ZERO) && self.sources.borrow().is_empty() {
            return;
        }
        let mut events = self.events.borrow_mut();
        events.clear();
        match self.poller.wait(&mut events, at_most) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Err(error) => panic!("the poller of a fiber scheduler fails: {error}"),
        }
        for event in events.iter() {
            let Some(source) = self.sources.borrow().get(&event.key).cloned() else { continue };
            for (ready, waiters) in [(event.readable, &source.read), (event.writable, &source.write)] {
                if ready {
                    waiters.borrow().iter().for_each(|baton| baton.post_urgent());
                }
            }
        }
    }

    pub(super) fn wait_for(&self, source: &impl AsSource, interest: Interest) -> io::Result<()> {
        self.waits.set(self.waits.get() + 1);
        let key = key_of(source);
        let entry = self.sources.borrow_mut().entry(key).or_default().clone();
        let is_new = Rc::strong_count(&entry) == 2 && entry.is_idle();
        let baton = self.batons.borrow_mut().pop().unwrap_or_default();
        entry.waiters(interest).borrow_mut().push(baton.clone());
        let event = entry.event(key);
        let registered = if is_new {
            // SAFETY: the source is deleted from the poller before this call returns or unwinds (`Leave`), and is
            // borrowed meanwhile.
            unsafe { self.poller.add(&source.source(), event) }
        } else {
            self.poller.modify(source, event)
        };
        let leave = Leave { readiness: self, source, key, entry: &entry, interest, baton: &baton };
        registered?;
        leave.baton.wait();
        drop(leave);
        Ok(())
    }
}

impl Source {
    fn waiters(&self, interest: Interest) -> &Waiters {
        match interest {
            Interest::Read => &self.read,
            Interest::Write => &self.write,
        }
    }

    fn is_idle(&self) -> bool {
        self.read.borrow().is_empty() && self.write.borrow().is_empty()
    }

    fn event(&self, key: usize) -> Event {
        Event::new(key, !self.read.borrow().is_empty(), !self.write.borrow().is_empty())
    }
}

/// Takes a waiter out again, however the wait ended.
struct Leave<'a, S: AsSource> {
    readiness: &'a Readiness,
    source: &'a S,
    key: usize,
    entry: &'a Rc<Source>,
    interest: Interest,
    baton: &'a Rc<Baton>,
}

impl<S: AsSource> Drop for Leave<'_, S> {
    fn drop(&mut self) {
        self.entry.waiters(self.interest).borrow_mut().retain(|baton| !Rc::ptr_eq(baton, self.baton));
        self.baton.reset();
        self.readiness.batons.borrow_mut().push(self.baton.clone());
        // The poller forgets a descriptor that was closed; there is nothing to undo then, and nobody to tell.
        let _ = if self.entry.is_idle() {
            self.readiness.sources.borrow_mut().remove(&self.key);
            self.readiness.poller.delete(self.source)
        } else {
            self.readiness.poller.modify(self.source, self.entry.event(self.key))
        };
    }
}

#[cfg(unix)]
fn key_of(source: &impl AsSource) -> usize {
    use std::os::fd::AsRawFd as _;
    source.source().as_raw_fd() as usize
}

#[cfg(windows)]
fn key_of(source: &impl AsSource) -> usize {
    use std::os::windows::io::AsRawSocket as _;
    source.source().as_raw_socket() as usize
}
