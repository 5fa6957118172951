//! Every bound of the engine, with its reason.

use std::time::Duration;

/// Workers of one engine. Far more than cores of any machine, far fewer than partition slots (1,021), so that slots
/// always spread evenly.
pub const WORKERS_MAX: usize = 128;

/// Workers whose threads run, those included that only finish their work after they were removed.
pub const WORKER_NUMBERS: usize = 2 * WORKERS_MAX;

/// Datagrams that may wait in the ring from one worker to another. Hand-over is the exception (steering did not match,
/// or a slot moved); one full receive batch of each turn fits twice.
pub const HANDOVER_LEN: usize = 1_024;

/// Task polls per turn. A poll that does work takes about a microsecond, a look at an empty socket about the same. What
/// the tasks of a turn send leaves at its end, so a peer that waits for a hundred answers begins on the first third
/// while the rest is made (measured with 100 requests in flight: 256 polls 0.7 million a second, 32 polls 0.8 million).
pub const TASK_BUDGET: usize = 32;

/// Commands that may wait in the mailbox of a worker, about 100 KiB of memory. Each belongs to one operation in progress
/// on another thread; a worker takes all of them every turn.
pub const COMMANDS_MAX: usize = 4_096;

/// Wake-ups from other threads that may wait for a worker. Beyond it the worker polls every task once instead, so none
/// is lost.
pub const WAKES_MAX: usize = 4_096;

/// Connections whose handshake is done and that the program has not accepted yet, per worker.
pub const ACCEPT_BACKLOG: usize = 4_096;

/// Bytes of transmit buffers filled per turn before the worker looks at the socket again: 16 GSO trains, about half a
/// millisecond. Smaller trains count as full ones, so that a flood of single packets does not starve reception either.
pub const BYTES_PER_TURN: usize = 16 * 65_408;

/// What a buffer counts at least: where packets are built one by one (AF_XDP) a turn sends 256 of them.
pub const TRAIN_COST_MIN: usize = 4096;

/// Time that handling the datagrams of handshakes may take before what they led to is sent, in the middle of a turn. A step
/// of a handshake takes some 100 µs, and refusing one a microsecond: those go out in batches.
pub const SEND_EARLY: Duration = Duration::from_micros(30);

/// Headers of tasks that have ended which are kept for the next ones: 100 bytes each.
pub const SPARE_HEADERS: usize = 1_024;

/// How long a worker sleeps at most when nothing is due. It guards against nothing in particular: a lost wake-up would
/// show as this delay instead of a hang.
pub const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How long a worker looks again before it sleeps, where that has paid. Waking up takes 10 to 30 µs on virtual machines
/// (measured: 68 µs a request without, 12 µs with spinning on both sides of a loopback).
pub const SPIN: Duration = Duration::from_micros(50);

/// A batch of more datagrams than this may be bulk data, after which a worker does not spin.
pub const SPIN_DATAGRAMS_MAX: u64 = 32;

/// It is not bulk data where this many bytes went out for each datagram that came: more than acknowledgements.
pub const SPIN_ANSWER_MIN: u64 = 16;

/// How long a connection that its program has let go of may take to deliver the rest of its finished streams.
pub const LINGER: Duration = Duration::from_secs(10);

/// How long shutting down waits for peers that do not answer the close.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// Tasks that wait for the same event of a connection before all of them are woken to see which still wait. More than
/// any program has; waiters that gave up leave their wakers behind and must not pile up.
pub const WAITERS_MAX: usize = 256;

/// Datagrams that wait beside a full ring to another worker, while connections that move fill it: about 8 MiB of frames.
/// Connections and what is said of them wait without a bound, since there are no more of them than there are.
pub const OVERFLOW_PACKETS: usize = 4_096;

/// Datagrams that a new owner of slots keeps until it may act for them. That takes a few turns of all workers, some
/// milliseconds; at 1 million datagrams a second 8,192 of them are 8 ms.
pub const HELD_PACKETS: usize = 8_192;

/// How often a datagram is passed on between workers: to the owner of its slot, from there to the worker that holds the
/// connection, and once more for each of two changes meanwhile. More means that it goes round in circles.
pub const HOPS_MAX: u8 = 4;

/// Slots that move in one change. A change stops the slots that move, for some turns and the time that it takes to hand
/// their connections over (below a microsecond each); with 100,000 connections these are about 12,500.
pub const SLOTS_PER_CHANGE: usize = 128;

/// How long the coordinator waits for a removed worker to end where only that makes room for a new one (AF_XDP). One without
/// connections of its own takes some milliseconds; one that programs keep may take any time.
pub const ROOM_WAIT: Duration = Duration::from_secs(1);

/// How long one process waits for the other's answer when it takes over a port. The answers take microseconds; the workers of
/// the other one may be in the middle of a change.
pub const RESTART_ANSWER: Duration = Duration::from_secs(10);

/// Datagrams from the process before this one that are taken at a look: as many as the socket between them holds.
pub const BEQUESTS_PER_LOOK: usize = 256;

/// Panics outside of any connection's code after which a worker gives up instead of going on.
pub const PANICS_MAX: u64 = 16;

/// Running average of the time from arrival to handling above which a worker accepts no further connections; beyond half of
/// it clients must prove their addresses. A handshake that waits so long at every step takes seconds, and clients begin to
/// repeat theirs; connections that there are suffer from every one that is added.
pub const SHED_DELAY: Duration = Duration::from_millis(200);

/// The share of a new sample in the running averages of delays and of the time that a datagram takes: 1/16, so that they follow
/// within some dozen turns.
pub const AVERAGE_SHARE: u32 = 16;

/// How often a worker that is pressed says so, at most. The coordinator looks about as often.
pub const ASK_EVERY: Duration = Duration::from_millis(500);

/// Trains whose connections' memory is fetched before they are handled. Each connection is some 4 KiB of cache lines, of which the
/// second-level cache holds many; the slowest step, from memory, takes as long as one or two datagrams.
pub(crate) const AHEAD: usize = 4;

/// Tasks whose memory is fetched before they are polled: their place, and what that points to. Polls are short, so that one ahead would
/// still be waited for.
pub(crate) const TASKS_AHEAD: usize = 3;
