//! One worker's part in changes.

use super::{Plan, Point, Stage, Table};
use crate::Progress;
use crate::epoch::{EpochCell, EpochReader};
use crate::sync::Arc;

/// What to do with something that came for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Act: the slot is this worker's.
    Own,
    /// Keep it, in order, until [`Duty::Start`].
    Hold,
    /// Pass it on to this worker.
    To(u16),
}

/// The step that is due. It stays due until [`Member::done`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Nothing.
    None,
    /// Handle or pass on everything that has arrived from outside so far (the socket), as [`Member::route`] says.
    Drain,
    /// Handle or pass on everything that is in the rings from other workers; then hand what belongs to slots that
    /// [leave](Member::leaving) to their new owners, by ring or in a queue before it.
    Give,
    /// Everything that was handed over is to get into the rings.
    Flush,
    /// Take everything out of the rings; then handle what was held.
    Start,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Steady,
    Prepared,
    Draining,
    Stopped,
    Giving,
    Flushing,
    Given,
    Starting,
}

/// Follows the changes that a coordinator publishes, for one worker.
#[derive(Debug)]
pub struct Member {
    me: u16,
    plans: EpochReader<Plan>,
    progress: Arc<Progress>,
    phase: Phase,
}

impl Member {
    /// The member of worker `me`, which takes part from the next change on.
    pub fn new(me: u16, plans: &EpochCell<Plan>, progress: Arc<Progress>) -> Member {
        Member { me, plans: EpochReader::new(plans), progress, phase: Phase::Steady }
    }

    fn plan(&self) -> &Plan {
        self.plans.table()
    }

    /// Looks for news and says what is due. One load if nothing is. To be called once per turn, when everything taken
    /// from the socket and the rings in earlier turns has been handled.
    #[inline]
    pub fn poll(&mut self) -> Duty {
        let news = self.plans.refresh();
        if !news && self.phase == Phase::Steady {
            return Duty::None;
        }
        self.advance(news)
    }

    #[cold]
    fn advance(&mut self, news: bool) -> Duty {
        if news {
            self.phase = match self.plan().stage {
                Stage::Prepare => Phase::Prepared,
                Stage::Commit if self.plan().old_workers.contains(&self.me) => Phase::Draining,
                // Nothing of old times is here.
                Stage::Commit => Phase::Given,
            };
        }
        if self.phase == Phase::Stopped && self.all_givers_reached(Point::Stopped) {
            self.phase = Phase::Giving;
        }
        if self.phase == Phase::Given && self.all_givers_reached(Point::Given) {
            self.phase = Phase::Starting;
        }
        match self.phase {
            Phase::Draining => Duty::Drain,
            Phase::Giving => Duty::Give,
            Phase::Flushing => Duty::Flush,
            Phase::Starting => Duty::Start,
            Phase::Steady | Phase::Prepared | Phase::Stopped | Phase::Given => Duty::None,
        }
    }

    fn all_givers_reached(&self, point: Point) -> bool {
        self.progress.all_reached(self.plan().givers(), self.plan().point(point))
    }

    /// The worker is ready for the change that [`poll`](Self::poll) found announced: the rings to all members are in
    /// place. Returns whether this is news to others.
    pub fn prepared(&mut self) -> bool {
        let point = self.plan().point(Point::Prepared);
        let news = self.phase == Phase::Prepared && self.progress.of(self.me.into()) < point;
        if news {
            self.progress.raise(self.me.into(), point);
        }
        news
    }

    /// The step that was due is done; all that was to be pushed (by any but [`Duty::Give`]) is in the rings.
    pub fn done(&mut self) {
        let (phase, point) = match self.phase {
            Phase::Draining => (Phase::Stopped, Point::Stopped),
            Phase::Giving => {
                self.phase = Phase::Flushing;
                return;
            }
            Phase::Flushing => (Phase::Given, Point::Given),
            Phase::Starting => (Phase::Steady, Point::Settled),
            Phase::Steady | Phase::Prepared | Phase::Stopped | Phase::Given => return,
        };
        self.phase = phase;
        self.progress.raise(self.me.into(), self.plan().point(point));
    }

    /// What to do with something that came for `slot`.
    #[inline]
    pub fn route(&self, slot: u16) -> Route {
        if self.phase == Phase::Steady {
            return match self.plan().new.owner(slot) {
                owner if owner == self.me => Route::Own,
                owner => Route::To(owner),
            };
        }
        self.route_in_change(slot)
    }

    #[cold]
    fn route_in_change(&self, slot: u16) -> Route {
        let (old, new) = (self.plan().old.owner(slot), self.plan().new.owner(slot));
        let gave = matches!(self.phase, Phase::Flushing | Phase::Given | Phase::Starting);
        if old == self.me && (new == self.me || !gave) {
            return Route::Own;
        }
        if new == self.me {
            return Route::Hold;
        }
        let by_old_table = matches!(self.phase, Phase::Prepared | Phase::Draining);
        Route::To(if by_old_table { old } else { new })
    }

    /// The slots that move from this worker to others in the change under way, with their new owners.
    pub fn leaving(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        let Plan { old, new, .. } = self.plan();
        old.slots_of(self.me).map(|slot| (slot, new.owner(slot))).filter(|(_, owner)| *owner != self.me)
    }

    /// The slots that the worker acts for now and will go on to act for.
    pub fn lasting(&self) -> Vec<u16> {
        let Plan { old, new, .. } = self.plan();
        let keeps = |slot: &u16| self.phase == Phase::Steady || old.owner(*slot) == self.me;
        new.slots_of(self.me).filter(keeps).collect()
    }

    /// The table that holds, or will once the change under way is over.
    pub fn table(&self) -> &Table {
        &self.plan().new
    }

    /// Whether no change is under way as far as this worker knows.
    pub fn is_steady(&self) -> bool {
        self.phase == Phase::Steady
    }

    /// Whether the worker is to go on; one that is not finishes what it has.
    pub fn is_active(&self) -> bool {
        self.plan().active.contains(&self.me)
    }

    /// How many workers are to go on.
    pub fn active(&self) -> usize {
        self.plan().active.len()
    }

    /// All other workers that take part in the change under way or took part in the last one.
    pub fn others(&self) -> impl Iterator<Item = usize> + '_ {
        self.plan().members().filter(|&member| member != usize::from(self.me))
    }
}
