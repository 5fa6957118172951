//! What other threads want of a worker: commands, and wake-ups of its tasks.

use crate::error::EngineError;
use crate::exec::TaskKey;
use crate::limits::{COMMANDS_MAX, WAKES_MAX};
use std::fmt;
use std::sync::Arc;
use warpline_ring::Flag;
use warpline_ring::mailbox::{Receiver, SendError, Sender, mailbox};

/// Something to be done on the worker's thread, in the worker's context.
pub type Command = Box<dyn FnOnce() + Send>;

/// Ends the sleep of a worker, or keeps its next one from beginning.
pub(crate) type Ring = Box<dyn Fn() + Send + Sync>;

/// The way into a worker, for any thread. Clones share the two queues and the bell.
#[derive(Clone)]
pub(crate) struct Mailbox {
    commands: Sender<Command>,
    wakes: Sender<TaskKey>,
    shared: Arc<Shared>,
}

struct Shared {
    ring: Ring,
    /// A wake-up did not fit: the worker has to poll every task.
    overflow: Flag,
}

/// The worker's side.
pub(crate) struct Inbox {
    commands: Receiver<Command>,
    wakes: Receiver<TaskKey>,
    shared: Arc<Shared>,
}

/// A command that was not taken.
pub struct Rejected {
    /// The command, to be tried again.
    pub command: Command,
    /// [`EngineError::Overloaded`], which passes, or [`EngineError::Stopped`], which does not.
    pub error: EngineError,
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected").field("error", &self.error).finish_non_exhaustive()
    }
}

impl Mailbox {
    /// A mailbox and its worker's side.
    pub(crate) fn new(ring: Ring) -> (Self, Inbox) {
        let shared = Arc::new(Shared { ring, overflow: Flag::new(false) });
        let (commands, command_inbox) = mailbox(COMMANDS_MAX);
        let (wakes, wake_inbox) = mailbox(WAKES_MAX);
        let inbox = Inbox { commands: command_inbox, wakes: wake_inbox, shared: Arc::clone(&shared) };
        (Self { commands, wakes, shared }, inbox)
    }

    /// Has the worker carry out `command`.
    pub(crate) fn command(&self, command: Command) -> Result<(), Rejected> {
        match self.commands.send(command) {
            // Whoever put the first message into an empty mailbox rings for all that follow.
            Ok(first) => {
                if first {
                    self.ring();
                }
                Ok(())
            }
            Err(SendError::Full(command)) => {
                self.ring();
                Err(Rejected { command, error: EngineError::Overloaded })
            }
            Err(SendError::Closed(command)) => Err(Rejected { command, error: EngineError::Stopped }),
        }
    }

    /// Has the worker poll a task.
    pub(crate) fn wake_task(&self, key: TaskKey) {
        match self.wakes.send(key) {
            Ok(first) => {
                if first {
                    self.ring();
                }
            }
            Err(SendError::Full(_)) => {
                self.shared.overflow.raise();
                self.ring();
            }
            // The worker has ended, and its tasks with it.
            Err(SendError::Closed(_)) => {}
        }
    }

    /// Has the worker look at its queues.
    pub(crate) fn ring(&self) {
        (self.shared.ring)();
    }
}

impl Inbox {
    /// Hands all wake-ups to `wake`. `true` means that there were more than fit: every task is to be polled.
    #[inline]
    pub(crate) fn take_wakes(&mut self, wake: impl FnMut(TaskKey)) -> bool {
        self.wakes.drain().for_each(wake);
        self.shared.overflow.take_if_seen()
    }

    /// Carries out all commands and says how many there were.
    #[inline]
    pub(crate) fn run_commands(&mut self, mut run: impl FnMut(Command)) -> usize {
        self.commands.drain().map(&mut run).count()
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}
