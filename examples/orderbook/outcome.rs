//! What a run showed, and whether that is what it should.

use crate::exchange::Control;
use crate::keeper::Seen;
use crate::subscriber::Report;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Everything about a run.
pub struct Outcome {
    pub feeds: u16,
    pub seconds: u64,
    /// The core that the keeper had to itself, as far as that is its own doing.
    pub core: Option<usize>,
    /// Updates that were to be made.
    pub asked: u64,
    pub control: Arc<Control>,
    pub seen: Seen,
    pub reports: Vec<Report>,
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Outcome {
    /// Whether every book was right all the time, everywhere and to its end.
    pub fn is_good(&self) -> bool {
        let Outcome { feeds, control, seen, reports, .. } = self;
        let cut = count(&control.hung_up) + count(&control.slow);
        // Nothing but what the exchange did on purpose went wrong, and each time the book was fetched again.
        let kept = seen.wrong == 0
            && seen.updates > 0
            && seen.gaps <= count(&control.lost)
            && seen.hang_ups <= cut
            && seen.snapshots == u64::from(*feeds) + seen.gaps + seen.hang_ups;
        // Datagrams may get lost, but not most of them.
        let ticks = seen.ticks / reports.len().max(1) as u64;
        let ticked = |report: &Report| {
            report.ticks_wrong == 0 && report.ticked == usize::from(*feeds) && report.ticks >= ticks / 2
        };
        let followed = |report: &Report| {
            report.missing == 0
                && report.wrong == 0
                && report.complete == usize::from(*feeds)
                && report.updates == seen.updates
        };
        kept && seen.ticks_refused == 0
            && !reports.is_empty()
            && reports.iter().all(|report| followed(report) && ticked(report))
    }

    /// Whether the exchange made what it was asked for, but for a tenth.
    pub fn kept_up(&self) -> bool {
        count(&self.control.made) >= self.asked / 10 * 9
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { feeds, seconds, core, asked, control, seen, reports } = self;
        let made = count(&control.made);
        writeln!(
            f,
            "exchange: {feeds} feeds, {made} of {asked} updates made ({:.0} a second), {} lost and {} hang-ups on purpose, \
             {} slow readers",
            made as f64 / (*seconds).max(1) as f64,
            count(&control.lost),
            count(&control.hung_up),
            count(&control.slow)
        )?;
        let Seen { updates, snapshots, gaps, hang_ups, wrong, ticks, ticks_dropped, ticks_refused } = seen;
        match core {
            Some(core) => writeln!(f, "keeper: one thread, pinned to core {core}")?,
            None => writeln!(f, "keeper: one thread, not pinned: the system does not say what cores there are")?,
        }
        writeln!(
            f,
            "keeper: {updates} updates, {snapshots} snapshots: {feeds} at first, {gaps} after gaps, {hang_ups} after hang-ups; \
             {wrong} wrong; {ticks} ticks, {ticks_dropped} for which there was no room, {ticks_refused} refused"
        )?;
        for (index, report) in reports.iter().enumerate() {
            let Report { updates: received, ticks, ticks_wrong, ticked, missing, wrong, complete, latencies } = report;
            writeln!(
                f,
                "subscriber {index}: {received} updates, {missing} missing, {wrong} wrong, {complete} of {feeds} books equal the exchange's; \
                 {ticks} ticks of {ticked} feeds as the stream says, {ticks_wrong} not"
            )?;
            writeln!(
                f,
                "  from socket to subscriber in µs: p50 {:.0}, p99 {:.0}, p99.9 {:.0}, longest {:.0}",
                latencies.quantile(0.5),
                latencies.quantile(0.99),
                latencies.quantile(0.999),
                latencies.max()
            )?;
        }
        if !self.kept_up() {
            writeln!(f, "the exchange made less than nine tenths of what it was asked for")?;
        }
        f.write_str(if self.is_good() { "all books are right" } else { "a book is wrong or lost, or a tick" })
    }
}
