//! Readiness by `polling`: epoll, kqueue or IOCP.

use super::{Backend, Interest, ReactorStats};
use crate::baton::Baton;
use crate::remote::Notifier;
use polling::{AsSource, Event, Events, PollMode, Poller};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A descriptor somebody waits for. One of the program's own is with the poller only while somebody does; a socket of this
/// crate from its first wait to its end, and tells when it becomes ready ([`Watched`]).
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
    sockets: Rc<Sockets>,
    /// Batons to use again.
    batons: Waiters,
    waits: Cell<u64>,
    /// The thread has slept since the last turn, and so looked already.
    looked: Cell<bool>,
}

/// Keys of [`Sockets`] have this bit, those of descriptors do not.
const SOCKET: usize = 1 << (usize::BITS - 2);

/// The sockets that are with the poller, by their keys.
#[derive(Default)]
struct Sockets {
    places: RefCell<Vec<Option<Rc<Source>>>>,
    free: RefCell<Vec<usize>>,
}

impl Sockets {
    fn add(&self, source: Rc<Source>) -> usize {
        let mut places = self.places.borrow_mut();
        let place = self.free.borrow_mut().pop().unwrap_or(places.len());
        if place == places.len() {
            places.push(None);
        }
        places[place] = Some(source);
        place
    }

    /// An event that is still on its way to the place wakes its next owner without reason, which does no harm.
    fn remove(&self, place: usize) {
        self.places.borrow_mut()[place] = None;
        self.free.borrow_mut().push(place);
    }

    fn is_empty(&self) -> bool {
        self.places.borrow().len() == self.free.borrow().len()
    }
}

/// A socket of this crate. Where the poller can tell edges it is registered once: each wait then costs a look at the
/// socket and nothing else.
pub(crate) struct Watched<S: AsSource> {
    seat: OnceCell<Seat>,
    socket: S,
}

/// A socket's place with the poller.
struct Seat {
    poller: Arc<Poller>,
    sockets: Rc<Sockets>,
    place: usize,
    source: Rc<Source>,
}

impl<S: AsSource> Watched<S> {
    pub(super) fn new(socket: S) -> Watched<S> {
        Watched { seat: OnceCell::new(), socket }
    }

    pub(super) fn socket(&self) -> &S {
        &self.socket
    }
}

impl<S: AsSource> Drop for Watched<S> {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            // The poller forgets a descriptor that is closed anyway, and there is nobody to tell of an error.
            let _ = seat.poller.delete(&self.socket);
            seat.sockets.remove(seat.place);
        }
    }
}

impl<S: AsSource + fmt::Debug> fmt::Debug for Watched<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

impl Readiness {
    pub(super) fn new() -> io::Result<Readiness> {
        Ok(Readiness {
            poller: Arc::new(Poller::new()?),
            events: RefCell::new(Events::new()),
            sources: RefCell::default(),
            sockets: Rc::default(),
            batons: RefCell::default(),
            waits: Cell::new(0),
            looked: Cell::new(false),
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
        let look = at_most == Some(Duration::ZERO);
        if look && (self.looked.take() || self.sources.borrow().is_empty() && self.sockets.is_empty()) {
            return;
        }
        self.looked.set(!look);
        let mut events = self.events.borrow_mut();
        events.clear();
        match self.poller.wait(&mut events, at_most) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Err(error) => panic!("the poller of a fiber scheduler fails: {error}"),
        }
        for event in events.iter() {
            let source = match event.key & SOCKET {
                0 => self.sources.borrow().get(&event.key).cloned(),
                _ => self.sockets.places.borrow().get(event.key & !SOCKET).cloned().flatten(),
            };
            let Some(source) = source else { continue };
            for (ready, waiters) in [(event.readable, &source.read), (event.writable, &source.write)] {
                if ready {
                    waiters.borrow().iter().for_each(|baton| baton.post_urgent());
                }
            }
        }
    }

    /// Parks the fiber until the socket, which was found not to be ready, may be.
    pub(super) fn wait_for_socket<S: AsSource>(&self, socket: &Watched<S>, interest: Interest) -> io::Result<()> {
        let Some(seat) = self.seat(socket)? else { return self.wait_for(&socket.socket, interest) };
        self.waits.set(self.waits.get() + 1);
        let baton = self.batons.borrow_mut().pop().unwrap_or_default();
        seat.source.waiters(interest).borrow_mut().push(baton.clone());
        let _stay = Stay { readiness: self, entry: &seat.source, interest, baton: &baton };
        baton.wait();
        Ok(())
    }

    /// The socket's place with this poller, taken when it is first asked for. `None` where it cannot have one: the poller
    /// knows no edges, or the socket is with another thread's.
    fn seat<'a, S: AsSource>(&self, socket: &'a Watched<S>) -> io::Result<Option<&'a Seat>> {
        if socket.seat.get().is_none() {
            if !self.poller.supports_edge() {
                return Ok(None);
            }
            let source = Rc::<Source>::default();
            let place = self.sockets.add(source.clone());
            // SAFETY: the socket is deleted from the poller before it is dropped (`Watched`).
            let added = unsafe {
                self.poller.add_with_mode(&socket.socket.source(), Event::all(place | SOCKET), PollMode::Edge)
            };
            if let Err(error) = added {
                self.sockets.remove(place);
                return Err(error);
            }
            let seat = Seat { poller: self.poller.clone(), sockets: self.sockets.clone(), place, source };
            let taken = socket.seat.set(seat);
            debug_assert!(taken.is_ok(), "the seat was empty above");
        }
        Ok(socket.seat.get().filter(|seat| Rc::ptr_eq(&seat.sockets, &self.sockets)))
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
        let stay = Stay { readiness: self, entry: &entry, interest, baton: &baton };
        let _leave = Leave { readiness: self, source, key, entry: &entry, stay: Some(stay) };
        registered?;
        baton.wait();
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
struct Stay<'a> {
    readiness: &'a Readiness,
    entry: &'a Rc<Source>,
    interest: Interest,
    baton: &'a Rc<Baton>,
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        self.entry.waiters(self.interest).borrow_mut().retain(|baton| !Rc::ptr_eq(baton, self.baton));
        self.baton.reset();
        self.readiness.batons.borrow_mut().push(self.baton.clone());
    }
}

/// The same, and the descriptor off the poller with its last waiter.
struct Leave<'a, S: AsSource> {
    readiness: &'a Readiness,
    source: &'a S,
    key: usize,
    entry: &'a Rc<Source>,
    stay: Option<Stay<'a>>,
}

impl<S: AsSource> Drop for Leave<'_, S> {
    fn drop(&mut self) {
        drop(self.stay.take());
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
