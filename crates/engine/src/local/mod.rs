//! Handles for programs that run inside a worker: no thread is crossed, no byte is copied, futures need not be `Send`.
//!
//! A handle is a key: the connection's (and the stream's) name, looked up in the worker whose thread this is. Handles
//! count: the last one of a connection, its streams included, closes the connection, after what was finished has been
//! delivered. Used on any other thread, every operation fails with [`EngineError::OffWorker`].
//!
//! Every `async fn` here may be cancelled at an await without losing anything, unless its documentation says so.

mod connection;
mod early;
mod hold;
mod recv;
mod send;
mod time;
mod worker;

pub use crate::exec::{JoinError, JoinHandle};
pub use crate::worker::ConnectionKey;
pub use connection::{Connection, SendDatagramError};
pub use hold::{Hold, Pinned, Roaming};
pub use recv::RecvStream;
pub use send::SendStream;
pub use time::{Elapsed, Sleep, now, sleep, sleep_until, timeout};
pub use worker::Worker;

use crate::cx;
use crate::error::EngineError;
use std::future::Future;
use std::rc::Rc;

/// Starts a task on the worker of the calling thread.
///
/// # Errors
/// [`EngineError::OffWorker`] on a thread that is no worker.
pub fn spawn<F>(future: F) -> Result<JoinHandle<F::Output>, EngineError>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let exec = cx::with(|cx| Rc::clone(&cx.exec))?;
    Ok(exec.spawn(future))
}

/// Starts a task whose result nobody waits for. A panic ends it and goes to the log.
///
/// # Errors
/// [`EngineError::OffWorker`] on a thread that is no worker.
pub fn spawn_detached<F>(future: F) -> Result<(), EngineError>
where
    F: Future<Output = ()> + 'static,
{
    let exec = cx::with(|cx| Rc::clone(&cx.exec))?;
    exec.spawn_detached(future);
    Ok(())
}

/// Starts a task that belongs to a connection and goes where it goes: when the connection moves to another worker, the
/// task moves with it and is polled there. The future may use [roaming](Roaming) handles of this connection and of its
/// streams, and no other local handles; a panic ends it and goes to the log.
///
/// # Errors
/// [`EngineError::OffWorker`] on a thread that is no worker.
pub fn spawn_roaming<F>(connection: ConnectionKey, future: F) -> Result<(), EngineError>
where
    F: Future<Output = ()> + Send + 'static,
{
    let exec = cx::with(|cx| Rc::clone(&cx.exec))?;
    exec.spawn_roaming(connection.id(), Box::pin(future));
    Ok(())
}

/// Lets the other tasks and the socket have a turn.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
