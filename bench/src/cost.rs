//! What a packet costs, by how many connections there are and who receives it.
//!
//! Each setup is a server and a client of its own in this process, on loopback, and all live at the same time: rounds go
//! over them in turn, so that a busy machine is as busy for each. A message is a datagram of 64 bytes and its echo; the
//! connections take turns. What is reported is time on the processor of the server's threads per datagram that arrived
//! there, which waiting does not change, and the medians over the rounds.
//!
//! To tell what a packet costs because there are more connections, all else has to be alike: the packets, how many of
//! them a turn handles, and how many are under way. So by default messages go in [steps](Pace::Steps): the next connections in
//! the order send one each, and when all echoes have come and been acknowledged, each by a datagram of its own, the next ones
//! do. Each message is then two datagrams for the server and one from it, and no connection has more than one under way,
//! with ten connections as with a hundred thousand; the table shows both figures. [Freely](Pace::Flow), a connection
//! that has its echo is asked again at once, so that few connections send their acknowledgements along with the next message,
//! and many do not.

use std::cell::Cell;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use warpline::local::{self, Connection, Worker};
use warpline::{Chunk, ClientConfig, Endpoint, Identity, IoConfig, ServerConfig, TransportConfig};

use crate::Result;

/// Handshakes at a time.
const CONNECTING: usize = 32;

/// How long an echo may take before its message counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);

const MESSAGE: [u8; 64] = [0x5a; 64];

#[derive(Debug, Parser)]
pub(crate) struct CostArgs {
    /// Setups, separated by commas: CONNECTIONS:WORKERS:READERS each. With WORKERS>LEFT, such as 64:2>1:0, the others are removed once all
    /// connections stand: theirs stay with them, and every datagram for these arrives at the wrong worker.
    #[arg(long, value_delimiter = ',', default_value = "10:1:0,1000:1:0")]
    setups: Vec<Setup>,
    /// Messages of a round and setup.
    #[arg(long, default_value_t = 20_000)]
    messages: usize,
    /// How messages follow one another.
    #[arg(long, value_enum, default_value_t = Pace::Steps)]
    pace: Pace,
    /// Messages under way at a time; in steps, of as many connections.
    #[arg(long, default_value_t = 10)]
    window: usize,
    /// With `--pace flow`: messages that a connection has echoed one after the other before it is the next one's turn.
    #[arg(long, default_value_t = 1)]
    burst: usize,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Write the results to this file, too.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// How messages follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Pace {
    /// A window of messages, each of another connection; their echoes; an acknowledgement of each; the next window.
    Steps,
    /// As many exchanges as the window says, each beginning its next one by itself.
    Flow,
}

/// A server and what it serves.
#[derive(Clone, Copy, Debug, Serialize)]
struct Setup {
    connections: usize,
    workers: usize,
    /// Workers that stay.
    left: usize,
    readers: usize,
}

impl FromStr for Setup {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is not CONNECTIONS:WORKERS:READERS or CONNECTIONS:WORKERS>LEFT:READERS");
        let number = |text: &str| text.parse::<usize>().map_err(|_| wrong());
        let parts: Vec<&str> = text.split(':').collect();
        let [connections, workers, readers] = parts[..] else { return Err(wrong()) };
        let (workers, left) = workers.split_once('>').unwrap_or((workers, workers));
        let setup = Self {
            connections: number(connections)?,
            workers: number(workers)?,
            left: number(left)?,
            readers: number(readers)?,
        };
        if setup.connections == 0 || setup.left == 0 || setup.left > setup.workers { Err(wrong()) } else { Ok(setup) }
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, workers, left, readers } = self;
        if left == workers {
            write!(f, "{connections}:{workers}:{readers}")
        } else {
            write!(f, "{connections}:{workers}>{left}:{readers}")
        }
    }
}

/// What one setup has come to.
#[derive(Debug, Serialize)]
struct Outcome {
    setup: Setup,
    /// Nanoseconds of the server's threads per datagram that arrived, each round.
    server_ns: Vec<f64>,
    /// The same, divided by that of the first setup in the same round, which other work disturbs less.
    of_the_first: Vec<f64>,
    /// Nanoseconds of the server's threads per message, each round.
    message_ns: Vec<f64>,
    /// The same for the client's thread.
    client_ns: Vec<f64>,
    /// Messages per second, each round.
    rate: Vec<f64>,
    /// Datagrams that arrived at the server for each message: its own, and acknowledgements that found no message to go with.
    datagrams: f64,
    /// Of those, how many a turn of the server's worker handled: fewer mean more system calls and wake-ups for each.
    batch: f64,
    /// How often the server's threads fell asleep for each datagram that arrived: each time costs the kernel some microseconds, which
    /// have to do with how fast the client is.
    sleeps: f64,
    /// Datagrams that one thread handed to another, of all that arrived.
    handed_over: f64,
    /// Resident memory that one connection added, both ends together.
    bytes_per_connection: f64,
    lost: usize,
}

#[derive(Debug, Serialize)]
struct Report {
    messages: usize,
    pace: Pace,
    window: usize,
    burst: usize,
    /// Load average of the machine when it began and when it was over.
    load: [String; 2],
    outcomes: Vec<Outcome>,
}

/// What a client does in a round.
#[derive(Clone, Copy)]
struct Load {
    messages: usize,
    pace: Pace,
    window: usize,
    burst: usize,
}

/// A round to be run, and where the number of lost messages goes.
type Order = oneshot::Sender<usize>;

struct Pair {
    server: Endpoint,
    client: Endpoint,
    orders: mpsc::UnboundedSender<Order>,
    names: [String; 2],
    bytes_per_connection: f64,
}

/// Time on the processor of all threads whose names begin so.
fn processor_time(name: &str) -> Result<Duration> {
    let mut sum = 0;
    for entry in std::fs::read_dir("/proc/self/task")? {
        let folder = entry?.path();
        // A thread may end meanwhile.
        let Ok(thread) = std::fs::read_to_string(folder.join("comm")) else { continue };
        if thread.starts_with(name) {
            let times = std::fs::read_to_string(folder.join("schedstat"))?;
            sum += times.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
    }
    Ok(Duration::from_nanos(sum))
}

fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok()).unwrap_or_default();
    pages * 4096
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").map(|line| line.trim().to_owned()).unwrap_or_default()
}

async fn echo(connection: Connection) {
    while let Ok(datagram) = connection.recv_datagram().await {
        if connection.send_datagram(datagram).await.is_err() {
            return;
        }
    }
}

/// Waits for the echo; whether it came.
async fn answered(connection: &Connection) -> bool {
    matches!(local::timeout(PATIENCE, connection.recv_datagram()).await, Ok(Ok(_)))
}

/// The client's side of a pair: connects, says so, and runs rounds as long as they are asked for.
async fn drive(
    worker: Worker,
    (to, config): (std::net::SocketAddr, Arc<ClientConfig>),
    (count, load): (usize, Load),
    ready: oneshot::Sender<Result<(), String>>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let connections = Rc::new(std::cell::RefCell::new(Vec::with_capacity(count)));
    let mut tasks = Vec::new();
    let left = Rc::new(Cell::new(count));
    for _ in 0..CONNECTING.min(count) {
        let (worker, config, left, connections) =
            (worker.clone(), Arc::clone(&config), Rc::clone(&left), Rc::clone(&connections));
        tasks.push(local::spawn(async move {
            while left.get() > 0 {
                left.set(left.get() - 1);
                let connection = worker.connect(Arc::clone(&config), to, "localhost").await;
                connections.borrow_mut().push(connection.map_err(|error| error.to_string())?);
            }
            Ok::<_, String>(())
        }));
    }
    let mut result = Ok(());
    for task in tasks {
        result = match task {
            Ok(task) => result.and(task.await.unwrap_or_else(|error| Err(error.to_string()))),
            Err(error) => Err(error.to_string()),
        };
    }
    // The program waits for it.
    let _ = ready.send(result);
    let connections: Rc<Vec<Connection>> = Rc::new(connections.take());
    let turn = Rc::new(Cell::new(0));
    while let Some(done) = orders.recv().await {
        let lost = match load.pace {
            Pace::Steps => steps(&connections, &turn, load).await,
            Pace::Flow => flow(&connections, &turn, load).await,
        };
        let _ = done.send(lost);
    }
}

/// The connection whose turn it is.
fn next<'a>(connections: &'a [Connection], turn: &Cell<usize>) -> &'a Connection {
    let at = turn.get();
    turn.set((at + 1) % connections.len());
    &connections[at]
}

/// A round in steps; how many messages were lost.
async fn steps(connections: &[Connection], turn: &Cell<usize>, load: Load) -> usize {
    let (mut left, mut lost) = (load.messages, 0);
    let mut asked = Vec::with_capacity(load.window);
    while left > 0 {
        for _ in 0..load.window.min(left) {
            left -= 1;
            let connection = next(connections, turn);
            if connection.send_datagram(Chunk::from_static(&MESSAGE)).await.is_ok() {
                asked.push(connection);
            } else {
                lost += 1;
            }
        }
        for connection in asked.drain(..) {
            lost += usize::from(!answered(connection).await);
        }
        // What is left to be acknowledged is due at the next turn and leaves at its end; the turn after that is the next step's.
        for _ in 0..2 {
            let _ = local::sleep(Duration::from_nanos(1)).await;
        }
    }
    lost
}

/// A round in which each exchange begins the next one; how many messages were lost.
async fn flow(connections: &Rc<Vec<Connection>>, turn: &Rc<Cell<usize>>, load: Load) -> usize {
    let (left, lost) = (Rc::new(Cell::new(load.messages)), Rc::new(Cell::new(0)));
    let tasks = (0..load.window.min(connections.len())).map(|_| {
        let (connections, turn) = (Rc::clone(connections), Rc::clone(turn));
        let (left, lost) = (Rc::clone(&left), Rc::clone(&lost));
        local::spawn(async move {
            while left.get() > 0 {
                let connection = next(&connections, &turn);
                for _ in 0..load.burst {
                    left.set(left.get().saturating_sub(1));
                    let sent = connection.send_datagram(Chunk::from_static(&MESSAGE)).await.is_ok();
                    lost.set(lost.get() + usize::from(!(sent && answered(connection).await)));
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>().into_iter().flatten() {
        // A panic shows as messages that never came.
        let _ = task.await;
    }
    lost.get()
}

async fn pair(index: usize, setup: Setup, args: &CostArgs) -> Result<Pair> {
    let id = Identity::generate(["localhost"])?;
    let transport =
        TransportConfig { max_idle_timeout: Some(Duration::from_secs(3_600)), ..TransportConfig::default() };
    let server = ServerConfig::with_single_cert(vec![id.certificate.clone()], id.key(), &[b"cost"])?;
    let client = ClientConfig::with_pinned_fingerprint(&id.fingerprint().0, &[b"cost"])?;
    let at_once = TransportConfig { max_ack_delay: Duration::ZERO, ..transport.clone() };
    let (server, client) = (server.transport(transport)?, client.transport(at_once)?);
    let names = [format!("s{index}"), format!("c{index}")];
    let io = IoConfig { large_frames: 64, ..IoConfig::default() };
    let builder = Endpoint::builder().bind(([127, 0, 0, 1], 0)).io(io).spin(Duration::ZERO);
    let server = builder.clone().workers(setup.workers).readers(setup.readers).server(server).thread_name(&names[0]);
    let server = if setup.left < setup.workers { server.max_workers(setup.workers) } else { server };
    let server = server.serve_local(echo)?;
    let client_endpoint = builder.thread_name(&names[1]).start()?;
    let (orders, to_do) = mpsc::unbounded_channel();
    let (ready, is_ready) = oneshot::channel();
    let before = resident();
    let load = Load { messages: args.messages, pace: args.pace, window: args.window, burst: args.burst };
    let (to, numbers) = (server.local_addr(), (setup.connections, load));
    let running = client_endpoint.clone();
    tokio::spawn(async move {
        let program = move |worker| drive(worker, (to, Arc::new(client)), numbers, ready, to_do);
        // It ends with the endpoint.
        let _ = running.run_local(program).await;
    });
    is_ready.await??;
    if setup.left < setup.workers {
        server.scale_to(setup.left).await?;
    }
    let bytes_per_connection = resident().saturating_sub(before) as f64 / setup.connections as f64;
    Ok(Pair { server, client: client_endpoint, orders, names, bytes_per_connection })
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Datagrams that arrived at the endpoint's sockets.
fn arrived(endpoint: &Endpoint) -> u64 {
    endpoint.stats().datagrams
}

async fn round(pair: &Pair, outcome: &mut Outcome, messages: usize) -> Result<()> {
    let look = || -> Result<_> {
        Ok((
            processor_time(&pair.names[0])?,
            processor_time(&pair.names[1])?,
            arrived(&pair.server),
            arrived(&pair.client),
        ))
    };
    let (before, began) = (look()?, Instant::now());
    let (done, lost) = oneshot::channel();
    pair.orders.send(done)?;
    outcome.lost += lost.await?;
    let took = began.elapsed();
    // Counters are published at the end of a worker's turn.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let after = look()?;
    let per = |time: Duration, count: u64| time.as_nanos() as f64 / count.max(1) as f64;
    outcome.message_ns.push(per(after.0 - before.0, messages as u64));
    outcome.server_ns.push(per(after.0 - before.0, after.2 - before.2));
    outcome.client_ns.push(per(after.1 - before.1, after.3 - before.3));
    outcome.rate.push(messages as f64 / took.as_secs_f64());
    Ok(())
}

/// Measures all setups and prints a table.
pub(crate) fn run(args: &CostArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(args))
}

async fn measure(args: &CostArgs) -> Result<()> {
    if let Some(setup) = args.setups.iter().find(|setup| args.pace == Pace::Steps && setup.connections < args.window) {
        return Err(format!("{setup}: each of the {} messages of a step needs a connection", args.window).into());
    }
    let began = load();
    let mut pairs = Vec::new();
    for (index, setup) in args.setups.iter().enumerate() {
        let pair = pair(index, *setup, args).await?;
        let bytes_per_connection = pair.bytes_per_connection;
        let outcome = Outcome {
            setup: *setup,
            server_ns: Vec::new(),
            of_the_first: Vec::new(),
            message_ns: Vec::new(),
            client_ns: Vec::new(),
            rate: Vec::new(),
            datagrams: 0.0,
            batch: 0.0,
            sleeps: 0.0,
            handed_over: 0.0,
            bytes_per_connection,
            lost: 0,
        };
        eprintln!("{setup}: {} connections stand", setup.connections);
        pairs.push((pair, outcome));
    }
    // One round to get warm, which does not count.
    for counts in std::iter::once(false).chain(std::iter::repeat_n(true, args.rounds)) {
        for (pair, outcome) in &mut pairs {
            let before = pair.server.stats();
            round(pair, outcome, args.messages).await?;
            let after = pair.server.stats();
            let arrived = (after.datagrams - before.datagrams) as f64;
            outcome.datagrams = arrived / args.messages as f64;
            outcome.batch = arrived / (after.turns - before.turns).max(1) as f64;
            outcome.sleeps = (after.sleeps - before.sleeps) as f64 / arrived.max(1.0);
            if !counts {
                (outcome.server_ns, outcome.message_ns, outcome.client_ns, outcome.rate) = Default::default();
            }
        }
    }
    let first = pairs.first().map(|(_, outcome)| outcome.server_ns.clone()).unwrap_or_default();
    println!(
        "setup                 server ns/datagram  of the first  ns/message  client ns/datagram  messages/s  datagrams/message  datagrams/turn  sleeps/datagram  \
         handed over  bytes/connection  lost"
    );
    let mut outcomes = Vec::new();
    for (pair, mut outcome) in pairs {
        let stats = pair.server.stats();
        outcome.of_the_first = outcome.server_ns.iter().zip(&first).map(|(ns, first)| ns / first).collect();
        outcome.handed_over = stats.handed_over as f64 / stats.datagrams.max(1) as f64;
        println!(
            "{:<20}  {:>18.0}  {:>12.3}  {:>10.0}  {:>18.0}  {:>10.0}  {:>17.2}  {:>14.2}  {:>15.3}  {:>11.2}  {:>16.0}  {:>4}",
            outcome.setup.to_string(),
            median(&outcome.server_ns),
            median(&outcome.of_the_first),
            median(&outcome.message_ns),
            median(&outcome.client_ns),
            median(&outcome.rate),
            outcome.datagrams,
            outcome.batch,
            outcome.sleeps,
            outcome.handed_over,
            outcome.bytes_per_connection,
            outcome.lost
        );
        outcomes.push(outcome);
    }
    let report = Report {
        messages: args.messages,
        pace: args.pace,
        window: args.window,
        burst: args.burst,
        load: [began, load()],
        outcomes,
    };
    println!("load average before and after: {}; {}", report.load[0], report.load[1]);
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    Ok(())
}
