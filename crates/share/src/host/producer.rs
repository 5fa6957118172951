//! Reads what receivers want, hashes it, and hands it to the transport: each byte is read once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use warpline_fiber::{Builder, StackClass, Wait};
use warpline_frame::{Chunk, Frame, Pool, PoolConfig};

use super::Shared;
use super::ahead::{Ahead, Content, Fetched};
use super::open::{Open, Stop};
use crate::hash::{self, Value};
use crate::limits::{GROUP_LEN, PART_LEN, PARTS_AHEAD};
use crate::message::{Want, kind, put_bytes, put_varint};

/// Messages are gathered in buffers of this size: one part with its values and extents, or hundreds of small files.
const BUFFER_LEN: usize = PART_LEN + 128 * 1024;
/// Buffers: those that wait for the transport, those that wait for acknowledgement, and the one being filled.
const BUFFERS: usize = PARTS_AHEAD + 8;

/// Serves wants until the receiver asks for no more.
pub(super) fn run(shared: Arc<Shared>, wants: mpsc::Receiver<Vec<Want>>, parts: mpsc::Sender<Chunk>) {
    let scheduler = match shared.reading.scheduler() {
        Ok(scheduler) => scheduler,
        Err(error) => return tracing::error!(%error, "files cannot be read"),
    };
    let serving = Builder::new().name("share").stack(StackClass::Large).spawn(move || match Output::new(parts) {
        Ok(out) => serve_all(&shared, Ahead::new(shared.clone(), wants), out),
        Err(error) => tracing::error!(%error, "no memory to read files into"),
    });
    scheduler
        .block_on(serving.expect("a new scheduler has room for a fiber"))
        .expect("the fiber is not cancelled, and its panics are the thread's");
}

fn serve_all(shared: &Shared, mut wants: Ahead, mut out: Output) {
    loop {
        let Some(fetched) = wants.next() else {
            // What is gathered goes out before this thread waits for more.
            if out.flush().is_err() || !wants.wait() {
                return;
            }
            continue;
        };
        shared.counters().wants.fetch_add(1, Ordering::Relaxed);
        let id = fetched.want.id;
        let told = match serve(shared, fetched, &mut out) {
            Ok(root) => out.served(id, root),
            Err(Stop::Gone) => return,
            Err(Stop::Failed(why)) => out.failed(id, &why),
        };
        if told.is_err() {
            return;
        }
    }
}

/// Sends what is wanted of one file; returns the file's hash when all of it was read, or when that was asked for.
fn serve(shared: &Shared, fetched: Fetched, out: &mut Output) -> Result<Option<Value>, Stop> {
    let Fetched { want, file, content } = fetched;
    let (file, stat) = file?;
    let mut file = Open::new(shared, want, file, &stat);
    let (mut at, end) = (file.want.start, file.want.end);
    while at < end {
        let len = (end - at).min(PART_LEN as u64 - at % PART_LEN as u64) as usize;
        send_part(&mut file, at, len, content.as_ref(), out)?;
        shared.counters().bytes.fetch_add(len as u64, Ordering::Relaxed);
        at += len as u64;
    }
    let whole = file.want.start == 0 && file.want.end == file.want.size;
    let root = if whole || file.want.also.root { Some(file.root(|| out.is_closed())?) } else { None };
    file.unchanged()?;
    Ok(root)
}

/// Sends a part, or what is wanted of it: from what was read ahead, which is all that is wanted then, or from the file.
fn send_part(
    file: &mut Open<'_>,
    start: u64,
    len: usize,
    content: Option<&Content>,
    out: &mut Output,
) -> Result<(), Stop> {
    let extents = match content {
        Some(content) => content.extents.clone(),
        None => file.extents(start, len)?,
    };
    let data_len: usize = extents.iter().map(|(_, len)| *len as usize).sum();
    let groups = len.div_ceil(GROUP_LEN);
    let mut head = Vec::with_capacity(64 + groups * 32 + extents.len() * 6);
    head.extend_from_slice(&[0, 0, 0, 0, kind::PART]);
    put_varint(&mut head, file.want.id);
    put_varint(&mut head, start);
    put_varint(&mut head, len as u64);
    let values_at = head.len();
    head.resize(values_at + groups * 32, 0);
    put_varint(&mut head, extents.len() as u64);
    for (at, len) in &extents {
        put_varint(&mut head, u64::from(*at));
        put_varint(&mut head, u64::from(*len));
    }
    let message_len = (head.len() + data_len - 4) as u32;
    head[..4].copy_from_slice(&message_len.to_be_bytes());
    let room = out.room(head.len() + data_len).map_err(|()| Stop::Gone)?;
    let (head_room, data) = room.split_at_mut(head.len());
    match content {
        Some(content) => data.copy_from_slice(content.data()),
        None => file.read_extents(start, &extents, data)?,
    }
    let values = file.values(start, len, &extents, data);
    for (slot, value) in head[values_at..].chunks_exact_mut(32).zip(&values) {
        slot.copy_from_slice(value);
    }
    head_room.copy_from_slice(&head);
    out.commit(head.len() + data_len);
    let size = file.want.size;
    if start.is_multiple_of(PART_LEN as u64) && (len == PART_LEN || start + len as u64 == size) {
        file.parts.push(hash::part_value(&values, size <= PART_LEN as u64));
    }
    Ok(())
}

/// Messages on their way to the transport, gathered in frames that come back when they are acknowledged.
struct Output {
    pool: Pool,
    frame: Option<Frame>,
    filled: usize,
    parts: mpsc::Sender<Chunk>,
}

impl Output {
    fn new(parts: mpsc::Sender<Chunk>) -> std::io::Result<Self> {
        let pool = Pool::new(PoolConfig { frame_size: BUFFER_LEN, frames: BUFFERS, huge_pages: false })?;
        Ok(Self { pool, frame: None, filled: 0, parts })
    }

    /// `len` bytes to write to; `commit` makes them part of what is sent.
    fn room(&mut self, len: usize) -> Result<&mut [u8], ()> {
        if self.filled + len > BUFFER_LEN {
            self.flush()?;
        }
        if self.frame.is_none() {
            // The pool holds more frames than the channel and the transport's send buffer keep; should it be empty all the same,
            // memory of the heap takes a frame's place.
            let mut frame = self.pool.take().unwrap_or_else(|| Frame::from_vec(vec![0; BUFFER_LEN]));
            frame.set_len(BUFFER_LEN);
            self.frame = Some(frame);
        }
        let frame = self.frame.as_mut().ok_or(())?;
        Ok(&mut frame[self.filled..self.filled + len])
    }

    /// The receiver has gone.
    fn is_closed(&self) -> bool {
        self.parts.is_closed()
    }

    fn commit(&mut self, len: usize) {
        self.filled += len;
    }

    fn flush(&mut self) -> Result<(), ()> {
        let filled = std::mem::take(&mut self.filled);
        if filled == 0 {
            return Ok(());
        }
        let Some(mut frame) = self.frame.take() else { return Ok(()) };
        frame.truncate(filled);
        self.parts.send(frame.freeze()).wait().map_err(|_| ())
    }

    fn served(&mut self, id: u64, root: Option<Value>) -> Result<(), ()> {
        self.push(&crate::message::message(kind::SERVED, |out| {
            put_varint(out, id);
            if let Some(root) = root {
                out.extend_from_slice(&root);
            }
        }))
    }

    fn failed(&mut self, id: u64, why: &str) -> Result<(), ()> {
        self.push(&crate::message::message(kind::FAILED, |out| {
            put_varint(out, id);
            put_bytes(out, why.as_bytes());
        }))
    }

    fn push(&mut self, message: &[u8]) -> Result<(), ()> {
        self.room(message.len())?.copy_from_slice(message);
        self.commit(message.len());
        Ok(())
    }
}
