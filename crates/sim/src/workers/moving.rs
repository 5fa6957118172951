//! Slots that move between the endpoints of a host, in the steps of an engine: the new owner of a slot holds what comes for it,
//! the old one hands its connections over, the new one takes them and begins with what it has held.

use std::time::Duration;

use warpline_frame::Frame;
use warpline_proto::{DatagramMeta, Detached, Endpoint};
use warpline_wire::cid::{self, Layout, PARTITION_SLOTS};
use warpline_wire::header;

use super::ConnectionKey;
use crate::{Instant, Rng};

/// Changes in a row without a datagram. More would go on for ever once everything is over.
const QUIET_CHANGES_MAX: u32 = 20;

/// Time between two changes is at least this.
const REST_MIN: Duration = Duration::from_micros(100);

/// How slots move between the endpoints of a host.
#[derive(Debug, Clone, Copy)]
pub struct Moving {
    /// Endpoints.
    pub workers: usize,
    /// The longest time between two changes.
    pub rest_max: Duration,
    /// The longest time that each of the two waits of a change takes: until connections are taken out, and until they are put in.
    pub step_max: Duration,
    /// The share of the slots that get a new owner in a change, between 0 and 1.
    pub share: f64,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Datagrams for slots that leave are kept from now on.
    Hold,
    /// Connections in these slots are taken out.
    Give,
    /// They are put in where they belong from now on, and what was kept is handled.
    Start,
}

/// Who owns which slot.
#[derive(Debug)]
pub(super) struct Partition {
    moving: Moving,
    rng: Rng,
    /// By slot.
    owners: Vec<usize>,
    /// The owners that a change is about to make.
    next_owners: Option<Vec<usize>>,
    step: Step,
    /// When the step is due; never as long as nothing comes.
    at: Option<Instant>,
    quiet_changes: u32,
    /// Datagrams for slots that leave, in the order of their arrival.
    pub(super) held: Vec<(DatagramMeta, Frame)>,
    /// Connections that were taken out.
    pub(super) in_transit: Vec<(Option<ConnectionKey>, Detached)>,
}

impl Partition {
    /// All slots belong to somebody, none moves yet.
    pub(super) fn new(moving: Moving, mut rng: Rng) -> Self {
        let owners = (0..PARTITION_SLOTS).map(|_| rng.below(moving.workers as u64) as usize).collect();
        let mut partition = Self {
            moving,
            rng,
            owners,
            next_owners: None,
            step: Step::Hold,
            at: None,
            quiet_changes: 0,
            held: Vec::new(),
            in_transit: Vec::new(),
        };
        partition.wait(Instant::from_nanos(0));
        partition
    }

    /// Who acts for IDs with this partition key.
    pub(super) fn owner(&self, key: u16) -> usize {
        self.owners[usize::from(cid::slot(key))]
    }

    /// Whether IDs with this partition key get another owner.
    pub(super) fn is_leaving(&self, key: u16) -> bool {
        let next = self.next_owners.as_ref().map(|next| next[usize::from(cid::slot(key))]);
        next.is_some_and(|next| next != self.owner(key))
    }

    /// The slots that stay with `worker`.
    fn lasting(&self, worker: usize) -> impl Iterator<Item = u16> + '_ {
        let slots = (0..PARTITION_SLOTS).filter(move |slot| self.owner(*slot) == worker);
        slots.filter(|slot| !self.is_leaving(*slot))
    }

    /// Any endpoint that keeps slots: one that connections may begin at.
    pub(super) fn any_worker(&mut self) -> usize {
        let keep: Vec<usize> =
            (0..self.moving.workers).filter(|worker| self.lasting(*worker).next().is_some()).collect();
        keep[self.rng.below(keep.len() as u64) as usize]
    }

    /// Tells the endpoints in which slots connections may begin.
    pub(super) fn announce(&self, endpoints: &mut [Endpoint]) {
        for (worker, endpoint) in endpoints.iter_mut().enumerate() {
            endpoint.set_slots(self.lasting(worker).collect());
        }
    }

    /// Whose a datagram is. It is kept if its slot is about to move.
    pub(super) fn route(&mut self, meta: &DatagramMeta, datagram: Frame) -> Option<(usize, Frame)> {
        let id = header::peek_dcid(&datagram, Layout::PLAIN.len.into());
        let Some(key) = id.and_then(|id| Layout::PLAIN.partition_key(id)) else {
            // Damaged. It may arrive anywhere.
            return Some((self.rng.below(self.moving.workers as u64) as usize, datagram));
        };
        if self.is_leaving(key) {
            self.held.push((*meta, datagram));
            return None;
        }
        Some((self.owner(key), datagram))
    }

    /// Something has come: changes go on, if they had stopped.
    pub(super) fn note_traffic(&mut self, now: Instant) {
        self.quiet_changes = 0;
        if self.at.is_none() {
            self.wait(now);
        }
    }

    pub(super) fn next_time(&self) -> Option<Instant> {
        self.at
    }

    /// The step that is due. It counts as done.
    pub(super) fn next_step(&mut self, now: Instant) -> Option<Step> {
        self.at.filter(|at| *at <= now)?;
        let step = self.step;
        self.step = match step {
            Step::Hold => {
                self.next_owners = Some(self.draw());
                Step::Give
            }
            Step::Give => Step::Start,
            Step::Start => {
                self.owners = self.next_owners.take().expect("a change begins with its owners");
                self.quiet_changes += 1;
                Step::Hold
            }
        };
        self.at = None;
        if self.step != Step::Hold || self.quiet_changes < QUIET_CHANGES_MAX {
            self.wait(now);
        }
        Some(step)
    }

    /// New owners: one worker, several, or all of them.
    fn draw(&mut self) -> Vec<usize> {
        let Self { moving, rng, owners, .. } = self;
        let active = rng.range(1, moving.workers as u64);
        let owner = |old: &usize| if rng.chance(moving.share) { rng.below(active) as usize } else { *old };
        owners.iter().map(owner).collect()
    }

    /// Draws when the next step comes. Now and then the two waits of a change take no time.
    fn wait(&mut self, now: Instant) {
        let Moving { rest_max, step_max, .. } = self.moving;
        let longest = if self.step == Step::Hold { rest_max } else { step_max };
        let drawn = Duration::from_nanos(self.rng.below(longest.as_nanos() as u64));
        self.at = Some(match self.step {
            Step::Hold => now + drawn.max(REST_MIN),
            Step::Give | Step::Start if self.rng.chance(0.3) => now,
            Step::Give | Step::Start => now + drawn,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOVING: Moving =
        Moving { workers: 3, rest_max: Duration::from_millis(10), step_max: Duration::from_millis(1), share: 0.5 };

    /// A datagram with a short header and an ID in this slot.
    fn datagram(slot: u16) -> Frame {
        let mut bytes = vec![0x40; 30];
        bytes[7..9].copy_from_slice(&slot.to_be_bytes());
        Frame::from_vec(bytes)
    }

    fn step(partition: &mut Partition) -> Step {
        let at = partition.next_time().expect("changes go on");
        assert_eq!(partition.next_step(Instant::from_nanos(at.as_nanos() - 1)), None);
        partition.next_step(at).expect("it is due")
    }

    #[test]
    fn slots_that_leave_have_no_owner_until_they_start() {
        let mut partition = Partition::new(MOVING, Rng::new(1));
        let meta = DatagramMeta { remote: crate::address::client(0), local: None, ecn: None };
        let mut changed = 0;
        for _ in 0..5 {
            let before = partition.owners.clone();
            assert_eq!(step(&mut partition), Step::Hold);
            let leaving: Vec<u16> = (0..PARTITION_SLOTS).filter(|slot| partition.is_leaving(*slot)).collect();
            for slot in 0..PARTITION_SLOTS {
                let owner = partition.route(&meta, datagram(slot)).map(|(owner, _)| owner);
                let expected = (!leaving.contains(&slot)).then(|| before[usize::from(slot)]);
                assert_eq!(owner, expected);
            }
            assert_eq!(std::mem::take(&mut partition.held).len(), leaving.len());
            assert_eq!((step(&mut partition), step(&mut partition)), (Step::Give, Step::Start));
            let moved = |slot: &&u16| partition.owner(**slot) != before[usize::from(**slot)];
            assert_eq!(leaving.iter().filter(moved).count(), leaving.len());
            changed += leaving.len();
        }
        assert!(changed > usize::from(PARTITION_SLOTS), "{changed} slots moved in five changes");
    }

    #[test]
    fn changes_stop_when_nothing_comes() {
        let mut partition = Partition::new(MOVING, Rng::new(2));
        for _ in 0..QUIET_CHANGES_MAX * 3 {
            step(&mut partition);
        }
        assert_eq!(partition.next_time(), None);
        partition.note_traffic(Instant::from_nanos(5));
        assert_eq!(step(&mut partition), Step::Hold);
    }
}
