//! What the measured costs mean for machines larger than the one they were measured on: a queueing simulation.
//!
//! Packets arrive in trains of one connection, at random times. Connections have unequal shares of the traffic and lie in
//! random slots; slots are dealt evenly to workers. A worker takes what has arrived in turns, each of which costs a fixed
//! time and a time per packet, so that a busy worker is cheaper per packet than an idle one. The throughput of a
//! machine is what can be offered while 99 of 100 packets at the busiest thread wait for less than a limit. What is
//! common to all cores comes in as a ceiling: the network card and the memory's bandwidth.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Parser;
use serde::Serialize;

use crate::Result;

/// Slots, as in connection IDs.
const SLOTS: usize = 1_021;

/// Trains simulated for each thread and offered load.
const TRAINS: usize = 6_000;

/// Steps of the search for the highest load: 2^-12 of it is what is left open.
const STEPS: usize = 12;

#[derive(Debug, Parser)]
pub(crate) struct PredictArgs {
    /// Numbers of cores, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "8,32,128")]
    cores: Vec<usize>,
    /// Nanoseconds of a worker for a packet beside the turn's share; measured.
    #[arg(long)]
    packet_ns: f64,
    /// Nanoseconds of a worker for a turn; measured.
    #[arg(long)]
    turn_ns: f64,
    /// Nanoseconds of a reader for a packet; measured.
    #[arg(long)]
    reader_ns: f64,
    /// Nanoseconds of a worker for a packet that comes from a reader; measured.
    #[arg(long)]
    behind_ns: f64,
    /// Packets of a turn at most.
    #[arg(long, default_value_t = 512)]
    batch: usize,
    /// Packets of a train, on average.
    #[arg(long, default_value_t = 8.0)]
    train: f64,
    /// Connections.
    #[arg(long, default_value_t = 20_000)]
    connections: usize,
    /// Share of the traffic that the busiest tenth of the connections has.
    #[arg(long, default_value_t = 0.5)]
    tenth: f64,
    /// Bytes of a packet.
    #[arg(long, default_value_t = 1_350.0)]
    bytes: f64,
    /// How often a packet's bytes go through memory: written by the card, read and written by opening, read by the program.
    #[arg(long, default_value_t = 4.0)]
    passes: f64,
    /// Memory bandwidth of the machine in GB/s per 8 cores.
    #[arg(long, default_value_t = 40.0)]
    memory: f64,
    /// Speed of the network card in Gbit/s.
    #[arg(long, default_value_t = 200.0)]
    card: f64,
    /// Receive queues of the network card; with fewer than cores readers are needed to use all cores.
    #[arg(long, default_value_t = 64)]
    queues: usize,
    /// The wait in microseconds that 99 of 100 packets stay below.
    #[arg(long, default_value_t = 1_000.0)]
    wait_us: f64,
    /// Runs with other connections; the median is reported.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Write the results to this file, too.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// xorshift: the same seed gives the same run.
struct Rng(u64);

impl Rng {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.unit() * bound as f64) as usize
    }

    /// Exponentially distributed with mean 1.
    fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }

    /// The length of a train with this mean.
    fn train(&mut self, mean: f64) -> usize {
        if mean <= 1.0 { 1 } else { 1 + (self.unit().ln() / (1.0 - 1.0 / mean).ln()) as usize }
    }
}

/// Fraction of all traffic that each worker gets.
fn shares(args: &PredictArgs, workers: usize, rng: &mut Rng) -> Vec<f64> {
    let tenth = (args.connections / 10).max(1);
    let rest = (args.connections - tenth).max(1);
    let mut shares = vec![0.0; workers];
    for connection in 0..args.connections {
        let weight = if connection < tenth { args.tenth / tenth as f64 } else { (1.0 - args.tenth) / rest as f64 };
        // Slots are dealt in runs, as the engine does.
        let worker = rng.below(SLOTS) * workers / SLOTS;
        shares[worker] += weight * rng.exponential();
    }
    let sum: f64 = shares.iter().sum();
    shares.iter_mut().for_each(|share| *share /= sum);
    shares
}

/// A thread that takes packets in turns.
struct Thread {
    turn_ns: f64,
    packet_ns: f64,
    batch: usize,
}

impl Thread {
    /// The wait that 99 of 100 packets stay below, at `rate` packets per nanosecond.
    fn wait(&self, rate: f64, train: f64, rng: &mut Rng) -> f64 {
        let (mut arrivals, mut now) = (Vec::with_capacity(TRAINS * 8), 0.0);
        for _ in 0..TRAINS {
            now += rng.exponential() * train / rate;
            arrivals.extend(std::iter::repeat_n(now, rng.train(train)));
        }
        let mut waits = Vec::with_capacity(arrivals.len());
        let (mut free, mut next) = (0.0f64, 0);
        while next < arrivals.len() {
            free = free.max(arrivals[next]) + self.turn_ns;
            let begun = free;
            let taken = arrivals[next..].iter().take(self.batch).take_while(|at| **at <= begun).count().max(1);
            for at in &arrivals[next..next + taken] {
                free += self.packet_ns;
                waits.push(free - at);
            }
            next += taken;
        }
        let place = waits.len() * 99 / 100;
        *waits.select_nth_unstable_by(place, f64::total_cmp).1
    }

    /// Whether a thread with this share of `rate` keeps up.
    fn keeps_up(&self, rate: f64, share: f64, args: &PredictArgs, seed: u64) -> bool {
        self.wait(rate * share, args.train, &mut Rng(seed)) < args.wait_us * 1_000.0
    }
}

/// The highest rate, in packets per nanosecond, below `most` that `keeps_up`.
fn highest(most: f64, keeps_up: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, most);
    for _ in 0..STEPS {
        let middle = (low + high) / 2.0;
        if keeps_up(middle) { low = middle } else { high = middle }
    }
    low
}

/// One machine.
#[derive(Debug, Serialize)]
struct Prediction {
    cores: usize,
    readers: usize,
    /// Million packets per second if all cores were busy all the time.
    ideal: f64,
    /// … while hardly any packet waits longer than the limit.
    reached: f64,
    /// The busiest worker's traffic in multiples of the mean.
    imbalance: f64,
    limit: &'static str,
}

/// Without readers at first; with fewer queues than cores also with as many readers as there are queues at most.
fn machine(args: &PredictArgs, cores: usize, readers: usize, seed: u64) -> Prediction {
    let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let workers = if readers == 0 { cores.min(args.queues) } else { cores - readers };
    let shares = shares(args, workers, &mut rng);
    let busiest = shares.iter().copied().fold(0.0, f64::max);
    let packet_ns = if readers == 0 { args.packet_ns } else { args.behind_ns };
    let worker = Thread { turn_ns: args.turn_ns, packet_ns, batch: args.batch };
    // A reader's turn is a part of what was measured for its packets.
    let reader = Thread { turn_ns: 0.0, packet_ns: args.reader_ns, batch: args.batch };
    let ideal = workers as f64 / (packet_ns + args.turn_ns / args.batch as f64);
    let ideal = if readers == 0 { ideal } else { ideal.min(readers as f64 / args.reader_ns) };
    let by_workers = highest(ideal, |rate| worker.keeps_up(rate, busiest, args, seed | 1));
    let by_readers = match readers {
        0 => f64::INFINITY,
        count => highest(ideal, |rate| reader.keeps_up(rate, 1.0 / count as f64, args, seed | 1)),
    };
    let by_card = args.card / 8.0 / args.bytes;
    let by_memory = args.memory * cores as f64 / 8.0 / args.bytes / args.passes;
    let limits = [
        (by_workers, "the busiest worker"),
        (by_readers, "readers"),
        (by_card, "the network card"),
        (by_memory, "memory bandwidth"),
    ];
    let (reached, mut limit) = limits.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, "nothing"));
    if limit == "the busiest worker" && workers < cores && readers == 0 {
        limit = "queues of the card";
    }
    let imbalance = busiest * workers as f64;
    Prediction { cores, readers, ideal: ideal * 1_000.0, reached: reached * 1_000.0, imbalance, limit }
}

fn median_run(args: &PredictArgs, cores: usize, readers: usize) -> Prediction {
    let mut runs: Vec<Prediction> =
        (1..=args.runs.max(1) as u64).map(|seed| machine(args, cores, readers, seed)).collect();
    runs.sort_by(|a, b| a.reached.total_cmp(&b.reached));
    runs.swap_remove(runs.len() / 2)
}

/// Readers that serve a machine best: as many as keep up with the workers they leave.
fn best_readers(args: &PredictArgs, cores: usize) -> usize {
    let share = args.reader_ns / (args.reader_ns + args.behind_ns);
    ((cores as f64 * share).ceil() as usize).clamp(1, args.queues.min(cores - 1))
}

/// Prints a table of predictions.
pub(crate) fn run(args: &PredictArgs) -> Result<()> {
    if args.cores.iter().any(|cores| *cores < 2 || *cores > SLOTS) || args.connections < 10 || args.queues == 0 {
        return Err("predictions are for 2 to 1,021 cores, 10 connections or more, and at least one queue".into());
    }
    let mut text = "cores  readers  ideal Mpps  reached Mpps  Gbit/s  busiest/mean  limit\n".to_owned();
    let mut all = Vec::new();
    for &cores in &args.cores {
        for readers in [0, best_readers(args, cores)] {
            let p = median_run(args, cores, readers);
            writeln!(
                text,
                "{:>5}  {:>7}  {:>10.2}  {:>12.2}  {:>6.1}  {:>12.2}  {}",
                p.cores,
                p.readers,
                p.ideal,
                p.reached,
                p.reached * args.bytes * 8.0 / 1_000.0,
                p.imbalance,
                p.limit
            )?;
            all.push(p);
        }
    }
    print!("{text}");
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&all)? + "\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(extra: &[&str]) -> PredictArgs {
        let costs = ["predict", "--packet-ns", "1000", "--turn-ns", "2000", "--reader-ns", "300", "--behind-ns", "800"];
        PredictArgs::parse_from(costs.iter().chain(extra))
    }

    #[test]
    fn a_thread_waits_as_theory_says() {
        // One packet at a time, fixed service: M/D/1 has a mean wait of 1/2 of the service at half load, and its 99th percentile
        // lies between three and four services.
        let thread = Thread { turn_ns: 0.0, packet_ns: 1_000.0, batch: 1 };
        let wait = thread.wait(0.5e-3, 1.0, &mut Rng(9)) / 1_000.0;
        assert!((3.0..4.6).contains(&wait), "{wait}");
        assert!(thread.wait(1.5e-3, 1.0, &mut Rng(9)) > 1_000_000.0, "an overloaded one falls behind");
    }

    #[test]
    fn more_cores_do_more_until_something_common_is_used_up() {
        let wide = args(&["--card", "100000", "--memory", "100000", "--queues", "1024"]);
        let reached: Vec<f64> = [8, 32, 128].map(|cores| median_run(&wide, cores, 0).reached).into();
        assert!(reached[0] > 4.0 && reached[1] > 2.5 * reached[0] && reached[2] > 2.0 * reached[1], "{reached:?}");
        let narrow = median_run(&args(&["--card", "10"]), 32, 0);
        assert_eq!(narrow.limit, "the network card");
        assert!((narrow.reached - 10_000.0 / 8.0 / 1_350.0).abs() < 1e-6);
        assert_eq!(median_run(&args(&["--queues", "4", "--card", "100000"]), 32, 0).limit, "queues of the card");
    }
}
