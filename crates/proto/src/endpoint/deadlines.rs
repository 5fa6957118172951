//! When which connection must be woken.
//!
//! A connection moves its deadline with nearly every packet, mostly to later. So the queues are lazy: an entry is only
//! added when a deadline comes to lie before those that are queued, and an entry that comes up early is put back at the
//! true time. In bulk transfer that is no work per packet at all. The true time is kept here, too, so that putting an entry
//! back touches nothing of the connection, whose memory no cache has any more where there are many.
//!
//! There are three queues. A connection that has sent something has a deadline within milliseconds, one that has worked
//! rests seconds later, and one that is quiet has its idle timeout, far away. Were all in one queue, each message of a
//! connection that is quiet in between would dig its deadline through the idle timeouts of all others. This way the near
//! queue is as long as there are connections with something under way, and a farther entry stays where it is while
//! nearer ones come and go.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::slots::ConnectionHandle;
use crate::time::Instant;

/// How far away the deadlines of a queue are at most. An entry that means nothing any more stays in it no longer than
/// this, so that connections whose deadlines alternate between two queues fill neither.
const REACH: [Duration; QUEUES] = [
    // Beyond nearly all probe timeouts and below all useful idle timeouts.
    Duration::from_secs(2),
    // Beyond the time after which a connection rests.
    Duration::from_secs(20),
    Duration::MAX,
];

const QUEUES: usize = 3;

/// Entries that are looked at ahead of time: the three highest levels of a heap.
const FORESEEN: usize = 7;

type Queue = BinaryHeap<Reverse<(Instant, ConnectionHandle)>>;

/// The deadline of one connection, and the entries that mean something, one in each queue at most; the far future where there
/// is none.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    due: Instant,
    queued: [Instant; QUEUES],
}

impl Default for Mark {
    fn default() -> Self {
        Self { due: Instant::FAR_FUTURE, queued: [Instant::FAR_FUTURE; QUEUES] }
    }
}

/// Where the marks are.
pub(super) trait Marks {
    /// That of a connection; `None` if it is gone.
    fn mark(&mut self, handle: ConnectionHandle) -> Option<&mut Mark>;
}

/// The queues of deadlines, the nearest first.
#[derive(Default)]
pub(super) struct Deadlines([Queue; QUEUES]);

impl Deadlines {
    /// The connection's earliest deadline is `due`.
    pub(super) fn schedule(
        &mut self,
        now: Instant,
        handle: ConnectionHandle,
        due: Option<Instant>,
        marks: &mut impl Marks,
    ) {
        let Some(mark) = marks.mark(handle) else { return };
        mark.due = due.unwrap_or(Instant::FAR_FUTURE);
        let Some(at) = due else { return };
        if mark.queued.iter().any(|queued| *queued <= at) {
            return;
        }
        let queue = REACH.iter().take_while(|reach| at - now > **reach).count();
        mark.queued[queue] = at;
        self.0[queue].push(Reverse((at, handle)));
    }

    /// The next connection whose deadline has passed. It may have been told of a later one since, or be gone.
    pub(super) fn pop_due(&mut self, now: Instant, marks: &mut impl Marks) -> Option<ConnectionHandle> {
        loop {
            let firsts = self.0.iter().enumerate().filter_map(|(number, queue)| Some((queue.peek()?.0, number)));
            let ((at, handle), number) = firsts.min().filter(|((at, _), _)| *at <= now)?;
            self.0[number].pop();
            // Entries of connections that are gone, and those that an earlier one has replaced, mean nothing.
            let Some(mark) = marks.mark(handle) else { continue };
            if mark.queued[number] != at {
                continue;
            }
            mark.queued[number] = Instant::FAR_FUTURE;
            let due = mark.due;
            if due <= now {
                mark.due = Instant::FAR_FUTURE;
                return Some(handle);
            }
            self.schedule(now, handle, Some(due).filter(|due| *due != Instant::FAR_FUTURE), marks);
        }
    }

    /// Of some of the connections whose near deadlines come first, those with entries that are due.
    #[inline]
    pub(super) fn first_due(&self, now: Instant) -> impl Iterator<Item = ConnectionHandle> + '_ {
        // Which lie at the beginning of a heap.
        let first = self.0[0].as_slice().iter().take(FORESEEN);
        first.filter(move |Reverse((at, _))| *at <= now).map(|Reverse((_, handle))| *handle)
    }

    /// The earliest entry.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().filter_map(|queue| queue.peek()).map(|Reverse((at, _))| *at).min()
    }

    /// Entries, those included that mean nothing any more.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(BinaryHeap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const IDLE: u64 = 30_000 * MS;

    fn handle(index: u32) -> ConnectionHandle {
        ConnectionHandle { index, generation: 7 }
    }

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    /// Marks of the connections that live, by index.
    #[derive(Default)]
    struct Table(std::collections::BTreeMap<u32, (u32, Mark)>);

    impl Marks for Table {
        fn mark(&mut self, handle: ConnectionHandle) -> Option<&mut Mark> {
            let known = self.0.entry(handle.index).or_insert((handle.generation, Mark::default()));
            if known.0 < handle.generation {
                *known = (handle.generation, Mark::default());
            }
            (known.0 == handle.generation).then_some(&mut known.1)
        }
    }

    #[test]
    fn connections_that_speak_now_and_then_leave_nothing_behind() {
        // Each has a probe timeout for 30 ms after its message, and its idle timeout otherwise.
        const COUNT: u32 = 100;
        let (mut deadlines, mut marks) = (Deadlines::default(), Table::default());
        let mut due = vec![0; COUNT as usize];
        let mut woken = 0;
        for step in 0..20_000u64 {
            let (now, speaks) = (step * MS, (step % u64::from(COUNT)) as u32);
            due[speaks as usize] = now + 30 * MS;
            deadlines.schedule(at(now), handle(speaks), Some(at(now + 30 * MS)), &mut marks);
            while let Some(handle) = deadlines.pop_due(at(now), &mut marks) {
                woken += 1;
                assert!(due[handle.index()] <= now, "nobody is woken early");
                due[handle.index()] = now + IDLE;
                deadlines.schedule(at(now), handle, Some(at(now + IDLE)), &mut marks);
            }
            assert!(deadlines.len() <= 2 * COUNT as usize, "{} entries after {step} messages", deadlines.len());
        }
        assert_eq!(woken, 20_000 - 30, "each message's timeout, the last ones' excepted");
    }

    #[test]
    fn connections_that_work_and_rest_again_and_again_leave_nothing_behind() {
        // Each works for a moment every 12 seconds, for hours, rests ten seconds later, and has its idle timeout in an hour.
        const COUNT: u32 = 10;
        let (mut deadlines, mut marks) = (Deadlines::default(), Table::default());
        let mut rests = [u64::MAX; COUNT as usize];
        for second in 0..20_000u64 {
            let now = at(second * 1_000 * MS);
            if second % 12 < 2 {
                for index in (0..COUNT).filter(|index| u64::from(*index) % 2 == second % 12) {
                    deadlines.schedule(now, handle(index), Some(now + Duration::from_millis(30)), &mut marks);
                    deadlines.schedule(now, handle(index), Some(now + Duration::from_secs(10)), &mut marks);
                    rests[index as usize] = second + 10;
                }
            }
            while let Some(handle) = deadlines.pop_due(now, &mut marks) {
                assert_eq!(
                    std::mem::replace(&mut rests[handle.index()], u64::MAX),
                    second,
                    "nobody is woken early, or late"
                );
                deadlines.schedule(now, handle, Some(now + Duration::from_secs(3_600)), &mut marks);
            }
            assert!(deadlines.len() <= 4 * COUNT as usize, "{} entries after {second} seconds", deadlines.len());
        }
        assert!(rests.iter().all(|rest| *rest > 19_000), "none was forgotten");
    }

    #[test]
    fn a_deadline_that_moves_with_every_packet_has_one_entry() {
        let (mut deadlines, mut marks) = (Deadlines::default(), Table::default());
        for ms in 0..1_000 {
            deadlines.schedule(at(ms * MS), handle(0), Some(at((ms + 30) * MS)), &mut marks);
            assert_eq!(deadlines.pop_due(at(ms * MS), &mut marks), None);
            assert_eq!(deadlines.len(), 1);
        }
        assert_eq!(deadlines.pop_due(at(1_029 * MS), &mut marks), Some(handle(0)));
        deadlines.schedule(at(1_029 * MS), handle(0), Some(at(1_030 * MS)), &mut marks);
        deadlines.schedule(at(1_029 * MS), handle(0), None, &mut marks);
        assert_eq!(deadlines.pop_due(at(2_000 * MS), &mut marks), None, "there is none any more");
    }

    #[test]
    fn deadlines_come_in_their_order_from_all_queues() {
        let times = [5, 40_000, 1, 3_000, 1_999, 20, 2_001, 20_001, 19_999];
        let (mut deadlines, mut marks) = (Deadlines::default(), Table::default());
        for (index, ms) in (0..).zip(times) {
            deadlines.schedule(at(0), handle(index), Some(at(ms * MS)), &mut marks);
        }
        let mut sorted = times;
        sorted.sort_unstable();
        for ms in sorted {
            assert_eq!(deadlines.next(), Some(at(ms * MS)));
            assert_eq!(deadlines.pop_due(at(ms * MS - 1), &mut marks), None);
            let found = deadlines.pop_due(at(ms * MS), &mut marks);
            assert_eq!(found.map(|handle| times[handle.index()]), Some(ms));
        }
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn what_is_due_is_foreseen() {
        let (mut deadlines, mut marks) = (Deadlines::default(), Table::default());
        for index in 0..20 {
            deadlines.schedule(at(0), handle(index), Some(at(u64::from(index) * MS)), &mut marks);
        }
        let mut foreseen: Vec<_> = deadlines.first_due(at(MS)).collect();
        foreseen.sort_unstable();
        assert_eq!(foreseen, [handle(0), handle(1)]);
        assert_eq!(deadlines.first_due(at(20 * MS)).count(), FORESEEN);
        assert!(foreseen.into_iter().eq([(); 2].map(|()| deadlines.pop_due(at(MS), &mut marks).unwrap())));
    }

    #[test]
    fn a_connection_that_took_the_place_of_another_has_deadlines_of_its_own() {
        let (old, new) = (handle(0), ConnectionHandle { index: 0, generation: 8 });
        let (mut deadlines, mut marks) = (Deadlines::default(), Table::default());
        deadlines.schedule(at(0), old, Some(at(IDLE)), &mut marks);
        deadlines.schedule(at(0), old, Some(at(10 * MS)), &mut marks);
        deadlines.schedule(at(0), new, Some(at(20 * MS)), &mut marks);
        assert_eq!(deadlines.pop_due(at(20 * MS), &mut marks), Some(new), "the old one is not woken");
        assert_eq!(deadlines.pop_due(at(2 * IDLE), &mut marks), None);
        assert_eq!(deadlines.len(), 0);
    }
}
