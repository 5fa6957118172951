//! A subscriber: keeps its own copy of every book from what arrives over QUIC, and proves that it is the exchange's.

use crate::book::{Book, Frame, Kind};
use crate::latency::Latencies;
use crate::ticks::Ticks;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;
use warpline::fiber::{Connection, RecvStream, Worker, spawn};
use warpline::{ClientConfig, Endpoint};

/// What a subscriber saw.
#[derive(Debug, Default)]
pub struct Report {
    pub updates: u64,
    /// Datagrams whose best prices were those of the stream's book after the same update.
    pub ticks: u64,
    /// Datagrams that were anything else.
    pub ticks_wrong: u64,
    /// Feeds that had a right one.
    pub ticked: usize,
    /// Updates that did not follow the one before.
    pub missing: u64,
    /// Frames after which the book was not the exchange's.
    pub wrong: u64,
    /// Feeds whose last book was the exchange's, level by level.
    pub complete: usize,
    /// From the keeper's socket to here.
    pub latencies: Latencies,
}

/// Follows all feeds on a worker of its own until the last one has ended.
pub fn run(client: ClientConfig, server: SocketAddr, feeds: u16, epoch: Instant) -> Result<Report, String> {
    let program = move |worker: Worker| {
        let connection = worker.connect(client, server, "localhost").map_err(|error| error.to_string())?;
        let ticks = Rc::new(RefCell::new(Ticks::new(feeds)));
        let listener = {
            let (connection, ticks) = (connection.clone(), ticks.clone());
            spawn(move || listen(&connection, &ticks))
        };
        let stream = connection.accept_uni().map_err(|error| error.to_string())?;
        let mut report = follow(stream, feeds, epoch, &ticks)?;
        connection.close(0, b"");
        listener.join().map_err(|error| error.to_string())??;
        let mut ticks = ticks.borrow_mut();
        report.ticked = ticks.end();
        (report.ticks, report.ticks_wrong) = (ticks.right, ticks.wrong);
        Ok(report)
    };
    Endpoint::builder().bind(([127, 0, 0, 1], 0)).run_fiber(program).map_err(|error| error.to_string())?
}

/// Takes datagrams until the connection ends.
fn listen(connection: &Connection, ticks: &RefCell<Ticks>) -> Result<(), String> {
    while let Ok(datagram) = connection.recv_datagram() {
        match Frame::decode(&datagram)? {
            Some((frame, len)) if len == datagram.len() => ticks.borrow_mut().came(&frame),
            _ => return Err("a datagram that is no frame".into()),
        }
    }
    Ok(())
}

fn follow(mut stream: RecvStream, feeds: u16, epoch: Instant, ticks: &RefCell<Ticks>) -> Result<Report, String> {
    let mut books = vec![(Book::default(), 0); usize::from(feeds)];
    let mut report = Report::default();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.read_chunk(usize::MAX).map_err(|error| error.to_string())? {
        bytes.extend_from_slice(&chunk);
        let mut used = 0;
        while let Some((frame, len)) = Frame::decode(&bytes[used..])? {
            used += len;
            let entry = books.get_mut(usize::from(frame.feed)).ok_or("a frame of a feed that there is not")?;
            apply(&frame, entry, &mut report);
            if frame.kind == Kind::Update {
                ticks.borrow_mut().updated(frame.feed, frame.sequence, &entry.0);
                report.latencies.add((epoch.elapsed().as_nanos() as u64).saturating_sub(frame.stamp));
            }
        }
        bytes.drain(..used);
    }
    if bytes.is_empty() { Ok(report) } else { Err("the stream ends within a frame".into()) }
}

fn apply(frame: &Frame, (book, sequence): &mut (Book, u64), report: &mut Report) {
    match frame.kind {
        Kind::Snapshot => *book = Book::default(),
        Kind::Update => {
            report.updates += 1;
            report.missing += u64::from(frame.sequence != *sequence + 1);
        }
        Kind::End => report.missing += u64::from(frame.sequence != *sequence),
    }
    book.apply(&frame.bids, &frame.asks);
    *sequence = frame.sequence;
    let found = if frame.kind == Kind::Update { book.checksum() } else { book.full_checksum() };
    let right = found == frame.checksum;
    report.wrong += u64::from(!right);
    report.complete += usize::from(frame.kind == Kind::End && right);
}
