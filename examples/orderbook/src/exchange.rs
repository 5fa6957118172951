//! The exchange: one WebSocket connection per feed, snapshots first, then updates at a steady rate. It loses messages and
//! hangs up now and then, as real ones do.

use crate::book::{Book, Level};
use crate::wire::Message;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message as Packet, WebSocket};
use warpline_fiber::reactor::{ReactorConfig, TcpListener, TcpStream};
use warpline_fiber::{Builder, Config, Scheduler, StackClass, time};

/// Levels that a book keeps on each side, about.
const DEPTH: u64 = 50;

/// Updates that are made up for at once when the machine was busy.
const BURST_MAX: u64 = 64;

/// One message in so many is lost, and after so many the exchange hangs up.
const LOSE_EVERY: u64 = 50_000;
const HANG_UP_EVERY: u64 = 120_000;

/// What the exchange is told, and what it control.
#[derive(Debug, Default)]
pub struct Control {
    /// No more updates: all feeds end.
    pub stop: AtomicBool,
    /// Nobody comes again.
    pub done: AtomicBool,
    pub sent: AtomicU64,
    pub lost: AtomicU64,
    pub hung_up: AtomicU64,
}

/// The state of one instrument.
struct Instrument {
    book: Book,
    sequence: u64,
    random: u64,
    middle: u64,
}

impl Instrument {
    fn new(seed: u64) -> Instrument {
        let mut instrument = Instrument { book: Book::default(), sequence: 0, random: seed * 2 + 1, middle: 1_000_000 };
        for _ in 0..DEPTH * 4 {
            instrument.change();
        }
        instrument
    }

    fn random(&mut self, below: u64) -> u64 {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    }

    /// Changes the book: new or changed levels near the middle, which wanders; those it has crossed, and far ones, go.
    fn change(&mut self) -> (Vec<Level>, Vec<Level>) {
        self.middle = self.middle + self.random(3) - 1;
        let (mut bids, mut asks) = (Vec::with_capacity(4), Vec::with_capacity(4));
        for _ in 0..=self.random(3) {
            let level = (self.random(DEPTH), self.random(10_000));
            if self.random(2) == 0 {
                bids.push((self.middle - 1 - level.0, level.1));
            } else {
                asks.push((self.middle + 1 + level.0, level.1));
            }
        }
        let gone = |price: &u64| !(self.middle - 2 * DEPTH..self.middle).contains(price);
        bids.extend(self.book.bids.keys().filter(|price| gone(price)).map(|&price| (price, 0)));
        let gone = |price: &u64| !(self.middle + 1..self.middle + 2 * DEPTH).contains(price);
        asks.extend(self.book.asks.keys().filter(|price| gone(price)).map(|&price| (price, 0)));
        self.book.apply(&bids, &asks);
        self.sequence += 1;
        (bids, asks)
    }

    fn snapshot(&self) -> Result<String, String> {
        let levels =
            |side: &BTreeMap<u64, u64>| side.iter().map(|(&price, &amount)| (price, amount)).collect::<Vec<_>>();
        let (bids, asks) = (levels(&self.book.bids), levels(&self.book.asks));
        Message::text("snapshot", self.sequence, self.book.full_checksum(), &bids, &asks)
    }
}

type Instruments = Rc<RefCell<BTreeMap<String, Rc<RefCell<Instrument>>>>>;

/// Runs the exchange on the calling thread until it is done.
pub fn run(rate: u64, listening: &dyn Fn(SocketAddr), control: Arc<Control>) -> Result<(), String> {
    let config = Config { reactor: ReactorConfig::Auto(Default::default()), ..Config::default() };
    let scheduler = Scheduler::new(config).map_err(|error| error.to_string())?;
    let listener =
        scheduler.run(|| TcpListener::bind(([127, 0, 0, 1], 0).into())).map_err(|error| error.to_string())?;
    listening(listener.local_addr().map_err(|error| error.to_string())?);
    let done = control.clone();
    let accepting = Builder::new().name("exchange listener");
    let accepting = scheduler.spawn_with(accepting, move || accept(&listener, rate, &control));
    let accepting = accepting.map_err(|error| error.to_string())?;
    scheduler.run(move || {
        while !done.done.load(Ordering::Relaxed) && !accepting.is_finished() {
            time::sleep(Duration::from_millis(20));
        }
        if accepting.is_finished() { accepting.join().map_err(|error| error.to_string())? } else { Ok(()) }
    })
}

fn accept(listener: &TcpListener, rate: u64, control: &Arc<Control>) -> Result<(), String> {
    let instruments = Instruments::default();
    loop {
        let (stream, _) = listener.accept().map_err(|error| error.to_string())?;
        let (instruments, control) = (instruments.clone(), control.clone());
        let serve = move || {
            // The keeper of the book notices as well, and comes again.
            if let Err(error) = serve(&stream, &instruments, rate, &control) {
                eprintln!("exchange: {error}");
            }
        };
        let fiber = Builder::new().name("exchange feed").stack(StackClass::Large).spawn(serve);
        fiber.map_err(|error| error.to_string())?.detach();
    }
}

/// Serves one connection.
fn serve(stream: &TcpStream, instruments: &Instruments, rate: u64, control: &Control) -> Result<(), String> {
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let mut path = String::new();
    #[expect(clippy::result_large_err, reason = "the library's signature")]
    let look = |request: &Request, response: Response| {
        path = request.uri().path().to_owned();
        Ok(response)
    };
    let mut socket = tungstenite::accept_hdr(stream, look).map_err(|error| error.to_string())?;
    let instrument = {
        let mut all = instruments.borrow_mut();
        let seed = all.len() as u64 + 1;
        all.entry(path).or_insert_with(|| Rc::new(RefCell::new(Instrument::new(seed)))).clone()
    };
    let first = instrument.borrow().snapshot()?;
    send(&mut socket, first)?;
    let (start, mut made) = (time::now(), 0);
    while !control.stop.load(Ordering::Relaxed) {
        time::sleep(Duration::from_millis(1));
        let due = time::now().saturating_duration_since(start).as_micros() as u64 * rate / 1_000_000;
        let burst = due.saturating_sub(made).min(BURST_MAX);
        // What the machine could not do in time is not made up for later.
        made = due.max(made);
        for _ in 0..burst {
            let (sequence, text) = {
                let mut instrument = instrument.borrow_mut();
                let (bids, asks) = instrument.change();
                let checksum = instrument.book.checksum();
                (instrument.sequence, Message::text("depthUpdate", instrument.sequence, checksum, &bids, &asks)?)
            };
            if sequence.is_multiple_of(LOSE_EVERY) {
                control.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            socket.write(Packet::text(text)).map_err(|error| error.to_string())?;
            control.sent.fetch_add(1, Ordering::Relaxed);
            if sequence.is_multiple_of(HANG_UP_EVERY) {
                control.hung_up.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
        }
        match socket.flush() {
            Ok(()) => {}
            // The keeper found a gap and comes again.
            Err(_) => return Ok(()),
        }
    }
    let end = {
        let instrument = instrument.borrow();
        Message::text("end", instrument.sequence, instrument.book.full_checksum(), &[], &[])?
    };
    send(&mut socket, end)
}

fn send(socket: &mut WebSocket<&TcpStream>, text: String) -> Result<(), String> {
    socket.send(Packet::text(text)).map_err(|error| error.to_string())
}
