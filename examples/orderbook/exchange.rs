//! The exchange: over TLS, a feed of updates per symbol as a WebSocket, and the whole book as a plain request. It loses
//! messages and hangs up now and then, as real ones do.

use crate::book::Level;
use crate::instrument::Instrument;
use crate::tls::{self, Replayed, Served};
use crate::wire::{Event, Snapshot, Wanted, to_text};
use rustls::ServerConfig;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tungstenite::{Message as Packet, Utf8Bytes, WebSocket};
use warpline_fiber::reactor::{ReactorConfig, TcpListener, TcpStream};
use warpline_fiber::{Baton, Builder, Config, Scheduler, StackClass, time};

/// Updates that are made up for at once when the machine was busy.
const BURST_MAX: u64 = 64;

/// Events that wait for a client that reads too slowly; then the exchange hangs up.
const BACKLOG_MAX: usize = 16_384;

/// Symbols that are traded at most: a client names them.
const SYMBOLS_MAX: usize = 1024;

/// How the exchange trades and what it does wrong. Every number of updates counts per feed, 0 is never; feeds take turns.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Updates per second of each feed.
    pub rate: u64,
    /// One in so many is lost.
    pub lose_every: u64,
    /// After so many it hangs up on all who read the feed.
    pub hang_up_every: u64,
    /// One in so many says what is not true.
    pub lie_every: u64,
}

/// What the exchange is told, and what it did.
#[derive(Debug, Default)]
pub struct Control {
    /// No more updates: all feeds end.
    pub stop: AtomicBool,
    /// Nobody comes again.
    pub done: AtomicBool,
    pub made: AtomicU64,
    pub lost: AtomicU64,
    pub hung_up: AtomicU64,
    /// Clients that were hung up on because they did not read.
    pub slow: AtomicU64,
    pub lies: AtomicU64,
}

/// A symbol, its book, and who reads its feed.
struct Market {
    symbol: String,
    index: u64,
    instrument: RefCell<Instrument>,
    readers: RefCell<Vec<Rc<Reader>>>,
    ended: Cell<bool>,
}

/// A client of a feed.
#[derive(Default)]
struct Reader {
    waiting: RefCell<Vec<Utf8Bytes>>,
    changed: Baton,
    cut: Cell<Option<Cut>>,
}

/// How the exchange hangs up.
#[derive(Clone, Copy)]
enum Cut {
    /// With a WebSocket close.
    Politely,
    /// Without a word, as a machine that fails.
    Silently,
}

struct Exchange {
    plan: Plan,
    tls: Arc<ServerConfig>,
    control: Arc<Control>,
    markets: RefCell<BTreeMap<String, Rc<Market>>>,
}

/// Runs the exchange on the calling thread until it is done.
pub fn run(
    plan: Plan,
    tls: Arc<ServerConfig>,
    listening: &dyn Fn(SocketAddr),
    control: Arc<Control>,
) -> Result<(), String> {
    let config = Config { reactor: ReactorConfig::Auto(Default::default()), ..Config::default() };
    let scheduler = Scheduler::new(config).map_err(|error| error.to_string())?;
    let listener =
        scheduler.run(|| TcpListener::bind(([127, 0, 0, 1], 0).into())).map_err(|error| error.to_string())?;
    listening(listener.local_addr().map_err(|error| error.to_string())?);
    let done = control.clone();
    let exchange = Rc::new(Exchange { plan, tls, control, markets: RefCell::default() });
    let accepting = Builder::new().name("exchange listener");
    let accepting = scheduler.spawn_with(accepting, move || accept(&listener, &exchange));
    let accepting = accepting.map_err(|error| error.to_string())?;
    scheduler.run(move || {
        while !done.done.load(Ordering::Relaxed) && !accepting.is_finished() {
            time::sleep(Duration::from_millis(20));
        }
        if accepting.is_finished() { accepting.join().map_err(|error| error.to_string())? } else { Ok(()) }
    })
}

fn accept(listener: &TcpListener, exchange: &Rc<Exchange>) -> Result<(), String> {
    loop {
        let (stream, _) = listener.accept().map_err(|error| error.to_string())?;
        let exchange = exchange.clone();
        let serve = move || {
            // The client notices as well.
            if let Err(error) = serve(stream, &exchange) {
                eprintln!("exchange: {error}");
            }
        };
        let fiber = Builder::new().name("exchange client").stack(StackClass::Large).spawn(serve);
        fiber.map_err(|error| error.to_string())?.detach();
    }
}

/// Serves one connection, whatever it asks for.
fn serve(stream: TcpStream, exchange: &Rc<Exchange>) -> Result<(), String> {
    let mut stream = tls::accept(stream, &exchange.tls).map_err(|error| error.to_string())?;
    let (head, rest) = tls::read_head(&mut stream).map_err(|error| error.to_string())?;
    match Wanted::parse(head.split(' ').nth(1).unwrap_or_default()) {
        Some(Wanted::Stream(symbol)) => match exchange.market(&symbol) {
            Some(market) => {
                let read = Cursor::new([head.as_bytes(), &rest].concat());
                feed(Replayed { read, stream }, &market)
            }
            None => answer(stream, "404 Not Found", "{}"),
        },
        Some(Wanted::Snapshot(symbol)) => {
            let market = exchange.markets.borrow().get(&symbol).cloned();
            match market {
                Some(market) => answer(stream, "200 OK", &market.snapshot()?),
                None => answer(stream, "404 Not Found", "{}"),
            }
        }
        None => answer(stream, "404 Not Found", "{}"),
    }
}

fn answer(mut stream: Served, status: &str, body: &str) -> Result<(), String> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n");
    let text = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
    stream.conn.send_close_notify();
    stream.flush().map_err(|error| error.to_string())
}

/// Takes a reader off its market, however its connection ended.
struct Leave<'a>(&'a Market, Rc<Reader>);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.readers.borrow_mut().retain(|reader| !Rc::ptr_eq(reader, &self.1));
    }
}

/// Sends a feed until it ends or either side hangs up.
fn feed(stream: Replayed<Served>, market: &Market) -> Result<(), String> {
    // Before the client can know: it may rely on every event after the answer.
    let reader = market.subscribe()?;
    let reader = Leave(market, reader);
    let mut socket = tungstenite::accept(stream).map_err(|error| error.to_string())?;
    loop {
        match reader.1.cut.get() {
            Some(Cut::Politely) => {
                // The client may be gone already.
                let _ = socket.close(None).and_then(|()| socket.flush());
                return Ok(());
            }
            Some(Cut::Silently) => return Ok(()),
            None => {}
        }
        let events = reader.1.waiting.take();
        if events.is_empty() {
            reader.1.changed.wait();
        } else if send(&mut socket, events).is_err() {
            // The client found a gap and comes again.
            return Ok(());
        }
    }
}

fn send(socket: &mut WebSocket<Replayed<Served>>, events: Vec<Utf8Bytes>) -> tungstenite::Result<()> {
    for event in events {
        socket.write(Packet::Text(event))?;
    }
    socket.flush()
}

impl Exchange {
    /// The market of a symbol, which opens when somebody first asks for it. `None` if there are too many.
    fn market(self: &Rc<Exchange>, symbol: &str) -> Option<Rc<Market>> {
        let mut markets = self.markets.borrow_mut();
        if let Some(market) = markets.get(symbol) {
            return Some(market.clone());
        }
        if markets.len() >= SYMBOLS_MAX || symbol.is_empty() {
            return None;
        }
        let index = markets.len() as u64;
        let market = Rc::new(Market {
            symbol: symbol.to_owned(),
            index,
            instrument: RefCell::new(Instrument::new(index + 1)),
            readers: RefCell::default(),
            ended: Cell::new(false),
        });
        let (exchange, trading) = (self.clone(), market.clone());
        let trade = move || {
            if let Err(error) = trading.trade(&exchange) {
                eprintln!("exchange: {error}");
            }
        };
        Builder::new().name(format!("market {symbol}")).spawn(trade).ok()?.detach();
        markets.insert(symbol.to_owned(), market.clone());
        Some(market)
    }
}

impl Market {
    /// Whether this is the one in `every` updates. Markets take turns, an eighth apart.
    fn is_turn(&self, every: u64, sequence: u64) -> bool {
        every > 0 && (sequence + every - (self.index % 8 + 1) * every / 8).is_multiple_of(every)
    }

    /// Changes the book at a steady rate until the exchange stops.
    fn trade(&self, exchange: &Exchange) -> Result<(), String> {
        let (plan, control) = (&exchange.plan, &exchange.control);
        let (start, mut made) = (time::now(), 0);
        while !control.stop.load(Ordering::Relaxed) {
            time::sleep(Duration::from_millis(1));
            let due = time::now().saturating_duration_since(start).as_micros() as u64 * plan.rate / 1_000_000;
            let burst = due.saturating_sub(made).min(BURST_MAX);
            // What the machine could not do in time is not made up for later.
            made = due.max(made);
            for _ in 0..burst {
                self.update(plan, control)?;
            }
            control.made.fetch_add(burst, Ordering::Relaxed);
        }
        self.ended.set(true);
        self.publish(&self.end()?, control);
        Ok(())
    }

    fn update(&self, plan: &Plan, control: &Control) -> Result<(), String> {
        let (sequence, event) = {
            let mut instrument = self.instrument.borrow_mut();
            let (mut bids, asks) = instrument.change();
            if self.is_turn(plan.lie_every, instrument.sequence) {
                bids.push((instrument.middle - 1, 77_777));
                control.lies.fetch_add(1, Ordering::Relaxed);
            }
            let checksum = instrument.book.checksum();
            (instrument.sequence, self.event("depthUpdate", instrument.sequence, checksum, (&bids, &asks))?)
        };
        if self.is_turn(plan.lose_every, sequence) {
            control.lost.fetch_add(1, Ordering::Relaxed);
        } else {
            self.publish(&event, control);
        }
        if self.is_turn(plan.hang_up_every, sequence) {
            for reader in self.readers.take() {
                let polite = control.hung_up.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
                reader.cut(if polite { Cut::Politely } else { Cut::Silently });
            }
        }
        Ok(())
    }

    /// Gives an event to all who read the feed.
    fn publish(&self, event: &Utf8Bytes, control: &Control) {
        for reader in &*self.readers.borrow() {
            if reader.waiting.borrow().len() < BACKLOG_MAX {
                reader.waiting.borrow_mut().push(event.clone());
                reader.changed.post();
            } else if reader.cut.get().is_none() {
                control.slow.fetch_add(1, Ordering::Relaxed);
                reader.cut(Cut::Silently);
            }
        }
    }

    /// A reader of every event from now on.
    fn subscribe(&self) -> Result<Rc<Reader>, String> {
        let reader = Rc::new(Reader::default());
        if self.ended.get() {
            reader.waiting.borrow_mut().push(self.end()?);
        }
        self.readers.borrow_mut().push(reader.clone());
        Ok(reader)
    }

    fn end(&self) -> Result<Utf8Bytes, String> {
        let instrument = self.instrument.borrow();
        self.event("end", instrument.sequence, instrument.book.full_checksum(), (&[], &[]))
    }

    fn event(
        &self,
        event: &str,
        sequence: u64,
        checksum: u32,
        (bids, asks): (&[Level], &[Level]),
    ) -> Result<Utf8Bytes, String> {
        let levels = |levels: &[Level]| to_text(levels.iter().map(|(price, amount)| (price, amount)));
        let event = Event {
            event: event.to_owned(),
            time_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64),
            symbol: self.symbol.clone(),
            first: sequence,
            last: sequence,
            checksum,
            bids: levels(bids),
            asks: levels(asks),
        };
        serde_json::to_string(&event).map(Utf8Bytes::from).map_err(|error| error.to_string())
    }

    fn snapshot(&self) -> Result<String, String> {
        let Instrument { book, sequence, .. } = &*self.instrument.borrow();
        let (bids, asks) = (to_text(book.bids.iter().rev()), to_text(&book.asks));
        let snapshot = Snapshot { last: *sequence, checksum: book.full_checksum(), bids, asks };
        serde_json::to_string(&snapshot).map_err(|error| error.to_string())
    }
}

impl Reader {
    fn cut(&self, cut: Cut) {
        self.cut.set(Some(cut));
        self.changed.post();
    }
}
