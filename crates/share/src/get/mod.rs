//! The receiver: fetches a share into a directory.
//!
//! One thread plans (takes the list of files, makes directories and links, decides what is there already and asks for the rest), one
//! writes (verifies what comes and puts it into place), and two tasks keep the streams moving between them. Files with an older
//! version are compared with it by a few threads more. Whatever is
//! under a final name was verified; everything else is in a directory of its own below the target.

mod boot;
mod delta;
mod finish;
mod partial;
mod pending;
mod plan;
mod target;
mod writer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use warpline::{ClientConfig, Connection, Endpoint, SendStream, TlsOptions, Trust};
use warpline_frame::Chunk;
use warpline_wire::Reader;

use self::delta::Crew;
use self::pending::Pending;
use self::target::Target;
use self::writer::Batch;
use crate::auth::{self, Role};
use crate::code::JoinCode;
use crate::error::ShareError;
use crate::limits::{GROUP_LEN, MESSAGES_AHEAD, NAME_MAX, PART_LEN};
use crate::message::{ALPN, VERSION, kind, message, take_bytes};
use crate::net::NetOptions;
use crate::progress::Progress;
use crate::stream::MessageReader;

/// How long one address of a host is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Batches of wants that wait for the network.
const WANTS_AHEAD: usize = 16;
/// Messages are handed to the threads in batches of about this length.
const BATCH_LEN: usize = 128 * 1024;
/// Groups in a part.
const GROUPS: usize = PART_LEN / GROUP_LEN;

/// Where to put a share, and how.
#[derive(Clone, Debug, Default)]
pub struct GetOptions {
    /// The directory to fetch into; `None` for the share's own name in the current directory.
    pub target: Option<PathBuf>,
    /// Files that have changed are fetched whole: their older versions are not read.
    pub whole_files: bool,
}

/// What a transfer came to.
#[derive(Clone, Debug, Default)]
pub struct GetReport {
    /// Bytes of all files of the share.
    pub bytes: u64,
    /// Files.
    pub files: u64,
    /// Entries of any kind.
    pub entries: u64,
    /// Bytes that were there already and were not sent.
    pub reused_bytes: u64,
    /// Bytes that were taken from older versions of files and were not sent.
    pub copied_bytes: u64,
    /// Bytes of files that came over the network.
    pub received_bytes: u64,
    /// Bytes of lists of chunks that came over the network, to find what older versions have.
    pub list_bytes: u64,
    /// Ranges that came wrong and were fetched again.
    pub refetched: u64,
    /// Time from the first message to the last file in place.
    pub duration: Duration,
    /// Every byte that was received matched its hash.
    pub verified: bool,
    /// Packets of this side that were lost.
    pub packets_lost: u64,
    /// Where it is.
    pub target: PathBuf,
    /// What could not be fetched or kept, with the reason: path and why.
    pub not_kept: Vec<(Vec<u8>, String)>,
    /// How many more there are than `not_kept` holds.
    pub not_kept_more: u64,
}

/// Connects to the host of a code, by the first of its addresses that answers.
///
/// # Errors
/// None of the addresses leads to the host that the code names, or a setting of `net` does not work here.
pub async fn connect(code: &JoinCode, net: &NetOptions) -> Result<(Endpoint, Connection), ShareError> {
    let trust = Trust::Fingerprint(code.fingerprint.to_vec());
    let options = TlsOptions { crypto: net.crypto, ..TlsOptions::default() };
    let config = ClientConfig::with_options(&trust, &[ALPN], &options, None)
        .and_then(|config| net.client(config))
        .map_err(ShareError::connection)?;
    let config = Arc::new(config);
    let mut failures = Vec::new();
    for address in &code.addresses {
        let any: SocketAddr = if address.is_ipv6() { ([0u16; 8], 0).into() } else { ([0u8; 4], 0).into() };
        let started = net.endpoint().bind(any).start();
        let endpoint = started.map_err(|e| ShareError::connection(format!("no socket: {e}")))?;
        let attempt = endpoint.connect(*address, "warpline", config.clone());
        match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
            Ok(Ok(connection)) => return Ok((endpoint, connection)),
            Ok(Err(error)) => failures.push(format!("{address}: {error}")),
            Err(_) => failures.push(format!("{address}: no answer")),
        }
        endpoint.close(0, b"");
    }
    Err(ShareError::Connection(format!("the host cannot be reached ({})", failures.join("; "))))
}

/// What the host says of itself once both sides have proved the secret.
#[derive(Debug)]
pub(crate) struct Welcome {
    /// The name of what is shared.
    pub(crate) name: Vec<u8>,
    /// One file is shared, not a directory.
    pub(crate) single: bool,
}

/// Greets the host and is greeted.
pub(crate) async fn greet(
    connection: &Connection,
    code: &JoinCode,
) -> Result<(SendStream, MessageReader, Welcome), ShareError> {
    let (mut control, receive) = connection.open_bi().await.map_err(ShareError::connection)?;
    let proof = auth::proof(connection, &code.secret, Role::Receiver).await?;
    let hello = message(kind::HELLO, |out| {
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(proof.as_bytes());
    });
    control.write_all(&hello).await.map_err(ShareError::connection)?;
    let mut answers = MessageReader::new(receive);
    let expected = auth::proof(connection, &code.secret, Role::Host).await?;
    let welcome = match answers.next().await? {
        Some((kind::WELCOME, body)) => read_welcome(body, &expected)?,
        Some((kind::REFUSE, body)) => return Err(read_refusal(body)),
        _ => return Err(ShareError::peer("the host does not greet")),
    };
    Ok((control, answers, welcome))
}

fn read_welcome(body: &[u8], expected: &blake3::Hash) -> Result<Welcome, ShareError> {
    let malformed = || ShareError::peer("a greeting that cannot be read");
    let mut r = Reader::new(body);
    let version = r.u32().map_err(|_| malformed())?;
    if version != VERSION {
        return Err(ShareError::Version { theirs: version, ours: VERSION });
    }
    let proof: [u8; 32] = r.array().map_err(|_| malformed())?;
    if *expected != proof {
        return Err(ShareError::WrongSecret);
    }
    let name = take_bytes(&mut r, NAME_MAX).ok_or_else(malformed)?.to_vec();
    let single = r.u8().map_err(|_| malformed())? == 1;
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        return Err(ShareError::peer("the share has a name that no file can have"));
    }
    Ok(Welcome { name, single })
}

fn read_refusal(body: &[u8]) -> ShareError {
    let mut r = Reader::new(body);
    match (r.u32(), r.u8()) {
        (Ok(_), Ok(1)) => ShareError::WrongSecret,
        (Ok(theirs), Ok(_)) => ShareError::Version { theirs, ours: VERSION },
        _ => ShareError::peer("a refusal that cannot be read"),
    }
}

/// Fetches the share behind `connection`, or what is missing of it.
///
/// # Errors
/// See [`ShareError`]; what arrived is kept, and the same call goes on from there.
pub async fn get(
    connection: &Connection,
    code: &JoinCode,
    options: &GetOptions,
    progress: &Arc<Progress>,
) -> Result<GetReport, ShareError> {
    let outcome = fetch(connection, code, options, progress).await;
    connection.close(outcome.is_err().into(), b"");
    outcome
}

/// The two threads and the streams between them and the host. Whichever of them fails, the others end: a thread that fails stops the
/// streams (`Pending::over`), and without streams the channels close under the threads.
async fn fetch(
    connection: &Connection,
    code: &JoinCode,
    options: &GetOptions,
    progress: &Arc<Progress>,
) -> Result<GetReport, ShareError> {
    let began = Instant::now();
    let (control, answers, welcome) = greet(connection, code).await?;
    let target = Arc::new(Target::open(options.target.clone(), &welcome)?);
    let pending = Arc::new(Pending::new(progress.clone()));
    let (wants, outgoing) = mpsc::channel::<Vec<u8>>(WANTS_AHEAD);
    let (batches, planned) = mpsc::channel::<Vec<u8>>(MESSAGES_AHEAD);
    let (parts, arrived) = mpsc::channel::<Batch>(MESSAGES_AHEAD);
    let (spare, spares) = std::sync::mpsc::channel::<Vec<u8>>();

    let planning = {
        let (target, pending, wants, writer) = (target.clone(), pending.clone(), wants.clone(), parts.downgrade());
        let whole_files = options.whole_files;
        tokio::task::spawn_blocking(move || {
            let _guard = StopOnPanic(&pending);
            let crew = Crew::new(&target, &pending, &wants, &writer);
            plan::run(&target, &pending, planned, &wants, crew, whole_files)
        })
    };
    let writing = {
        let (target, pending) = (target.clone(), pending.clone());
        tokio::task::spawn_blocking(move || {
            let _guard = StopOnPanic(&pending);
            writer::run(&target, &pending, arrived, &wants, &spare)
        })
    };
    let data = async {
        // The stream shows itself with its first byte, which comes once something was asked for.
        let data = connection.accept_uni().await.map_err(ShareError::connection)?;
        pump(MessageReader::new(data), parts, Some(spares), Batch::Messages).await
    };
    let streams = async { tokio::try_join!(ask(control, outgoing), pump(answers, batches, None, |b| b), data) };
    let moved = tokio::select! {
        moved = streams => moved.map(|_| ()),
        () = pending.over() => Ok(()),
    };
    let (planned, written) = tokio::join!(planning, writing);
    let joined = |e| ShareError::connection(format!("a thread failed: {e}"));
    let planned = planned.map_err(joined)?;
    let written = written.map_err(joined)?;
    // What stopped the disk explains why the streams stopped, not the other way round.
    let plan = match (planned, written, moved) {
        (Ok(plan), Ok(()), _) => plan,
        (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) if !error.is_passing() => return Err(error),
        (planned, written, moved) => {
            let cause = connection.close_reason().map(ShareError::connection).or(moved.err());
            return Err(cause.or(planned.err()).or(written.err()).unwrap_or_else(|| ShareError::connection("cut off")));
        }
    };
    let finished = {
        let (target, pending) = (target.clone(), pending.clone());
        tokio::task::spawn_blocking(move || finish::run(&target, &pending)).await.map_err(joined)?
    };
    finished?;
    let packets_lost = connection.stats().await.map_or(0, |stats| stats.packets_lost);
    let (not_kept, not_kept_more) = pending.take_not_kept();
    Ok(GetReport {
        bytes: progress.bytes_total.get(),
        files: progress.files_total.get(),
        entries: plan.entries,
        reused_bytes: progress.bytes_reused.get(),
        copied_bytes: progress.bytes_copied.get(),
        received_bytes: progress.bytes_received.get(),
        list_bytes: progress.bytes_listed.get(),
        refetched: progress.refetched.get(),
        duration: began.elapsed(),
        verified: true,
        packets_lost,
        target: target.path().to_path_buf(),
        not_kept,
        not_kept_more,
    })
}

/// Stops the transfer when the thread that holds it panics.
struct StopOnPanic<'a>(&'a Pending);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

/// Sends requests.
async fn ask(mut control: SendStream, mut wants: mpsc::Receiver<Vec<u8>>) -> Result<(), ShareError> {
    while let Some(bytes) = wants.recv().await {
        control.write_chunk(Chunk::from(bytes)).await.map_err(ShareError::connection)?;
    }
    control.finish().map_err(ShareError::connection)
}

/// Moves messages from a stream to a thread, in buffers that come back.
async fn pump<T>(
    mut messages: MessageReader,
    to: mpsc::Sender<T>,
    spares: Option<std::sync::mpsc::Receiver<Vec<u8>>>,
    wrap: fn(Vec<u8>) -> T,
) -> Result<(), ShareError> {
    loop {
        let mut batch = spares.as_ref().and_then(|s| s.try_recv().ok()).unwrap_or_default();
        if !messages.next_batch(&mut batch, BATCH_LEN).await? || to.send(wrap(batch)).await.is_err() {
            return Ok(());
        }
    }
}
