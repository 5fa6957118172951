//! What each worker counts. A worker adds up in plain variables and publishes once per turn to a padded line that only
//! it writes; readers see numbers that are at most one turn old.

use std::ops::AddAssign;
use warpline_ring::Counters;

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// Counters of one worker, or of several added up. They only grow, except for those that say "now".
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct WorkerStats {
            $($(#[$doc])* pub $field: u64,)*
        }

        const FIELDS: usize = [$(stringify!($field)),*].len();

        impl WorkerStats {
            fn to_array(self) -> [u64; FIELDS] {
                [$(self.$field),*]
            }

            fn from_array(values: [u64; FIELDS]) -> Self {
                let [$($field),*] = values;
                Self { $($field),* }
            }

            /// Names and values, for export.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($field), self.$field)),*].into_iter()
            }
        }

        impl AddAssign for WorkerStats {
            fn add_assign(&mut self, other: Self) {
                $(self.$field = self.$field.wrapping_add(other.$field);)*
            }
        }
    };
}

counters! {
    /// Turns of the loop.
    turns,
    /// Times the worker went to sleep.
    sleeps,
    /// Datagrams handled for connections of this worker.
    datagrams,
    /// GSO trains handed to the packet back end.
    trains,
    /// Bytes of these trains, UDP payload.
    sent_bytes,
    /// Datagrams that arrived here and belong to another worker.
    handed_over,
    /// Datagrams that did not fit into the ring to their owner.
    handover_dropped,
    /// Datagrams that came from other workers.
    taken_over,
    /// Connections that came from other workers.
    moved_in,
    /// Connections that went to other workers.
    moved_out,
    /// Datagrams passed on to the process that takes over the port.
    bequeathed,
    /// Panics of the protocol's code; each cost one connection.
    panics,
    /// Commands carried out for other threads.
    commands,
    /// Task polls.
    task_polls,
    /// Tasks that ended by a panic.
    task_panics,
    /// Connections closed because the accept queue was full.
    accept_refused,
    /// Nanoseconds asleep.
    asleep_ns,
    /// Times the worker asked for another one.
    growth_asked,
    /// Datagrams found at the last look at the socket and the rings, now, or as many as wait behind them where the worker does not
    /// keep up: by how long they have waited.
    queue,
    /// Running average of the time from a datagram's arrival until it is handled, in nanoseconds, now. Of a worker that does not keep
    /// up by the kernel's times of arrival; else estimated from when the worker looked: a datagram came on average in
    /// the middle between two looks.
    delay_ns,
    /// Connections now.
    connections,
    /// Connections of clients whose handshake is not done now.
    handshakes,
    /// Tasks now.
    tasks,
    /// Connections now that are here although their slots belong to other workers.
    strays,
    /// Connections that wait to be accepted now.
    accept_queue,
}

impl WorkerStats {
    /// Leaves what only grows: for a worker that is gone.
    pub(crate) fn forget_now(&mut self) {
        (self.connections, self.tasks, self.strays, self.accept_queue) = (0, 0, 0, 0);
        (self.queue, self.delay_ns, self.handshakes) = (0, 0, 0);
    }
}

/// Where a worker publishes its counters.
#[derive(Debug, Default)]
pub(crate) struct Board(Counters<FIELDS>);

impl Board {
    /// For the worker alone. Unchanged values are not written, so a reader's cache line is taken away no more often
    /// than needed.
    pub(crate) fn publish(&self, before: &WorkerStats, now: &WorkerStats) {
        for (index, (before, now)) in before.to_array().into_iter().zip(now.to_array()).enumerate() {
            if before != now {
                self.0.add(index, now.wrapping_sub(before));
            }
        }
    }

    /// For anybody.
    pub(crate) fn snapshot(&self) -> WorkerStats {
        WorkerStats::from_array(self.0.snapshot())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read() {
        let board = Board::default();
        let first = WorkerStats { turns: 3, connections: 5, ..WorkerStats::default() };
        board.publish(&WorkerStats::default(), &first);
        let second = WorkerStats { turns: 4, connections: 2, ..WorkerStats::default() };
        board.publish(&first, &second);
        assert_eq!(board.snapshot(), second);
    }

    #[test]
    fn stats_of_workers_add_up() {
        let mut sum = WorkerStats { datagrams: 1, ..WorkerStats::default() };
        sum += WorkerStats { datagrams: 2, turns: 1, ..WorkerStats::default() };
        assert_eq!((sum.datagrams, sum.turns), (3, 1));
        assert!(sum.iter().any(|(name, value)| name == "datagrams" && value == 3));
    }
}
