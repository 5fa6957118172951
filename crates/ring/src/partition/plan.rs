//! What the coordinator publishes, and the points that workers pass on the way.

use super::Table;

/// One change from a table to another, in one of its stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Counts changes, from 0: the table at the start, which needs no steps.
    pub change: u64,
    /// How far the coordinator is.
    pub stage: Stage,
    /// Who owned what before.
    pub old: Table,
    /// Who owns what afterwards.
    pub new: Table,
    /// The workers that existed before, which may hold packets or connections of any slot: those of the old table, and
    /// those without slots that still finish their work.
    pub old_workers: Vec<u16>,
    /// The workers that are to go on; the others finish what they have.
    pub active: Vec<u16>,
}

/// The two publications of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The change is announced: nothing moves, but new owners hold what reaches them early.
    Prepare,
    /// The kernel steers by the new table; slots move.
    Commit,
}

impl Plan {
    /// The table at the start.
    pub fn first(table: Table, workers: Vec<u16>) -> Plan {
        Plan {
            change: 0,
            stage: Stage::Commit,
            old: table.clone(),
            new: table,
            old_workers: workers.clone(),
            active: workers,
        }
    }

    /// The announcement of the next change. `workers` are all that exist.
    #[must_use]
    pub fn next(&self, table: Table, workers: Vec<u16>, active: Vec<u16>) -> Plan {
        Plan {
            change: self.change + 1,
            stage: Stage::Prepare,
            old: self.new.clone(),
            new: table,
            old_workers: workers,
            active,
        }
    }

    /// The second stage.
    #[must_use]
    pub fn committed(&self) -> Plan {
        Plan { stage: Stage::Commit, ..self.clone() }
    }

    /// All whose steps the change needs: the old workers and the new ones.
    pub fn members(&self) -> impl Iterator<Item = usize> + '_ {
        let new = self.active.iter().filter(|worker| !self.old_workers.contains(worker));
        self.old_workers.iter().chain(new).map(|&worker| usize::from(worker))
    }

    /// The old workers.
    pub fn givers(&self) -> impl Iterator<Item = usize> + '_ {
        self.old_workers.iter().map(|&worker| usize::from(worker))
    }

    /// A point of this change as a number for [`Progress`](crate::Progress).
    pub fn point(&self, point: Point) -> u64 {
        self.change * Point::COUNT + point as u64
    }
}

/// What a worker says of itself during a change, in this order. Each is a bit of the ready word that only it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// Knows the change: holds what comes for slots that it will own.
    Prepared = 1,
    /// Has handled everything that it had received when it saw the second stage, and passes nothing on by the old
    /// table any more. (Old workers.)
    Stopped = 2,
    /// Has handed over what moves away from it. (Old workers.)
    Given = 3,
    /// Acts for all its slots by the new table.
    Settled = 4,
}

impl Point {
    const COUNT: u64 = 4;
}
