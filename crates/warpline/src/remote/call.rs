//! Having something done on a worker and waiting for its result.

use crate::engine::{Command, EngineError, WorkerHandle};
use std::future::{Future, poll_fn};
use std::task::Poll;
use warpline_ring::oneshot::{Reply, oneshot};

/// Runs `work` on the worker's thread and waits for what it replies. While the worker's mailbox is full, tries again
/// each time this task gets its turn. Cancelled, the work is done or not, and its result is dropped on the worker or here.
async fn call<T, F>(worker: &WorkerHandle, work: F) -> Result<T, EngineError>
where
    T: Send + 'static,
    F: FnOnce(Reply<T>) + Send + 'static,
{
    let (reply, answer) = oneshot();
    post(worker, Box::new(move || work(reply))).await?;
    answer.await.ok_or(EngineError::Stopped)
}

/// Runs `work`, whose future need not be `Send`, as a task of the worker.
pub(crate) async fn call_local<T, F, Fut>(worker: &WorkerHandle, work: F) -> Result<T, EngineError>
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    call(worker, move |reply| {
        // Off the worker the reply is dropped, which says what has to be said.
        let _ = crate::local::spawn_detached(async move { reply.send(work().await) });
    })
    .await
}

async fn post(worker: &WorkerHandle, command: Command) -> Result<(), EngineError> {
    let mut command = Some(command);
    poll_fn(|cx| {
        let Some(next) = command.take() else { return Poll::Ready(Ok(())) };
        match worker.post(next) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(rejected) if rejected.error == EngineError::Overloaded => {
                command = Some(rejected.command);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Err(rejected) => Poll::Ready(Err(rejected.error)),
        }
    })
    .await
}
