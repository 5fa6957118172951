//! Connections that resume a session: `resume` and `zerortt`.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use warpline::local::{self, Connection};
use warpline::{Chunk, ClientConfig, EarlyData};
use warpline_peer_kit::{REQUEST_LEN, RESPONSE_LEN, Result, SERVER_NAME, Scenario};

use super::client::Load;
use super::streams::drain;

/// How often to look whether the server has sent the session.
const LOOK: Duration = Duration::from_micros(20);

/// Connects again and again with the session of the time before; for `zerortt` each first packet carries a request.
pub(super) async fn resumptions(load: Rc<Load>) -> Result<()> {
    let is_early = load.args.scenario == Scenario::ZeroRtt;
    // Sessions are taken once, so each task has its own.
    let mut config = ClientConfig::clone(&load.config);
    (config.memory, config.early_data) = (Arc::default(), is_early);
    let first = load.worker.connect(Arc::new(config.clone()), load.target, SERVER_NAME).await?;
    session(&config, &first).await?;
    first.close(0, b"");
    loop {
        let began = Instant::now();
        let connection = load.worker.connect_early(&config, load.target, SERVER_NAME)?;
        if is_early {
            request(&connection).await?;
        }
        connection.handshake().await?;
        let resumed = match is_early {
            true => connection.early_data()? == EarlyData::Accepted,
            false => connection.is_resumed()?,
        };
        if !resumed {
            load.counters.add_fallback();
        }
        session(&config, &connection).await?;
        connection.close(0, b"");
        load.counters.latency.record(began.elapsed().as_nanos() as u64);
        load.counters.add_op(0);
    }
}

/// Waits until the server has given a session for the next time.
async fn session(config: &ClientConfig, connection: &Connection) -> Result<()> {
    while config.memory.stats().sessions == 0 {
        if let Some(reason) = connection.close_reason() {
            return Err(format!("closed before a session came: {reason}").into());
        }
        local::sleep(LOOK).await?;
    }
    Ok(())
}

async fn request(connection: &Connection) -> Result<()> {
    let mut request = RESPONSE_LEN.to_be_bytes().to_vec();
    request.resize(REQUEST_LEN, 0x5a);
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_chunk(Chunk::from(request)).await?;
    send.finish()?;
    let mut got = 0;
    drain(&mut recv, &mut |n| got += n).await?;
    match got == RESPONSE_LEN {
        true => Ok(()),
        false => Err(format!("{got} bytes came instead of {RESPONSE_LEN}").into()),
    }
}
