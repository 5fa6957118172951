//! What a datagram costs the protocol alone, by how many connections take turns: no sockets, no threads, no kernel.
//!
//! Messages and acknowledgements in equal parts, four connections a turn of the server's, whose time on the clock is counted.
//! All numbers of connections take turns round by round, so that a busy machine is as busy for each; of the rounds the
//! median counts, or the least, which other work disturbs least of all.

use std::time::Instant;

use clap::Parser;
use warpline_proto::PacketCrypto;

use crate::Result;
use crate::micro::crowd::{Crowd, Talk};
use crate::micro::pair::Configs;

/// Messages of a round, at least.
const MESSAGES: u64 = 20_000;

#[derive(Debug, Parser)]
pub(crate) struct TurnsArgs {
    /// Numbers of connections, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "10,1000,10000")]
    connections: Vec<usize>,
    /// Rounds.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Requests on streams of their own instead of datagrams and their echoes.
    #[arg(long)]
    requests: bool,
}

/// Nanoseconds of the server's for a message or request and its acknowledgement: medians over its turns, which being interrupted
/// does not change.
fn measure(crowd: &mut Crowd, talk: Talk) -> f64 {
    let mut times = [Vec::new(), Vec::new()];
    let mut served = 0;
    while served < MESSAGES {
        served += crowd.round(talk, |serve| {
            let began = Instant::now();
            let answers = serve();
            // Messages are answered, acknowledgements are not.
            let kind = usize::from(answers == 0);
            times[kind].push(began.elapsed().as_nanos() as f64);
            answers
        });
    }
    let together = served as f64 / times[0].len() as f64;
    times.iter_mut().map(|times| median(times)).sum::<f64>() / together
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Measures and prints a table.
pub(crate) fn run(args: &TurnsArgs) -> Result<()> {
    let talk = if args.requests { Talk::Requests } else { Talk::Messages };
    let configs = Configs::prompt(PacketCrypto::default());
    let mut crowds: Vec<_> =
        args.connections.iter().map(|count| (*count, Crowd::new(&configs, *count), Vec::new())).collect();
    for round in 0..=args.rounds {
        for (_, crowd, times) in &mut crowds {
            let time = measure(crowd, talk);
            // The first warms up.
            if round > 0 {
                times.push(time);
            }
        }
    }
    println!("{:>12}  {:>10}  {:>10}   ns for a message and its acknowledgement", "connections", "median", "least");
    for (count, _, times) in &mut crowds {
        let (median, least) = (median(times), times.first().copied().unwrap_or_default());
        println!("{count:>12}  {median:>10.0}  {least:>10.0}");
    }
    Ok(())
}
