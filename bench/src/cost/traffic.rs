//! What servers and clients do to show [what a packet costs](super): messages and their echoes, or requests and answers.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use warpline::local::{self, Connection, RecvStream, Worker};
use warpline::{Chunk, ClientConfig};

use super::Pace;

/// Handshakes at a time.
const CONNECTING: usize = 32;

/// How long an echo may take before its message counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);

const MESSAGE: [u8; 64] = [0x5a; 64];

/// What requests are answered with is cut from this.
static ANSWER: [u8; 65_536] = [0xa5; 65_536];

/// The longest answer.
pub(super) const ANSWER_MAX: usize = ANSWER.len();

/// What a client does in a round.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) messages: usize,
    pub(super) pace: Pace,
    pub(super) window: usize,
    pub(super) burst: usize,
    /// Bytes that a request is answered with; with none messages are echoed.
    pub(super) answer: usize,
}

/// A round to be run, and where the number of lost messages goes.
pub(super) type Order = (Load, oneshot::Sender<usize>);

/// A server's side that sends messages back.
pub(super) async fn echo(connection: Connection) {
    while let Ok(datagram) = connection.recv_datagram().await {
        if connection.send_datagram(datagram).await.is_err() {
            return;
        }
    }
}

/// A server's side that answers requests, each a stream on which eight bytes say how many are wanted.
pub(super) async fn answer(connection: Connection) {
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        let Ok(request) = recv.read_to_end(MESSAGE.len()).await else { return };
        let wanted = request.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes) as usize);
        let answer = ANSWER.get(..wanted).unwrap_or_default();
        if send.write_chunk(Chunk::from_static(answer)).await.is_err() || send.finish().is_err() {
            return;
        }
    }
}

/// Asks for that many bytes.
async fn ask(connection: &Connection, bytes: usize) -> Option<RecvStream> {
    let (mut send, recv) = connection.open_bi().await.ok()?;
    let mut request = MESSAGE;
    request[..8].copy_from_slice(&(bytes as u64).to_le_bytes());
    send.write_all(&request).await.ok()?;
    send.finish().ok()?;
    Some(recv)
}

/// Waits for the answer; whether it came, all of it.
async fn complete(mut recv: RecvStream, bytes: usize) -> bool {
    let read = async {
        let mut len = 0;
        while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX).await {
            len += chunk.len();
        }
        len
    };
    local::timeout(PATIENCE, read).await == Ok(bytes)
}

/// Waits for the echo; whether it came.
async fn answered(connection: &Connection) -> bool {
    matches!(local::timeout(PATIENCE, connection.recv_datagram()).await, Ok(Ok(_)))
}

/// The client's side of a pair: connects, says so, and runs rounds as long as they are asked for.
pub(super) async fn drive(
    worker: Worker,
    (to, config): (std::net::SocketAddr, Arc<ClientConfig>),
    count: usize,
    ready: oneshot::Sender<Result<(), String>>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let connections = Rc::new(std::cell::RefCell::new(Vec::with_capacity(count)));
    let mut tasks = Vec::new();
    let left = Rc::new(Cell::new(count));
    for _ in 0..CONNECTING.min(count) {
        let (worker, config, left, connections) =
            (worker.clone(), Arc::clone(&config), Rc::clone(&left), Rc::clone(&connections));
        tasks.push(local::spawn(async move {
            while left.get() > 0 {
                left.set(left.get() - 1);
                let connection = worker.connect(Arc::clone(&config), to, "localhost").await;
                connections.borrow_mut().push(connection.map_err(|error| error.to_string())?);
            }
            Ok::<_, String>(())
        }));
    }
    let mut result = Ok(());
    for task in tasks {
        result = match task {
            Ok(task) => result.and(task.await.unwrap_or_else(|error| Err(error.to_string()))),
            Err(error) => Err(error.to_string()),
        };
    }
    // The program waits for it.
    let _ = ready.send(result);
    let connections: Rc<Vec<Connection>> = Rc::new(connections.take());
    let turn = Rc::new(Cell::new(0));
    while let Some((load, done)) = orders.recv().await {
        let lost = match load.pace {
            _ if load.answer > 0 => requests(&connections, &turn, load).await,
            Pace::Steps => steps(&connections, &turn, load).await,
            Pace::Flow => flow(&connections, &turn, load).await,
        };
        let _ = done.send(lost);
    }
}

/// The connection whose turn it is.
fn next<'a>(connections: &'a [Connection], turn: &Cell<usize>) -> &'a Connection {
    let at = turn.get();
    turn.set((at + 1) % connections.len());
    &connections[at]
}

/// A round in steps; how many messages were lost.
async fn steps(connections: &[Connection], turn: &Cell<usize>, load: Load) -> usize {
    let (mut left, mut lost) = (load.messages, 0);
    let mut asked = Vec::with_capacity(load.window);
    while left > 0 {
        for _ in 0..load.window.min(left) {
            left -= 1;
            let connection = next(connections, turn);
            if connection.send_datagram(Chunk::from_static(&MESSAGE)).await.is_ok() {
                asked.push(connection);
            } else {
                lost += 1;
            }
        }
        for connection in asked.drain(..) {
            lost += usize::from(!answered(connection).await);
        }
        // What is left to be acknowledged is due at the next turn and leaves at its end; the turn after that is the next step's.
        for _ in 0..2 {
            let _ = local::sleep(Duration::from_nanos(1)).await;
        }
    }
    lost
}

/// A round in which each exchange begins the next one; how many messages were lost.
async fn flow(connections: &Rc<Vec<Connection>>, turn: &Rc<Cell<usize>>, load: Load) -> usize {
    let (left, lost) = (Rc::new(Cell::new(load.messages)), Rc::new(Cell::new(0)));
    let tasks = (0..load.window.min(connections.len())).map(|_| {
        let (connections, turn) = (Rc::clone(connections), Rc::clone(turn));
        let (left, lost) = (Rc::clone(&left), Rc::clone(&lost));
        local::spawn(async move {
            while left.get() > 0 {
                let connection = next(&connections, &turn);
                for _ in 0..load.burst {
                    left.set(left.get().saturating_sub(1));
                    let sent = connection.send_datagram(Chunk::from_static(&MESSAGE)).await.is_ok();
                    lost.set(lost.get() + usize::from(!(sent && answered(connection).await)));
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>().into_iter().flatten() {
        // A panic shows as messages that never came.
        let _ = task.await;
    }
    lost.get()
}

/// A round of requests in steps; how many got no answer.
async fn requests(connections: &[Connection], turn: &Cell<usize>, load: Load) -> usize {
    let (mut left, mut lost) = (load.messages, 0);
    let mut asked = Vec::with_capacity(load.window);
    while left > 0 {
        for _ in 0..load.window.min(left) {
            left -= 1;
            match ask(next(connections, turn), load.answer).await {
                Some(stream) => asked.push(stream),
                None => lost += 1,
            }
        }
        for stream in asked.drain(..) {
            lost += usize::from(!complete(stream, load.answer).await);
        }
        for _ in 0..2 {
            let _ = local::sleep(Duration::from_nanos(1)).await;
        }
    }
    lost
}
