//! The side that puts load on a server.

use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use warpline::local::{self, Connection, SendDatagramError, Worker};
use warpline::{Chunk, ClientConfig, Endpoint, OperationError};
use warpline_peer_kit::{
    COUNT_EVERY, COUNT_QUERY, Counters, DATAGRAM_ECHO, DATAGRAM_SINK, HEADER_LEN, Measurement, REQUEST_LEN,
    RESPONSE_LEN, Report, Result, SERVER_NAME, Scenario, Snapshot, hold_until_stdin_eof,
};

use super::sessions::resumptions;
use super::streams::{block, drain, joined, send_bytes};
use super::{ClientArgs, setup};

/// After this long without an echo the missing ones count as lost.
const ECHO_TIMEOUT: Duration = Duration::from_millis(20);

/// What the tasks of a run share.
pub(super) struct Load {
    pub(super) args: ClientArgs,
    pub(super) counters: Counters,
    pub(super) config: Arc<ClientConfig>,
    pub(super) target: SocketAddr,
    pub(super) worker: Worker,
}

pub(super) fn run(args: ClientArgs) -> Result<()> {
    let target = args.target.to_socket_addrs()?.next().ok_or("the server's name has no address")?;
    let bind: SocketAddr = if target.is_ipv6() { ([0u16; 8], 0).into() } else { ([0u8; 4], 0).into() };
    let builder = setup::endpoint(&args.common, Endpoint::builder().bind(bind).workers(1));
    let crypto = args.common.crypto.choose()?;
    let config = Arc::new(args.common.trace.client(setup::client(&args, &crypto)?)?);
    let outcome = builder.run_local(move |worker| async move {
        let load = Rc::new(Load { args, counters: Counters::default(), config, target, worker });
        let report = load.run().await?;
        let mut report = serde_json::to_value(report)?;
        report["io"] = setup::io_report(std::slice::from_ref(load.worker.handle()));
        report["crypto"] = setup::crypto_report(&crypto);
        report["dropped"] = setup::drop_report(&load.worker.endpoint_stats()?, &load.worker.packet_drops()?);
        // Before the connections end: whoever takes processor time by this line is not to count the time of that.
        println!("{report}");
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    });
    outcome.map_err(|e| e.to_string())?
}

impl Load {
    async fn dial(&self) -> Result<Connection> {
        Ok(self.worker.connect(self.config.clone(), self.target, SERVER_NAME).await?)
    }

    async fn dial_all(&self) -> Result<Vec<Connection>> {
        let mut out = Vec::with_capacity(self.args.connections);
        for _ in 0..self.args.connections.max(1) {
            out.push(self.dial().await?);
        }
        Ok(out)
    }

    async fn run(self: &Rc<Self>) -> Result<Report> {
        let scenario = self.args.scenario;
        let measured = match scenario {
            Scenario::Idle => return self.idle().await,
            Scenario::Datagram => self.one_way().await?,
            Scenario::Connect | Scenario::Resume | Scenario::ZeroRtt => {
                let tasks = (0..self.args.in_flight.max(1)).map(|_| match scenario {
                    Scenario::Connect => self.start(Self::handshakes),
                    _ => self.start(resumptions),
                });
                let tasks = tasks.collect::<Result<Vec<_>>>()?;
                self.measure(tasks).await?
            }
            _ => {
                let connections = self.dial_all().await?;
                let tasks = self.start_on(&connections)?;
                let measured = self.measure(tasks).await?;
                let mut report = Report::new(scenario, &measured, &self.counters.latency);
                let stats = connections.first().map(Connection::stats).transpose()?;
                report.udp_payload = stats.and_then(|s| match scenario {
                    Scenario::Download => s.bytes_received.checked_div(s.datagrams_received),
                    Scenario::Upload => s.bytes_sent.checked_div(s.datagrams_sent),
                    _ => None,
                });
                return Ok(report);
            }
        };
        Ok(Report::new(scenario, &measured, &self.counters.latency))
    }

    fn start<F: Future<Output = Result<()>> + 'static>(
        self: &Rc<Self>,
        task: impl Fn(Rc<Self>) -> F,
    ) -> Result<local::JoinHandle<Result<()>>> {
        Ok(local::spawn(task(self.clone()))?)
    }

    /// The tasks of the scenarios that work on long connections.
    fn start_on(self: &Rc<Self>, connections: &[Connection]) -> Result<Vec<local::JoinHandle<Result<()>>>> {
        let args = &self.args;
        let mut tasks = Vec::new();
        let mut spawn = |c: &Connection, kind: fn(Rc<Self>, Connection) -> TaskFuture| -> Result<()> {
            tasks.push(local::spawn(kind(self.clone(), c.clone()))?);
            Ok(())
        };
        match args.scenario {
            Scenario::ReqResp | Scenario::Churn => {
                for c in connections.iter().cycle().take(args.in_flight.max(1)) {
                    spawn(c, |load, c| Box::pin(load.requests(c)))?;
                }
            }
            Scenario::SmallMsg => {
                for c in connections {
                    spawn(c, |load, c| Box::pin(load.messages(c)))?;
                }
            }
            Scenario::DatagramEcho => {
                for c in connections {
                    spawn(c, |load, c| Box::pin(load.echoes(c)))?;
                }
            }
            _ => {
                for c in connections {
                    for _ in 0..args.streams.max(1) {
                        spawn(c, |load, c| Box::pin(load.bulk(c)))?;
                    }
                }
            }
        }
        Ok(tasks)
    }

    /// Lets the tasks warm up, then counts what they do in the measured span. A task that ends has failed.
    async fn measure(&self, tasks: Vec<local::JoinHandle<Result<()>>>) -> Result<Measurement> {
        local::sleep(Duration::from_secs_f64(self.args.warmup.max(0.0))).await?;
        self.counters.latency.reset();
        let (before, began) = (self.counters.snapshot(), Instant::now());
        local::sleep(Duration::from_secs_f64(self.args.duration.max(0.0))).await?;
        let measured = Measurement { elapsed: began.elapsed(), counted: self.counters.snapshot() - before };
        for task in tasks {
            if task.is_finished() {
                joined(task).await?;
                return Err("a task ended before the time was over".into());
            }
        }
        if measured.counted.ops == 0 && measured.counted.bytes == 0 {
            return Err("nothing was done in the measured time: does the server answer?".into());
        }
        Ok(measured)
    }

    async fn bulk(self: Rc<Self>, connection: Connection) -> Result<()> {
        let bytes = self.args.bytes;
        let (down, up) = match self.args.scenario {
            Scenario::Download => (bytes, 0),
            Scenario::Upload => (0, bytes),
            _ => (bytes, bytes),
        };
        loop {
            let (mut send, mut recv) = connection.open_bi().await?;
            send.write_chunk(Chunk::copy_from_slice(&down.to_be_bytes())).await?;
            if up == 0 {
                send.finish()?;
                drain(&mut recv, &mut |n| self.counters.add_bytes(n)).await?;
                continue;
            }
            let load = self.clone();
            let reading = local::spawn(async move { drain(&mut recv, &mut |n| load.counters.add_bytes(n)).await })?;
            send_bytes(&mut send, up, &mut |n| self.counters.add_bytes(n)).await?;
            joined(reading).await?;
        }
    }

    async fn messages(self: Rc<Self>, connection: Connection) -> Result<()> {
        let (mut send, _recv) = connection.open_bi().await?;
        send.write_chunk(Chunk::copy_from_slice(&0u64.to_be_bytes())).await?;
        let message = block(self.args.bytes.clamp(1, 1 << 20) as usize);
        let mut sent = 0u64;
        loop {
            send.write_chunk(message.clone()).await?;
            sent += 1;
            if sent.is_multiple_of(COUNT_EVERY) {
                self.counters.add_ops(COUNT_EVERY, message.len() as u64);
            }
            if sent.is_multiple_of(1024) {
                local::yield_now().await;
            }
        }
    }

    async fn requests(self: Rc<Self>, connection: Connection) -> Result<()> {
        let (len, response) = match self.args.scenario {
            Scenario::Churn => (HEADER_LEN + 1, 1),
            _ => (REQUEST_LEN, RESPONSE_LEN),
        };
        let mut request = response.to_be_bytes().to_vec();
        request.resize(len, 0x5a);
        let request = Chunk::from(request);
        loop {
            let began = Instant::now();
            let (mut send, mut recv) = connection.open_bi().await?;
            send.write_chunk(request.clone()).await?;
            send.finish()?;
            let mut got = 0;
            drain(&mut recv, &mut |n| got += n).await?;
            if got != response {
                return Err(format!("{got} bytes came instead of {response}").into());
            }
            self.counters.latency.record(began.elapsed().as_nanos() as u64);
            self.counters.add_op(response);
        }
    }

    async fn handshakes(self: Rc<Self>) -> Result<()> {
        loop {
            let began = Instant::now();
            let connection = self.dial().await?;
            self.counters.latency.record(began.elapsed().as_nanos() as u64);
            self.counters.add_op(0);
            connection.close(0, b"");
        }
    }

    /// Datagrams one way; the server says at the end how many arrived in the measured span.
    async fn one_way(self: &Rc<Self>) -> Result<Measurement> {
        let connections = self.dial_all().await?;
        for c in &connections {
            let (load, c) = (self.clone(), c.clone());
            local::spawn_detached(async move {
                let (datagram, at_first) = (load.datagram(DATAGRAM_SINK), c.max_datagram_size());
                let mut sent = 0u32;
                while send_datagram(&c, &datagram, at_first).await.is_ok() {
                    sent = sent.wrapping_add(1);
                    if sent.is_multiple_of(256) {
                        local::yield_now().await;
                    }
                }
            })?;
        }
        local::sleep(Duration::from_secs_f64(self.args.warmup.max(0.0))).await?;
        let before = arrived(&connections).await?;
        let began = Instant::now();
        local::sleep(Duration::from_secs_f64(self.args.duration.max(0.0))).await?;
        let ops = arrived(&connections).await? - before;
        let counted = Snapshot { bytes: ops * self.args.bytes, ops, fallbacks: 0 };
        Ok(Measurement { elapsed: began.elapsed(), counted })
    }

    fn datagram(&self, first: u8) -> Chunk {
        let mut bytes = vec![0x5a; self.args.bytes.clamp(1, 65_000) as usize];
        bytes[0] = first;
        Chunk::from(bytes)
    }

    async fn echoes(self: Rc<Self>, connection: Connection) -> Result<()> {
        let (datagram, at_first) = (self.datagram(DATAGRAM_ECHO), connection.max_datagram_size());
        let mut missing = 0usize;
        loop {
            while missing < self.args.in_flight.max(1) {
                send_datagram(&connection, &datagram, at_first).await?;
                missing += 1;
            }
            match local::timeout(ECHO_TIMEOUT, connection.recv_datagram()).await {
                Ok(echo) => {
                    // After a loss was assumed too early more come than are missing.
                    missing = missing.saturating_sub(1);
                    self.counters.add_op(echo?.len() as u64);
                }
                Err(_) => missing = 0,
            }
        }
    }

    /// Opens connections and holds them until standard input closes.
    async fn idle(self: &Rc<Self>) -> Result<Report> {
        let began = Instant::now();
        let connections = self.dial_all().await?;
        let report = Report::idle(connections.len() as u64, began.elapsed());
        println!("{}", serde_json::to_string(&report)?);
        let (closed, mut wait) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            hold_until_stdin_eof();
            // Nobody is left to tell when the run has failed meanwhile.
            let _ = closed.send(());
        });
        while wait.try_recv().is_err_and(|e| e == tokio::sync::oneshot::error::TryRecvError::Empty) {
            local::sleep(Duration::from_millis(50)).await?;
        }
        std::process::exit(0);
    }
}

type TaskFuture = std::pin::Pin<Box<dyn Future<Output = Result<()>>>>;

/// Sends a datagram. One that fitted `at_first` and does not now is lost: for a moment after losses the path may be thought to carry
/// less (RFC 8899).
async fn send_datagram(c: &Connection, datagram: &Chunk, at_first: Option<usize>) -> Result<(), SendDatagramError> {
    match c.send_datagram(datagram.clone()).await {
        Err(SendDatagramError::TooLarge) if at_first.is_some_and(|max| datagram.len() <= max) => {
            Ok(local::sleep(ECHO_TIMEOUT).await.map_err(OperationError::from)?)
        }
        sent => sent,
    }
}

/// How many datagrams the server has received on these connections.
async fn arrived(connections: &[Connection]) -> Result<u64> {
    let mut total = 0;
    for connection in connections {
        let (mut send, mut recv) = connection.open_bi().await?;
        send.write_chunk(Chunk::copy_from_slice(&COUNT_QUERY.to_be_bytes())).await?;
        send.finish()?;
        let mut count = [0; 8];
        recv.read_exact(&mut count).await?;
        total += u64::from_be_bytes(count);
    }
    Ok(total)
}
