//! New connections: `connect`, `resume`, `zerortt` and `idle`.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::Workers;
use super::requests::{exchange, request};
use super::traits::{Connection, Dialer, Outcome};
use crate::{ClientArgs, Counters, REQUEST_LEN, RESPONSE_LEN, Report, Result, Scenario, hold_until_stdin_eof};

/// Connections that `idle` opens at a time.
const OPENING: usize = 32;

/// Keeps `args.in_flight` handshakes going.
pub(super) fn start<D: Dialer>(dialer: &Arc<D>, args: &ClientArgs, counters: &Arc<Counters>, workers: &mut Workers) {
    for _ in 0..args.in_flight.max(1) {
        let (counters, scenario) = (counters.clone(), args.scenario);
        let dialer = match scenario {
            Scenario::Connect => Ok(dialer.clone()),
            _ => dialer.with_own_tickets().map(Arc::new),
        };
        workers.spawn(async move {
            let dialer = dialer?;
            if scenario != Scenario::Connect {
                let connection = dialer.dial().await?;
                dialer.ticket(&connection).await?;
                connection.close();
            }
            loop {
                let started = Instant::now();
                match scenario {
                    Scenario::Connect => dialer.dial().await?.close(),
                    Scenario::Resume => resume(&*dialer, &counters).await?,
                    _ => request_early(&*dialer, &counters).await?,
                }
                counters.latency.record(started.elapsed().as_nanos() as u64);
                counters.add_op(0);
            }
        });
    }
}

async fn resume<D: Dialer>(dialer: &D, counters: &Counters) -> Result<()> {
    let connection = dialer.dial().await?;
    dialer.ticket(&connection).await?;
    if connection.outcome().await == Outcome::Fallback {
        counters.add_fallback();
    }
    connection.close();
    Ok(())
}

async fn request_early<D: Dialer>(dialer: &D, counters: &Counters) -> Result<()> {
    let connection = dialer.dial_early().await?;
    exchange(&connection, request(REQUEST_LEN, RESPONSE_LEN), RESPONSE_LEN).await?;
    dialer.ticket(&connection).await?;
    if connection.outcome().await == Outcome::Fallback {
        counters.add_fallback();
    }
    connection.close();
    Ok(())
}

/// Opens `args.connections` connections, reports, and holds them until standard input closes.
pub(super) async fn idle<D: Dialer>(dialer: &Arc<D>, args: &ClientArgs) -> Result<()> {
    let started = Instant::now();
    let mut connections = Vec::with_capacity(args.connections);
    let mut opening = JoinSet::new();
    for index in 0..args.connections {
        let dialer = dialer.clone();
        opening.spawn(async move { dialer.dial().await });
        if index >= OPENING
            && let Some(opened) = opening.join_next().await
        {
            connections.push(opened??);
        }
    }
    while let Some(opened) = opening.join_next().await {
        connections.push(opened??);
    }
    Report::idle(connections.len() as u64, started.elapsed()).print()?;
    tokio::task::spawn_blocking(hold_until_stdin_eof).await?;
    Ok(())
}
