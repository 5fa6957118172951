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
    /// Its place among [`Places`], which is its name with the poller.
    place: Cell<usize>,
    /// It was closed under those who wait, and its number is another's now.
    closed: Cell<bool>,
    read: Waiters,
    write: Waiters,
}

/// Fibers that wait for the same; usually one.
type Waiters = RefCell<Vec<Rc<Baton>>>;

pub(crate) struct Readiness {
    poller: Arc<Poller>,
    events: RefCell<Events>,
    places: Rc<Places>,
    /// The program's own descriptors that somebody waits for, by their numbers.
    foreign: RefCell<HashMap<usize, Rc<Source>>>,
    /// To use again.
    spare: RefCell<Vec<Rc<Source>>>,
    /// Batons to use again.
    batons: Waiters,
    waits: Cell<u64>,
    /// The thread has slept since the last turn, and so looked already.
    looked: Cell<bool>,
}

/// What is with the poller, by the key that its events have.
#[derive(Default)]
struct Places {
    places: RefCell<Vec<Option<Rc<Source>>>>,
    free: RefCell<Vec<usize>>,
    taken: Cell<usize>,
}

impl Places {
    fn add(&self, source: &Rc<Source>) {
        let mut places = self.places.borrow_mut();
        let place = self.free.borrow_mut().pop().unwrap_or(places.len());
        if place == places.len() {
            places.push(None);
        }
        places[place] = Some(source.clone());
        source.place.set(place);
        self.taken.set(self.taken.get() + 1);
    }

    /// The poller knows the source no more, and its place is the next one's.
    fn remove(&self, source: &Source) {
        self.abandon(source);
        self.free.borrow_mut().push(source.place.get());
    }

    /// The poller may know a descriptor that was closed under those who wait as long as a duplicate of it is open, and
    /// nobody can say so without a number. What it tells of the place is for nobody, so the place stays empty for ever.
    fn abandon(&self, source: &Source) {
        self.places.borrow_mut()[source.place.get()] = None;
        self.taken.set(self.taken.get() - 1);
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
    places: Rc<Places>,
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
            seat.places.remove(&seat.source);
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
            places: Rc::default(),
            foreign: RefCell::default(),
            spare: RefCell::default(),
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
        if look && (self.looked.take() || self.places.taken.get() == 0) {
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
            let source = self.places.places.borrow().get(event.key).cloned().flatten();
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
            self.places.add(&source);
            // SAFETY: the socket is deleted from the poller before it is dropped (`Watched`).
            let added = unsafe {
                self.poller.add_with_mode(&socket.socket.source(), Event::all(source.place.get()), PollMode::Edge)
            };
            if let Err(error) = added {
                self.places.remove(&source);
                return Err(error);
            }
            // Had somebody a live descriptor of this number with the poller, it would not have taken a second one.
            self.abandon(number_of(&socket.socket));
            let seat = Seat { poller: self.poller.clone(), places: self.places.clone(), source };
            let taken = socket.seat.set(seat);
            debug_assert!(taken.is_ok(), "the seat was empty above");
        }
        Ok(socket.seat.get().filter(|seat| Rc::ptr_eq(&seat.places, &self.places)))
    }

    /// Parks the fiber until a descriptor of the program's own is ready. `EBADF` if it was closed meanwhile and somebody
    /// waits for the next owner of its number.
    pub(super) fn wait_for(&self, source: &impl AsSource, interest: Interest) -> io::Result<()> {
        self.waits.set(self.waits.get() + 1);
        let number = number_of(source);
        let waiting = self.foreign.borrow().get(&number).cloned();
        let entry = match waiting {
            Some(entry) if self.ask_more(source, &entry, interest)? => entry,
            _ => {
                self.abandon(number);
                self.enter(source, number, interest)?
            }
        };
        let baton = self.batons.borrow_mut().pop().unwrap_or_default();
        entry.waiters(interest).borrow_mut().push(baton.clone());
        let stay = Stay { readiness: self, entry: &entry, interest, baton: &baton };
        let _leave = Leave { readiness: self, source, number, entry: &entry, stay: Some(stay) };
        baton.wait();
        if entry.closed.get() { Err(closed()) } else { Ok(()) }
    }

    /// Asks for an event more of a descriptor that others wait for. `false` if the poller does not know the one that has
    /// the number now.
    fn ask_more(&self, source: &impl AsSource, entry: &Source, interest: Interest) -> io::Result<bool> {
        match self.poller.modify(source, entry.event(Some(interest))) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Registers a descriptor that nobody waits for yet.
    fn enter(&self, source: &impl AsSource, number: usize, interest: Interest) -> io::Result<Rc<Source>> {
        let entry = self.spare.borrow_mut().pop().unwrap_or_default();
        self.places.add(&entry);
        // SAFETY: the source is deleted from the poller before the wait returns or unwinds (`Leave`), and is borrowed
        // meanwhile.
        if let Err(error) = unsafe { self.poller.add(&source.source(), entry.event(Some(interest))) } {
            self.places.remove(&entry);
            return Err(error);
        }
        self.foreign.borrow_mut().insert(number, entry.clone());
        Ok(entry)
    }

    /// Ends the waits for whatever had the number before, if there are any.
    fn abandon(&self, number: usize) {
        let Some(entry) = self.foreign.borrow_mut().remove(&number) else { return };
        self.places.abandon(&entry);
        entry.closed.set(true);
        for waiters in [&entry.read, &entry.write] {
            waiters.borrow().iter().for_each(|baton| baton.post());
        }
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

    /// What its waiters want to hear of, and one more of them.
    fn event(&self, more: Option<Interest>) -> Event {
        let read = more == Some(Interest::Read) || !self.read.borrow().is_empty();
        let write = more == Some(Interest::Write) || !self.write.borrow().is_empty();
        Event::new(self.place.get(), read, write)
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
    number: usize,
    entry: &'a Rc<Source>,
    stay: Option<Stay<'a>>,
}

impl<S: AsSource> Drop for Leave<'_, S> {
    fn drop(&mut self) {
        drop(self.stay.take());
        let Leave { readiness, source, number, entry, .. } = self;
        if entry.closed.get() {
            return;
        }
        if !entry.is_idle() {
            // The others hear of it when somebody waits for the next owner of the number.
            let _ = readiness.poller.modify(*source, entry.event(None));
            return;
        }
        readiness.foreign.borrow_mut().remove(number);
        match readiness.poller.delete(*source) {
            Ok(()) => {
                readiness.places.remove(entry);
                readiness.spare.borrow_mut().push((*entry).clone());
            }
            Err(_) => readiness.places.abandon(entry),
        }
    }
}

/// What a wait ends with whose descriptor is gone.
fn closed() -> io::Error {
    #[cfg(unix)]
    let error = io::Error::from_raw_os_error(libc::EBADF);
    #[cfg(not(unix))]
    let error = io::Error::from(io::ErrorKind::NotConnected);
    error
}

#[cfg(unix)]
fn number_of(source: &impl AsSource) -> usize {
    use std::os::fd::AsRawFd as _;
    source.source().as_raw_fd() as usize
}

#[cfg(windows)]
fn number_of(source: &impl AsSource) -> usize {
    use std::os::windows::io::AsRawSocket as _;
    source.source().as_raw_socket() as usize
}
