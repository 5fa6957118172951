//! A windowed maximum in constant space, after Kathleen Nichols.

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    time: u64,
    value: u64,
}

/// The largest value of the last so many units of time, kept as the best, second and third best of ever later parts of
/// the window. Time never goes back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MaxFilter {
    best: [Entry; 3],
}

impl MaxFilter {
    /// Takes `value` at `time` and returns the maximum of the window of `len` units that ends there.
    #[inline]
    pub(super) fn update(&mut self, len: u64, time: u64, value: u64) -> u64 {
        let new = Entry { time, value };
        let age = |entry: &Entry| time.saturating_sub(entry.time);
        if value >= self.best[0].value || age(&self.best[2]) > len {
            self.best = [new; 3];
            return value;
        }
        if value >= self.best[1].value {
            self.best[1] = new;
            self.best[2] = new;
        } else if value >= self.best[2].value {
            self.best[2] = new;
        }
        if age(&self.best[0]) > len {
            // The best is too old: the others move up, and once more if the second is too old as well.
            self.best = [self.best[1], self.best[2], new];
            if age(&self.best[0]) > len {
                self.best = [self.best[1], self.best[2], new];
            }
        } else if self.best[1].time == self.best[0].time && age(&self.best[1]) > len / 4 {
            // A quarter of the window went by without a second best: take one from the second quarter.
            self.best[1] = new;
            self.best[2] = new;
        } else if self.best[2].time == self.best[1].time && age(&self.best[2]) > len / 2 {
            self.best[2] = new;
        }
        self.best[0].value
    }

    /// The maximum as of the last update.
    #[inline]
    pub(super) fn max(&self) -> u64 {
        self.best[0].value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_what_left_the_window() {
        let mut filter = MaxFilter::default();
        assert_eq!(filter.update(10, 0, 100), 100);
        for time in 1..=10 {
            assert_eq!(filter.update(10, time, 50 + time), 100);
        }
        assert_eq!(filter.update(10, 11, 40), 60);
        assert_eq!(filter.update(10, 12, 200), 200);
        assert_eq!(filter.update(10, 90, 1), 1);
        assert_eq!(filter.max(), 1);
    }
}
