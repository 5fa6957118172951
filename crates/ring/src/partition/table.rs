//! Which worker owns which slot.

/// Names an owner for each slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table(Box<[u16]>);

impl Table {
    /// Slot `i` belongs to worker `i mod workers`: the arithmetic of groups whose size never changes.
    ///
    /// # Panics
    /// If there are no workers.
    pub fn modulo(slots: u16, workers: u16) -> Table {
        assert!(workers > 0, "a table has owners");
        Table((0..slots).map(|slot| slot % workers).collect())
    }

    /// Every worker owns one run of slots, all of about the same length.
    ///
    /// # Panics
    /// If there are no workers.
    pub fn runs(slots: u16, workers: &[u16]) -> Table {
        assert!(!workers.is_empty(), "a table has owners");
        let place = |slot: u16| usize::from(slot) * workers.len() / usize::from(slots);
        Table((0..slots).map(|slot| workers[place(slot)]).collect())
    }

    /// The owner of a slot.
    ///
    /// # Panics
    /// If there is no such slot.
    #[inline]
    pub fn owner(&self, slot: u16) -> u16 {
        self.0[usize::from(slot)]
    }

    /// All owners, by slot.
    pub fn owners(&self) -> &[u16] {
        &self.0
    }

    /// The slots of one worker.
    pub fn slots_of(&self, worker: u16) -> impl Iterator<Item = u16> + '_ {
        (0..).zip(self.0.iter()).filter(move |(_, owner)| **owner == worker).map(|(slot, _)| slot)
    }

    /// How many slots have another owner in `other`.
    pub fn distance(&self, other: &Table) -> usize {
        self.0.iter().zip(&other.0).filter(|(a, b)| a != b).count()
    }

    /// The same slots spread evenly over `workers`: the shares differ by one slot at most, and no slot moves that need
    /// not. Those that move are the last ones of their owners.
    ///
    /// # Panics
    /// If there are no workers.
    pub fn spread(&self, workers: &[u16]) -> Table {
        assert!(!workers.is_empty(), "a table has owners");
        let (base, mut larger) = (self.0.len() / workers.len(), self.0.len() % workers.len());
        let mut shares: Vec<(u16, usize, usize)> =
            workers.iter().map(|&worker| (worker, self.slots_of(worker).count(), base)).collect();
        // Who has most already keeps the odd slots.
        shares.sort_by_key(|&(worker, has, _)| (std::cmp::Reverse(has), worker));
        for (_, _, share) in &mut shares {
            if larger == 0 {
                break;
            }
            *share += 1;
            larger -= 1;
        }
        let mut owners = self.0.clone();
        let mut spare = Vec::new();
        for (slot, owner) in owners.iter_mut().enumerate().rev() {
            match shares.iter_mut().find(|(worker, ..)| worker == owner) {
                Some((_, has, share)) if *has <= *share => {}
                Some((_, has, _)) => {
                    *has -= 1;
                    spare.push(slot);
                }
                None => spare.push(slot),
            }
        }
        spare.reverse();
        let takers = shares.iter().flat_map(|&(worker, has, share)| std::iter::repeat_n(worker, share - has));
        for (slot, worker) in spare.into_iter().zip(takers) {
            owners[slot] = worker;
        }
        Table(owners)
    }

    /// A table on the way to `goal` that differs from this one in at most `slots` slots.
    pub fn step_towards(&self, goal: &Table, slots: usize) -> Table {
        let mut left = slots;
        let step = self.0.iter().zip(&goal.0).map(|(&have, &want)| {
            if have == want || left == 0 {
                return have;
            }
            left -= 1;
            want
        });
        Table(step.collect())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn shares(table: &Table, workers: &[u16]) -> Vec<usize> {
        workers.iter().map(|&worker| table.slots_of(worker).count()).collect()
    }

    #[test]
    fn spreading_is_even_and_moves_as_little_as_possible() {
        let sequence: [&[u16]; 7] = [&[0], &[0, 1, 2], &[0, 1], &[0, 1, 2, 3, 4], &[0, 2, 4], &[0], &[3, 7]];
        let mut table = Table::runs(1021, &[0]);
        for workers in sequence {
            let next = table.spread(workers);
            let after = shares(&next, workers);
            assert_eq!(after.iter().sum::<usize>(), 1021, "every slot belongs to one of {workers:?}");
            assert!(after.iter().max().zip(after.iter().min()).is_some_and(|(max, min)| max - min <= 1), "{after:?}");
            let mut before = shares(&table, workers);
            before.sort_unstable_by(|a, b| b.cmp(a));
            let mut sorted = after.clone();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            let least: usize = sorted.iter().zip(&before).map(|(to, from)| to.saturating_sub(*from)).sum();
            assert_eq!(table.distance(&next), least, "{workers:?}");
            table = next;
        }
    }

    #[test]
    fn steps_lead_to_the_goal() {
        let (mut table, goal) = (Table::runs(1021, &[0]), Table::modulo(1021, 5));
        let mut steps = 0;
        while table != goal {
            let next = table.step_towards(&goal, 100);
            assert!((1..=100).contains(&table.distance(&next)));
            assert!(next.distance(&goal) < table.distance(&goal));
            table = next;
            steps += 1;
        }
        assert_eq!(steps, 9, "816 slots in hundreds");
    }

    #[test]
    fn runs_and_remainders_are_even() {
        assert_eq!(shares(&Table::runs(1021, &[4, 5, 6]), &[4, 5, 6]), [341, 340, 340]);
        assert_eq!(shares(&Table::modulo(1021, 3), &[0, 1, 2]), [341, 340, 340]);
        assert!(Table::runs(1021, &[9]).owners().iter().all(|owner| *owner == 9));
    }
}
