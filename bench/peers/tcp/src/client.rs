//! The load, one thread for each connection.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use warpline_peer_kit::tls::{self, Tickets};
use warpline_peer_kit::{
    ClientArgs, Counters, Measurement, REQUEST_LEN, RESPONSE_LEN, Report, Result, SERVER_NAME, Scenario, WRITE_CHUNK,
};

use crate::session::{HEADER_LEN, Session, header};

static BLOCK: [u8; WRITE_CHUNK] = [0x5a; WRITE_CHUNK];

/// What one thread does until the process ends.
type Work = fn(&Dialer, &ClientArgs, &Counters) -> Result<()>;

/// Runs the scenario of `args` and prints its report.
pub fn run(args: &ClientArgs) -> Result<()> {
    let streams = args.streams.max(1) * args.connections.max(1);
    let in_flight = args.in_flight.max(1);
    let work: Vec<(usize, Work)> = match args.scenario {
        Scenario::Download => vec![(streams, download)],
        Scenario::Upload => vec![(streams, upload)],
        Scenario::Bidi => vec![(streams, download), (streams, upload)],
        Scenario::ReqResp => vec![(in_flight, requests)],
        Scenario::Churn => vec![(in_flight, bytes)],
        Scenario::SmallMsg => vec![(args.connections.max(1), messages)],
        Scenario::Connect => vec![(in_flight, connect)],
        Scenario::Resume => vec![(in_flight, resume)],
        other => return Err(format!("TCP has no {other}").into()),
    };
    let (failure, failures) = channel();
    let counters = Arc::new(Counters::default());
    for (count, work) in work {
        for _ in 0..count {
            start(work, args, &counters, &failure)?;
        }
    }
    let wait = |time: Duration| match failures.recv_timeout(time) {
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(()),
        Ok(error) => Err(error),
    };
    wait(args.warmup())?;
    counters.latency.reset();
    let (before, started) = (counters.snapshot(), Instant::now());
    wait(args.duration())?;
    let measured = Measurement { elapsed: started.elapsed(), counted: counters.snapshot() - before };
    Report::new(args.scenario, &measured, &counters.latency).print()
}

fn start(
    work: Work,
    args: &ClientArgs,
    counters: &Arc<Counters>,
    failure: &Sender<Box<dyn std::error::Error + Send + Sync>>,
) -> Result<()> {
    let tickets = (args.scenario == Scenario::Resume).then(Arc::<Tickets>::default);
    let dialer = Dialer {
        address: args.address()?,
        config: Arc::new(tls::client_config(&args.ca, tickets.clone())?),
        name: ServerName::try_from(SERVER_NAME)?,
        tickets,
    };
    let (args, counters, failure) = (args.clone(), counters.clone(), failure.clone());
    thread::spawn(move || {
        if let Err(error) = work(&dialer, &args, &counters) {
            // The receiver is gone once the run is over.
            let _ = failure.send(error);
        }
    });
    Ok(())
}

struct Dialer {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    tickets: Option<Arc<Tickets>>,
}

impl Dialer {
    fn dial(&self) -> Result<Session> {
        let tls = ClientConnection::new(self.config.clone(), self.name.clone())?;
        let mut session = Session::client(tls, TcpStream::connect(self.address)?)?;
        session.handshake()?;
        Ok(session)
    }
}

fn download(dialer: &Dialer, args: &ClientArgs, counters: &Counters) -> Result<()> {
    let mut session = dialer.dial()?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        session.write_all(&header(args.bytes, 0))?;
        let mut missing = args.bytes;
        while missing > 0 {
            let read = read_some(&mut session, &mut buffer)?;
            counters.add_bytes(read);
            missing = missing.saturating_sub(read);
        }
    }
}

fn upload(dialer: &Dialer, args: &ClientArgs, counters: &Counters) -> Result<()> {
    let mut session = dialer.dial()?;
    loop {
        session.write_all(&header(0, args.bytes))?;
        let mut missing = args.bytes;
        while missing > 0 {
            let part = missing.min(BLOCK.len() as u64);
            session.write_all(&BLOCK[..part as usize])?;
            counters.add_bytes(part);
            missing -= part;
        }
    }
}

fn messages(dialer: &Dialer, args: &ClientArgs, counters: &Counters) -> Result<()> {
    let mut session = dialer.dial()?;
    let message = vec![0x5a; args.bytes as usize];
    session.write_all(&header(0, u64::MAX))?;
    loop {
        session.write_all(&message)?;
        counters.add_op(args.bytes);
    }
}

fn requests(dialer: &Dialer, _: &ClientArgs, counters: &Counters) -> Result<()> {
    exchange(dialer, REQUEST_LEN - HEADER_LEN, RESPONSE_LEN, counters)
}

fn bytes(dialer: &Dialer, _: &ClientArgs, counters: &Counters) -> Result<()> {
    exchange(dialer, 1, 1, counters)
}

fn exchange(dialer: &Dialer, up: usize, down: u64, counters: &Counters) -> Result<()> {
    let mut session = dialer.dial()?;
    let mut buffer = vec![0; down as usize];
    let mut request = header(down, up as u64).to_vec();
    request.resize(HEADER_LEN + up, 0x5a);
    loop {
        let started = Instant::now();
        session.write_all(&request)?;
        let mut missing = down;
        while missing > 0 {
            missing = missing.saturating_sub(read_some(&mut session, &mut buffer)?);
        }
        counters.latency.record(started.elapsed().as_nanos() as u64);
        counters.add_op(down);
    }
}

fn connect(dialer: &Dialer, _: &ClientArgs, counters: &Counters) -> Result<()> {
    loop {
        let started = Instant::now();
        drop(dialer.dial()?);
        counters.latency.record(started.elapsed().as_nanos() as u64);
        counters.add_op(0);
    }
}

fn resume(dialer: &Dialer, _: &ClientArgs, counters: &Counters) -> Result<()> {
    let Some(tickets) = &dialer.tickets else { return Err("resumption without tickets".into()) };
    let mut full_before = 0;
    loop {
        let started = Instant::now();
        let mut session = dialer.dial()?;
        while tickets.is_empty() {
            session.read_records()?;
        }
        drop(session);
        if tickets.full_handshakes() > full_before {
            full_before = tickets.full_handshakes();
            counters.add_fallback();
        }
        counters.latency.record(started.elapsed().as_nanos() as u64);
        counters.add_op(0);
    }
}

fn read_some(session: &mut Session, buffer: &mut [u8]) -> Result<u64> {
    match session.read(buffer)? {
        0 => Err("the server closed the connection".into()),
        read => Ok(read as u64),
    }
}
