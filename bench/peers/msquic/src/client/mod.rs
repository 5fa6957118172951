//! The client: the load runs in msquic's callbacks; this thread dials, keeps the time and reports.

mod datagrams;
mod load;
mod session;
mod streams;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use msquic::ExecutionProfile;
use warpline_peer_kit::{ClientArgs, Measurement, Report, Result, Scenario, Snapshot, hold_until_stdin_eof};

use crate::quic::{Endpoint, Remote, Setup, payload_counts};
use datagrams::Echoes;
use load::{Load, Signal};
use session::Session;

/// Connections that `idle` opens at a time.
const OPENING: usize = 32;
/// How long the server may take to answer how many datagrams have come, and to let a connection in.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest sleep where lost echoes have to be noticed.
const TICK: Duration = Duration::from_millis(5);

/// Runs the scenario of `args` and prints its report.
pub fn run(args: ClientArgs) -> Result<()> {
    let target = args.address()?;
    let ClientArgs { payload, window, congestion, scenario, .. } = args;
    let setup = Setup { address: target, payload, window, congestion };
    let endpoint = Endpoint::client(&setup, profile(scenario), &args.ca)?;
    let (sender, signals) = channel();
    let load = Load::leak(args, sender);
    let mut client = Client { endpoint, load, signals, target, remotes: Vec::new(), echoes: Vec::new() };
    let ran = client.run();
    load.end();
    ran
}

/// As msquic's performance tool is run: packets and connections on threads of their own for throughput, on one for
/// everything else.
fn profile(scenario: Scenario) -> ExecutionProfile {
    match scenario {
        Scenario::Download | Scenario::Upload | Scenario::Bidi => ExecutionProfile::MaxThroughput,
        _ => ExecutionProfile::LowLatency,
    }
}

struct Client {
    endpoint: Endpoint,
    load: &'static Load,
    signals: Receiver<Signal>,
    target: SocketAddr,
    remotes: Vec<Arc<Remote>>,
    echoes: Vec<Arc<Echoes>>,
}

impl Client {
    fn run(&mut self) -> Result<()> {
        match self.load.args.scenario {
            Scenario::Idle => return self.idle(),
            Scenario::Connect | Scenario::Resume | Scenario::ZeroRtt => {
                (0..self.load.args.in_flight.max(1)).try_for_each(|_| self.dial(None))?;
            }
            _ => {
                for _ in 0..self.load.args.connections.max(1) {
                    self.dial(None)?;
                    self.connected()?;
                }
            }
        }
        if self.load.args.scenario == Scenario::Datagram { self.count_datagrams() } else { self.measure() }
    }

    /// Dials a connection, with a ticket if there is one.
    fn dial(&mut self, ticket: Option<&[u8]>) -> Result<()> {
        let echoes = Arc::new(Echoes::default());
        let session = Session::new(self.load, ticket.is_some(), echoes.clone());
        let early = session.early();
        let local = self.load.local();
        let remote = self.endpoint.dial(self.target, local, ticket, session, |remote| {
            early.map_or(Ok(()), |(handler, first)| remote.open(handler, first))
        })?;
        if self.load.keeps_remotes() {
            self.remotes.push(remote);
            self.echoes.push(echoes);
        }
        Ok(())
    }

    /// Waits until a connection is there.
    fn connected(&mut self) -> Result<()> {
        match self.signals.recv_timeout(PATIENCE) {
            Ok(Signal::Connected) => Ok(()),
            Ok(Signal::Failed(error)) => Err(error.into()),
            Ok(_) => Err("a connection did something else than to connect".into()),
            Err(_) => Err("no connection within 10 s".into()),
        }
    }

    /// Lets the load go on for `time`, and dials anew where a connection has done its work.
    fn wait(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let sleep = if self.load.args.scenario == Scenario::DatagramEcho { left.min(TICK) } else { left };
            match self.signals.recv_timeout(sleep) {
                Ok(Signal::Done(ticket)) => self.dial(ticket.as_deref())?,
                Ok(Signal::Failed(error)) => return Err(error.into()),
                Ok(Signal::Connected | Signal::Answer(..)) => {}
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Ok(()),
                Err(RecvTimeoutError::Timeout) => self.replace_lost_echoes()?,
                Err(RecvTimeoutError::Disconnected) => return Err("no more signals".into()),
            }
            if Instant::now() >= end {
                return Ok(());
            }
        }
    }

    fn replace_lost_echoes(&self) -> Result<()> {
        if self.load.args.scenario != Scenario::DatagramEcho {
            return Ok(());
        }
        let mut pairs = self.remotes.iter().zip(&self.echoes);
        pairs.try_for_each(|(remote, echoes)| echoes.replace_lost(self.load, remote))
    }

    fn measure(&mut self) -> Result<()> {
        let Load { args, counters, .. } = self.load;
        self.wait(args.warmup())?;
        counters.latency.reset();
        let sent = args.scenario == Scenario::Upload;
        let (packets, bytes) = payload_counts(sent)?;
        let (before, started) = (counters.snapshot(), Instant::now());
        self.wait(args.duration())?;
        let measured = Measurement { elapsed: started.elapsed(), counted: counters.snapshot() - before };
        let mut report = Report::new(args.scenario, &measured, &counters.latency);
        let (packets_after, bytes_after) = payload_counts(sent)?;
        if args.is_bulk() {
            // Nearly all packets in the direction of the data are full.
            let mean = (bytes_after - bytes).checked_div(packets_after - packets);
            report.udp_payload = mean.and_then(|mean| mean.try_into().ok());
        }
        self.print(report)
    }

    fn count_datagrams(&mut self) -> Result<()> {
        let args = &self.load.args;
        self.wait(args.warmup())?;
        let (before, started) = self.ask()?;
        self.wait(args.duration().saturating_sub(started.elapsed()))?;
        let (after, ended) = self.ask()?;
        let ops = after.saturating_sub(before);
        let counted = Snapshot { bytes: ops * args.bytes, ops, fallbacks: 0 };
        let measured = Measurement { elapsed: ended - started, counted };
        self.print(Report::new(args.scenario, &measured, &self.load.counters.latency))
    }

    /// How many datagrams the server has received, and when it said so.
    fn ask(&self) -> Result<(u64, Instant)> {
        let remote = self.remotes.first().ok_or("no connection to ask on")?;
        let (handler, first) = self.load.query();
        self.load.pause.begin();
        remote.open(handler, first)?;
        let answer = self.signals.recv_timeout(PATIENCE);
        self.load.pause.end(self.load, remote)?;
        match answer {
            Ok(Signal::Answer(count, when)) => Ok((count, when)),
            Ok(Signal::Failed(error)) => Err(error.into()),
            Ok(_) | Err(_) => Err("the server does not say how many datagrams have come".into()),
        }
    }

    fn idle(&mut self) -> Result<()> {
        let (wanted, started) = (self.load.args.connections, Instant::now());
        for opened in 0..wanted {
            self.dial(None)?;
            // The first one's socket is the others', too.
            if opened == 0 || opened >= OPENING {
                self.connected()?;
            }
        }
        for _ in 1..wanted.min(OPENING) {
            self.connected()?;
        }
        self.print(Report::idle(wanted as u64, started.elapsed()))?;
        hold_until_stdin_eof();
        Ok(())
    }

    fn print(&self, mut report: Report) -> Result<()> {
        report.cipher = self.load.cipher();
        report.print()
    }
}
