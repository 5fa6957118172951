//! One receiver: who it is, what it gets to see, what it asks for.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use warpline::{Connection, SendStream, WriteError};
use warpline_frame::Chunk;
use warpline_wire::Reader;

use super::compare::{self, Enough};
use super::scan::{self, Found};
use super::{Shared, producer};
use crate::auth::{self, Role};
use crate::error::ShareError;
use crate::limits::{GREETING_TIME_MAX, LISTS_AHEAD, PARTS_AHEAD, PATH_MAX};
use crate::manifest::encode_entry;
use crate::message::{Compare, VERSION, Want, decode_id, kind, message, messages, put_bytes, put_varint};
use crate::stream::MessageReader;

/// Entries are sent in messages of about this length.
const BATCH_LEN: usize = 32 * 1024;
/// Batches that wait for the network.
const BATCHES_AHEAD: usize = 4;
/// Batches of wants that wait to be served; more stay in the transport, which holds the receiver back.
const WANTS_AHEAD: usize = 16;
/// Bytes of wants in a batch, about.
const WANTS_LEN: usize = 32 * 1024;

/// Serves one receiver until it is done.
pub(super) async fn serve(shared: &Arc<Shared>, connection: &Connection) -> Result<(), ShareError> {
    let (control, mut requests) = tokio::time::timeout(GREETING_TIME_MAX, greet(shared, connection))
        .await
        .map_err(|_| ShareError::peer("does not greet in time"))??;
    shared.counters().receivers.fetch_add(1, Ordering::Relaxed);
    tracing::info!(remote = %connection.remote(), "a receiver was let in");

    let (wants, queue) = mpsc::channel::<Vec<Want>>(WANTS_AHEAD);
    let data = connection.open_uni().await.map_err(ShareError::connection)?;
    let (parts, outgoing) = mpsc::channel::<Chunk>(PARTS_AHEAD);
    let (compares, lists) = mpsc::channel::<Compare>(LISTS_AHEAD);
    let enough = Arc::new(Enough::default());
    let comparing = compare_all(shared.clone(), lists, enough.clone(), parts.clone());
    let producing = {
        let shared = shared.clone();
        tokio::task::spawn_blocking(move || producer::run(shared, queue, parts))
    };
    let listing = list(shared.clone(), control);
    let sending = send_all(data, outgoing);
    let asking = take_requests(&mut requests, wants, compares, &enough);
    // The first error drops the rest, which ends the threads behind it.
    let served = tokio::try_join!(listing, sending, asking, comparing);
    producing.await.map_err(|e| ShareError::connection(format!("reading files failed: {e}")))?;
    served?;
    // The receiver closes once it has everything.
    connection.closed().await;
    Ok(())
}

/// Proves and has proved that both sides know the secret.
async fn greet(shared: &Shared, connection: &Connection) -> Result<(SendStream, MessageReader), ShareError> {
    let (mut control, receive) = connection.accept_bi().await.map_err(ShareError::connection)?;
    let mut requests = MessageReader::new(receive);
    let expected = auth::proof(connection, &shared.secret, Role::Receiver).await?;
    let Some((kind::HELLO, hello)) = requests.next().await? else {
        return Err(ShareError::peer("does not begin with a greeting"));
    };
    let mut r = Reader::new(hello);
    let (Ok(version), Ok(proof)) = (r.u32(), r.array::<32>()) else {
        return Err(ShareError::peer("a greeting that cannot be read"));
    };
    let refusal = if version != VERSION {
        Some(ShareError::Version { theirs: version, ours: VERSION })
    } else if expected != proof {
        Some(ShareError::WrongSecret)
    } else {
        None
    };
    if let Some(error) = refusal {
        let why = message(kind::REFUSE, |out| {
            out.extend_from_slice(&VERSION.to_be_bytes());
            out.push(u8::from(matches!(error, ShareError::WrongSecret)));
        });
        control.write_all(&why).await.map_err(ShareError::connection)?;
        control.finish().map_err(ShareError::connection)?;
        // Waits until the refusal has arrived, or the connection is gone.
        let _ = control.stopped().await;
        return Err(error);
    }
    let proof = auth::proof(connection, &shared.secret, Role::Host).await?;
    let welcome = message(kind::WELCOME, |out| {
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(proof.as_bytes());
        put_bytes(out, &shared.source.name);
        out.push(u8::from(shared.source.single.is_some()));
    });
    control.write_all(&welcome).await.map_err(ShareError::connection)?;
    Ok((control, requests))
}

/// Sends the manifest as the walk finds it.
async fn list(shared: Arc<Shared>, mut control: SendStream) -> Result<(), ShareError> {
    let (batches, mut outgoing) = mpsc::channel::<Vec<u8>>(BATCHES_AHEAD);
    let walking = tokio::task::spawn_blocking(move || walk(&shared, &batches));
    while let Some(batch) = outgoing.recv().await {
        if control.write_chunk(Chunk::from(batch)).await.is_err() {
            // `ls` and receivers that have seen enough stop reading.
            break;
        }
    }
    drop(outgoing);
    let _ = control.finish();
    match walking.await {
        Ok(result) => result,
        Err(error) => Err(ShareError::connection(format!("walking the tree failed: {error}"))),
    }
}

fn walk(shared: &Shared, batches: &mpsc::Sender<Vec<u8>>) -> Result<(), ShareError> {
    let mut batch = Vec::with_capacity(BATCH_LEN + 4096);
    let mut previous = Vec::new();
    let mut entries = 0u64;
    let closed = |_| ShareError::connection("the receiver has gone");
    let flush = |batch: &mut Vec<u8>| {
        if batch.is_empty() {
            return Ok(());
        }
        let whole = message(kind::ENTRIES, |out| out.append(batch));
        batches.blocking_send(whole).map_err(closed)
    };
    scan::scan(&shared.source, &mut |found| match found {
        Found::Entry(entry) => {
            encode_entry(&mut batch, &entry, &previous);
            previous = entry.path;
            entries += 1;
            if batch.len() >= BATCH_LEN { flush(&mut batch) } else { Ok(()) }
        }
        Found::Skipped { path, why } => {
            flush(&mut batch)?;
            let skipped = message(kind::SKIPPED, |out| {
                // What lies too deep may have a path that is too long to be told in full.
                put_bytes(out, &path[..path.len().min(PATH_MAX)]);
                put_bytes(out, why.as_bytes());
            });
            batches.blocking_send(skipped).map_err(closed)
        }
    })?;
    flush(&mut batch)?;
    batches.blocking_send(message(kind::LIST_END, |out| put_varint(out, entries))).map_err(closed)
}

/// Passes requests on to the threads that read files.
async fn take_requests(
    requests: &mut MessageReader,
    wants: mpsc::Sender<Vec<Want>>,
    compares: mpsc::Sender<Compare>,
    enough: &Enough,
) -> Result<(), ShareError> {
    let mut bytes = Vec::new();
    while requests.next_batch(&mut bytes, WANTS_LEN).await? {
        let mut batch = Vec::new();
        let mut lists = Vec::new();
        for (what, body) in messages(&bytes) {
            match what {
                kind::WANT => batch.push(Want::decode(body)?),
                kind::COMPARE => lists.push(Compare::decode(body)?),
                kind::ENOUGH => enough.note(decode_id(body)?),
                _ => return Err(ShareError::peer("a message that receivers do not send")),
            }
        }
        // The readers of files may be behind: then this side does not read on, and flow control holds the receiver back.
        if !batch.is_empty() && wants.send(batch).await.is_err() {
            break;
        }
        for list in lists {
            if compares.send(list).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Lists the chunks of one file after the other, each on a thread that may wait for the disk.
async fn compare_all(
    shared: Arc<Shared>,
    mut lists: mpsc::Receiver<Compare>,
    enough: Arc<Enough>,
    parts: mpsc::Sender<Chunk>,
) -> Result<(), ShareError> {
    while let Some(compare) = lists.recv().await {
        let (shared, enough, parts) = (shared.clone(), enough.clone(), parts.clone());
        let listing = tokio::task::spawn_blocking(move || compare::run(&shared, compare, &enough, &parts));
        listing.await.map_err(|e| ShareError::connection(format!("comparing files failed: {e}")))?;
    }
    Ok(())
}

async fn send_all(mut data: SendStream, mut outgoing: mpsc::Receiver<Chunk>) -> Result<(), ShareError> {
    while let Some(chunk) = outgoing.recv().await {
        match data.write_chunk(chunk).await {
            Ok(()) => {}
            // The receiver has all that it wants.
            Err(WriteError::Stopped(_)) => return Ok(()),
            Err(error) => return Err(ShareError::connection(error)),
        }
    }
    data.finish().map_err(ShareError::connection)
}
