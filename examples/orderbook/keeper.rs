//! The keeper: on one thread, a fiber per feed keeps the book, and one fiber per subscriber sends what changed.

use crate::Options;
use crate::book::{Book, Frame, Kind};
use crate::tls;
use crate::wire::{Event, Snapshot, from_text, snapshot_path, stream_path};
use rustls::ClientConfig;
use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tungstenite::Message as Packet;
use warpline::{Chunk, Connection, Endpoint};
use warpline_fiber::reactor::ReactorConfig;
use warpline_fiber::{Baton, Builder, Config, Scheduler, StackClass, Wait, spawn, time};

/// Bytes that wait for a subscriber at most; then the feeds wait, and with them the exchange.
const BACKLOG_MAX: usize = 8 << 20;

/// Bytes of a whole book's text at most.
const BOOK_MAX: usize = 1 << 20;

/// Of so many updates of a feed, one sends the best prices as a datagram.
pub const TICK_EVERY: u64 = 16;

/// What the keeper saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub updates: u64,
    /// Whole books that were fetched.
    pub snapshots: u64,
    /// Connections given up because a number was missing.
    pub gaps: u64,
    /// Connections that the exchange ended before the feed's end.
    pub hang_ups: u64,
    /// Updates after which the book was not what the exchange said.
    pub wrong: u64,
    /// Datagrams that were given to their connections.
    pub ticks: u64,
    /// Those for which there was no room at the time.
    pub ticks_dropped: u64,
    /// Those that a connection refused.
    pub ticks_refused: u64,
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
    fn tick(&self, tick: Chunk, seen: &mut Seen) {
        let sending = pin!(self.connection.send_datagram(tick));
        *match sending.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => &mut seen.ticks,
            Poll::Pending => &mut seen.ticks_dropped,
            Poll::Ready(Err(_)) => &mut seen.ticks_refused,
        } += 1;
    }
}

struct Shared {
    outlets: Vec<Rc<Outlet>>,
    seen: Cell<Seen>,
    epoch: Instant,
}

impl Shared {
    /// Nanoseconds of the program's clock.
    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }
}

/// Where the exchange is and whom it has to be.
#[derive(Clone)]
pub struct Exchange {
    pub address: SocketAddr,
    pub tls: Arc<ClientConfig>,
}

/// Gets what is at a path of the exchange. Fails unless it is there.
fn fetch(exchange: &Exchange, path: &str) -> io::Result<String> {
    let mut stream = tls::connect(exchange.address, &exchange.tls)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", tls::NAME)?;
    stream.flush()?;
    let (head, mut body) = tls::read_head(&mut stream)?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(io::Error::other(format!("{path}: {}", head.lines().next().unwrap_or_default())));
    }
    let len = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
    let len: usize =
        len.filter(|len| *len <= BOOK_MAX).ok_or_else(|| io::Error::other("an answer without a length"))?;
    let known = body.len().min(len);
    body.resize(len, 0);
    stream.read_exact(&mut body[known..])?;
    String::from_utf8(body).map_err(io::Error::other)
}

/// Keeps the books on the calling thread until all feeds have ended.
pub fn run(options: &Options, exchange: Exchange, endpoint: Endpoint, epoch: Instant) -> Result<Seen, String> {
    let config =
        Config { reactor: ReactorConfig::Auto(Default::default()), core: options.keeper_core(), ..Config::default() };
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
            let (shared, exchange) = (shared.clone(), exchange.clone());
            let fiber = Builder::new().name(format!("feed {feed}")).stack(StackClass::Large);
            fibers.push(fiber.spawn(move || keep(feed, &exchange, &shared)).map_err(|error| error.to_string())?);
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
fn keep(feed: u16, exchange: &Exchange, shared: &Shared) -> Result<(), String> {
    let mut keeper = Keeper { feed, book: Book::default(), sequence: 0, shared };
    let name = |error| format!("feed {feed}: {error}");
    loop {
        let ended = keeper.connection(exchange).map_err(name)?;
        let seen = shared.seen.get();
        shared.seen.set(match ended {
            Ended::Feed => return Ok(()),
            Ended::Gap => Seen { gaps: seen.gaps + 1, ..seen },
            Ended::HungUp => Seen { hang_ups: seen.hang_ups + 1, ..seen },
        });
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
    /// One connection. First the feed, whose events wait in the socket, then the book, then the events that are not in it
    /// yet: what the exchange's documentation says how to do it.
    fn connection(&mut self, exchange: &Exchange) -> Result<Ended, String> {
        let symbol = format!("FEED{}", self.feed);
        let stream = tls::connect(exchange.address, &exchange.tls).map_err(|error| error.to_string())?;
        let url = format!("wss://{}:{}{}", tls::NAME, exchange.address.port(), stream_path(&symbol));
        let (mut socket, _) = tungstenite::client(url, stream).map_err(|error| error.to_string())?;
        let text = fetch(exchange, &snapshot_path(&symbol)).map_err(|error| error.to_string())?;
        let snapshot: Snapshot<&str> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        self.begin(&snapshot)?;
        loop {
            let packet = match socket.read() {
                Ok(Packet::Text(text)) => text,
                Ok(_) => continue,
                Err(_) => return Ok(Ended::HungUp),
            };
            let stamp = self.shared.now();
            let event: Event<&str> = serde_json::from_str(&packet).map_err(|error| error.to_string())?;
            if event.symbol != symbol {
                return Err(format!("an event of {}", event.symbol));
            }
            let kind = match event.event {
                "depthUpdate" if event.last <= snapshot.last => continue,
                "depthUpdate" if event.first == self.sequence + 1 => Kind::Update,
                "end" if event.last == self.sequence => Kind::End,
                "depthUpdate" | "end" => return Ok(Ended::Gap),
                other => return Err(format!("'{other}' is no event that this program knows")),
            };
            let (bids, asks) = (from_text(&event.bids)?, from_text(&event.asks)?);
            let (sequence, checksum) = (event.last, event.checksum);
            self.apply(&Frame { kind, feed: self.feed, sequence, stamp, checksum, bids, asks });
            if kind == Kind::End {
                return Ok(Ended::Feed);
            }
        }
    }

    /// A whole book.
    fn begin(&mut self, snapshot: &Snapshot<&str>) -> Result<(), String> {
        let (bids, asks) = (from_text(&snapshot.bids)?, from_text(&snapshot.asks)?);
        let (sequence, checksum, stamp) = (snapshot.last, snapshot.checksum, self.shared.now());
        self.book = Book::default();
        self.apply(&Frame { kind: Kind::Snapshot, feed: self.feed, sequence, stamp, checksum, bids, asks });
        Ok(())
    }

    /// Applies a message to the book and sends it on.
    fn apply(&mut self, frame: &Frame) {
        self.book.apply(&frame.bids, &frame.asks);
        self.sequence = frame.sequence;
        let found = if frame.kind == Kind::Update { self.book.checksum() } else { self.book.full_checksum() };
        let mut seen = self.shared.seen.get();
        seen.updates += u64::from(frame.kind == Kind::Update);
        seen.snapshots += u64::from(frame.kind == Kind::Snapshot);
        seen.wrong += u64::from(found != frame.checksum);
        self.shared.seen.set(seen);
        for outlet in &self.shared.outlets {
            self.send(outlet, frame);
        }
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
            let mut seen = self.shared.seen.get();
            outlet.tick(Chunk::from(bytes), &mut seen);
            self.shared.seen.set(seen);
        }
    }
}
