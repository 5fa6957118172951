//! The load program for stacks with an asynchronous API: the same work whatever the stack, with nothing in between
//! (the traits are static). A stack's adapter implements [`Dialer`], [`Connection`], [`SendHalf`] and [`RecvHalf`] with
//! the calls that the stack recommends, and hands its connections to [`serve`] or its dialer to [`run`].

mod bulk;
mod datagrams;
mod handshakes;
mod requests;
mod server;
mod traits;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::{ClientArgs, Counters, Measurement, Report, Result, Scenario};

pub use server::serve;
pub use traits::{Connection, Dialer, Outcome, ReadBuffers, RecvHalf, SendHalf};

/// The tasks of one run. They work until they are dropped; one that ends has failed.
type Workers = JoinSet<Result<()>>;

/// Runs the scenario of `args` and prints its report.
///
/// # Errors
///
/// If a connection or a stream fails.
pub async fn run<D: Dialer>(dialer: D, args: &ClientArgs) -> Result<()> {
    let dialer = Arc::new(dialer);
    let counters = Arc::new(Counters::default());
    let mut workers = Workers::new();
    let measured = match args.scenario {
        Scenario::Idle => return handshakes::idle(&dialer, args).await,
        Scenario::Datagram => datagrams::one_way(&*dialer, args, &mut workers).await?,
        Scenario::Connect | Scenario::Resume | Scenario::ZeroRtt => {
            handshakes::start(&dialer, args, &counters, &mut workers);
            measure(args, &counters, &mut workers).await?
        }
        _ => {
            let connections = dial_all(&*dialer, args.connections).await?;
            match args.scenario {
                Scenario::ReqResp | Scenario::Churn => requests::start(&connections, args, &counters, &mut workers),
                Scenario::SmallMsg => bulk::messages(&connections, args, &counters, &mut workers),
                Scenario::DatagramEcho => datagrams::echo(&connections, args, &counters, &mut workers),
                _ => bulk::start(&connections, args, &counters, &mut workers),
            }
            let measured = measure(args, &counters, &mut workers).await?;
            let mut report = Report::new(args.scenario, &measured, &counters.latency);
            report.udp_payload = connections.first().and_then(|connection| match args.scenario {
                Scenario::Download => connection.received_payload(),
                Scenario::Upload => connection.sent_payload(),
                _ => None,
            });
            report.cipher = connections.first().and_then(D::Connection::cipher);
            return report.print();
        }
    };
    Report::new(args.scenario, &measured, &counters.latency).print()
}

async fn dial_all<D: Dialer>(dialer: &D, count: usize) -> Result<Vec<D::Connection>> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count.max(1) {
        connections.push(dialer.dial().await?);
    }
    Ok(connections)
}

/// Lets the workers warm up, then counts what they do in the measured span.
async fn measure(args: &ClientArgs, counters: &Counters, workers: &mut Workers) -> Result<Measurement> {
    watch(workers, args.warmup()).await?;
    counters.latency.reset();
    let (before, started) = (counters.snapshot(), Instant::now());
    watch(workers, args.duration()).await?;
    Ok(Measurement { elapsed: started.elapsed(), counted: counters.snapshot() - before })
}

/// Sleeps, unless a worker ends.
async fn watch(workers: &mut Workers, time: Duration) -> Result<()> {
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        Some(ended) = workers.join_next() => match ended? {
            Ok(()) => Err("a worker ended before the time was over".into()),
            Err(error) => Err(error),
        },
    }
}
