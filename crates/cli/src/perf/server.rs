//! The serving side.

use std::cell::Cell;
use std::rc::Rc;

use warpline::local::{self, Connection, RecvStream, SendDatagramError, SendStream};
use warpline::{Chunk, Endpoint};
use warpline_peer_kit::{COUNT_QUERY, DATAGRAM_SINK, HEADER_LEN, Result, WRITE_CHUNK, announce, hold_until_stdin_eof};

use super::streams::{drain, joined, send_bytes};
use super::{ServerArgs, setup};
use crate::io::growing;
use crate::signals::Signals;

pub(super) fn run(args: &ServerArgs) -> Result<()> {
    let trace = &args.common.trace;
    let crypto = args.common.crypto.choose()?;
    let builder = Endpoint::builder()
        .bind(args.bind)
        .workers(args.workers)
        .readers(args.readers)
        .server(trace.server(setup::server(args, &crypto)?)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = runtime.block_on(async { Signals::take() })?;
    let endpoint = setup::endpoint(&args.common, growing(builder, args.max_workers)).serve_local(serve)?;
    announce(endpoint.local_addr())?;
    runtime.block_on(wait_for_end(signals));
    let mut report = setup::io_report(&endpoint.workers());
    report["workers"] = endpoint.workers().len().into();
    report["growth_asked"] = endpoint.stats().growth_asked.into();
    report["crypto"] = setup::crypto_report(&crypto);
    eprintln!("{report}");
    endpoint.close(0, b"");
    Ok(())
}

/// Waits for Ctrl-C or SIGTERM; where standard input is a pipe, also for its end, so that a server goes with the program that started it.
async fn wait_for_end(mut signals: Signals) {
    let is_pipe = rustix::fs::fstat(std::io::stdin())
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo);
    let (ended, end_of_input) = tokio::sync::oneshot::channel();
    if is_pipe {
        std::thread::spawn(move || {
            hold_until_stdin_eof();
            // Nobody listens any more when a signal was faster.
            let _ = ended.send(());
        });
    }
    tokio::select! {
        () = signals.next() => {}
        Ok(()) = end_of_input => {}
    }
}

async fn serve(connection: Connection) {
    let received = Rc::new(Cell::new(0u64));
    // Off a worker nothing is served.
    let _ = local::spawn_detached(serve_datagrams(connection.clone(), received.clone()));
    while let Ok((send, recv)) = connection.accept_bi().await {
        let received = received.clone();
        let _ = local::spawn_detached(async move {
            // A stream that fails takes only itself down: the client sees it and reports it.
            let _ = serve_stream(send, recv, &received).await;
        });
    }
}

async fn serve_datagrams(connection: Connection, received: Rc<Cell<u64>>) {
    while let Ok(datagram) = connection.recv_datagram().await {
        received.set(received.get() + 1);
        let echoes = datagram.first().is_some_and(|first| *first != DATAGRAM_SINK);
        if !echoes {
            continue;
        }
        match connection.send_datagram(datagram).await {
            // For a moment after losses the path may be thought to carry less (RFC 8899): this one is lost, too.
            Ok(()) | Err(SendDatagramError::TooLarge) => {}
            Err(_) => return,
        }
    }
}

async fn serve_stream(mut send: SendStream, mut recv: RecvStream, received: &Cell<u64>) -> Result<()> {
    let mut header = [0; HEADER_LEN];
    recv.read_exact(&mut header).await?;
    let len = u64::from_be_bytes(header);
    if len == COUNT_QUERY {
        send.write_chunk(Chunk::copy_from_slice(&received.get().to_be_bytes())).await?;
        return Ok(send.finish()?);
    }
    if len <= WRITE_CHUNK as u64 {
        send_bytes(&mut send, len, &mut |_| {}).await?;
        return drain(&mut recv, &mut |_| {}).await;
    }
    // A long answer goes out while the upload comes in.
    let upload = local::spawn(async move { drain(&mut recv, &mut |_| {}).await })?;
    send_bytes(&mut send, len, &mut |_| {}).await?;
    joined(upload).await
}
