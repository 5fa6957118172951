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
//!
//! Instead of messages there can be requests, each a stream, with [answers](CostArgs::answer) of several packets: what a packet costs
//! where a connection has more than one to handle when its turn comes.
//!
//! Before the rounds that count each connection has had a message, and time to rest from its handshake: what comes once in the life
//! of a connection is no part of what a packet costs.

mod traffic;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use warpline::{ClientConfig, Endpoint, Identity, IoConfig, ServerConfig, TransportConfig};

use self::traffic::{ANSWER_MAX, Load, Order, answer, drive, echo};
use crate::Result;

/// A connection has rested once after this, and given back what its handshake needed.
const REST: Duration = Duration::from_secs(11);

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
    /// Bytes of the answers to requests, separated by commas: each length has rounds of its own. Without, messages are echoed.
    #[arg(long, value_delimiter = ',', default_value = "0", value_parser = parse_answer)]
    answer: Vec<usize>,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Write the results to this file, too.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn parse_answer(text: &str) -> Result<usize, String> {
    let len = text.parse().map_err(|_| format!("{text} is no number"))?;
    if len <= ANSWER_MAX { Ok(len) } else { Err(format!("an answer has at most {ANSWER_MAX} bytes")) }
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
    /// Bytes of an answer.
    answer: usize,
    /// Nanoseconds of the server's threads per datagram that arrived, each round.
    server_ns: Vec<f64>,
    /// The same, divided by that of the first setup in the same round, which other work disturbs less.
    of_the_first: Vec<f64>,
    /// Nanoseconds of the server's threads per packet that arrived or was sent, each round.
    packet_ns: Vec<f64>,
    /// Nanoseconds of the server's threads per message, each round.
    message_ns: Vec<f64>,
    /// The same for the client's thread.
    client_ns: Vec<f64>,
    /// Messages per second, each round.
    rate: Vec<f64>,
    /// Datagrams that arrived at the server for each message: its own, and acknowledgements that found no message to go with.
    datagrams: f64,
    /// Datagrams that the server sent for each message.
    sent: f64,
    /// Of those that arrived, how many a turn of the server's worker handled: fewer mean more system calls and wake-ups for each.
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
    let server = if args.answer == [0] { server.serve_local(echo)? } else { server.serve_local(answer)? };
    let client_endpoint = builder.thread_name(&names[1]).start()?;
    let (orders, to_do) = mpsc::unbounded_channel();
    let (ready, is_ready) = oneshot::channel();
    let before = resident();
    let (to, count) = (server.local_addr(), setup.connections);
    let running = client_endpoint.clone();
    tokio::spawn(async move {
        let program = move |worker| drive(worker, (to, Arc::new(client)), count, ready, to_do);
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

async fn round(pair: &Pair, outcome: &mut Outcome, load: Load) -> Result<()> {
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
    let stats = pair.server.stats();
    pair.orders.send((load, done))?;
    outcome.lost += lost.await?;
    let took = began.elapsed();
    // Counters are published at the end of a worker's turn.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let after = look()?;
    let per = |time: Duration, count: u64| time.as_nanos() as f64 / count.max(1) as f64;
    let messages = load.messages as f64;
    let (came, sent) = (after.2 - before.2, after.3 - before.3);
    outcome.message_ns.push(per(after.0 - before.0, load.messages as u64));
    outcome.packet_ns.push(per(after.0 - before.0, came + sent));
    outcome.server_ns.push(per(after.0 - before.0, came));
    outcome.client_ns.push(per(after.1 - before.1, sent));
    outcome.rate.push(messages / took.as_secs_f64());
    let now = pair.server.stats();
    outcome.datagrams = came as f64 / messages;
    outcome.sent = sent as f64 / messages;
    outcome.batch = came as f64 / (now.turns - stats.turns).max(1) as f64;
    outcome.sleeps = (now.sleeps - stats.sleeps) as f64 / came.max(1) as f64;
    Ok(())
}

/// Measures all setups and prints a table.
pub(crate) fn run(args: &CostArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(args))
}

impl Outcome {
    fn new(setup: Setup, answer: usize, bytes_per_connection: f64) -> Self {
        Self {
            setup,
            answer,
            server_ns: Vec::new(),
            of_the_first: Vec::new(),
            packet_ns: Vec::new(),
            message_ns: Vec::new(),
            client_ns: Vec::new(),
            rate: Vec::new(),
            datagrams: 0.0,
            sent: 0.0,
            batch: 0.0,
            sleeps: 0.0,
            handed_over: 0.0,
            bytes_per_connection,
            lost: 0,
        }
    }

    fn print(&self) {
        println!(
            "{:<20}  {:>6}  {:>18.0}  {:>12.3}  {:>9.0}  {:>10.0}  {:>18.0}  {:>10.0}  {:>17.2}  {:>12.2}  {:>14.2}  {:>15.3}  {:>11.2}  \
             {:>16.0}  {:>4}",
            self.setup.to_string(),
            self.answer,
            median(&self.server_ns),
            median(&self.of_the_first),
            median(&self.packet_ns),
            median(&self.message_ns),
            median(&self.client_ns),
            median(&self.rate),
            self.datagrams,
            self.sent,
            self.batch,
            self.sleeps,
            self.handed_over,
            self.bytes_per_connection,
            self.lost
        );
    }
}

/// All setups, their connections made and their handshakes rested from.
async fn pairs(args: &CostArgs) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for (index, setup) in args.setups.iter().enumerate() {
        pairs.push(pair(index, *setup, args).await?);
        eprintln!("{setup}: {} connections stand", setup.connections);
    }
    for (pair, setup) in pairs.iter().zip(&args.setups) {
        let mut warm = Outcome::new(*setup, 0, 0.0);
        round(pair, &mut warm, args.load(args.answer[0], setup.connections.max(args.messages))).await?;
    }
    tokio::time::sleep(REST).await;
    Ok(pairs)
}

impl CostArgs {
    fn load(&self, answer: usize, messages: usize) -> Load {
        Load { messages, pace: self.pace, window: self.window, burst: self.burst, answer }
    }
}

async fn measure(args: &CostArgs) -> Result<()> {
    let in_steps = args.pace == Pace::Steps || args.answer != [0];
    if let Some(setup) = args.setups.iter().find(|setup| in_steps && setup.connections < args.window) {
        return Err(format!("{setup}: each of the {} messages of a step needs a connection", args.window).into());
    }
    if args.answer != [0] && args.answer.contains(&0) {
        return Err("messages and requests are runs of their own".into());
    }
    let began = load();
    let pairs = pairs(args).await?;
    let mut outcomes = Vec::new();
    for answer in &args.answer {
        let new = |(pair, setup): (&Pair, &Setup)| Outcome::new(*setup, *answer, pair.bytes_per_connection);
        let mut those: Vec<_> = pairs.iter().zip(&args.setups).map(new).collect();
        for _ in 0..args.rounds {
            for (pair, outcome) in pairs.iter().zip(&mut those) {
                round(pair, outcome, args.load(*answer, args.messages)).await?;
            }
        }
        let first = those.first().map(|outcome| outcome.server_ns.clone()).unwrap_or_default();
        for (pair, outcome) in pairs.iter().zip(&mut those) {
            let stats = pair.server.stats();
            outcome.of_the_first = outcome.server_ns.iter().zip(&first).map(|(ns, first)| ns / first).collect();
            outcome.handed_over = stats.handed_over as f64 / stats.datagrams.max(1) as f64;
        }
        outcomes.append(&mut those);
    }
    println!(
        "setup                 answer  server ns/datagram  of the first  ns/packet  ns/message  client ns/datagram  messages/s  datagrams/message  sent/message  \
         datagrams/turn  sleeps/datagram  handed over  bytes/connection  lost"
    );
    outcomes.iter().for_each(Outcome::print);
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
