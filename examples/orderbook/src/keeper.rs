//! The keeper: on one thread, a fiber per feed keeps the book, and one fiber per subscriber sends what changed.

use crate::Options;
use crate::book::{Book, Frame, Kind};
use crate::wire::Message;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use tungstenite::Message as Packet;
use warpline::{Chunk, Connection, Endpoint};
use warpline_fiber::reactor::{ReactorConfig, TcpStream};
use warpline_fiber::{Baton, Builder, Config, Scheduler, StackClass, Wait, spawn, time};

/// Bytes that wait for a subscriber at most; then the feeds wait, and with them the exchange.
const BACKLOG_MAX: usize = 8 << 20;

/// Of so many updates of a feed, one sends the best prices as a datagram.
const TICK_EVERY: u64 = 16;

/// What the keeper saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub updates: u64,
    /// Books that were fetched again because a number was missing.
    pub gaps: u64,
    /// And because the exchange hung up.
    pub hang_ups: u64,
    /// Updates after which the book was not what the exchange said.
    pub wrong: u64,
}

/// What is on its way to a subscriber.
struct Outlet {
    connection: Connection,
    waiting: RefCell<Vec<u8>>,
    filled: Baton,
    ended: Cell<bool>,
}

impl Outlet {
    /// Sends the best prices as a datagram, if there is room right now: the next ones are better anyway.
    fn tick(&self, tick: Chunk) {
        let sending = pin!(self.connection.send_datagram(tick));
        // Neither a full queue nor a connection that has ended is worth a wait; the stream tells of the latter.
        let _ = sending.poll(&mut Context::from_waker(Waker::noop()));
    }
}

struct Shared {
    outlets: Vec<Rc<Outlet>>,
    seen: Cell<Seen>,
    epoch: Instant,
}

/// Keeps the books on the calling thread until all feeds have ended.
pub fn run(options: &Options, exchange: SocketAddr, endpoint: Endpoint, epoch: Instant) -> Result<Seen, String> {
    let config = Config { reactor: ReactorConfig::Auto(Default::default()), core: options.core, ..Config::default() };
    let scheduler = Scheduler::new(config).map_err(|error| error.to_string())?;
    let (feeds, subscribers) = (options.feeds, options.subscribers);
    scheduler.run(move || {
        let mut outlets = Vec::new();
        for _ in 0..subscribers {
            let connection = endpoint.accept().wait().ok_or("the endpoint ended")?;
            let (waiting, filled, ended) = (RefCell::default(), Baton::new(), Cell::new(false));
            outlets.push(Rc::new(Outlet { connection, waiting, filled, ended }));
        }
        let senders: Vec<_> = outlets.iter().cloned().map(|outlet| spawn(move || fan_out(&outlet))).collect();
        let shared = Rc::new(Shared { outlets, seen: Cell::default(), epoch });
        let mut fibers = Vec::new();
        for feed in 0..feeds {
            let shared = shared.clone();
            let fiber = Builder::new().name(format!("feed {feed}")).stack(StackClass::Large);
            fibers.push(fiber.spawn(move || keep(feed, exchange, &shared)).map_err(|error| error.to_string())?);
        }
        for fiber in fibers {
            fiber.join().map_err(|error| error.to_string())??;
        }
        for outlet in &shared.outlets {
            outlet.ended.set(true);
            outlet.filled.post();
        }
        for sender in senders {
            sender.join().map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        }
        Ok(shared.seen.get())
    })
}

/// Sends what collects in an outlet: all of it at once, so that a slow moment becomes a larger write.
fn fan_out(outlet: &Outlet) -> io::Result<()> {
    let mut stream = outlet.connection.open_uni().wait().map_err(io::Error::other)?;
    loop {
        let bytes = outlet.waiting.take();
        if !bytes.is_empty() {
            stream.write_all(&bytes).wait().map_err(io::Error::other)?;
        } else if outlet.ended.get() {
            stream.finish().map_err(io::Error::other)?;
            // The subscriber hangs up once it has everything.
            outlet.connection.closed().wait();
            return Ok(());
        } else {
            outlet.filled.wait();
        }
    }
}

/// How a connection to the exchange ended.
enum Ended {
    Gap,
    HungUp,
    Feed,
}

/// Keeps the book of one feed, connecting again whenever it has to.
fn keep(feed: u16, exchange: SocketAddr, shared: &Shared) -> Result<(), String> {
    let mut keeper = Keeper { feed, book: Book::default(), sequence: 0, shared };
    loop {
        let mut seen = match keeper.connection(exchange)? {
            Ended::Feed => return Ok(()),
            Ended::Gap => Seen { gaps: 1, ..Seen::default() },
            Ended::HungUp => Seen { hang_ups: 1, ..Seen::default() },
        };
        let so_far = shared.seen.get();
        seen = Seen { gaps: so_far.gaps + seen.gaps, hang_ups: so_far.hang_ups + seen.hang_ups, ..so_far };
        shared.seen.set(seen);
        time::sleep(Duration::from_millis(5));
    }
}

struct Keeper<'a> {
    feed: u16,
    book: Book,
    sequence: u64,
    shared: &'a Shared,
}

impl Keeper<'_> {
    /// One connection: a snapshot, then updates without a gap.
    fn connection(&mut self, exchange: SocketAddr) -> Result<Ended, String> {
        let stream = TcpStream::connect(exchange).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let url = format!("ws://{exchange}/{}", self.feed);
        let (mut socket, _) = tungstenite::client(url, &stream).map_err(|error| error.to_string())?;
        let mut fresh = true;
        loop {
            let packet = match socket.read() {
                Ok(Packet::Text(text)) => text,
                Ok(_) => continue,
                Err(_) => return Ok(Ended::HungUp),
            };
            let stamp = self.shared.epoch.elapsed().as_nanos() as u64;
            let message: Message<'_> = serde_json::from_str(&packet).map_err(|error| error.to_string())?;
            let (bids, asks) = message.levels()?;
            let kind = match (&*message.event, fresh) {
                ("snapshot", true) => Kind::Snapshot,
                ("depthUpdate", false) => Kind::Update,
                ("end", _) => Kind::End,
                (event, _) => return Err(format!("feed {}: '{event}' out of order", self.feed)),
            };
            fresh = false;
            let (sequence, checksum) = (message.sequence, message.checksum);
            if !self.apply(&Frame { kind, feed: self.feed, sequence, stamp, checksum, bids, asks }) {
                return Ok(Ended::Gap);
            }
            if kind == Kind::End {
                return Ok(Ended::Feed);
            }
        }
    }

    /// Applies a message to the book and sends it on. `false` if one is missing before it.
    fn apply(&mut self, frame: &Frame) -> bool {
        let expected = match frame.kind {
            Kind::Snapshot => {
                self.book = Book::default();
                frame.sequence
            }
            Kind::Update => self.sequence + 1,
            Kind::End => self.sequence,
        };
        if frame.sequence != expected {
            return false;
        }
        self.book.apply(&frame.bids, &frame.asks);
        self.sequence = frame.sequence;
        let found = if frame.kind == Kind::Update { self.book.checksum() } else { self.book.full_checksum() };
        let mut seen = self.shared.seen.get();
        seen.updates += u64::from(frame.kind == Kind::Update);
        seen.wrong += u64::from(found != frame.checksum);
        self.shared.seen.set(seen);
        for outlet in &self.shared.outlets {
            self.send(outlet, frame);
        }
        true
    }

    fn send(&self, outlet: &Outlet, frame: &Frame) {
        while outlet.waiting.borrow().len() > BACKLOG_MAX {
            time::sleep(Duration::from_millis(1));
        }
        frame.encode(&mut outlet.waiting.borrow_mut());
        outlet.filled.post();
        if frame.kind == Kind::Update && frame.sequence.is_multiple_of(TICK_EVERY) {
            let mut tick = frame.clone();
            tick.bids =
                self.book.bids.iter().next_back().map(|(&price, &amount)| (price, amount)).into_iter().collect();
            tick.asks = self.book.asks.iter().next().map(|(&price, &amount)| (price, amount)).into_iter().collect();
            let mut bytes = Vec::with_capacity(64);
            tick.encode(&mut bytes);
            outlet.tick(Chunk::from(bytes));
        }
    }
}
